"""Priors fitted to a trained model: the task, its run, its exact resume, and the model that it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrow import present
from training.runs import CODES, RECIPE, StopAt, content

import convae
from convae.core.errors import ConfigError, OutputError
from convae.core.random import torch_generator
from convae.model.artifact import read_config
from convae.model.fingerprint import fingerprint
from convae.model.priors.class_gaussians import ClassGaussians
from convae.model.priors.mixture import Mixture
from convae.training import PriorRun, resume, train
from convae.training.prior.encodings import Encodings

MIXTURE: dict[str, Any] = {"mixture": {"components": 5}}
OPTIONS = ["training.batch_size=400", "training.steps=9", "training.log_every=2", "training.checkpoint_every=1"]
OPTIONS += ["training.keep=100", "training.pictures_every=50", "training.optimizer.lr=0.1", "training.ema=0.9"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training of digits without regularization, so that latents are far from N(0, I)."""
    recipe = {**RECIPE, "objective": {"reconstruction": {}, "kl": {"weight": 0.02}}}
    path = tmp_path_factory.mktemp("trained") / "digits"
    train(recipe, out=path, overrides=["training.epochs=12", "training.optimizer.lr=0.03"])
    return path


@pytest.mark.parametrize("prior", [MIXTURE, {"flow": {"transform": {"coupling": {"steps": 2, "hidden": 8}}}}])
def test_a_prior_trained_by_steps_beats_the_standard_normal(prior: Any, trained: Path, tmp_path: Path) -> None:
    run = convae.fit_prior(
        trained, prior, out=tmp_path / "run", overrides=["training.steps=45", *OPTIONS[:1], *OPTIONS[5:7]]
    )
    baseline = next(note for note in run.notes if "standard-normal" in note)
    nats = float(baseline.partition(": ")[2].split()[0])
    assert run.best["nll"] < nats - 0.5
    model, before = run.model, convae.load(trained)
    assert model.spec.prior == prior
    ours, theirs = model.state_dict(), before.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    facts = read_config(run.path).provenance.prior
    assert facts is not None
    assert (facts.start, facts.step) == (fingerprint(before), run.best_step)
    assert sorted(run.pictures.glob("*samples.png"))
    assert torch.equal(model.sample(3, torch_generator(0, "z")), run.model.sample(3, torch_generator(0, "z")))
    with pytest.raises(OutputError):
        convae.fit_prior(trained, prior, out=tmp_path / "run")


def test_a_run_resumed_at_every_step_equals_the_unbroken_one(trained: Path, tmp_path: Path) -> None:
    def fit(name: str, **more: Any) -> PriorRun:
        return convae.fit_prior(trained, MIXTURE, out=tmp_path / name, overrides=[*OPTIONS, "name=same"], **more)

    fit("unbroken")
    run: Any = fit("run", callback=StopAt(1))
    for step in (2, 3, 5, 8, 9):
        assert run.stopped
        run = resume(tmp_path / "run", callback=StopAt(step))
    assert isinstance(run, PriorRun)
    assert not run.stopped
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")
    assert not resume(tmp_path / "run").stopped


def test_flow_matching_resumed_at_some_steps_equals_the_unbroken_run(trained: Path, tmp_path: Path) -> None:
    prior: dict[str, Any] = {"flow-matching": {"width": 8, "blocks": 1, "steps": 2}}

    def fit(name: str, **more: Any) -> PriorRun:
        return convae.fit_prior(trained, prior, out=tmp_path / name, overrides=[*OPTIONS, "name=same"], **more)

    run = fit("unbroken")
    assert {"velocity_error", "nll"} <= set(run.best)
    assert run.model.prior.classes == 10
    fit("run", callback=StopAt(2))
    resume(tmp_path / "run", callback=StopAt(5))
    assert not resume(tmp_path / "run").stopped
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_gaussians_of_classes_are_fitted_at_once_and_draw_by_label(trained: Path, tmp_path: Path) -> None:
    run = convae.fit_prior(trained, "class-gaussians", out=tmp_path / "run")
    model = run.model
    assert isinstance(model.prior, ClassGaussians)
    assert model.prior.classes == 10
    assert set(run.best) == {"total", "nll"}
    sheets = list(run.pictures.glob("*samples.png"))
    assert len(sheets) == 1
    labels = torch.arange(10).repeat_interleave(20)
    z = model.sample_latents(200, torch_generator(0, "z"), labels)
    assert float((model.prior.component_log_prob(z).argmax(1) == labels).float().mean()) > 0.4
    assert not resume(tmp_path / "run").stopped


