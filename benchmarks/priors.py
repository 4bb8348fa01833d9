"""Priors of frozen models: Fréchet distance of samples, speed and memory of sampling, labels of samples.

    python -m benchmarks.priors figures FOLDER --data mnist,fashion-mnist,flowers
    python -m benchmarks.priors labels RUN-WITH-PRIOR FOLDER --per-class 100 --option guidance=2 top_p=0.9
    python -m benchmarks.priors table FOLDER

`figures` trains for each data set a feature network (a classifier of the real training images), a model with a Gaussian
map and one with codes, fits every prior to the frozen model, and measures samples of each. What FOLDER holds already is
not done again, so that a run that was stopped continues. `labels` classifies samples of each class. Times are of the
processor.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import convae
from convae.core.random import torch_generator
from convae.data import DataConfig, Split, in_order, open_split
from convae.evaluation.distances import frechet_distance
from convae.model.priors.transformer import Transformer
from convae.model.vae import VAE

Kind = Literal["map", "codes", "hierarchy"]
SEEDS = (0, 1, 2, 3, 4)
TIMED = 64
"""Samples that are drawn at once where speed and memory are measured."""
QUIET = ["training.pictures_every=50", "data.dir={data}"]
LARGE = ["training.batch_size=64", "training.ema=0.995"]
FITS: dict[str, tuple[Any, list[str]]] = {
    "gmm": ({"gmm": {"components": 8}}, []),
    "class-gaussians": ("class-gaussians", []),
    "mixture": ({"mixture": {"components": 16}}, ["training.steps=400", *LARGE, "training.optimizer.lr=2e-2"]),
    "flow": (
        {"flow": {"transform": {"coupling": {"steps": 4, "hidden": 64}}}},
        ["training.steps=500", *LARGE, "training.optimizer.lr=2e-3"],
    ),
    "flow-matching": (
        {"flow-matching": {"width": 48, "blocks": 2}},
        ["training.steps=800", *LARGE, "training.optimizer.lr=2e-3"],
    ),
    "transformer": (
        {"transformer": {"layers": 3, "width": 64, "dropout": 0.0}},
        ["training.steps=800", "training.batch_size=64", "training.optimizer.lr=3e-3", "training.optimizer.clip=1"],
    ),
}
"""Each prior, and the options of its fit."""
GAUSSIAN = ("gmm", "class-gaussians", "mixture", "flow", "flow-matching")
EPOCHS: dict[str, dict[Kind, int]] = {
    "mnist": {"map": 1, "codes": 1},
    "fashion-mnist": {"map": 2, "codes": 3, "hierarchy": 2},
    "flowers": {"map": 15, "codes": 15},
}
CLASSIFIER_EPOCHS = {"mnist": 1, "fashion-mnist": 4, "flowers": 15}
STEPS = {"fashion-mnist codes": 1688}
"""Steps of the transformer, where they are not those of `FITS`."""


def model_recipe(data: str, kind: Kind) -> dict[str, Any]:
    """The recipe of a model with latents of a quarter of the image's sides.

    Args:
        data: name of the data set.
        kind: a Gaussian map of 4 channels; codes of 512; or such codes below others of an eighth of the sides.
    """
    encoder: list[Any] = [
        layer for width in (32, 64) for layer in ({"conv": {"channels": width, "stride": 2}}, "batch-norm", "relu")
    ]
    bottleneck: dict[str, Any] = {"gaussian": {"latent": 4}}
    fsq = {"fsq": {"levels": [8, 8, 8]}}
    begin: list[Any] = []
    if kind == "hierarchy":
        encoder += [{"feature": {"name": "fine"}}, {"conv": {"channels": 64, "stride": 2}}, "batch-norm", "relu"]
        up = {"conv-transpose": {"channels": 64, "stride": 2, "output_padding": 0 if data != "flowers" else 1}}
        begin = [up, "batch-norm", "relu", {"latent-codes": {"feature": "fine", **fsq}}]
    if kind != "map":
        encoder += [{"conv": {"channels": 3, "kernel": 1}}, "batch-norm"]
        bottleneck = {"codes": {"head": False, "quantizer": fsq}}
    source: dict[str, Any] = (
        {"source": data} if data != "flowers" else {"source": str(_folder() / "flowers"), "size": 32}
    )
    channels, size = (1, 28) if data != "flowers" else (3, 32)
    return {
        "name": f"{data}-{kind}",
        "data": source,
        "model": {
            "input": [channels, size, size],
            "likelihood": {"gaussian": {"sigma": 0.1}},
            "encoder": encoder,
            "bottleneck": bottleneck,
            "decoder": [
                *begin,
                {"conv": {"channels": 64}},
                "batch-norm",
                "relu",
                {"conv-transpose": {"channels": 32, "stride": 2}},
                "batch-norm",
                "relu",
                {"conv-transpose": {"channels": channels, "stride": 2}},
            ],
        },
        "objective": {"reconstruction": 1, **({"kl": 1} if kind == "map" else {})},
        "training": {"epochs": EPOCHS[data][kind], "batch_size": 64, "pictures_every": 50, "optimizer": {"lr": 4e-3}},
    }


class Classifier(nn.Sequential):
    """A convolutional classifier, whose last hidden values, (batch, 64), are features.

    Args:
        channels: of the images.
        classes: number of classes.
    """

    def __init__(self, channels: int, classes: int) -> None:
        def block(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
            conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
            return [conv, nn.BatchNorm2d(after), nn.ReLU()]

        super().__init__(
            *block(channels, 32, 5, 2),
            *block(32, 48, 3),
            nn.MaxPool2d(2),
            *block(48, 96, 3),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(96 * 16, 64),
            nn.ReLU(),
            nn.Linear(64, classes),
        )

    def features(self, images: Tensor) -> Tensor:
        """(batch, 64) of images."""
        found: Tensor = self[:-1](images)
        return found


def classifier(data: str, folder: Path) -> Classifier:
    """The trained classifier of a data set, from the folder or trained."""
    split = open_split(_data(data), "train")
    assert split.classes is not None or split.labels is not None
    count = int(_labels(split).max()) + 1
    torch.manual_seed(0)
    made, path = Classifier(split.shape[0], count), folder / f"classifier-{data}.safetensors"
    if path.exists():
        made.load_state_dict(load_file(path))
        return made.eval()
    epochs, size = CLASSIFIER_EPOCHS[data], 128
    steps = epochs * (len(split) // size)
    optimizer = torch.optim.AdamW(made.parameters(), 1e-3, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(epochs):
        order = torch.randperm(len(split), generator=torch_generator(0, "order", epoch)).numpy()
        for batch in in_order(split, size, indices=order[: len(split) // size * size]):
            images = _augmented(batch.images, data, epoch, int(batch.indices[0]))
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(made(images), torch.as_tensor(batch.labels), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
        print(f"classifier {data}: epoch {epoch + 1} of {epochs}, loss {float(loss.detach()):.3f}", flush=True)
    save_file(made.state_dict(), path)
    return made.eval()


def _augmented(images: Tensor, data: str, *words: int) -> Tensor:
    """Images shifted by up to two pixels, and mirrored except digits."""
    noise = torch_generator(0, "augment", *words)
    flips = torch.rand(len(images), 1, 1, 1, generator=noise) < (0.0 if data == "mnist" else 0.5)
    images = torch.where(flips, images.flip(3), images)
    down, right = torch.randint(-2, 3, (2,), generator=noise).tolist()
    padded = nn.functional.pad(images, (2, 2, 2, 2))
    return padded[..., 2 + down : 2 + down + images.shape[2], 2 + right : 2 + right + images.shape[3]]


@torch.no_grad()
def accuracy(made: Classifier, split: Split, model: VAE | None = None) -> float:
    """Fraction of test images, or of their reconstructions by a model, that the classifier gives their label."""
    right = 0.0
    for batch in in_order(split, 500):
        images = batch.images if model is None else model.decode(model.encode(batch.images).mean).mean
        right += float((made(images).argmax(1) == batch.labels).float().sum())
    return right / len(split)


class Results:
    """Measurements in a file, one on each line, by name.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: dict[str, dict[str, Any]] = {row["name"]: row for row in map(json.loads, lines)}

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        """Adds a measurement."""
        self.rows[name] = {"name": name, **row}
        with self._path.open("a") as file:
            file.write(json.dumps(self.rows[name]) + "\n")
        print(self.rows[name], flush=True)


