"""Health: steps that are not finite are skipped, located and survived; a latent that says nothing is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import present
from torch import Tensor
from training.runs import RECIPE, StopAt, content, model_of

from convae.core.code_usage import CodebookUsage
from convae.core.errors import ArtifactError, TrainingError
from convae.objective.terms.base import LossInputs
from convae.objective.terms.reconstruction import Reconstruction
from convae.training import resume, train
from convae.training.loop.engine import Engine
from convae.training.loop.health import ROLL_BACK_AFTER
from convae.training.loop.trainer import Callback, Trainer
from convae.training.vae.validation import LEAST_IMAGES, LEAST_STEPS, ValidationResult, collapse

PER_EPOCH = 7


def with_training(**options: Any) -> dict[str, Any]:
    return {**RECIPE, "training": {**RECIPE["training"], **options}}


class Spoiler(Callback):
    """Knows the trainer, so that what a test spoils can depend on the state alone."""

    trainer: Trainer

    def on_train_start(self, trainer: Trainer) -> None:
        self.trainer = trainer


def spoil(monkeypatch: pytest.MonkeyPatch, when: Any) -> None:
    """The reconstruction term is not a number when `when(step)` says so, in training alone."""
    forward = Reconstruction.forward

    def spoiled(self: Reconstruction, inputs: LossInputs) -> Tensor:
        costs = forward(self, inputs)
        return costs * float("nan") if torch.is_grad_enabled() and when(inputs.moment.step) else costs

    monkeypatch.setattr(Reconstruction, "forward", spoiled)


class Values(Callback):
    """The model's values after each step."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, Tensor]] = {}

    def on_step_end(self, trainer: Trainer) -> None:
        self.after[trainer.progress.step] = {k: v.clone() for k, v in model_of(trainer).state_dict().items()}


