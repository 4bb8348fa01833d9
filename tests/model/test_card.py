"""The model card says what a person needs who was given the folder, whatever the names in it are."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from torch import nn

from convae.model.bottlenecks.gaussian import Gaussian
from convae.model.card import model_card
from convae.model.likelihoods.bernoulli import Bernoulli
from convae.model.provenance import Provenance, TrainingFacts
from convae.model.vae import VAE

TRAINED: dict[str, Any] = {
    "recipe": "faces-2",
    "data": {"source": "folder photos", "split": "train", "count": 12345, "skipped": 2, "content_hash": "ab" * 32},
    "step": 880,
    "which": "best on the validation images",
    "objective": {"reconstruction": {}, "kl": {"weight": {"linear": {"epochs": 2}}}},
    "validation": {"total": 101.25, "psnr": 20.123456789},
}


def rows(card: str, title: str) -> dict[str, str]:
    """The table under a heading."""
    section = card.partition(f"## {title}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (.+?) \| (.+) \|$", section, flags=re.M)
    return dict(found)


def test_the_front_matter_is_what_model_hubs_read(model: VAE) -> None:
    _, front, text = model_card(model).split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "convae"
    assert "variational-autoencoder" in yaml.safe_load(front)["tags"]
    assert "license" not in front  # nobody but its author knows
    assert text.lstrip().startswith(f"# {model.name}")


def test_a_trained_model_is_headed_by_its_run_and_says_its_data_and_metrics(model: VAE) -> None:
    model.provenance = Provenance(classes=("no", "yes"), training=TrainingFacts(**TRAINED))
    card = model_card(model)
    assert "\n# faces-2\n" in card
    assert model.name in card
    assert 'convae.load("path/of/this/folder")' in card
    assert rows(card, "Metrics") == {"total": "101.25", "psnr": "20.1235"}
    data = rows(card, "Data")
    assert (data["data set"], data["images"], data["skipped"]) == ("folder photos", "12,345", "2")
    assert data["SHA-256 of the content"] == "ab" * 32
    assert data["classes"] == "no, yes"
    training = rows(card, "Training")
    assert training["term reconstruction"] == "weight 1"
    assert training["term kl"] == "weight linear epochs 2"
    assert training["step"] == "880"


@pytest.mark.parametrize(
    "name", ["a\n---\nlicense: mit\n---", "\x1b]0;owned\x07", "<script>alert(1)</script>", "a|b", "[x](y)"]
)
def test_a_strange_name_changes_nothing_but_itself(name: str, model: VAE) -> None:
    facts = {**TRAINED, "recipe": name, "data": {"source": name}, "which": name}
    model.provenance = Provenance(classes=(name,), training=TrainingFacts(**facts))
    card = model_card(model)
    assert yaml.safe_load(card.split("---\n", 2)[1])["library_name"] == "convae"
    assert card.count("\n---\n") == 1
    assert "\x1b" not in card
    assert "<script>" not in card
    assert [line for line in card.splitlines() if line.startswith("# ")] == [
        card.splitlines()[card.splitlines().index("---", 1) + 2]
    ]


def test_a_model_without_provenance_has_no_metrics_on_its_card(model: VAE) -> None:
    card = model_card(model)
    assert "## Metrics" not in card
    assert "## Data" not in card


def test_a_model_of_modules_is_loaded_into_one(model: VAE) -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    decoder = nn.Sequential(nn.Linear(2, 64), nn.Unflatten(1, (1, 8, 8)))
    card = model_card(VAE(encoder, Gaussian((8,), latent=2), decoder, Bernoulli(), input_shape=(1, 8, 8)))
    assert "model=model)" in card
    assert "# encoder: torch.nn.modules.container.Sequential" in card
    assert "convae sample" not in card
    assert "convae sample" in model_card(model)
