"""Reading artifacts of format 1: names that were renamed since."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from convae.model.provenance import provenance_of_format_1

_WORDS = {'"discretised-logistic"': '"discretized-logistic"', '"restart"': '"dead_code_threshold"'}
"""Names and options of a description."""
_TENSORS = {
    ".codebook": ".quantizer.codebook",
    ".uses": ".quantizer.cluster_size",
    ".sums": ".quantizer.embed_sum",
    ".ask.": ".qkv.",
    ".branch.": ".out_proj.",
}
"""Parts of the names of tensors: those of codebooks, then those of attention."""


def config_of_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a config.json of format 1 under today's keys and names."""
    described = json.dumps(content.get("model"))
    for old, new in _WORDS.items():
        described = described.replace(old, new)
    provenance = provenance_of_format_1(content.get("metadata", {}))
    rest = {key: value for key, value in content.items() if key != "metadata"}
    return {**rest, "model": json.loads(described), "provenance": provenance}


def tensor_names(stored: Iterable[str], expected: Collection[str]) -> dict[str, str]:
    """Today's name of each stored tensor; a name that the model has, or that has no successor, stays."""

    def rename(name: str) -> str:
        return next((new for old, word in _TENSORS.items() if (new := name.replace(old, word)) in expected), name)

    return {name: name if name in expected else rename(name) for name in stored}
