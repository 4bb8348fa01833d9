"""Fine-tuning of an imported autoencoder, and distillation of a decoder.

    python -m benchmarks.fine_tuning published FOLDER --steps 200
    python -m benchmarks.fine_tuning distill FOLDER --data mnist --steps 600
    python -m benchmarks.fine_tuning table FOLDER

`published` writes a random AutoencoderKL with the package diffusers, imports it, trains its decoder on 32×32 flowers,
whole and with low-rank adapters, exports the results, and compares encodings and images with those of diffusers.
`distill` trains a model, or takes `--teacher`, and distills decoders of it; images per second are those of one thread.
What FOLDER holds already is not done again, and a run that was stopped continues.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import convae
from benchmarks.classifiers import data_folder
from convae.core.random import torch_generator
from convae.data import DataConfig, Split, in_order, open_split
from convae.interop import export_model, import_model
from convae.model.adapters import add_adapters
from convae.model.summary import network_flops
from convae.model.vae import VAE
from convae.training import distill, resume, train

SD: dict[str, Any] = {
    "block_out_channels": [16, 32, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "latent_channels": 4,
    "sample_size": 32,
}
"""An AutoencoderKL of the kind of Stable Diffusion's: factor 4, attention in the middle."""
FLOWERS: dict[str, Any] = {"size": 32, "channels": 3}
TRAINING: dict[str, Any] = {
    "batch_size": 16,
    "log_every": 50,
    "pictures_every": 0,
    "freeze": ["encoder", "bottleneck"],
    "cache_latents": True,
}
WAYS: dict[str, dict[str, Any]] = {
    "whole decoder": {"lr": 1e-3},
    "rank 4": {"lr": 3e-3, "adapters": {"rank": 4}},
    "rank 16": {"lr": 3e-3, "adapters": {"rank": 16}},
}
TEACHERS: dict[str, dict[str, Any]] = {
    "mnist": {
        "data": {"source": "mnist"},
        "model": {
            "name": "mnist-map",
            "input": [1, 28, 28],
            "likelihood": "bernoulli",
            "encoder": [
                {"conv": {"channels": 64, "stride": 2}},
                "silu",
                {"residual": {"layers": [{"conv": {"channels": 64}}, "silu", {"conv": {"channels": 64}}]}},
                {"conv": {"channels": 64, "stride": 2}},
                "silu",
            ],
            "bottleneck": {"gaussian": {"latent": 4}},
            "decoder": [
                {"conv": {"channels": 64}},
                "silu",
                *[{"residual": {"layers": [{"conv": {"channels": 64}}, "silu", {"conv": {"channels": 64}}]}}] * 2,
                {"upsample": {"scale": 2}},
                {"conv": {"channels": 64}},
                "silu",
                *[{"residual": {"layers": [{"conv": {"channels": 64}}, "silu", {"conv": {"channels": 64}}]}}] * 2,
                {"upsample": {"scale": 2}},
                {"conv": {"channels": 32}},
                "silu",
                {"conv": {"channels": 1}},
            ],
        },
    },
    "flowers": {"model": {"preset": "tokenizer-tiny-f4", "input": [3, 32, 32]}},
}
IMAGES, TIMED, REPEATS = 512, 64, 7
"""Test images, images that are decoded at once for the speed, and how often."""


