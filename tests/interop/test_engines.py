"""Engines give torch's results; the fastest is found by a trial, once; what cannot be used is refused or skipped."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from exported_models import VECTOR, built, with_loop
from narrow import present

import convae
from convae.core.errors import ConfigError, ShapeError
from convae.core.random import torch_generator
from convae.data.store.cache import list_cache, remove
from convae.interop import choose_engine, engines
from convae.model.inference import TorchEngine
from convae.model.vae import VAE

pytestmark = pytest.mark.usefixtures("onnx_signatures_read_once")


@pytest.fixture(autouse=True)
def short_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, and trials of a few batches."""
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "BUDGET", 0.0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the decoder of `VECTOR`, since exporting takes a second."""
    cache = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVAE_CACHE", str(cache))
        choose_engine(convae.build(VECTOR).eval(), "onnx", ["decode"])
    return cache


@pytest.fixture
def cached(exported: Path, tmp_path: Path) -> Path:
    """A copy of that cache, in use."""
    return Path(shutil.copytree(exported, tmp_path / "cache"))


@pytest.fixture
def conditional() -> VAE:
    """A conditional model with codes, whose weights are random."""
    return built(
        bottleneck={"codes": {"quantizer": {"vq": {"codes": 5}}, "latent": 3}}, condition={"classes": 2, "channels": 1}
    )


def test_codes_and_classes_pass_through_another_engine(conditional: VAE) -> None:
    images, labels = torch.rand(5, 1, 8, 8, generator=torch_generator(0, "images")), torch.tensor([0, 1, 1, 0, 1])
    choice = choose_engine(conditional, "onnx", images=images, labels=labels)
    engine, reference = choice.engine, TorchEngine(conditional)
    assert engine.name == "onnx"
    assert 0 <= choice.difference <= 1e-4
    assert choice.count == 5
    found, expected = engine.encode(images, labels), reference.encode(images, labels)
    assert torch.equal(present(found.codes), present(expected.codes))
    assert torch.allclose(found.mean, expected.mean, atol=1e-4)
    assert torch.equal(found.logvar, expected.logvar)
    assert torch.allclose(engine.reconstruct(images, labels), reference.reconstruct(images, labels), atol=1e-4)
    drawn, wanted = (each.sample(3, torch_generator(1, "z"), labels[:3]) for each in (engine, reference))
    assert torch.allclose(drawn, wanted, atol=1e-4)
    with pytest.raises(ConfigError, match="labels"):
        engine.encode(images)
    with pytest.raises(ShapeError, match="1×8×8"):
        engine.encode(images[..., 1:], labels)


@pytest.mark.usefixtures("cached")
def test_the_fastest_engine_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([100.0, 300.0, 50.0, 200.0])

    def measure(compute: Callable[[], object], size: int) -> float:
        assert size == 3
        compute()
        return next(speeds)

    monkeypatch.setattr(engines, "_measure", measure)
    model = convae.build(VECTOR).eval()
    first = choose_engine(model, "auto", ["decode"], batch_size=3)
    assert first.engine.name == "onnx"
    assert {each.engine: each.images_per_second for each in first.trials} == {
        "torch": 100.0,
        "onnx": 300.0,
        "openvino": 50.0,
        "torch channels_last": 200.0,
    }
    text = first.describe()
    assert all(part in text for part in ("onnx", "300 images/s", "torch 100", "3 images", f"{first.difference:.1e}"))
    again = choose_engine(convae.build(VECTOR).eval(), "auto", ["decode"], batch_size=3)
    assert again.trials == first.trials  # no more speeds are left
    assert again.engine.name == "onnx"
    (entry,) = list_cache()
    assert (entry.sort, entry.source) == ("graphs", model.name)
    assert remove(entry)


@pytest.mark.usefixtures("cached")
def test_a_choice_that_cannot_be_opened_any_more_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"torch": 100.0, "onnx": 300.0, "openvino": 200.0, "torch channels_last": 50.0}
    monkeypatch.setattr(engines, "_measure", lambda compute, _: speeds[compute.args[0].name])
    model = convae.build(VECTOR).eval()
    assert choose_engine(model, "auto", ["decode"]).engine.name == "onnx"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert choose_engine(model, "auto", ["decode"]).engine.name == "openvino"


def test_small_tasks_stay_with_torch() -> None:
    choice = choose_engine(convae.build(VECTOR).eval(), "auto", batch_size=4, count=4)
    assert choice.engine.name == "torch"
    assert [each.engine for each in choice.trials] == ["torch"]
    assert list_cache() == []


@pytest.mark.usefixtures("cached")
def test_an_engine_that_differs_or_is_missing_is_refused_by_name_and_skipped_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    model = convae.build(VECTOR).eval()
    with pytest.raises(ConfigError, match=r"convae\[openvino\]"):
        choose_engine(model, "openvino")
    monkeypatch.setattr(engines, "TOLERANCE", -1.0)
    with pytest.raises(ConfigError, match="differs from torch"):
        choose_engine(model, "onnx", ["decode"])
    choice = choose_engine(model, "auto", ["decode"])
    assert choice.engine.name == "torch"
    reasons = {each.engine: each.reason for each in choice.trials if each.reason}
    assert sorted(reasons) == ["onnx", "openvino", "torch channels_last"]
    assert "convae[openvino]" in present(reasons["openvino"])
    assert not any(
        parameter.is_contiguous(memory_format=torch.channels_last) and not parameter.is_contiguous()
        for parameter in model.parameters()
        if parameter.ndim == 4
    )


def test_a_model_that_cannot_be_exported_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be exported"):
        choose_engine(with_loop(), "onnx")
    assert list_cache() == []


def test_a_damaged_graph_is_exported_again(cached: Path) -> None:
    model = convae.build(VECTOR).eval()
    (path,) = cached.rglob("decode.onnx")
    path.write_bytes(b"broken")
    assert choose_engine(model, "onnx", ["decode"]).engine.name == "onnx"
    assert path.stat().st_size > 100
    with pytest.raises(ConfigError, match="encode"):
        choose_engine(model, "onnx", ["decode"]).engine.encode(torch.zeros(1, 1, 8, 8))


def test_weights_of_another_type_are_refused() -> None:
    with pytest.raises(ConfigError, match="float64"):
        choose_engine(convae.build(VECTOR).eval().double(), "onnx", ["decode"])
