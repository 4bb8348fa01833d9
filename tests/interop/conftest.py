"""What the tests of exporters share."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def onnx_signatures_read_once() -> Iterator[None]:
    """The signatures of ONNX functions, which each export parses from the source of 500, are parsed once."""
    from onnxscript import TracedOnnxFunction

    with pytest.MonkeyPatch.context() as patch:
        read = TracedOnnxFunction.function_ir.fget
        patch.setattr(TracedOnnxFunction, "function_ir", property(functools.cache(read)))
        yield
