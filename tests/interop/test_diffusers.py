"""Weights of diffusers come in and go out: outputs of its own classes, and tensors that are equal bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

import convae
from convae.core.random import torch_generator
from convae.interop import export_model, import_model
from convae.model.vae import VAE

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
