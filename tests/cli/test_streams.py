"""What is printed never ends what is done."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command import run
from hypothesis import given
from hypothesis import strategies as st
from training.runs import RECIPE

from convae.core.names import escape_controls


class Failing(io.StringIO):
    """A stream that fails when something is written."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


def command(*arguments: str, closed: tuple[int, ...]) -> subprocess.CompletedProcess[bytes]:
    def close() -> None:
        for number in closed:
            os.close(number)

    words = [sys.executable, "-m", "convae", *arguments]
    return subprocess.run(words, capture_output=True, check=False, preexec_fn=close)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_a_training_outlives_its_terminal(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "stderr", Failing(number))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    run("train", tmp_path / "recipe.yaml", "training.epochs=1", "--out", tmp_path / "run")
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_a_reader_that_has_gone_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(errno.EPIPE))
    run("recipes")


def test_output_that_could_not_be_written_is_a_fault_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(errno.ENOSPC))
    run("recipes", code=1)
    assert os.strerror(errno.ENOSPC) in capsys.readouterr().err


@pytest.mark.parametrize("number", [1, 2])
def test_closed_descriptors_are_no_fault(number: int) -> None:
    done = command("--version", closed=(number,))
    assert done.returncode == 0, done.stderr
    assert command("shw", closed=(1,)).stderr.startswith(b"convae: ")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_encoding_without_our_characters_gets_plain_ones(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
        run("show", "torch-vae")
        sys.stdout.flush()
        text = written.getvalue().decode(encoding)
    assert "3x64x64" in text or "3×64×64" in text


@given(st.text())
def test_nothing_in_a_name_acts_on_a_terminal(name: str) -> None:
    shown = escape_controls(name)
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in shown)
    assert not set(shown) & set("\x7f\x9b\u202e\u2066")
    shown.encode("utf-8")


def test_escape_sequences_in_names_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b]0;taken\x07\x1b[2J" + os.fsdecode(b"caf\xe9")
    run("show", tmp_path / name, code=2)
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert r"\x1b]0;taken" in error
    assert r"caf\xe9" in error
