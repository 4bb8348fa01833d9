"""Runs side by side: a table of the figures of their best models, and a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from convae.core.files import write_text
from convae.core.progress import Progress
from convae.core.random import torch_generator
from convae.data import Split, in_order, open_split
from convae.data.batches import evenly_spaced
from convae.pictures.grid import compare
from convae.pictures.save import save
from convae.training.recipe.plan import build_plan
from convae.training.run import Run
from convae.training.vae.build import encoder_layers

SHOWN = 10
"""Images in a row of the picture."""
_TOTAL = "total (nats)"
_OWN_TOTAL = "total with its own weights (nats)"


def compare_runs(runs: Mapping[str, Run], folder: Path, progress: Progress | None = None) -> None:
    """Writes `table.csv`, `table.md` and, where all runs have images of one shape, `comparison.png`.

    Args:
        runs: finished ones, by what they are called.
        folder: where the files go.
        progress: told how far the preparation of the data is.
    """
    rows = [{"run": label, **_figures(run)} for label, run in runs.items()]
    if len({repr(run.recipe.objective) for run in runs.values()}) > 1:
        # Totals under different weights cannot be compared, and look as if they could.
        rows = [{_OWN_TOTAL if name == _TOTAL else name: value for name, value in row.items()} for row in rows]
    headings = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, headings, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(folder / "table.csv", text.getvalue())
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)]]
    lines += [[_shown(row.get(name, "")) for name in headings] for row in rows]
    about = "The best model of each run on its validation images: terms are per image, without their weights."
    markdown = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    write_text(folder / "table.md", f"{about}\n\n{markdown}\n\n![reconstructions and samples](comparison.png)\n")
    splits = {label: _images(run, progress) for label, run in runs.items()}
    if len({split.shape for split in splits.values()}) == 1:
        save(compare(_pictures(runs, splits), title="the same images and the same seed"), folder / "comparison.png")


def _figures(run: Run) -> dict[str, Any]:
    """The figures of a run's best model, with their units."""
    rows = [row for row in run.metrics if row["step"] == run.best_step]
    validation = [row for row in rows if row["split"] == "validation"]
    row = (validation or rows)[-1]
    units = {"total": "nats", **build_plan(run.recipe, 1, encoder_layers).units()}
    figures = {f"{name} ({unit})": row[name] for name, unit in units.items() if name in row}
    more = {"active units": row["active_units"]} if "active_units" in row else {}
    return {**figures, **more, "step": run.best_step}


@torch.no_grad()
def _pictures(runs: Mapping[str, Run], splits: Mapping[str, Split]) -> dict[str, Any]:
    """Rows of images: originals, their reconstructions by each model, and samples of each."""
    reconstructed, sampled = {}, {}
    first = next(iter(splits.values()))
    batch = next(in_order(first, SHOWN, indices=evenly_spaced(len(first), SHOWN)))
    for label, run in runs.items():
        model = run.model
        reconstructed[label] = model.decode(model.encode(batch.images, batch.labels).mean, batch.labels).mean
        generator = torch_generator(run.recipe.training.seed, "pictures")
        sampled[f"samples, {label}"] = model.sample(len(batch), generator)
    return {"original": batch.images, **reconstructed, **sampled}


def _images(run: Run, progress: Progress | None) -> Split:
    return open_split(run.recipe.data, "validation" if run.recipe.data.validation else "train", progress=progress)


def _shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
