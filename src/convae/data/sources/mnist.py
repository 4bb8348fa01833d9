"""MNIST: 60,000 + 10,000 handwritten digits, 28×28 grey."""

from __future__ import annotations

from typing import ClassVar

from convae.data.idx import IdxSource


class Mnist(IdxSource):
    """Handwritten digits, 28×28 grey, with an official test split (Y. LeCun, C. Cortes, C. Burges, 1998)."""

    classes: ClassVar = tuple("0123456789")
    origin: ClassVar = "https://ossci-datasets.s3.amazonaws.com/mnist/"