def figures(folder: Path, names: list[str]) -> None:
    """Trains, fits and measures what the folder does not hold yet."""
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(folder / "results.jsonl")
    for data in names:
        network, test = classifier(data, folder), open_split(_data(data), "test")
        if data not in results.rows:
            results.add(data, {"accuracy": accuracy(network, test), "images": min(2000, len(test))})
        for kind in EPOCHS[data]:
            base = folder / f"{data}-{kind}"
            if not (base / "model").exists():
                recipe = model_recipe(data, kind)
                convae.train(recipe, out=base, overrides=[f"data.dir={json.dumps(str(_folder()))}"], quiet=True)
            own = "N(0, I)" if kind == "map" else "uniform"
            _measure(f"{data} {kind}", own, base, network, test, results, None)
            for prior in GAUSSIAN if kind == "map" else ("transformer",):
                path = folder / f"{data}-{kind}-{prior}"
                _measure(f"{data} {kind}", prior, path, network, test, results, base)


def _measure(
    of: str, prior: str, path: Path, network: Classifier, test: Split, results: Results, base: Path | None
) -> None:
    """Fits a prior to the model in `base`, if there is none in `path`, and measures samples."""
    name = f"{of} {prior}"
    if name in results.rows:
        return
    begin = time.process_time()
    if base is not None and not (path / "model").exists():
        entry, overrides = FITS[prior]
        data = [each.format(data=json.dumps(str(_folder()))) for each in QUIET]
        longer = [f"training.steps={STEPS[of]}"] if prior == "transformer" and of in STEPS else []
        convae.fit_prior(base, entry, overrides=[*data, *overrides, *longer], out=path, quiet=True)
    fit = time.process_time() - begin
    model = convae.load(path)
    found: dict[str, Any] = {"seconds of the fit": fit, **distances(model, network, test), **sampling(model)}
    if base is not None:
        found["nats"] = convae.load(path).provenance.prior.validation.get("nll")  # type: ignore[union-attr]
    results.add(name, found)


