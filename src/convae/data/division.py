"""Which part of a data set an image is in: a property of the image, so that one that comes or goes moves no other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from convae.data.sources.base import PARTS


@dataclass(frozen=True)
class Division:
    """The rows of each part, ascending, and how each was chosen."""

    rows: dict[str, NDArray[np.int64]]
    chosen: dict[str, str]


def divide(
    identities: UInt8[np.ndarray, "images bytes"],
    parts: NDArray[np.int8] | None,
    validation: float,
    test: float,
    seed: int,
) -> Division:
    """Divides a data set into training, validation and test images, none of them in two.

    An official test or validation part stays as it is. Where there is none, an image is held out if a hash of its
    content and the seed says so: images of equal content are in one part. A part that is asked for gets at least one
    image, those of the lowest hash, and never all of them.

    Args:
        identities: digest of each image's content.
        parts: (images,) official parts, counted as in `PARTS`; None where there are none.
        validation: fraction of the training images held out.
        test: fraction of all images held out.
        seed: of the choice.
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
            chosen["train"] = "what is not held out"
    return Division(rows, chosen)


def _held_out(identities: NDArray[np.uint8], fraction: float, seed: int, name: str) -> NDArray[np.bool_]:
    """(images,) whether each is held out: about this fraction of them."""
    if not fraction or not len(identities):
        return np.zeros(len(identities), bool)
    key = hashlib.blake2b(f"{name} {seed}".encode()).digest()
    hashes = [hashlib.blake2b(identity.tobytes(), key=key, digest_size=8).digest() for identity in identities]
    # The upper 53 bits are a float without rounding, so never 1.
    positions = (np.frombuffer(b"".join(hashes), ">u8") >> np.uint64(11)) / 2.0**53
    held: NDArray[np.bool_] = positions < max(fraction, np.nextafter(positions.min(), 1))
    return held if not held.all() else positions < positions.max()
