"""Trains each method of the literature for some steps, and tabulates whether it learns.

    python -m benchmarks.literature train --out FOLDER --steps 200
    python -m benchmarks.literature table FOLDER
    python -m benchmarks.literature picture FOLDER --out reconstructions.png

`train` keeps the run of each method in the folder, adds a line to `results.jsonl` there, and skips methods that have
one. PSNR and active units are those of the last model on 512 test images; `mean` is the PSNR of their mean, which a
model without information reaches.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import convae
from benchmarks.records import add_result, read_results
from convae.core.types import Batch
from convae.data import in_order, open_split
from convae.model.vae import VAE
from convae.pictures.grid import compare
from convae.pictures.save import save
from convae.training.recipe.reading import read_recipe
from convae.training.recipe.schema import Recipe

COUNT, SHOWN = 512, 12
ACTIVE = 0.01
FASHION = {"data.source": "fashion-mnist"}
SPRITES = {"data.source": {"sprites": {"count": 4000}}}
_DETERMINISTIC = {"model.bottleneck": {"deterministic": {"latent": 16}}}


def weighted(samples: int, bounds: int = 1, **options: Any) -> dict[str, Any]:
    """Overrides of the recipe `iwae`."""
    return {**FASHION, "objective.importance-weighted": {"samples": samples, "bounds": bounds, **options}}


METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "VAE": ("fashion", {}),
    "β-VAE, β = 4": ("fashion", {"objective.kl": 4}),
    "capacity": ("fashion", {"objective": {"reconstruction": 1, "capacity": {"nats": 10, "weight": 10}}}),
    "free bits": ("fashion", {"objective": {"reconstruction": 1, "free-bits": {"nats": 0.5}}}),
    "IWAE": ("iwae", weighted(5)),
    "MIWAE": ("iwae", weighted(4, 2)),
    "PIWAE": ("iwae", weighted(4, 2, partial=True)),
    "CIWAE": ("iwae", {**weighted(5, weight=0.5), "objective.reconstruction": 0.5, "objective.kl": 0.5}),
    "DReG": ("iwae", weighted(5, doubly_reparameterized=True)),
    "MIWAE, half of the pixels": ("missing", {}),
    "β-TCVAE": ("beta-tc", SPRITES),
    "FactorVAE": ("factor", SPRITES),
    "DIP-VAE-II": ("dip", SPRITES),
    "DIP-VAE-I": ("dip", {**SPRITES, "objective.dip": {"weight": 10, "covariance": "means", "diagonal": 10}}),
    "InfoVAE": ("info-vae", FASHION),
    "WAE-MMD": ("wae", FASHION),
    "adversarial autoencoder": ("aae", FASHION),
    "RAE-GP": ("rae", FASHION),
    "RAE-L2": ("rae", {**FASHION, "objective.decoder-gradient": 0, "training.optimizer.weight_decay": 1e-6}),
    "autoencoder": ("fashion-autoencoder", {}),
    "σ-VAE": ("sigma-vae", {}),
    "contractive": ("fashion-autoencoder", {"objective": {"reconstruction": 1, "contractive": 0.1}}),
    "VampPrior": ("fashion", {"model.prior": {"vamp": {"inputs": 100}}}),
    "mixture prior": ("fashion", {"model.prior": "mixture"}),
    "flow prior": ("fashion-flow-prior", {}),
    "IAF posterior": ("fashion-iaf", {}),
    "planar posterior": ("fashion", {"model.bottleneck": {"gaussian": {"latent": 16, "flow": "planar"}}}),
    "full covariance": ("fashion", {"model.bottleneck": {"gaussian": {"latent": 16, "covariance": "full"}}}),
    "von Mises-Fisher": ("fashion-sphere", {}),
    "ladder": ("ladder", FASHION),
    "VQ-VAE": ("fashion-vq", {}),
    "FSQ": ("fashion-fsq", {}),
    "SimVQ": ("fashion-simvq", {}),
    "LFQ": ("fashion-lfq", {}),
    "conditional": ("conditional", FASHION),
    "VAE/GAN": ("vae-gan", {}),
    "MS-SSIM": ("fashion", {"objective": {"ms-ssim": {"scales": 2, "weight": 1000}, "kl": 1}}),
}
"""The recipe and the overrides of each method."""


def finished(folder: Path) -> list[dict[str, Any]]:
    """The lines of the results."""
    return read_results(folder / "results.jsonl")


@torch.no_grad()
def measure(model: VAE, batch: Batch) -> dict[str, float]:
    """PSNR of reconstructions and of the mean image, dB, and number of active latent values."""
    images = batch.images
    weights = torch.ones_like(images) if batch.weights is None else batch.weights.expand_as(images)
    latents = model.encode(images, batch.labels).mean
    decoded = model.decode(latents, batch.labels).mean
    return {
        "psnr": psnr(images, decoded, weights),
        "mean": psnr(images, (images * weights).sum(0) / weights.sum(0), weights),
        "active": int((latents.flatten(1).var(0) > ACTIVE).sum()),
        "values": latents[0].numel(),
    }


def psnr(images: Tensor, others: Tensor, weights: Tensor) -> float:
    """Mean PSNR over images, of their observed values, dB."""
    errors = (weights * (images - others).square()).flatten(1).sum(1) / weights.flatten(1).sum(1)
    return float(-10 * errors.log10().mean())


def held_out(recipe: Recipe) -> Batch:
    """The first 512 test images of a recipe's data."""
    return next(in_order(open_split(recipe.data, "test"), COUNT))


