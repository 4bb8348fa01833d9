"""The objective of torch-vae's published models on test images, of those models and of convae's.

    python -m benchmarks.torch_vae mnist PUBLISHED.pth RUN-OR-MODEL ...

Squared error summed over the 64×64 image, and KL divergence in nats, of one sampled latent of each image: the mean over
the 10,000 test images and its standard error. Images are resized as in that project, bilinear. Files ending in `.pth`
are published weights, which are imported; all else is loaded by name or path.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import convae
from benchmarks.classifiers import data_folder
from convae.core.random import torch_generator
from convae.data import DataConfig, Split, in_order, open_split
from convae.interop import import_model
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


def images_of(data: str) -> Split:
    """The test images of torch-vae."""
    return open_split(DataConfig(source=data, size=SIZE, interpolation="bilinear", dir=data_folder()), "test")


@torch.no_grad()
def measure(model: VAE, images: Split, seed: int = 0) -> Measured:
    """The objective of each image.

    Args:
        model: of one latent vector with a density.
        images: the images.
        seed: of the noise.
    """
    model.eval()
    errors, divergences = [], []
    for number, batch in enumerate(in_order(images, BATCH)):
        output = model(batch.images, torch_generator(seed, "noise", number))
        errors.append((output.likelihood.mean - batch.images).square().flatten(1).sum(1))
        divergences.append(output.posterior.kl())
    return Measured(torch.cat(errors).double(), torch.cat(divergences).double())


def models(paths: Sequence[str]) -> Iterator[tuple[str, VAE]]:
    """The models by name or path; weights of torch-vae are imported."""
    for path in paths:
        yield path, import_model(Path(path), "torch-vae") if path.endswith(".pth") else convae.load(path)


def main() -> None:
    """Prints a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("mnist", "fashion-mnist"))
    parser.add_argument("models", nargs="+")
    given = parser.parse_args()
    images = images_of(given.data)
    for name, model in models(given.models):
        print(f"{name}: {measure(model, images)}", flush=True)


if __name__ == "__main__":
    main()
