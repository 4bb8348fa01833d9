"""What each preset makes of the same operations: ELBO against FLOPs, under one recipe.

    python benchmarks/presets.py --data-dir DATA [--only resnet,dcgan] [--steps 600] [--seed 0]

Trains the presets on Fashion-MNIST at 32×32, brought near one budget by their own arguments, with 16 latent values
(a vector, or a map), the same likelihood (Gaussian, σ = 0.1), Adam at 1e-3 and the same images, and prints a row for
each: FLOPs of a forward pass of one image, parameters, ELBO on the 10,000 test images. `resnet` and `celeba-beta`
come in sizes of their own, so read their rows with the FLOPs beside them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import convae
from convae.data import DataConfig, open_split
from convae.evaluation import evaluate
from convae.model.spec import resolve
from convae.model.summary import summary
from convae.model.vae import VAE

SIDE, BATCH = 32, 64
MODELS: list[dict[str, Any]] = [
    {"preset": "resnet", "size": "tiny", "latent": 16},
    {"preset": "torch-vae", "max_filters": 101, "latent": 16},
    {"preset": "dcgan", "filters": 19, "latent": 16},
    {"preset": "dcgan", "filters": 19, "latent": 1, "grid": "spatial"},
    {"preset": "arch-def-512", "filters": [12, 25, 50, 100], "latent": 16},
    {"preset": "image-vae", "layers": 4, "features": [44, 4, 4], "latent": 16},
    {"preset": "sd-f8", "width": 4, "blocks": 1, "multipliers": [1, 2, 2, 3], "latent": 1},
    {"preset": "flex-256", "width": 4, "latent": 4},
    {"preset": "resnet", "size": "small", "latent": 16},
    {"preset": "celeba-beta", "latent": 16},
]


def description(given: dict[str, Any]) -> dict[str, Any]:
    """The preset for the images and the likelihood that all have in common."""
    return {"input": [1, SIDE, SIDE], "likelihood": {"gaussian": {"sigma": 0.1}}, **given}


def elbo(given: dict[str, Any], data: dict[str, Any], steps: int, seed: int) -> float:
    """Nats per test image after training; higher is better."""
    recipe = {
        "data": data,
        "model": description(given),
        "training": {"steps": steps, "batch_size": BATCH, "seed": seed, "device": "cpu", "pictures_every": 0},
    }
    with tempfile.TemporaryDirectory() as folder:
        run = convae.train(recipe, out=Path(folder) / "run")
        report = evaluate(run.model, open_split(DataConfig(**data), "test"), metrics=["elbo"])
    value = report.figures["elbo"].value
    assert isinstance(value, float)
    return value


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--only", help="names of presets, with commas between")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    data = {"source": "fashion-mnist", "dir": str(given.data_dir), "size": SIDE, "validation": 0}
    print("| preset | MFLOP per image | parameters | ELBO, nats per image |\n| --- | ---: | ---: | ---: |")
    for model in MODELS:
        if given.only and model["preset"] not in given.only.split(","):
            continue
        rows = summary(VAE(resolve(description(model))))
        operations, parameters = (sum(getattr(row, key) for row in rows) for key in ("flops", "parameters"))
        found = elbo(model, data, given.steps, given.seed) if given.steps else float("nan")
        written = ", ".join(f"{key}: {value}" for key, value in model.items() if key != "preset")
        print(f"| `{model['preset']}` {written} | {operations / 1e6:.1f} | {parameters:,} | {found:.1f} |", flush=True)


if __name__ == "__main__":
    main()
