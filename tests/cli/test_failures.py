"""What a command says and returns when it cannot go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command import run

from convae.core.errors import ReportedElsewhereError


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


def test_an_interruption_has_the_exit_code_of_the_signal(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    run("evaluate", artifact, code=130)


def test_what_another_process_says_is_not_said_twice(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, ReportedElsewhereError("lost the connection"))
    run("evaluate", artifact, code=2)
    assert "lost the connection" not in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run(code=2)
    shown = capsys.readouterr()
    assert "train" in shown.out + shown.err
