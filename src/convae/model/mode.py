"""Temporary evaluation mode, thread-safe."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterator

import torch
from torch import nn

_LOCK = threading.Lock()
_CALLS: weakref.WeakKeyDictionary[nn.Module, tuple[int, list[nn.Module]]] = weakref.WeakKeyDictionary()
"""How many calls are inside `evaluation_mode` of a model, and which of its modules were in training before."""


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts all modules of a model into evaluation mode inside the block, and restores their modes afterwards.

    With several threads inside, the last one restores the modes. A model in evaluation mode is not changed.
    """
    if torch.compiler.is_compiling():  # Locks cannot be traced, and tracing is done by one thread.
        changed = _stop_training(model)
        try:
            yield
        finally:
            _train(changed)
        return
    with _LOCK:
        count, before = _CALLS.get(model, (0, []))
        _CALLS[model] = (count + 1, before + _stop_training(model))
    try:
        yield
    finally:
        with _LOCK:
            count, changed = _CALLS[model]
            if count > 1:
                _CALLS[model] = (count - 1, changed)
            else:
                del _CALLS[model]
                _train(changed)


def _stop_training(model: nn.Module) -> list[nn.Module]:
    """Puts training modules into evaluation mode and returns them."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    return training


def _train(modules: list[nn.Module]) -> None:
    for module in modules:
        module.training = True
