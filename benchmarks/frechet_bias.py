"""The Fréchet distance of two equal Gaussians, whose true distance is 0, against the number of images.

python benchmarks/frechet_bias.py --out docs/pictures/frechet-bias.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from convae.core.random import torch_generator
from convae.evaluation.distances import frechet_distance
from convae.pictures.curves import curves
from convae.pictures.save import save

COUNTS = (200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
FEATURES = (16, 64, 256)


def main() -> None:
    """Prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("frechet-bias.png"))
    out: Path = parser.parse_args().out
    lines = {}
    for size in FEATURES:
        found = []
        for count in COUNTS:
            sets = (torch.randn(count, size, generator=torch_generator(0, name, size, count)) for name in "ab")
            found.append(frechet_distance(*sets))
        lines[f"{size} features"] = (torch.tensor(COUNTS).log10(), found)
        print(f"{size} features:", ", ".join(f"{n:,}: {value:.4f}" for n, value in zip(COUNTS, found, strict=True)))
    picture = curves(
        {"Fréchet distance": lines},
        x_label="log₁₀ of the images in each set",
        units={"Fréchet distance": "squared feature units"},
        title="Two sets from one Gaussian: the true distance is 0",
        logarithmic=["Fréchet distance"],
    )
    save(picture, out)
    print(out)


if __name__ == "__main__":
    main()
