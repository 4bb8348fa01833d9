"""Latents of a frozen encoder are computed once, and training with them is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training.runs import RECIPE, StopAt

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.model.bottlenecks.gaussian import Gaussian
from convae.model.likelihoods.bernoulli import Bernoulli
from convae.model.vae import VAE
from convae.training import Run, resume, train

FROZEN = ["encoder", "bottleneck"]
OPTIONS: dict[str, Any] = {
    "batch_size": 16,
    "epochs": 2,
    "log_every": 1,
    "pictures_every": 0,
    "freeze": FROZEN,
    "cache_latents": True,
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "latents"


def images(count: int = 48) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 1, 8, 8), np.uint8)


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.glob("*") if path.is_dir()]


def trained(out: Path, model: VAE | None = None, data: Any = None, **options: Any) -> Run:
    recipe = {
        "model": model or convae.build(RECIPE["model"], seed=3),
        "objective": {"reconstruction": {}, "kl": {}},
        "training": {**OPTIONS, **options},
    }
    return train(recipe, data=images() if data is None else data, out=out)


VECTORS = RECIPE["model"]["bottleneck"]
MAP = [{"conv": {"channels": 4, "stride": 2}}]
GROW = [{"conv-transpose": {"channels": 1, "stride": 2}}]
HEADS: dict[str, dict[str, Any]] = {
    "vector": {},
    "full": {"bottleneck": {"gaussian": {"latent": 3, "covariance": "full"}}},
    "flow": {"bottleneck": {"gaussian": {"latent": 3, "flow": "iaf"}}},
    "map": {"encoder": MAP, "bottleneck": {"gaussian": {"head": False}}, "decoder": GROW},
}


@pytest.mark.parametrize("head", HEADS)
def test_results_are_those_without_the_cache(head: str, tmp_path: Path, cache: Path) -> None:
    model = convae.build({**RECIPE["model"], **HEADS[head]}, seed=3)
    found = [trained(tmp_path / str(is_on), model, cache_latents=is_on) for is_on in (True, False)]
    (entry,) = entries(cache)
    shape = json.loads((entry / "index.json").read_text())["shape"]
    assert shape[0] == 43  # the training images
    assert (entry / "values.bin").stat().st_size == 4 * np.prod(shape)
    with_cache, without = (run.last.state_dict() for run in found)
    for name, value in without.items():
        torch.testing.assert_close(with_cache[name], value, rtol=1e-5, atol=1e-6, msg=name)
    for one, other in zip(*(run.metrics for run in found), strict=True):
        assert one["total"] == pytest.approx(other["total"], rel=1e-6)


def test_the_step_of_a_discriminator_uses_it(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    forward = VAE.forward

    def counted(self: VAE, x: Any, *args: Any, **options: Any) -> Any:
        passes.append(len(x))
        return forward(self, x, *args, **options)

    monkeypatch.setattr(VAE, "forward", counted)
    terms = {"reconstruction": {}, "adversarial": {"discriminator": {"patch": {"channels": 4, "layers": 1}}}}
    states, sizes = [], []
    for is_on in (True, False):
        recipe = {
            "model": convae.build(RECIPE["model"], seed=3),
            "objective": terms,
            "training": {**OPTIONS, "epochs": 1, "cache_latents": is_on},
        }
        states.append(train(recipe, data=images(), out=tmp_path / str(is_on)).last.state_dict())
        sizes.append([size for size in passes if size == OPTIONS["batch_size"]])
        passes.clear()
    assert len(entries(cache)) == 1
    assert not sizes[0]
    assert sizes[1]
    for name, value in states[1].items():
        torch.testing.assert_close(states[0][name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_cache_is_used_again_and_never_for_other_weights_or_images(tmp_path: Path, cache: Path) -> None:
    trained(tmp_path / "first")
    (entry,) = entries(cache)
    before = (entry / "values.bin").stat().st_mtime_ns
    trained(tmp_path / "again")
    assert [path.name for path in entries(cache)] == [entry.name]
    assert (entry / "values.bin").stat().st_mtime_ns == before
    trained(tmp_path / "weights", convae.build(RECIPE["model"], seed=4))
    changed = images()
    changed[:, 0, 0, 0] ^= 1
    trained(tmp_path / "images", data=changed)
    assert len(entries(cache)) == 3


def test_latents_of_modules_are_those_of_their_activations(tmp_path: Path, cache: Path) -> None:
    for activation in (torch.nn.ReLU(), torch.nn.Tanh()):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), activation)
            decoder = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Unflatten(1, (1, 8, 8)))
            bottleneck = Gaussian((8,), latent=3)
        model = VAE(encoder, bottleneck, decoder, Bernoulli(), input_shape=(1, 8, 8))
        trained(tmp_path / type(activation).__name__, model, epochs=1)
    assert len(entries(cache)) == 2


def test_latents_of_a_conditional_model_are_those_of_the_labels(tmp_path: Path, cache: Path) -> None:
    model = convae.build({**RECIPE["model"], "condition": {"classes": 2}}, seed=3)
    recipe = {
        "model": model,
        "objective": {"reconstruction": {}, "kl": {}},
        "training": {**OPTIONS, "freeze": [*FROZEN, "condition"], "epochs": 1},
    }
    labels = np.arange(48) % 2
    for name, own in {"some": labels, "others": 1 - labels}.items():
        train(recipe, data=images(), labels=own, out=tmp_path / name)
    assert len(entries(cache)) == 2
    without = train(
        recipe,
        data=images(),
        labels=1 - labels,
        out=tmp_path / "without",
        overrides=["training.cache_latents=false"],
    )
    rows = [row["kl"] for row in without.metrics if row["split"] == "train"]
    again = train(recipe, data=images(), labels=1 - labels, out=tmp_path / "again")
    assert [row["kl"] for row in again.metrics if row["split"] == "train"] == pytest.approx(rows, rel=1e-5)


def test_a_cut_entry_is_computed_anew(tmp_path: Path, cache: Path) -> None:
    first = trained(tmp_path / "first").last.state_dict()
    (entry,) = entries(cache)
    content = (entry / "values.bin").read_bytes()
    (entry / "values.bin").write_bytes(content[:-4])
    again = trained(tmp_path / "again").last.state_dict()
    assert (entry / "values.bin").read_bytes() == content
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_a_stage_that_trains_the_encoder_does_not_use_it(tmp_path: Path, cache: Path) -> None:
    stages = [{"steps": 2, "freeze": []}, {"steps": 2, "freeze": FROZEN}]
    recipe = {"model": convae.build(RECIPE["model"], seed=3), "objective": {"reconstruction": {}, "kl": {}}}
    options = {key: value for key, value in OPTIONS.items() if key not in ("freeze", "epochs")}
    found = []
    for name, is_on in (("on", True), ("off", False)):
        written = {**recipe, "stages": stages, "training": {**options, "cache_latents": is_on}}
        found.append(train(written, data=images(), out=tmp_path / name).last.state_dict())
    assert len(entries(cache)) == 1
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-5, atol=1e-6, msg=name)
    train({**recipe, "stages": stages, "training": options | {"cache_latents": True}}, data=images(),
          out=tmp_path / "part", callback=StopAt(3))  # fmt: skip
    again = resume(tmp_path / "part", data=images()).last.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in found[0].items())


def test_where_it_would_be_wrong_it_is_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.freeze: \[encoder, bottleneck\]"):
        trained(tmp_path / "trained", freeze=["encoder"])
    flipped = {"augment": {"flip": 0.5}}
    recipe = {"model": convae.build(RECIPE["model"]), "data": flipped, "training": OPTIONS}
    with pytest.raises(ConfigError, match=r"data\.augment"):
        train(recipe, data=images(), out=tmp_path / "augmented")
    digits = {"data": "digits", "model": recipe["model"]}
    options = {**OPTIONS, "labeled": {"augment": {"flip": 0.5}}}
    with pytest.raises(ConfigError, match=r"training\.labeled\.augment"):
        train({**digits, "training": options}, out=tmp_path / "labeled")
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(images()).float() / 255)
    with pytest.raises(ConfigError, match="Dataset"):
        trained(tmp_path / "dataset", data=dataset)
    ladder = convae.build({"preset": "ladder", "input": [1, 8, 8]})
    with pytest.raises(ConfigError, match="several latents"):
        trained(tmp_path / "ladder", ladder)
    assert not entries(cache)


def test_the_head_gives_what_the_model_gives() -> None:
    model = convae.build(RECIPE["model"], seed=1).eval()
    x = torch.rand(4, 1, 8, 8, generator=torch_generator(0, "images"))
    values = model.head_output(x)
    assert values.shape == (4, 6)
    one = model.decode_head(values, torch_generator(1, "noise"), samples=3)
    other = model(x, torch_generator(1, "noise"), samples=3)
    assert torch.equal(one.latent, other.latent)
    assert torch.equal(one.likelihood.mean, other.likelihood.mean)
    assert torch.equal(one.posterior.kl(), other.posterior.kl())
