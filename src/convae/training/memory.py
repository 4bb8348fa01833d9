"""The largest training batch: a line through two small batches, and one probe of what it promises.

The memory of a training step is a straight line over the batch: what there is for any batch (weights, gradients and
the optimizer's state), and what each image adds (its values, and what the forward pass keeps for the backward pass). It
is estimated from shapes, or fitted to measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import UntypedStorage

from convae.core.description import Spec
from convae.core.device import choose_device
from convae.core.errors import ConfigError
from convae.core.memory import free_memory
from convae.core.names import count_text
from convae.describe import resolve
from convae.model.construct import construct
from convae.model.layers.base.network import count_parameters
from convae.training.loop.numerics import choose_precision
from convae.training.memory_probe import measure_memory
from convae.training.recipe.schema import Recipe
from convae.training.recipe.stage_objective import stage_objective, stage_with_most_latents
from convae.training.recipe.stages import build_plan

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
                f"a step of {count_text(batch, 'image')} takes more than the {budget / 2**20:,.0f} MiB it may: give "
                "more --memory, or set training.checkpointing"
            )
        small[batch] = taken
        say(f"a step of {count_text(batch, 'image')} takes {taken / 2**20:,.0f} MiB")
    line = fit_line(small)
    probed = max(*small, min(line.largest(round((1 - CAUTION) * budget)), most))
    taken = measure_memory(recipe, probed, budget)
    if taken is not None and taken <= budget:
        return BatchSizeFound(budget, estimate, line, small, probed, taken, probed)
    # More than the line says: one through the probe too or, where it was ended, a cautious step back.
    again = min(fit_line({**small, probed: taken}).largest(budget), probed - 1) if taken else probed * 3 // 4
    return BatchSizeFound(budget, estimate, line, small, probed, taken, max(again, *small))
