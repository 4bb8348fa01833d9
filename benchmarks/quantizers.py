"""Quantizers at equal bits per image: PSNR, usage and perplexity of codes, on gray and on colored images.

    python -m benchmarks.quantizers train fashion --seeds 0,1,2 --out results.jsonl
    python -m benchmarks.quantizers train flowers --data DATA/flowers --seeds 0,1,2 --out results.jsonl
    python -m benchmarks.quantizers train large --steps 600 --batch 16 --more 20000 --seeds 0 --out results.jsonl
    python -m benchmarks.quantizers table results.jsonl
    python -m benchmarks.quantizers picture RUN RUN ... --images images.png --usage usage.png

`train` writes a line for each finished run and skips those that the file has. Usage and perplexity are those of the
worst codebook over all test images, as fractions of its codes; `--more` adds the usage over the test images and as many
training images; seconds are processor time of the training.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import convae
from benchmarks.records import add_result, is_measured, mean_text, read_results
from convae.core.code_usage import count_codes, summarize_usage
from convae.core.posterior import CodePosterior
from convae.data import DataConfig, in_order, open_split
from convae.model.vae import VAE
from convae.pictures.curves import Line, curves
from convae.pictures.grid import compare
from convae.pictures.save import save
from convae.training.recipe.reading import read_recipe

SHOWN = 12
_VQ = {"init": "k-means", "dead_code_threshold": 0.1}
_COMMITTED = {"commitment": 2}
_TRAINED = {"commitment": 2, "codebook": 2}


@dataclass(frozen=True)
class Setting:
    """A quantizer and the terms that train it; `channels` are those of a batch norm before it, instead of a head."""

    quantizer: dict[str, Any]
    terms: Mapping[str, float] = field(default_factory=dict)
    channels: int | None = None

    def bottleneck(self) -> dict[str, Any]:
        """The bottleneck of a recipe."""
        if self.channels is None:
            return self.quantizer
        return {"codes": {"head": False, "quantizer": self.quantizer}}


def nine_bits(entropy: float = 3) -> dict[str, Setting]:
    """Settings of 512 codes, or three levels of 8, at each position.

    Args:
        entropy: weight of the term, larger where an image has more pixels for each position.
    """
    table = {"codes": 512, "latent": 16}
    return {
        "fsq": Setting({"fsq": {"levels": [8, 8, 8]}}, channels=3),
        "vq": Setting({"vq": {**table, **_VQ}}, _COMMITTED),
        "simvq": Setting({"simvq": {"codes": 512, "latent": 8}}, _TRAINED),
        "bsq": Setting({"bsq": {"bits": 9}}, {"entropy": entropy}, channels=9),
        "lfq": Setting({"lfq": {"bits": 9}}, {"commitment": 0.5, "entropy": entropy}),
        "grouped (vq)": Setting(
            {"grouped": {"groups": 3, "latent": 15, "quantizer": {"vq": {"codes": 8, **_VQ}}}}, _COMMITTED
        ),
        "residual (vq)": Setting(
            {"residual": {"levels": 3, "latent": 16, "quantizer": {"vq": {"codes": 8, **_VQ}}}}, _COMMITTED
        ),
        "vq, cosine, rotation": Setting(
            {"vq": {**table, **_VQ, "distance": "cosine", "estimator": "rotation"}}, _COMMITTED
        ),
        "vq, gradient": Setting({"vq": {**table, **_VQ, "update": "gradient"}}, _TRAINED),
        "ibq": Setting({"ibq": table}, {"commitment": 0.25, "codebook": 1, "entropy": entropy}),
    }


def sixteen_bits() -> dict[str, Setting]:
    """Settings of 65,536 codes at each position."""
    return {
        "fsq, 65,536 codes": Setting({"fsq": {"levels": [8, 8, 8, 8, 4, 4]}}, channels=6),
        "lfq, 65,536 codes": Setting({"lfq": {"bits": 16}}, {"commitment": 0.5, "entropy": 3}),
        "bsq, 65,536 codes": Setting({"bsq": {"bits": 16}}, {"entropy": 3}, channels=16),
        "simvq, 65,536 codes": Setting({"simvq": {"codes": 65536, "latent": 8}}, _TRAINED),
        "vq, 65,536 codes": Setting({"vq": {"codes": 65536, "latent": 8, **_VQ, "decay": 0.999}}, _COMMITTED),
    }


SETS: dict[str, Callable[[], dict[str, Setting]]] = {
    "fashion": nine_bits,
    "flowers": functools.partial(nine_bits, 10),
    "large": sixteen_bits,
}
STEPS, BATCH = {"fashion": 800, "flowers": 600, "large": 1500}, {"fashion": 64, "flowers": 16, "large": 64}


def make_recipe(name: str, setting: Setting, data: str | None, training: dict[str, Any]) -> dict[str, Any]:
    """A small convolutional autoencoder around a quantizer: 7×7 positions of 28×28, or 16×16 of 64×64."""
    channels, side = (3, 64) if name == "flowers" else (1, 28)
    last: list[Any] = []
    if setting.channels is not None:
        last = [{"conv": {"channels": setting.channels, "kernel": 1}}, "batch-norm"]
    return {
        "name": "quantizer",
        "data": {"source": data or "fashion-mnist", "size": side, "validation": 0.01},
        "model": {
            "input": [channels, side, side],
            "likelihood": {"gaussian": {"sigma": 0.1}},
            "encoder": [
                *[{"conv": {"channels": 32, "stride": 2}}, "batch-norm", "relu"],
                *[{"conv": {"channels": 64, "stride": 2}}, "batch-norm", "relu"],
                *last,
            ],
            "bottleneck": setting.bottleneck(),
            "decoder": [
                *[{"conv": {"channels": 64}}, "batch-norm", "relu"],
                *[{"conv-transpose": {"channels": 32, "stride": 2}}, "batch-norm", "relu"],
                {"conv-transpose": {"channels": channels, "stride": 2}},
            ],
        },
        "objective": {"reconstruction": 1, **setting.terms},
        "training": {"pictures_every": 0, "optimizer": {"lr": 4e-3}, **training},
    }


@torch.no_grad()
def measure(model: VAE, data: DataConfig) -> tuple[dict[str, Any], list[Tensor]]:
    """Metrics of the test images, and how often they use each code of each codebook.

    PSNR; bits per image; usage and perplexity of each codebook, as fractions of its codes.
    """
    counts, found = dict[str, Tensor](), list[Tensor]()
    bits, vectors = 0.0, 0
    for batch in in_order(open_split(data, "test"), 250, torch.device("cpu")):
        posterior = model.encode(batch.images)
        assert isinstance(posterior, CodePosterior)
        error = batch.images - model.decode(posterior.mean).mean
        found.append(-10 * error.square().flatten(1).mean(1).log10())
        counts = {name: own + counts.get(name, 0) for name, own in count_codes({"latent": posterior}).items()}
        bits = float(posterior.kl()[0]) / math.log(2)
        vectors += posterior.codes_by_level[:, 0].numel()
    usage = summarize_usage(counts)
    metrics = {
        "bits": bits,
        "psnr": float(torch.cat(found).mean()),
        "usage": [each.used / each.size for each in usage],
        "perplexity": [each.perplexity / each.size for each in usage],
        "vectors": vectors,
    }
    return metrics, list(counts.values())


@torch.no_grad()
def usage_with_training_images(model: VAE, data: DataConfig, images: int, counts: list[Tensor]) -> list[float]:
    """Usage of each codebook over the test images, whose counts are given, and the first training images together.

    A code that few vectors have may be absent from the test images only.
    """
    split, seen, total = open_split(data, "train"), 0, [own.clone() for own in counts]
    for batch in in_order(split, 250, torch.device("cpu")):
        posterior = model.encode(batch.images)
        assert isinstance(posterior, CodePosterior)
        own = count_codes({"latent": posterior})
        total = [sum_ + new for sum_, new in zip(total, own.values(), strict=True)]
        if (seen := seen + len(batch.images)) >= images:
            break
    return [float((own > 0).double().mean()) for own in total]


def train(given: argparse.Namespace) -> None:
    """Trains every setting with every seed, unless the results have it."""
    settings = SETS[given.set]()
    for seed in map(int, given.seeds.split(",")):
        for name in given.only or settings:
            length = {"steps": given.steps or STEPS[given.set], "batch_size": given.batch or BATCH[given.set]}
            key = {"set": given.set, "quantizer": name, "precision": given.precision, **length, "seed": seed}
            if is_measured(given.out, key):
                continue
            training = {**length, "seed": seed, "precision": given.precision}
            recipe = make_recipe(given.set, settings[name], given.data, training)
            start = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                model = convae.train(recipe, out=given.keep or Path(folder) / "run", quiet=True).last.eval()
            seconds = time.process_time() - start
            data = DataConfig(**recipe["data"])
            metrics, counts = measure(model, data)
            if given.more:
                metrics["usage with more"] = usage_with_training_images(model, data, given.more, counts)
            line = {**key, **metrics, "more": given.more, "seconds": seconds, "torch": torch.__version__}
            print(add_result(given.out, line), flush=True)


def table(given: argparse.Namespace) -> None:
    """Prints the mean over the seeds, and the standard deviation of the PSNR, of each setting and precision."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in read_results(given.results):
        groups.setdefault(
            tuple(line[key] for key in ("set", "precision", "steps", "batch_size", "quantizer")), []
        ).append(line)
    heading, more = tuple[Any, ...](), 0
    for (*own, name), lines in groups.items():
        if heading != tuple(own):
            heading = tuple(own)
            length = f"{own[2]:,} steps of {own[3]} images"
            print(f"\n{own[0]}, {own[1]}, {length}, usage over {lines[0]['vectors']:,} vectors\n")
            more = lines[0].get("more", 0)
            both = [f"usage with {more:,} training images"] if more else []
            columns = ["quantizer", "bits per image", "seeds", "PSNR, dB", "usage", *both]
            columns += ["perplexity, of the codes", "seconds"]
            print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        psnr = mean_text([line["psnr"] for line in lines], 2)
        usage = [min(line["usage"]) for line in lines]
        perplexity = statistics.mean(min(line["perplexity"]) for line in lines)
        second = f" {statistics.mean(min(line['usage with more']) for line in lines):.1%} |" if more else ""
        print(
            f"| {name} | {lines[0]['bits']:,.0f} | {len(lines)} | {psnr} "
            f"| {statistics.mean(usage):.1%} (least {min(usage):.1%}) |{second} {perplexity:.1%} "
            f"| {statistics.mean(line['seconds'] for line in lines):.0f} |"
        )


