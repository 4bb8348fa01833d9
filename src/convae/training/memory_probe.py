"""Peak memory of a training step, measured by this module as a process of its own, so that only it ends with too much.

convae find-batch-size ── recipe, batch, limit ──> python -m convae.training.memory_probe ── bytes ──> find-batch-size
"""

from __future__ import annotations

import contextlib
import itertools
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from convae.core.allocator import keep_freed_memory
from convae.core.device import choose_device
from convae.core.errors import TrainingError
from convae.core.names import count_text
from convae.core.trust import trusted, trusted_packages
from convae.core.types import Batch, Shape
from convae.training.distributed import Ranks
from convae.training.loop.engine import Engine
from convae.training.recipe.reading import read_recipe
from convae.training.recipe.schema import Recipe
from convae.training.recipe.stage_objective import stage_objective
from convae.training.recipe.stages import build_plan
from convae.training.vae.build import build_training_model
from convae.training.vae.compilation import compile_networks
from convae.training.vae.start import open_teacher
from convae.training.vae.task import VAETask

STEPS = 2
"""Number of steps of each stage; the optimizer state exists after the first."""
SLACK = 512 << 20
"""Bytes that the process may reserve beyond its limit, since allocators reserve more than they use."""
_TOO_MUCH = 3
_STATUS = Path("/proc/self/status")


def measure_memory(recipe: Recipe, batch_size: int, limit: int) -> int | None:
    """Peak memory of the process during training steps in bytes; on CUDA that of the allocator.

    The steps run in a separate process, with a batch of noise: some of each stage, with the weights at its end.

    Args:
        recipe: recipe whose model has the shape of the images, with an available device and precision.
        batch_size: images per step.
        limit: memory limit of the process, in bytes.

    Returns:
        None if it exceeds the limit.

    Raises:
        TrainingError: the process failed for another reason.
    """
    asked = json.dumps(
        {"recipe": recipe.model_dump(mode="json"), "batch_size": batch_size, "limit": limit, "trust": trusted()}
    )
    done = subprocess.run([sys.executable, "-m", __name__], input=asked, capture_output=True, text=True, check=False)
    # A signal comes from the out-of-memory killer of the kernel.
    if done.returncode == _TOO_MUCH or done.returncode < 0:
        return None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise TrainingError(f"the process that tried a step of {count_text(batch_size, 'image')} failed: {reason}")
    return int(done.stdout)


def main() -> None:
    """Reads the request from stdin, and prints the bytes."""
    asked = json.load(sys.stdin)
    try:
        with trusted_packages(asked["trust"]):
            recipe = read_recipe(asked["recipe"])
            where = choose_device(recipe.training.device)
            _limit(where, asked["limit"])
            _steps(recipe, asked["batch_size"], where)
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in str(error):
            sys.exit(_TOO_MUCH)
        raise
    sys.stdout.write(f"{_peak(where)}\n")


class _NoiseBatches:
    """A batch source that repeats a batch of noise."""

    def __init__(self, shape: Shape, batch_size: int, device: torch.device) -> None:
        self.shape, self.batch_size, self.waited = shape, batch_size, 0.0
        self.steps_per_epoch, self.classes, self.levels = STEPS, None, None
        images = torch.rand(batch_size, *shape, device=device)
        labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self._batch = Batch(images, labels, torch.arange(batch_size, device=device))

    def iterate(
        self, epoch: int, start_step: int = 0, device: torch.device | str = "cpu", strength: float = 1.0
    ) -> Iterator[Batch]:
        """Yields the batch for each remaining step."""
        return itertools.repeat(self._batch, STEPS - start_step)


def _steps(recipe: Recipe, batch_size: int, where: torch.device) -> None:
    """Runs some steps of the engine of the recipe."""
    keep_freed_memory()
    plan = build_plan(recipe, STEPS)
    model = build_training_model(recipe, where)
    batches = _NoiseBatches(model.input_shape, batch_size, where)
    samples = max(stage_objective(stage).samples for stage in plan.stages)
    compile_networks(model, recipe.training, where, Ranks(), steps=STEPS, images=batch_size, samples=samples)
    teacher = open_teacher(recipe, plan, where)
    task = VAETask(recipe, model, plan, batches, None, None, where, Ranks(), teacher=teacher)
    engine = Engine(task, plan.stages[0])
    for number, stage in enumerate(plan.stages):
        starts = plan.stage_starts()[: number + 1]
        if number:
            engine.enter(stage)
        engine.freeze()
        engine.train()
        # Terms whose weight rises from 0 have no gradient at the beginning of the stage.
        clocks = plan.clocks(starts, plan.stage_end(starts) - 1)
        for batch in batches.iterate(0):
            engine.step(batch, clocks, 1.0)


def _limit(where: torch.device, limit: int) -> None:
    """Limits the memory of the process, so that the machine neither swaps nor kills other processes."""
    if where.type == "cuda":
        free, total = torch.cuda.mem_get_info(where)
        torch.cuda.set_per_process_memory_fraction(min(limit, free) / total, where)
    elif _STATUS.exists():
        # If the machine runs out of memory nevertheless, this process is killed first.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
        more = max(0, limit - _line("VmRSS")) + SLACK
        resource.setrlimit(resource.RLIMIT_DATA, (_line("VmData") + more, resource.RLIM_INFINITY))


def _peak(where: torch.device) -> int:
    """Peak memory so far, in bytes."""
    if where.type == "cuda":
        return torch.cuda.max_memory_reserved(where)
    if _STATUS.exists():
        return _line("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _line(name: str) -> int:
    """A value of /proc/self/status, in bytes."""
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


if __name__ == "__main__":
    main()
