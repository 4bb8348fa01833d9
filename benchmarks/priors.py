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
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

import convae
from benchmarks.classifiers import Classifier, accuracy, classifier, data_config, data_folder
from benchmarks.records import Results, finish_run
from convae.core.random import torch_generator
from convae.data import Split, in_order, open_split
from convae.evaluation.distances import frechet_distance
from convae.model.priors.transformer import Transformer
from convae.model.vae import VAE

Kind = Literal["map", "vector", "codes", "hierarchy"]
SEEDS = (0, 1, 2)
IMAGES = 1000
"""Most test images, and as many samples, whose features are compared."""
TIMED = 64
"""Samples that are drawn at once where speed and memory are measured."""
DECODED = "MiB with decoder"
"""Peak memory of sampling images, in a row of the results."""
SIZE = ["training.batch_size=64", "training.pictures_every=50"]
FITS: dict[str, tuple[Any, list[str]]] = {
    "gmm": ({"gmm": {"components": 8}}, []),
    "class-gaussians": ("class-gaussians", []),
    "mixture": ({"mixture": {"components": 16}}, ["training.steps=400", "training.optimizer.lr=2e-2"]),
    "flow": (
        {"flow": {"transform": {"coupling": {"steps": 4, "hidden": 32}}}},
        ["training.steps=300", "training.optimizer.lr=3e-3"],
    ),
    "flow-matching": (
        {"flow-matching": {"width": 32, "blocks": 2}},
        ["training.steps=400", "training.optimizer.lr=3e-3", "training.ema=0.99"],
    ),
    "transformer": (
        {"transformer": {"layers": 3, "width": 64, "dropout": 0.0}},
        [
            "training.steps=400",
            "training.optimizer.lr=3e-3",
            "training.optimizer.clip=1",
            "training.precision=float32",  # faster than bf16 at this width
        ],
    ),
}
"""Each prior, and the options of its fit."""
GAUSSIAN_KINDS = ("map", "vector")
GAUSSIAN = ("gmm", "class-gaussians", "mixture", "flow", "flow-matching")
STEPS: dict[str, dict[Kind, int]] = {
    "fashion-mnist": {"map": 1688, "codes": 2532, "hierarchy": 800},
    "mnist": {"map": 300, "codes": 400},
    "flowers": {"map": 400, "vector": 2000, "codes": 400},
}
"""Steps of 64 images of each model."""
TRANSFORMER_STEPS = {"fashion-mnist codes": 1688}
"""Where they are not those of `FITS`."""


def model_recipe(data: str, kind: Kind) -> dict[str, Any]:
    """The recipe of a model with latents of a quarter of the image's sides.

    Args:
        data: name of the data set.
        kind: a Gaussian map of 4 channels; a Gaussian vector of 64 values; codes of 512; or such codes below others of
            an eighth of the sides.
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
    if kind == "vector":
        encoder += ["flatten"]
        bottleneck = {"gaussian": {"latent": 64}}
        begin = [{"linear": {"features": 64 * 8 * 8}}, {"unflatten": {"to": [64, 8, 8]}}, "relu"]
    elif kind != "map":
        encoder += [{"conv": {"channels": 3, "kernel": 1}}, "batch-norm"]
        bottleneck = {"codes": {"head": False, "quantizer": fsq}}
    source: dict[str, Any] = (
        {"source": data} if data != "flowers" else {"source": str(data_folder() / "flowers"), "size": 32}
    )
    if kind == "vector":
        source["augment"] = {"flip": 0.5, "crop": 3}
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
        "objective": {"reconstruction": 1, **({"kl": 1} if kind in GAUSSIAN_KINDS else {})},
        "training": {"steps": STEPS[data][kind], "batch_size": 64, "pictures_every": 50, "optimizer": {"lr": 4e-3}},
    }


def figures(folder: Path, names: list[str]) -> None:
    """Trains, fits and measures what the folder does not hold yet.

    Args:
        folder: of models and measurements.
        names: data sets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(folder / "results.jsonl")
    for data in names:
        network, test = classifier(data, folder), open_split(data_config(data), "test")
        if data not in results.rows:
            results.add(data, {"accuracy": accuracy(network, test), "images": min(IMAGES, len(test))})
        for kind in STEPS[data]:
            base = folder / f"{data}-{kind}"
            _train(model_recipe(data, kind), base)
            gaussian = kind in GAUSSIAN_KINDS
            own = "N(0, I)" if gaussian else "uniform"
            _measure(f"{data} {kind}", own, base, network, test, results, None)
            for prior in GAUSSIAN if gaussian else ("transformer",):
                path = folder / f"{data}-{kind}-{prior}"
                _measure(f"{data} {kind}", prior, path, network, test, results, base)