def test_a_step_that_is_not_finite_is_skipped_counted_and_located(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoil(monkeypatch, lambda step: step in (4, 5, 9))
    seen = Values()
    run = train(RECIPE, out=tmp_path / "run", callback=seen)
    assert not run.stopped
    assert run.notes == [
        f"step {step} was skipped: the first non-finite values are in the term reconstruction" for step in (4, 9)
    ]
    assert [row["skipped"] for row in run.metrics if row["split"] == "train"][-1] == 3
    assert all(torch.isfinite(torch.tensor(row["total"])) for row in run.metrics)
    for step in (4, 5, 9):
        before, after = seen.after[step], seen.after[step + 1]
        # Batch norm's statistics are not spoiled either.
        assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not all(torch.equal(value, seen.after[7][name]) for name, value in seen.after[6].items())


@pytest.mark.parametrize("step", [5, 10])
def test_a_run_with_skipped_steps_resumes_bit_for_bit(
    step: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoil(monkeypatch, lambda at: at in (4, 5, 9))
    train(RECIPE, out=tmp_path / "unbroken")
    train(RECIPE, out=tmp_path / "run", callback=StopAt(step))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_many_in_a_row_go_back_to_a_checkpoint_with_half_the_learning_rate_wherever_the_run_was_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class StopSpoiler(Spoiler, StopAt):
        """Both."""

    recipe = with_training(epochs=3, optimizer={"schedule": "constant", "warmup": 0, "lr": 1e-3})
    spoiler = StopSpoiler(0)
    spoil(monkeypatch, lambda step: step >= 9 and not spoiler.trainer.progress.lr_halvings)
    run = train(recipe, out=tmp_path / "unbroken", callback=spoiler)
    for fact in (f"{ROLL_BACK_AFTER} steps", "from step 9 on", f"back to step {PER_EPOCH}", "divided by 2"):
        assert fact in run.notes[-1]
    assert run.metrics[-1]["step"] == 3 * PER_EPOCH
    rates = {row["lr"] for row in run.metrics if row["split"] == "train" and row["step"] > PER_EPOCH}
    assert rates == {5e-4}
    for stops in ((8,), (12, 15), (16, 17, 18)):
        name = "-".join(map(str, stops))
        spoiler.step = stops[0]
        train(recipe, out=tmp_path / name, callback=spoiler)
        for step in (*stops[1:], 0):
            spoiler.step = step
            run = resume(tmp_path / name, callback=spoiler)
        assert not run.stopped
        assert content(tmp_path / name) == content(tmp_path / "unbroken")


def test_before_the_first_checkpoint_it_begins_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spoiler = Spoiler()
    recipe = with_training(epochs=1, batch_size=60, ema=0.9, optimizer={"lr": 1e-3})
    with monkeypatch.context() as patch:
        spoil(patch, lambda step: step >= 2 and not spoiler.trainer.progress.lr_halvings)
        run = train(recipe, out=tmp_path / "run", callback=spoiler)
    assert "went back to step 0" in run.notes[-1]
    half = {**recipe, "training": {**recipe["training"], "optimizer": {"lr": 5e-4}}}
    assert run.metrics == train(half, out=tmp_path / "half").metrics


def test_a_run_that_cannot_be_saved_says_what_to_try(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spoil(monkeypatch, lambda _: True)
    with pytest.raises(TrainingError, match=r"6 roll-backs .* training\.optimizer\.lr"):
        train(with_training(batch_size=60, epochs=1), out=tmp_path / "run")


def test_the_layer_is_named_in_which_values_stop_being_finite(tmp_path: Path) -> None:
    class Breaker(Callback):
        """Breaks a weight once, after the first epoch's checkpoint was written."""

        broken = False

        def on_step_end(self, trainer: Trainer) -> None:
            if trainer.progress.step == 8 and not self.broken:
                self.broken = True
                with torch.no_grad():
                    model_of(trainer).get_parameter("decoder.0.weight")[0, 0] = float("inf")

    sentences: list[str] = []

    class Reader(Breaker):
        def on_message(self, sentence: str) -> None:
            sentences.append(sentence)

    run = train(RECIPE, out=tmp_path / "run", callback=Reader())
    assert sentences[0] == "step 8 was skipped: the first non-finite values are in decoder.0 (Linear)"
    assert f"went back to step {PER_EPOCH}" in sentences[1]
    assert not run.stopped


def scaled(monkeypatch: pytest.MonkeyPatch, factor: float, when: Any, trains: bool = True) -> None:
    """The reconstruction term is `factor` times too large when `when(step)` says so."""
    forward = Reconstruction.forward

    def larger(self: Reconstruction, inputs: LossInputs) -> Tensor:
        costs = forward(self, inputs)
        return costs * factor if torch.is_grad_enabled() == trains and when(inputs.moment.step) else costs

    monkeypatch.setattr(Reconstruction, "forward", larger)


@pytest.mark.parametrize("factor", [1e9, 1e17])
def test_a_finite_total_that_makes_no_sense_is_skipped_and_named(
    factor: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scaled(monkeypatch, factor, lambda step: step in (4, 5))
    seen = Values()
    run = train(with_training(epochs=1), out=tmp_path / "run", callback=seen)
    (note,) = run.notes
    assert note.startswith("step 4 was skipped")
    assert "reconstruction is" in note
    assert run.metrics[-2]["skipped"] == 2
    assert all(torch.equal(value, seen.after[6][name]) for name, value in seen.after[4].items())


def test_many_totals_that_make_no_sense_go_back_with_half_the_learning_rate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spoiler = Spoiler()
    scaled(monkeypatch, 1e12, lambda step: step >= 9 and not spoiler.trainer.progress.lr_halvings)
    run = train(with_training(epochs=3), out=tmp_path / "run", callback=spoiler)
    for fact in (f"back to step {PER_EPOCH}", "divided by 2", "training.optimizer.lr", "training.optimizer.clip"):
        assert fact in run.notes[-1]


def test_large_totals_from_the_beginning_are_no_nonsense(tmp_path: Path) -> None:
    """A Gaussian of a small standard deviation has millions of nats at first."""
    model = {**RECIPE["model"], "likelihood": {"gaussian": {"sigma": 0.002}}}
    run = train({**with_training(epochs=1), "model": model}, out=tmp_path / "run")
    assert run.metrics[0]["total"] > 1e5
    assert run.notes == []


def test_statistics_that_are_not_finite_are_seen_though_the_loss_is(tmp_path: Path) -> None:
    class Breaker(Callback):
        """Breaks a running variance inside one pass."""

        def on_train_start(self, trainer: Trainer) -> None:
            self.trainer = trainer
            model_of(trainer).get_submodule("encoder.1").register_forward_hook(self.look)

        def look(self, layer: torch.nn.Module, *_: object) -> None:
            if layer.training and self.trainer.progress.step in (4, 5):  # and when step 4 is run again
                layer.get_buffer("running_var").data[0] = float("inf")

    run = train(with_training(epochs=1), out=tmp_path / "run", callback=Breaker())
    assert run.notes == ["step 4 was skipped: the first non-finite values are in the statistics encoder.1.running_var"]
    assert all(value.isfinite().all() for value in run.last.state_dict().values())


@pytest.mark.parametrize("step", [PER_EPOCH, 3 * PER_EPOCH])
def test_weights_that_are_not_finite_are_never_saved(
    step: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stepped = Engine.step
    broken: list[int] = []

    def breaking(engine: Engine, batch: Any, clocks: Any, *more: Any) -> Any:
        result = stepped(engine, batch, clocks, *more)
        if clocks.training.step == step - 1 and not broken:
            broken.append(step)
            with torch.no_grad():
                engine.steps[0].update.module.get_parameter("decoder.0.weight")[0, 0] = float("inf")
        return result

    monkeypatch.setattr(Engine, "step", breaking)
    run = train(with_training(epochs=3), out=tmp_path / "run")
    for fact in ("decoder.0.weight", "non-finite", f"back to step {step - PER_EPOCH}"):
        assert fact in run.notes[-1]
    assert not run.stopped


@pytest.mark.parametrize("factor", [1e6, float("nan")])
def test_a_model_that_diverged_is_never_the_best(
    factor: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scaled(monkeypatch, factor, lambda step: step != 2 * PER_EPOCH, trains=False)
    run = train(with_training(epochs=4), out=tmp_path / "run")
    assert run.best_step == 2 * PER_EPOCH
    first, second = run.notes  # each time it begins
    assert f"after step {PER_EPOCH} has diverged" in first
    assert f"after step {3 * PER_EPOCH} has diverged" in second
    assert "training.optimizer.lr" in first


def test_a_run_that_only_diverged_gives_the_last_model_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scaled(monkeypatch, 1e9, lambda _: True, trains=False)
    run = train(with_training(epochs=1), out=tmp_path / "run")
    assert present(run.last.provenance.training).step == PER_EPOCH
    with pytest.raises(ArtifactError):
        run.model  # noqa: B018
    assert run.best == {}


def test_validation_rows_tell_what_the_latent_is_used_for(tmp_path: Path) -> None:
    run = train(RECIPE, out=tmp_path / "run")
    for row in (row for row in run.metrics if row["split"] == "validation"):
        assert len(row["kl_per_unit"]) == 3
        assert sum(row["kl_per_unit"]) == pytest.approx(row["kl"], abs=1e-4)
        assert 0 <= row["active_units"] <= 3


def test_posterior_collapse_is_named_once_with_a_remedy(tmp_path: Path) -> None:
    fast = with_training(epochs=6, batch_size=50, optimizer={"lr": 0.02})
    recipe = {**fast, "objective": {"reconstruction": {}, "kl": {"weight": 1e3}}}
    run = train(recipe, out=tmp_path / "run")
    (note,) = run.notes
    assert note.startswith("posterior collapse: ")
    assert "lower objective.kl.weight" in note


def measured(images: int = 100, kl: float = 5.0, active: int = 3, perplexity: float | None = None) -> ValidationResult:
    codebooks = [] if perplexity is None else [CodebookUsage("", 512, 512, perplexity)]
    return ValidationResult(images, {}, kl, [], active, 16, codebooks=codebooks, accuracy=None)


@pytest.mark.parametrize(("kl", "active", "named"), [(5.0, 3, False), (0.01, 3, True), (5.0, 0, True)])
def test_collapse_is_a_latent_that_says_nothing(kl: float, active: int, named: bool) -> None:
    sentence = collapse(measured(kl=kl, active=active), LEAST_STEPS)
    assert (sentence is not None) == named
    # It never says that latent values are active and that they say nothing at once.
    assert sentence is None or ("active" in sentence) == (active == 0)


def test_the_latents_of_a_hierarchy_that_collapsed_are_named() -> None:
    found = replace(measured(), kl_per_latent={"latent": 4.9, "latent 1": 0.01, "latent 2": 0.09})
    sentence = present(collapse(found, LEAST_STEPS))
    assert "latent 1, latent 2" in sentence
    assert "free-bits" in sentence
    assert collapse(replace(found, kl_per_latent={"latent": 4.9, "latent 1": 0.1}), LEAST_STEPS) is None


def test_a_posterior_is_not_diagnosed_in_the_first_steps() -> None:
    assert collapse(measured(kl=0.0, active=0), LEAST_STEPS - 1) is None


@pytest.mark.parametrize("few", [1, 2, 10, LEAST_IMAGES - 1])
def test_collapse_is_not_diagnosed_from_a_handful_of_images(few: int) -> None:
    for images, is_diagnosed in ((few, False), (LEAST_IMAGES, True)):
        assert (collapse(measured(images, kl=0.0, active=0), LEAST_STEPS) is not None) == is_diagnosed
        assert (collapse(measured(images, perplexity=1.0), 1) is not None) == is_diagnosed


def test_a_picture_that_cannot_be_drawn_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from convae.model.vae import VAE

    monkeypatch.setattr(VAE, "sample", lambda _self, n, *_, **__: torch.full((n, 1, 8, 8), float("nan")))
    run = train(with_training(epochs=1, pictures_every=1), out=tmp_path / "run")
    assert not run.stopped
    assert run.notes[0].startswith("the pictures of epoch 1 cannot be drawn: ")


def test_the_share_of_clipped_steps_is_reported(tmp_path: Path) -> None:
    fractions = {}
    for clip in (1e-3, 1e9):
        run = train(with_training(epochs=1, optimizer={"clip": clip}), out=tmp_path / str(clip))
        fractions[clip] = {row["clipped"] for row in run.metrics if row["split"] == "train"}
        assert all(row["gradient_norm"] > clip for row in run.metrics if row["split"] == "train") == (clip < 1)
    assert fractions == {1e-3: {1.0}, 1e9: {0.0}}


def test_steps_with_a_large_gradient_change_nothing_and_are_reported(tmp_path: Path) -> None:
    weights = []
    for limit in (1e-6, 1e9):
        watcher = Values()
        run = train(
            with_training(epochs=1, optimizer={"skip_above": limit}), out=tmp_path / str(limit), callback=watcher
        )
        assert {row["above_limit"] for row in run.metrics if row["split"] == "train"} == {float(limit < 1)}
        weights.append(watcher.after)
    assert all(torch.equal(value, weights[0][1][name]) for name, value in weights[0][PER_EPOCH].items())
    assert not all(torch.equal(value, weights[1][1][name]) for name, value in weights[1][PER_EPOCH].items())


def test_steps_of_the_model_above_the_limit_are_not_those_of_a_discriminator(tmp_path: Path) -> None:
    # The gradient of the model is of nats summed over an image, that of the discriminator of a mean.
    recipe = with_training(epochs=1, optimizer={"skip_above": 10.0})
    discriminator = {"patch": {"channels": 4, "layers": 1}}
    recipe["objective"] = {"reconstruction": {}, "kl": {}, "adversarial": {"discriminator": discriminator}}
    rows = [row for row in train(recipe, out=tmp_path / "run").metrics if row["split"] == "train"]
    assert all(row["gradient_norm"] > 10 > row["adversarial_gradient_norm"] for row in rows)
    assert {(row["above_limit"], row["adversarial_above_limit"]) for row in rows} == {(1.0, 0.0)}


def test_the_table_holds_the_figures_of_the_log(tmp_path: Path) -> None:
    import csv

    run = train(with_training(epochs=1), out=tmp_path / "run")
    with (run.path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(run.metrics)
    for line, row in zip(table, run.metrics, strict=True):
        assert float(line["total"]) == row["total"]
        assert "kl_per_unit" not in line
    assert json.dumps(run.metrics)
