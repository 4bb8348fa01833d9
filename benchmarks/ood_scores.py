"""AUROC of anomaly scores for images of another data set, by pretrained models.

    python -m benchmarks.ood_scores fashion-mnist/torch-vae-64 mnist

For each score, the AUROC of the test images of the other data set against those of the model's own, and the mean score
of both. Scores are those of `convae ood --score`, of the same random test images of each set for all scores.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

import convae
from benchmarks.classifiers import data_folder
from convae.data import DataConfig, in_order, open_split
from convae.evaluation import METRICS, ImageMetric, auroc
from convae.latents import EvalBatch

SCORES = ("elbo", "reconstruction", "kl", "amortization-gap")


def main() -> None:
    """Prints a line for each score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a pretrained model, DATA/NAME")
    parser.add_argument("other", help="the other data set")
    parser.add_argument("--images", type=int, default=2000)
    given = parser.parse_args()
    model = convae.load(given.model).eval()
    own, other = (scores_of(model, data, given.images) for data in (given.model.partition("/")[0], given.other))
    for name in SCORES:
        value, (low, high) = auroc(own[name], other[name])
        means = f"{own[name].mean():.1f} and {other[name].mean():.1f}"
        print(f"{name}: AUROC {value:.3f} ({low:.3f} … {high:.3f}), means {means} nats", flush=True)


@torch.no_grad()
def scores_of(model: convae.VAE, data: str, count: int) -> dict[str, Tensor]:
    """The scores of random test images, (image,) each, in nats; higher is less likely."""
    split = open_split(DataConfig(source=data, size=model.input_shape[1], dir=data_folder()), "test")
    chosen = np.sort(np.random.default_rng(0).permutation(len(split))[:count])
    metrics = {name: METRICS.get(name)() for name in SCORES}
    found: dict[str, list[Tensor]] = {name: [] for name in SCORES}
    for batch in in_order(split, 250, indices=chosen):
        passes = EvalBatch(model, batch.images, batch.indices, 0)
        for name, metric in metrics.items():
            assert isinstance(metric, ImageMetric)
            rows = metric.rows(passes).double()
            found[name].append(-rows if metric.better == "higher" else rows)
    return {name: torch.cat(rows) for name, rows in found.items()}


if __name__ == "__main__":
    main()