def main() -> None:
    """Reads the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["published", "distill", "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", default="mnist", choices=[*TEACHERS])
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.what == "published":
        fine_tune_published(given.folder, given.steps)
    elif given.what == "distill":
        distill_decoders(given.folder, given.data, given.teacher, given.steps)
    print(table(given.folder))


def fine_tune_published(folder: Path, steps: int) -> None:
    """Import, training of the decoder, export, and comparison with diffusers."""
    diffusers: Any = importlib.import_module("diffusers")
    source = folder / "sd"
    if not source.exists():
        torch.manual_seed(0)
        diffusers.AutoencoderKL(**SD).save_pretrained(source)
    start = folder / "imported"
    if not start.exists():
        convae.save(import_model(source, "diffusers", size=(32, 32)), start)
    split = test_images("flowers")
    for way, options in WAYS.items():
        target = folder / f"published {way}.json"
        if target.exists():
            continue
        run = folder / f"run {way}"
        recipe: dict[str, Any] = {
            "data": {"source": str(data_folder() / "flowers"), **FLOWERS},
            "start": str(start),
            "adapters": options.get("adapters"),
            "objective": {"squared-error": {}},
            "training": {**TRAINING, "steps": steps, "optimizer": {"lr": options["lr"]}},
        }
        begin = time.process_time()
        path = (resume(run) if (run / "recipe.yaml").exists() else train(recipe, out=run)).path
        seconds = time.process_time() - begin
        exported = folder / f"exported {way}"
        list(export_model(convae.load(path / "last"), exported, "diffusers", force=True))
        found = {
            "way": way,
            "steps": steps,
            "seconds": seconds,
            "trained": trained_parameters(convae.load(start), options.get("adapters")),
            "psnr before": psnr(convae.load(start), split),
            "psnr": psnr(convae.load(path / "last"), split),
            **differences(convae.load(path / "last"), diffusers.AutoencoderKL.from_pretrained(exported), split),
        }
        target.write_text(json.dumps(found))


def trained_parameters(model: VAE, adapters: dict[str, Any] | None) -> int:
    """Number of parameters that are trained: those of the decoder, or of its adapters."""
    if adapters is None:
        return sum(each.numel() for each in model.decoder.parameters())
    before = sum(each.numel() for each in model.parameters())
    add_adapters(model, **adapters)
    return sum(each.numel() for each in model.parameters()) - before


@torch.no_grad()
def differences(model: VAE, other: Any, split: Split) -> dict[str, float]:
    """Largest differences of latents, and of images in [0, 1], from those of diffusers."""
    images = next(in_order(split, 32)).images
    latents = other.encode(2 * images - 1).latent_dist.mean
    decoded = (other.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    own = model.encode(images).mean
    return {
        "latents": float((own - latents).abs().max()),
        "images": float((model.decode(latents).mean - decoded).abs().max()),
    }


def distill_decoders(folder: Path, data: str, teacher: Path | None, steps: int) -> None:
    """A teacher, decoders of several sizes from it, and their metrics."""
    options = {**TRAINING, "steps": steps, "freeze": [], "cache_latents": False, "batch_size": 64}
    if teacher is None:
        teacher = folder / f"teacher {data}"
        source = {"source": str(data_folder() / "flowers"), **FLOWERS}
        recipe = {"data": source, **TEACHERS[data], "training": {**options, "optimizer": {"lr": 2e-3}}}
        if (teacher / "recipe.yaml").exists():
            resume(teacher)
        else:
            train(recipe, out=teacher)
    split = test_images(data)
    for width in (None, 8):
        name = f"student {data} {width or 'default'}"
        target = folder / f"{name}.json"
        if target.exists():
            continue
        run = folder / name
        overrides = [f"training.steps={steps}", "training.batch_size=64", "training.pictures_every=0"]
        overrides += ["training.optimizer.lr=4e-3", f"data.source={split_source(data)}"]
        begin = time.process_time()
        small = {"small": {} if width is None else {"width": width}}
        path = (
            resume(run)
            if (run / "recipe.yaml").exists()
            else distill(teacher, decoder=small, overrides=overrides, out=run)
        ).path
        seconds = time.process_time() - begin
        old, new = convae.load(teacher), convae.load(path)
        target.write_text(
            json.dumps(
                {
                    "data": data,
                    "width": width,
                    "steps": steps,
                    "seconds": seconds,
                    "mflops": [network_flops(each.networks["decoder"]) / 1e6 for each in (old, new)],
                    "parameters": [sum(one.numel() for one in each.decoder.parameters()) for each in (old, new)],
                    "psnr": [psnr(each, split) for each in (old, new)],
                    "psnr to teacher": psnr(new, split, old),
                    "images per second": speeds(old, new),
                }
            )
        )


def split_source(data: str) -> str:
    """The source of a data set, for an override."""
    return str(data_folder() / "flowers") if data == "flowers" else data


def test_images(data: str) -> Split:
    """The test images of a data set."""
    config = {"source": split_source(data), **(FLOWERS if data == "flowers" else {})}
    return open_split(DataConfig.model_validate(config), "test")


@torch.no_grad()
def psnr(model: VAE, split: Split, teacher: VAE | None = None) -> float:
    """Mean PSNR of reconstructions from posterior means, to the images or to those of a teacher, dB."""
    found: list[Tensor] = []
    for batch in in_order(split, TIMED):
        z = model.encode(batch.images).mean
        target = batch.images if teacher is None else teacher.decode(z).mean
        error = (model.decode(z).mean - target).square().flatten(1).mean(1)
        found.append(-10 * error.clamp_min(1e-10).log10())
        if sum(map(len, found)) >= IMAGES:
            break
    return float(torch.cat(found).mean())


@torch.no_grad()
def speeds(*models: VAE) -> list[float]:
    """Decoded images per second on one thread, in turns: medians."""
    z = torch.randn(TIMED, *models[0].latent_shape, generator=torch_generator(0, "latents"))
    times: list[list[float]] = [[] for _ in models]
    for _ in range(REPEATS):
        for model, own in zip(models, times, strict=True):
            begin = time.process_time()
            model.decode(z)
            own.append(time.process_time() - begin)
    return [TIMED / statistics.median(own) for own in times]


def table(folder: Path) -> str:
    """The results as Markdown."""
    lines = [
        "| decoder | trained parameters | PSNR before, dB | PSNR, dB | latents | images | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        path = folder / f"published {way}.json"
        if path.exists():
            row = json.loads(path.read_text())
            lines.append(
                f"| {way} | {row['trained']:,} | {row['psnr before']:.2f} | {row['psnr']:.2f} | {row['latents']:.1e} | "
                f"{row['images']:.1e} | {row['seconds']:.0f} |"
            )
    lines += [
        "",
        "| data | decoder | MFLOPs | parameters | PSNR to the images, dB | to the teacher, dB | images/s | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for data in TEACHERS:
        rows = [json.loads(path.read_text()) for path in sorted(folder.glob(f"student {data} *.json"))]
        for number, row in enumerate(sorted(rows, key=lambda each: -each["mflops"][1])):
            old, new = zip(*(row[key] for key in ("mflops", "parameters", "psnr", "images per second")), strict=True)
            if not number:
                lines.append(f"| {data} | teacher | {old[0]:.1f} | {old[1]:,} | {old[2]:.2f} | | {old[3]:.0f} | |")
            name = f"width {row['width']}" if row["width"] else "default"
            lines.append(
                f"| | {name} | {new[0]:.2f} ({old[0] / new[0]:.0f} times fewer) | {new[1]:,} | {new[2]:.2f} | "
                f"{row['psnr to teacher']:.2f} | {new[3]:.0f} ({new[3] / old[3]:.1f} times) | {row['seconds']:.0f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
