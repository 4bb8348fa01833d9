"""The plug-in in examples/: CI installs it and trains with it (.ci/package.sh); here its own tests run, from source."""

from __future__ import annotations

import importlib
import runpy
import tomllib
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[1] / "examples" / "plugin"
POINTS = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN / "src"))
    monkeypatch.setenv("CONVAE_CACHE", str(tmp_path))


def test_its_own_tests_pass() -> None:
    tests = {
        name: test for name, test in runpy.run_path(str(PLUGIN / "tests/test_plugin.py")).items() if "test_" in name
    }
    assert len(tests) == 3
    for test in tests.values():
        test()


def test_its_entry_points_are_there_and_short() -> None:
    assert sorted(POINTS) == [f"convae.{kind}" for kind in ("layers", "likelihoods", "metrics", "sources", "terms")]
    for points in POINTS.values():
        for place in points.values():
            module, _, name = place.partition(":")
            found = importlib.import_module(module)
            assert hasattr(found, name)
            lines = [
                line for line in Path(str(found.__file__)).read_text(encoding="utf-8").splitlines() if line.strip()
            ]
            assert len(lines) <= 30, module
