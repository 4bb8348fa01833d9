"""What each preset makes of the same operations: ELBO against FLOPs, and how each begins.

    python benchmarks/presets.py --data-dir DATA [--size tiny] [--only resnet,dcgan] [--steps 1000] [--seeds 0,1]
    python benchmarks/presets.py --data-dir DATA --first

The first trains the presets on Fashion-MNIST at 32×32 with 16 latent values (a vector, or a map), the same likelihood
(Gaussian, σ = 0.1), Adam and the same images. Each has the width with which a forward pass comes nearest to the
operations of `resnet` (`celeba-beta` has one width only), and the learning rate of `--rates` with the best ELBO. A row
for each: width, FLOPs of one image, parameters, rate, ELBO on the 10,000 test images for each seed.

The second takes 50 steps with every preset at several depths, each at its own likelihood and a learning rate of
1e-3, and prints the loss on the way: nats per image, a mean of five steps.
"""

from __future__ import annotations

import argparse
import bisect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import convae
from convae.core.random import torch_generator
from convae.data import DataConfig, open_split, to_unit
from convae.describe import resolve
from convae.evaluation import evaluate
from convae.model.construct import construct
from convae.model.summary import summarize

SIDE, BATCH, LATENT = 32, 64, 16
Wide = Callable[[int], dict[str, Any]]
"""A description for a width."""
RIVALS: list[Wide] = [
    lambda width: {"preset": "torch-vae", "max_filters": width, "latent": LATENT},
    lambda width: {"preset": "dcgan", "filters": width, "latent": LATENT},
    lambda width: {"preset": "dcgan", "filters": width, "latent": 1, "grid": "spatial"},
    lambda width: {"preset": "arch-def-512", "filters": [width, 2 * width, 4 * width, 8 * width], "latent": LATENT},
    lambda width: {"preset": "image-vae", "layers": 4, "features": [width, 4, 4], "latent": LATENT},
    lambda width: {"preset": "sd-f8", "width": width, "blocks": 1, "multipliers": [1, 2, 2, 3], "latent": 1},
    lambda width: {"preset": "flex-256", "width": width, "latent": 4},
]
DEEP: list[dict[str, Any]] = [
    {"preset": "torch-vae"},
    {"preset": "celeba-beta"},
    *({"preset": "dcgan", "grid": grid} for grid in ("global", "spatial")),
    *({"preset": "arch-def-512", "filters": [32, 64, 128, 256, 512, 512, 512][:depth]} for depth in (2, 4, 7)),
    *({"preset": "image-vae", "layers": layers} for layers in (1, 3, 8, 16)),
    {"preset": "flex-256", "width": 32},
    *({"preset": "resnet", "size": size} for size in ("tiny", "small", "base")),
    {"preset": "resnet", "grid": "spatial", "latent": 4},
    *({"preset": "sd-f8", "width": 32, "blocks": blocks} for blocks in (1, 2, 4)),
]
FIRST, MARKS = 50, (1, 5, 10, 20, 30, 40, 50)


def described(given: dict[str, Any]) -> dict[str, Any]:
    """The preset for the images and the likelihood that all have in common."""
    return {"input": [1, SIDE, SIDE], "likelihood": {"gaussian": {"sigma": 0.1}}, **given}


def cost(given: dict[str, Any]) -> tuple[int, int]:
    """FLOPs of a forward pass of one image, and parameters."""
    rows = summarize(construct(resolve(described(given))))
    return sum(row.flops for row in rows), sum(row.parameters for row in rows)


def nearest(rival: Wide, budget: int) -> dict[str, Any]:
    """The rival at the width whose operations are nearest to the budget."""
    over = bisect.bisect_left(range(512), budget, lo=2, key=lambda width: cost(rival(width))[0])
    return min((rival(over - 1), rival(over)), key=lambda given: abs(cost(given)[0] - budget))


