from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import run

import convae

SMALL = ["torch-vae", "input=[1,12,10]", "max_filters=8", "latent=2"]


def test_a_preset_with_arguments_is_shown_layer_by_layer(capsys: pytest.CaptureFixture[str]) -> None:
    run("show", *SMALL)
    out = capsys.readouterr().out
    for part in ("torch-vae: input 1×12×10, latent 2", "conv {channels: 8, stride: 2}", "8×2×2", "total", "15×15"):
        assert part in out


def test_a_name_is_printed_and_drawn_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = r"x [/] [small] a $\frac{$ b"
    run("show", *SMALL, "--draw", tmp_path / "plain.png")
    run("show", *SMALL, "--as", "yaml")
    (tmp_path / "named.yaml").write_text(
        capsys.readouterr().out.partition("\n")[2].replace("name: torch-vae", f"name: '{name}'")
    )
    run("show", tmp_path / "named.yaml")
    assert f"{name}: input 1×12×10" in capsys.readouterr().out
    run("show", tmp_path / "named.yaml", "--draw", tmp_path / "named.png")
    assert (tmp_path / "named.png").read_bytes() != (tmp_path / "plain.png").read_bytes()


def test_one_thing_is_shown_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("show", *SMALL, "--as", "yaml", "--draw", tmp_path / "x.png", code=2)
    assert "give one of them" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


def test_a_network_that_takes_other_sizes_says_which(capsys: pytest.CaptureFixture[str]) -> None:
    run("show", "sd-f8", "input=[1,16,16]", "width=8")
    assert "multiples of 8×8" in capsys.readouterr().out


def test_a_long_layer_goes_on_below_itself(capsys: pytest.CaptureFixture[str]) -> None:
    run("show", "resnet", "size=tiny")
    lines = capsys.readouterr().out.splitlines()
    first = next(number for number, line in enumerate(lines) if "residual {" in line and "}]}" not in line)
    starts = [len(line) - len(line.lstrip()) for line in lines[first : first + 2]]
    assert starts[0] == starts[1] == 4
    assert lines[first + 1].split()[0] not in ("silu", "flatten", "residual")


def test_what_is_printed_can_be_shown_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("show", "sd-f8", "input=[1,16,16]", "width=32", "--as", "yaml")
    first = capsys.readouterr().out
    (tmp_path / "model.yaml").write_text(first)
    run("show", tmp_path / "model.yaml", "--as", "yaml")
    assert capsys.readouterr().out == first


def test_an_arch_def_is_printed_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("show", "arch-def-512", "input=[3,40,24]", "filters=[4,8]", "--as", "arch_def")
    (tmp_path / "model.py").write_text(capsys.readouterr().out)
    run("show", tmp_path / "model.py")
    assert "3×40×24" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_structure_is_drawn_into_a_file(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"model.{suffix}"
    run("show", *SMALL, "--draw", path)
    assert str(path) in capsys.readouterr().out
    assert path.stat().st_size > 10_000


def test_a_trained_model_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"preset": "torch-vae", "input": [1, 12, 10], "max_filters": 8, "latent": 2}
    convae.save(convae.build(spec), tmp_path / "model")
    run("show", tmp_path / "model")
    assert "torch-vae: input 1×12×10" in capsys.readouterr().out
    run("show", tmp_path / "model", "latent=3", code=2)
    assert "cannot be changed by 'latent=3'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["torch-vea"], "did you mean 'torch-vae'?"),
        (["torch-vea", "latent=3"], "did you mean 'torch-vae'?"),
        (["torch-vae", "latnet=3"], "did you mean 'latent'?"),
        (["torch-vae", "--as", "code"], "unknown notation 'code': did you mean 'codes'?"),
        (["torch-vae", "--as", "arch-def"], "cannot be written as an arch_def"),
        (["torch-vae", "--draw", "model.gif"], ".png or .svg, got '.gif'"),
        (["none.yaml"], "no such file"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("show", *arguments, code=2)
    err = capsys.readouterr().err
    assert part in err
    assert err.count("\n") == 1


def test_codes_are_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    run("show", "flex-256", "--as", "codes")
    assert "2*VAERB_128_128" in json.loads(capsys.readouterr().out)["encoder"]
