"""A student learns what a trained model computes, and leaves everything else as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training.runs import RECIPE, StopAt, content

import convae
from convae.core.errors import ConfigError, ShapeError
from convae.core.random import torch_generator
from convae.model import Network
from convae.model.artifact import read_config
from convae.model.summary import network_flops
from convae.training import distill, resume, train
from convae.training.student import SAVING, student_decoder, student_encoder

SHORT = ["training.steps=6", "training.batch_size=400", "training.log_every=2", "training.pictures_every=0"]
CODES: dict[str, Any] = {
    **RECIPE,
    "model": {
        "input": [1, 8, 8],
        "encoder": [{"conv": {"channels": 4, "stride": 2}}],
        "bottleneck": {"vq": {"codes": 8, "latent": 2}},
        "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
        "likelihood": "bernoulli",
    },
    "objective": {"reconstruction": {}, "commitment": {}},
    "training": {**RECIPE["training"], "epochs": 1, "batch_size": 400},
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(RECIPE, out=tmp_path_factory.mktemp("teacher") / "run", overrides=["training.epochs=1"]).path


def test_only_the_decoder_is_another(teacher: Path, tmp_path: Path) -> None:
    run = distill(teacher, overrides=SHORT, out=tmp_path / "run")
    old, new = convae.load(teacher), convae.load(run.path)
    for name, value in old.state_dict().items():
        if not name.startswith("decoder"):
            assert torch.equal(value, new.state_dict()[name]), name
    assert new.spec.decoder != old.spec.decoder
    assert new.spec.model_dump(exclude={"decoder", "name"}) == old.spec.model_dump(exclude={"decoder", "name"})
    images = torch.rand(3, 1, 8, 8, generator=torch_generator(0, "images"))
    assert torch.equal(new.encode(images).mean, old.encode(images).mean)
    row = run.metrics[-1]
    target = old.decode(old.encode(images).mean).mean
    assert target.shape == new.decode(old.encode(images).mean).mean.shape
    assert row["split"] == "validation"
    assert row["psnr_to_teacher"] > row["psnr_to_image"] > 0
    facts = read_config(run.path).provenance.training
    assert facts is not None
    assert facts.start == convae.training.read_recipe(run.path / "recipe.yaml").start.sha256  # type: ignore[union-attr]


def test_a_stopped_distillation_resumes_bit_for_bit(teacher: Path, tmp_path: Path) -> None:
    whole = distill(teacher, overrides=SHORT, out=tmp_path / "whole")
    part = distill(teacher, overrides=SHORT, out=tmp_path / "part", callback=StopAt(4))
    assert part.stopped
    resume(part.path)
    old, new = content(whole.path), content(part.path)
    assert old.keys() == new.keys()
    assert all(new[name] == old[name] for name in old if name not in ("config.json", "recipe.yaml"))


def test_a_decoder_with_features_has_a_student() -> None:
    model = convae.build(
        {
            "input": [1, 8, 8],
            "encoder": [{"conv": {"channels": 4, "stride": 2}}, {"feature": {"name": "map"}}],
            "bottleneck": {"gaussian": {"latent": 4}},
            "decoder": [
                {"spatial-norm": {"feature": "map", "groups": 2}},
                {"conv-transpose": {"channels": 1, "stride": 2}},
            ],
            "likelihood": "bernoulli",
        }
    )
    decoder = model.decoder
    assert isinstance(decoder, Network)
    assert network_flops(decoder) == 2 * (2 * 4 * 4 * 16) + 2 * 4 * 16 * 9  # two kernels of 1, and one of 3
    assert student_decoder(model)


def test_codes_and_their_decoder(tmp_path: Path) -> None:
    path = train(CODES, out=tmp_path / "teacher").path
    run = distill(path, decoder={"small": {"width": 4}}, overrides=SHORT, out=tmp_path / "run")
    old, new = convae.load(path), convae.load(run.path)
    images = torch.rand(3, 1, 8, 8, generator=torch_generator(0, "images"))
    assert torch.equal(old.encode(images).mean, new.encode(images).mean)
    first, *_, last = [row["distillation"] for row in run.metrics if row["split"] == "train"]
    assert last < first


def test_an_encoder_for_the_same_latents(teacher: Path, tmp_path: Path) -> None:
    run = distill(teacher, encoder="small", overrides=SHORT, out=tmp_path / "run")
    old, new = convae.load(teacher).state_dict(), convae.load(run.path).state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old if not name.startswith("encoder"))
    first, *_, last = [row["latent-distillation"] for row in run.metrics if row["split"] == "train"]
    assert last < first


def test_a_student_of_a_preset_and_of_layers(teacher: Path, tmp_path: Path) -> None:
    layers = [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}]
    short = [*SHORT, "training.steps=1"]
    run = distill(teacher, decoder=layers, overrides=short, out=tmp_path / "layers")
    assert [layer.name for layer in convae.load(run.path).spec.decoder] == ["linear", "unflatten"]
    with pytest.raises(ShapeError, match=r"model\.decoder\[1\]"):
        distill(teacher, decoder="taesd", overrides=short, out=tmp_path / "preset")
    with pytest.raises(ConfigError, match=r"decoder: .*taesd"):
        distill(teacher, decoder="none", overrides=short, out=tmp_path / "none")


@pytest.mark.parametrize(("shape", "is_vector"), [((1, 28, 28), True), ((3, 32, 24), False), ((2, 40), True)])
def test_default_students_need_a_tenth_of_the_operations(shape: tuple[int, ...], is_vector: bool) -> None:
    wide = {"conv": {"channels": 64, "stride": 2}}
    grow = {"conv-transpose": {"channels": 64, "stride": 2}}
    sizes = [size // 4 for size in shape[1:]]
    start = [{"linear": {"features": 64 * torch.Size(sizes).numel()}}, {"unflatten": {"to": [64, *sizes]}}]
    block = [{"conv": {"channels": 64}}, "relu"]
    model = convae.build(
        {
            "input": list(shape),
            "encoder": [*block, wide, wide, *block, *(["flatten"] if is_vector else [])],
            "bottleneck": {"gaussian": {"latent": 4}},
            "decoder": [*(start if is_vector else []), *block, grow, grow, *block, {"conv": {"channels": shape[0]}}],
            "likelihood": {"gaussian": {"sigma": "learned"}},
        }
    )
    spec = model.spec.model_dump(mode="json")
    student = convae.build({**spec, "decoder": student_decoder(model), "encoder": student_encoder(model)})
    for part in ("encoder", "decoder"):
        assert network_flops(student.networks[part]) * SAVING <= network_flops(model.networks[part])
    assert student.latent_shape == model.latent_shape
    assert student.encode(torch.rand(2, *shape)).mean.shape == (2, *model.latent_shape)


def test_what_cannot_be_distilled_is_refused(teacher: Path, tmp_path: Path) -> None:
    ladder = convae.build({"preset": "ladder", "input": [1, 8, 8]})
    with pytest.raises(ConfigError, match="several latents"):
        distill(ladder, data=torch.rand(8, 1, 8, 8), out=tmp_path / "ladder")
    with pytest.raises(ConfigError, match=r"objective: .*start"):
        train({**RECIPE, "objective": {"distillation": {}, "kl": {}}}, out=tmp_path / "none")
    other = [*RECIPE["model"]["encoder"]]
    model = {**RECIPE["model"], "encoder": other, "bottleneck": {"gaussian": {"latent": 2}}}
    start = {"model": str(teacher), "parts": ["encoder"]}
    with pytest.raises(ConfigError, match=r"objective\.distillation: .*latents"):
        train(
            {**RECIPE, "model": model, "start": start, "objective": {"distillation": {}, "kl": {}}}, out=tmp_path / "x"
        )


def test_latents_of_images_that_differ_between_epochs_are_not_cached(tmp_path: Path) -> None:
    recipe = {**RECIPE, "data": {"source": "digits", "binarize": "dynamic"}}
    teacher = train(recipe, out=tmp_path / "teacher", overrides=["training.epochs=1"])
    run = distill(teacher, overrides=SHORT, out=tmp_path / "run")
    assert (run.recipe.data.binarize, run.recipe.training.cache_latents) == ("dynamic", False)
