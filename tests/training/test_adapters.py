"""Low-rank adapters: only they are trained, and the saved model is a plain one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from training.runs import RECIPE, StopAt, content, model_of

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.model.adapters import adapter_names, add_adapters, load_plain_state, merged_state
from convae.training import resume, train
from convae.training.loop.trainer import Callback, Trainer

OPTIONS: dict[str, Any] = {"batch_size": 16, "steps": 6, "log_every": 1, "pictures_every": 0, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convae.save(convae.build(RECIPE["model"], seed=3), tmp_path_factory.mktemp("start") / "model")


def recipe(start: Path, adapters: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {
        "start": str(start),
        "adapters": adapters,
        "objective": {"reconstruction": {}, "kl": {}},
        "training": {**OPTIONS, **options},
    }


def images() -> Any:
    return np.random.default_rng(0).integers(0, 256, (48, 1, 8, 8), np.uint8)


class Kept(Callback):
    """Keeps the trained model with its adapters."""

    def on_train_end(self, trainer: Trainer) -> None:
        self.model = model_of(trainer)
        self.summary = trainer.task.summary()


def test_only_adapters_are_trained_and_become_part_of_the_weights(start: Path, tmp_path: Path) -> None:
    seen = Kept()
    run = train(recipe(start, {"rank": 2}), data=images(), out=tmp_path / "run", callback=seen)
    old, new = convae.load(start), run.last
    changed = {name for name, value in old.state_dict().items() if not torch.equal(value, new.state_dict()[name])}
    assert changed == {"decoder.0.weight", "decoder.2.weight"}
    difference = new.state_dict()["decoder.0.weight"] - old.state_dict()["decoder.0.weight"]
    singular = torch.linalg.svdvals(difference)
    assert singular[1] > 1e-4
    assert singular[2] < 1e-6
    z = torch.randn(5, 3, generator=torch_generator(0, "z"))
    torch.testing.assert_close(new.decode(z).mean, seen.model.decode(z).mean, rtol=0, atol=1e-5)
    names = adapter_names(seen.model)
    assert len(names) == 4
    trained = sum(dict(seen.model.named_parameters())[name].numel() for name in names)
    assert any(f"{trained:,} trained" in line for line in seen.summary)


def test_a_stopped_training_resumes_bit_for_bit_with_everything_on(start: Path, tmp_path: Path) -> None:
    written = recipe(
        start, {"rank": 2, "alpha": 4, "parts": ["encoder", "decoder"]}, ema=0.9, checkpointing=True, accumulate=2
    )
    whole = train(written, data=images(), out=tmp_path / "whole")
    part = train(written, data=images(), out=tmp_path / "part", callback=StopAt(3))
    assert part.stopped
    resume(part.path, data=images())
    old, new = content(whole.path), content(part.path)
    assert all(new[name] == old[name] for name in old)


def test_adapters_start_at_the_model_and_are_merged(start: Path) -> None:
    model, plain = convae.load(start), convae.load(start)
    names = add_adapters(model, rank=100, parts=["encoder", "decoder"], layers=["decoder.*", "encoder.0.weight"])
    assert names == ["encoder.0.weight", "decoder.0.weight", "decoder.2.weight"]
    merged = merged_state(model)
    assert merged.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, merged[name]) for name, value in plain.state_dict().items())
    assert dict(model.named_parameters())["decoder.0.parametrizations.weight.0.up"].shape == (64, 3)
    x = torch.rand(2, 1, 8, 8, generator=torch_generator(0, "images"))
    assert torch.equal(model(x).likelihood.mean, plain(x).likelihood.mean)
    assert model.spec == plain.spec


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        ({"parts": ["decode"]}, r"adapters\.parts\.0: .*decoder"),
        ({"layers": ["decoder.9.*"]}, r"adapters\.layers\.0"),
        ({"parts": ["head"]}, r"adapters\.parts"),
        ({"rank": 0}, r"adapters\.rank"),
    ],
)
def test_what_does_not_fit_is_named(adapters: dict[str, Any], message: str, start: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        train(recipe(start, adapters), data=images(), out=tmp_path / "run")


CODED: dict[str, Any] = {
    "input": [1, 8, 8],
    "encoder": [{"conv": {"channels": 4, "stride": 2}}],
    "bottleneck": {"gaussian": {"latent": 2}},
    "decoder": [{"quantize": {"vq": {"codes": 4}}}, {"conv-transpose": {"channels": 1, "stride": 2}}],
}


@pytest.mark.parametrize("frozen", [{"adapters": {"rank": 1}}, {"freeze": ["decoder.0.*"]}])
def test_a_codebook_of_moving_averages_is_frozen(frozen: dict[str, Any], tmp_path: Path) -> None:
    start = convae.save(convae.build(CODED, seed=3), tmp_path / "model")
    written = recipe(start, frozen.get("adapters", {}), freeze=frozen.get("freeze", []))
    if "adapters" not in frozen:
        del written["adapters"]
    written["objective"]["commitment"] = {}
    new = train(written, data=images(), out=tmp_path / "run").last.state_dict()
    old = convae.load(start).state_dict()
    assert not torch.equal(old["decoder.1.weight"], new["decoder.1.weight"])
    codebook = [name for name in old if name.startswith("decoder.0")]
    assert codebook
    assert all(torch.equal(old[name], new[name]) for name in codebook)


def test_random_weights_have_no_adapters(tmp_path: Path) -> None:
    written = {key: value for key, value in recipe(tmp_path, {}).items() if key != "start"}
    with pytest.raises(ConfigError, match=r"adapters: .*start"):
        train({**written, "model": RECIPE["model"]}, data=images(), out=tmp_path / "run")


def test_parametrizations_that_are_no_adapters_stay_as_they_are() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"decoder": nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.Linear(4, 2))})
    before, x = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.rand(5, 3)
    assert add_adapters(model, rank=1) == ["decoder.1.weight"]
    assert all(name.startswith("decoder.1.") for name in adapter_names(model))
    assert merged_state(model).keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in merged_state(model).items())
    expected = model["decoder"](x)
    load_plain_state(model, {name: 2 * tensor for name, tensor in before.items()})
    assert not torch.allclose(model["decoder"](x), expected)
    load_plain_state(model, before)
    assert torch.equal(model["decoder"](x), expected)