@torch.no_grad()
def distances(model: VAE, network: Classifier, test: Split) -> dict[str, Any]:
    """Fréchet distance between features of test images and of as many samples, for each seed of sampling."""
    images = next(in_order(test, min(2000, len(test)))).images
    real = network.features(images)
    values = []
    for seed in SEEDS:
        drawn = model.sample(len(images), torch_generator(seed, "samples"))
        values.append(frechet_distance(real, network.features(drawn)))
    reconstructed = frechet_distance(real, network.features(model.decode(model.encode(images).mean).mean))
    return {"distance": values, "distance of reconstructions": reconstructed}


@torch.no_grad()
def sampling(model: VAE) -> dict[str, Any]:
    """Images per second and peak memory in MiB of latents from the prior; of a transformer without its cache too."""
    found: dict[str, Any] = {}
    ways: dict[str, dict[str, Any]] = {"": {}}
    if isinstance(model.prior, Transformer):
        ways[" without cache"] = {"cache": False}
    for way, options in ways.items():
        seconds = []
        for seed in range(3):
            begin = time.process_time()
            model.sample_latents(TIMED, torch_generator(seed, "speed"), options=options)
            seconds.append(time.process_time() - begin)
        found[f"images/s{way}"] = TIMED / sorted(seconds)[1]
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            model.sample_latents(TIMED, torch_generator(0, "speed"), options=options)
        found[f"MiB{way}"] = _peak(profiled) / 2**20
    return found


