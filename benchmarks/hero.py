"""The picture at the top of the README, from pretrained models: samples, samples of classes, and a latent plane.

    python -m benchmarks.hero docs/pictures/hero.png

Fits Gaussians to the latents of each class of Fashion-MNIST, which takes a minute of a core.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import convae
from convae.core.random import torch_generator
from convae.pictures.grid import grid

SIDE, GAP = 6, 24
"""Rows and columns of a panel, and pixels between panels."""


def hierarchy() -> Tensor:
    """Samples of a hierarchy of five latents."""
    return convae.load("binarized-mnist/ladder").eval().sample(SIDE * SIDE, generator=torch_generator(0, "hero"))


def classes() -> Tensor:
    """Samples of six classes in rows, from Gaussians fitted to the latents of each class."""
    with tempfile.TemporaryDirectory() as folder:
        model = convae.fit_prior("fashion-mnist/resnet", "class-gaussians", out=Path(folder) / "run").model
    assert model is not None
    labels = torch.tensor([0, 1, 5, 7, 8, 9]).repeat_interleave(SIDE)
    return model.eval().sample(len(labels), labels=labels, generator=torch_generator(0, "hero"), temperature=0.8)


def plane() -> Tensor:
    """The plane of two latent values, at quantiles of N(0, 1)."""
    model = convae.load("mnist/resnet-2").eval()
    along = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.06, 0.94, SIDE))
    z = torch.stack(torch.meshgrid(along.flip(0), along, indexing="ij"), -1).flip(-1)
    with torch.inference_mode():
        return model.decode(z.flatten(0, 1)).mean


def main() -> None:
    """Draws the panels beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    titles = {"Samples of a hierarchy": hierarchy, "Samples of a class": classes, "A plane of two latent values": plane}
    panels = [grid(draw(), columns=SIDE, scale=2, title=title) for title, draw in titles.items()]
    width = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    picture = Image.new("RGB", (width, max(panel.height for panel in panels)), "white")
    left = 0
    for panel in panels:
        picture.paste(panel, (left, 0))
        left += panel.width + GAP
    given.out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(given.out, optimize=True)


if __name__ == "__main__":
    main()
