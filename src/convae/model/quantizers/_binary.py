"""Binary codes: each channel of a code vector has one of two values."""

from __future__ import annotations

import torch
from torch import Tensor

from convae.core.device import copy_to_device
from convae.core.types import Latents
from convae.model.quantizers.base import CodeIndices


def bits_to_codes(bits: Tensor) -> CodeIndices:
    """Bits, (batch, bit, *grid), to code indices, (batch, *grid); the first bit is the most significant."""
    weights = _weights(bits.shape[1], bits)
    return (bits.long() * weights).sum(1)


def codes_to_signs(codes: CodeIndices, bits: int) -> Latents:
    """Code indices, (batch, *grid), to signs of the bits, −1 or 1, (batch, bit, *grid)."""
    binary = (codes.unsqueeze(1) // _weights(bits, codes.unsqueeze(1))) % 2
    return 2 * binary.to(torch.get_default_dtype()) - 1


def _weights(bits: int, like: Tensor) -> Tensor:
    """Place values of the bits, (1, bit, 1, …)."""
    powers = copy_to_device(torch.tensor([1 << bit for bit in reversed(range(bits))]), like.device)
    return powers.view(1, -1, *(1,) * (like.ndim - 2))
