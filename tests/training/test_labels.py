"""Few labels: how many are kept, of which classes, and what a classifier on the latent learns of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from narrow import narrow, present
from torch.nn import functional as F
from training.runs import RECIPE, StopAt, content

from convae.core.errors import ConfigError, ShapeError
from convae.core.types import MISSING_LABEL
from convae.data import DataConfig, in_order, open_split
from convae.data.splits.labels import mask_labels
from convae.evaluation import evaluate
from convae.training import resume, train
from convae.training.recipe.reading import read_recipe
from convae.training.vae.build import build_task

CLASSIFIER: list[Any] = [{"linear": {"features": 32}}, "relu", {"linear": {"features": 10}}]
CLASSIFYING: dict[str, Any] = {
    **RECIPE,
    "model": {**RECIPE["model"], "bottleneck": {"gaussian": {"latent": 8}}, "classifier": CLASSIFIER},
    "objective": {"reconstruction": {}, "kl": {}, "classification": {"weight": 20.0}},
    "training": {**RECIPE["training"], "epochs": 6, "batch_size": 50, "optimizer": {"lr": 1e-2}},
}


@given(labels=st.lists(st.integers(-1, 4), min_size=1, max_size=60), kept=st.integers(1, 70), seed=st.integers(0, 3))
def test_as_many_labels_of_each_class_are_kept(labels: list[int], kept: int, seed: int) -> None:
    values = np.array(labels, np.int64)
    known = values != MISSING_LABEL
    found = mask_labels(values, kept, seed)
    shown = found != MISSING_LABEL
    assert shown.sum() == min(kept, known.sum())
    assert (found[shown] == values[shown]).all()
    counts = {label: int((found == label).sum()) for label in set(labels) - {MISSING_LABEL}}
    for label, count in counts.items():
        assert count >= max(counts.values()) - 1 or count == (values == label).sum()


def test_a_share_is_a_share_and_more_labels_are_those_and_others() -> None:
    values = np.arange(1000, dtype=np.int64) % 10
    few, more = mask_labels(values, 0.05, 7), mask_labels(values, 100, 7)
    assert (few != MISSING_LABEL).sum() == 50
    assert (more[few != MISSING_LABEL] != MISSING_LABEL).all()
    assert not np.array_equal(few, mask_labels(values, 0.05, 8))
    assert np.array_equal(mask_labels(values, 1.0, 7), values)
    assert (mask_labels(values, 1, 7) != MISSING_LABEL).sum() == 1


@pytest.mark.parametrize("labels", [0, -0.1, 1.5, 0.0])
def test_a_share_of_labels_is_no_more_than_all(labels: float) -> None:
    with pytest.raises(ConfigError, match=r"training\.labels"):
        read_recipe({**CLASSIFYING, "training": {"labels": labels}})


def test_training_sees_the_kept_labels_alone() -> None:
    made = build_task(read_recipe({**CLASSIFYING, "training": {"labels": 30, "batch_size": 100}}))
    seen = torch.cat([batch.labels for batch in made.batches.iterate(0, 0) if batch.labels is not None])
    assert 0 < (seen != MISSING_LABEL).sum() <= 30
    assert (torch.bincount(seen[seen != MISSING_LABEL]) <= 3).all()


def test_labeled_images_are_drawn_into_every_batch() -> None:
    options = {"labels": 30, "labeled": {"fraction": 0.2}, "batch_size": 100}
    made = build_task(read_recipe({**CLASSIFYING, "training": options}))
    for batch in made.batches.iterate(0, 0):
        assert (present(batch.labels) != MISSING_LABEL).sum() >= 20
        assert present(batch.labeled_fraction) >= 0.2


def test_labeled_images_to_draw_must_exist(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8))
    with pytest.raises(ConfigError, match=r"training\.labeled: no training image has a label"):
        build_task(
            read_recipe(
                {**RECIPE, "data": {"source": str(tmp_path / "x.npy"), "validation": 0.5}, "training": {"labeled": {}}}
            )
        )
    for fraction in (0, 1, 1.5, "half"):
        with pytest.raises(ConfigError, match=r"training\.labeled\.fraction"):
            read_recipe({**CLASSIFYING, "training": {"labeled": {"fraction": fraction}}})


def test_the_classifier_learns_from_the_labels_and_its_accuracy_is_reported(tmp_path: Path) -> None:
    run = train(CLASSIFYING, out=tmp_path / "run")
    accuracies = [row["accuracy"] for row in run.metrics if row["split"] == "validation"]
    assert accuracies[-1] > 0.5
    model = run.model
    with torch.no_grad():
        assert model.classify(torch.zeros(2, 8)).shape == (2, 10)
    digits = open_split(DataConfig(source="digits"), "test")
    batch = next(in_order(digits, len(digits)))
    with torch.no_grad():
        named = model.classify(model.encode(batch.images).mean).argmax(1)
    accuracy = narrow(float, evaluate(model, digits, metrics=["accuracy"]).metrics["accuracy"].value)
    assert accuracy == pytest.approx((named == present(batch.labels)).float().mean().item())
    assert accuracy > 0.5


def test_a_run_with_few_labels_resumes_bit_for_bit(tmp_path: Path) -> None:
    labeled = {"fraction": 0.3, "augment": {"shift": 0.1, "rotation": 10}}
    options = {**CLASSIFYING["training"], "labels": 0.05, "labeled": labeled, "epochs": 2}
    recipe = {**CLASSIFYING, "training": options}
    train(recipe, out=tmp_path / "unbroken")
    train(recipe, out=tmp_path / "run", callback=StopAt(20))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_the_validation_of_a_classifier_is_the_mean_over_labeled_images(tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    labels = source.integers(0, 10, 60)
    labels[5:45] = MISSING_LABEL  # batches have different numbers of labels, or none
    images, held = source.random((2, 60, 1, 8, 8), np.float32)
    model = {**CLASSIFYING["model"], "bottleneck": {"deterministic": {"latent": 8}}}
    recipe = {
        "model": model,
        "objective": {"reconstruction": {}, "classification": {}},
        "training": {"steps": 1, "batch_size": 10, "pictures_every": 0, "precision": "float32"},
    }
    run = train(recipe, data=images, labels=labels, validation=(held, labels), out=tmp_path / "run")
    (row,) = [row for row in run.metrics if row["split"] == "validation"]
    with torch.no_grad():
        logits = run.model.classify(run.model.encode(torch.from_numpy(held)).mean)
    wanted = F.cross_entropy(logits, torch.from_numpy(labels), ignore_index=MISSING_LABEL)
    assert row["classification"] == pytest.approx(float(wanted), rel=1e-5)


def test_a_preset_takes_a_classifier() -> None:
    model = {"preset": "torch-vae", "input": [1, 8, 8], "latent": 4, "classifier": [{"linear": {"features": 10}}]}
    objective = {"reconstruction": 1, "kl": 1, "classification": 1}
    made = build_task(read_recipe({"data": "digits", "model": model, "objective": objective}))
    assert made.model.classifier is not None
    assert made.model.spec.model_dump()["classifier"] == [{"linear": {"features": 10}}]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": RECIPE["model"]}, ConfigError, "no classifier"),
        ({"model": {**CLASSIFYING["model"], "classifier": [{"linear": {"features": 4}}]}}, ConfigError, "4 classes"),
        ({"model": {**CLASSIFYING["model"], "classifier": [{"unflatten": {"to": [2, 4]}}]}}, ShapeError, "classifier"),
        ({"objective": {"ms-ssim": {}}}, ShapeError, r"objective\.ms-ssim"),
        ({"training": {"labels": 100_000}}, ConfigError, r"^training\.labels: 100,000 .* 1,432 "),
    ],
)
def test_what_does_not_go_together_is_told_before_a_run(
    change: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        train({**CLASSIFYING, **change}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_drawn_images_with_missing_values_are_not_augmented(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((20, 1, 8, 8), np.float32)
    images[:, :, :, :3] = np.nan
    np.savez(tmp_path / "x.npz", images=images, labels=np.arange(20) % 2)
    data = {"source": {"arrays": {"path": str(tmp_path / "x.npz"), "channels": "first"}}, "missing": "nan"}
    labeled: dict[str, Any] = {"augment": {"flip": 0.5}}
    recipe = {**CLASSIFYING, "data": data, "training": {"steps": 1, "labeled": labeled}}
    with pytest.raises(ConfigError, match=r"training\.labeled\.augment.*missing values"):
        build_task(read_recipe(recipe))
    labeled["augment"] = {}
    build_task(read_recipe(recipe))
