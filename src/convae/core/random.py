"""Counter-based random numbers: a draw depends on its purpose, never on earlier draws.

`torch_generator(seed, "latent", step)` gives the same stream in an uninterrupted run, in a resumed one, and on every
rank. No generator state needs saving, because each generator is created from the counters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def stream_key(seed: int, *words: int | str) -> int:
    """A 63-bit key of the stream named by `words`; streams with different names are independent."""
    return _key(_digest(seed, *words))


def stream_keys(seed: int, *words: int | str, numbers: Iterable[int]) -> Iterator[int]:
    """`stream_key(seed, *words, number)` for each of the numbers, in less time."""
    common = _digest(seed, *words)
    for number in numbers:
        own = common.copy()
        own.update(f"\x1f{number}".encode())
        yield _key(own)


def _digest(seed: int, *words: int | str) -> hashlib.blake2b:
    text = "\x1f".join([str(int(seed)), *(str(word) for word in words)])
    return hashlib.blake2b(text.encode(), digest_size=8)


def _key(found: hashlib.blake2b) -> int:
    return int.from_bytes(found.digest(), "little") >> 1


def numpy_generator(seed: int, *words: int | str) -> np.random.Generator:
    """A NumPy generator (Philox, counter-based) for the stream named by `words`."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, *words)))


def torch_generator(seed: int, *words: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device` for the stream named by `words`."""
    import torch

    return torch.Generator(device).manual_seed(stream_key(seed, *words))
