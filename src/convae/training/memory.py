"""The largest training batch: a line through two small batches, and one probe of what it promises.

The memory of a training step is a straight line over the batch: what there is for any batch (weights, gradients and
the optimizer's state), and what each image adds (its values, and what the forward pass keeps for the backward pass). It
is estimated from shapes, or fitted to measurements. This module is also the process that measures a step, so that only
it ends when it needs too much:

    convae find-batch-size ── recipe, batch, limit ──> python -m convae.training.memory ── bytes ──> find-batch-size
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import UntypedStorage

from convae.core.allocator import keep_freed_memory
from convae.core.description import Spec
from convae.core.device import choose_device
from convae.core.errors import ConfigError, TrainingError
from convae.core.memory import free_memory
from convae.core.trust import trusted, trusted_packages
from convae.core.types import Batch, Shape
from convae.describe import resolve
from convae.model.construct import construct
from convae.model.layers.base.network import count_parameters
from convae.training.distributed import Ranks
from convae.training.loop.engine import Engine
from convae.training.loop.numerics import choose_precision
from convae.training.recipe.reading import read_recipe
from convae.training.recipe.schema import Recipe
from convae.training.recipe.stages import build_plan, stage_objective, stage_with_most_latents
from convae.training.vae.build import build_training_model, compile_networks
from convae.training.vae.start import open_teacher
from convae.training.vae.task import VAETask

FLOAT = 4
"""Bytes of a float32 value."""
COPIES = 4
"""Of each parameter: its value, its gradient, and the two running means of Adam."""
MARGIN = 0.1
"""Fraction of the free memory to leave free by default."""
SMALL = (0.05, 0.15)
"""Fractions of the budget for the images of the two small batches."""
CAUTION = 0.1
"""Fraction of the budget to leave free in the probe, because of fragmentation."""
MOST_SMALL = 4 << 30
"""Limit of the memory of the larger one, in bytes."""
MOST = 1 << 16
"""Largest batch size to search."""
STEPS = 2
"""Number of steps; the optimizer state exists after the first."""
SLACK = 512 << 20
"""Bytes that the process may reserve beyond its limit, since allocators reserve more than they use."""
_TOO_MUCH = 3
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Memory:
    """Bytes of a training step.

    Attributes:
        fixed: whatever the batch.
        per_image: for each image of a batch.
    """

    fixed: float
    per_image: float

    def bytes(self, batch_size: int) -> int:
        """For a batch."""
        return round(self.fixed + self.per_image * batch_size)

    def largest(self, budget: int) -> int:
        """The largest batch that keeps within so many bytes; 0 where none does."""
        return max(0, math.floor((budget - self.fixed) / self.per_image))


def estimate_memory(spec: Spec, checkpointing: bool = False, samples: int = 1) -> Memory:
    """From shapes alone, before anything is allocated.

    Buffers that single operations take for themselves, and frameworks, come on top.

    Args:
        spec: description of the model.
        checkpointing: whether activations are computed again in the backward pass.
        samples: latents of each image.
    """
    # Two batches, since what a model keeps of itself (a codebook, a mask) does not grow with the batch.
    two, three = (activation_bytes(spec, images, checkpointing, samples) for images in (2, 3))
    kept = three - two
    model = construct(spec)
    fixed = COPIES * FLOAT * count_parameters(model) + max(0, two - 2 * kept)
    return Memory(fixed, kept + FLOAT * math.prod(model.input_shape))


def fit_line(measured: Mapping[int, int]) -> Memory:
    """The line through the bytes of several batches, by least squares."""
    mean = sum(measured) / len(measured)
    level = sum(measured.values()) / len(measured)
    rise = sum((batch - mean) * (taken - level) for batch, taken in measured.items())
    slope = max(rise / sum((batch - mean) ** 2 for batch in measured), 1.0)
    return Memory(max(0.0, level - slope * mean), slope)


def activation_bytes(spec: Spec, batch_size: int, checkpointing: bool = False, samples: int = 1) -> int:
    """Bytes that a step keeps from its forward pass for its backward pass; see `estimate_memory`.

    The model runs on the meta device, and every tensor that autograd keeps is counted once.
    """
    model = construct(spec).train()
    model.use_checkpointing(checkpointing)
    own = {_address(parameter.untyped_storage()) for parameter in model.parameters()}
    kept: dict[int, UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[_address(storage)] = storage
        return tensor

    images = torch.zeros(batch_size, *model.input_shape, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(images, None, torch.zeros(batch_size, dtype=torch.long, device="meta"), samples=samples)
        output.likelihood.log_prob(images.repeat_interleave(samples, 0))
        output.posterior.kl()
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)


def _address(storage: UntypedStorage) -> int:
    """What tells storages apart on the meta device, where `data_ptr` is 0."""
    address: int = storage._cdata  # noqa: SLF001  # torch offers no other
    return address


@dataclass(frozen=True)
class BatchSizeFound:
    """Result of the search for the largest batch size.

    Attributes:
        budget: memory limit, in bytes.
        estimate: estimate from shapes.
        line: linear fit to the small batches.
        small: measured bytes by batch size.
        probed: batch size of the probe.
        taken: bytes of the probe; None if it exceeded the budget.
        batch_size: largest batch size that fits.
    """

    budget: int
    estimate: Memory
    line: Memory
    small: dict[int, int]
    probed: int
    taken: int | None
    batch_size: int

    @property
    def error(self) -> float | None:
        """Relative error of the linear fit at the probe."""
        return None if self.taken is None else 1 - self.line.bytes(self.probed) / self.taken


def find_batch_size(
    recipe: Recipe, budget: int | None = None, most: int = MOST, on_message: Callable[[str], None] | None = None
) -> BatchSizeFound:
    """Finds the largest batch size whose training steps fit into a memory budget.

    Args:
        recipe: recipe whose model has the shape of the images.
        budget: bytes; by default 90% of the free memory.
        most: largest batch size to consider.
        on_message: called with messages on the progress.

    Raises:
        ConfigError: not even the smallest batch fits.
        TrainingError: a step fails.
    """
    where = choose_device(recipe.training.device)
    options = {"device": where.type, "precision": choose_precision(recipe.training.precision, where)}
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=options)})
    budget = budget or round((1 - MARGIN) * free_memory(where))
    say = on_message or (lambda _: None)
    plan = build_plan(recipe, 1)
    samples = stage_objective(plan.stages[stage_with_most_latents(plan)]).samples
    estimate = estimate_memory(resolve(recipe.model), recipe.training.checkpointing, samples)
    say(f"by its shapes: {estimate.fixed / 2**20:,.1f} MiB, and {estimate.per_image / 2**20:,.3f} MiB for each image")
    small: dict[int, int] = {}
    budgets = [min(fraction * budget, fraction / SMALL[1] * MOST_SMALL) for fraction in SMALL]
    # At least two, since batch norm cannot train on one image.
    first = min(max(2, int(budgets[0] / estimate.per_image)), max(2, most // 2))
    for batch in (first, max(2 * first, min(int(budgets[1] / estimate.per_image), most))):
        taken = measure_memory(recipe, batch, budget)
        if taken is None or taken > budget:
            raise ConfigError(
                f"a step of {batch} images takes more than the {budget / 2**20:,.0f} MiB it may: give more --memory, "
                "or set training.checkpointing"
            )
        small[batch] = taken
        say(f"a step of {batch:,} images takes {taken / 2**20:,.0f} MiB")
    line = fit_line(small)
    probed = max(*small, min(line.largest(round((1 - CAUTION) * budget)), most))
    taken = measure_memory(recipe, probed, budget)
    if taken is not None and taken <= budget:
        return BatchSizeFound(budget, estimate, line, small, probed, taken, probed)
    # More than the line says: one through the probe too or, where it was ended, a cautious step back.
    again = min(fit_line({**small, probed: taken}).largest(budget), probed - 1) if taken else probed * 3 // 4
    return BatchSizeFound(budget, estimate, line, small, probed, taken, max(again, *small))


def measure_memory(recipe: Recipe, batch_size: int, limit: int) -> int | None:
    """Peak memory of the process during training steps in bytes; on CUDA that of the allocator.

    The steps run in a separate process, with a batch of noise and the objective of the first stage; with that of the
    stage that draws the most latents for each image, if the stages differ in it.

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
        raise TrainingError(f"the process that tried a step of {batch_size} images failed: {reason}")
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
    number = stage_with_most_latents(plan)
    samples = stage_objective(plan.stages[number]).samples
    compile_networks(model, recipe.training, where, Ranks(), steps=STEPS, images=batch_size, samples=samples)
    teacher = open_teacher(recipe, plan, where)
    task = VAETask(recipe, model, plan, batches, None, None, where, Ranks(), teacher=teacher)
    starts = plan.stage_starts()[: number + 1]
    engine = Engine(task, plan.stages[number])
    engine.freeze()
    engine.train()
    for step, batch in enumerate(batches.iterate(0)):
        engine.step(batch, plan.clocks(starts, starts[-1] + step), 1.0)


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
