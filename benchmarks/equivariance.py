"""Latents with and without the term `equivariance`: samples of one small flow prior, and reconstructions.

    python -m benchmarks.equivariance FOLDER --data flowers --seeds 0,1,2
    python -m benchmarks.equivariance FOLDER --data flowers --seeds 0,1,2 --tuning 400
    python -m benchmarks.equivariance FOLDER --data flowers --table

For each seed and each weight of the term, trains the same small tokenizer for the same steps, fits the same
flow-matching prior to its latents for the same steps, and measures on the test images: the Fréchet distance of as many
samples, in features of a classifier of the real training images, and the squared error of reconstructions. With
`--tuning`, one tokenizer of each seed is trained without the term, and further with and without it, as in the paper.
What FOLDER holds already is not done again, so that a run that was stopped continues.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import convae
from benchmarks.classifiers import Classifier, classifier, data_config, data_folder
from benchmarks.records import Results, finish_run
from convae.core.random import torch_generator
from convae.data import Split, in_order, open_split
from convae.evaluation.distances import frechet_distance

IMAGES = 1000
"""Most test images, and as many samples, whose features are compared."""
DRAWS = (0, 1, 2)
"""Seeds of the samples of each prior."""
PRIOR: dict[str, dict[str, Any] | None] = {"flow-matching": {"width": 32, "blocks": 2}}


@dataclass(frozen=True)
class Steps:
    """Numbers of steps.

    Attributes:
        tokenizer: of a tokenizer from random weights.
        tuning: of the training of this tokenizer with the term or without it; 0 if it has the term from its first step.
        prior: of a prior.
    """

    tokenizer: int
    tuning: int
    prior: int


def recipe(data: str, weight: float, seed: int, steps: int, start: Path | None = None) -> dict[str, Any]:
    """The recipe of a tokenizer with latent maps of a quarter of the size."""
    is_flowers = data == "flowers"
    source = {"source": str(data_folder() / "flowers"), "size": 32} if is_flowers else {"source": data}
    preset = {
        "preset": "tokenizer-tiny-f4",
        "width": 8,
        "input": [3, 32, 32] if is_flowers else [1, 28, 28],
    }
    return {
        "name": f"{data}-{weight:g}-{seed}",
        "data": source,
        **({"model": preset} if start is None else {"start": str(start)}),
        "objective": {"reconstruction": 1, "kl": 0.05, **({"equivariance": weight} if weight else {})},
        "training": {
            "steps": steps,
            "batch_size": 32,
            "seed": seed,
            "pictures_every": 0,
            "optimizer": {"lr": 2e-3 if start is None else 1e-3},
        },
    }


def train_tokenizer(data: str, weight: float, seed: int, steps: Steps, folder: Path) -> Path:
    """The tokenizer of a seed and a weight, from the folder or trained."""
    where = [f"data.dir={json.dumps(str(data_folder()))}"]
    first = 0.0 if steps.tuning else weight
    base = folder / f"{data}-{first:g}-{seed}"
    made = recipe(data, first, seed, steps.tokenizer)
    finish_run(base, lambda: convae.train(made, out=base, overrides=where, quiet=True))
    if not steps.tuning:
        return base
    tuned = folder / f"{data}-tuned-{weight:g}-{seed}"
    further = recipe(data, weight, seed, steps.tuning, base / "last")
    finish_run(tuned, lambda: convae.train(further, out=tuned, overrides=where, quiet=True))
    return tuned


def measure(
    data: str, weight: float, seed: int, steps: Steps, folder: Path, network: Classifier, test: Split
) -> dict[str, Any]:
    """Trains a tokenizer and fits the prior, unless the folder holds them, and measures both."""
    base = train_tokenizer(data, weight, seed, steps, folder)
    fitted = folder / f"{base.name}-prior"
    options = [f"training.steps={steps.prior}", f"training.seed={seed}", "training.batch_size=64"]
    options += ["training.optimizer.lr=3e-3", "training.ema=0.99", "training.pictures_every=0"]
    options += [f"data.dir={json.dumps(str(data_folder()))}"]
    finish_run(fitted, lambda: convae.fit_prior(base / "last", PRIOR, overrides=options, out=fitted, quiet=True))
    model = convae.load(fitted)
    with torch.no_grad():
        images = next(in_order(test, min(IMAGES, len(test)))).images
        real = network.features(images)
        drawn = [model.sample(len(images), torch_generator(own, "samples")) for own in DRAWS]
        reconstructed = model.decode(model.encode(images).mean).mean
        error = (reconstructed - images).square().flatten(1).mean(1)
    return {
        "distance": [frechet_distance(real, network.features(own)) for own in drawn],
        "distance of reconstructions": frechet_distance(real, network.features(reconstructed)),
        "squared error": float(error.mean()),
        "psnr": float((-10 * error.log10()).mean()),
        "steps": [steps.tokenizer, steps.tuning, steps.prior],
    }


def table(folder: Path, data: str) -> None:
    """Prints the measurements as a table; changes are those from the same seed without the term."""
    rows = Results(folder / "results.jsonl").rows
    print("| seed | weight | Fréchet distance of samples | of reconstructions | squared error | PSNR, dB |")
    print("|---|---|---|---|---|---|")
    found: dict[str, dict[float, dict[str, Any]]] = {}
    for name, row in sorted(rows.items()):
        source, written, seed = name.split(" ")
        if source == data:
            found.setdefault(seed, {})[float(written)] = row
    for seed, own in found.items():
        for weight, row in own.items():
            print(f"| {seed} | {weight:g} | {np.mean(row['distance']):.2f} |", end="")
            print(f" {row['distance of reconstructions']:.2f} | {row['squared error']:.5f} | {row['psnr']:.2f} |")
            without = own.get(0.0)
            if weight and without is not None:
                distance = np.mean(row["distance"]) / np.mean(without["distance"]) - 1
                error = row["squared error"] / without["squared error"] - 1
                print(f"| | change | {distance:+.1%} | | {error:+.1%} | {row['psnr'] - without['psnr']:+.2f} |")


def main() -> None:
    """Runs the measurements, or prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", choices=("flowers", "mnist", "fashion-mnist"), default="flowers")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--weight", type=float, default=0.5, help="of the term")
    parser.add_argument("--steps", type=int, default=1000, help="of each tokenizer")
    parser.add_argument("--tuning", type=int, default=0, help="further steps of a tokenizer without the term")
    parser.add_argument("--prior-steps", type=int, default=1000, help="of each prior")
    parser.add_argument("--table", action="store_true", help="only print what is measured")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    label = f"{given.data}-tuned" if given.tuning else given.data
    if not given.table:
        results = Results(given.folder / "results.jsonl")
        network, test = classifier(given.data, given.folder), open_split(data_config(given.data), "test")
        steps = Steps(given.steps, given.tuning, given.prior_steps)
        for seed in map(int, given.seeds.split(",")):
            for weight in (0.0, given.weight):
                name = f"{label} {weight:g} {seed}"
                if name not in results.rows:
                    results.add(name, measure(given.data, weight, seed, steps, given.folder, network, test))
    table(given.folder, label)


if __name__ == "__main__":
    main()
