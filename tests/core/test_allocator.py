from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from convae.core.allocator import keep_freed_memory
if {told}:
    assert keep_freed_memory()
def use():
    for _ in range(10):
        torch.empty(64 << 20, dtype=torch.uint8).fill_(1)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc can be told")
def test_freed_memory_is_not_faulted_in_again() -> None:
    def faults(told: bool) -> int:
        return int(subprocess.check_output([sys.executable, "-c", SCRIPT.format(told=told)], text=True))

    assert faults(told=True) < faults(told=False) / 2
