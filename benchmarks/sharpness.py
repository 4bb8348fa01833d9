"""Squared error, with a perceptual, and with an adversarial term: PSNR, SSIM and feature distance of equal trainings.

    python -m benchmarks.sharpness train --data DATA/flowers --seeds 0,1,2 --out results.jsonl
    python -m benchmarks.sharpness train --data fashion-mnist --size 28 --only adversarial --out results.jsonl
    python -m benchmarks.sharpness table results.jsonl

`train` writes a line for each finished run and skips those that the file has. DATA/flowers has the folders train and
test. All runs of a seed have the same first steps; then the terms of the row enter. `jump` is the largest relative rise
of the validation PSNR's squared error from one epoch to the next after the adversarial term enters; a run has diverged
if it stopped, or lost more than 3 dB in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import convae
from convae.evaluation import evaluate
from convae.latents import Session

NETWORK = "efficientnet-lite0"
METRICS = ("psnr", "ssim", f"feature-distance-{NETWORK}")
PERCEPTUAL: dict[str, Any] = {"perceptual": {"network": NETWORK, "weight": 150}}
ADVERSARIAL: dict[str, Any] = {
    "discriminator": {"patch": {"channels": 32, "layers": 2}},
    "augment": ["color", "translation"],
    "lecam": 0.01,
}


def network(shape: list[int]) -> dict[str, Any]:
    """An autoencoder with a map of four values for each 4×4 pixels."""

    def block(channels: int) -> dict[str, Any]:
        return {"residual": {"layers": ["group-norm", "silu", _conv(channels), "silu", _conv(channels)]}}

    down = {"conv": {"channels": 64, "kernel": 4, "stride": 2}}
    up = [{"upsample": {"scale": 2}}, _conv(64)]
    return {
        "input": shape,
        "encoder": [_conv(32), block(32), down, block(64), down, block(64), "silu"],
        "bottleneck": {"gaussian": {"latent": 4}},
        "decoder": [_conv(64), block(64), block(64), *up, block(64), *up, block(64), "silu", _conv(shape[0])],
        "likelihood": {"gaussian": {"sigma": 0.1}},
    }


def _conv(channels: int) -> dict[str, Any]:
    return {"conv": {"channels": channels, "kernel": 3}}


def stages(row: str, steps: int) -> list[dict[str, Any]]:
    """The stages of a row, `steps` long each half."""
    first: dict[str, Any] = {"name": "reconstruction", "steps": steps}
    if row == "squared error":
        return [first, {"name": "more", "steps": steps}]
    if row == "perceptual":
        return [first, {"name": "perceptual", "steps": steps, "objective": PERCEPTUAL}]
    warm, enters = (
        {**ADVERSARIAL, "weight": 0},
        {**ADVERSARIAL, "weight": {"linear": {"end": 0.5, "steps": steps // 4}}},
    )
    return [
        first,
        {"name": "discriminator", "steps": steps // 4, "objective": {**PERCEPTUAL, "adversarial": warm}},
        {"name": "adversarial", "steps": steps - steps // 4, "objective": {**PERCEPTUAL, "adversarial": enters}},
    ]


def run(row: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Trains and measures one row with one seed."""
    folder = Path(given.data)
    source = str(folder / "train") if (folder / "train").is_dir() else given.data
    recipe = {
        "name": row.replace(" ", "-"),
        "data": {"source": source, "size": given.size, "augment": {"flip": 0.5}},
        "model": network([1 if given.data == "fashion-mnist" else 3, given.size, given.size]),
        "objective": {"squared-error": {"weight": 50}, "kl": 0.1},
        "training": {"batch_size": 32, "ema": 0.999, "pictures_every": 0, "seed": seed, "optimizer": {"lr": 5e-4}},
        "stages": stages(row, given.steps),
    }
    with tempfile.TemporaryDirectory() as temporary:
        started = time.process_time()
        done = convae.train(recipe, out=Path(temporary) / "run", quiet=True)
        seconds = time.process_time() - started
        test = str(folder / "test") if (folder / "test").is_dir() else None
        session = Session(done.path, data=test) if test else Session(done.path, split="test")
        report = evaluate(
            session.model, session.images, metrics=["psnr", "ssim"], options={"feature-distance": {"network": NETWORK}}
        )
        errors = [value["squared-error"] for value in done.metrics if value["split"] == "validation"]
        entered = len(errors) * (given.steps + given.steps // 4) // (2 * given.steps)
        after = list(zip(errors[entered - 1 :], errors[entered:], strict=False)) if row == "adversarial" else []
        figures = {name: report.metrics[name].value for name in METRICS}
    jump = max((late / early - 1 for early, late in after), default=0.0)
    return {"row": row, "seed": seed, "data": folder.name, **figures, "jump": jump, "seconds": round(seconds)}


def train(given: argparse.Namespace) -> None:
    """Trains what the file of results does not have."""
    known = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    for seed in given.seeds:
        for row in ("squared error", "perceptual", "adversarial"):
            key = {"row": row, "seed": seed, "data": Path(given.data).name}
            if (given.only and row != given.only) or any(key.items() <= each.items() for each in known):
                continue
            with given.out.open("a") as file:
                file.write(json.dumps(run(row, seed, given)) + "\n")


def table(given: argparse.Namespace) -> None:
    """Prints mean and standard deviation over the seeds."""
    rows = [json.loads(line) for line in given.out.read_text().splitlines()]
    print("| data | terms | PSNR, dB | SSIM | feature distance | largest jump | seeds |\n|---|---|---|---|---|---|---|")
    for data, row in dict.fromkeys((each["data"], each["row"]) for each in rows):
        own = [each for each in rows if (each["data"], each["row"]) == (data, row)]
        cells = [_spread([each[name] for each in own], digits) for name, digits in zip(METRICS, (2, 3, 4), strict=True)]
        jump = max(each["jump"] for each in own)
        print(f"| {data} | {row} | {' | '.join(cells)} | {jump:.0%} | {len(own)} |")


def _spread(values: list[float], digits: int) -> str:
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("--data", required=True)
    training.add_argument("--size", type=int, default=32)
    training.add_argument("--steps", type=int, default=1000)
    training.add_argument("--seeds", type=lambda text: [int(each) for each in text.split(",")], default=[0])
    training.add_argument("--only", choices=["squared error", "perceptual", "adversarial"])
    training.add_argument("--out", type=Path, required=True)
    training.set_defaults(run=train)
    shown = commands.add_parser("table")
    shown.add_argument("out", type=Path)
    shown.set_defaults(run=table)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
