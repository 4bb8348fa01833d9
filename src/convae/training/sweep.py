"""A sweep: one recipe, several values of some of its options, a run for each, and what came of them side by side.

sweeps/vae-objective.kl.weight/
  recipe.yaml                 what all runs have in common
  objective.kl.weight=1/      a run folder for each value
  table.csv, table.md         the figures of the best model of each run
  comparison.png              reconstructions of the same images, and samples of the same latents' seed
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
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
from convae.data.batches import evenly_spaced
from convae.pictures.grid import compare
from convae.pictures.save import save
from convae.training.distributed.launch import require_single_process
from convae.training.loop.checkpoint import list_checkpoints, read_checkpoint
from convae.training.loop.trainer import Callback
from convae.training.recipe.plan import build_plan
from convae.training.recipe.reading import read_recipe, write_recipe
from convae.training.recipe.schema import Recipe
from convae.training.result import Run
from convae.training.run import resume, train
from convae.training.run_folder import RunFolder
from convae.training.vae.start import encoder_layers

SWEEPS = Path("sweeps")
"""Where sweeps go that are told no other place."""
MOST = 1000
"""More runs are taken for a mistake."""


@dataclass(frozen=True)
class Sweep:
    """Runs that differ in the swept options alone.

    Attributes:
        path: the folder of the sweep.
        runs: by their values, such as `kl.weight=1`, those that are done.
        failed: why a run came to no end, by its values.
        stopped: whether somebody stopped it; the same call goes on.
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
    """Trains a recipe once for each value, or each combination of values; runs that are done already are not repeated.

    Args:
        recipe: a recipe, a mapping, or the path of a YAML or JSON file.
        assignments: `key.path=value,value…` each; one with a single value holds for all runs.
        out: the folder of the sweep; one that is there must be of the same recipe.
        callback: is told how each run goes on.
        progress: called with the progress of the data preparation.

    Raises:
        ConvaeError: the recipe, a value or the place is wrong; nothing was trained then.
    """
    require_single_process("a sweep")
    swept = {key: values for key, values in map(_values, assignments) if len(values) > 1}
    if not swept:
        raise ConfigError("a sweep needs an option with several values, such as objective.kl.weight=1,2,3,5")
    fixed = [assignment for assignment in assignments if assignment.partition("=")[0] not in swept]
    base = read_recipe(recipe, fixed)
    if (count := _count(swept)) > MOST:
        raise ConfigError(f"{count} combinations of values are more than {MOST} runs: sweep fewer options at once")
    members = [dict(zip(swept, chosen, strict=True)) for chosen in itertools.product(*swept.values())]
    for member in members:
        read_recipe(base, _overrides(member))
    path = local_path(out) if out is not None else SWEEPS / safe_name(f"{base.title}-{'-'.join(swept)}")
    _claim(path, base)
    runs: dict[str, Run] = {}
    failed: dict[str, str] = {}
    for number, member in enumerate(members, start=1):
        if callback is not None:
            callback.on_message(f"run {number} of {len(members)}: {_label(member)}")
        try:
            run = _run(base, member, path, callback, progress)
        except TrainingError as error:
            failed[_label(member)] = str(error)
            continue
        if run.stopped and not run.out_of_time:
            return Sweep(path, runs, failed, stopped=True)
        runs[_label(member)] = run
    if runs:
        compare_runs(runs, path, progress)
    return Sweep(path, runs, failed, stopped=False)


def _values(assignment: str) -> tuple[str, list[Any]]:
    """The key and the values of `key=value,value…`."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise ConfigError(f"'{assignment}': a swept option is written key.path=value,value")
    values = parse_yaml(f"[{text}]", f"'{assignment}'")
    return key, list(values)


def _count(swept: Mapping[str, Sequence[Any]]) -> int:
    count = 1
    for values in swept.values():
        count *= len(values)
    return count


def _overrides(member: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in member.items()]


def _label(member: Mapping[str, Any]) -> str:
    """What tables and pictures call a run: the last two words of each key, and the value."""
    return ", ".join(f"{'.'.join(key.split('.')[-2:])}={_text(value)}" for key, value in member.items())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _folder_name(member: Mapping[str, Any]) -> str:
    """The name of a run's folder: its values, with a hash of them where a name cannot hold them as they are."""
    text = ",".join(f"{key}={_text(value)}" for key, value in member.items())
    name = safe_name(re.sub(r"[^-+.=,A-Za-z0-9_]+", "_", text))
    return name if name == text else f"{name}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"


def _claim(path: Path, base: Recipe) -> None:
    """Makes the folder of a sweep, or checks that it is of the same recipe."""
    written, content = path / "recipe.yaml", encode_text(write_recipe(base))
    if written.is_file() and read_head(written, len(content) + 1) != content:
        raise ConfigError(f"{path}: holds a sweep of another recipe; give another --out")
    write_bytes(written, content)


def _run(
    base: Recipe, member: Mapping[str, Any], path: Path, callback: Callback | None, progress: Progress | None
) -> Run:
    """The run of some values: done already, gone on with, or new."""
    folder = RunFolder(path / _folder_name(member))
    if not (folder.path / "recipe.yaml").is_file():
        named = [f"name={json.dumps(safe_name(f'{base.title}, {_label(member)}'))}"]
        return train(base, overrides=_overrides(member) + named, out=folder.path, callback=callback, progress=progress)
    found = list_checkpoints(folder.checkpoints)
    with contextlib.suppress(ArtifactError):  # of a damaged checkpoint, which `resume` passes over
        if found and read_checkpoint(found[-1]).progress.finished:
            return Run(folder.path, folder.recipe(), stopped=False)
    return resume(folder.path, callback=callback, progress=progress)


SHOWN = 10
"""Images in a row of the picture."""
_TOTAL = "total (nats)"
_OWN_TOTAL = "total with its own weights (nats)"


def compare_runs(runs: Mapping[str, Run], folder: Path, progress: Progress | None = None) -> None:
    """Writes `table.csv`, `table.md` and, where all runs have images of one shape, `comparison.png`.

    Args:
        runs: finished ones, by what they are called.
        folder: where the files go.
        progress: called with the progress of the data preparation.
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
