"""What the tests of quantizers share: one pass with all that it gives, and the library that they are compared with."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from narrow import narrow
from torch import Tensor

from convae.core.context import Context
from convae.core.posterior import CodePosterior
from convae.core.random import torch_generator
from convae.model.quantizers.base import Quantizer


@dataclass(frozen=True)
class Pass:
    """Latent, codes and terms of a pass through a quantizer."""

    latent: Tensor
    codes: Tensor
    terms: dict[str, Tensor]


def run(quantizer: Quantizer, values: Tensor, noise: Any = None) -> Pass:
    context = Context(noise)
    latent = quantizer(values, context, "latent")
    return Pass(latent, narrow(CodePosterior, context.posteriors["latent"]).codes, context.terms)


def values(channels: int, *, count: int = 8, scale: float = 1.0, word: str | int = "values") -> Tensor:
    """(count, channels, 4, 4)."""
    return scale * torch.randn(count, channels, 4, 4, generator=torch_generator(0, word))


def library() -> Any:
    """vector-quantize-pytorch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import vector_quantize_pytorch
    return vector_quantize_pytorch


def gradient(cost: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(cost.sum(), leaf, retain_graph=True)[0]
