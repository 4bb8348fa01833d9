from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from convae.core.errors import ConfigError
from convae.core.registry import Registry

BASE = "class Thing:\n    pass\n"
ROUND = '''
from {package}.base import Thing

class RoundThing(Thing):
    """A round thing.

    More about it.
    """
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A package of two entries, importable, with a name of its own for each test."""
    name = f"things_{abs(hash(request.node.nodeid)):x}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "base.py").write_text(BASE)
    (folder / "_private.py").write_text("raise RuntimeError('never imported')")
    (folder / "very_round.py").write_text(ROUND.format(package=name))
    (folder / "broken.py").write_text("raise RuntimeError('imported too early')")
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_names_are_files_and_listing_imports_none(package: str) -> None:
    registry = Registry(package, "thing", "Thing")
    assert registry.names() == ["broken", "very-round"]
    assert f"{package}.very_round" not in sys.modules


@pytest.mark.parametrize("written", ["very-round", "very_round"])
def test_the_entry_is_the_class_that_derives_from_the_base(package: str, written: str) -> None:
    registry = Registry(package, "thing", "Thing")
    assert written in registry
    assert registry.get(written).__name__ == "RoundThing"
    assert registry.summary(written) == "A round thing."


def test_without_a_base_the_entry_is_the_function_of_the_files_name(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "half.py").write_text("def half(x):\n    return x / 2\n")
    assert Registry(package, "thing").get("half")(6) == 3


def test_an_unknown_name_suggests_the_nearest(package: str) -> None:
    registry = Registry(package, "thing", "Thing")
    assert "very-square" not in registry
    with pytest.raises(ConfigError, match="unknown thing 'very-ronud': did you mean 'very-round'"):
        registry.get("very-ronud")


def test_a_file_with_two_entries_is_a_mistake_of_the_programmer(package: str, tmp_path: Path) -> None:
    text = ROUND.format(package=package) + "\nclass Second(Thing):\n    pass\n"
    (tmp_path / package / "pair.py").write_text(text)
    with pytest.raises(TypeError, match="exactly one Thing, found 2"):
        Registry(package, "thing", "Thing").get("pair")


def test_listing_the_layers_and_importing_convae_load_no_torch() -> None:
    program = "import sys, convae; dir(convae); assert 'torch' not in sys.modules and convae.__version__"
    subprocess.run([sys.executable, "-c", program], check=True)