def _peak(profiled: profile) -> float:
    """Largest sum of the bytes that were allocated and not freed at a time."""
    assert profiled.profiler is not None
    results: Any = profiled.profiler.kineto_results  # torch offers no other
    events = [each for each in results.events() if each.name() == "[memory]"]
    sizes = [each.nbytes() for each in sorted(events, key=lambda each: each.start_ns())]
    return float(np.maximum.accumulate(np.cumsum([0, *sizes]))[-1])


def labels(path: Path, folder: Path, per_class: int, options: dict[str, Any], temperature: float) -> None:
    """Prints the accuracy of the classifier on test images, and its agreement with the labels of samples."""
    model = convae.load(path)
    data = str(model.provenance.data["source"])
    made, test = classifier(data, folder), open_split(_data(data), "test")
    print(f"accuracy: {accuracy(made, test):.1%} on test images, {accuracy(made, test, model):.1%} on reconstructions")
    wanted = torch.arange(model.prior.classes).repeat_interleave(per_class)
    begin = time.process_time()
    with torch.no_grad():
        noise = torch_generator(0, "labels")
        images = model.sample(len(wanted), noise, wanted, temperature=temperature, options=options)
        found = (made(images).argmax(1) == wanted).float()
    part = float(found.mean())
    error = 1.96 * math.sqrt(part * (1 - part) / len(found))
    each = " ".join(f"{float(own.mean()):.0%}" for own in found.view(-1, per_class))
    seconds = time.process_time() - begin
    print(
        f"agreement {options}, temperature {temperature:g}: {part:.1%} ± {error:.1%} of {len(found)}; by class {each}"
    )
    print(f"{len(found) / seconds:.0f} images/s", flush=True)


def table(folder: Path) -> None:
    """Prints the measurements as tables."""
    rows = Results(folder / "results.jsonl").rows
    for data in EPOCHS:
        for name, row in rows.items():
            if name == data:
                print(f"\n{data}: classifier {row['accuracy']:.1%}, {row['images']:,} images\n")
                print(
                    "| model | prior | Fréchet distance | nats | fit | images/s | MiB |\n|---|---|---|---|---|---|---|"
                )
            elif name.startswith(f"{data} "):
                _, kind, prior = name.split(" ", 2)
                values, nats = row["distance"], row.get("nats")
                mean = f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})"
                fit = f"{row['seconds of the fit']:.0f} s" if nats is not None else ""
                print(f"| {kind} | {prior} | {mean} | {'' if nats is None else f'{nats:.1f}'} | {fit} |", end="")
                print(f" {row['images/s']:,.0f} | {row['MiB']:.1f} |")
                if "images/s without cache" in row:
                    print(f"| | without cache | | | | {row['images/s without cache']:,.0f} |", end="")
                    print(f" {row['MiB without cache']:.1f} |")
        same = {name.split(" ")[1]: row for name, row in rows.items() if name.startswith(f"{data} ")}
        print("reconstructions:", {kind: round(row["distance of reconstructions"], 2) for kind, row in same.items()})


def _folder() -> Path:
    """The folder of the data sets."""
    return Path(os.environ.get("CONVAE_DATA", "data"))


def _data(name: str) -> DataConfig:
    """The configuration of a data set."""
    if name == "flowers":
        return DataConfig(source=str(_folder() / "flowers"), size=(32, 32), channels=3)
    return DataConfig(source=name, dir=_folder())


def _labels(split: Split) -> Any:
    assert split.labels is not None
    return split.labels


def main() -> None:
    """Runs a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("figures", "labels", "table"))
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--data", default=",".join(EPOCHS))
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--option", nargs="*", default=[])
    parser.add_argument("--temperature", type=float, default=1.0)
    given = parser.parse_args()
    if given.what == "figures":
        figures(given.paths[0], given.data.split(","))
    elif given.what == "labels":
        options = {key: json.loads(value) for key, _, value in (each.partition("=") for each in given.option)}
        labels(given.paths[0], given.paths[1], given.per_class, options, given.temperature)
    else:
        table(given.paths[0])


if __name__ == "__main__":
    main()
