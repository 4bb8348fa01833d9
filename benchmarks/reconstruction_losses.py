"""What a reconstruction is judged by: runs that differ in nothing else, side by side on the test images.

python benchmarks/reconstruction_losses.py RUN RUN ... --judge MODEL --out docs/pictures/reconstruction-losses.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

import convae
from convae.data import in_order, open_split
from convae.features.networks.encoder import Encoder
from convae.model.layers.base import Activation
from convae.objective.schedules.base import Moment
from convae.objective.similarity import ssim
from convae.pictures.grid import compare
from convae.pictures.save import save
from convae.training.recipe.reading import read_recipe

SHOWN = 12
START = Moment(0, 0.0, 0.0)


@torch.no_grad()
def main() -> None:
    """Prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--judge", type=Path, required=True, help="a saved model, in whose encoder features differ")
    parser.add_argument("--out", type=Path, default=Path("reconstruction-losses.png"))
    given = parser.parse_args()
    judge = convae.load(given.judge)
    # Features alone: the network's own choice of layers has the image itself among them.
    kept = [place for place, layer in enumerate(judge.encoder.children()) if isinstance(layer, Activation)]
    features = Encoder(model=judge, layers=kept)
    rows: dict[str, Tensor] = {}
    print("| judged by | KL, nats | PSNR, dB | SSIM | feature distance |\n|---|---|---|---|---|")
    for path in given.runs:
        recipe, model = read_recipe(path / "recipe.yaml"), convae.load(path)
        split = open_split(recipe.data, "test")
        found = []
        for batch in in_order(split, 500, torch.device("cpu")):
            output = model(batch.images)
            expected = output.likelihood.mean
            error = (batch.images - expected).square().flatten(1).mean(1)
            distance = features.distance(batch.images, expected)
            found.append(
                torch.stack([output.posterior.kl(), -10 * error.log10(), ssim(batch.images, expected), distance])
            )
            if not len(rows):
                rows["original"] = batch.images[:SHOWN]
            rows.setdefault(recipe.title.removeprefix("fashion-").replace("-", " "), expected[:SHOWN])
        name = list(rows)[-1]
        kl, psnr, similarity, distance = torch.cat(found, 1).double().mean(1).tolist()
        print(f"| {name} | {kl:.2f} | {psnr:.2f} | {similarity:.4f} | {distance:.4f} |")
    save(compare(rows, title="test images, 16 latent values"), given.out)
    print(given.out)


if __name__ == "__main__":
    main()
