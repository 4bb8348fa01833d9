"""Sweeps: a run of a recipe for each combination of option values, and a comparison of the runs.

sweeps/vae-objective.kl.weight/
  recipe.yaml                 the recipe without swept options
  objective.kl.weight=1/      a run folder for each combination of values
  table.csv, table.md         metrics of the best model of each run
  comparison.png              reconstructions of the same images, and samples with the same seed
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from convae.core.documents import parse_yaml
from convae.core.errors import ArtifactError, ConfigError, TrainingError
from convae.core.files import encode_text, read_head, write_bytes, write_text
from convae.core.paths import local_path, safe_name
from convae.core.progress import Progress
from convae.core.random import torch_generator
from convae.data import Split, in_order, open_split
from convae.data.image_set import evenly_spaced
from convae.pictures.grid import compare
from convae.pictures.save import save
from convae.training.launch import require_single_process
from convae.training.loop.checkpoint import list_checkpoints, read_checkpoint
from convae.training.loop.trainer import Callback
from convae.training.recipe.reading import read_recipe, write_recipe
from convae.training.recipe.schema import Recipe
from convae.training.recipe.stages import build_plan
from convae.training.result import Run
from convae.training.run import resume, train
from convae.training.run_folder import RunFolder

SWEEPS = Path("sweeps")
"""Default parent folder of sweeps."""
MAX_RUNS = 1000
"""Largest number of runs of a sweep; more are probably a mistake."""
COMPARED_IMAGES = 10
"""Images per row of the comparison."""
_TOTAL = "total (nats)"
_WEIGHTED_TOTAL = "total with own weights (nats)"


@dataclass(frozen=True)
class Sweep:
    """Runs that differ in the swept options only.

    Attributes:
        path: folder of the sweep.
        runs: finished runs by label, such as `kl.weight=1`.
        failed: error messages of failed runs by label.
        stopped: whether the sweep was interrupted; calling `sweep` again continues it.
    """

    path: Path
    runs: dict[str, Run]
    failed: dict[str, str]
    stopped: bool


def sweep(
    recipe: Recipe | Mapping[str, Any] | str | Path,
    assignments: Sequence[str],
    *,
    out: str | Path | None = None,
    callback: Callback | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Trains a recipe for each combination of option values, and compares the runs.

    Finished runs in the folder are kept, and interrupted ones are resumed.

    Args:
        recipe: a recipe, a mapping, or the path of a YAML or JSON file.
        assignments: options, `key.path=value,value…` each; those with a single value apply to all runs.
        out: folder of the sweep; an existing one must be of the same recipe.
        callback: receives the events of each run.
        progress: called with the progress of data preparation.

    Raises:
        ConvaeError: invalid recipe, value or folder; raised before any training.
    """
    require_single_process("a sweep")
    swept = {key: values for key, values in map(_parse_values, assignments) if len(values) > 1}
    if not swept:
        raise ConfigError("no option has several values. Add one, such as objective.kl.weight=1,2,3,5")
    fixed = [assignment for assignment in assignments if assignment.partition("=")[0] not in swept]
    base = read_recipe(recipe, fixed)
    if (count := math.prod(map(len, swept.values()))) > MAX_RUNS:
        raise ConfigError(f"{count} combinations of values exceed the limit of {MAX_RUNS} runs. Sweep fewer options")
    members = [dict(zip(swept, chosen, strict=True)) for chosen in itertools.product(*swept.values())]
    for member in members:
        read_recipe(base, _overrides(member))
    path = local_path(out) if out is not None else SWEEPS / safe_name(f"{base.title}-{'-'.join(swept)}")
    _prepare_folder(path, base)
    runs: dict[str, Run] = {}
    failed: dict[str, str] = {}
    for number, member in enumerate(members, start=1):
        if callback is not None:
            callback.on_message(f"run {number} of {len(members)}: {_label(member)}")
        try:
            run = _train_or_resume(base, member, path, callback, progress)
        except TrainingError as error:
            failed[_label(member)] = str(error)
            continue
        if run.stopped and not run.out_of_time:
            return Sweep(path, runs, failed, stopped=True)
        runs[_label(member)] = run
    if runs:
        compare_runs(runs, path, progress)
    return Sweep(path, runs, failed, stopped=False)


