"""MNIST: 60,000 + 10,000 handwritten digits, 28×28 gray."""

from __future__ import annotations

from typing import ClassVar

from convae.data.sources.base.idx import IdxSource, idx_remotes


class Mnist(IdxSource):
    """Handwritten digits, 28×28 gray, with an official test split (Y. LeCun, C. Cortes, C. Burges, 1998)."""

    classes: ClassVar = tuple("0123456789")
    torchvision: ClassVar = "MNIST"
    origin: ClassVar = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    remotes: ClassVar = idx_remotes(
        [
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ],
        {
            "train-images-idx3": (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            "train-labels-idx1": (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            "t10k-images-idx3": (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            "t10k-labels-idx1": (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        },
    )
