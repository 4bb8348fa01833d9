"""convae's side: its own trainer, as `convae train` runs it, asked after every step whether to go on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import convae
from benchmarks.training.cases import Case
from benchmarks.training.turns import WARM_UP, asked
from convae.training.loop.trainer import Callback, Trainer


class Turns(Callback):
    """Holds the training up between turns."""

    def __init__(self) -> None:
        self._left = WARM_UP
        self._asked = asked()

    def on_step_end(self, trainer: Trainer) -> None:
        """One step is done."""
        self._left -= 1
        if not self._left:
            self._left = next(self._asked, 0)
            if not self._left:
                trainer.stop()


def ours(case: Case, data: Path, device: str, precision: str) -> None:
    """Trains until nobody asks any more."""
    with tempfile.TemporaryDirectory() as folder:
        convae.train(
            {
                "data": {"source": str(data), "validation": 0, "test": 0, "size": case.input[1:]},
                "model": case.model,
                "training": {
                    "steps": 1_000_000,
                    "batch_size": case.batch,
                    "pictures_every": 0,
                    "device": device,
                    "precision": precision,
                    "compile": os.environ.get("CONVAE_COMPILE", "off"),
                },
            },
            out=Path(folder) / "run",
            callback=Turns(),
        )
