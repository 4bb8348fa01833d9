from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from convae.core.errors import ConfigError, TrustError
from convae.core.registry import Registry, _entry_points, canonical_name
from convae.core.trust import trusted_packages, untrusted_names

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


PIECE = '''
import torch
from {package}.base import Thing

RAYS = torch.tensor([1, 2, 1])

class Star(Thing):
    """A star from elsewhere."""

number = 3

def shape():
    """A function."""
'''


@pytest.fixture
def installed(package: str, tmp_path: Path) -> Callable[[dict[str, str]], str]:
    """Installs a package with a module `pieces` and these entry points of the group of `package`; gives its name."""

    def install(points: dict[str, str], owner: str = "") -> str:
        other = f"{package}_plugin{owner}"
        (tmp_path / other).mkdir()
        (tmp_path / other / "__init__.py").touch()
        (tmp_path / other / "pieces.py").write_text(PIECE.format(package=package))
        (tmp_path / other / "broken.py").write_text("import no_such_module")
        info = tmp_path / f"{other}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {other}\nVersion: 1.0\n")
        lines = [f"{name} = {other}.{place}" for name, place in points.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[convae.{package}]", *lines, ""]))
        _entry_points.cache_clear()
        return other

    return install


def test_entry_points_are_listed_and_found_without_being_imported_before(package: str, installed: Any) -> None:
    other = installed({"shooting_star": "pieces:Star"})
    registry = Registry(package, "thing", "Thing")
    assert registry.names() == ["broken", "shooting-star", "very-round"]
    assert registry.own_names() == ["broken", "very-round"]
    assert other not in sys.modules
    assert registry.get("shooting-star").__name__ == registry.get("shooting_star").__name__ == "Star"
    assert registry.summary("shooting-star") == "A star from elsewhere."


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("pieces:Moon", "'Moon'"),
        ("pieces:shape", "subclass"),
        ("nothing:Star", "ModuleNotFoundError"),
        ("broken:Star", "no_such_module"),
    ],
)
def test_an_entry_point_that_leads_nowhere_says_where_it_led(
    package: str, installed: Any, place: str, said: str
) -> None:
    installed({"lost": place})
    with pytest.raises(ConfigError, match=said) as caught:
        Registry(package, "thing", "Thing").get("lost")
    assert "lost" in str(caught.value)


def test_a_dotted_path_names_any_class_of_the_kind(package: str, installed: Any) -> None:
    other = installed({})
    registry = Registry(package, "thing", "Thing")
    assert f"{other}.pieces:Star" in registry
    assert registry.get(f"{other}.pieces:Star").__module__ == f"{other}.pieces"
    assert canonical_name(f"{other}.pieces:Star") == f"{other}.pieces:Star"
    assert f"{other}.pieces.Star" not in registry


def test_tensors_of_a_foreign_module_have_values(package: str, installed: Any) -> None:
    other = installed({})
    with torch.device("meta"):
        star = Registry(package, "thing", "Thing").get(f"{other}.pieces:Star")
    assert sys.modules[star.__module__].__dict__["RAYS"].tolist() == [1, 2, 1]


def test_a_registry_of_functions_takes_functions_of_others(package: str, installed: Any) -> None:
    other = installed({"form": "pieces:shape"})
    assert Registry(package, "thing").get("form").__name__ == "shape"
    with pytest.raises(ConfigError, match="function"):
        Registry(package, "thing").get(f"{other}.pieces:Star")


def test_a_closed_registry_has_its_own_entries_alone(package: str, installed: Any) -> None:
    other = installed({"star": "pieces:Star"})
    registry = Registry(package, "thing", "Thing", is_open=False)
    assert registry.names() == ["broken", "very-round"]
    for name in ("star", f"{other}.pieces:Star"):
        assert name not in registry
        with pytest.raises(ConfigError, match="unknown thing"):
            registry.get(name)


@pytest.mark.parametrize(
    ("place", "parts"),
    [
        ("broken:Star", ["ModuleNotFoundError", "no_such_module"]),
        ("missing:Star", ["ModuleNotFoundError"]),
        ("pieces:Comet", ["no 'Comet'"]),
        ("pieces:number", ["Thing"]),
        ("pieces:shape", ["Thing"]),
    ],
)
@pytest.mark.parametrize("by_path", [False, True])
def test_what_is_wrong_with_a_foreign_entry_is_one_error_that_names_it(
    package: str, installed: Any, place: str, parts: list[str], by_path: bool
) -> None:
    other = installed({"star": place})
    name = f"{other}.{place}" if by_path else "star"
    with pytest.raises(ConfigError) as caught:
        Registry(package, "thing", "Thing").get(name)
    assert all(part in str(caught.value) for part in [name, other, *parts])
    assert "\n" not in str(caught.value)


def test_a_name_of_ours_wins_over_an_entry_point_and_says_so(package: str, installed: Any) -> None:
    other = installed({"very-round": "pieces:Star"})
    with pytest.warns(UserWarning, match=rf"{other}.*very-round"):
        found = Registry(package, "thing", "Thing").get("very_round")
    assert found.__name__ == "RoundThing"


def test_a_name_that_two_packages_offer_is_refused_with_both_paths(package: str, installed: Any) -> None:
    one, two = installed({"star": "pieces:Star"}), installed({"star": "pieces:Star"}, "_too")
    with pytest.raises(ConfigError) as caught:
        Registry(package, "thing", "Thing").get("star")
    assert f"{one}.pieces:Star" in str(caught.value)
    assert f"{two}.pieces:Star" in str(caught.value)


@pytest.mark.parametrize("by_path", [False, True])
def test_untrusted_names_import_nothing(package: str, installed: Any, by_path: bool) -> None:
    other = installed({"star": "pieces:Star"})
    name = f"{other}.pieces:Star" if by_path else "star"
    registry = Registry(package, "thing", "Thing")
    with untrusted_names(), pytest.raises(TrustError) as caught:
        registry.get(name)
    assert f"--trust {other}" in str(caught.value)
    assert f'trust=["{other}"]' in str(caught.value)
    assert other not in sys.modules
    with untrusted_names(), trusted_packages([other]):
        assert registry.get(name).__name__ == "Star"
    with untrusted_names():  # its code has run because the user asked for it
        assert registry.get(name).__name__ == "Star"


def test_what_the_user_names_is_trusted_in_the_same_process(package: str, installed: Any) -> None:
    other = installed({})
    registry = Registry(package, "thing", "Thing")
    registry.get(f"{other}.pieces:Star")
    with untrusted_names():
        assert registry.get(f"{other}.pieces:Star").__name__ == "Star"
        assert registry.get("very-round").__name__ == "RoundThing"


@pytest.mark.parametrize("package", ["my-pkg", "my_pkg.blocks", ""])
def test_only_top_level_packages_are_trusted(package: Any) -> None:
    with pytest.raises(ConfigError, match="trust"), trusted_packages([package]):
        pass
