"""What a command says and returns when it cannot go on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command import run
from training.runs import RECIPE

from convae.core.errors import ReportedElsewhereError
from convae.training.report import TrainingReport


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Lets `convae evaluate` fail."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("convae.latents.session.load", fail)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_lack_of_memory_is_a_sentence_with_a_remedy(
    error: Exception, artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, error)
    run("evaluate", artifact, code=2)
    said = capsys.readouterr().err
    assert "--batch-size" in said
    assert "Traceback" not in said


def test_other_errors_of_the_program_are_not_hidden(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, RuntimeError("a fault of convae"))
    with pytest.raises(RuntimeError, match="a fault of convae"):
        run("evaluate", artifact)


@pytest.mark.parametrize(
    "options", [("--metrics", "elbo", "--metrics", "psnr"), ("--metrics=psnr", "--seed", 1, "--metrics", "psnr")]
)
def test_an_option_that_is_given_twice_is_refused(
    options: tuple[Any, ...], artifact: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("evaluate", artifact, *options, code=2)
    assert "--metrics is given twice" in capsys.readouterr().err


def test_an_interruption_has_the_exit_code_of_the_signal(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    run("evaluate", artifact, code=130)


def test_what_another_process_says_is_not_said_twice(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, ReportedElsewhereError("lost the connection"))
    run("evaluate", artifact, code=2)
    assert "lost the connection" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "z0,z1,z2\n1,2,3\n1,2\n", "different numbers of cells"),
        ("a.csv", "z0,z2,z1\n1,2,3\n", "not in order"),
        ("a.csv", "name,label\na,1\n", "neither latents"),
        ("a.csv", "z0,z1\n1,2\n", "latents.* 3,.* 2"),
        ("a.csv", "z0,z1,z2\n1,2,nan\n", "NaN"),
        ("a.csv", "code0,code1\n1,2\n", "no codebook"),
        ("a.txt", "z0", "a.txt"),
    ],
)
def test_files_that_hold_no_latents_are_refused(
    name: str, content: str, said: str, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(content)
    run("decode", artifact, tmp_path / name, "--out", tmp_path / "images", code=2)
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "images").exists()


def test_a_table_has_the_ending_of_a_table(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("table", artifact, "--out", tmp_path / "t.xlsx", code=2)
    assert ".xlsx" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_training_that_is_stopped_says_how_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    monkeypatch.setattr(TrainingReport, "on_step_end", lambda _, trainer: trainer.stop())
    run("train", tmp_path / "recipe.yaml", "--out", tmp_path / "run", code=130)
    assert f"convae train --resume {tmp_path / 'run'}" in capsys.readouterr().err


def test_a_training_whose_time_is_up_has_not_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    run("train", tmp_path / "recipe.yaml", "training.minutes=1e-9", "--out", tmp_path / "run")
    assert f"convae train --resume {tmp_path / 'run'}" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run(code=2)
    shown = capsys.readouterr()
    assert "train" in shown.out + shown.err
