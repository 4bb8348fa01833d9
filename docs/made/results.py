"""Tables of measured figures, made from the cards of the pretrained models and from the reports in benchmarks/."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from convae.core.names import shape_text
from convae.model.pretrained import read_index
from made.tables import table

ROOT = Path(__file__).parents[2]
MODELS, REPORTS = ROOT / "models", ROOT / "benchmarks"
RECORD = REPORTS / "results.jsonl"
COLUMNS = {
    "elbo": "ELBO, nats",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "rfd-efficientnet-lite0": "rFD",
    "fd-efficientnet-lite0": "FD",
}
"""Metrics of the table, and their headings."""
PUBLISHED: tuple[tuple[str, float, str, int | None, str], ...] = (
    ("VAE with one latent, pythae", 89.78, "fixed", 200, "https://huggingface.co/clementchadebec/reproduced_vae"),
    ("HVAE (n_lf = 4), pythae", 86.21, "fixed", 1000, "https://huggingface.co/clementchadebec/reproduced_hvae"),
    ("CIWAE (β = 0.05), pythae", 84.74, "dynamic", 5000, "https://huggingface.co/clementchadebec/reproduced_ciwae"),
    ("PIWAE (M = K = 8), pythae", 84.58, "dynamic", 5000, "https://huggingface.co/clementchadebec/reproduced_piwae"),
    ("Efficient-VDVAE (hierarchy)", 79.09, "dynamic", None, "https://arxiv.org/abs/2203.13751"),
    ("NVAE (hierarchy)", 78.01, "dynamic", None, "https://arxiv.org/abs/2007.03898"),
)
"""Published NLL of MNIST: model, nats per image, binarization, importance samples if stated here, where."""


def pretrained() -> str:
    """One row for each pretrained model: what it is, shapes, license of the data, size."""
    rows = []
    for name, facts in read_index().items():
        shapes = [shape_text(facts.input), shape_text(facts.latent)]
        rows.append([f"`{name}`", facts.description, *shapes, facts.license, f"{facts.size / 1e6:.2f}"])
    return table(["name", "what it is", "input", "latent", "license of the data", "MB"], rows)


def model_metrics() -> str:
    """One row for each pretrained model: its metrics with their intervals, its size, and the cost of its training."""
    rows = []
    for name, facts in read_index().items():
        (card,) = json.loads((MODELS / name / "card.json").read_text())["cards"]
        trained = json.loads((MODELS / name / "training.json").read_text())
        cells = [_cell(card["metrics"].get(metric)) for metric in COLUMNS]
        images = f"{card['protocol']['data']['count']:,}"
        rows.append(
            [f"`{name}`", images, *cells, f"{facts.parameters:,}", f"{trained['seconds']:,.0f} ({trained['clock']})"]
        )
    return table(["model", "test images", *COLUMNS.values(), "parameters", "training, seconds"], rows)


def _cell(metric: dict[str, Any] | None) -> str:
    """A value with its interval."""
    if metric is None or not isinstance(metric["value"], float):
        return ""
    value, interval = _number(metric["value"]), metric["interval"]
    text = value if interval is None else f"{value} ({' … '.join(map(_number, interval))})"
    return text.replace("-", "−")


def _number(value: float) -> str:
    """Four digits, or all before the point."""
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def machines() -> str:
    """The processors on which the pretrained models were trained."""
    facts = [json.loads((MODELS / name / "training.json").read_text()) for name in read_index()]
    return ", ".join(sorted({each["processor"] for each in facts}))


def likelihoods() -> str:
    """NLL of MNIST: the pretrained models, with their cost, and published ones."""
    rows = [
        (
            row["nll"],
            [
                f"**`{row['model']}`**",
                f"**{row['nll']:.2f}** ± {1.96 * row['nll_standard_error']:.2f}",
                row["binarization"],
                f"{row['samples']:,}",
                f"{row['images']:,}",
                f"{row['seconds']:,}",
                "`make results`",
            ],
        )
        for row in map(json.loads, RECORD.read_text().splitlines() if RECORD.exists() else ())
    ]
    rows += [
        (nll, [model, f"{nll:.2f}", binarization, f"{samples:,}" if samples else "", "", "", f"[published]({url})"])
        for model, nll, binarization, samples, url in PUBLISHED
    ]
    head = ["model", "NLL, nats per image", "binarization", "importance samples", "test images", "seconds", "source"]
    return table(head, [cells for _, cells in sorted(rows)])


def reported(report: str, heading: str, number: int = 0) -> str:
    """A table of a report, as it stands there.

    Args:
        report: name of the report in benchmarks/, without `.md`.
        heading: the section that has the table.
        number: which of its tables, from 0.

    Raises:
        ValueError: there is no such section or table.
    """
    text = (REPORTS / f"{report}.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, flags=re.M | re.S)
    tables = re.findall(r"(?:^\|.*\n?)+", section[1], flags=re.M) if section else []
    if number >= len(tables):
        raise ValueError(f"benchmarks/{report}.md has no table {number} under '{heading}'")
    return str(tables[number]).rstrip("\n") + f"\n\nReport: [{report}](measured/{report}.md).\n"
