"""Weights of diffusers come in and go out: outputs of its own classes, and tensors that are equal bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from command import run
from narrow import present
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import convae
from convae.core.errors import ArtifactError, ConfigError
from convae.core.random import torch_generator
from convae.interop import export_model, import_model
from convae.model.vae import VAE
from convae.training import train

WEIGHTS = "diffusion_pytorch_model.safetensors"
PLAIN, ATTENTION = ["DownEncoderBlock2D"] * 2, ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]
SIDES: dict[str, Any] = {
    "block_out_channels": [4, 8],
    "down_block_types": PLAIN,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "norm_num_groups": 2,
    "sample_size": 16,
}
TINY: dict[str, Any] = {"encoder_block_out_channels": [4, 4], "decoder_block_out_channels": [6, 6]}
MIXED = ["ResBlock", "ResBlock", "EfficientViTBlock"]
DEEP: dict[str, Any] = {
    "latent_channels": 4,
    "attention_head_dim": 4,
    "encoder_block_types": MIXED,
    "decoder_block_types": MIXED,
    "encoder_block_out_channels": [8, 8, 16],
    "decoder_block_out_channels": [8, 8, 16],
    "encoder_qkv_multiscales": [[], [], [5]],
    "decoder_qkv_multiscales": [[], [], [5]],
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sd": ("AutoencoderKL", {**SIDES, "layers_per_block": 2, "force_upcast": False}),
    "flux-1": (
        "AutoencoderKL",
        {
            **SIDES,
            "latent_channels": 16,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
            "scaling_factor": 0.3611,
            "shift_factor": 0.1159,
        },
    ),
    "playground": (
        "AutoencoderKL",
        {
            **SIDES,
            "mid_block_add_attention": False,
            "latents_mean": [-1.6574, 1.886, -1.383, 2.5155],
            "latents_std": [8.4927, 5.9022, 6.5498, 5.2299],
            "scaling_factor": 0.5,
        },
    ),
    "attention": (
        "AutoencoderKL",
        {**SIDES, "down_block_types": ATTENTION, "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"]},
    ),
    "flux-2": (
        "AutoencoderKLFlux2",
        {**SIDES, "latent_channels": 3, "layers_per_block": 1, "decoder_block_out_channels": [2, 4]},
    ),
    "vqgan": (
        "VQModel",
        {
            **SIDES,
            "down_block_types": ATTENTION,
            "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
            "latent_channels": 4,
            "vq_embed_dim": 3,
            "num_vq_embeddings": 8,
        },
    ),
    "movq": (
        "VQModel",
        {
            **SIDES,
            "block_out_channels": [32, 32],
            "up_block_types": ["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
            "latent_channels": 4,
            "vq_embed_dim": 4,
            "norm_type": "spatial",
        },
    ),
    "amused": ("VQModel", {**SIDES, "mid_block_add_attention": False, "lookup_from_codebook": True}),
    "taesd": ("AutoencoderTiny", {**TINY, "num_encoder_blocks": [1, 2], "num_decoder_blocks": [2, 1]}),
    "tiny-bilinear": (
        "AutoencoderTiny",
        {
            **TINY,
            "num_encoder_blocks": [1, 1],
            "num_decoder_blocks": [1, 0],
            "act_fn": "gelu",
            "upsample_fn": "bilinear",
            "scaling_factor": 2.0,
            "shift_factor": 0.25,
            "latent_magnitude": 2,
        },
    ),
    "dc-ae-f32": (
        "AutoencoderDC",
        {
            **DEEP,
            "encoder_layers_per_block": [1, 1, 1],
            "decoder_layers_per_block": [1, 1, 2],
            "scaling_factor": 0.41407,
        },
    ),
    "dc-ae-f64": (
        "AutoencoderDC",
        {
            **DEEP,
            "encoder_layers_per_block": [0, 1, 1],
            "decoder_layers_per_block": [0, 1, 1],
            "decoder_norm_types": ["batch_norm", "batch_norm", "rms_norm"],
            "decoder_act_fns": ["relu", "relu", "silu"],
        },
    ),
    "dc-ae-sana": (
        "AutoencoderDC",
        {
            **DEEP,
            "encoder_layers_per_block": [1, 1, 1],
            "decoder_layers_per_block": [0, 1, 1],
            "downsample_block_type": "conv",
            "upsample_block_type": "interpolate",
            "encoder_out_shortcut": False,
            "decoder_in_shortcut": False,
            "decoder_conv_act_fn": "silu",
        },
    ),
}


def original(name: str, folder: Path) -> nn.Module:
    """A model of diffusers with random weights, saved in a folder."""
    kind, config = CASES[name]
    model: nn.Module = getattr(diffusers, kind)(**config).eval()
    draw = torch_generator(0, "weights", name)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=draw)
            if parameter.ndim == 1:
                parameter.copy_(0.1 * drawn + key.endswith("weight"))
            else:
                parameter.copy_(0.5 * drawn / parameter[0].numel() ** 0.5)
        for key, buffer in model.named_buffers():
            if key.endswith(("mean", "var")):
                buffer.copy_(torch.rand(buffer.shape, generator=draw) + 0.1)
    model.save_pretrained(folder)  # type: ignore[operator]  # a method of diffusers
    return model


def loaded(name: str, folder: Path) -> nn.Module:
    model: nn.Module = getattr(diffusers, CASES[name][0]).from_pretrained(folder, low_cpu_mem_usage=False)
    return model.eval()


def encoded(model: Any, images: Tensor) -> Tensor:
    """What diffusers encodes images in [0, 1] to."""
    found = model.encode(2 * images - 1)
    if hasattr(found, "latent_dist"):
        return torch.cat([found.latent_dist.mean, found.latent_dist.logvar], 1)
    return getattr(found, "latents", getattr(found, "latent", torch.empty(0)))


def ours(model: VAE, images: Tensor) -> Tensor:
    if model.latent_modules[0].is_discrete:
        return model.encode_features(images).values
    posterior = model.encode(images)
    return torch.cat([posterior.mean, posterior.logvar], 1) if posterior.has_density else posterior.mean


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_weights_are_those_of_diffusers(name: str, tmp_path: Path) -> None:
    theirs: Any = original(name, tmp_path / "theirs")
    model = import_model(tmp_path / "theirs", size=(16, 24))
    model = convae.load(convae.save(model, tmp_path / "artifact"))
    images = torch.rand(2, 3, 16, 24, generator=torch_generator(0, "images"))
    with torch.no_grad():
        wanted = encoded(theirs, images)
        assert wanted.abs().max() > 0.1
        torch.testing.assert_close(ours(model, images), wanted, rtol=0, atol=1e-5)
        z = torch.randn(2, *model.latent_shape, generator=torch_generator(0, "z"))
        decoded = model.decode(model.nearest_latents(z)).location  # type: ignore[attr-defined]  # of a Gaussian
        torch.testing.assert_close(2 * decoded - 1, theirs.decode(z).sample, rtol=0, atol=1e-5)
    list(export_model(model, tmp_path / "out", "diffusers"))
    again: Any = loaded(name, tmp_path / "out")
    before, after = theirs.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert [key for key in before if not torch.equal(before[key], after[key])] == []
    for key, value in CASES[name][1].items():
        stages = (
            slice(1, None) if 0 in CASES[name][1].get(key.partition("_")[0] + "_layers_per_block", ()) else slice(None)
        )
        if key != "sample_size":  # that of the imported model
            found = again.config[key]
            assert (list(found)[stages] == value[stages]) if isinstance(value, list) else (found == value), key
    with torch.no_grad():
        assert torch.equal(again.decode(z).sample, theirs.decode(z).sample)


@pytest.mark.parametrize("name", ["flux-2", "movq", "tiny-bilinear", "dc-ae-sana"])
def test_imported_models_in_slices_equal_the_whole_image(name: str, tmp_path: Path) -> None:
    original(name, tmp_path)
    model = import_model(tmp_path, size=(64, 16))
    images = torch.rand(1, 3, 64, 16, generator=torch_generator(0, "images"))
    z = torch.randn(1, *model.latent_shape, generator=torch_generator(0, "z"))

    def results() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return ours(model, images), model.decode(model.nearest_latents(z)).mean

    whole = results()
    model.use_slices(12)
    for found, wanted in zip(results(), whole, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    # The latent itself, which spatial norms take at every size.
    assert model.layers_computed_whole() == (["model.decoder[0] (feature)"] if name == "movq" else [])


OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def test_earlier_names_of_attention_and_half_precision_are_read(tmp_path: Path) -> None:
    theirs: Any = original("sd", tmp_path)
    state = {}
    for name, tensor in theirs.state_dict().items():
        for new, old in OLD_NAMES.items():
            name = name.replace(f".{new}.", f".{old}.") if ".attentions." in name else name
        state[name] = tensor.half()
    assert any(".proj_attn." in name for name in state)
    save_file(state, tmp_path / WEIGHTS)
    model = import_model(tmp_path)
    assert "float16" in " ".join(model.provenance.imported.notes)  # type: ignore[union-attr]  # it is imported
    theirs.load_state_dict({key: value.half().float() for key, value in theirs.state_dict().items()})
    images = torch.rand(1, 3, 16, 16, generator=torch_generator(0, "images"))
    with torch.no_grad():
        torch.testing.assert_close(ours(model, images), encoded(theirs, images), rtol=0, atol=1e-5)


def in_latent_diffusion(name: str) -> str:
    """A name of diffusers in single files of latent diffusion, of a network with two stages."""
    for old, new in {
        "encoder.down_blocks.": "encoder.down.",
        "decoder.up_blocks.0": "decoder.up.1",
        "decoder.up_blocks.1": "decoder.up.0",
        ".resnets.": ".block.",
        ".downsamplers.0.": ".downsample.",
        ".upsamplers.0.": ".upsample.",
        "mid_block.block.0": "mid.block_1",
        "mid_block.block.1": "mid.block_2",
        "mid_block.attentions.0": "mid.attn_1",
        ".group_norm.": ".norm.",
        ".to_q.": ".q.",
        ".to_k.": ".k.",
        ".to_v.": ".v.",
        ".to_out.0.": ".proj_out.",
        "conv_norm_out": "norm_out",
        "conv_shortcut": "nin_shortcut",
    }.items():
        name = name.replace(old, new)
    return f"first_stage_model.{name}"


@pytest.mark.parametrize("kind", ["AutoencoderKL", "VQModel"])
def test_a_single_file_of_latent_diffusion_states_its_network_by_shapes(kind: str, tmp_path: Path) -> None:
    config = {**SIDES, "block_out_channels": [32, 64], "norm_num_groups": 32}
    theirs: Any = getattr(diffusers, kind)(**config).eval()
    state = {"model.diffusion_model.out.weight": torch.zeros(1)}
    for name, tensor in theirs.state_dict().items():
        is_linear = tensor.ndim == 2 and "attentions" in name
        state[in_latent_diffusion(name)] = tensor[..., None, None].contiguous() if is_linear else tensor
    save_file(state, tmp_path / "vae.safetensors")
    model = import_model(tmp_path / "vae.safetensors", size=(16, 16))
    images = torch.rand(1, 3, 16, 16, generator=torch_generator(0, "images"))
    with torch.no_grad():
        torch.testing.assert_close(ours(model, images), encoded(theirs, images), rtol=0, atol=1e-5)
    assert model.provenance.latent_scale is None


def rewrite(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown class": ({"_class_name": "AutoencoderXL"}, "AutoencoderXL"),
    "no class": ({"_class_name": None}, "AutoencoderKL"),
    "an unknown key": ({"latent_chanels": 4}, "latent_channels"),
    "a wrong type": ({"block_out_channels": "many"}, "block_out_channels"),
    "too many blocks": ({"layers_per_block": 10**9}, "layers_per_block"),
    "too many stages": ({"block_out_channels": [4] * 99}, "block_out_channels"),
    "too wide": ({"block_out_channels": [4, 2**30]}, "block_out_channels|parameters|too large"),
    "groups that do not fit": ({"norm_num_groups": 3}, "groups"),
    "an odd size": ({"sample_size": 17}, "size"),
    "other widths": ({"block_out_channels": [8, 8]}, "expected shape|unknown tensor"),
    "another kind of block": ({"down_block_types": ["CrossAttnDownBlock2D"] * 2}, "down_block_types"),
    "an unknown norm": ({"_class_name": "VQModel", "norm_type": "layer"}, "norm_type"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_configuration_is_refused(fault: str, tmp_path: Path) -> None:
    changes, part = HOSTILE[fault]
    original("sd", tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises((ArtifactError, ConfigError), match=part) as caught:
        import_model(tmp_path)
    assert "Traceback" not in str(caught.value)


def shards(folder: Path) -> Path:
    """Divides the weights in a folder into several files; returns their index."""
    theirs: Any = original("flux-1", folder)
    (folder / WEIGHTS).unlink()
    theirs.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*-of-*.safetensors"))) > 1
    return folder / f"{WEIGHTS}.index.json"


@pytest.mark.parametrize("named", ["folder", "index"])
def test_weights_in_several_files_are_those_of_one(named: str, tmp_path: Path) -> None:
    original("flux-1", tmp_path / "one")
    index = shards(tmp_path / "several")
    one = import_model(tmp_path / "one")
    several = import_model(index if named == "index" else index.parent)
    assert one.state_dict().keys() == several.state_dict().keys()
    assert all(torch.equal(tensor, several.state_dict()[name]) for name, tensor in one.state_dict().items())
    facts = present(several.provenance.imported)
    assert facts.file == index.name
    last = max(index.parent.glob("*-of-*.safetensors"))
    save_file({name: tensor + 1 for name, tensor in load_file(last).items()}, last)
    changed = present(import_model(index.parent).provenance.imported)
    assert changed.sha256 != facts.sha256


def test_an_index_that_does_not_match_its_files_is_refused(tmp_path: Path) -> None:
    index = shards(tmp_path)
    written = json.loads(index.read_text())
    files = written["weight_map"]
    tensor, file = max(files.items(), key=lambda each: each[1])
    other = min(files.values())
    for changed, part in [
        ({**files, tensor: other}, tensor),
        ({**files, "extra": file}, "extra"),
        ({name: each for name, each in files.items() if name != tensor}, tensor),
        ({**files, tensor: f"../{file}"}, "not the name"),
        ({**files, tensor: 1}, "not the name"),
        ({**files, tensor: "absent-00001-of-00002.safetensors"}, "absent-00001"),
        ([], "weight_map"),
    ]:
        index.write_text(json.dumps({**written, "weight_map": changed}))
        with pytest.raises(ArtifactError, match=part):
            import_model(tmp_path)
    index.write_text("{")
    with pytest.raises(ArtifactError, match="index"):
        import_model(tmp_path)


def test_hostile_weights_are_refused(tmp_path: Path) -> None:
    original("sd", tmp_path)
    state = load_file(tmp_path / WEIGHTS)
    first = "encoder.conv_in.weight"
    cases: list[tuple[dict[str, Tensor], str]] = [
        ({key: value for key, value in state.items() if key != first}, f"'{first}' is missing"),
        (state | {"extra": torch.zeros(1)}, "'extra'"),
        (state | {first: state[first][:1]}, "expected shape"),
        (state | {first: torch.full_like(state[first], torch.nan)}, "NaN"),
        (state | {first: state[first].int()}, "expected floats"),
        (state | {"encoder.mid_block.attentions.0.to_q.weight": torch.zeros(())}, "to_q"),
    ]
    for changed, part in cases:
        save_file(changed, tmp_path / WEIGHTS)
        with pytest.raises(ArtifactError, match=part):
            import_model(tmp_path)
    (tmp_path / WEIGHTS).write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(ArtifactError, match="header"):
        import_model(tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(ArtifactError, match="pickled"):
        import_model(tmp_path)


def test_a_model_with_other_layers_is_not_exported_and_the_message_says_where(tmp_path: Path) -> None:
    model = convae.build({"preset": "sd-f8", "input": [3, 16, 16], "width": 4, "multipliers": [1, 2], "blocks": 1})
    spec = model.spec.model_dump(mode="json")
    spec["decoder"].insert(1, "silu")
    with pytest.raises(ConfigError, match=r"AutoencoderKL: decoder\[1\] is silu"):
        list(export_model(convae.build(spec), tmp_path / "out", "diffusers"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="--graph"):
        list(export_model(model, tmp_path / "out", "diffusers", graphs=["encode"]))


PRESETS: list[dict[str, Any]] = [
    {"preset": "sd-f8", "width": 4, "multipliers": [1, 2], "blocks": 1},
    {"preset": "flux-1", "width": 4, "latent": 2},
    {"preset": "vqgan", "width": 4, "latent": 2, "codes": 8, "multipliers": [1, 2], "attention_stages": [False, True]},
    {"preset": "taesd", "width": 4},
    {
        **{"preset": "dc-ae", "latent": 2, "channels": [4, 4], "encoder_blocks": [1, 1], "decoder_blocks": [1, 1]},
        **{"attention": 1, "head_channels": 4},
    },
    # Layers that act in training only are left out.
    {"preset": "tokenizer-tiny-f4", "width": 4, "posterior": "deterministic", "latent_noise": 0.5, "ordered": True},
]


@pytest.mark.parametrize("spec", PRESETS, ids=lambda spec: spec["preset"])
def test_presets_are_exported(spec: dict[str, Any], tmp_path: Path) -> None:
    convae.save(convae.build({**spec, "input": [3, 16, 16]}), tmp_path / "model")
    run("export", tmp_path / "model", "--to", "diffusers", "--out", tmp_path / "out")
    run("import", tmp_path / "out", "--size", 16, "--out", tmp_path / "again")
    before, after = convae.load(tmp_path / "model"), convae.load(tmp_path / "again")
    images = torch.rand(1, 3, 16, 16, generator=torch_generator(0, "images"))
    with torch.no_grad():
        assert torch.equal(before(images).likelihood.mean, after(images).likelihood.mean)


def test_a_decoder_that_is_trained_further_is_exported(tmp_path: Path) -> None:
    theirs: Any = original("flux-1", tmp_path / "vae")
    run("import", tmp_path / "vae", "--size", 16, "--out", tmp_path / "model")
    images = torch.rand(16, 3, 16, 16, generator=torch_generator(0, "images"))
    recipe = {
        "start": str(tmp_path / "model"),
        "objective": {"absolute-error": {}},
        "training": {"batch_size": 4, "optimizer": {"lr": 1e-3}},
        "stages": [{"name": "decoder", "freeze": ["encoder"], "steps": 3}],
    }
    trained = convae.train(recipe, data=images, out=tmp_path / "run", quiet=True)
    run("export", trained.path, "--to", "diffusers", "--out", tmp_path / "out")
    again: Any = loaded("flux-1", tmp_path / "out")
    before, after = theirs.state_dict(), again.state_dict()
    equal = {key: torch.equal(before[key], after[key]) for key in before}
    assert all(same for key, same in equal.items() if key.startswith("encoder."))
    assert not all(same for key, same in equal.items() if key.startswith("decoder."))
    assert (again.config.scaling_factor, again.config.shift_factor) == (0.3611, 0.1159)
    model = convae.load(trained.path)
    with torch.no_grad():
        z = model.encode(images).mean
        drawn = (again.decode(z).sample / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(model.decode(z).mean, drawn, rtol=0, atol=1e-5)


def test_the_measured_scale_of_latents_is_exported(tmp_path: Path) -> None:
    original("sd", tmp_path / "vae")
    run("import", tmp_path / "vae", "--size", 16, "--out", tmp_path / "model")
    images = torch.rand(12, 3, 16, 16, generator=torch_generator(0, "images"))
    np.save(tmp_path / "images.npy", (images * 255).round().byte().numpy())
    options = ("--data", tmp_path / "images.npy", "--device", "cpu", "--batch-size", 5)
    run("latents", "stats", tmp_path / "model", *options)
    run("export", tmp_path / "model", "--to", "diffusers", "--out", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    model = convae.load(tmp_path / "model")
    with torch.no_grad():
        posterior = model.encode((images * 255).round() / 255)
    values = posterior.mean.double().transpose(0, 1).flatten(1)
    deviations = (values.var(1) + posterior.logvar.double().exp().mean((0, 2, 3))).sqrt()
    assert config["latents_mean"] == pytest.approx(values.mean(1).tolist(), rel=1e-4, abs=1e-5)
    assert config["latents_std"] == pytest.approx(deviations.tolist(), rel=1e-4)
    assert (config["scaling_factor"], config["shift_factor"]) == (1.0, None)
    run("latents", "stats", tmp_path / "model", *options, "--by", "all")
    scale = present(convae.load(tmp_path / "model").provenance.latent_scale)
    assert (scale.mean, scale.images) == ((), 12)
    assert 1 / scale.factor == pytest.approx(
        ((values - values.mean()).square().mean() + posterior.logvar.double().exp().mean()).sqrt().item(), rel=1e-2
    )


def test_adapters_become_weights_for_diffusers(tmp_path: Path) -> None:
    before = original("sd", tmp_path / "theirs").state_dict()
    images = torch.rand(8, 3, 16, 16, generator=torch_generator(0, "images"))
    run = train(
        {
            "start": {"model": tmp_path / "theirs", "importer": "diffusers"},
            "adapters": {"rank": 2},
            "objective": {"squared-error": {}},
            "training": {"steps": 2, "batch_size": 4, "pictures_every": 0},
        },
        data=images,
        out=tmp_path / "run",
    )
    list(export_model(run.last, tmp_path / "out", "diffusers"))
    theirs: Any = loaded("sd", tmp_path / "out")
    changed = {
        key.partition(".")[0] for key, value in theirs.state_dict().items() if not torch.equal(value, before[key])
    }
    assert {"decoder"} <= changed <= {"decoder", "post_quant_conv"}
    with torch.no_grad():
        torch.testing.assert_close(ours(run.last, images), encoded(theirs, images), rtol=0, atol=1e-5)
        z = torch.randn(2, *run.last.latent_shape, generator=torch_generator(0, "z"))
        decoded = run.last.decode(z).location  # type: ignore[attr-defined]  # of a Gaussian
        torch.testing.assert_close(2 * decoded - 1, theirs.decode(z).sample, rtol=0, atol=1e-5)
