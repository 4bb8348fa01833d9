"""Every annotation in convae is checked while the tests run: shapes by jaxtyping, types by beartype."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Each worker of the suite, and each process it starts, works on one core: two that share two cores by two threads each
# spend their time waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Modules with their checks, and tests, are compiled once and not by each process, which containers often ask for.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from convae.data import Split

# Folders of tests lie in memory where it has room for them: a disk waits for each that is removed.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 4 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

sys.dont_write_bytecode = False
install_import_hook("convae", "typechecker.checked")
# How long an example takes says more of the machine's other work than of convae.
settings.register_profile("convae", deadline=None)
settings.load_profile("convae")


def _fsync(fd: Any) -> None:
    """Waits for no disk: only the end of the machine, which no test brings about, would show the difference."""


os.fsync = _fsync
# What is imported by now and for the tests is there to the end: it need not be looked through again and again.
gc.disable()


@pytest.hookimpl(tryfirst=True)  # before fixtures are set up
def pytest_runtest_setup() -> None:
    """Draws the same numbers in each test, shows none of the notes, and has graphs traced without stack traces."""
    # Not at the top: the process that starts the workers, before which they do not start, needs neither.
    import torch

    from convae.core.notes import take_notes

    # Not `torch.manual_seed`, which keeps a stack trace for each kind of device that is not used yet.
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)
    take_notes()
    # Of each operation that `torch.export` traces: a fifth of the time.
    torch.fx.config.do_not_emit_stack_traces = True


@pytest.hookimpl(trylast=True)  # after they were shuffled
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for tests that need none of their own."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def digits(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Split:
    """The 202 test digits, 1×8×8."""
    from convae.data import DataConfig, open_split

    monkeypatch.setenv("CONVAE_CACHE", str(shared_cache))
    return open_split(DataConfig(source="digits"), "test")
