"""Fashion-MNIST: 60,000 + 10,000 photographs of clothes, 28×28 gray."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from convae.data.sources.base.idx import IdxSource, idx_remotes


class FashionMnist(IdxSource):
    """Photographs of clothes, 28×28 gray, with an official test split (H. Xiao, K. Rasul, R. Vollgraf, 2017)."""

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
    torchvision: ClassVar = "FashionMNIST"
    origin: ClassVar = "https://github.com/zalandoresearch/fashion-mnist/tree/master/data/fashion"
    remotes: ClassVar = idx_remotes(
        [
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ],
        {
            "train-images-idx3": (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            "train-labels-idx1": (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            "t10k-images-idx3": (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            "t10k-labels-idx1": (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        },
    )
    # The folder of Debian's package dataset-fashion-mnist.
    system: ClassVar = Path("/usr/share/datasets/fashion-mnist")