@torch.no_grad()
def picture(given: argparse.Namespace) -> None:
    """Test images and their reconstructions by several runs, side by side; and how often each uses its codes."""
    rows, lines = dict[str, Tensor](), dict[str, Line]()
    for path in given.runs:
        recipe, model = read_recipe(path / "recipe.yaml"), convae.load(path)
        split = open_split(recipe.data, "test")
        images = next(iter(in_order(split, SHOWN, torch.device("cpu")))).images
        rows.setdefault("original", images)
        name = path.name.rpartition("-")[2]
        rows[name] = model.decode(model.encode(images).mean).mean
        uses = measure(model, recipe.data)[1][0].double().sort(descending=True).values
        lines[name] = torch.arange(1, len(uses) + 1).numpy(), (uses * len(uses) / uses.sum()).numpy()
    save(compare(rows, columns=SHOWN, scale=3), given.images)
    title = "uses of each code on the test images, as multiples of even use"
    save(curves({title: lines}, x_label="codes, by their use", logarithmic={title}), given.usage)


def main() -> None:
    """Trains, prints a table or draws a picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train")
    command.add_argument("set", choices=SETS)
    command.add_argument("--data", help="folder of images, for flowers")
    command.add_argument("--steps", type=int)
    command.add_argument("--batch", type=int)
    command.add_argument("--seeds", default="0,1,2")
    command.add_argument("--precision", default="bf16", choices=["bf16", "float32"])
    command.add_argument("--only", nargs="*", action="extend", help="names of settings")
    command.add_argument("--more", type=int, default=0, help="training images over which usage is measured too")
    command.add_argument("--keep", type=Path, help="folder for the run, where there is one")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=train)
    command = commands.add_parser("table")
    command.add_argument("results", type=Path)
    command.set_defaults(run=table)
    command = commands.add_parser("picture")
    command.add_argument("runs", type=Path, nargs="+")
    command.add_argument("--images", type=Path, required=True)
    command.add_argument("--usage", type=Path, required=True)
    command.set_defaults(run=picture)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
