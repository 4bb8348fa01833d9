"""Quantizers at equal bits per image: PSNR and usage of codes on Fashion-MNIST.

python -m benchmarks.quantizers --steps 300 --seeds 3
python -m benchmarks.quantizers --only large --steps 40 --seeds 1
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import convae
from convae.core.posterior import CodePosterior
from convae.data import DataConfig, open_split
from convae.data.batches import in_order

BATCH = 128
TEST_IMAGES = 2000
_COMMITTED = {"commitment": 0.25}
_TRAINED = {"commitment": 0.25, "codebook": 1}
RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "vq": ({"vq": {"codes": 512, "latent": 16}}, _COMMITTED),
    "vq, k-means start": ({"vq": {"codes": 512, "latent": 16, "start": "k-means"}}, _COMMITTED),
    "vq, cosine, rotation": (
        {"vq": {"codes": 512, "latent": 16, "distance": "cosine", "estimator": "rotation"}},
        _COMMITTED,
    ),
    "vq, gradient": ({"vq": {"codes": 512, "latent": 16, "update": "gradient"}}, _TRAINED),
    "fsq": ({"fsq": {"levels": [8, 8, 8]}}, {}),
    "lfq": ({"lfq": {"bits": 9}}, {"commitment": 0.25, "entropy": 0.1}),
    "bsq": ({"bsq": {"bits": 9}}, {"entropy": 0.1}),
    "simvq": ({"simvq": {"codes": 512, "latent": 16}}, _TRAINED),
    "ibq": ({"ibq": {"codes": 512, "latent": 16}}, {**_TRAINED, "entropy": 0.1}),
    "residual (vq)": ({"residual": {"levels": 3, "latent": 16, "quantizer": {"vq": {"codes": 8}}}}, _COMMITTED),
    "grouped (vq)": ({"grouped": {"groups": 3, "latent": 15, "quantizer": {"vq": {"codes": 8}}}}, _COMMITTED),
}
"""Bottleneck and terms beside the reconstruction: 49 positions of 9 bits each."""
LARGE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "vq, 65,536 codes": ({"vq": {"codes": 65536, "latent": 16}}, _COMMITTED),
    "simvq, 65,536 codes": ({"simvq": {"codes": 65536, "latent": 16}}, _TRAINED),
    "fsq, 65,536 codes": ({"fsq": {"levels": [16, 16, 16, 16]}}, {}),
    "lfq, 65,536 codes": ({"lfq": {"bits": 16}}, {"commitment": 0.25, "entropy": 0.1}),
    "bsq, 262,144 codes": ({"bsq": {"bits": 18}}, {"entropy": 0.1}),
    "lfq, 262,144 codes": ({"lfq": {"bits": 18}}, {"commitment": 0.25, "entropy": 0.1}),
}
"""Codebooks of 16 and 18 bits."""


def recipe(bottleneck: dict[str, Any], terms: dict[str, Any], seed: int, steps: int, precision: str) -> dict[str, Any]:
    """A small convolutional autoencoder around a quantizer."""
    return {
        "name": "quantizer",
        "data": {"source": "fashion-mnist", "validation": 0.01},
        "model": {
            "input": [1, 28, 28],
            "encoder": [
                *[{"conv": {"channels": 32, "stride": 2}}, "batch-norm", "relu"],
                *[{"conv": {"channels": 64, "stride": 2}}, "batch-norm", "relu"],
            ],
            "bottleneck": bottleneck,
            "decoder": [
                *[{"conv": {"channels": 64}}, "batch-norm", "relu"],
                *[{"conv-transpose": {"channels": 32, "stride": 2}}, "batch-norm", "relu"],
                {"conv-transpose": {"channels": 1, "stride": 2}},
            ],
        },
        "objective": {"reconstruction": 1, **terms},
        "training": {
            "steps": steps,
            "batch_size": BATCH,
            "seed": seed,
            "precision": precision,
            "optimizer": {"lr": 2e-3},
        },
    }


def measure(
    bottleneck: dict[str, Any], terms: dict[str, Any], seed: int, steps: int, precision: str
) -> dict[str, float]:
    """Trains one model: bits per image, PSNR of test images, usage and perplexity of the worst codebook, seconds."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        given = recipe(bottleneck, terms, seed, steps, precision)
        model = convae.train(given, out=Path(folder) / "run", quiet=True).last.eval()
    seconds = time.perf_counter() - start
    split = open_split(DataConfig(source="fashion-mnist", size=(28, 28)), "test")
    counts, errors = list[torch.Tensor](), list[torch.Tensor]()
    with torch.no_grad():
        for batch in itertools.islice(in_order(split, 500, torch.device("cpu")), TEST_IMAGES // 500):
            posterior = model.encode(batch.images)
            assert isinstance(posterior, CodePosterior)
            difference = batch.images - model.decode(posterior.mean).mean
            errors.append(difference.square().flatten(1).mean(1))
            pairs = zip(posterior.codes_by_level.unbind(1), posterior.codebook_sizes, strict=True)
            own = [codes.flatten().bincount(minlength=size) for codes, size in pairs]
            counts = [old + new for old, new in zip(counts, own, strict=True)] if counts else own
    shares = [uses.double() / uses.sum() for uses in counts]
    bits = float(posterior.kl()[0]) / math.log(2)
    return {
        "bits": bits,
        "psnr": float((-10 * torch.cat(errors).log10()).mean()),
        "usage": min(float((each > 0).double().mean()) for each in shares),
        "perplexity": min(float(torch.special.entr(each).sum().exp()) / len(each) for each in shares),
        "seconds": seconds,
    }


def main() -> None:
    """Prints a row for each quantizer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--only", default="equal", choices=["equal", "large"])
    given = parser.parse_args()
    print(f"{given.steps} steps of {BATCH} images, {given.precision}, {given.seeds} seeds, torch {torch.__version__}\n")
    print("| quantizer | bits per image | PSNR, dB | usage | perplexity, of the codes | seconds |")
    print("|---|---|---|---|---|---|")
    for name, (bottleneck, terms) in (RECIPES if given.only == "equal" else LARGE).items():
        found = [measure(bottleneck, terms, seed, given.steps, given.precision) for seed in range(given.seeds)]
        spread = max(each["psnr"] for each in found) - min(each["psnr"] for each in found)
        mean = {key: statistics.mean(each[key] for each in found) for key in found[0]}
        print(
            f"| {name} | {mean['bits']:.0f} | {mean['psnr']:.2f} (range {spread:.2f}) | {mean['usage']:.1%} "
            f"| {mean['perplexity']:.1%} | {mean['seconds']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
