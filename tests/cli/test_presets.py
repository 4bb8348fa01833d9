from __future__ import annotations

import pytest
from command import run

from convae.model.presets import PRESETS


def test_every_preset_is_listed_with_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    run("presets")
    out = capsys.readouterr().out
    for name in PRESETS.names():
        assert name in out
    assert "83.7 M" in out


def test_the_table_of_the_documentation_is_made_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    run("presets", "--markdown")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(PRESETS.names())
    assert all(line.startswith("| ") and line.count("|") == 7 for line in lines)
