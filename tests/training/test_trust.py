"""A run or an artifact that was given to a person imports no code outside convae, whatever asks for it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from training.runs import RECIPE, StopAt

import convae
from convae.core.errors import TrainingError, TrustError
from convae.core.trust import trusted_packages
from convae.latents.session import Session
from convae.training import resume, train
from convae.training.loop.engine import Engine
from convae.training.memory_probe import measure_memory
from convae.training.recipe.reading import read_recipe

HOSTILE = """
from pathlib import Path
Path(__file__).with_name("imported").touch()
"""


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable package that leaves a file beside it when it is imported."""
    name = f"hostile_{abs(hash(tmp_path)):x}"
    (tmp_path / "site" / name).mkdir(parents=True)
    (tmp_path / "site" / name / "__init__.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return name


def was_imported(name: str, tmp_path: Path) -> bool:
    return name in sys.modules or (tmp_path / "site" / name / "imported").exists()


@pytest.mark.parametrize("piece", [":Source", ".data:Source"])
def test_the_data_that_an_artifact_names(hostile: str, piece: str, tmp_path: Path) -> None:
    model = convae.build({"preset": "image-vae", "input": [1, 28, 28]})
    model.provenance = model.provenance.model_copy(update={"data": {"source": {f"{hostile}{piece}": {}}}})
    session = Session(convae.save(model, tmp_path / "model"))
    with pytest.raises(TrustError, match=f"--trust {hostile}"):
        _ = session.images
    assert not was_imported(hostile, tmp_path)


@pytest.mark.parametrize("place", ["data", "model", "objective"])
def test_the_recipe_of_a_run(hostile: str, place: str, tmp_path: Path) -> None:
    recipe: dict[str, Any] = {"data": "digits", "model": {"preset": "image-vae"}, "training": {"steps": 1}}
    run = train(recipe, out=tmp_path / "run", quiet=True).path
    written = (run / "recipe.yaml").read_text()
    changed = {
        "data": written.replace("source: digits", f"source: {hostile}:Source"),
        "model": written.replace("preset: image-vae", f"preset: '{hostile}:preset'"),
        "objective": written.replace("  kl:", f"  {hostile}:Term:"),
    }[place]
    assert changed != written
    (run / "recipe.yaml").write_text(changed)
    shutil.rmtree(run / "checkpoints")  # which hold the recipe, too
    with pytest.raises(TrustError, match=f"--trust {hostile}"):
        resume(run, quiet=True)
    assert not was_imported(hostile, tmp_path)


FRIENDLY = """
from convae.objective.terms.squared_error import SquaredError
from convae.model.layers.relu import ReLU


class Error(SquaredError):
    pass


class Positive(ReLU):
    pass
"""


@pytest.fixture
def friendly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with a term and a layer, which no earlier test has used; other processes find it, too."""
    name, site = f"friendly_{abs(hash(tmp_path)):x}", tmp_path / "friendly-site"
    site.mkdir()
    (site / f"{name}.py").write_text(FRIENDLY)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *sys.path]))
    forget_use(monkeypatch)
    return name


def forget_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process: no package was named by the user yet."""
    monkeypatch.setattr("convae.core.trust._in_use", set())


def recipe_with(term: str) -> dict[str, Any]:
    return {**RECIPE, "objective": {"reconstruction": 1, "kl": 1, term: 0.1}}


def test_a_stopped_run_says_which_packages_to_trust(
    friendly: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(recipe_with(f"{friendly}:Error"), out=tmp_path / "run", callback=StopAt(3)).path
    assert f"--resume {run} --trust {friendly}" in (run / "README.md").read_text()
    forget_use(monkeypatch)
    with pytest.raises(TrustError, match=f"--trust {friendly}"):
        resume(run, quiet=True)
    assert not resume(run, quiet=True, trust=[friendly]).stopped


def test_out_of_memory_says_which_packages_to_trust(
    friendly: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Engine, "step", exhausted)
    with pytest.raises(TrainingError, match=f"--resume {tmp_path / 'run'} --trust {friendly}"):
        train(recipe_with(f"{friendly}:Error"), out=tmp_path / "run", quiet=True)


def test_the_batch_size_probe_trusts_what_its_caller_trusts(
    friendly: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {"input": [1, 8, 8], **RECIPE["model"]}
    described["encoder"] = [each if each != "relu" else f"{friendly}:Positive" for each in described["encoder"]]
    judge = convae.save(convae.build(described), tmp_path / "judge")
    asked = {
        **RECIPE,
        "objective": {
            "reconstruction": 1,
            "kl": 1,
            "perceptual": {"network": {"encoder": {"model": str(judge)}}},
        },
    }
    recipe = read_recipe({**asked, "training": {"device": "cpu", "precision": "float32", "epochs": 1}})
    forget_use(monkeypatch)
    with pytest.raises(TrainingError, match=friendly):
        measure_memory(recipe, 4, 4 << 30)
    with trusted_packages([friendly]):
        assert (measure_memory(recipe, 4, 4 << 30) or 0) > 0
