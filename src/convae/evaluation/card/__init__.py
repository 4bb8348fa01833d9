"""Cards: metrics of reconstructions and latents of models under one stated protocol, as JSON, HTML and Markdown."""

from __future__ import annotations

from convae.evaluation.card.card import Card, read_cards, write_cards
from convae.evaluation.card.comparison import check_comparable, protocol_differences
from convae.evaluation.card.markdown import card_markdown
from convae.evaluation.card.measure import measure_card
from convae.evaluation.card.page import render_card_page
from convae.evaluation.card.pictures import draw_comparison

__all__ = [
    "Card",
    "card_markdown",
    "check_comparable",
    "draw_comparison",
    "measure_card",
    "protocol_differences",
    "read_cards",
    "render_card_page",
    "write_cards",
]
