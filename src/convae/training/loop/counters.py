"""What a run counts: steps, stages and events, and means of metrics over steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter
from torch import Tensor

from convae.core.arguments import NonNegative
from convae.training.recipe.schema import PlateauConfig

COUNT = "count"
"""Name of the number of steps in the sums."""


@dataclass
class Counters:
    """Counters of a run.

    Attributes:
        step: number of completed steps.
        stage_starts: first step of each stage, up to the current one.
        finished: whether the last stage is over.
        plateau_best: best value of the monitored metric of the stage.
        plateau_wait: epochs without improvement.
        log_bytes: size of the log at this step; later rows are from a lost continuation.
        best: lowest validation total of the current stage, under the weights at its end, nats per image.
        best_step: step of this total.
        last_reported_skip: first step of the latest streak of skipped steps with a note.
        lr_halvings: number of roll-backs with half the learning rate.
        collapse_streak: consecutive validations with a collapsed posterior.
        divergence_streak: consecutive validations of a diverged model.
    """

    step: NonNegative = 0
    stage_starts: Annotated[list[NonNegative], Field(min_length=1)] = field(default_factory=lambda: [0])
    finished: bool = False
    plateau_best: float | None = None
    plateau_wait: int = 0
    log_bytes: Annotated[int, Field(ge=0)] = 0
    best: float | None = None
    best_step: int | None = None
    last_reported_skip: int = -1
    lr_halvings: int = 0
    collapse_streak: int = 0
    divergence_streak: int = 0

    def state(self) -> dict[str, Any]:
        """The counters by name."""
        return asdict(self)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the counters.

        Raises:
            ValueError: a counter has an invalid value.
        """
        restored = TypeAdapter(Counters).validate_python(dict(state))
        for each in fields(self):
            setattr(self, each.name, getattr(restored, each.name))

    def start_stage(self) -> None:
        """Begins the next stage at this step."""
        self.stage_starts.append(self.step)
        self.plateau_best, self.plateau_wait, self.best, self.best_step = None, 0, None, None

    def update_plateau(self, rule: PlateauConfig, metric: float) -> bool:
        """Adds an epoch's metric; returns whether it has not improved for `patience` epochs."""
        best = self.plateau_best
        if best is None or metric < best - rule.threshold * abs(best):
            self.plateau_best, self.plateau_wait = metric, 0
        else:
            self.plateau_wait += 1
        return self.plateau_wait >= rule.patience


class RunningMeans:
    """Means of named metrics over steps, accumulated on the device to avoid synchronization.

    Args:
        device: device of the sums.
    """

    def __init__(self, device: torch.device) -> None:
        # MPS has no float64.
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self._device = device
        self._names: list[str] = []
        self._sums = torch.zeros(0, dtype=self.dtype, device=device)

    def add(self, metrics: Mapping[str, Tensor], skipped: Tensor) -> None:
        """Adds the scalars of a step by name, unless it was skipped; the names must be the same until `clear`."""
        one = torch.ones((), dtype=self.dtype, device=self._device)
        values = torch.stack([one, *(value.detach().to(self.dtype) for value in metrics.values())])
        if not self._names:
            self._names = [COUNT, *metrics]
            self._sums = torch.zeros_like(values)
        self._sums += torch.where(skipped, torch.zeros_like(values), values)

    def state(self) -> dict[str, Any]:
        """The sums and the number of steps; synchronizes with the device."""
        return dict(zip(self._names, self._sums.tolist(), strict=True))

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the sums."""
        self._names = list(state)
        self._sums = torch.tensor([float(value) for value in state.values()], dtype=self.dtype, device=self._device)

    def read(self) -> dict[str, float]:
        """The means; empty without steps. Synchronizes with the device."""
        sums = self.state()
        count = sums.pop(COUNT, 0.0)
        return {name: value / count for name, value in sums.items()} if count else {}

    def clear(self) -> None:
        """Resets the sums."""
        self._names, self._sums = [], self._sums[:0]
