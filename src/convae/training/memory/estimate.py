"""How much memory a training step needs, as a function of the batch: estimated from shapes, or fitted to measurements.

Both are a straight line: what there is for any batch (weights, their gradients and the optimizer's state), and what
each image adds (its values, and what the forward pass keeps for the backward pass).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import UntypedStorage

from convae.core.description import Spec
from convae.model.construct import construct
from convae.model.layers.base.network import count_parameters

FLOAT = 4
"""Bytes of a float32 value."""
COPIES = 4
"""Of each parameter: its value, its gradient, and the two running means of Adam."""


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


def estimate_memory(spec: Spec, checkpointing: bool = False) -> Memory:
    """From shapes alone, before anything is allocated.

    Buffers that single operations take for themselves, and frameworks, come on top.
    """
    # Two batches, since what a model keeps of itself (a code book, a mask) does not grow with the batch.
    two, three = (activation_bytes(spec, images, checkpointing) for images in (2, 3))
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


def activation_bytes(spec: Spec, batch_size: int, checkpointing: bool = False) -> int:
    """Bytes that a step keeps from its forward pass for its backward pass.

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
        output = model(images, None, torch.zeros(batch_size, dtype=torch.long, device="meta"))
        output.likelihood.log_prob(images)
        output.posterior.kl()
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)


def _address(storage: UntypedStorage) -> int:
    """What tells storages apart on the meta device, where `data_ptr` is 0."""
    address: int = storage._cdata  # noqa: SLF001  # torch offers no other
    return address