def test_a_model_and_data_given_as_objects(trained: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (64, 1, 8, 8), np.uint8)
    labels = np.arange(64) % 2
    model = convae.load(trained)
    more = ["training.steps=4", "training.batch_size=16"]
    given: dict[str, Any] = {"data": images, "labels": labels}
    run = convae.fit_prior(model, "mixture", **given, overrides=more, out=tmp_path / "run", callback=StopAt(2))
    assert run.stopped
    assert not isinstance(model.prior, Mixture)
    again = resume(tmp_path / "run", **given)
    assert not again.stopped
    assert isinstance(again.model.prior, Mixture)


@pytest.mark.parametrize(
    ("prior", "overrides", "word"),
    [
        ("standard-normal", (), "standard-normal"),
        ("uniform-codes", (), "codebook"),
        ("nothing", (), "nothing"),
        (MIXTURE, ("training.accumulate=2",), "training.accumulate"),
        (MIXTURE, ("training.freeze=[encoder]",), "training.freeze"),
        ("gmm", ("training.epochs=3",), r"training\.epochs.*gmm"),
        ("class-gaussians", ("training.ema=0.9",), r"training\.ema"),
        (MIXTURE, ("prior.mixture.components=0",), "components"),
        (MIXTURE, ("start.parts=[encoder]",), "start"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    prior: Any, overrides: tuple[str, ...], word: str, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=word):
        convae.fit_prior(trained, prior, overrides=overrides, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_sample_of_encodings_is_evenly_spaced() -> None:
    """Images in folders are sorted by class."""
    values = torch.arange(1000.0)[:, None]
    encodings = Encodings(values, torch.zeros_like(values), None, torch.arange(1000) // 250)
    batch = encodings.sample(4, 0, "cpu")
    assert batch.images[:, 0].tolist() == [0, 250, 500, 750]
    assert present(batch.labels).tolist() == [0, 1, 2, 3]
    assert len(encodings.sample(2000, 0, "cpu")) == 1000


def test_a_fitted_prior_is_not_trained_with_a_model(tmp_path: Path) -> None:
    recipe = {**RECIPE, "model": {**RECIPE["model"], "prior": "gmm"}}
    with pytest.raises(ConfigError, match=r"model\.prior"):
        train(recipe, out=tmp_path / "run")


SMALL: dict[str, Any] = {"transformer": {"layers": 1, "width": 16, "heads": 2}}
FASTER = [*OPTIONS, "training.batch_size=200", "training.optimizer.lr=0.01", "training.checkpoint_every=null"]


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training of digits with 2×2 codes of two levels."""
    path = tmp_path_factory.mktemp("coded") / "codes"
    recipe = {**RECIPE, "model": CODES, "objective": {"reconstruction": 1}}
    train(recipe, out=path, overrides=["training.epochs=6", "training.optimizer.lr=0.02"])
    return path


def test_a_transformer_beats_uniform_codes_and_is_resumed_exactly(coded: Path, tmp_path: Path) -> None:
    def fit(name: str, **more: Any) -> PriorRun:
        return convae.fit_prior(coded, SMALL, out=tmp_path / name, overrides=[*FASTER, *longer], **more)

    longer = ["training.steps=24", "name=same"]
    run = fit("unbroken")
    uniform = float(next(note for note in run.notes if "uniform-codes" in note).partition(": ")[2].split()[0])
    assert uniform == pytest.approx(8 * np.log(16), abs=0.01)
    assert run.best["nll"] < uniform - 2
    fit("run", callback=StopAt(4))
    resume(tmp_path / "run", callback=StopAt(13))
    assert not resume(tmp_path / "run").stopped
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")
    model = run.model
    assert model.prior.classes == 10
    labels = torch.tensor([1, 1, 4])
    found = [model.sample(3, torch_generator(0, "z"), labels, options={"cache": cache}) for cache in (True, False)]
    assert torch.equal(*found)
    with pytest.raises(ConfigError, match="codes"):
        convae.fit_prior(coded, "gmm", out=tmp_path / "no")


HIERARCHY: dict[str, Any] = {
    **CODES,
    "encoder": [
        {"conv": {"channels": 8, "stride": 2}},
        {"feature": {"name": "fine"}},
        "silu",
        {"conv": {"channels": 8, "stride": 2}},
    ],
    "decoder": [
        {"conv-transpose": {"channels": 8, "stride": 2}},
        {"latent-codes": {"feature": "fine", "fsq": {"levels": [4, 4]}}},
        "silu",
        {"conv-transpose": {"channels": 1, "stride": 2}},
    ],
}


def test_a_transformer_learns_the_codes_of_all_latents_of_a_hierarchy(tmp_path: Path) -> None:
    recipe = {**RECIPE, "model": HIERARCHY, "objective": {"reconstruction": 1}}
    train(recipe, out=tmp_path / "codes", overrides=["training.epochs=6", "training.optimizer.lr=0.02"])
    run = convae.fit_prior(tmp_path / "codes", SMALL, out=tmp_path / "prior", overrides=[*FASTER, "training.steps=30"])
    uniform = float(next(note for note in run.notes if "uniform-codes" in note).partition(": ")[2].split()[0])
    assert uniform == pytest.approx((2 * 4 + 16) * np.log(16), abs=0.01)
    assert run.best["nll"] < uniform - 10
    model = run.model
    assert [each.stream for each in model.prior.latents] == ["latent", "latent 1"]
    # Samples are closer to images than those of uniform codes: darker at the border, as all digits are.
    samples = [each.sample(200, torch_generator(0, "z")) for each in (convae.load(tmp_path / "codes"), model)]
    uniform_border, border = (float(each[..., 0].mean()) for each in samples)
    assert border < 0.8 * uniform_border


def test_other_images_are_read_as_the_training_images_were(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 101, (60, 8, 8), np.uint8)
    np.save(tmp_path / "one.npy", images[:30])
    np.save(tmp_path / "two.npy", images[30:])
    source = {"arrays": {"path": str(tmp_path / "one.npy"), "range": [0, 100]}}
    data = {"source": source, "binarize": "threshold", "interpolation": "bilinear"}
    recipe = {**RECIPE, "data": data, "training": {"steps": 1, "batch_size": 9, "pictures_every": 0}}
    train(recipe, out=tmp_path / "run")
    two = f"data.source={tmp_path / 'two.npy'}"
    fitted = convae.fit_prior(tmp_path / "run", "gmm", overrides=[two], out=tmp_path / "gmm")
    read = fitted.recipe.data
    assert (read.binarize, read.interpolation) == ("threshold", "bilinear")
    assert isinstance(read.source, dict)
    assert present(read.source["arrays"])["range"] == [0, 100]
    given = convae.fit_prior(tmp_path / "run", "gmm", data=images[30:, None] * (1 / 100), out=tmp_path / "given")
    assert given.recipe.data.binarize == "threshold"
    small = convae.distill(tmp_path / "run", overrides=[two, "training.steps=1"], out=tmp_path / "small")
    assert small.recipe.data.source == read.source
    assert small.recipe.data.binarize == "threshold"


def test_classes_of_the_prior_have_the_names_of_its_data(trained: Path, tmp_path: Path) -> None:
    """The labels of the training of a model that does not know them are others."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.array(["b", "a"])[np.arange(40) % 2])
    model = convae.load(trained)
    model.provenance = model.provenance.model_copy(update={"classes": ("b", "a")})
    source = f"data.source={tmp_path / 'x.npz'}"
    fitted = convae.fit_prior(model, "class-gaussians", overrides=[source], out=tmp_path / "run").model
    assert fitted.provenance.classes == ("a", "b")
