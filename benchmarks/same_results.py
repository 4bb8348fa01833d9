"""Trains nine short recipes that together use every feature, and compares what two versions of convae make of them.

    python -m benchmarks.same_results record before/      # with one version
    python -m benchmarks.same_results record after/       # with the other
    python -m benchmarks.same_results compare before/ after/

Recorded of each: the metrics of every row, the final and the best weights, reconstructions and samples from the prior.
Equal means bit for bit. Tensors are compared in their order, so that a renamed parameter is no difference.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import convae

TIMED = {"seconds", "images_per_second", "waited", "wait_seconds", "time"}
"""What a row says of the machine."""
_ADAM = {"lr": 3e-3, "clip": 1.0}
_SMALL = [{"conv": {"channels": 8, "stride": 2}}, "batch-norm", "relu", {"dropout": {"rate": 0.1}}, "flatten"]
_MIRROR = [{"linear": {"features": 128}}, {"unflatten": {"to": [8, 4, 4]}}, {"upsample": {"scale": 2}}]

RECIPES: dict[str, dict[str, Any]] = {
    "stages": {
        "model": {"preset": "torch-vae", "latent": 4, "max_filters": 16},
        "data": {"source": "digits", "size": 32},
        "objective": {"reconstruction": 1, "kl": {"weight": {"linear": {"start": 0, "end": 1, "steps": 20}}}},
        "stages": [
            {"name": "warm", "epochs": 1},
            {"name": "decoder", "epochs": 1, "freeze": ["encoder"], "optimizer": {"lr": 1e-3}},
        ],
        "training": {"batch_size": 64, "ema": 0.99, "accumulate": 2, "optimizer": _ADAM},
    },
    "augmented": {
        "model": {"preset": "resnet", "size": "tiny", "latent": 4},
        "data": {"source": "digits", "size": 16, "augment": {"flip": 0.5, "shift": 0.1}},
        "training": {"batch_size": 64, "epochs": 2, "sync_batch_norm": True, "checkpointing": True},
    },
    "classifier": {
        "model": {
            "preset": "torch-vae",
            "latent": 6,
            "max_filters": 16,
            "classifier": [
                {"linear": {"features": 16}},
                "relu",
                {"dropout": {"rate": 0.2}},
                {"linear": {"features": 10}},
            ],
        },
        "data": {"source": "digits", "size": 32},
        "objective": {"reconstruction": 1, "free-bits": {"nats": 0.1}, "classification": 10},
        "training": {"batch_size": 64, "epochs": 2, "labels": 0.5},
    },
    "condition": {
        "model": {
            "input": [1, 8, 8],
            "encoder": _SMALL,
            "bottleneck": {"gaussian": {"latent": 4}},
            "decoder": [*_MIRROR, {"conv": {"channels": 1}}],
            "likelihood": {"gaussian": {"sigma": "learned"}},
            "condition": {"classes": 10, "channels": 2},
        },
        "data": {"source": "digits"},
        "objective": {"reconstruction": 1, "kl": 0.5, "ssim": {"weight": 0.1}},
        "training": {"batch_size": 50, "epochs": 2},
    },
    "quantized": {
        "model": {
            "input": [1, 16, 16],
            "encoder": [{"conv": {"channels": 16, "stride": 2}}, "silu", {"conv": {"channels": 8, "stride": 2}}],
            "bottleneck": {"vq": {"codes": 32, "latent": 8}},
            "decoder": [
                {"upsample": {"scale": 2}},
                {"residual": {"layers": ["silu", {"conv": {"channels": 8}}]}},
                {"conv-transpose": {"channels": 1, "stride": 2}},
            ],
        },
        "data": {"source": "digits", "size": 16},
        "objective": {"reconstruction": 1, "commitment": 0.25},
        "training": {"batch_size": 64, "epochs": 2, "accumulate": 2},
    },
    "signals": {
        "model": {
            "input": [1, 64],
            "encoder": [{"conv": {"channels": 8, "stride": 4}}, "gelu", "flatten"],
            "bottleneck": {"gaussian": {"latent": 3}},
            "decoder": [
                {"linear": {"features": 128}},
                {"unflatten": {"to": [8, 16]}},
                {"conv-transpose": {"channels": 1, "stride": 4}},
            ],
            "likelihood": {"gaussian": {"sigma": 0.2}},
        },
        "data": {"source": {"signals": {"count": 400, "length": 64}}},
        "training": {"batch_size": 32, "epochs": 2, "ema": 0.9},
    },
    "volumes": {
        "model": {
            "input": [1, 16, 16, 16],
            "encoder": [{"conv": {"channels": 4, "stride": 4}}, {"group-norm": {"groups": 2}}, "relu", "flatten"],
            "bottleneck": {"gaussian": {"latent": 3}},
            "decoder": [
                {"linear": {"features": 256}},
                {"unflatten": {"to": [4, 4, 4, 4]}},
                {"conv-transpose": {"channels": 1, "stride": 4}},
            ],
        },
        "data": {"source": {"voxels": {"count": 200, "size": 16}}},
        "training": {"batch_size": 32, "epochs": 2},
    },
    "bf16": {
        "model": {"preset": "celeba-beta", "input": [1, 32, 32], "latent": 4},
        "data": {"source": "digits", "size": 32},
        "objective": {"squared-error": 1, "kl": 4},
        "training": {"batch_size": 64, "epochs": 1, "precision": "bf16"},
    },
    "hierarchy": {
        "model": {"preset": "ladder", "size": "tiny", "latent": 3},
        "data": {"source": "digits"},
        "objective": {"reconstruction": 1, "kl": {"balance": True}, "free-bits": {"nats": 0.1}},
        "training": {"batch_size": 64, "epochs": 1, "ema": 0.9},
    },
}


def record(out: Path) -> None:
    """Trains every recipe and writes what it gave to `out`."""
    out.mkdir(parents=True)
    for name, recipe in RECIPES.items():
        options = {"precision": "float32", "seed": 3, **recipe["training"]}
        with tempfile.TemporaryDirectory() as folder:
            run = convae.train({**recipe, "name": name, "training": options}, out=Path(folder) / "run", quiet=True)
            rows = [{key: value for key, value in row.items() if key not in TIMED} for row in run.metrics]
            content = {f"last/{key}": value for key, value in run.last.state_dict().items()}
            content |= {f"best/{key}": value for key, value in run.model.state_dict().items()}
            model = run.model
            labels = torch.arange(4) if model.condition is not None else None
            content["samples"] = model.sample(4, torch.Generator().manual_seed(0), labels=labels)
            images = torch.rand(4, *model.input_shape, generator=torch.Generator().manual_seed(1))
            content["reconstructions"] = model(images, labels=labels).likelihood.mean.detach()
        (out / f"{name}.json").write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        np.savez(out / f"{name}.npz", **{key: value.numpy() for key, value in content.items()})
        print(f"{name}: {rows[-1]}", flush=True)


def compare(before: Path, after: Path) -> int:
    """Prints where two records differ; the number of recipes that do."""
    differing = 0
    for name in RECIPES:
        faults = []
        if absent := [str(folder) for folder in (before, after) if not (folder / f"{name}.json").exists()]:
            print(f"{name}: not recorded in {' and '.join(absent)}")
            continue
        one, two = (json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for folder in (before, after))
        if one != two:
            pairs = zip(one, two, strict=False)
            place = next((row for row in pairs if row[0] != row[1]), f"{len(one)} rows, then {len(two)}")
            faults.append(f"metrics: {place}")
        first, second = (list(np.load(folder / f"{name}.npz").items()) for folder in (before, after))
        if len(first) != len(second):
            faults.append(f"{len(first)} tensors, then {len(second)}")
        for (old, value), (new, other) in zip(first, second, strict=False):
            if value.shape != other.shape or not np.array_equal(value, other, equal_nan=True):
                same = value.shape == other.shape
                faults.append(f"{old} / {new}: largest difference {np.abs(value - other).max() if same else 'shape'}")
        differing += bool(faults)
        print(f"{name}: {'equal bit for bit' if not faults else '; '.join(faults[:6])}")
    return differing


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("out", type=Path)
    both = commands.add_parser("compare")
    both.add_argument("before", type=Path)
    both.add_argument("after", type=Path)
    given = parser.parse_args()
    if given.command == "record":
        record(given.out)
    else:
        sys.exit(compare(given.before, given.after))


if __name__ == "__main__":
    main()
