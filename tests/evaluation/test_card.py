"""Cards of models: what they measure, which may be compared, and what their files hold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from evaluation.test_card_metrics import MAP
from evaluation.test_page import Reader
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from narrow import narrow

import convae
from convae.core.errors import ConfigError
from convae.data import DataConfig, Split, open_split
from convae.evaluation import Measurement
from convae.evaluation.card import (
    Card,
    card_markdown,
    check_comparable,
    draw_comparison,
    measure,
    measure_card,
    protocol_differences,
    read_cards,
    render_card_page,
    write_cards,
)
from convae.evaluation.card.comparison import table_rows
from convae.evaluation.card.pictures import choose_error_maps, draw_spectra
from convae.latents import EvalBatch
from convae.latents.error_maps import ErrorMaps
from convae.model.fingerprint import fingerprint
from convae.model.vae import VAE

FEATURES: dict[str, dict[str, Any] | None] = {"features.pooled:Pooled": {"layers": "identity"}}
HOSTILE = "a <script>alert(1)</script> | b: [c]\n---\n- d"


@pytest.fixture(scope="module")
def map_model() -> VAE:
    return convae.build(MAP, seed=1).eval()


@pytest.fixture
def card(map_model: VAE, digits: Split) -> Card:
    return measure_card(map_model, digits, features=FEATURES)


def plain(card: Card) -> Card:
    """A card as a file has it."""
    return Card.from_dict(json.loads(json.dumps(card.as_dict(), allow_nan=False)))


def test_a_card_has_what_applies_and_says_why_the_rest_does_not(card: Card, map_model: VAE, digits: Split) -> None:
    assert card.metrics.keys() >= {
        "psnr",
        "ssim",
        "feature-distance-pooled",
        "rfd-pooled",
        "fd-pooled",
        "elbo",
        "kl",
        "latent-mean",
        "latent-std",
        "kl-per-channel",
        "active-channels",
        "latent-spectrum-slope",
        "image-spectrum-slope",
        "equivariance-scale",
        "equivariance-rotation",
        "linear-probe",
    }
    assert not card.metrics.keys() & {"nll", "kl-per-unit"}
    assert "11" in card.left_out["ms-ssim"] or "22" in card.left_out["ms-ssim"]
    assert "quantizer" in card.left_out["code-usage"]
    assert not card.left_out.keys() & card.metrics.keys()
    assert card.model["sha256"] == fingerprint(map_model)
    assert card.model["values_per_latent_value"] == 64 / 48
    protocol = card.protocol
    assert (protocol["data"]["content_hash"], protocol["data"]["count"]) == (digits.content_hash, 202)
    assert protocol["features"]["sha256"] == "0" * 64
    assert protocol["precision"] == {"weights": "float32", "device": "cpu"}
    assert {"convae", "torch", "seed"} <= protocol.keys()
    assert {name: len(line["power"]) for name, line in card.spectra.items()} == {"image": 7, "latent": 3}


def test_named_metrics_and_options_are_added(map_model: VAE, digits: Split) -> None:
    card = measure_card(map_model, digits, metrics=["nll"], options={"nll": {"samples": 2}})
    assert card.protocol["metrics"]["nll"] == {"samples": 2}
    assert "--features" in card.left_out["rfd"]
    assert "feature-distance" in card.left_out
    with pytest.raises(ConfigError, match="code-usage"):
        measure_card(map_model, digits, metrics=["code-usage"])


def test_a_card_is_read_as_it_was_written(card: Card, tmp_path: Path) -> None:
    usage = Measurement([1.0], None, "fraction of the codes", "higher", parts=("",))  # of one codebook
    card = dataclasses.replace(card, metrics={**card.metrics, "code-usage": usage})
    write_cards([card], str(tmp_path / "card.json"))
    (found,) = read_cards(str(tmp_path / "card.json"))
    assert found.as_dict() == plain(card).as_dict() == json.loads(json.dumps(card.as_dict()))
    assert found.metrics["psnr"] == card.metrics["psnr"]
    assert found.metrics["code-usage"].texts() == usage.texts() == ("1", "")
    assert protocol_differences(card, found) == {}


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"format": 2, "cards": []}',
        '{"format": 1, "cards": []}',
        '{"format": 1, "cards": [{"name": "a"}]}',
        '{"format": 1, "cards": "text"}',
        "not json: [",
        "\x00",
    ],
)
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(ConfigError, match=r"card\.json"):
        read_cards(tmp_path / "card.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [("value", "1"), ("value", True), ("interval", [1]), ("interval", [[1], ["2"]]), ("value", float("nan"))],
)
def test_numbers_of_a_file_are_numbers(key: str, value: Any, card: Card, tmp_path: Path) -> None:
    written = json.loads(json.dumps(card.as_dict()))
    written["metrics"]["psnr"][key] = value
    (tmp_path / "card.json").write_text(json.dumps({"format": 1, "cards": [written]}))
    with pytest.raises(ConfigError, match=r"card\.json"):
        read_cards(tmp_path / "card.json")


def test_cards_of_other_protocols_are_not_compared(card: Card) -> None:
    check_comparable([card, plain(card)])
    data = {**card.protocol["data"], "content_hash": "f" * 64}
    other = dataclasses.replace(card, name="other", protocol={**card.protocol, "data": data, "seed": 3})
    assert protocol_differences(card, other).keys() == {"data.content_hash", "seed"}
    with pytest.raises(ConfigError, match=r"'other'.*data\.content_hash.*seed \(0 and 3\)"):
        check_comparable([card, card, other])
    # Options of a metric that only one of them has make no difference.
    options = {**card.protocol["metrics"], "nll": {"samples": 2}}
    assert not protocol_differences(card, dataclasses.replace(card, protocol={**card.protocol, "metrics": options}))


def test_metrics_are_grouped_and_the_best_is_known(card: Card) -> None:
    better = {**card.metrics, "psnr": dataclasses.replace(card.metrics["psnr"], value=99.0)}
    better["rfid"] = Measurement(1.0, None, "squared feature units", "lower")
    better["mine"] = Measurement(1.0, None, "unit", None)
    rows = table_rows([card, dataclasses.replace(card, metrics=better)])
    named = {title: {row.name: row for row in own} for title, own in rows.items()}
    assert list(named)[:2] == ["Reconstruction", "Likelihood"]
    assert named["Reconstruction"]["psnr"].best == 1
    assert named["Reconstruction"]["ssim"].best is None
    assert named["Reconstruction"]["rfid"].measured[0] is None
    assert "rfd-pooled" in named["Reconstruction"]
    assert "fd-pooled" in named["Samples from the prior"]
    assert list(named["Other"]) == ["mine"]


def test_the_page_shows_names_as_text(card: Card, map_model: VAE, digits: Split) -> None:
    classes = ("<script>alert(2)</script>", *map(str, range(1, 10)))
    assert digits.labels is not None
    named = digits.with_labels(digits.labels, classes)
    hostile = dataclasses.replace(card, name=HOSTILE, left_out={**card.left_out, "<b>": "</table><i>"})
    picture = draw_comparison({HOSTILE: choose_error_maps(map_model, named)}, title=HOSTILE)
    content = render_card_page([hostile, card], {"<u>": picture})
    assert "<script" not in content
    assert not any(part in content for part in ("<i>", "<u>", "<b>:"))
    read = Reader(content)
    assert "psnr" in read.texts
    assert card.metrics["psnr"].texts()[0] in read.texts
    assert any(digits.content_hash in text for text in read.texts)
    assert all(source.startswith("data:image/png") for source in read.pictures)
    assert len(read.pictures) == 1


def results_of(text: str) -> list[EvalResult]:
    """The results that the Hub reads from a card."""
    return narrow(ModelCardData, ModelCard(text).data).eval_results or []


def test_the_front_matter_is_that_of_a_hub(card: Card) -> None:
    hostile = dataclasses.replace(card, name=HOSTILE)
    for cards in ([card], [hostile, card]):
        text = card_markdown(cards, picture="card.png")
        results = results_of(text)
        found = {(each.dataset_name, each.metric_type): each.metric_value for each in results}
        assert found["digits", "psnr"] == card.metrics["psnr"].value
        assert ("digits", "latent-mean") not in found
        front = yaml.safe_load(text.split("---\n")[1])
        assert front["library_name"] == "convae"
        assert len(front["model-index"]) == len(cards)
        assert "![Reconstructions, error maps and enlarged crops](card.png)" in text
    body = text.partition("\n---\n")[2]
    assert "<script>" not in body.replace("\\<script\\>", "")
    assert "convae.load" in card_markdown([card])


MODELS: dict[str, dict[str, Any]] = {
    "signal": {
        "input": [1, 16],
        "encoder": [{"conv": {"channels": 2, "stride": 2}}],
        "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
    },
    "volume": {
        "input": [2, 8, 8, 8],
        "encoder": [{"conv": {"channels": 2, "stride": 2}}],
        "decoder": [{"conv-transpose": {"channels": 2, "stride": 2}}],
    },
    "color": {
        "input": [3, 40, 34],
        "encoder": [{"conv": {"channels": 2, "stride": 2}}],
        "decoder": [{"conv-transpose": {"channels": 3, "stride": 2}}],
    },
}


def split_of(model: VAE, count: int, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Split:
    monkeypatch.setenv("CONVAE_CACHE", str(shared_cache))
    images = np.random.default_rng(0).random((count, *model.input_shape), np.float32)
    np.save(tmp_path / "images.npy", images)
    channels, *size = model.input_shape
    source = {"arrays": {"path": str(tmp_path / "images.npy"), "channels": "first"}}
    return open_split(DataConfig(source=source, channels=channels, size=tuple(size)), "all")


@pytest.mark.parametrize(("kind", "count"), [("signal", 3), ("volume", 2), ("color", 1)])
def test_any_shape_and_a_single_image_have_a_card(
    kind: str, count: int, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = convae.build({**MODELS[kind], "bottleneck": {"gaussian": {"latent": 2}}}, seed=1).eval()
    split = split_of(model, count, shared_cache, tmp_path, monkeypatch)
    card = plain(measure_card(model, split, features="efficientnet-lite0"))
    assert card.metrics["psnr"].value is not None
    assert "labels" in card.left_out["linear-probe"]
    if kind != "color":
        assert "1 or 3 channels" in card.left_out["rfd"]
        assert "1 or 3 channels" in card.left_out["feature-distance"]
    else:
        assert "at least 2 images" in card.left_out["rfd"]
        assert "feature-distance-efficientnet-lite0" in card.metrics
        assert "ms-ssim" in card.metrics
    if kind == "signal":
        assert "two or more axes" in card.left_out["equivariance-rotation"]
        assert "equivariance-scale" not in card.metrics
    picture = draw_comparison({"a": choose_error_maps(model, split)})
    figure = draw_spectra([card], ["a"])
    assert figure is not None
    content = render_card_page([card], {"Reconstructions": picture, "Power spectra": figure})
    assert len(Reader(content).pictures) == 2
    assert results_of(card_markdown([card]))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_diverged_model_has_a_card(part: str, digits: Split) -> None:
    model = convae.build(MAP).eval()
    with torch.no_grad():
        for parameter in getattr(model, part).parameters():
            parameter.fill_(torch.nan)
    card = plain(measure_card(model, digits, features=FEATURES))
    assert card.metrics["psnr"].not_finite == 202
    assert "rfd-pooled" in card.left_out
    assert ("fd-pooled" in card.left_out) == (part == "decoder")
    assert ("linear-probe" in card.left_out) == (part == "encoder")
    assert not bool(choose_error_maps(model, digits).errors.isfinite().all())
    assert "not finite" in render_card_page([card], {})
    assert "not finite" in card_markdown([card])


def test_a_probe_of_latents_of_known_classes_is_left_out(digits: Split) -> None:
    model = convae.build({**MAP, "condition": {"classes": 10, "channels": 2}}).eval()
    assert "encoder does not see" in measure_card(model, digits).left_out["linear-probe"]


def test_active_units_of_many_values_are_left_out_unless_named(
    map_model: VAE, digits: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "UNIT_LIMIT", len(digits) * map_model.latent_layout.size - 1)
    card = measure_card(map_model, digits, metrics=["active-units"])
    assert "active-channels" in card.left_out["active-channels"]
    assert "active-units" in card.metrics


def test_a_hierarchy_is_decoded_once_along_its_means(monkeypatch: pytest.MonkeyPatch) -> None:
    model = convae.build({"preset": "ladder", "input": [1, 16, 16], "size": "tiny"}, seed=1).eval()
    assert model.is_hierarchical
    batch = EvalBatch(model, torch.rand(3, 1, 16, 16), torch.arange(3), seed=0)
    with torch.no_grad():
        wanted = model.decode(model.encode(batch.images).mean).mean
        monkeypatch.setattr(VAE, "decode", None)
        torch.testing.assert_close(batch.reconstruction.mean, wanted)
    assert batch.posterior is batch.along_means.posterior


def maps_of(make: Callable[[torch.Tensor], torch.Tensor]) -> ErrorMaps:
    images = torch.linspace(0, 1, 64).expand(2, 1, 64, 64).contiguous()
    found = make(images.clone())
    return ErrorMaps(images, found, (images - found).abs().mean(1))


def test_crops_are_where_the_models_err_and_error_maps_share_a_scale() -> None:
    def spoiled(size: float) -> Callable[[torch.Tensor], torch.Tensor]:
        def change(images: torch.Tensor) -> torch.Tensor:
            images[0, 0, 40:48, 8:16] = (images[0, 0, 40:48, 8:16] + size).clamp(0, 1)
            return images

        return change

    one, both = (
        np.asarray(draw_comparison({name: maps_of(spoiled(size)) for name, size in given.items()}))
        for given in ({"a": 0.5}, {"a": 0.5, "b": 0.0})
    )
    assert both.shape[0] > one.shape[0]
    # A model without errors has a black map.
    clean = draw_comparison({"b": maps_of(spoiled(0.0))})
    assert (np.asarray(clean) == np.array([0, 0, 4])).all(-1).sum() > 64 * 64
