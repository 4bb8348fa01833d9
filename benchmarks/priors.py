"""Fitted priors: Fréchet distance of samples, agreement of labeled samples with a classifier, speed of sampling.

    python -m benchmarks.priors distances MODEL --encoder OTHER --priors gmm,class-gaussians --out FOLDER
    python -m benchmarks.priors labels RUN-WITH-PRIOR --per-class 50
    python -m benchmarks.priors speed RUN-WITH-PRIOR

`distances` fits each prior to a frozen model, and compares samples with as many test images by the features of another
model's encoder, for three seeds of sampling. `labels` classifies samples of each class by a small convolutional network
trained on the real training images. Times are of the processor.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import convae
from convae.core.random import torch_generator
from convae.data import DataConfig, Split, in_order, open_split
from convae.evaluation import EncoderFeatures
from convae.evaluation.distances import frechet_distance
from convae.model.priors.transformer import Transformer
from convae.model.vae import VAE

SEEDS = (0, 1, 2)
SETTINGS: dict[str, tuple[Any, list[str]]] = {
    "gmm": ({"gmm": {"components": 8}}, []),
    "class-gaussians": ("class-gaussians", []),
    "flow-matching": (
        {"flow-matching": {"width": 32, "blocks": 2}},
        ["training.steps=400", "training.batch_size=64", "training.optimizer.lr=3e-3", "training.ema=0.99"],
    ),
    "flow": (
        {"flow": {"transform": {"coupling": {"steps": 4, "hidden": 32}}}},
        ["training.steps=400", "training.batch_size=64", "training.optimizer.lr=2e-3"],
    ),
}


def split_of(model: VAE, name: Literal["train", "test"]) -> Split:
    """A split of the model's training data."""
    channels, *size = model.input_shape
    config = {**model.provenance.data, "channels": channels, "size": tuple(size)}
    return open_split(DataConfig(**config), name)


@torch.no_grad()
def distances(path: Path, encoder: Path, priors: list[str], out: Path, count: int) -> None:
    """Prints the Fréchet distance of samples of the model, and of the model with each prior."""
    base, features = convae.load(path), EncoderFeatures(convae.load(encoder))
    images = next(in_order(split_of(base, "test"), count)).images
    real = features(images)
    reconstructed = base.decode(base.encode(images).mean).mean
    distance = frechet_distance(real, features(reconstructed))
    print(f"features {features.name}, {count:,} test images; reconstructions: {distance:.2f}")

    def show(name: str, model: VAE, nll: float | None) -> None:
        model.eval()
        begin = time.process_time()
        drawn = [model.sample(count, torch_generator(seed, "samples")) for seed in SEEDS]
        seconds = (time.process_time() - begin) / len(SEEDS)
        values = [frechet_distance(real, features(each)) for each in drawn]
        text = "" if nll is None else f", {nll:.1f} nats"
        print(
            f"{name}: {sum(values) / 3:.2f} ({min(values):.2f} to {max(values):.2f}){text}, {seconds:.1f} s", flush=True
        )

    show("N(0, I)", base, None)
    for name in priors:
        prior, overrides = SETTINGS[name]
        begin = time.process_time()
        with torch.enable_grad():
            quiet = [*overrides, "training.pictures_every=50"]
            run = convae.fit_prior(path, prior, overrides=quiet, out=out / name, quiet=True)
        print(f"fit of {name}: {time.process_time() - begin:.0f} s; {[note for note in run.notes if 'log p' in note]}")
        show(name, run.model, run.best.get("nll"))


def train_classifier(split: Split, epochs: int) -> nn.Module:
    """A small convolutional classifier of images of 28×28."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 10)
    )
    optimizer = torch.optim.Adam(made.parameters(), 2e-3)
    for epoch in range(epochs):
        order = torch.randperm(len(split), generator=torch_generator(0, "order", epoch)).numpy()
        for batch in in_order(split, 128, indices=order):
            loss = nn.functional.cross_entropy(made(batch.images), _labels(batch.labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return made.eval()


def _labels(labels: Tensor | None) -> Tensor:
    assert labels is not None
    return labels


def labels(path: Path, classifier: nn.Module, per_class: int, options: dict[str, Any]) -> None:
    """Prints the accuracy of a classifier on test images, and its agreement with the labels of samples."""
    model = convae.load(path)
    with torch.no_grad():
        test = split_of(model, "test")
        right = sum(
            float((classifier(batch.images).argmax(1) == batch.labels).float().sum()) for batch in in_order(test, 500)
        )
        decoded = 0.0
        for batch in in_order(test, 500):
            images = model.decode(model.encode(batch.images).mean).mean
            decoded += float((classifier(images).argmax(1) == batch.labels).float().sum())
        wanted = torch.arange(model.prior.classes).repeat_interleave(per_class)
        print(f"accuracy: {right / len(test):.1%} on test images, {decoded / len(test):.1%} on their reconstructions")
        for text, given in {"": {}, **({str(options): options} if options else {})}.items():
            images = model.sample(len(wanted), torch_generator(0, "labels"), wanted, options=given)
            found = (classifier(images).argmax(1) == wanted).float()
            share = float(found.mean())
            error = 1.96 * math.sqrt(share * (1 - share) / len(found))
            each = " ".join(f"{float(part.mean()):.0%}" for part in found.view(-1, per_class))
            print(f"agreement {text}: {share:.1%} ± {error:.1%} of {len(found)}; by class {each}", flush=True)


@torch.no_grad()
def speed(path: Path) -> None:
    """Prints processor seconds and the memory of keys and values for samples with and without the cache."""
    prior = convae.load(path).prior
    assert isinstance(prior, Transformer)
    width, layers = prior.code_embedding.shape[1], len(prior.blocks)
    for count in (1, 16, 64):
        seconds, codes = [], []
        for cache in (True, False):
            begin = time.process_time()
            codes.append(prior.sample(count, torch_generator(0, "speed"), cache=cache))
            seconds.append(time.process_time() - begin)
        memory = 2 * 4 * layers * count * prior.length * width / 2**20
        equal = float((codes[0] == codes[1]).float().mean())
        times = f"{seconds[0]:.2f} s with, {seconds[1]:.2f} s without cache of {memory:.1f} MiB"
        print(f"{count} images: {times}; equal {equal:.2%}")


def main() -> None:
    """Runs a measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("distances", "labels", "speed"))
    parser.add_argument("model", type=Path)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--priors", default=",".join(SETTINGS))
    parser.add_argument("--out", type=Path, default=Path("priors"))
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--per-class", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args()
    if given.what == "distances":
        distances(given.model, given.encoder, given.priors.split(","), given.out, given.count)
    elif given.what == "labels":
        classifier = train_classifier(split_of(convae.load(given.model), "train"), given.epochs)
        labels(given.model, classifier, given.per_class, {"guidance": 2.0, "top_p": 0.9})
    else:
        speed(given.model)


if __name__ == "__main__":
    main()
