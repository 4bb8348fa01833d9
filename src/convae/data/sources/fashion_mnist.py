"""Fashion-MNIST: 60,000 + 10,000 photographs of clothes, 28×28 grey."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from convae.data.idx import IdxSource


class FashionMnist(IdxSource):
    """Photographs of clothes, 28×28 grey, with an official test split (H. Xiao, K. Rasul, R. Vollgraf, 2017)."""

    classes: ClassVar = (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    )
    origin: ClassVar = "https://github.com/zalandoresearch/fashion-mnist/tree/master/data/fashion"
    # Where Debian's package dataset-fashion-mnist installs the same content.
    system: ClassVar = Path("/usr/share/datasets/fashion-mnist")
