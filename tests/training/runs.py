"""A small real run, and what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from narrow import narrow

from convae.model.vae import VAE
from convae.training.loop.trainer import Callback, Trainer
from convae.training.vae.task import VAETask

RECIPE: dict[str, Any] = {
    "data": "digits",
    # Batch norm and dropout: statistics and noise have to survive the stop too.
    "model": {
        "input": [1, 8, 8],
        "encoder": [
            {"conv": {"channels": 4, "stride": 2}},
            "batch-norm",
            "relu",
            {"dropout": {"rate": 0.1}},
            "flatten",
        ],
        "bottleneck": {"gaussian": {"latent": 3}},
        "decoder": [
            {"linear": {"features": 64}},
            {"unflatten": {"to": [4, 4, 4]}},
            {"conv-transpose": {"channels": 1, "stride": 2}},
        ],
        "likelihood": {"gaussian": {"sigma": "learned"}},
    },
    "objective": {"reconstruction": {}, "kl": {"weight": {"linear": {"epochs": 2}}}},
    "training": {
        "epochs": 3,
        "batch_size": 200,
        "log_every": 4,
        "pictures_every": 0,
        "optimizer": {"clip": 50.0, "weight_decay": 0.01, "name": "adamw"},
    },
}


_CLASSIFIER = [{"linear": {"features": 10}}]
EVERYTHING: dict[str, Any] = {
    "data": {"source": "digits", "augment": {"flip": 0.5, "zoom": 0.1, "shear": 0.1}},
    "model": {**RECIPE["model"], "classifier": _CLASSIFIER},
    "objective": {
        "reconstruction": {},
        "kl": {"weight": {"linear": {"epochs": 2}}},
        "classification": {"weight": 20.0},
    },
    "training": {
        "batch_size": 477,
        "accumulate": 2,
        "ema": 0.9,
        "labels": 0.5,
        "augmentation": {"linear": {"start": 1, "end": 0}},
        "temperature": {"linear": {"start": 0.5, "end": 1}},
        "log_every": 2,
        "checkpoint_every": 1,
        "keep": 100,
        "pictures_every": 0,
        "optimizer": {"clip": 50.0, "weight_decay": 0.01, "name": "adamw"},
    },
    "stages": [
        {"steps": 4},
        {"steps": 2, "freeze": ["encoder", "bottleneck"], "objective": {"kl": 0}, "optimizer": {"lr": 1e-3}},
        {"epochs": 5, "until": {"plateau": {"metric": "kl", "patience": 1, "threshold": 10.0}}},
    ],
}
"""The same network, with everything that a run has to remember: 3 batches in an epoch, 12 steps in three stages."""


CODES: dict[str, Any] = {
    **RECIPE["model"],
    "encoder": [{"conv": {"channels": 8, "stride": 2}}, "silu", {"conv": {"channels": 8, "stride": 2}}],
    "bottleneck": {"residual": {"levels": 2, "quantizer": {"fsq": {"levels": [4, 4]}}}},
    "decoder": [
        {"conv-transpose": {"channels": 8, "stride": 2}},
        "silu",
        {"conv-transpose": {"channels": 1, "stride": 2}},
    ],
}
"""A model of 2×2 codes of two levels."""


class StopAt(Callback):
    """Ends the training after a step, as a person with Ctrl-C would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.progress.step == self.step:
            trainer.stop()


def model_of(trainer: Trainer) -> VAE:
    """The model that is trained."""
    return narrow(VAETask, trainer.task).model


def content(run: Path) -> dict[str, bytes]:
    """All that a run leaves, apart from the seconds it took."""
    last = sorted((run / "checkpoints").iterdir())[-1]
    files = [
        run / "metrics.jsonl",
        run / "recipe.yaml",
        run / "model" / "model.safetensors",
        run / "model" / "config.json",
    ]
    return {path.name: path.read_bytes() for path in [*files, last / "tensors.safetensors", last / "state.json"]}
