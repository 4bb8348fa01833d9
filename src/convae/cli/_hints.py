"""Suggestions for unknown options."""

from __future__ import annotations

from collections.abc import Sequence

from convae.core.names import nearest_name

_OTHER_NAMES = {
    "arch": "--preset",
    "architecture": "--preset",
    "cuda": "--device",
    "dataset": "--data",
    "dir": "--out",
    "folder": "--data",
    "gpu": "--device",
    "input": "--data",
    "kl": "--beta",
    "learning": "--lr",
    "model": "--preset",
    "n": "--count",
    "num": "--count",
    "output": "--out",
    "overwrite": "--force",
    "resolution": "--size",
    "save": "--out",
    "z": "--latent",
}
"""Words in options of other programs, with convae's names."""


def similar_option(written: str, options: Sequence[str]) -> str | None:
    """The option most similar to an unknown one: the same words, a synonym, or similar letters.

    Args:
        written: the unknown option, such as `--latent-dim`.
        options: valid options.
    """
    words = written.lstrip("-").replace("_", "-").split("-")
    same = [option for option in options if set(option.lstrip("-").split("-")) & set(words)]
    exact = [option for option in same if option.lstrip("-").split("-") == words]
    others = [name for word in words if (name := _OTHER_NAMES.get(word)) in options]
    close = nearest_name(written.replace("_", "-"), options, cutoff=0.7)
    return next(iter([*exact, *([close] if close else []), *same, *others]), None)
