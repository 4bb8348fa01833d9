"""Peak memory of a function at two sizes, each in a process of its own that is forked from a clean one.

`python tests/memory.py NAME:SMALL:LARGE …` writes the peak of the process in MiB for both sizes. What a function
promises is held by how much the second exceeds the first, in which the interpreter and torch play no part.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn.cluster  # noqa: F401  # which clusters need, once for all processes
import torch

import convae
from convae.data import DataConfig, Split, open_split
from convae.evaluation import evaluate
from convae.evaluation.aggregate import log_aggregate
from convae.evaluation.bootstrap import resample_means
from convae.evaluation.distances import frechet_distance, is_in_manifold
from convae.latents import cluster, encode_to, find_neighbors, iterate_latents
from convae.model.vae import VAE

MIB = 1024 if sys.platform == "linux" else 1 << 20


def tiny() -> VAE:
    spec = {
        "input": [1, 4, 4],
        "encoder": ["flatten"],
        "bottleneck": {"gaussian": {"latent": 2}},
        "decoder": [{"linear": {"features": 16}}, {"unflatten": {"to": [1, 4, 4]}}],
    }
    return convae.build(spec)


def images(count: int) -> Split:
    """Random images of 4×4 from a cache of their own."""
    folder = Path(tempfile.mkdtemp())
    os.environ["CONVAE_CACHE"] = str(folder / "cache")
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 256, (count, 4, 4, 1), np.uint8))
    return open_split(DataConfig(source=str(folder / "x.npy")), "all")


def of_aggregate(count: int) -> None:
    z = torch.randn(count, 2)
    log_aggregate(z, z, torch.zeros_like(z))


def of_bootstrap(count: int) -> None:
    resample_means(torch.randn(count, 3, dtype=torch.float64), 0, 100)


def of_distances(count: int) -> None:
    real, drawn = torch.randn(2, count, 8)
    frechet_distance(real, drawn)
    is_in_manifold(real, drawn, 3)


def of_neighbors(count: int) -> None:
    z = torch.randn(count, 2)
    find_neighbors(z, z, 5)


def of_clusters(count: int) -> None:
    cluster(torch.randn(count, 2), 5)


def of_evaluate(count: int) -> None:
    evaluate(tiny(), images(count))


def of_encode_to(count: int) -> None:
    out = Path(tempfile.mkdtemp()) / "out"
    encode_to(tiny(), images(count), out)
    for part in iterate_latents(out):
        assert len(part)


def peak(measured: Callable[[int], None], count: int) -> float:
    """MiB of a forked process that runs it."""
    child = os.fork()
    if not child:
        measured(count)
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    assert status == 0
    return used.ru_maxrss / MIB


if __name__ == "__main__":
    torch.set_num_threads(1)
    peaks = {}
    for word in sys.argv[1:]:
        name, *counts = word.split(":")
        peaks[name] = [peak(globals()[f"of_{name}"], int(count)) for count in counts]
    sys.stdout.write(json.dumps(peaks))
