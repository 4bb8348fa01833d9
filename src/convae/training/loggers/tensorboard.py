"""TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from convae.training.loggers.base import LoggedRun, Logger


class TensorBoard(Logger):
    """Event files for TensorBoard, in `loggers/tensorboard/` of the run: `tensorboard --logdir RUN`."""

    package: ClassVar = "torch.utils.tensorboard"
    extra: ClassVar = "tensorboard"
    _writer: Any

    def start(self, run: LoggedRun) -> None:
        """Opens an event file; events of later steps, from before a resume, are hidden."""
        self._writer = self.import_package().SummaryWriter(str(run.folder), purge_step=run.step + 1)

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """Writes scalars."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def write_picture(self, name: str, path: Path, step: int) -> None:
        """Writes an image."""
        with Image.open(path) as picture:
            self._writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes the event file."""
        self._writer.close()
