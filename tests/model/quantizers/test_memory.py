"""Codebooks of 2^18 codes: no tensor of a training step is as large as a table of vectors and codes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convae.core.context import Context
from convae.core.random import torch_generator
from convae.model.quantizers._nearest import CHUNK
from convae.model.quantizers.base import build_quantizer

CODES, CHANNELS, VECTORS = 1 << 18, 4, 64
QUANTIZERS: dict[str, dict[str, Any]] = {
    "vq": {"vq": {"codes": CODES}},
    "vq gradient": {"vq": {"codes": CODES, "update": "gradient", "distance": "cosine"}},
    "simvq": {"simvq": {"codes": CODES}},
    "ibq": {"ibq": {"codes": CODES}},
    "lfq": {"lfq": {"bits": 18}},
    "bsq": {"bsq": {"bits": 18}},
    "fsq": {"fsq": {"levels": [8, 8, 8, 8, 8, 8]}},
    "residual": {"residual": {"levels": 2, "quantizer": {"simvq": {"codes": CODES}}}},
}


class LargestTensor(TorchDispatchMode):
    """The most values that a tensor has which an operation gives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.values = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, list | tuple) else [result]:
            if isinstance(each, torch.Tensor):
                # An expanded tensor has more values than memory.
                self.values = max(self.values, min(each.numel(), each.untyped_storage().nbytes() // each.itemsize))
        return result


@pytest.mark.parametrize("name", QUANTIZERS)
def test_no_tensor_of_a_step_is_as_large_as_a_table_of_vectors_and_codes(name: str) -> None:
    channels = None if name in {"lfq", "bsq", "fsq"} else CHANNELS
    quantizer = build_quantizer(QUANTIZERS[name], channels).train()
    assert quantizer.codebook_sizes[0] == CODES
    values = torch.randn(4, quantizer.channels, 4, 4, generator=torch_generator(0, "values")).requires_grad_()
    context = Context()
    with LargestTensor() as largest:
        latent = quantizer(values, context, "latent")
        (latent.square().sum() + sum(term.sum() for term in context.terms.values())).backward()
    assert values.grad is not None
    assert 0 < largest.values <= CHUNK < VECTORS * CODES
