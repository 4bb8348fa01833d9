"""The objective of torch-vae's published models on test images, of those models and of convae's.

    python -m benchmarks.torch_vae measure mnist PUBLISHED.pth RUN-OR-MODEL ... [--refine 30]
    python -m benchmarks.torch_vae original mnist --latent 8 --epochs 20

Squared error summed over the 64×64 image, and KL divergence in nats, of one sampled latent of each image: the mean over
the 10,000 test images and its standard error. Images are resized as in that project, bilinear. Files ending in `.pth`
are published weights, which are imported; all else is loaded by name or path. `--refine` measures with posteriors that
are refined for each image, of all models alike.

`exact` bounds the objective from below for models of two latent values, by the exact posterior:

    python -m benchmarks.torch_vae exact mnist mnist/torch-vae-2

`original` is that project's training: a plain loop in float32 with AdamW at 3e-4 over batches of 32 of all 60,000
images, from PyTorch's initial weights. It prints the objective of the test images after each epoch.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

import convae
from benchmarks.classifiers import data_folder
from benchmarks.training.peers import Plain, torch_vae
from convae.core.output import Output
from convae.core.random import torch_generator
from convae.data import DataConfig, Split, in_order, open_split
from convae.interop import import_model
from convae.latents import refine
from convae.model.vae import VAE

SIZE = 64
BATCH = 500


@dataclass(frozen=True)
class Measured:
    """The objective of a model.

    Attributes:
        squared_error: (image,) sum over the image, of pixels in [0, 1].
        kl: (image,) nats.
    """

    squared_error: Tensor
    kl: Tensor

    def __str__(self) -> str:
        """Means, and the standard error of their sum."""
        total = self.squared_error + self.kl
        error = float(total.std() / len(total) ** 0.5)
        return f"{self.squared_error.mean():.2f} + {self.kl.mean():.2f} = {total.mean():.2f} ± {error:.2f}"


def images_of(data: str, split: Literal["train", "test"] = "test") -> Split:
    """Images of torch-vae; the training images are all 60,000."""
    config = DataConfig(source=data, size=SIZE, interpolation="bilinear", dir=data_folder(), validation=0)
    return open_split(config, split)


@torch.no_grad()
def measure(model: VAE, images: Split, seed: int = 0, steps: int = 0) -> Measured:
    """The objective of each image.

    Args:
        model: of one latent vector with a density.
        images: the images.
        seed: of the noise.
        steps: that refine each posterior, by this objective; 0 for the posterior of the encoder.
    """
    model.eval()
    errors, divergences = [], []
    for number, batch in enumerate(in_order(images, BATCH)):
        if steps:
            features = refine(model, batch.images, steps=steps, cost=_objective)
        else:
            features = model.encode_features(batch.images)
        output = model.decode_features(features, noise=torch_generator(seed, "noise", number))
        errors.append(_squared_error(output, batch.images))
        divergences.append(output.posterior.kl())
    return Measured(torch.cat(errors).double(), torch.cat(divergences).double())


@torch.no_grad()
def exact_bound(model: VAE, images: Tensor, side: int = 160, reach: float = 4.2) -> Tensor:
    """(image,) what the objective is for the exact posterior, −log ∫ exp(−squared error) p(z) dz, nats.

    The integral is a sum over a square grid; no posterior of any encoder has a lower objective with this decoder.

    Args:
        model: of two latent values.
        images: (image, channel, *sizes).
        side: values of the grid along each axis.
        reach: largest latent value of the grid.
    """
    axis = torch.linspace(-reach, reach, side)
    z = torch.cartesian_prod(axis, axis)
    decoded = torch.cat([model.decode(part).mean.flatten(1) for part in z.split(BATCH)]).double()
    log_weights = -0.5 * z.double().square().sum(1) - math.log(2 * math.pi) + 2 * math.log(2 * reach / (side - 1))
    bounds = []
    for part in images.flatten(1).double().split(BATCH):
        errors = part.square().sum(1, keepdim=True) - 2 * part @ decoded.T + decoded.square().sum(1)
        bounds.append(-torch.logsumexp(log_weights - errors, 1))
    return torch.cat(bounds)


def _squared_error(output: Output, images: Tensor) -> Tensor:
    """(image,) sum over the image."""
    return (output.likelihood.mean - images).square().flatten(1).sum(1)


def _objective(output: Output, images: Tensor) -> Tensor:
    """(image,) squared error and KL divergence."""
    return _squared_error(output, images) + output.posterior.kl()


def models(paths: Sequence[str]) -> Iterator[tuple[str, VAE]]:
    """The models by name or path; weights of torch-vae are imported."""
    for path in paths:
        yield path, import_model(Path(path), "torch-vae") if path.endswith(".pth") else convae.load(path)


def train_original(data: str, latent: int, epochs: int, seed: int) -> Iterator[tuple[float, Measured]]:
    """The original training: seconds of the processor for training, and the objective after each epoch."""
    torch.manual_seed(seed)
    network = torch_vae(SIZE, latent, channels=1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4)
    training, tested = images_of(data, "train"), images_of(data)
    seconds = 0.0
    for _ in range(epochs):
        began = time.process_time()
        network.train()
        for batch in in_order(training, 32, indices=torch.randperm(len(training)).numpy()):
            optimizer.zero_grad()
            (network(batch.images) * len(batch.images)).backward()
            optimizer.step()
        seconds += time.process_time() - began
        yield seconds, measure_plain(network, tested)


@torch.no_grad()
def measure_plain(network: Plain, images: Split) -> Measured:
    """The objective of each image, of a plain network."""
    network.eval()
    errors, divergences = [], []
    for batch in in_order(images, BATCH):
        decoded, kl = network.decoded(batch.images)
        errors.append((decoded - batch.images).square().flatten(1).sum(1))
        divergences.append(kl)
    return Measured(torch.cat(errors).double(), torch.cat(divergences).double())


def main() -> None:
    """Prints a line for each model, or for each epoch of the original training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring, training = commands.add_parser("measure"), commands.add_parser("original")
    bounding = commands.add_parser("exact")
    for command in (measuring, training, bounding):
        command.add_argument("data", choices=("mnist", "fashion-mnist"))
    measuring.add_argument("models", nargs="+")
    bounding.add_argument("models", nargs="+")
    bounding.add_argument("--images", type=int, default=1000)
    measuring.add_argument("--refine", type=int, default=0, help="steps that refine each posterior")
    training.add_argument("--latent", type=int, default=8)
    training.add_argument("--epochs", type=int, default=100)
    training.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.command == "original":
        curve = train_original(given.data, given.latent, given.epochs, given.seed)
        for epoch, (seconds, measured) in enumerate(curve, 1):
            print(f"epoch {epoch}, {seconds / 60:.1f} processor minutes: {measured}", flush=True)
        return
    if given.command == "exact":
        for name, model in models(given.models):
            for split in ("train", "test"):
                chosen = images_of(given.data, split)
                order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(0))[: given.images]
                (batch,) = in_order(chosen, given.images, indices=order.numpy())
                print(
                    f"{name}, {given.images:,} {split} images: {exact_bound(model, batch.images).mean():.2f}",
                    flush=True,
                )
        return
    images = images_of(given.data)
    for name, model in models(given.models):
        print(f"{name}: {measure(model, images, steps=given.refine)}", flush=True)


if __name__ == "__main__":
    main()
