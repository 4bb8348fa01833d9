"""The model card: README.md of an artifact, with front matter for model hubs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convae.core.config import Config
from convae.core.names import escape_controls, shape_text
from convae.core.version import VERSION
from convae.model.fingerprint import module_classes
from convae.model.layers.base.network import count_parameters
from convae.model.provenance import SplitFacts, TrainingFacts
from convae.model.vae import VAE

LIBRARY = "convae"
TAGS = ("variational-autoencoder", "vae", "pytorch", "safetensors")
# Constant: names of models and data, which users choose, never enter the YAML that a hub parses.
_FRONT_MATTER = "\n".join(["---", f"library_name: {LIBRARY}", "tags:", *(f"- {tag}" for tag in TAGS), "---", ""])
_KINDS = {1: "signals", 2: "images", 3: "volumes"}
_LABELS = {
    "source": "data set",
    "chosen": "chosen by",
    "count": "images",
    "resize_mode": "resize mode",
    "content_hash": "SHA-256 of the content",
}
_SHOWN_ELSEWHERE = {"channels", "size", "recipe", "data", "validation", "objective"}
"""Facts that the card shows in another section or with the input shape."""


def model_card(model: VAE) -> str:
    """Markdown of the card of a model: front matter, description, loading, metrics, data and training."""
    return f"{_FRONT_MATTER}\n{model_card_body(model)}"


def model_card_body(model: VAE) -> str:
    """The card of a model without front matter; it begins with the title."""
    trained = model.provenance.training or TrainingFacts()
    kind = _KINDS.get(len(model.input_shape) - 1, "inputs")
    blocks = [
        f"# {plain_markdown(trained.recipe or model.name)}\n",
        f"A convolutional variational autoencoder ({plain_markdown(model.name)}) for {kind} of "
        f"{shape_text(model.input_shape)} (channels × sizes): latent {shape_text(model.latent_shape)}, "
        f"{count_parameters(model):,} parameters.\n",
        f"{_loading(model)} No file here is a pickle, and each tensor is checked against its SHA-256.\n",
        _section("Metrics", "on the validation images, nats per image unless a unit is given", trained.validation),
        _section("Data", "", _data(trained.data, model.provenance.classes)),
        _section("Training", "", _training(trained)),
        _section("Prior", "fitted to the trained model; nll is −log p(z), nats per image", _prior(model)),
    ]
    return "\n".join(block for block in blocks if block)


def _loading(model: VAE) -> str:
    """How to load the model, and commands that take it."""
    load, more = 'convae.load("path/of/this/folder")', ""
    commands = "`convae show PATH` prints its layers, `convae sample PATH --out pictures` draws samples."
    if not model.is_described:
        parts = "".join(f"# {part}: {escape_controls(name)}\n" for part, name in module_classes(model).items())
        load, more = load.replace(")", ", model=model)"), f"# model: a convae.VAE of modules of these types\n{parts}"
        commands = "Commands need a model with a description, which this one lacks."
    return f"""```python
import convae

{more}model = {load}
samples = model.sample(16)  # (16, channel, *sizes) in [0, 1]
```

Needs `pip install convae`; saved by convae {VERSION}. {commands}"""


def _section(title: str, note: str, facts: Mapping[str, Any]) -> str:
    """A table of facts under a heading; empty without facts."""
    if not facts:
        return ""
    rows = [f"| {markdown_cell(name)} | {markdown_cell(_text(value))} |" for name, value in facts.items()]
    head = [f"## {title}", "", *([f"{note[0].upper()}{note[1:]}.", ""] if note else []), "| | |", "|---|---|"]
    return "\n".join([*head, *rows, ""])


def _facts(found: Config) -> dict[str, Any]:
    """The known facts by their labels on the card."""
    known = found.model_dump(mode="json", exclude_defaults=True).items()
    return {_LABELS.get(key, key): value for key, value in known if key not in _SHOWN_ELSEWHERE}


def _data(found: SplitFacts, classes: Sequence[str] | None) -> dict[str, Any]:
    """Facts about the training data: data set, number of images, content hash, classes."""
    return {**_facts(found), **({"classes": ", ".join(classes)} if classes else {})}


def _training(trained: TrainingFacts) -> dict[str, Any]:
    """Facts about the training: progress, and the terms of the objective."""
    return {**_facts(trained), **{f"term {name}": _term(options) for name, options in trained.objective.items()}}


def _prior(model: VAE) -> dict[str, Any]:
    """Facts about a prior fitted after the training; empty without one."""
    fitted = model.provenance.prior
    if fitted is None:
        return {}
    return {"prior": type(model.prior).__name__, **_facts(fitted), **fitted.validation}


def _term(options: Mapping[str, Any]) -> str:
    """The weight of a term, and its other options."""
    rest = {name: value for name, value in options.items() if name != "weight"}
    return "; ".join([f"weight {_text(options.get('weight', 1))}", *([_text(rest)] if rest else [])])


def _text(value: Any) -> str:
    """A value as text; a mapping as comma-separated pairs."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}".strip() for key, inner in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "×".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def plain_markdown(text: object) -> str:
    """A name on one line, with control characters, Markdown and HTML escaped."""
    return "".join(
        f"\\{letter}" if letter in "\\`*<>[]|" else letter for letter in escape_controls(" ".join(str(text).split()))
    )


def markdown_cell(text: object) -> str:
    """The same for a table cell; a dash if empty."""
    return plain_markdown(text) or "–"
