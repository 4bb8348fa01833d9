"""Which cards may be compared, and their metrics side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convae.core.errors import ConfigError
from convae.evaluation.card.card import Card
from convae.evaluation.protocol import Measurement

SECTIONS = {
    "Reconstruction": ("psnr", "ssim", "ms-ssim", "lpips", "feature-distance", "rfd", "mse"),
    "Likelihood": ("bits-per-dimension", "elbo", "nll", "reconstruction", "kl"),
    "Latents": (
        "latent-mean",
        "latent-std",
        "kl-per-channel",
        "kl-per-latent",
        "active-channels",
        "active-units",
        "latent-spectrum-slope",
        "image-spectrum-slope",
        "equivariance-scale",
        "equivariance-rotation",
        "linear-probe",
        "accuracy",
        "mutual-information",
        "aggregate-gap",
    ),
    "Codes": ("code-usage", "code-perplexity"),
    "Samples from the prior": ("fd", "kd", "precision", "recall"),
}
"""Metrics by heading, in order; others are under `Other`."""
ALIASES = {"fid": "fd", "kid": "kd", "rfid": "rfd"}


@dataclass(frozen=True)
class TableRow:
    """A metric of several cards.

    Attributes:
        name: of the metric.
        unit: of the metric.
        better: direction of improvement; None if there is none.
        measured: measurement of each card; None where it was not measured.
        best: which card has the best value; None where there is no single one.
    """

    name: str
    unit: str
    better: str | None
    measured: list[Measurement | None]
    best: int | None

    @property
    def unit_text(self) -> str:
        """The unit, with an arrow in the direction of improvement."""
        arrow = {"higher": "\u00a0↑", "lower": "\u00a0↓"}.get(self.better or "", "")
        return f"{self.unit}{arrow}"


def table_rows(cards: Sequence[Card]) -> dict[str, list[TableRow]]:
    """The metrics of cards by heading, in reading order."""
    names = list(dict.fromkeys(name for card in cards for name in card.metrics))
    found: dict[str, list[TableRow]] = {title: [] for title in (*SECTIONS, "Other")}
    places = {name: (title, number) for title, own in SECTIONS.items() for number, name in enumerate(own)}
    ordered = sorted((*places.get(_registered(name, places), ("Other", 0)), name) for name in names)
    for title, _, name in ordered:
        found[title].append(_row(name, [card.metrics.get(name) for card in cards]))
    return {title: rows for title, rows in found.items() if rows}


def _registered(name: str, known: Mapping[str, Any]) -> str:
    """The registered name of a metric, without the network or file that reports add to it."""
    if name in ALIASES:
        return ALIASES[name]
    fitting = [each for each in known if name == each or name.startswith(f"{each}-")]
    return max(fitting, key=len, default=name)


def _row(name: str, measured: list[Measurement | None]) -> TableRow:
    first = next(each for each in measured if each is not None)
    values = {place: each.value for place, each in enumerate(measured) if each and isinstance(each.value, float)}
    best = None
    if first.better is not None and len(values) > 1:
        wanted = (max if first.better == "higher" else min)(values.values())
        places = [place for place, value in values.items() if value == wanted]
        best = places[0] if len(places) == 1 else None
    return TableRow(name, first.unit, first.better, measured, best)


def reasons_left_out(cards: Sequence[Card]) -> dict[str, list[str]]:
    """The metrics that no card has, by the reason."""
    measured = {name for card in cards for name in card.metrics}
    found: dict[str, list[str]] = {}
    for name, reason in sorted({pair for card in cards for pair in card.left_out.items()}):
        if name not in measured:
            found.setdefault(reason, []).append(name)
    return found


def protocol_differences(one: Card, other: Card) -> dict[str, tuple[Any, Any]]:
    """Values of two protocols that differ, by dotted key; empty if the cards can be compared.

    Options of metrics count where both cards have the metric.
    """
    mine, theirs = (dict(_flat(card.protocol)) for card in (one, other))
    shared = one.metrics.keys() & other.metrics.keys()
    keys = [key for key in dict.fromkeys([*mine, *theirs]) if key[0] != "metrics" or key[1] in shared]
    return {".".join(key): (mine.get(key), theirs.get(key)) for key in keys if mine.get(key) != theirs.get(key)}


def check_comparable(cards: Sequence[Card]) -> None:
    """Checks that cards have the same protocol.

    Raises:
        ConfigError: they differ; the message names the keys.
    """
    for card in cards[1:]:
        if differing := protocol_differences(cards[0], card):
            shown = [f"{key} ({_shown(one)} and {_shown(other)})" for key, (one, other) in differing.items()]
            more = f" and {len(shown) - 4} more" if len(shown) > 4 else ""
            raise ConfigError(
                f"the cards of '{cards[0].name}' and '{card.name}' have different protocols and are not comparable: "
                f"{', '.join(shown[:4])}{more}. Name the same --data and --split, or make a card for each"
            )


def _flat(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values of nested mappings by path."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, (*path, str(key)))
        else:
            yield (*path, str(key)), list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
