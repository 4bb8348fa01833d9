"""The plan: every stage, weight and learning rate, replayed without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convae.core.errors import ConfigError
from convae.training.recipe.plan import Plan
from convae.training.recipe.reading import read_recipe
from convae.training.recipe.stages import build_plan

RECIPES = Path(__file__).parents[2] / "src" / "convae" / "recipes"
PER_EPOCH = 7


def planned(**recipe: Any) -> Plan:
    return build_plan(read_recipe({"data": "digits", "model": "torch-vae", **recipe}), PER_EPOCH)


def beta(epoch: float) -> float:
    """The weight of the KL divergence as the original system documents it."""
    if epoch < 500:
        return 0.0
    if epoch < 600:
        return (epoch - 500) / 100
    return 1.0 + sum(epoch >= stair for stair in (800, 1000, 1200, 1400))


def test_two_stage_is_the_original_schedule_at_each_step_of_1500_epochs_and_after() -> None:
    per_epoch = 2
    made = build_plan(read_recipe(RECIPES / "two-stage.yaml"), per_epoch)
    joint, decoder = made.stages
    assert (joint.steps, joint.freeze) == (1500 * per_epoch, ())
    assert set(decoder.freeze) == {"encoder", "bottleneck"}
    for step in range(made.total_steps([0])):
        stage_starts, epoch = made.stage_starts(step), step / per_epoch
        weights, rate = made.weights(stage_starts, step), made.learning_rate(stage_starts, step)
        assert made.current_stage(stage_starts) is (joint if epoch < 1500 else decoder)
        assert weights["reconstruction"] == 1
        assert weights["kl"] == pytest.approx(beta(epoch) if epoch < 1500 else 0.0, abs=1e-12)
        assert rate == pytest.approx(1e-4 if epoch < 1000 else 1e-5, rel=1e-12)


def test_stage_two_begins_when_stage_one_has_stabilized() -> None:
    made = build_plan(read_recipe(RECIPES / "two-stage.yaml"), PER_EPOCH)
    stage_starts = [0, 1430 * PER_EPOCH]
    assert made.current_stage(stage_starts).name == "decoder"
    assert made.total_steps(stage_starts) == 1630 * PER_EPOCH
    assert made.weights(stage_starts, stage_starts[1])["kl"] == 0


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_has_a_plan(recipe: Path) -> None:
    changes = ["objective.perceptual.network=efficientnet-lite0"] if recipe.stem == "fashion-perceptual" else []
    made = build_plan(read_recipe(recipe, changes), PER_EPOCH)
    assert made.total_steps([0]) == sum(stage.steps for stage in made.stages)
    for step in range(0, made.total_steps([0]), PER_EPOCH):
        assert made.learning_rate(made.stage_starts(step), step) > 0


def test_a_stages_schedules_begin_with_it_and_the_recipes_with_the_training() -> None:
    made = planned(
        objective={"reconstruction": {"weight": {"linear": {"epochs": 8}}}, "kl": 1},
        stages=[{"epochs": 4}, {"epochs": 4, "objective": {"kl": {"weight": {"linear": {"epochs": 4}}}}}],
    )
    halfway = 6 * PER_EPOCH
    assert made.weights([0, 4 * PER_EPOCH], halfway) == {"reconstruction": 0.75, "kl": 0.5}
    # Stage one ended early: the stage's clock moves with it, the training's does not.
    assert made.weights([0, 5 * PER_EPOCH], halfway) == {"reconstruction": 0.75, "kl": 0.25}


def test_a_stage_changes_a_term_option_by_option() -> None:
    made = planned(
        objective={"reconstruction": {}, "kl": {"weight": 3.0}, "free-bits": {"nats": 2.0, "weight": 5.0}},
        stages=[{"epochs": 1}, {"epochs": 1, "objective": {"free-bits": {"nats": 1.0}}}],
    )
    assert (
        made.weights([0], 0)
        == made.weights([0, PER_EPOCH], PER_EPOCH)
        == {"reconstruction": 1, "kl": 3, "free-bits": 5}
    )


def test_an_optimizer_goes_on_until_another_begins() -> None:
    made = planned(
        training={"optimizer": {"warmup": 0, "lr": 0.1, "schedule": {"linear": {"start": 1, "end": 0}}}},
        stages=[{"epochs": 2}, {"epochs": 2}, {"epochs": 2, "optimizer": {"lr": 0.3}}, {"epochs": 4}],
    )
    assert [stage.has_new_optimizer for stage in made.stages] == [True, False, True, False]
    rates = [made.learning_rate(made.stage_starts(epoch * PER_EPOCH), epoch * PER_EPOCH) for epoch in range(10)]
    first = [0.1 * (1 - epoch / 4) for epoch in range(4)]
    assert rates == pytest.approx(first + [0.3 * (1 - epoch / 6) for epoch in range(6)])


def test_a_new_optimizer_warms_up_on_its_own_clock() -> None:
    made = planned(
        training={"optimizer": {"warmup": 0, "schedule": "constant", "lr": 1.0}},
        stages=[{"epochs": 2}, {"steps": 10, "optimizer": {"warmup": 0.5}}],
    )
    begin = 2 * PER_EPOCH
    assert [made.learning_rate([0, begin], begin + step) for step in range(6)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1, 1]
    )


def test_overrides_may_be_written_in_short_forms() -> None:
    written = read_recipe(
        {"data": "digits", "objective": {"kl": 2}, "stages": [{"epochs": 1, "objective": {"kl": 3}}]},
        ["objective.kl=0.5", "objective.sparse=1", "data=mnist", "model=dcgan", "stages.0.objective.kl=4"],
    )
    assert written.objective["kl"] == {"weight": 0.5}
    assert written.objective["sparse"] == {"weight": 1}
    assert (written.data.source, written.model["preset"]) == ("mnist", "dcgan")
    assert written.stages[0].objective["kl"] == {"weight": 4}


def test_a_training_without_stages_has_one_stage() -> None:
    assert [stage.steps for stage in planned().stages] == [10 * PER_EPOCH]
    assert [stage.steps for stage in planned(training={"steps": 3}).stages] == [3]
    assert planned(training={"epochs": 2}).total_steps([0]) == 2 * PER_EPOCH


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"stages": [{"name": "a"}]}, r"stages\.0: .*length"),
        ({"stages": [{"epochs": 1, "steps": 1}]}, r"stages\.0: .*length"),
        ({"stages": [{"epochs": 1}], "training": {"epochs": 3}}, r"training\.epochs"),
        (
            {"stages": [{"epochs": 1, "until": {"plateau": {"metric": "kll"}}}]},
            r"stages\.0\.until\.plateau\.metric: .*'kl'",
        ),
        ({"stages": [{"epochs": 1, "objective": {"kll": {}}}]}, r"stages\.0\.objective\.kll: .*did you mean 'kl'"),
        ({"stages": [{"epochs": 1, "optimizer": {"rate": 1}}]}, r"stages\.0\.optimizer: unknown key 'rate'"),
        ({"stages": [{"epochs": 1, "until": {"plateux": {}}}]}, "did you mean 'plateau'"),
    ],
)
def test_invalid_plans_are_an_error(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(**recipe)


def test_the_strength_of_augmentation_is_a_schedule_with_one_value_for_each_epoch() -> None:
    made = planned(training={"epochs": 4, "augmentation": {"linear": {"start": 1.0, "end": 0.0}}})
    assert [made.augmentation_strength(epoch) for epoch in range(4)] == pytest.approx([1, 0.75, 0.5, 0.25])
    assert planned().augmentation_strength(3) == 1


def test_the_temperature_of_latents_is_a_schedule_on_the_clock_of_the_training() -> None:
    made = planned(training={"epochs": 4, "temperature": {"linear": {"epochs": 2}}})
    stage_starts = made.stage_starts()
    values = [made.temperature(made.clocks(stage_starts, step).training) for step in (0, made.steps_per_epoch)]
    assert values == pytest.approx([0, 0.5])
    assert planned().temperature(made.clocks(stage_starts, 0).training) == 1


DOWN = {"linear": {"start": 1.0, "end": -1.0}}


@pytest.mark.parametrize(
    ("recipe", "where"),
    [
        ({"objective": {"reconstruction": {}, "kl": -1}}, "objective.kl.weight"),
        ({"objective": {"reconstruction": {}, "kl": {"weight": DOWN}}}, "objective.kl.weight"),
        ({"objective": {"reconstruction": {}, "kl": {"weight": {"sum": {"of": [1, -2]}}}}}, "objective.kl.weight"),
        ({"stages": [{"steps": 3}, {"steps": 3, "objective": {"kl": -1e-9}}]}, "stages.1.objective.kl.weight"),
        ({"training": {"optimizer": {"schedule": DOWN}}}, "training.optimizer.schedule"),
        ({"stages": [{"steps": 9, "optimizer": {"schedule": DOWN}}]}, "stages.0.optimizer.schedule"),
        ({"training": {"temperature": DOWN}}, "training.temperature"),
        ({"training": {"augmentation": DOWN}}, "training.augmentation"),
    ],
)
def test_what_would_train_for_the_opposite_is_refused(recipe: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as told:
        planned(**recipe)
    assert str(told.value).startswith(f"{where}: ")
