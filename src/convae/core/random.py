"""Counter-based random numbers: a draw depends on its purpose, never on earlier draws.

`torch_generator(seed, "latent", step)` gives the same stream in an uninterrupted run, in a resumed one, and on every
rank. No generator state needs saving, because each generator is created from the counters.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_key(seed: int, *words: int | str) -> int:
    """A 63-bit key of the stream named by `words`; streams with different names are independent."""
    text = "\x1f".join([str(int(seed)), *(str(word) for word in words)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(seed: int, *words: int | str) -> np.random.Generator:
    """A NumPy generator (Philox, counter-based) for the stream named by `words`."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, *words)))


def torch_generator(seed: int, *words: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device` for the stream named by `words`."""
    import torch

    return torch.Generator(device).manual_seed(stream_key(seed, *words))