def _parse_values(assignment: str) -> tuple[str, list[Any]]:
    """Key and values of `key=value,value…`."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise ConfigError(f"'{assignment}': expected key.path=value,value")
    values = parse_yaml(f"[{text}]", f"'{assignment}'")
    return key, list(values)


def _overrides(member: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in member.items()]


def _label(member: Mapping[str, Any]) -> str:
    """The label of a run in tables and figures: the last two parts of each key, and the value."""
    return ", ".join(f"{'.'.join(key.split('.')[-2:])}={_text(value)}" for key, value in member.items())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _folder_name(member: Mapping[str, Any]) -> str:
    """The folder name of a run: its values, with a hash if they contain characters that are unsafe in names."""
    text = ",".join(f"{key}={_text(value)}" for key, value in member.items())
    name = safe_name(re.sub(r"[^-+.=,A-Za-z0-9_]+", "_", text))
    return name if name == text else f"{name}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"


def _prepare_folder(path: Path, base: Recipe) -> None:
    """Writes the recipe into the folder of a sweep, or checks that it contains the same recipe."""
    written, content = path / "recipe.yaml", encode_text(write_recipe(base))
    if written.is_file() and read_head(written, len(content) + 1) != content:
        raise ConfigError(f"{path}: contains a sweep of another recipe. Use another folder (--out)")
    write_bytes(written, content)


def _train_or_resume(
    base: Recipe, member: Mapping[str, Any], path: Path, callback: Callback | None, progress: Progress | None
) -> Run:
    """Trains a run, resumes it, or returns it if it is finished."""
    folder = RunFolder(path / _folder_name(member))
    if not (folder.path / "recipe.yaml").is_file():
        named = [f"name={json.dumps(safe_name(f'{base.title}, {_label(member)}'))}"]
        return train(base, overrides=_overrides(member) + named, out=folder.path, callback=callback, progress=progress)
    found = list_checkpoints(folder.checkpoints)
    with contextlib.suppress(ArtifactError):  # `resume` skips damaged checkpoints
        if found and read_checkpoint(found[-1]).progress.finished:
            return Run(folder.path, folder.recipe(), stopped=False)
    return resume(folder.path, callback=callback, progress=progress)


def compare_runs(runs: Mapping[str, Run], folder: Path, progress: Progress | None) -> None:
    """Writes `table.csv`, `table.md` and, if the images of all runs have equal shapes, `comparison.png`.

    Args:
        runs: finished runs by label.
        folder: folder for the files.
        progress: called with the progress of data preparation.
    """
    rows = [{"run": label, **_best_metrics(run)} for label, run in runs.items()]
    if len({repr(_objectives(run.recipe)) for run in runs.values()}) > 1:
        # Totals with different weights are not comparable.
        rows = [{_WEIGHTED_TOTAL if name == _TOTAL else name: value for name, value in row.items()} for row in rows]
    headings = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, headings, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(folder / "table.csv", text.getvalue())
    lines = [headings, ["---", *["---:"] * (len(headings) - 1)]]
    lines += [[_format(row.get(name, "")) for name in headings] for row in rows]
    about = "Metrics of the best model of each run on validation images: unweighted terms per image."
    markdown = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    write_text(folder / "table.md", f"{about}\n\n{markdown}\n\n![reconstructions and samples](comparison.png)\n")
    splits = {label: _open_images(run, progress) for label, run in runs.items()}
    if len({split.shape for split in splits.values()}) == 1:
        save(compare(_compare_images(runs, splits), title="equal images and seeds"), folder / "comparison.png")


def _objectives(recipe: Recipe) -> list[Any]:
    """The terms of a recipe, and what each stage changes of them."""
    return [recipe.objective, *(stage.objective for stage in recipe.stages)]


def _best_metrics(run: Run) -> dict[str, Any]:
    """Metrics of the best model of a run, by name and unit."""
    rows = [row for row in run.metrics if row["step"] == run.best_step]
    validation = [row for row in rows if row["split"] == "validation"]
    row = (validation or rows)[-1]
    if "total_at_end" in row:
        # Best models may be of different moments, at which terms had other weights.
        row = {**row, "total": row["total_at_end"]}
    units = {"total": "nats", **build_plan(run.recipe, 1).units()}
    metrics = {f"{name} ({unit})": row[name] for name, unit in units.items() if name in row}
    if "active_units" in row:
        metrics["active units"] = row["active_units"]
    return {**metrics, "step": run.best_step}


@torch.no_grad()
def _compare_images(runs: Mapping[str, Run], splits: Mapping[str, Split]) -> dict[str, Any]:
    """Rows of images by title: originals, reconstructions by each model, and samples of each model."""
    reconstructed, sampled = {}, {}
    first = next(iter(splits.values()))
    batch = next(in_order(first, COMPARED_IMAGES, indices=evenly_spaced(len(first), COMPARED_IMAGES)))
    for label, run in runs.items():
        model = run.model
        reconstructed[label] = model.decode(model.encode(batch.images, batch.labels).mean, batch.labels).mean
        generator = torch_generator(run.recipe.training.seed, "pictures")
        sampled[f"samples, {label}"] = model.sample(len(batch), generator)
    return {"original": batch.images, **reconstructed, **sampled}


def _open_images(run: Run, progress: Progress | None) -> Split:
    return open_split(run.recipe.data, "validation" if run.recipe.data.validation else "train", progress=progress)


def _format(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
