"""Samples for a requested label, judged by a classifier that has nothing to do with the model.

The judge, a small convolutional network, is trained here on the real training images. Then `convae sample` writes
samples of each class for every model named, and the judge says how many are of the class that they were drawn for.
How diverse they are is told by two figures beside, each the mean over the classes and on the judge's features:
recall, the share of the class's test images that lie within the reach of its samples, and spread, the mean distance
between two samples, relative to that between two test images. Precision is what recall is with both sets exchanged.
Test images in the place of samples, drawn from the training images, give what is possible.

    python benchmarks/labeled_samples.py --data mnist --data-dir data runs/semi-supervised runs/conditional
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from convae.cli import main as convae
from convae.data import Batches, DataConfig, Split, in_order, open_split
from convae.evaluation.distances import is_in_manifold
from convae.model.initialize import initialize
from convae.model.layers.base.network import Network

NEIGHBORS = 3
EPOCHS = 3


def main() -> None:
    """Trains the judge, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="artifacts or runs")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--count", type=int, default=500, help="samples of each class")
    parser.add_argument(
        "--options", nargs="*", action="extend", default=[], help="of convae sample, such as confidence=0.5"
    )
    given = parser.parse_args()
    train, test = (
        open_split(DataConfig(source=given.data, dir=given.data_dir, validation=0), part) for part in ("train", "test")
    )
    judge = trained(train)
    features, named = seen(judge, test)
    labels = torch.from_numpy(test.labels)
    accuracy = float((named == labels).float().mean())
    print(f"the judge names {accuracy:.2%} of the {len(test):,} {given.data} test images rightly\n")
    print("| samples | agreement | of the worst class | precision | recall | spread |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    by_class = [features[labels == number] for number in range(int(labels.max()) + 1)]
    reference, of_train = seen(judge, train)
    truth = torch.from_numpy(train.labels)
    chosen = [(truth == number).nonzero()[: given.count, 0] for number in range(len(by_class))]
    row("training images", [(reference[own], of_train[own]) for own in chosen], by_class)
    for model in given.models:
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "samples"
            options = [
                word for option in given.options for word in (f"--{option.partition('=')[0]}", option.partition("=")[2])
            ]
            samples(model, out, given.count, options)
            drawn = open_split(
                DataConfig(source=str(out / "manifest.csv"), size=test.shape[1:], channels=test.shape[0]), "all"
            )
            row(str(model), judged(judge, drawn, len(by_class)), by_class)


def samples(model: Path, out: Path, count: int, options: list[str]) -> None:
    """Writes `count` samples of each class."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            convae(["sample", str(model), "--labeled", "--count", str(count), "--out", str(out), *options])
    except SystemExit as end:
        if end.code:
            raise


def judged(judge: Network, drawn: Split, classes: int) -> list[tuple[Tensor, Tensor]]:
    """Features and named classes of the samples for each class."""
    features, named = seen(judge, drawn)
    assert drawn.labels is not None
    wanted = torch.from_numpy(drawn.labels)
    return [(features[wanted == number], named[wanted == number]) for number in range(classes)]


def row(name: str, found: list[tuple[Tensor, Tensor]], real: list[Tensor]) -> None:
    """A row of the table."""
    agreement = torch.tensor([float((named == number).float().mean()) for number, (_, named) in enumerate(found)])
    pairs = [(features, own) for (features, _), own in zip(found, real, strict=True)]
    precision, recall, spread = (
        sum(figures) / len(pairs)
        for figures in (
            [float(is_in_manifold(features, own, NEIGHBORS).double().mean()) for features, own in pairs],
            [float(is_in_manifold(own, features, NEIGHBORS).double().mean()) for features, own in pairs],
            [distance(features) / distance(own) for features, own in pairs],
        )
    )
    print(
        f"| {name} | {agreement.mean():.1%} | {agreement.min():.1%} | {precision:.2f} | {recall:.2f} | {spread:.2f} |"
    )


def distance(features: Tensor) -> float:
    """Mean distance between two of them."""
    return float(torch.pdist(features[:1000].double()).mean())


def trained(split: Split) -> Network:
    """The judge."""
    assert split.labels is not None
    layers = [
        {"conv": {"channels": 32, "stride": 2}},
        "batch-norm",
        "relu",
        {"conv": {"channels": 64, "stride": 2}},
        "batch-norm",
        "relu",
        "flatten",
        {"dropout": {"rate": 0.3}},
        {"linear": {"features": 64}},
        "relu",
        {"linear": {"features": int(split.labels.max()) + 1}},
    ]
    judge = Network(split.shape, layers, "judge")
    initialize(judge, 0)
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-3)
    batches = Batches(split, 128, 0)
    torch.manual_seed(0)
    for epoch in range(EPOCHS):
        for batch in batches.iterate(epoch):
            assert batch.labels is not None
            loss = nn.functional.cross_entropy(judge(batch.images), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return judge.eval()


@torch.no_grad()
def seen(judge: Network, split: Split) -> tuple[Tensor, Tensor]:
    """The features before the judge's last layer, (image, feature), and the class that it names, (image,)."""
    *layers, last = judge
    features = torch.cat([nn.Sequential(*layers)(batch.images) for batch in in_order(split, 512)])
    return features, last(features).argmax(1)


if __name__ == "__main__":
    main()
