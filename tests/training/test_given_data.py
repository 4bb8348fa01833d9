"""Training on arrays and datasets that a program holds, and one's own loop with convae's objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from training.runs import RECIPE, StopAt, content

import convae
from convae.core.errors import ArtifactError, ConfigError, DataError
from convae.model.bottlenecks.gaussian import Gaussian
from convae.model.likelihoods.bernoulli import Bernoulli
from convae.model.vae import VAE
from convae.training import resume, train

IMAGES = np.random.default_rng(1).integers(0, 256, (300, 1, 8, 8), dtype=np.uint8)
MODEL = {key: value for key, value in RECIPE.items() if key != "data"}
RECIPE_WITHOUT_DATA: dict[str, Any] = {**MODEL, "training": {**MODEL["training"], "batch_size": 50, "epochs": 2}}


@pytest.mark.parametrize("form", ["array", "dataset"])
def test_a_run_on_given_data_resumes_bit_for_bit(form: str, tmp_path: Path) -> None:
    data: Any = IMAGES if form == "array" else TensorDataset(torch.from_numpy(IMAGES))
    run = train(RECIPE_WITHOUT_DATA, data=data, out=tmp_path / "unbroken")
    assert run.recipe.data.source["given"]["images"] == 300  # type: ignore[index]
    assert run.model.provenance.training is not None
    train(RECIPE_WITHOUT_DATA, data=data, out=tmp_path / "run", callback=StopAt(7))
    with pytest.raises(ConfigError, match="data="):
        resume(tmp_path / "run")
    with pytest.raises(ConfigError, match="was trained on"):
        resume(tmp_path / "run", data=IMAGES[::-1].copy())
    resume(tmp_path / "run", data=data)
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_a_model_object_is_trained_on_an_array(tmp_path: Path) -> None:
    model = convae.build(RECIPE["model"])
    recipe = {"model": model, "training": {"steps": 3, "batch_size": 20, "pictures_every": 0}}
    run = train(recipe, data=IMAGES / 255.0, validation=IMAGES[:40], out=tmp_path / "run")
    assert not run.stopped
    assert "total" in run.best
    assert convae.load(run).input_shape == convae.Session(run).model.input_shape == (1, 8, 8)


def of_modules() -> VAE:
    torch.manual_seed(5)
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    decoder = nn.Sequential(nn.Linear(2, 64), nn.Unflatten(1, (1, 8, 8)))
    return VAE(encoder, Gaussian((64,), latent=2), decoder, Bernoulli(), input_shape=(1, 8, 8), name="mine")


def test_a_model_of_modules_is_trained_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    model, recipe = of_modules(), {"training": {"epochs": 2, "batch_size": 50, "ema": 0.9, "pictures_every": 0}}
    before = [value.clone() for value in model.state_dict().values()]
    run = train({"model": model, **recipe}, data=IMAGES, out=tmp_path / "unbroken")
    assert all(torch.equal(*pair) for pair in zip(before, model.state_dict().values(), strict=True))
    assert run.recipe.model["modules"]["encoder"] == "torch.nn.modules.container.Sequential"
    with pytest.raises(ArtifactError, match="model="):
        convae.load(run.path)
    trained = convae.load(run.path, model=of_modules())
    assert not torch.equal(trained.state_dict()["encoder.0.weight"], before[0])
    train({"model": model, **recipe}, data=IMAGES, out=tmp_path / "run", callback=StopAt(7))
    with pytest.raises(ConfigError, match="model="):
        resume(tmp_path / "run", data=IMAGES)
    wrong = of_modules()
    wrong.encoder = nn.ReLU()
    with pytest.raises(ConfigError, match=r"encoder.*Sequential.*ReLU"):
        resume(tmp_path / "run", data=IMAGES, model=wrong)
    resumed = resume(tmp_path / "run", data=IMAGES, model=of_modules())
    assert [row for row in resumed.metrics if "total" in row] == [row for row in run.metrics if "total" in row]
    fitted = convae.fit_prior(run.model, "gmm", data=IMAGES, out=tmp_path / "gmm")
    assert fitted.model.sample(3).shape == (3, 1, 8, 8)
    assert type(fitted.last.prior).__name__ == type(fitted.model.prior).__name__ != type(run.model.prior).__name__
    for finished in (run, resumed):
        assert finished.model is not model
        assert all(map(torch.equal, finished.last.state_dict().values(), run.last.state_dict().values()))
    again = convae.load(resumed.path / "last", model=of_modules()).state_dict()
    last = convae.load(run.path / "last", model=of_modules()).state_dict()
    assert all(torch.equal(again[name], value) for name, value in last.items())


def test_data_are_given_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        train(RECIPE, data=IMAGES, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="data="):
        train(RECIPE, labels=[1, 2], out=tmp_path / "run")


class Flickering(torch.utils.data.Dataset[torch.Tensor]):
    """Items that differ each time."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.rand(1, 8, 8)


@pytest.mark.parametrize(
    ("data", "part"),
    [(Flickering(), "data.augment"), (DataLoader(TensorDataset(torch.from_numpy(IMAGES))), ".dataset")],
    ids=["random items", "loader"],
)
def test_what_is_no_dataset_is_told_the_way(data: Any, part: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=part):
        train(RECIPE_WITHOUT_DATA, data=data, out=tmp_path / "run")


def test_an_objective_without_a_term_for_the_prior_is_noted(tmp_path: Path) -> None:
    recipe = {**RECIPE_WITHOUT_DATA, "objective": {"reconstruction": 1}}
    short = {**recipe, "training": {**recipe["training"], "epochs": None, "steps": 2}}
    assert any("prior" in note for note in train(short, data=IMAGES, out=tmp_path / "run").notes)