def _train(recipe: dict[str, Any], path: Path) -> None:
    """Trains a model, or continues its training."""
    where = [f"data.dir={json.dumps(str(data_folder()))}"]
    finish_run(path, lambda: convae.train(recipe, out=path, overrides=where, quiet=True))


def _measure(
    of: str, prior: str, path: Path, network: Classifier, test: Split, results: Results, base: Path | None
) -> None:
    """Fits a prior to the model in `base`, if there is none in `path`, and measures samples."""
    name = f"{of} {prior}"
    if (row := results.rows.get(name)) is not None:
        if DECODED not in row:  # of an earlier version of this script
            results.add(name, {**row, **sampling(convae.load(path))})
        return
    begin = time.process_time()
    if base is not None:
        entry, overrides = FITS[prior]
        more = [f"training.steps={TRANSFORMER_STEPS[of]}"] if prior == "transformer" and of in TRANSFORMER_STEPS else []
        where = f"data.dir={json.dumps(str(data_folder()))}"
        every = [where, *SIZE, *overrides, *more]
        finish_run(path, lambda: convae.fit_prior(base, entry, overrides=every, out=path, quiet=True))
    fit = time.process_time() - begin
    model = convae.load(path)
    found: dict[str, Any] = {"seconds of the fit": fit, **distances(model, network, test), **sampling(model)}
    if base is not None:
        found["nats"] = convae.load(path).provenance.prior.validation.get("nll")  # type: ignore[union-attr]
    results.add(name, found)


@torch.no_grad()
def distances(model: VAE, network: Classifier, test: Split) -> dict[str, Any]:
    """Fréchet distance between features of test images and of as many samples, for each seed of sampling."""
    images = next(in_order(test, min(IMAGES, len(test)))).images
    real = network.features(images)
    values = []
    for seed in SEEDS:
        drawn = model.sample(len(images), torch_generator(seed, "samples"))
        values.append(frechet_distance(real, network.features(drawn)))
    reconstructed = frechet_distance(real, network.features(model.decode(model.encode(images).mean).mean))
    return {"distance": values, "distance of reconstructions": reconstructed}


@torch.no_grad()
def sampling(model: VAE) -> dict[str, Any]:
    """Images per second and peak memory in MiB.

    Of latents from the prior, of a transformer without its cache too, and of latents and images.
    """
    found: dict[str, Any] = {}
    ways: dict[str, Callable[[torch.Generator], object]] = {
        "": lambda noise: model.sample_latents(TIMED, noise),
        " with decoder": lambda noise: model.sample(TIMED, noise),
    }
    if isinstance(model.prior, Transformer):
        ways[" without cache"] = lambda noise: model.sample_latents(TIMED, noise, options={"cache": False})
    for way, draw in ways.items():
        seconds = []
        for seed in range(3):
            begin = time.process_time()
            draw(torch_generator(seed, "speed"))
            seconds.append(time.process_time() - begin)
        found[f"images/s{way}"] = TIMED / sorted(seconds)[1]
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            draw(torch_generator(0, "speed"))
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
    made, test = classifier(data, folder), open_split(data_config(data), "test")
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
    for data in STEPS:
        if data not in rows:
            continue
        print(f"\n{data}: classifier {rows[data]['accuracy']:.1%}, {rows[data]['images']:,} images\n")
        own = {name: row for name, row in rows.items() if name.startswith(f"{data} ")}
        kinds = {name.split(" ")[1]: row for name, row in own.items()}
        distances = {kind: round(row["distance of reconstructions"], 1) for kind, row in kinds.items()}
        print(f"reconstructions: {distances}\n")
        print("| model | prior | Fréchet distance | nats | fit | images/s | MiB | decoded, images/s | MiB |")
        print("|---|---|---|---|---|---|---|---|---|")
        for kind in kinds:
            for name, row in own.items():
                if name.startswith(f"{data} {kind} "):
                    _print_row(kind, name.removeprefix(f"{data} {kind} "), row)


def _print_row(kind: str, prior: str, row: Mapping[str, Any]) -> None:
    """Prints the row of a prior, and a second one of sampling without cache."""
    values, nats = row["distance"], row.get("nats")
    cells = [kind, prior if prior in ("N(0, I)", "uniform") else f"`{prior}`"]
    cells.append(f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
    cells += ["", ""] if nats is None else [f"{nats:.1f}", f"{row['seconds of the fit']:.0f} s"]
    for way in ("", " with decoder"):
        cells += [f"{row[f'images/s{way}']:,.0f}", f"{row[f'MiB{way}']:.1f}"]
    print(f"| {' | '.join(cells)} |")
    if "images/s without cache" in row:
        speed, size = row["images/s without cache"], row["MiB without cache"]
        print(f"| | without its cache | the same | | | {speed:,.0f} | {size:.1f} | | |")


def main() -> None:
    """Runs a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("figures", "labels", "table"))
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--data", default=",".join(STEPS))
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--option", nargs="*", action="extend", default=[])
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
