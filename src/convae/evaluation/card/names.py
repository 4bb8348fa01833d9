"""Names of cards in tables and titles."""

from __future__ import annotations

from collections.abc import Sequence

from convae.evaluation.card.card import Card


def unique_names(cards: Sequence[Card]) -> list[str]:
    """The names of the models; equal ones are numbered."""
    names = [card.name for card in cards]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def card_title(cards: Sequence[Card]) -> str:
    """Models and data in one line."""
    data = cards[0].protocol["data"]
    return f"{', '.join(unique_names(cards))} on {data['count']:,} {data.get('source')} images ({data.get('split')})"
