"""Lists of layers compiled by `torch.compile` (Ansel et al. 2024, "PyTorch 2"): fused kernels, and CUDA graphs."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

CompileMode = Literal["default", "reduce-overhead"]
"""`default` fuses operations; `reduce-overhead` also records CUDA graphs, which replay many kernels with one launch."""
BACKEND = "inductor"
_COMPILED: weakref.WeakKeyDictionary[nn.Module, Callable[[nn.Module, Tensor], Tensor]] = weakref.WeakKeyDictionary()
"""The compiled function of each network: no attribute of it, so that copies of a network have their own."""


def run_compiled(network: nn.Sequential, x: Tensor, mode: CompileMode) -> Tensor:
    """Applies the layers of a network in sequence, compiled on the first call for each shape.

    Args:
        network: layers that do not use the forward context.
        x: (batch, channel, *sizes).
        mode: mode of `torch.compile`.
    """
    if network not in _COMPILED:
        # Compiled code is cached per code object, with a limit on their number: each network has a code object.
        own = types.FunctionType(_run.__code__.replace(), _run.__globals__, _run.__name__)
        _COMPILED[network] = torch.compile(own, dynamic=False, mode=mode, backend=BACKEND)
    return _COMPILED[network](network, x)


def discard_compiled(network: nn.Module) -> None:
    """Discards the compiled function of a network."""
    _COMPILED.pop(network, None)


def _run(network, x):  # type: ignore[no-untyped-def]  # checks of types would be traced
    for layer in network:
        x = layer(x)
    return x
