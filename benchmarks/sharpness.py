"""Squared error, with a perceptual, and with an adversarial term: PSNR, SSIM and feature distance of equal trainings.

    python -m benchmarks.sharpness train FOLDER --seeds 0 --only "squared error" perceptual --perceptual 10000 40000
    python -m benchmarks.sharpness train FOLDER --seeds 0,1,2
    python -m benchmarks.sharpness robustness FOLDER --data flowers --seeds 20
    python -m benchmarks.sharpness table FOLDER
    python -m benchmarks.sharpness picture FOLDER --seed 0 --out crops.png

`train` trains a tokenizer on flowers with the squared error for each seed, and from it, for the same steps, one model
for each row: with the same objective, with `perceptual`, with `adversarial` as well, and with a perceptual term without
a gradient; the last three for each weight of the perceptual term. `robustness` trains small tokenizers with many seeds,
in each of which a discriminator enters; a run has diverged if it has a value that is not finite, stops, or doubles its
squared error. What FOLDER holds is not done again, and a run that was stopped continues.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import convae
from benchmarks.classifiers import data_folder
from benchmarks.records import Results, finish_run, mean_text
from convae.core.types import PerImage
from convae.data import DataConfig, open_split
from convae.evaluation import evaluate
from convae.evaluation.card.pictures import choose_error_maps, draw_comparison
from convae.features import build_feature_network
from convae.objective.terms.base import LossInputs
from convae.objective.terms.perceptual import Perceptual
from convae.pictures.save import save

NETWORK = "efficientnet-lite0"
METRICS = ("psnr", "ssim", f"feature-distance-{NETWORK}", f"rfd-{NETWORK}")
ADVERSARIAL: dict[str, Any] = {
    "discriminator": {"patch": {"channels": 32, "layers": 2}},
    "augment": ["color", "translation"],
    "lecam": 0.01,
}
ROWS = ("squared error", "perceptual", "adversarial", "without gradient")
WINDOW = 10
"""Steps of a row of the log, in which squared errors are averaged."""
BEFORE = 3
"""Rows of the log before the discriminator enters, with whose mean later ones are compared."""


class WithoutGradient(Perceptual):
    """A perceptual term whose value is computed without a gradient."""

    def forward(self, inputs: LossInputs) -> PerImage:
        """The perceptual loss of each image."""
        with torch.no_grad():
            return super().forward(inputs)


def data_recipe(data: str, size: int) -> dict[str, Any]:
    """The data of a recipe."""
    if data == "flowers":
        return {"source": str(data_folder() / data), "size": size, "channels": 3, "augment": {"flip": 0.5}}
    return {"source": data, "dir": str(data_folder()), "size": size}


def training(given: argparse.Namespace, seed: int, **options: Any) -> dict[str, Any]:
    """The training of a recipe."""
    general = {"batch_size": given.batch, "ema": 0.99, "pictures_every": 0, "precision": given.precision}
    return {**general, "seed": seed, **options}


def objective(row: str, weight: float) -> dict[str, Any]:
    """The objective of a row with a weight of the perceptual term, without its discriminator."""
    terms: dict[str, Any] = {"reconstruction": 1, "kl": 0.05}
    if row != "squared error":
        name = "benchmarks.sharpness:WithoutGradient" if row == "without gradient" else "perceptual"
        terms[name] = {"network": NETWORK, "weight": weight}
    return terms


def train_base(seed: int, given: argparse.Namespace) -> Path:
    """The tokenizer of a seed from which all rows start, from the folder or trained."""
    path: Path = given.folder / f"base-{seed}"
    recipe = {
        "name": path.name,
        "data": data_recipe("flowers", given.size),
        "model": {"preset": "tokenizer-tiny-f4", "width": given.width, "input": [3, given.size, given.size]},
        "objective": objective(ROWS[0], 0),
        "training": training(given, seed, steps=given.base, optimizer={"lr": 2e-3}),
    }
    finish_run(path, lambda: convae.train(recipe, out=path, quiet=True))
    return path / "last"


def run_name(row: str, weight: float, seed: int) -> str:
    """Name of the folder of a row; the first has no perceptual term."""
    return "-".join([row.replace(" ", "-"), *([] if row == ROWS[0] else [f"{weight:g}"]), str(seed)])


def train_row(row: str, weight: float, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Trains one row with one weight of the perceptual term and one seed, and measures it."""
    path: Path = given.folder / run_name(row, weight, seed)
    begin = time.process_time()
    warm = given.steps // 4 if row == "adversarial" else 0
    stages: list[dict[str, Any]] = [{"name": "all terms", "steps": given.steps - warm}]
    if warm:
        rise = {"linear": {"end": given.adversarial, "steps": given.steps // 4}}
        stages[0]["objective"] = {"adversarial": {**ADVERSARIAL, "weight": rise}}
        enters = {"adversarial": {**ADVERSARIAL, "weight": 0}}
        stages.insert(0, {"name": "discriminator", "steps": warm, "objective": enters})
    recipe = {
        "name": path.name,
        "start": str(train_base(seed, given)),
        "data": data_recipe("flowers", given.size),
        "objective": objective(row, weight),
        "training": training(given, seed, optimizer={"lr": 1e-3}),
        "stages": stages,
    }
    finish_run(path, lambda: convae.train(recipe, out=path, quiet=True))
    test = open_split(DataConfig.model_validate(data_recipe("flowers", given.size)), "test")
    network = build_feature_network(NETWORK)
    report = evaluate(
        convae.load(path / "last"),
        test,
        metrics=["psnr", "ssim", "rfd"],
        options={"feature-distance": {"network": NETWORK}},
        features=network,
    )
    seconds = time.process_time() - begin
    options = {name: getattr(given, name) for name in ("size", "width", "base", "steps", "batch", "precision")}
    return {**{name: report.metrics[name].value for name in METRICS}, "seconds": round(seconds), **options}


def train(given: argparse.Namespace) -> None:
    """Trains what the folder does not hold."""
    results = Results(given.folder / "results.jsonl")
    for seed in map(int, given.seeds.split(",")):
        for row in given.only or ROWS:
            for weight in [0.0] if row == ROWS[0] else given.perceptual or [10000.0]:
                name = run_name(row, weight, seed)
                if name not in results.rows:
                    facts = {"row": row, "weight": weight, "seed": seed}
                    results.add(name, {**facts, **train_row(row, weight, seed, given)})


def enter_discriminator(seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Trains one small tokenizer, in which a discriminator enters; the squared errors relative to those before."""
    size, third = (32, given.steps // 3) if given.data == "flowers" else (28, given.steps // 3)
    path: Path = given.folder / f"{given.data}-{seed}"
    critic = {**ADVERSARIAL, "lr": 2e-3}  # ten times the default, so that it learns in these few steps
    recipe = {
        "name": path.name,
        "data": {**data_recipe(given.data, size), "validation": 0.005},
        "model": {"preset": "tokenizer-tiny-f4", "width": 8, "input": [3 if size == 32 else 1, size, size]},
        "objective": {"squared-error": 50, "kl": 0.05},
        "training": training(given, seed, log_every=WINDOW, optimizer={"lr": 2e-3}),
        "stages": [
            {"name": "reconstruction", "steps": third},
            {"name": "discriminator", "steps": third // 2, "objective": {"adversarial": {**critic, "weight": 0}}},
            {
                "name": "adversarial",
                "steps": given.steps - third - third // 2,
                "objective": {"adversarial": {**critic, "weight": given.adversarial}},
            },
        ],
    }
    begin = time.process_time()
    run = convae.resume(path) if (path / "recipe.yaml").exists() else convae.train(recipe, out=path, quiet=True)
    rows = [row for row in run.metrics if "squared-error" in row and row["split"] != "validation"]
    errors = {row["step"]: row["squared-error"] for row in rows}
    enters = third + third // 2
    earlier = [error for step, error in errors.items() if step <= enters][-BEFORE:]
    later = [error / statistics.fmean(earlier) for step, error in errors.items() if step > enters]
    is_finite = all(math.isfinite(error) for error in errors.values())
    return {
        "largest": max(later),
        "last": statistics.fmean(later[-BEFORE:]),
        "accuracy": next(row["adversarial_accuracy"] for row in reversed(rows) if "adversarial_accuracy" in row),
        "diverged": not is_finite or run.stopped or max(later) > 2,
        "notes": run.notes,
        "steps": given.steps,
        "seconds": round(time.process_time() - begin),
    }


def measure_robustness(given: argparse.Namespace) -> None:
    """Trains the seeds that the folder does not hold."""
    results = Results(given.folder / "robustness.jsonl")
    for seed in range(given.seeds):
        name = f"{given.data} {seed}"
        if name not in results.rows:
            results.add(name, {"data": given.data, **enter_discriminator(seed, given)})


def table(given: argparse.Namespace) -> None:
    """Prints the results as tables: mean and standard deviation over the seeds, and changes by seed."""
    found = list(Results(given.folder / "results.jsonl").rows.values())
    first = {row["seed"]: row for row in found if row["row"] == ROWS[0]}
    print(
        "| terms | weight | PSNR, dB | SSIM | feature distance | rFD | change of PSNR, dB | of the distance | seeds |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in ROWS:
        for weight in sorted({row["weight"] for row in found if row["row"] == name}):
            own = [row for row in found if (row["row"], row["weight"]) == (name, weight) and row["seed"] in first]
            digits = zip(METRICS, (2, 3, 4, 4), strict=True)
            cells = [mean_text([row[key] for row in own], count) for key, count in digits]
            change = mean_text([row["psnr"] - first[row["seed"]]["psnr"] for row in own], 2)
            ratio = mean_text([100 * (row[METRICS[2]] / first[row["seed"]][METRICS[2]] - 1) for row in own], 1)
            print(f"| {name} | {weight:,g} | {' | '.join(cells)} | {change} | {ratio}% | {len(own)} |")
    print("\n| data | runs | diverged | largest squared error, relative | at the end | accuracy |")
    print("|---|---|---|---|---|---|")
    runs = list(Results(given.folder / "robustness.jsonl").rows.values())
    for data in dict.fromkeys(row["data"] for row in runs):
        own = [row for row in runs if row["data"] == data]
        diverged, largest = sum(row["diverged"] for row in own), max(row["largest"] for row in own)
        ends = f"{_range([row['last'] for row in own])} | {_range([row['accuracy'] for row in own])}"
        print(f"| {data} | {len(own)} | {diverged} | {largest:.2f} | {ends} |")


def _range(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def draw(given: argparse.Namespace) -> None:
    """Draws Kodak photographs and reconstructions of each row, with enlarged crops: flowers may not be published."""
    photographs = open_split(DataConfig(source=str(data_folder() / "kodak"), size=given.size), "all")
    paths = {row: given.folder / run_name(row, given.perceptual, given.seed) / "last" for row in ROWS[:3]}
    shown = {row: choose_error_maps(convae.load(path), photographs) for row, path in paths.items()}
    save(draw_comparison(shown), given.out)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    names = {"train": train, "robustness": measure_robustness, "table": table, "picture": draw}
    parts = {name: commands.add_parser(name) for name in names}
    for name, part in parts.items():
        part.set_defaults(run=names[name])
        part.add_argument("folder", type=Path)
        part.add_argument("--size", type=int, default=64)
    parts["train"].add_argument("--seeds", default="0")
    parts["train"].add_argument("--only", nargs="*", action="extend", choices=ROWS)
    parts["train"].add_argument("--width", type=int, default=8)
    parts["train"].add_argument("--base", type=int, default=400, help="steps with the squared error")
    parts["train"].add_argument("--steps", type=int, default=240, help="steps of each row after them")
    parts["train"].add_argument("--perceptual", type=float, nargs="+", action="extend", help="weights")
    parts["robustness"].add_argument("--data", choices=("flowers", "fashion-mnist"), default="flowers")
    parts["robustness"].add_argument("--seeds", type=int, default=20, help="number of runs")
    parts["robustness"].add_argument("--steps", type=int, default=160)
    for part in (parts["train"], parts["robustness"]):
        part.add_argument("--batch", type=int, default=16)
        part.add_argument("--adversarial", type=float, default=0.5, help="weight")
        part.add_argument("--precision", default="auto", help="auto, float32 or bf16")
    parts["picture"].add_argument("--seed", type=int, default=0)
    parts["picture"].add_argument("--perceptual", type=float, default=10000, help="weight")
    parts["picture"].add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    given.run(given)


if __name__ == "__main__":
    main()
