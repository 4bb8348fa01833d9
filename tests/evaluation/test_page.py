"""The report as one page that needs nothing beside it."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image

import convae
from convae.data import Split
from convae.evaluation import evaluate, page
from convae.evaluation.page import render_page
from convae.model.vae import VAE
from convae.pictures.grid import grid


class Reader(HTMLParser):
    """The texts and pictures of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.pictures: list[str] = []
        self.feed(content)

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.pictures += [str(dict(attrs)["src"])] if tag == "img" else []


def test_the_page_holds_every_figure_the_protocol_and_its_own_pictures(model: VAE, digits: Split) -> None:
    model.name = "a <b> & c"
    report = evaluate(model, digits, metrics=["elbo", "kl-per-unit", "psnr"])
    content = render_page(model, digits, report)
    read = Reader(content)
    for name, figure in report.metrics.items():
        assert {name, figure.unit, *filter(None, figure.texts())} <= set(read.texts)
    assert any(digits.content_hash in text for text in read.texts)
    assert "a <b> & c on 202 digits images (test)" in read.texts
    assert not re.search(r"(src|href)=\"(?!data:)", content)
    assert len(read.pictures) == 5  # pairs, samples, two histograms, bars
    for source in read.pictures:
        image = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))
        image.load()
        assert image.format == "PNG"


def test_equal_reports_give_equal_pages(model: VAE, digits: Split) -> None:
    first, second = (render_page(model, digits, evaluate(model, digits, metrics=["psnr"])) for _ in range(2))
    assert first == second


def test_samples_of_a_conditional_model_tell_their_classes(digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"preset": "torch-vae", "input": [1, 8, 8], "latent": 2, "max_filters": 8, "condition": {"classes": 10}}
    model = convae.build(spec)
    drawn: list[list[str]] = []
    draw = grid

    def caught(*images: Any, captions: list[str], **options: Any) -> Image.Image:
        drawn.append(captions)
        return draw(*images, captions=captions, **options)

    monkeypatch.setattr(page, "grid", caught)
    render_page(model, digits, evaluate(model, digits, metrics=["psnr"]))
    assert drawn == [[str(number % 10) for number in range(40)]]
