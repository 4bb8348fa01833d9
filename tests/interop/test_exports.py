"""Exported graphs reproduce the outputs of torch, and a model that cannot be exported is an error."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx as onnx_package
import pytest
import torch
from command import run
from exported_models import VECTOR, built, every_graph, with_loop
from exporting import bundle
from narrow import present

import convae
from convae.core.errors import ConfigError, OutputError
from convae.core.random import torch_generator
from convae.interop import EXPORTERS, ExportPrecision, export_model, trace_graph
from convae.interop.graphs import trace
from convae.interop.precision import ExportPrecisionName
from convae.testing import check_exporter

pytestmark = pytest.mark.usefixtures("onnx_signatures_read_once")
TOLERANCE = 1e-4
PARTS = 4
"""Graphs in which all modules are exported: a part of what an export takes grows with the square of the operations."""


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_every_registered_module_has_equal_outputs_in_onnxruntime_and_openvino(part: int, tmp_path: Path) -> None:
    onnx, file = EXPORTERS.get("onnx")(), tmp_path / "modules.onnx"
    whole = bundle(dict(list(every_graph().items())[part::PARTS]))
    onnx.write(trace(whole), file, {})
    inputs = {name: torch.cat([tensor, tensor[:1]]) for name, tensor in whole.examples.items()}
    with torch.no_grad():
        wanted = dict(zip(whole.outputs, whole.module(*inputs.values()), strict=True))
    for runtime in (onnx, EXPORTERS.get("openvino")()):  # which reads ONNX too
        found = runtime.open(file)(inputs)
        differences = {name: float((found[name].double() - own.double()).abs().max()) for name, own in wanted.items()}
        assert {name: value for name, value in differences.items() if not value <= TOLERANCE} == {}


@pytest.mark.parametrize("name", [name for name in EXPORTERS.own_names() if name != "diffusers"])
def test_exporters_fulfill_the_contract(name: str) -> None:
    check_exporter(name)


def test_openvino_writes_two_files_for_each_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (each,) = export_model(built(), tmp_path, "openvino", graphs=["encode"])
    assert each.inputs["image"] == ("batch", 1, "height", "width")
    assert {path.name for path in tmp_path.glob("encode.*")} == {"encode.xml", "encode.bin"}
    assert each.size == sum(path.stat().st_size for path in tmp_path.glob("encode.*"))
    with pytest.raises(OutputError, match=r"encode\.xml"):
        list(export_model(built(), tmp_path, "openvino", graphs=["encode"]))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"pip install 'convae\[openvino\]'"):
        list(export_model(built(), tmp_path / "new", "openvino", graphs=["encode"]))


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


def test_values_inside_of_a_graph_may_be_called_like_its_outputs(tmp_path: Path) -> None:
    # The layer has an operation `mean`, and so has the converter's name of its result.
    model = built(encoder=[{"conv": {"channels": 4, "stride": 2}}, "squeeze-excitation"])
    (each,) = export_model(model, str(tmp_path), graphs=["encode"])
    assert each.difference <= TOLERANCE


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        {"covariance": "full"},
        {"covariance": "full", "latent": 1},
        {"flow": {"iaf": {"steps": 1, "hidden": 4}}},
    ],
    ids=str,
)
def test_posteriors_that_are_no_diagonal_gaussians(options: dict[str, object], tmp_path: Path) -> None:
    model = convae.build({**VECTOR, "bottleneck": {"gaussian": {"latent": 3, **options}}}, seed=1).eval()
    images = torch.rand(5, 1, 8, 8, generator=torch_generator(0, "images"))
    with torch.no_grad():
        posterior = model.encode(images)
    for exporter in ("onnx", "torch-export"):
        (each,) = export_model(model, tmp_path / exporter, exporter, graphs=["encode"])
        encode = EXPORTERS.get(exporter)().open(each.path)
        for _ in range(2):  # draws of the variance are the same in each call
            found = encode({"image": images})
            assert torch.allclose(found["mean"], posterior.mean, atol=1e-5)
            assert torch.allclose(found["logvar"], posterior.logvar, atol=1e-4)


def test_samples_are_a_function_of_the_noise(tmp_path: Path) -> None:
    model = convae.build({**VECTOR, "prior": {"mixture": {"components": 3}}}).eval()
    (each,) = export_model(model, tmp_path, "torch-export", graphs=["sample"])
    assert each.inputs == {"noise": ("batch", 4)}
    noise = torch.randn(5, 4, generator=torch_generator(0, "noise"))
    found = EXPORTERS.get("torch-export")().open(each.path)({"noise": noise})
    assert found["z"].unique(dim=0).shape == (5, 3)
    with torch.no_grad():
        assert torch.allclose(found["image"], model.decode(found["z"]).mean, atol=1e-6)


@pytest.mark.parametrize(
    ("exporter", "precision", "least", "condition"),
    [
        ("onnx", "float16", 50.0, None),
        ("onnx", "int8", 20.0, {"classes": 2, "channels": 1}),
        ("openvino", "float16", 50.0, {"classes": 2, "channels": 1}),
        ("openvino", "int8", 20.0, None),
    ],
)
def test_reduced_precision_states_what_it_loses(
    exporter: str, precision: ExportPrecisionName, least: float, condition: dict[str, int] | None, tmp_path: Path
) -> None:
    model = built(condition=condition)
    images = torch.rand(12, *model.input_shape, generator=torch_generator(0, "images"))
    labels = torch.arange(12) % 2 if condition else None
    chosen = ExportPrecision(precision, images, labels)
    (each,) = export_model(model, tmp_path, exporter, graphs=["reconstruct"], precision=chosen)
    target = EXPORTERS.get(exporter)()
    with torch.no_grad():
        expected = model.decode(model.encode(images, labels).mean, labels).mean
    inputs = {"image": images} if labels is None else {"image": images, "label": labels}
    found = target.open(each.path)(inputs)["reconstruction"]
    assert found.dtype == torch.float32
    quality = present(each.quality)
    assert quality.psnr == pytest.approx(float(-10 * (found - expected).square().mean().log10()), abs=0.1)
    losses = [float(10 * (picture - images).square().mean().log10()) for picture in (found, expected)]
    assert quality.psnr_loss == pytest.approx(losses[0] - losses[1], abs=0.01)
    assert quality.psnr > least
    assert quality.count == 12
    manifest = target.read_manifest(each.path)
    assert manifest["precision"] == precision
    assert manifest["quality"]["psnr"] == quality.psnr
    if exporter == "onnx":
        kinds = {tensor.data_type for tensor in onnx_package.load(str(each.path)).graph.initializer}
        wanted = onnx_package.TensorProto.FLOAT16 if precision == "float16" else onnx_package.TensorProto.INT8
        assert wanted in kinds
    else:
        assert f'element_type="{"f16" if precision == "float16" else "i8"}"' in each.path.read_text()


def test_reduced_precision_needs_images_and_a_format_that_has_it(tmp_path: Path) -> None:
    for images in (None, torch.rand(3, 1, 8, 8)):
        with pytest.raises(ConfigError, match="8 images"):
            list(export_model(built(), tmp_path / "new", precision=ExportPrecision("int8", images)))
    with pytest.raises(ConfigError, match=r"torch-export.*int8"):
        list(export_model(built(), tmp_path / "new", "torch-export", precision=ExportPrecision("int8")))
    assert not (tmp_path / "new").exists()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return convae.save(built(), tmp_path / "model")


def test_the_command_prints_the_loss_of_int8(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = saved.parent / "exported"
    options = ("--graph", "decode", "--precision", "int8", "--data", "digits", "--count", "9")
    run("export", saved, *options, "--out", out)
    output = capsys.readouterr().out
    quality = EXPORTERS.get("onnx")().read_manifest(out / "decode.onnx")["quality"]
    assert quality["count"] == 9
    assert f"{quality['psnr']:.1f} dB" in output
    assert f"{quality['psnr_loss']:.2f} dB" in output


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


def test_control_flow_that_depends_on_values_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="encode"):
        export_model(with_loop(), tmp_path / "out", "torch-export")
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"convae\[export\]"):
        export_model(built(), tmp_path / "out", graphs=["decode"])
