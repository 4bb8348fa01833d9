from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, resource
from convae.core.allocator import keep_freed_memory, return_large_blocks
if {told}:
    assert keep_freed_memory()
if {returned}:
    assert return_large_blocks()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def use():
    for _ in range(5):
        block = libc.malloc(64 << 20)
        ctypes.memset(block, 1, 64 << 20)
        libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be told")
def test_freed_memory_is_not_faulted_in_again() -> None:
    def faults(told: bool, returned: bool = False) -> int:
        script = SCRIPT.format(told=told, returned=returned)
        return int(subprocess.check_output([sys.executable, "-c", script], text=True))

    assert faults(told=True) < faults(told=False) / 2
    assert faults(told=True) < faults(told=True, returned=True) / 2


PAGES = """
import os
from convae.core.allocator import keep_freed_memory
for given in ({}, {"THP_MEM_ALLOC_ENABLE": "0"}):
    os.environ.pop("THP_MEM_ALLOC_ENABLE", None)
    os.environ.update(given)
    keep_freed_memory()
    print(os.environ["THP_MEM_ALLOC_ENABLE"])
"""


def test_torch_is_asked_for_large_pages_unless_they_are_disabled() -> None:
    assert subprocess.check_output([sys.executable, "-c", PAGES], text=True).split() == ["1", "0"]
