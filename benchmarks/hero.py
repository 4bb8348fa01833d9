"""The picture at the top of the README, from pretrained models: samples, also of classes, interpolations, photographs.

    python -m benchmarks.hero docs/pictures/hero.png

MNIST and the photographs of Kodak are in $CONVAE_DATA.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import convae
from benchmarks.classifiers import data_folder
from convae.core.random import torch_generator
from convae.data import DataConfig, in_order, open_split
from convae.latents import interpolate
from convae.pictures.grid import grid

SIDE, GAP = 6, 24
"""Rows and columns of a panel, and pixels between panels."""
PHOTOGRAPH, CHOSEN = 112, (2, 14, 22)
"""Side in pixels, and which photographs."""
PAIRS = ((4, 9), (0, 6), (3, 8), (7, 2), (5, 3), (9, 7))
"""Digits, of each the first test image."""


def hierarchy() -> Tensor:
    """Samples of a hierarchy of five latents."""
    return convae.load("binarized-mnist/ladder").eval().sample(SIDE * SIDE, generator=torch_generator(0, "hero"))


def classes() -> Tensor:
    """Samples of six classes in rows, by a transformer over codes."""
    labels = torch.tensor([0, 1, 5, 7, 8, 9]).repeat_interleave(SIDE)
    model = convae.load("fashion-mnist/fsq").eval()
    return model.sample(len(labels), labels=labels, generator=torch_generator(0, "hero"))


def between() -> Tensor:
    """From one test image of MNIST to another of a different digit in each row, along the latents of a hierarchy."""
    model = convae.load("mnist/ladder").eval()
    images = open_split(DataConfig(source="mnist", dir=data_folder()), "test")
    (batch,) = in_order(images, 200, indices=np.arange(200))
    labels = [] if batch.labels is None else batch.labels.tolist()
    chosen = [labels.index(digit) for pair in PAIRS for digit in pair]
    with torch.inference_mode():
        z = model.encode(batch.images[chosen]).mean
        return model.decode(interpolate(z[::2], z[1::2], SIDE, mode="slerp").flatten(0, 1)).mean


def photographs() -> Tensor:
    """Kodak photographs at 112×112, each with its reconstruction by a tokenizer that was trained at 64×64."""
    session = convae.Session("flowers/tokenizer", data=data_folder() / "kodak", split="all", size=PHOTOGRAPH)
    ((images, decoded),) = session.reconstruct(np.array(CHOSEN))
    return torch.stack([images, decoded], 1).flatten(0, 1)


def main() -> None:
    """Draws the panels beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    titles = {"Samples of a hierarchy": hierarchy, "Samples of a class": classes, "Between two digits": between}
    panels = [grid(draw(), columns=SIDE, scale=2, title=title) for title, draw in titles.items()]
    panels.append(grid(photographs(), columns=2, scale=1, title="Photographs"))
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
