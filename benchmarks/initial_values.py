"""Initial weights of torch-vae: convae's against PyTorch's defaults and parts of both, over several seeds.

    python -m benchmarks.initial_values train --data mnist --latent 8 --steps 400 --out results.jsonl
    python -m benchmarks.initial_values table results.jsonl

convae draws weights from a normal distribution whose scale keeps the mean square of the activations (He et al. 2015),
a tenth of it before batch norm. Biases are zero but the last one, with which the output is the mean of the images.
PyTorch's defaults are uniform within ±1/√fan-in, for weights and biases. All train the same network on the same batches
with the same noise. `train` skips what the file has.
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
from torch import nn

import convae
from benchmarks.records import add_result, is_measured, mean_text, read_results
from convae.core.random import torch_generator
from convae.data import DataConfig, in_order, open_split
from convae.model.initialize import BATCH_NORM_SCALE, start_at_mean
from convae.model.layers.base import Layer
from convae.model.layers.batch_norm import BatchNorm

VALUES: dict[str, dict[str, Any]] = {
    "He": {"he": True},
    "He, output × ⅓": {"he": True, "output": 1 / 3},
    "PyTorch": {"pytorch": True},
    "He, bias": {"he": True, "bias": True},
    "He, output × ⅓, bias": {"he": True, "output": 1 / 3, "bias": True},
    "PyTorch, bias": {"pytorch": True, "bias": True},
    "convae": {"bias": True},
}
"""Initial values. `he`: as wide before batch norm as elsewhere. `output`: factor on the last weight of the decoder.
`bias`: the last bias at the mean of the images, not 0."""
AT = (50, 100, 200, 400, 800, 1600)
"""Steps whose loss is recorded: the mean of the 50 before."""


@torch.no_grad()
def with_pytorch_defaults(model: convae.VAE, seed: int) -> convae.VAE:
    """Draws weights and biases as the constructors of `torch.nn` do; norms stay as they are."""
    generator = torch_generator(seed, "defaults")
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, Layer) and isinstance(weight, nn.Parameter) and weight.ndim > 1:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
            fan_in = weight[0].numel()  # as in torch.nn, also for transposed convolutions
            bias = getattr(module, "bias", None)
            if isinstance(bias, nn.Parameter):
                nn.init.uniform_(bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)
    return model


@torch.no_grad()
def build(data: str, latent: int, seed: int, values: str) -> convae.VAE:
    """The model with these initial values."""
    chosen = VALUES[values]
    model = convae.build({"preset": "torch-vae", "input": [1, 28, 28], "latent": latent}, seed=seed)
    if "pytorch" in chosen:
        with_pytorch_defaults(model, seed)
    if "he" in chosen:
        for side in model.networks.values():
            for layer, after in itertools.pairwise(side):
                if isinstance(after, BatchNorm):
                    layer.get_parameter("weight").div_(BATCH_NORM_SCALE)
    last = [each for name, each in model.decoder.named_parameters() if name.endswith("weight")][-1]
    last.mul_(chosen.get("output", 1.0))
    if "bias" in chosen:
        split = open_split(DataConfig(source=data, size=model.input_shape[1:]), "train")
        images = next(iter(in_order(split, 5000))).images
        start_at_mean(model, [float(images.mean())])
    return model


def train(given: argparse.Namespace) -> None:
    """Trains from all initial values with every seed, unless the results have it."""
    for seed in map(int, given.seeds.split(",")):
        for values in given.values.split("; "):
            key = {"data": given.data, "latent": given.latent, "steps": given.steps, "seed": seed, "values": values}
            if is_measured(given.out, key):
                continue
            found = _run(given.data, given.latent, given.steps, seed, values)
            print(add_result(given.out, {**key, **found, "torch": torch.__version__}), flush=True)


def _run(data: str, latent: int, steps: int, seed: int, values: str) -> dict[str, Any]:
    """Training loss at several steps, the validation loss at the end, and seconds."""
    model = build(data, latent, seed, values)
    training = {"steps": steps, "batch_size": 128, "seed": seed, "pictures_every": 0, "log_every": 50}
    recipe = {
        "data": data,
        "start": {"model": model},
        "objective": {"reconstruction": 1, "kl": 1},
        "training": training,
    }
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = convae.train(recipe, out=Path(folder) / "run", quiet=True)
        rows = run.metrics
    losses = {row["step"]: row["total"] for row in rows if row["split"] == "train"}
    last = [row["total"] for row in rows if row["split"] == "validation"][-1]
    found = {str(step): losses[step] for step in AT if step in losses}
    return {"losses": found, "validation": last, "seconds": round(time.process_time() - began, 1)}


def table(given: argparse.Namespace) -> None:
    """Prints the mean and the standard deviation over the seeds."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in read_results(given.results):
        groups.setdefault(tuple(line[key] for key in ("data", "latent", "steps", "values")), []).append(line)
    steps = sorted({int(step) for lines in groups.values() for line in lines for step in line["losses"]})
    columns = ["data", "latent", "steps", "initial values", "seeds", *map(str, steps), "validation", "seconds"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for key, lines in groups.items():
        losses = [[line["losses"][str(at)] for line in lines if str(at) in line["losses"]] for at in steps]
        cells = [mean_text(values, 1) if values else "" for values in losses]
        seconds = statistics.mean(line["seconds"] for line in lines)
        cells += [mean_text([line["validation"] for line in lines], 1), f"{seconds:.0f}"]
        print(f"| {' | '.join([*map(str, key), str(len(lines)), *cells])} |")


def main() -> None:
    """Runs the command of the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.set_defaults(run=train)
    training.add_argument("--data", default="mnist")
    training.add_argument("--latent", type=int, default=8)
    training.add_argument("--steps", type=int, default=400)
    training.add_argument("--seeds", default="0,1,2,3,4,5,6,7,8,9")
    training.add_argument("--values", default="; ".join(VALUES))
    training.add_argument("--out", type=Path, required=True)
    printing = commands.add_parser("table")
    printing.set_defaults(run=table)
    printing.add_argument("results", type=Path)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
