"""Trust in code outside convae.

A description that the user writes may name any package. A saved model or a run may come from anyone; its names are
imported only from packages that the user trusts.

    with untrusted_names():                                          # an artifact or a run is being read
        LAYERS.get("my_pkg.blocks:MyBlock")                          # TrustError, and my_pkg is not imported

    with trusted_packages(["my_pkg"]), untrusted_names():
        LAYERS.get("my_pkg.blocks:MyBlock")                          # the class

A package that the user has named, in a description or in `trust`, is trusted for the rest of the process.
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
    """Allows saved models and runs that are read in this context to import these packages.

    Args:
        packages: names of top-level packages, such as `my_pkg`.

    Raises:
        ConfigError: a name is not that of a top-level package.
    """
    packages = [packages] if isinstance(packages, str) else list(packages)
    for package in packages:
        if not package.isidentifier():
            raise ConfigError(f"trust: {package!r} is not a top-level package. Write the name as in an import: my_pkg")
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
        what: the name, such as `layer 'swirl'`, for the message.
        package: its top-level package.

    Raises:
        TrustError: the name comes from a saved model or a run, and the user does not trust the package.
    """
    if _names_are_untrusted.get() and package not in _trusted.get() | _in_use:
        raise TrustError(
            f"{what} is in the package '{package}', which is not trusted. If you trust its code, pass "
            f'trust=["{package}"], or --trust {package} on the command line'
        )


def trusted() -> list[str]:
    """The packages whose code saved models and runs may use here, sorted."""
    return sorted(_trusted.get() | _in_use)


def trust_options() -> str:
    """The options with which a command can open what was opened here: ` --trust my_pkg`, or empty."""
    return "".join(f" --trust {package}" for package in sorted(_in_use))


def remember_package(package: str) -> None:
    """Trusts a package for the rest of the process: its code was imported because the user asked for it."""
    _in_use.add(package)
