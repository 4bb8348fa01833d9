"""A run or an artifact that was given to a person imports no code outside convae, whatever asks for it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import convae
from convae.core.errors import TrustError
from convae.latents.session import Session
from convae.training import resume, train

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
