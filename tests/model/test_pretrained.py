"""The index that comes with convae, and the models of the checkout that it describes."""

from __future__ import annotations

from pathlib import Path

import pytest

import convae
from convae.model.pretrained import find_pretrained, read_index
from convae.model.weights import sha256_of

MODELS = Path(__file__).parents[2] / "models"
LARGEST = 30 << 20

pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="a source distribution has no models")


def test_the_index_has_every_file_of_every_model() -> None:
    index = read_index()
    listed = {f"{name}/{file}": facts.size for name, model in index.items() for file, facts in model.files.items()}
    held = {path.relative_to(MODELS).as_posix(): path.stat().st_size for path in MODELS.rglob("*") if path.is_file()}
    assert listed == {name: size for name, size in held.items() if name != "README.md"}
    assert sum(held.values()) <= LARGEST
    for name, model in index.items():
        for file, facts in model.files.items():
            assert sha256_of(MODELS / name / file) == facts.sha256, f"{name}/{file}: run `make models-index`"


@pytest.mark.parametrize("name", read_index())
def test_a_model_is_as_the_index_says(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CONVAE_MODELS", raising=False)
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path))
    assert find_pretrained(name) == MODELS / name
    model, facts = convae.load(name), read_index()[name]
    assert (model.input_shape, model.latent_shape) == (facts.input, facts.latent)
    assert sum(each.numel() for each in model.parameters()) == facts.parameters
    assert facts.metrics
    assert all((MODELS / name / file).is_file() for file in ("training.yaml", "card.json", "README.md"))
