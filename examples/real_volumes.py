"""Real 3-D data for the recipe `brain`: blocks of 24×24×24 mm from a T1-weighted magnetic resonance image of the brain.

    pip install --no-deps nilearn
    pip install nibabel
    python examples/real_volumes.py brain.npz
    convae train brain

The package nilearn ships the image: the ICBM 152 template of 2009, the mean of 152 aligned brains (V. Fonov,
A. Evans, R. McKinstry, C. Almli, D. Collins, NeuroImage 47, 2009), 1 mm a voxel. Test blocks come from the back of the
head and do not overlap with training blocks.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIZE = 24
INSIDE = 0.9
"""Least part of a block that lies in the brain."""


def blocks(volume: NDArray[np.uint8], start: int, stop: int, stride: int) -> NDArray[np.uint8]:
    """Cubes (count, SIZE, SIZE, SIZE) whose second axis lies in start … stop, and of which enough is not 0."""
    starts = [range(0, size - SIZE + 1, stride) for size in volume.shape]
    starts[1] = range(start, stop - SIZE + 1, stride)
    cubes = [volume[x : x + SIZE, y : y + SIZE, z : z + SIZE] for x, y, z in product(*starts)]
    return np.array([cube for cube in cubes if (cube > 0).mean() >= INSIDE])


def main(out: Path) -> None:
    """Writes the two parts; nilearn is located and not imported."""
    try:
        import nibabel
    except ImportError:
        sys.exit("nibabel is not installed: pip install nibabel")
    spec = find_spec("nilearn")
    if spec is None or spec.origin is None:
        sys.exit("nilearn is not installed: pip install --no-deps nilearn")
    path = Path(spec.origin).parent / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    volume = np.asarray(nibabel.load(path).dataobj)
    border = volume.shape[1] // 3
    parts = {"train": blocks(volume, border, volume.shape[1], 8), "test": blocks(volume, 0, border, 12)}
    np.savez_compressed(out, **parts)  # type: ignore[arg-type]  # its stubs take the names for options
    print(f"{out}: {len(parts['train'])} training blocks, {len(parts['test'])} test blocks")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "brain.npz"))
