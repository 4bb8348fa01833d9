"""Training steps of a recipe on one batch that is on the device already: the step alone, without data and logs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch

from benchmarks.training.cases import CASES, GPU, Case
from benchmarks.training.ceiling import median_seconds
from convae.core.allocator import keep_freed_memory
from convae.core.types import Batch, Shape
from convae.training.distributed import Ranks
from convae.training.loop.engine import Engine
from convae.training.loop.numerics import choose_precision
from convae.training.recipe.reading import read_recipe
from convae.training.recipe.stages import build_plan
from convae.training.vae import compilation
from convae.training.vae.build import build_training_model
from convae.training.vae.task import VAETask

STEPS = 1_000_000


def find_case(name: str) -> Case:
    """The row of this name."""
    return next(case for case in (*CASES, *GPU) if case.name == name)


class OneBatch:
    """A batch source that repeats a batch of noise."""

    def __init__(self, shape: Shape, batch_size: int, device: torch.device) -> None:
        self.shape, self.batch_size, self.waited = shape, batch_size, 0.0
        self.steps_per_epoch, self.classes, self.levels = STEPS, None, None
        images = torch.rand(batch_size, *shape, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self.batch = Batch(images, labels, torch.arange(batch_size, device=device))

    def iterate(
        self, epoch: int, start_step: int = 0, device: torch.device | str = "cpu", strength: float = 1.0
    ) -> Iterator[Batch]:
        """Yields the batch for each step."""
        return itertools.repeat(self.batch)


class Steps:
    """Steps of the engine on one batch.

    Args:
        model: the network as convae describes it.
        batch_size: images per step.
        device: device.
        compile: `off`, `fused` (`torch.compile`), or `graphs` (with CUDA graphs).
        training: further options of the training.

    Attributes:
        note: what was noted on the compilation; None without a note.
    """

    def __init__(
        self, model: dict[str, Any], batch_size: int, device: str, compile: str = "off", **training: Any
    ) -> None:
        keep_freed_memory()
        where = torch.device(device)
        options = {"steps": STEPS, "batch_size": batch_size, "device": device, **training}
        options["compile"] = "off" if compile == "off" else "on"
        recipe = read_recipe({"data": "digits", "model": model, "training": options})
        precision = choose_precision(recipe.training.precision, where)
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"precision": precision})})
        plan = build_plan(recipe, STEPS)
        built = build_training_model(recipe, where)
        built.train()
        with mock.patch.object(compilation, "GRAPHS_UP_TO", 2**62 if compile == "graphs" else 0):
            self.note = compilation.compile_networks(
                built, recipe.training, where, Ranks(), steps=STEPS, images=batch_size, samples=1
            )
        self._source = OneBatch(built.input_shape, batch_size, where)
        self._task = VAETask(recipe, built, plan, self._source, None, None, where, Ranks())
        self._plan, self._engine = plan, Engine(self._task, plan.stages[0])
        self._engine.freeze()
        self._engine.train()
        self._device, self._step = device, 0

    def step(self) -> None:
        """One step."""
        self._engine.step(self._source.batch, self._plan.clocks([0], self._step), 1.0)
        self._step += 1

    def seconds(self, least: float = 0.3) -> float:
        """Seconds of a step, the median of five repeats of as many steps as take `least` seconds."""
        return median_seconds(self.step, self._device, least=least)


def profile_step(run: Callable[[], object], steps: int = 5) -> dict[str, float]:
    """Kernels, launches and waits of a step on CUDA, by torch's profiler."""
    run()
    torch.cuda.synchronize()
    with torch.profiler.profile() as profiler:
        for _ in range(steps):
            run()
    counts: dict[str, float] = {"kernels": 0, "launches": 0, "waits": 0, "kernel_ms": 0}
    for event in profiler.key_averages():
        if event.key.startswith("cudaLaunch") or event.key == "cudaGraphLaunch":
            counts["launches"] += event.count / steps
        if event.key in ("cudaStreamSynchronize", "cudaEventSynchronize"):
            counts["waits"] += event.count / steps
        if event.device_type.name == "CUDA":
            counts["kernels"] += event.count / steps
            counts["kernel_ms"] += event.self_device_time_total / 1000 / steps
    return {name: round(value, 2) for name, value in counts.items()}
