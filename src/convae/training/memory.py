"""How much memory a training step needs, estimated before anything is allocated."""

from __future__ import annotations

import torch
from torch import UntypedStorage

from convae.model.description import Spec
from convae.model.network import count
from convae.model.vae import VAE

FLOAT = 4
"""Bytes of a float32 value."""
COPIES = 4
"""Of each parameter: its value, its gradient, and the two running means of Adam."""


def activation_bytes(spec: Spec, batch_size: int) -> int:
    """Bytes that a step keeps from its forward pass for its backward pass.

    The model runs on the meta device, and every tensor that autograd keeps is counted once.
    """
    model = VAE(spec).train()
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    images = torch.zeros(batch_size, *model.input_shape, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(images)
        output.likelihood.log_prob(images)
        output.posterior.kl()
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)


def step_bytes(spec: Spec, batch_size: int) -> int:
    """Bytes of a whole training step: parameters with their copies, images, and what is kept of the forward pass.

    Buffers that single operations take for themselves, and frameworks, come on top.
    """
    model = VAE(spec)
    values = 1
    for size in model.input_shape:
        values *= size
    return COPIES * FLOAT * count(model) + FLOAT * batch_size * values + activation_bytes(spec, batch_size)
