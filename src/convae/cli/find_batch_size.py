"""`convae find-batch-size`."""

from __future__ import annotations

import contextlib
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convae.cli._parsing import byte_count
from convae.core.errors import ConfigError

if TYPE_CHECKING:
    from convae.training.recipe.schema import Recipe

PANEL = "Tune"
"""The heading under which the help lists the command."""


def find_batch_size(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|RECIPE", help="A recipe, a preset, a model file, an artifact or a run.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key.path=value ...]",
            help="Options of the recipe, such as model.input=[3,128,128] or training.checkpointing=true.",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Memory for training, such as 4GiB; by default 90% of the free memory."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder that holds data sets.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Find the largest training batch that fits into memory.

    Memory is measured for two small batches and extrapolated linearly; one probe, in a process with a memory limit,
    checks the result.

    Example: `convae find-batch-size torch-vae`
    """
    from convae.cli._screen import notes, results, work_bar
    from convae.core.names import count_text, shape_text
    from convae.describe import resolve
    from convae.training.memory import MOST
    from convae.training.memory import find_batch_size as find

    budget = None if memory is None else byte_count(memory)
    with work_bar() as bar:
        recipe, most = _recipe(model, overrides or [], data_dir, device, bar)
    found = find(recipe, budget, most, on_message=lambda sentence: notes.print(sentence, soft_wrap=True))
    mib = 2**20
    line = found.line
    notes.print(f"extrapolation: {line.fixed / mib:,.0f} MiB + {line.per_image / mib:,.3f} MiB per image")
    probed = count_text(found.probed, "image")
    if found.taken is None:
        notes.print(f"the probe of {probed} exceeded {found.budget / mib:,.0f} MiB and was ended")
    else:
        notes.print(
            f"the probe of {probed} took {found.taken / mib:,.0f} of {found.budget / mib:,.0f} MiB, "
            f"{found.error:+.1%} from the extrapolation"
        )
    results.print(f"batch size {found.batch_size}", highlight=False)
    shape = shape_text(resolve(recipe.model).input)
    whole_split = f"all {most:,} training images fit into memory in one batch"
    largest = f"this is the largest batch of {shape} images that fits into memory"
    command = " ".join(["convae train", _retyped(model), *map(shlex.quote, overrides or [])])
    notes.print(
        f"{whole_split if found.batch_size == most < MOST else largest}, which is not a recommendation: larger batches "
        f"mean fewer steps per epoch. Train with: {command} --batch-size N, with N up to {found.batch_size:,}",
        soft_wrap=True,
    )


def _retyped(model: str) -> str:
    """The same model as arguments of `convae train`."""
    from convae.model.presets import PRESETS
    from convae.training.recipe.reading import is_packaged

    path = Path(model)
    if (path / "recipe.yaml").is_file():
        return str(path / "recipe.yaml")
    if path.suffix in (".yaml", ".yml", ".json") or is_packaged(model):
        return model
    return f"--data DATA --preset {model}" if model in PRESETS else f"--data DATA model={model}"


def _recipe(
    model: str, overrides: list[str], data_dir: Path | None, device: str, progress: object
) -> tuple[Recipe, int]:
    """The recipe whose steps are measured, and the largest batch its data allows."""
    from convae.core.documents import read_mapping
    from convae.core.trust import untrusted_names
    from convae.model.artifact import load
    from convae.model.presets import PRESETS
    from convae.model.pretrained import model_path
    from convae.training.memory import MOST
    from convae.training.recipe.reading import is_packaged, read_recipe
    from convae.training.vae.build import build_task

    path = model_path(model)
    options = [*overrides, f"training.device={device}"]
    place = [f"data.dir={json.dumps(str(data_dir))}"] if data_dir is not None else []

    def of_recipe(source: str | Path) -> tuple[Recipe, int]:
        with untrusted_names() if is_run else contextlib.nullcontext():
            made = build_task(read_recipe(source, options + place), progress)  # type: ignore[arg-type]  # a work bar
        return made.recipe, len(made.images)

    is_run = (path / "recipe.yaml").is_file()
    if is_run:
        path = path / "recipe.yaml"  # a run: its images and options
    if is_packaged(model):
        return of_recipe(model)
    if path.is_dir():
        written: dict[str, Any] = {"model": load(path).spec.model_dump(mode="json")}
    elif path.suffix in (".yaml", ".yml", ".json") and path.exists():
        read = read_mapping(path)
        if "data" in read:
            return of_recipe(path)
        written = {"model": read}
    elif path.suffix == ".py" or model in PRESETS:
        written = {"model": model}
    else:
        raise ConfigError(f"'{model}': no recipe, file, artifact or preset of that name; see `convae presets`")
    # Only the shape of the data matters, and the model has it.
    return read_recipe({"data": "digits", **written}, options), MOST
