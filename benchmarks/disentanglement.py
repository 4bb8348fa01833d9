"""Disentanglement against reconstruction on sprites: β-VAE, β-TCVAE, FactorVAE and DIP-VAE at several weights.

    python -m benchmarks.disentanglement train --seeds 0,1,2 --out results.jsonl
    python -m benchmarks.disentanglement table results.jsonl
    python -m benchmarks.disentanglement compare results.jsonl
    python -m benchmarks.disentanglement picture results.jsonl --out mig.png

`train` adds a line for each finished run and skips those that the file has. Metrics are those of `convae evaluate` on
all images. `compare` prints the MIG of each method above that of a β-VAE with the same reconstruction.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

import convae
from benchmarks.records import add_result, is_measured, mean_text, read_results
from convae.data import DataConfig, open_split
from convae.evaluation import evaluate
from convae.pictures.style import PALETTE

COUNT, SIZE, HIDDEN, LATENT = 20_000, 16, 128, 6
BASELINE = "β-VAE"
T_QUANTILES = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""The quantile 0.975 of Student's t for the mean of so many seeds."""
SHOWN = {"reconstruction": 1, "kl": 1, "active-units": 1, "mig": 3, "factor-vae": 2, "modularity": 2}
"""Metrics of the table, and their digits."""
METRICS = ("mig", "mig-per-factor", "modularity", "factor-vae", "reconstruction", "kl", "active-units")
METHODS: dict[str, tuple[tuple[float, ...], Any]] = {
    BASELINE: ((1, 2, 4), lambda weight: {"kl": weight}),
    "β-TCVAE": (
        (4, 8),
        lambda weight: {"kl": 1, "total-correlation": {"weight": weight - 1, "estimator": "weighted"}},
    ),
    "FactorVAE": (
        (40,),
        lambda weight: {"kl": 1, "factor": {"weight": weight, "width": 128, "layers": 3, "lr": 1e-3}},
    ),
    "DIP-VAE-II": ((10,), lambda weight: {"kl": 1, "dip": {"weight": weight, "covariance": "latents", "diagonal": 1}}),
}
"""Weights of each method, and its terms beside `reconstruction` for a weight; a β-VAE of β = 1 is the VAE."""


def make_recipe(method: str, weight: float, seed: int, steps: int) -> dict[str, Any]:
    """A small VAE of linear layers."""
    hidden: list[Any] = [{"linear": {"features": HIDDEN}}, "relu"] * 2
    pixels: list[Any] = [{"linear": {"features": SIZE * SIZE}}, {"unflatten": {"to": [1, SIZE, SIZE]}}]
    return {
        "name": "disentanglement",
        "data": {
            "source": {"sprites": {"count": COUNT, "size": SIZE, "fixed": {"color": "white"}}},
            "channels": 1,
            "validation": 0.01,
            "test": 0.01,
        },
        "model": {
            "likelihood": "bernoulli",
            "encoder": ["flatten", *hidden],
            "bottleneck": {"gaussian": {"latent": LATENT}},
            "decoder": [*hidden, *pixels],
        },
        "objective": {"reconstruction": 1, **METHODS[method][1](weight)},
        "training": {
            "steps": steps,
            "batch_size": 128,
            "seed": seed,
            "precision": "float32",
            "pictures_every": 0,
            "checkpoint_every": steps,
            "optimizer": {"lr": 4e-3, "schedule": "constant"},
        },
    }


def train(given: argparse.Namespace) -> None:
    """Trains every method with every weight and seed, unless the results have it."""
    for seed in map(int, given.seeds.split(",")):
        for method in given.only or METHODS:
            for weight in METHODS[method][0]:
                key = {"method": method, "weight": weight, "size": SIZE, "steps": given.steps, "seed": seed}
                if is_measured(given.out, key):
                    continue
                recipe = make_recipe(method, weight, seed, given.steps)
                start = time.process_time()
                with tempfile.TemporaryDirectory() as folder:
                    model = convae.train(recipe, out=Path(folder) / "run", quiet=True).last
                seconds = time.process_time() - start
                split = open_split(DataConfig(**recipe["data"]), "all")
                report = evaluate(model, split, metrics=METRICS, seed=seed).metrics
                values = {name: report[name].value for name in METRICS}
                facts = {"seconds": round(seconds, 1), "torch": torch.__version__}
                print(add_result(given.out, {**key, **values, **facts}), flush=True)


def settings(path: Path) -> Mapping[tuple[str, float], list[dict[str, Any]]]:
    """The lines of each method and weight, in the order of the methods."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {
        (method, weight): [] for method, (weights, _) in METHODS.items() for weight in weights
    }
    for line in read_results(path):
        groups[line["method"], line["weight"]].append(line)
    return {key: lines for key, lines in groups.items() if lines}


def table(given: argparse.Namespace) -> None:
    """Prints the mean and the standard deviation over the seeds."""
    print("| method | weight | −log p(x given z), nats | KL, nats | active | MIG | FactorVAE score | modularity |")
    print("|---|---|---|---|---|---|---|---|")
    for (method, weight), lines in settings(given.results).items():
        cells = " | ".join(mean_text([line[name] for line in lines], digits) for name, digits in SHOWN.items())
        print(f"| {method} | {weight:g} | {cells} |")


def compare(given: argparse.Namespace) -> None:
    """Prints the gain in MIG over a β-VAE of the same reconstruction and seed: mean and 95 % interval over the seeds.

    The MIG of the β-VAE is interpolated between its weights; beyond them it is that of the nearest.
    """
    lines = read_results(given.results)
    print("| method | weight | MIG above the β-VAE's |")
    print("|---|---|---|")
    for (method, weight), own in settings(given.results).items():
        if method == BASELINE:
            continue
        gains = []
        for line in own:
            base = sorted(
                (each["reconstruction"], each["mig"])
                for each in lines
                if each["method"] == BASELINE and each["seed"] == line["seed"]
            )
            known, values = np.array(base).T
            gains.append(line["mig"] - float(np.interp(line["reconstruction"], known, values)))
        spread = T_QUANTILES[len(gains)] * statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0
        print(f"| {method} | {weight:g} | {statistics.mean(gains):+.3f} ± {spread:.3f} |")


def picture(given: argparse.Namespace) -> None:
    """Draws MIG against reconstruction: a point for each run, a line through the means of each method."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for color, method in zip(PALETTE, METHODS, strict=False):
        groups = [lines for (own, _), lines in settings(given.results).items() if own == method]
        points = [[(line["reconstruction"], line["mig"]) for line in lines] for lines in groups]
        means = [tuple(map(statistics.mean, zip(*own, strict=True))) for own in points]
        axes.plot(*zip(*means, strict=True), color=color, marker="o", label=method)
        for own in points:
            axes.plot(*zip(*own, strict=True), ".", color=color, alpha=0.5)
    axes.set(xlabel="−log p(x | z), nats per image", ylabel="mutual information gap")
    axes.legend()
    figure.savefig(given.out, dpi=120)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--steps", type=int, default=16_000)
    training.add_argument("--seeds", default="0,1,2")
    training.add_argument("--only", nargs="*", action="extend", choices=METHODS)
    training.set_defaults(run=train)
    for name, function in {"table": table, "compare": compare, "picture": picture}.items():
        command = commands.add_parser(name)
        command.add_argument("results", type=Path)
        command.set_defaults(run=function)
        if name == "picture":
            command.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
