"""Benchmarks that are stopped keep what they measured, and continue their runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from training.runs import RECIPE, StopAt, content

from benchmarks.records import Results, add_result, finish_run, is_measured, mean_text, read_results
from convae.training import train


def test_a_result_is_a_line_and_is_found_by_some_of_its_entries(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert read_results(path) == []
    results = [{"data": "größer", "seed": seed, "bound": seed / 3} for seed in range(2)]
    assert [add_result(path, result) for result in results] == results
    assert read_results(path) == results
    assert is_measured(path, {"data": "größer", "seed": 1})
    assert not is_measured(path, {"data": "größer", "seed": 2})


def test_results_are_kept_by_name(tmp_path: Path) -> None:
    Results(tmp_path / "results.jsonl").add("first", {"psnr": 20.5})
    assert Results(tmp_path / "results.jsonl").rows == {"first": {"name": "first", "psnr": 20.5}}


def test_a_mean_of_several_values_has_their_standard_deviation() -> None:
    assert mean_text([1.25], 1) == "1.2"
    assert mean_text([1.0, 2.0, 3.0], 2) == "2.00 ± 1.00"


def test_a_stopped_run_is_continued_and_a_finished_one_is_left(tmp_path: Path) -> None:
    begun: list[Path] = []

    def begin() -> None:
        begun.append(train(RECIPE, out=tmp_path / "run", callback=StopAt(10)).path)

    unbroken = train(RECIPE, out=tmp_path / "unbroken")
    finish_run(tmp_path / "run", begin)
    assert content(tmp_path / "run") != content(unbroken.path)
    for _ in range(2):
        finish_run(tmp_path / "run", begin)
        assert content(tmp_path / "run") == content(unbroken.path)
    assert begun == [tmp_path / "run"]


def test_a_model_without_a_recipe_is_left(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    finish_run(tmp_path, lambda: pytest.fail("began"))
