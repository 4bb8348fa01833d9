"""Exported graphs reproduce the outputs of torch, and a model that cannot be exported is an error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from command import run
from exported_models import VECTOR, built, every_graph
from exporting import bundle
from torch import Tensor, nn

import convae
from convae.core.errors import ConfigError
from convae.core.random import torch_generator
from convae.interop import EXPORTERS, export_model, trace_graph
from convae.interop.graphs import trace
from convae.model.vae import VAE
from convae.testing import check_exporter

TOLERANCE = 1e-4


@pytest.mark.long
def test_every_registered_module_has_equal_outputs_in_onnxruntime(tmp_path: Path) -> None:
    graphs, onnx, file = every_graph(), EXPORTERS.get("onnx")(), tmp_path / "all.onnx"
    whole = bundle(graphs)
    onnx.write(trace(whole), file, {})
    inputs = {name: torch.cat([tensor, tensor[:1]]) for name, tensor in whole.examples.items()}
    found = onnx.open(file)(inputs)
    with torch.no_grad():
        wanted = dict(zip(whole.outputs, whole.module(*inputs.values()), strict=True))
    differences = {name: float((found[name].double() - own.double()).abs().max()) for name, own in wanted.items()}
    assert {name: value for name, value in differences.items() if not value <= TOLERANCE} == {}


@pytest.mark.parametrize("name", [name for name in EXPORTERS.own_names() if name != "diffusers"])
def test_exporters_fulfill_the_contract(name: str) -> None:
    check_exporter(name)


def test_sizes_are_dynamic_if_the_model_supports_them(tmp_path: Path) -> None:
    model = built()
    for each in export_model(model, tmp_path, "torch-export", graphs=["encode", "decode"]):
        runner = EXPORTERS.get("torch-export")().open(each.path)
        if each.name == "encode":
            assert each.inputs["image"] == ("batch", 1, "height", "width")
            x = torch.rand(3, 1, 12, 10)
            with torch.no_grad():
                assert torch.allclose(runner({"image": x})["mean"], model.encode(x).mean, atol=1e-6)
        else:
            assert each.inputs["z"] == ("batch", 3, "height", "width")
            assert runner({"z": torch.zeros(1, 3, 5, 7)})["image"].shape == (1, 1, 10, 14)
    assert trace_graph(convae.build(VECTOR).eval(), "encode").inputs == {"image": ("batch", 1, 8, 8)}


def test_samples_are_a_function_of_the_noise(tmp_path: Path) -> None:
    model = convae.build({**VECTOR, "prior": {"mixture": {"components": 3}}}).eval()
    (each,) = export_model(model, tmp_path, "torch-export", graphs=["sample"])
    assert each.inputs == {"noise": ("batch", 4)}
    noise = torch.randn(5, 4, generator=torch_generator(0, "noise"))
    found = EXPORTERS.get("torch-export")().open(each.path)({"noise": noise})
    assert found["z"].unique(dim=0).shape == (5, 3)
    with torch.no_grad():
        assert torch.allclose(found["image"], model.decode(found["z"]).mean, atol=1e-6)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return convae.save(built(), tmp_path / "model")


def test_the_command_writes_and_compares_each_graph(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = saved.parent / "exported"
    run("export", saved, "--to", "torch-export", "--out", out)
    output = capsys.readouterr().out
    names = ["decode", "encode", "reconstruct", "sample"]
    assert sorted(path.stem for path in out.glob("*.pt2")) == names
    assert all(f"{name}.pt2: " in output for name in names)
    assert "batch×1×height×width" in output
    run("export", saved, "--to", "torch-export", "--out", out, code=2)
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--to", "onyx"], "did you mean 'onnx'?"),
        (["--graph", "enocde"], "did you mean 'encode'?"),
        (["--graph", "decode-codes"], "decode-codes"),
    ],
)
def test_an_error_leaves_no_files(
    options: list[str], part: str, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("export", saved, *options, "--out", saved.parent / "exported", code=2)
    assert part in capsys.readouterr().err
    assert not (saved.parent / "exported").exists()


class UntilSmall(nn.Module):
    """Halves its input until it is small: a loop that depends on the values."""

    def forward(self, x: Tensor) -> Tensor:
        while bool(x.abs().max() > 1):
            x = x / 2
        return x


def test_control_flow_that_depends_on_values_is_an_error(tmp_path: Path) -> None:
    model = built()
    looping = VAE(nn.Sequential(UntilSmall(), model.encoder), model.bottleneck, model.decoder, model.head,
                  input_shape=model.input_shape).eval()  # fmt: skip
    with pytest.raises(ConfigError, match="encode"):
        next(export_model(looping, tmp_path / "out", "torch-export"))
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"convae\[export\]"):
        next(export_model(built(), tmp_path / "out", graphs=["decode"]))
