"""A lack of memory is known under all its names, and nothing else is taken for it."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch

from convae.core.memory import free_memory, is_out_of_memory

TOO_MUCH = 1 << 60


def raised(work: object) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # of whatever kind
        work()  # type: ignore[operator]
    return caught.value


@pytest.mark.parametrize(
    "work",
    [lambda: torch.empty(TOO_MUCH, dtype=torch.uint8), lambda: np.empty(TOO_MUCH, np.uint8), lambda: bytes(TOO_MUCH)],
    ids=["torch", "numpy", "python"],
)
def test_what_libraries_raise(work: object) -> None:
    assert is_out_of_memory(raised(work))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("could not create a primitive"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("std::bad_alloc"),
        torch.OutOfMemoryError("Tried to allocate 2 GiB"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_what_they_say(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("could not create a primitive descriptor for a convolution"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("out of memory"),
    ],
)
def test_what_is_something_else(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_free_memory_is_some_of_what_the_machine_has() -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < free_memory(torch.device("cpu")) < machine
