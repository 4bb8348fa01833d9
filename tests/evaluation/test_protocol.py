"""Figures over a whole split are exact, repeatable, and say what they depend on."""

from __future__ import annotations

import json
import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from evaluation.conftest import Linear

import convae
from convae.core.errors import ConfigError, ShapeError
from convae.data import DataConfig, Split, open_split
from convae.evaluation import CountMetric, ImageMetric, evaluate
from convae.evaluation.metrics.psnr import PSNR
from convae.latents import EvalBatch
from convae.model.fingerprint import fingerprint
from convae.model.vae import VAE


def images_of(split: Split) -> torch.Tensor:
    return split.images(list(range(len(split)))).float() / 255


class Columns(ImageMetric):
    """Three numbers for each image."""

    unit: ClassVar = "1"
    better: ClassVar = None

    def rows(self, batch: EvalBatch) -> torch.Tensor:
        return torch.ones(len(batch.images), 3)


class Undefined(CountMetric):
    """A fraction of nothing, and one of something."""

    unit: ClassVar = "1"
    better: ClassVar = None

    def counts(self, batch: EvalBatch) -> dict[str, torch.Tensor]:
        return {"images": torch.tensor(len(batch.images))}

    def measure(self, counts: Any) -> dict[str, float]:
        return {"nothing": math.nan, "images": float(counts["images"])}


def test_several_values_need_a_metric_that_states_them(model: VAE, digits: Split) -> None:
    with pytest.raises(ConfigError, match="per_value"):
        evaluate(model, digits, metrics=[f"{__name__}:Columns"])


def test_a_part_without_a_value_is_null(model: VAE, digits: Split) -> None:
    name = f"{__name__}:Undefined"
    report = evaluate(model, digits, metrics=[name])
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))[name]["value"] == [None, 202]
    assert report.metrics[name].texts() == ("images: 202", "")


def test_mse_and_psnr_are_the_means_over_all_images_of_what_numpy_finds(model: VAE, digits: Split) -> None:
    report = evaluate(model, digits, metrics=["mse", "psnr"], batch_size=70)  # 202 images: the last batch has 62
    images = images_of(digits)
    with torch.no_grad():
        model.eval()
        decoded = model.decode(model.encode(images).mean).mean
    errors = np.square(images.double().numpy() - decoded.double().numpy()).reshape(202, -1).mean(1)
    assert report.metrics["mse"].value == pytest.approx(errors.mean(), rel=1e-6)
    assert report.metrics["psnr"].value == pytest.approx(np.mean(-10 * np.log10(errors)), rel=1e-6)


def test_an_exact_reconstruction_has_100_db(linear: Linear) -> None:
    with torch.no_grad():
        next(linear.model.decoder.parameters()).zero_()  # which leaves the bias
    images = linear.bias.expand(2, 64).reshape(2, 1, 8, 8)
    assert PSNR().rows(EvalBatch(linear.model, images, torch.arange(2), 0)).tolist() == [100, 100]


def test_neither_the_size_of_batches_nor_the_company_changes_a_figure(model: VAE, digits: Split) -> None:
    once, again = (evaluate(model, digits, metrics=["all"], batch_size=size) for size in (202, 37))
    assert once.protocol == again.protocol
    for name, rows in once.rows.items():
        torch.testing.assert_close(rows, again.rows[name], rtol=1e-4, atol=1e-5)


def test_equal_seeds_give_equal_figures_and_others_give_others(model: VAE, digits: Split) -> None:
    first, second, other = (evaluate(model, digits, metrics=["elbo", "mse"], seed=seed) for seed in (1, 1, 2))
    assert first.as_dict() == second.as_dict()
    assert first.metrics["elbo"] != other.metrics["elbo"]
    # Nothing is drawn for it, and only the bootstrap moves its interval.
    assert first.metrics["mse"].value == other.metrics["mse"].value


def test_the_parts_of_the_negative_elbo_add_up(model: VAE, digits: Split) -> None:
    found = evaluate(model, digits).rows
    torch.testing.assert_close(found["reconstruction"] + found["kl"], -found["elbo"], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(found["kl-per-unit"].sum(1), found["kl"], rtol=1e-5, atol=1e-6)


def test_the_report_is_json_with_value_interval_unit_and_protocol(model: VAE, digits: Split) -> None:
    written = json.loads(json.dumps(evaluate(model, digits, seed=3).as_dict(), allow_nan=False))
    low, high = written["psnr"]["interval"]
    assert low < written["psnr"]["value"] < high
    assert written["psnr"]["unit"] == "dB"
    assert len(written["kl-per-unit"]["value"]) == len(written["kl-per-unit"]["interval"][0]) == 3
    protocol = written["protocol"]
    assert protocol["data"] == json.loads(json.dumps(digits.describe()))
    assert {"content_hash", "split", "count", "size", "resize_mode"} <= set(protocol["data"])
    assert protocol["model"] == {"name": "vae", "sha256": fingerprint(model)}
    assert (protocol["seed"], protocol["convae"]) == (3, convae.__version__)


def test_the_fingerprint_follows_the_weights(model: VAE) -> None:
    before = fingerprint(model)
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    assert fingerprint(model) != before


def test_a_model_in_training_mode_is_evaluated_in_evaluation_mode(model: VAE, digits: Split) -> None:
    batch_statistics = {name: value.clone() for name, value in model.named_buffers()}
    figures = evaluate(model.train(), digits, metrics=["mse"]).metrics
    assert all(torch.equal(value, batch_statistics[name]) for name, value in model.named_buffers())
    assert figures == evaluate(model.eval(), digits, metrics=["mse"]).metrics


def test_one_image_has_no_interval(model: VAE) -> None:
    one = open_split(DataConfig(source="digits", test=1e-4), "test")
    figure = evaluate(model, one, metrics=["mse"]).metrics["mse"]
    assert len(one) == 1
    assert figure.interval is None
    assert isinstance(figure.value, float)


def test_metrics_that_overflow_become_null(model: VAE, digits: Split) -> None:
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(float("inf"))
    written = evaluate(model, digits, metrics=["elbo"]).as_dict()
    assert written["elbo"]["value"] is None
    json.dumps(written, allow_nan=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metrics": ["pnsr"]}, "unknown metric 'pnsr': did you mean 'psnr'"),
        ({"metrics": ["bits-per-dimension"]}, "'bits-per-dimension' .* model 'vae'"),
        ({"options": {"nll": {"samples": 0}}}, "metric nll"),
        ({"options": {"nll": {"k": 5}}}, "samples"),
    ],
)
def test_invalid_metrics_are_named(model: VAE, digits: Split, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(model, digits, **given)


def test_images_of_another_shape_are_an_error(digits: Split) -> None:
    with pytest.raises(ShapeError, match=r"1×28×28.*1×8×8"):
        evaluate(convae.build({"preset": "torch-vae", "input": [1, 28, 28]}), digits)


def test_options_ask_for_their_metric_beside_the_others(model: VAE, digits: Split) -> None:
    report = evaluate(model, digits, options={"nll": {"samples": 2}})
    assert report.protocol["metrics"]["nll"] == {"samples": 2}
    assert {"nll", "elbo", "mse"} <= set(report.metrics)
    assert "nll" not in evaluate(model, digits).metrics
