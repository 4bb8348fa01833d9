"""Evaluation reports as self-contained HTML pages."""

from __future__ import annotations

import base64
import html
import json
from string import Template
from typing import TYPE_CHECKING

import torch
from PIL import Image

from convae.core.random import torch_generator
from convae.data import Split, in_order
from convae.data.image_set import evenly_spaced
from convae.evaluation.protocol import Report
from convae.latents.class_labels import sampled_classes
from convae.latents.refinement import torch_engine
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE
from convae.pictures.bars import bars
from convae.pictures.grid import grid, pairs
from convae.pictures.histograms import histograms
from convae.pictures.save import encoded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 20
"""Number of images with reconstructions."""
SAMPLED = 40
"""Number of samples from the prior."""
HISTOGRAMS = ("elbo", "nll", "psnr", "ssim")
"""Metrics with a histogram over images."""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
  table { border-collapse: collapse; } th, td { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #ddd; }
  th { text-align: left; } td:nth-child(2), td:nth-child(3) { text-align: right; font-variant-numeric: tabular-nums; }
  img { max-width: 100%; image-rendering: auto; } pre { background: #f5f5f5; padding: 1rem; overflow-x: auto; }
</style>
<h1>$title</h1>
<h2>Metrics</h2>
<table>
<tr><th>metric</th><th>value</th><th>95% interval</th><th>unit</th></tr>
$rows
</table>
$pictures
<h2>Protocol</h2>
<p>Evaluations with the same protocol give the same values.</p>
<pre>$protocol</pre>
</html>
""")


def render_page(model: VAE, split: Split, report: Report) -> str:
    """Renders a report of `evaluate` as HTML, with reconstructions, samples and histograms.

    Args:
        model: the evaluated model.
        split: the images that it was evaluated on.
        report: the metrics and the protocol.
    """
    rows = [
        "<tr>"
        + "".join(f"<td>{html.escape(text)}</td>" for text in (name, *measurement.texts(), measurement.unit))
        + "</tr>"
        for name, measurement in report.metrics.items()
    ]
    rows += [
        f"<tr><td>{html.escape(name)}</td><td>not measured</td><td></td><td>{html.escape(reason)}</td></tr>"
        for name, reason in report.left_out.items()
    ]
    pictures = [
        f'<h2>{html.escape(name)}</h2>\n<img alt="{html.escape(name)}" src="{embed_picture(picture)}">'
        for name, picture in _pictures(model, split, report).items()
    ]
    return PAGE.substitute(
        title=html.escape(report.title),
        rows="\n".join(rows),
        pictures="\n".join(pictures),
        protocol=html.escape(json.dumps(report.protocol, indent=2, ensure_ascii=False)),
    )


@torch.no_grad()
def _pictures(model: VAE, split: Split, report: Report) -> dict[str, Image.Image | Figure]:
    """Figures by title: reconstructions, samples, histograms of metrics, and the KL divergence per latent dimension."""
    device = next(model.parameters()).device
    batch = next(in_order(split, SHOWN, device, evenly_spaced(len(split), SHOWN)))
    steps = report.protocol.get("refinement", {}).get("steps", 0)
    generators = [torch_generator(report.protocol["seed"], "evaluation", "sample", n) for n in range(SAMPLED)]
    with evaluation_mode(model):
        decoded = torch_engine(model, steps).reconstruct(batch.images, batch.labels, weights=batch.weights)
        samples = model.sample(SAMPLED, generators)
    captions = sampled_classes(model, SAMPLED, split.classes or model.provenance.classes)
    pictures: dict[str, Image.Image | Figure] = {
        "Reconstructions": pairs(batch.images.cpu(), decoded.cpu()),
        "Samples from the prior": grid(samples.cpu(), columns=10, captions=captions),
    }
    for name in HISTOGRAMS:
        rows = report.rows.get(name)
        if rows is not None and bool(rows.isfinite().all()):
            label = f"{name} ({report.metrics[name].unit})"
            pictures[f"{name} over images"] = histograms({split.name: rows}, x_label=label)
    if "kl-per-unit" in report.rows:
        means = report.rows["kl-per-unit"].mean(0)
        pictures["KL per latent dimension"] = bars(
            means, x_label="latent dimension, largest first", y_label="nats per image"
        )
    return pictures


def embed_picture(picture: Image.Image | Figure) -> str:
    """A figure as a data URL."""
    return "data:image/png;base64," + base64.b64encode(encoded(picture, ".png")).decode()
