"""Initial weights of torch-vae: convae's against PyTorch's defaults, over several seeds, in the first steps.

    python -m benchmarks.initial_values train --data mnist --latent 8 --seeds 0,1,2 --steps 400 --out results.jsonl
    python -m benchmarks.initial_values table results.jsonl

convae draws weights from a normal distribution whose scale keeps the mean square of the activations (He et al. 2015),
with zero biases. PyTorch's defaults are uniform within ±1/√fan-in, for weights and biases. Both train the same network
on the same batches with the same noise. `train` skips what the file has.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import convae
from benchmarks.records import add_result, is_measured, read_results
from convae.core.random import torch_generator
from convae.data import DataConfig, in_order, open_split
from convae.model.layers.base import Layer

VALUES = ("convae", "pytorch", "convae, bias")
"""Initial values; the last with the bias of the output at the logit of the mean of the training images."""
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
def with_mean_of_images(model: convae.VAE, data: str) -> convae.VAE:
    """Sets the bias of the last layer of the decoder to the logit of the mean of 5,000 training images."""
    split = open_split(DataConfig(source=data, size=model.input_shape[1:]), "train")
    images = next(iter(in_order(split, 5000))).images
    bias = [parameter for name, parameter in model.decoder.named_parameters() if name.endswith("bias")][-1]
    bias.fill_(float(images.mean().logit()))
    return model


def train(given: argparse.Namespace) -> None:
    """Trains both initial values with every seed, unless the results have it."""
    for seed in map(int, given.seeds.split(",")):
        for values in VALUES:
            key = {"data": given.data, "latent": given.latent, "steps": given.steps, "seed": seed, "values": values}
            if is_measured(given.out, key):
                continue
            found = _run(given.data, given.latent, given.steps, seed, values)
            print(add_result(given.out, {**key, **found, "torch": torch.__version__}), flush=True)


def _run(data: str, latent: int, steps: int, seed: int, values: str) -> dict[str, Any]:
    """Training loss at several steps, the validation loss at the end, and seconds."""
    model = convae.build({"preset": "torch-vae", "input": [1, 28, 28], "latent": latent}, seed=seed)
    if values == "pytorch":
        with_pytorch_defaults(model, seed)
    elif values == "convae, bias":
        with_mean_of_images(model, data)
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
        cells = [_spread([line["losses"][str(at)] for line in lines if str(at) in line["losses"]]) for at in steps]
        seconds = statistics.mean(line["seconds"] for line in lines)
        cells += [_spread([line["validation"] for line in lines]), f"{seconds:.0f}"]
        print(f"| {' | '.join([*map(str, key), str(len(lines)), *cells])} |")


def _spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    if not values:
        return ""
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


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
    training.add_argument("--out", type=Path, required=True)
    printing = commands.add_parser("table")
    printing.set_defaults(run=table)
    printing.add_argument("results", type=Path)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