def elbo(given: dict[str, Any], data: dict[str, Any], steps: int, seed: int, rate: float) -> float:
    """Nats per test image after training; higher is better."""
    training = {"steps": steps, "batch_size": BATCH, "seed": seed, "device": "cpu", "pictures_every": 0}
    recipe = {"data": data, "model": described(given), "training": {**training, "optimizer": {"lr": rate}}}
    with tempfile.TemporaryDirectory() as folder:
        run = convae.train(recipe, out=Path(folder) / "run")
        report = evaluate(run.model, open_split(DataConfig(**data), "test"), metrics=["elbo"])
    value = report.metrics["elbo"].value
    assert isinstance(value, float)
    return value


def compare(given: argparse.Namespace, data: dict[str, Any]) -> None:
    """Prints the table of equal operations."""
    resnet = {"preset": "resnet", "size": given.size, "latent": LATENT}
    budget = cost(resnet)[0]
    rates = [float(part) for part in given.rates.split(",")]
    seeds = [int(part) for part in given.seeds.split(",")]
    print("| preset | MFLOP per image | parameters | learning rate | ELBO, nats per image |")
    print("| --- | ---: | ---: | ---: | ---: |", flush=True)
    for model in [resnet, *(nearest(rival, budget) for rival in RIVALS), {"preset": "celeba-beta", "latent": LATENT}]:
        if given.only and model["preset"] not in given.only.split(","):
            continue
        operations, parameters = cost(model)
        found = {rate: elbo(model, data, given.steps, seeds[0], rate) for rate in rates} if given.steps else {}
        best = max(found, key=lambda rate: found[rate], default=0.0)
        values = [found.get(best, 0.0), *(elbo(model, data, given.steps, seed, best) for seed in seeds[1:])]
        written = ", ".join(f"{key}: {value}" for key, value in model.items() if key not in ("preset", "latent"))
        row = [f"`{model['preset']}` {written}", f"{operations / 1e6:.2f}", f"{parameters:,}", f"{best:g}"]
        print(f"| {' | '.join([*row, ' / '.join(f'{value:.1f}' for value in values)])} |", flush=True)


def first(data: dict[str, Any]) -> None:
    """Prints the losses of the first steps."""
    split = open_split(DataConfig(**data), "train")
    print("| preset | " + " | ".join(f"step {mark}" for mark in MARKS) + " |")
    print("| --- |" + " ---: |" * len(MARKS), flush=True)
    for given in DEEP:
        model = convae.build({"input": [1, SIDE, SIDE], **given}).train()
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        losses = []
        for step in range(FIRST):
            x = to_unit(split.images(range(step * BATCH // 4, (step + 1) * BATCH // 4)))
            out = model(x, torch_generator(0, "noise", step))
            loss = (out.posterior.kl() - out.likelihood.log_prob(x)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        near = [losses[max(0, mark - 5) : mark] if mark > 1 else losses[:1] for mark in MARKS]
        written = ", ".join(f"{key}: {value}" for key, value in given.items() if key != "preset")
        means = " | ".join(f"{sum(some) / len(some):,.0f}" for some in near)
        print(f"| `{given['preset']}` {written} | {means} |", flush=True)


def main() -> None:
    """Prints one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--size", default="tiny", help="of resnet")
    parser.add_argument("--only", help="names of presets, with commas between")
    parser.add_argument("--steps", type=int, default=1000, help="0 for the costs alone")
    parser.add_argument("--rates", default="4e-3,8e-3,16e-3,32e-3", help="learning rates, the best of which counts")
    parser.add_argument("--seeds", default="0", help="the first chooses the rate")
    parser.add_argument("--first", action="store_true", help="the first steps of every preset instead")
    given = parser.parse_args()
    data = {"source": "fashion-mnist", "dir": str(given.data_dir), "size": SIDE, "validation": 0}
    first(data) if given.first else compare(given, data)


if __name__ == "__main__":
    main()
