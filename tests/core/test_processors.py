from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from convae.core import processors
from convae.core.processors import OtherProcesses

BUSY = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"


@pytest.mark.skipif(not processors.STATISTICS.exists(), reason="only Linux counts the time of all processors")
def test_the_time_of_other_processes_is_counted() -> None:
    others, began = OtherProcesses(), time.monotonic()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert others.cores() * (time.monotonic() - began) > 0.4


def stated(*columns: int) -> str:
    return f"cpu  {' '.join(map(str, columns))}\ncpu0 1 2 3\n"


def test_neither_own_nor_idle_time_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processors, "STATISTICS", tmp_path / "stat")
    monkeypatch.setattr("os.sysconf", lambda _: 100)
    own, now = iter([1.0, 3.0]), iter([10.0, 14.0])
    monkeypatch.setattr("time.process_time", lambda: next(own))
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    (tmp_path / "stat").write_text(stated(100, 0, 50, 1000, 70, 0, 0, 5, 0, 0))
    others = OtherProcesses()
    # 8 seconds of computation in 4 seconds, of them 2 by this process, beside idle, waiting and stolen time
    (tmp_path / "stat").write_text(stated(700, 100, 100, 3000, 90, 25, 25, 900, 0, 0))
    assert others.cores() == pytest.approx(1.5)


def test_systems_that_do_not_say_have_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processors, "STATISTICS", tmp_path / "none")
    assert OtherProcesses().cores() == 0
