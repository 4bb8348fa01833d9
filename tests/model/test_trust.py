"""Pieces of other packages in models, and what an artifact that names them may do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import convae
from convae.core.checked_files import read_checked_json, with_checksum
from convae.core.errors import ArtifactError, ConfigError, TrustError
from convae.describe import resolve
from convae.model.artifact import CONFIG, FORMAT, read_description

MODULE = '''
from pathlib import Path
from convae.model.layers.base import Layer
from convae.model.likelihoods.bernoulli import Bernoulli

Path(__file__).with_name("imported").touch()

class Half(Layer):
    """Multiplies by a number."""
    keeps_shape = True

    def __init__(self, shape, *, factor: float = 0.5) -> None:
        super().__init__(shape)
        self.factor = factor

    def forward(self, x):
        return x * self.factor

class Dots(Bernoulli):
    """A Bernoulli by another name."""

def tiny(*, input: tuple[int, ...] = (1, 8, 8), latent: int = 2) -> dict:
    """A preset of another package."""
    layers = [{"linear": {"features": 64}}, {"unflatten": {"to": [1, 8, 8]}}]
    return {"input": input, "encoder": ["flatten", f"{__name__}:Half"], "bottleneck": {"gaussian": {"latent": latent}},
            "decoder": layers, "likelihood": f"{__name__}:Dots"}

def build(command):
    raise SystemExit(command)
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes an importable module that leaves a file beside it when it is imported; gives its name."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def make(end: str) -> str:
        name = f"foreign_{abs(hash(tmp_path)):x}_{end}"
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / "__init__.py").write_text(MODULE)
        return name

    return make


def was_imported(name: str, tmp_path: Path) -> bool:
    return (tmp_path / "site" / name / "imported").exists() or name in sys.modules


def around(layer: Any) -> dict[str, Any]:
    return {**resolve("torch-vae", ["input=[1,8,8]", "latent=2"]).model_dump(), "encoder": [layer, "flatten"]}


def with_layer(model: Path, name: str) -> Path:
    """The artifact with another name in the place of its first layer's, with a valid checksum."""
    content = read_checked_json(model / CONFIG, FORMAT)
    content["model"]["encoder"][0] = {name: {}}
    (model / CONFIG).write_text(json.dumps(with_checksum(content)))
    return model


def test_pieces_of_another_package_are_kept_by_the_name_they_were_written_with(module: Any, tmp_path: Path) -> None:
    own = module("own")
    model = convae.build(around({f"{own}:Half": {"factor": 0.25}}) | {"likelihood": f"{own}:Dots"})
    assert model.spec.encoder[0].to_mapping() == {f"{own}:Half": {"factor": 0.25}}
    assert model.spec.likelihood == {f"{own}:Dots": {}}
    again = convae.load(convae.save(model, tmp_path / "model"))
    x = torch.rand(2, 1, 8, 8)
    assert again.spec == model.spec
    assert torch.equal(again(x).likelihood.mean, model.eval()(x).likelihood.mean)


def test_a_preset_of_another_package_becomes_plain_layers_and_a_short_name(module: Any) -> None:
    own = module("preset")
    model = convae.build({"preset": f"{own}:tiny", "latent": 3})
    assert (model.name, model.latent_shape) == ("tiny", (3,))
    assert model.spec.encoder[1].to_mapping() == {f"{own}:Half": {}}
    assert convae.build(f"{own}:tiny").latent_shape == (2,)


@pytest.mark.parametrize("piece", ["Half", "tiny", "build", "Missing"])
def test_an_artifact_imports_nothing_that_its_user_does_not_trust(module: Any, tmp_path: Path, piece: str) -> None:
    other = module("hostile")
    artifact = with_layer(convae.save(convae.build(around("relu")), tmp_path / "model"), f"{other}:{piece}")
    for read in (convae.load, read_description):
        with pytest.raises(TrustError) as caught:
            read(artifact)
        for part in (str(artifact / CONFIG), "model.encoder[0]", f"{other}:{piece}", f"--trust {other}"):
            assert part in str(caught.value)
    with pytest.raises(TrustError):
        convae.load(artifact, trust=["json", "os"])
    assert not was_imported(other, tmp_path)
    if piece == "Half":
        assert convae.load(artifact, trust=[other]).spec.encoder[0].to_mapping() == {f"{other}:Half": {}}
    else:
        with pytest.raises(ArtifactError, match=piece):
            convae.load(artifact, trust=[other])


@pytest.mark.parametrize("name", ["os:system", "convae.model.layers.conv:Conv", "builtins:exec"])
def test_no_dotted_path_in_an_artifact_is_taken_without_trust(name: str, tmp_path: Path) -> None:
    artifact = with_layer(convae.save(convae.build(around("relu")), tmp_path / "model"), name)
    with pytest.raises(TrustError, match=name):
        convae.load(artifact)


@pytest.mark.parametrize("place", ["bottleneck", "likelihood", "decoder", "nested"])
def test_every_place_of_a_description_is_guarded(module: Any, tmp_path: Path, place: str) -> None:
    other = module(place)
    artifact = convae.save(convae.build(around("relu")), tmp_path / "model")
    content = read_checked_json(artifact / CONFIG, FORMAT)
    hostile: Any = {f"{other}:Half": {}}
    if place == "nested":
        content["model"]["encoder"][0] = {"residual": {"layers": [hostile]}}
    else:
        content["model"][place] = [hostile] if place == "decoder" else hostile
    (artifact / CONFIG).write_text(json.dumps(with_checksum(content)))
    with pytest.raises(TrustError, match=f"--trust {other}"):
        convae.load(artifact)
    assert not was_imported(other, tmp_path)


def test_the_description_inside_an_artifact_is_not_read_as_a_file_of_the_users(module: Any, tmp_path: Path) -> None:
    other = module("file")
    artifact = with_layer(convae.save(convae.build(around("relu")), tmp_path / "model"), f"{other}:Half")
    with pytest.raises(ConfigError, match=str(artifact)):
        resolve(artifact / CONFIG)
    assert not was_imported(other, tmp_path)
