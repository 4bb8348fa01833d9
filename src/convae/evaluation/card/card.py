"""The card of a model, and its JSON file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convae.core.documents import read_mapping
from convae.core.errors import ConfigError, DataError
from convae.core.files import write_json
from convae.core.paths import local_path
from convae.evaluation.protocol import Measurement, Value

FORMAT = 1
"""Version of the JSON file."""


@dataclass(frozen=True)
class Card:
    """Metrics of a model under a stated protocol.

    Attributes:
        name: name of the model.
        model: facts about the model: SHA-256 of the weights, parameters, shapes, parts.
        metrics: measurements by name.
        left_out: by metric that was not measured, the reason.
        spectra: power spectra of images and latents, `frequency` relative to the Nyquist frequency and `power` relative
            to the mean of each channel, by `image` and `latent`; empty where there are none.
        protocol: everything that the values depend on besides the model.
        about: description of the model in Markdown; empty on a card that was read from a file.
    """

    name: str
    model: dict[str, Any]
    metrics: dict[str, Measurement]
    left_out: dict[str, str]
    spectra: dict[str, dict[str, list[float]]]
    protocol: dict[str, Any]
    about: str = field(default="", repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The card as JSON values, without `about`."""
        return {
            "name": self.name,
            "model": self.model,
            "metrics": {name: _measurement_to_dict(measured) for name, measured in self.metrics.items()},
            "left_out": self.left_out,
            "spectra": self.spectra,
            "protocol": self.protocol,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Card:
        """The card of `as_dict`.

        Raises:
            KeyError: a key is missing.
            TypeError: a value has another type.
            ValueError: a number is no number.
        """
        found = cls(
            str(values["name"]),
            dict(values["model"]),
            {str(name): _measurement_from_dict(dict(measured)) for name, measured in dict(values["metrics"]).items()},
            {str(name): str(reason) for name, reason in dict(values["left_out"]).items()},
            {
                str(name): {key: [float(value) for value in spectrum[key]] for key in ("frequency", "power")}
                for name, spectrum in dict(values["spectra"]).items()
            },
            dict(values["protocol"]),
        )
        found.protocol["data"]["count"] + 0  # the title of every table has it
        return found


def write_cards(cards: Sequence[Card], path: str | Path) -> None:
    """Writes cards as JSON, for `read_cards`.

    Raises:
        OutputError: the file cannot be written.
    """
    write_json(local_path(path), {"format": FORMAT, "cards": [card.as_dict() for card in cards]})


def read_cards(path: str | Path) -> list[Card]:
    """Reads cards from a file of `write_cards`.

    Raises:
        ConfigError: the file cannot be read or holds no cards.
    """
    path = local_path(path)
    try:
        found = read_mapping(path)
        if found.get("format") != FORMAT:
            raise ConfigError(f"{path}: not a card of `convae card`: expected format {FORMAT}")
        cards = [Card.from_dict(dict(values)) for values in found["cards"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: damaged, or not a card of `convae card`. Write it again") from error
    except DataError as error:
        raise ConfigError(str(error)) from error
    if not cards:
        raise ConfigError(f"{path}: holds no cards")
    return cards


def _measurement_to_dict(measured: Measurement) -> dict[str, Any]:
    """A measurement as JSON values; keys without content are left out."""
    found: dict[str, Any] = {
        "value": measured.value,
        "interval": None if measured.interval is None else list(measured.interval),
        "unit": measured.unit,
        "better": measured.better,
    }
    if measured.at_most is not None:
        found |= {"bound": "lower", "at_most": measured.at_most}
    if measured.parts:
        found["parts"] = list(measured.parts)
    if measured.not_finite:
        found["not_finite"] = {"images": measured.not_finite, "first": measured.first_not_finite}
    return found


def _measurement_from_dict(values: dict[str, Any]) -> Measurement:
    """The measurement of `_measurement_to_dict`."""
    ends, wrong = values["interval"], values.get("not_finite", {"images": 0, "first": None})
    if ends is not None and len(ends) != 2:
        raise ValueError("an interval has two ends")
    return Measurement(
        _number(values["value"]),
        None if ends is None else (_number(ends[0]), _number(ends[1])),
        str(values["unit"]),
        values["better"],
        values.get("at_most"),
        wrong["images"],
        wrong["first"],
        tuple(map(str, values.get("parts", ()))),
    )


def _number(value: Any) -> Value:
    """A number, a list of numbers, or None."""
    if isinstance(value, list):
        return [None if each is None else _number(each) for each in value]  # type: ignore[misc]  # lists are not nested
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a number")
    return float(value)
