"""The largest batch: by a line and one probe, which cannot wreck the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import run
from training.runs import RECIPE, StopAt

from convae.core.errors import ConfigError
from convae.describe import resolve
from convae.training import memory, train
from convae.training.memory import Memory, estimate_memory, find_batch_size, fit_line
from convae.training.memory_probe import measure_memory
from convae.training.recipe.reading import read_recipe
from convae.training.recipe.schema import Recipe

MIB = 1 << 20
CPU = {"device": "cpu", "precision": "float32"}


def recipe(**training: object) -> Recipe:
    model = {"preset": "torch-vae", "input": [1, 16, 16], "latent": 2, "max_filters": 8}
    return read_recipe({"data": "digits", "model": model, "training": {**CPU, **training}})


def test_a_line_goes_through_what_was_measured() -> None:
    line = fit_line({10: 300, 20: 500})
    assert (line.fixed, line.per_image) == pytest.approx((100, 20))
    assert line.bytes(30) == 700
    assert line.largest(719) == 30
    assert line.largest(90) == 0
    assert fit_line({2: 100, 4: 100}).largest(1000) > 0


def test_checkpointing_is_estimated_to_keep_less() -> None:
    spec = {"preset": "torch-vae", "input": [1, 32, 32]}
    kept, again = (estimate_memory(resolve(spec), checkpointing) for checkpointing in (False, True))
    assert again.per_image < 0.8 * kept.per_image
    assert again.fixed == pytest.approx(kept.fixed, rel=0.01)


@pytest.mark.parametrize(
    ("bend", "ended", "error"),
    [(1.0, False, 0.0), (1.05, False, 0.05), (1.5, False, 0.33), (1.5, True, None)],
    ids=["a line", "a little more", "more than it may", "ended"],
)
def test_the_largest_batch_is_what_the_probe_confirms(
    monkeypatch: pytest.MonkeyPatch, bend: float, ended: bool, error: float | None
) -> None:
    tried: list[int] = []
    # More than by the shapes, as always: operations take buffers for themselves.
    real = Memory(300 * MIB, 1.5 * estimate_memory(resolve(recipe().model)).per_image)

    def take(_recipe: Recipe, batch_size: int, _limit: int) -> int | None:
        tried.append(batch_size)
        taken = real.bytes(batch_size)
        if len(tried) < 3:
            return taken
        return None if ended else round(taken * bend)

    monkeypatch.setattr(memory, "measure_memory", take)
    budget = 1000 * MIB
    found = find_batch_size(recipe(), budget)
    assert len(tried) == 3
    assert tried[2] == found.probed == real.largest(900 * MIB)
    assert found.error == (None if error is None else pytest.approx(error, abs=0.01))
    if found.taken is not None and found.taken <= budget:
        assert found.batch_size == found.probed
    else:
        assert max(tried[:2]) <= found.batch_size < found.probed


def test_the_estimate_counts_all_latents_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_memory", lambda _recipe, batch_size, _limit: 300 * MIB + batch_size)
    several = recipe().model_copy(update={"objective": {"importance-weighted": {"samples": 6}}})
    one, six = (find_batch_size(each, 1000 * MIB, most=100).estimate for each in (recipe(), several))
    assert six.per_image > 2 * one.per_image
    assert six == estimate_memory(resolve(several.model), samples=6)


def test_a_batch_is_no_larger_than_the_images_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_memory", lambda _recipe, batch_size, _limit: 300 * MIB + batch_size)
    assert find_batch_size(recipe(), 1000 * MIB, most=100).batch_size == 100


def test_what_does_not_fit_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_memory", lambda *_: None)
    with pytest.raises(ConfigError, match="more than the 50 MiB it may: give more --memory"):
        find_batch_size(recipe(), 50 * MIB)


def test_a_step_is_measured_in_a_process_that_cannot_take_more_than_it_may() -> None:
    taken = measure_memory(recipe(), 64, 4096 * MIB)
    assert taken is not None
    assert 100 * MIB < taken < 2000 * MIB
    # 64 GiB of images alone: the process ends, and neither this one nor the machine.
    assert measure_memory(recipe(), 1 << 26, 1024 * MIB) is None


def test_the_steps_of_all_stages_are_measured_with_their_last_weights() -> None:
    staged = recipe().model_dump(mode="json") | {"stages": [{"epochs": 1}]}
    rising = {"adversarial": {"discriminator": {"patch": {"layers": 2}}, "weight": {"linear": {"fraction": 0.9}}}}
    later = {**staged, "stages": [{"epochs": 1}, {"epochs": 10, "objective": rising}]}
    one, two = (measure_memory(read_recipe(each), 512, 4096 * MIB) for each in (staged, later))
    assert one is not None
    assert two is not None
    assert two > 1.1 * one


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["torch-vae", "--memory", "much"], "--memory: needs a number of bytes such as 4GiB or 500MB, not 'much'"),
        (["no-such"], "'no-such': no recipe, file, artifact or preset of that name"),
        (["torch-vae", "--device", "tpu"], "training.device"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("find-batch-size", *arguments, code=2)
    assert said in capsys.readouterr().err


def test_the_command_prints_the_batch_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "measure_memory", lambda _recipe, batch_size, _limit: 300 * MIB + batch_size * MIB // 2)
    written = tmp_path / "recipe.yaml"
    written.write_text("data: digits\nmodel: {preset: torch-vae, latent: 2, max_filters: 8}\n", encoding="utf-8")
    for model in ("torch-vae", str(written)):
        run("find-batch-size", model, "model.input=[1,64,64]", "--memory", "1GiB", "--device", "cpu")
        printed = capsys.readouterr()
        # 2 · (0.9 · 1024 − 300) images
        assert printed.out == "batch size 1243\n"
        assert "the probe of 1,243 images took 922 of 1,024 MiB, +0.0%" in printed.err


def test_the_command_takes_a_saved_model_and_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "measure_memory", lambda _recipe, batch_size, _limit: 99 * MIB + 100 * batch_size)
    made = train(RECIPE, out=tmp_path / "run", callback=StopAt(1))
    again = {made.path / "last": f"--data DATA model={made.path / 'last'}", made.path: f"{made.path / 'recipe.yaml'}"}
    for path, words in again.items():
        run("find-batch-size", path, "--memory", "1GiB", "--device", "cpu")
        printed = capsys.readouterr()
        # A run has its images, 1432 to train on; a model has none.
        assert (printed.out == "batch size 1432\n") == (path == made.path)
        assert f"convae train {words}" in printed.err


def test_a_probe_that_takes_too_much_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[int] = []

    def take(_recipe: Recipe, batch_size: int, _limit: int) -> int | None:
        tried.append(batch_size)
        return 99 * MIB + 1000 * batch_size if len(tried) < 3 else None

    monkeypatch.setattr(memory, "measure_memory", take)
    run("find-batch-size", "torch-vae", "--memory", "1GiB", "--device", "cpu")
    printed = capsys.readouterr()
    assert tried[1] <= int(printed.out.removeprefix("batch size ")) < tried[2]
    assert "exceeded 1,024 MiB" in printed.err


def test_a_file_may_hold_a_model_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "measure_memory", lambda _recipe, batch_size, _limit: 99 * MIB + 100 * batch_size)
    path = tmp_path / "model.yaml"
    path.write_text("{preset: torch-vae, latent: 2, max_filters: 8, input: [1, 32, 32]}", encoding="utf-8")
    run("find-batch-size", path, "--memory", "1GiB", "--device", "cpu")
    assert capsys.readouterr().out.startswith("batch size ")


def test_the_command_takes_a_packaged_recipe_and_repeats_what_was_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "measure_memory", lambda _recipe, batch_size, _limit: 300 * MIB + batch_size * MIB // 2)
    monkeypatch.chdir(tmp_path)
    run("find-batch-size", "demo", "model.latent=4", "--memory", "4GiB", "--device", "cpu")
    printed = capsys.readouterr()
    assert printed.out == "batch size 1432\n"  # as many as the digits have for training
    assert "convae train demo model.latent=4 --batch-size N" in printed.err
    assert "1,432 training images" in printed.err
