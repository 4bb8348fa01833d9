"""Importance-weighted NLL of a model over a whole split, with thousands of samples per image, in parts.

Parts of 50 images in random order are appended to a file, and a second call continues, so that hours of work survive a
stop, and what is done so far is an estimate from a random subset. Processes with shares append to the same file:

    python -m benchmarks.likelihood runs/ladder --samples 5000 --out nll.jsonl --share 1/2 &
    python -m benchmarks.likelihood runs/ladder --samples 5000 --out nll.jsonl --share 2/2

Prints the protocol, and means with standard errors over the images. Bounds of fewer samples are reported beside: from
their differences on some images, the bound of 200 samples on all gives an estimate of that of 5,000 on all. Equal to
`convae evaluate --metrics nll nll.samples=5000` but for the random numbers.

With `--precision bf16` networks are computed by autocast, likelihoods, priors and sums as without it. `--against FILE`
prints the difference from another estimate on the images of both, such as of the other precision.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import convae
from benchmarks.records import add_result, read_results
from convae.core.allocator import keep_freed_memory
from convae.core.output import importance_bound
from convae.core.random import torch_generator
from convae.data import DataConfig, in_order, open_split
from convae.model.fingerprint import fingerprint

PART, ROWS = 50, 500
"""Images of a part, and latents that are decoded at once."""
PRECISIONS = {
    "float32": "float32, sums in float64",
    "bf16": "networks in bf16, likelihoods in float32, sums in float64",
}
FEWER = (100, 200, 1000)
"""Numbers of samples whose bounds are reported beside: their differences from the bound of all have small errors."""


def main() -> None:
    """Continues the estimate and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--data", default="binarized-mnist")
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=None, help="stop after this many images; default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="float32")
    parser.add_argument("--share", type=_share, default=(1, 1), help="1/2: the first of every two parts; default all")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--against", type=Path, default=None, help="another estimate, of the same seed")
    args = parser.parse_args()
    keep_freed_memory()
    model = convae.load(args.model).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
    split = open_split(DataConfig(source=args.data, dir=args.data_dir), args.split)
    order = np.random.default_rng(args.seed).permutation(len(split))
    protocol = {
        "model": fingerprint(model),
        "data": args.data,
        "split": args.split,
        "samples": args.samples,
        "seed": args.seed,
        "precision": PRECISIONS[args.precision],
    }
    done = read_results(args.out) or [protocol]
    if done[0] != protocol:
        raise SystemExit(f"{args.out} is of another estimate: {done[0]}. Choose another file")
    if not args.out.exists():
        add_result(args.out, protocol)
    wanted = order[: args.images]
    share, shares = args.share
    have = {row["start"] for row in done[1:]}
    for start in range(PART * (share - 1), len(wanted), PART * shares):
        if start in have:
            continue
        began = time.process_time()
        (batch,) = in_order(split, PART, indices=np.sort(wanted[start : start + PART]))
        row = {"start": start, **estimate(model, batch.images, args.samples, args.seed + start, args.precision)}
        add_result(args.out, row | {"seconds": round(time.process_time() - began, 1)})
    done = read_results(args.out)
    report(protocol, done[1:], len(split))
    if args.against is not None:
        compare(done, read_results(args.against))


def _share(text: str) -> tuple[int, int]:
    """The share of a process, and into how many the parts are divided."""
    share, shares = (int(number) for number in text.split("/"))
    if not 1 <= share <= shares:
        raise ValueError(text)
    return share, shares


@torch.inference_mode()
def estimate(
    model: convae.VAE, images: torch.Tensor, samples: int, seed: int, precision: str = "float32"
) -> dict[str, list[float]]:
    """NLL and negative ELBO of each image, nats."""
    per_image = max(1, ROWS // len(images))
    weights = []
    for start in range(0, samples, per_image):
        count = min(per_image, samples - start)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
            output = model(images, torch_generator(seed, "nll", start), samples=count)
        weights.append(output.log_weights(images.repeat_interleave(count, 0)).view(len(images), count))
    log_weights = torch.cat(weights, 1)
    bounds = {_name(few): (-importance_bound(log_weights[:, :few])).tolist() for few in FEWER if few < samples}
    return {
        "nll": (-importance_bound(log_weights)).tolist(),
        **bounds,
        "negative_elbo": (-log_weights.mean(1)).tolist(),
    }


def _name(samples: int) -> str:
    """The key of the bound with the first so many of the samples."""
    return f"nll of {samples:,} samples"


def _mean(values: NDArray[np.float64]) -> str:
    """Mean with its standard error over the images."""
    return f"{values.mean():.3f} nats, standard error {values.std(ddof=1) / math.sqrt(len(values)):.3f}"


def report(protocol: dict[str, Any], rows: list[dict[str, Any]], total: int) -> None:
    """Prints the protocol, means with standard errors, and how much fewer samples would change them."""
    print(", ".join(f"{key} {value}" for key, value in protocol.items()))
    columns = {
        name: np.array([value for row in rows for value in row[name]])
        for name in rows[0]
        if name not in ("start", "seconds")
    }
    for name, values in columns.items():
        print(f"{name}: {_mean(values)}, {len(values):,} of {total:,} images")
        if name.startswith("nll of"):
            print(f"  all samples against these, on the same images: {_mean(columns['nll'] - values)}")
    print(f"{sum(row['seconds'] for row in rows):,.0f} seconds of a processor")


def compare(done: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    """Prints the difference of two estimates on the images of both."""
    (protocol, *rows), (other_protocol, *others) = done, other
    if any(protocol[key] != other_protocol[key] for key in ("model", "data", "split", "seed")):
        raise SystemExit(f"the images or the model of the other estimate are others: {other_protocol}")
    same = {row["start"]: row["nll"] for row in others}
    pairs = [pair for row in rows if row["start"] in same for pair in zip(row["nll"], same[row["start"]], strict=True)]
    ours, theirs = np.array(pairs).T
    print(f"against {other_protocol['precision']}, on {len(pairs):,} images: {_mean(ours - theirs)}")


if __name__ == "__main__":
    main()
