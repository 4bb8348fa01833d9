"""Stand-ins for packages that are not installed here: they keep what they are given, and require what the originals do.

The exporter and the loggers were compared with the originals by `check_exporter` and `check_logger`, with these
packages installed: openvino 2026.4, wandb 0.31, trackio 0.43.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
from PIL import Image


class SummaryWriter:
    """That of TensorBoard."""

    made: list[SummaryWriter]

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.scalars: dict[tuple[str, int], float] = {}
        self.images: list[tuple[str, int]] = []
        self.closed = False
        SummaryWriter.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars[name, step] = value

    def add_image(self, name: str, image: np.ndarray[Any, Any], step: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        assert image.ndim == 3
        assert image.dtype == np.uint8
        self.images.append((name, step))

    def close(self) -> None:
        self.closed = True


class Picture:
    """An image that was logged."""

    def __init__(self, path: str) -> None:
        with Image.open(path) as image:
            self.size = image.size


class Tracker(ModuleType):
    """A module with `init`, `log` and `finish`.

    Attributes:
        runs: arguments of each `init`.
        metrics: value by name and step, of all runs.
        pictures: names and steps of the images.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.runs: list[dict[str, Any]] = []
        self.metrics: dict[tuple[str, int], float] = {}
        self.pictures: list[tuple[str, int]] = []
        self.is_open = self.fails = False
        self.Image = Picture

    def init(self, *, project: str, name: str, config: dict[str, Any], resume: str, **more: Any) -> None:
        assert not self.is_open
        assert resume == "allow"
        print("the banner of a tracker")  # noqa: T201
        self.runs.append({"project": project, "name": name, "config": config, **more})
        self.is_open = True

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        assert self.is_open
        assert step is not None
        if self.fails:
            raise OSError("no connection")
        for name, value in metrics.items():
            if isinstance(value, Picture):
                self.pictures.append((name, step))
            else:
                self.metrics[name, step] = value

    def finish(self) -> None:
        assert self.is_open
        self.is_open = False


def install_stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tracker]:
    """Replaces TensorBoard, wandb and trackio."""
    board = ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    SummaryWriter.made = []
    monkeypatch.setitem(sys.modules, board.__name__, board)
    trackers = {name: Tracker(name) for name in ("wandb", "trackio")}
    for name, module in trackers.items():
        monkeypatch.setitem(sys.modules, name, module)
    return trackers


class OpenVinoModel:
    """A model that was read from ONNX or from files."""

    def __init__(self, content: bytes, facts: dict[str, str]) -> None:
        self.content, self.facts = content, facts

    def set_rt_info(self, text: str, path: list[str]) -> None:
        self.facts[path[0]] = text

    def get_rt_info(self, path: list[str]) -> Any:
        return SimpleNamespace(astype=lambda kind: kind(self.facts[path[0]]))


class OpenVinoCore:
    """Runs what was saved by onnxruntime."""

    def read_model(self, source: bytes | str) -> OpenVinoModel:
        if isinstance(source, bytes):
            return OpenVinoModel(source, {})
        place = Path(source)
        return OpenVinoModel(place.with_suffix(".bin").read_bytes(), json.loads(place.read_text()))

    def compile_model(self, path: str, device: str, options: dict[str, Any]) -> Any:
        assert device == "CPU"
        assert options["INFERENCE_PRECISION_HINT"] == "f32"
        session = onnxruntime.InferenceSession(self.read_model(path).content)
        names = [each.name for each in session.get_outputs()]

        class Compiled:
            outputs: ClassVar = [SimpleNamespace(get_any_name=lambda name=name: name) for name in names]

            def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
                return dict(zip(names, session.run(None, inputs), strict=True))

        return Compiled()


def _save_openvino(model: OpenVinoModel, path: str, *, compress_to_fp16: bool) -> None:
    assert not compress_to_fp16
    place = Path(path)
    place.write_text(json.dumps(model.facts))
    place.with_suffix(".bin").write_bytes(model.content)


def install_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces OpenVINO, which takes 185 MB: files, names and manifest are tested, not its operations."""
    module = ModuleType("openvino")
    module.Core, module.save_model = OpenVinoCore, _save_openvino  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openvino", module)
