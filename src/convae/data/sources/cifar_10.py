"""CIFAR-10: 50,000 + 10,000 photographs in ten classes, 32×32 RGB."""

from __future__ import annotations

from typing import ClassVar

from convae.data.io.download import Remote
from convae.data.sources.base.cifar import CifarSource


class Cifar10(CifarSource):
    """Photographs of animals and vehicles, 32×32 RGB, with an official test split (A. Krizhevsky, 2009)."""

    train: ClassVar = {f"data_batch_{number}": 10_000 for number in range(1, 6)}
    test: ClassVar = {"test_batch": 10_000}
    labels: ClassVar = ("class",)
    label: ClassVar = "class"
    classes: ClassVar = {
        "class": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    }
    folder: ClassVar = "cifar-10-batches-bin"
    remotes: ClassVar = (
        Remote(
            "cifar-10-binary.tar.gz",
            (
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "https://cave.cs.toronto.edu/kriz/cifar-10-binary.tar.gz",
            ),
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            size=170_052_171,
        ),
    )