def train(given: argparse.Namespace) -> None:
    """Trains each method, unless the results have it."""
    for name, (recipe, overrides) in METHODS.items():
        if (given.only and name not in given.only) or any(line["method"] == name for line in finished(given.out)):
            continue
        stages = {"stages": [], "objective.kl": {"balance": True}} if recipe == "ladder" else {}
        training: dict[str, Any] = {"training.epochs": None, **stages}
        training |= {"training.steps": given.steps, "training.batch_size": 64, "training.log_every": 10}
        training |= {"training.pictures_every": 0, **overrides}
        written = [f"{path}={json.dumps(value)}" for path, value in training.items()]
        out = given.out / f"{list(METHODS).index(name):02d}-{recipe}"
        shutil.rmtree(out, ignore_errors=True)  # of a training that was cut off
        start = time.process_time()
        run = convae.train(recipe, overrides=written, out=out, quiet=True)
        seconds = time.process_time() - start
        totals = [row["total"] for row in run.metrics if row["split"] == "train"]
        line = {"method": name, "recipe": recipe, "folder": out.name, "first": totals[0], "last": totals[-1]}
        line |= {**measure(run.last, held_out(run.recipe)), "seconds": round(seconds, 1), "notes": run.notes}
        print(add_result(given.out / "results.jsonl", line), flush=True)


def table(given: argparse.Namespace) -> None:
    """Prints a row for each method."""
    print("| method | recipe | objective, first and last ten steps | PSNR, dB (of the mean image) | active |")
    print("|---|---|---|---|---|")
    for line in finished(given.folder):
        quality, active = f"{line['psnr']:.1f} ({line['mean']:.1f})", f"{line['active']} of {line['values']}"
        change = f"{line['first']:.1f} → {line['last']:.1f}"
        print(f"| {line['method']} | `{line['recipe']}` | {change} | {quality} | {active} |")


@torch.no_grad()
def picture(given: argparse.Namespace) -> None:
    """Draws reconstructions of the same test images by each method of one data set."""
    rows: dict[str, Tensor] = {}
    for line in finished(given.folder):
        recipe = read_recipe(given.folder / line["folder"] / "recipe.yaml")
        batch = held_out(recipe)
        images, labels = batch.images, batch.labels
        model = convae.load(given.folder / line["folder"] / "last")
        if images.shape[1] == given.channels:
            rows.setdefault("images", images[:SHOWN])
            kinds = None if labels is None else labels[:SHOWN]
            rows[line["method"]] = model.decode(model.encode(images[:SHOWN], kinds).mean, kinds).mean
    save(compare(rows), given.out)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("--out", type=Path, required=True)
    training.add_argument("--steps", type=int, default=200)
    training.add_argument("--only", nargs="*", action="extend")
    training.set_defaults(run=train)
    printing = commands.add_parser("table")
    printing.add_argument("folder", type=Path)
    printing.set_defaults(run=table)
    drawing = commands.add_parser("picture")
    drawing.add_argument("folder", type=Path)
    drawing.add_argument("--channels", type=int, default=1)
    drawing.add_argument("--out", type=Path, required=True)
    drawing.set_defaults(run=picture)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
