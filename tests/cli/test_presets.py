from __future__ import annotations

import pytest
from command import run

from convae.model.presets import PRESETS


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two presets are enough; the large ones take their time."""
    monkeypatch.setattr(PRESETS, "names", lambda: ["image-vae", "torch-vae"])


def test_every_preset_is_a_line_of_the_markdown_table(capsys: pytest.CaptureFixture[str]) -> None:
    run("presets", "--markdown")
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("| preset | input | latent | parameters |")
    assert [line.split(" | ")[:4] for line in lines] == [
        ["| image-vae", "1×28×28", "2", "168 k"],
        ["| torch-vae", "3×64×64", "64", "1.77 M"],
    ]


def test_a_broken_preset_of_another_package_is_named_and_the_rest_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PRESETS, "names", lambda: ["no_such_package:broken", "torch-vae"])
    run("presets", "--markdown")
    out, err = capsys.readouterr()
    assert "| torch-vae |" in out
    assert "broken" not in out
    assert "no_such_package:broken" in err


def test_the_table_says_what_a_preset_is(capsys: pytest.CaptureFixture[str]) -> None:
    run("presets")
    out = capsys.readouterr().out
    for part in ("torch-vae", "3×64×64", "1.77 M", "44.4 M", "Three stride-2"):
        assert part in out
