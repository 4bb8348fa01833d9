"""Division of a data set into splits by image content, so that added or removed images do not move others."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from convae.data.sources.base import PARTS


@dataclass(frozen=True)
class Division:
    """The rows of each split, ascending, and how they were chosen."""

    rows: dict[str, NDArray[np.int64]]
    chosen: dict[str, str]


def divide(
    identities: UInt8[np.ndarray, "images bytes"],
    parts: NDArray[np.int8] | None,
    validation: float,
    test: float,
    seed: int,
) -> Division:
    """Divides a data set into disjoint training, validation and test images.

    Official test and validation parts are kept. Otherwise an image is held out if the hash of its content and the seed
    is below the fraction, so that duplicates are in one split. A split gets at least one image, and never all of them.

    Args:
        identities: digest of each image's content.
        parts: (images,) official parts as indices into `PARTS`; None without official parts.
        validation: fraction of the training images held out.
        test: fraction of all images held out.
        seed: seed of the hash.
    """
    if parts is None:
        parts = np.zeros(len(identities), np.int8)
    rows: dict[str, NDArray[np.int64]] = {name: np.flatnonzero(parts == number) for number, name in enumerate(PARTS)}
    chosen: dict[str, str] = dict.fromkeys(PARTS, "official")
    for name, fraction in (("test", test), ("validation", validation)):
        if not len(rows[name]):
            pool = rows["train"]
            held = _held_out(identities[pool], fraction, seed, name)
            rows[name], rows["train"] = pool[held], pool[~held]
            chosen[name] = f"{fraction:g} of {len(pool)} by content and seed {seed}"
            chosen["train"] = "not held out"
    return Division(rows, chosen)


def _held_out(identities: NDArray[np.uint8], fraction: float, seed: int, name: str) -> NDArray[np.bool_]:
    """(images,) whether each is held out, for about this fraction of them."""
    if not fraction or not len(identities):
        return np.zeros(len(identities), bool)
    key = hashlib.blake2b(f"{name} {seed}".encode()).digest()
    hashes = [hashlib.blake2b(identity.tobytes(), key=key, digest_size=8).digest() for identity in identities]
    # The upper 53 bits fit into a float without rounding, so that it is never 1.
    positions = (np.frombuffer(b"".join(hashes), ">u8") >> np.uint64(11)) / 2.0**53
    held: NDArray[np.bool_] = positions < max(fraction, np.nextafter(positions.min(), 1))
    return held if not held.all() else positions < positions.max()
