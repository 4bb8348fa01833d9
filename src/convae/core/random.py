"""Counter-based random numbers: what is drawn depends on what it is for, never on what was drawn before.

`torch_generator(seed, "latent", step)` gives the same stream in an unbroken run, in a resumed one, and on every
rank. No generator's state has to be saved, because each is made anew from the counters.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_key(seed: int, *words: int | str) -> int:
    """A 63-bit key for the stream named by `words`: distinct streams are independent, equal ones are equal."""
    text = "\x1f".join([str(int(seed)), *(str(word) for word in words)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(seed: int, *words: int | str) -> np.random.Generator:
    """A NumPy generator (Philox, counter-based) for the stream named by `words`."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, *words)))


def torch_generator(seed: int, *words: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device` for the stream named by `words`."""
    import torch

    return torch.Generator(device).manual_seed(stream_key(seed, *words))
