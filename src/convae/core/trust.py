"""Trust in code outside convae.

A description that the user writes may name any package. A saved model or a run may come from anybody: what it names is
imported only from packages that the user trusts.

    with untrusted_names():                                          # an artifact or a run is being read
        LAYERS.get("my_pkg.blocks:MyBlock")                          # TrustError, and my_pkg is not imported

    with trusted_packages(["my_pkg"]), untrusted_names():
        LAYERS.get("my_pkg.blocks:MyBlock")                          # the class

A package whose code the user has once asked for, in a description of their own or by trusting it, is trusted for the
rest of the process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

from convae.core.errors import ConfigError, TrustError

_trusted: ContextVar[frozenset[str]] = ContextVar("trusted", default=frozenset())
_names_are_untrusted: ContextVar[bool] = ContextVar("names_are_untrusted", default=False)
_in_use: set[str] = set()


@contextlib.contextmanager
def trusted_packages(packages: Iterable[str]) -> Iterator[None]:
    """Lets saved models and runs that are read in this context use the code of some packages.

    Args:
        packages: names of top-level packages, as they are imported: `my_pkg`.

    Raises:
        ConfigError: one of them is not such a name.
    """
    packages = [packages] if isinstance(packages, str) else list(packages)
    for package in packages:
        if not package.isidentifier():
            raise ConfigError(f"trust: {package!r} is no top-level package: write its name as in an import: my_pkg")
    token = _trusted.set(_trusted.get() | set(packages))
    try:
        yield
    finally:
        _trusted.reset(token)


@contextlib.contextmanager
def untrusted_names() -> Iterator[None]:
    """Refuses names of code outside convae, except of trusted packages, while a saved model or a run is read."""
    token = _names_are_untrusted.set(True)
    try:
        yield
    finally:
        _names_are_untrusted.reset(token)


def require_trust(what: str, package: str) -> None:
    """Checks that the code of a package may be imported here.

    Args:
        what: the entry that is named, such as `layer 'swirl'`, for the message.
        package: the top-level package that holds it.

    Raises:
        TrustError: the name comes from a saved model or a run, and the user does not trust the package.
    """
    if _names_are_untrusted.get() and package not in _trusted.get() | _in_use:
        raise TrustError(
            f"{what} is code of the package '{package}', which a saved model or run cannot import by itself: if you "
            f'trust the package, pass trust=["{package}"], or --trust {package} on the command line'
        )


def trusted() -> list[str]:
    """The packages whose code saved models and runs may use here, sorted."""
    return sorted(_trusted.get() | _in_use)


def trust_options() -> str:
    """What a command needs to open again what was opened here: ` --trust my_pkg`, or nothing."""
    return "".join(f" --trust {package}" for package in sorted(_in_use))


def remember_package(package: str) -> None:
    """Trusts a package for the rest of the process: its code was imported because the user asked for it."""
    _in_use.add(package)
