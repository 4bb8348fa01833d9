"""The examples of the page on plug-ins pass the check of their kind, as their readers' own entries should."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import convae.testing

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)
CHECKS = dict(re.findall(r"^\| `convae\.\w+` \| `([\w.]+)`[^|]*\| `(check_\w+)`", PAGE, flags=re.M))
CHECKS |= {"convae.evaluation.ImageMetric": "check_metric"}


def checks_of(module: ModuleType) -> list[tuple[type, str]]:
    """The classes of a module of a kind that has a check, with its name."""
    found = []
    for path, check in CHECKS.items():
        place, _, name = path.rpartition(".")
        base = getattr(importlib.import_module(place), name)
        own = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
        found += [(each, check) for each in own if issubclass(each, base)]
    return found


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_pass_their_check(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"example_{number}_of_the_page"
    (tmp_path / f"{name}.py").write_text(EXAMPLES[number])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for entry, check in checks_of(importlib.import_module(name)):
        getattr(convae.testing, check)(entry)


def test_most_kinds_have_an_example() -> None:
    named = {check for check in CHECKS.values() if any(f"(`{check}`)" in line for line in PAGE.splitlines())}
    assert len(named) > 10
