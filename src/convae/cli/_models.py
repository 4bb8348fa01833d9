"""What commands on trained models have in common: the model, the images it takes, and a folder to write to."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convae.core.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from convae.core.progress import Progress
    from convae.data import Split
    from convae.model.vae import VAE


def open_model(path: Path, device: str) -> VAE:
    """The model of an artifact or a run, on a device."""
    from convae.core.allocator import keep_freed_memory
    from convae.core.device import device as device_named
    from convae.model.artifact import load

    keep_freed_memory()
    model = load(path, device_named(device))
    model.name = _run_name(path) or model.name
    place = _data_dir(path)
    if place is not None and "data" in model.metadata:
        model.metadata["data"]["dir"] = place
    return model


def _run_name(path: Path) -> str | None:
    """The name of the run that a path leads to, itself or its `model` folder; None for an artifact by itself."""
    run = path.expanduser().resolve()
    run = run.parent if run.name == "model" and not (run / "recipe.yaml").is_file() else run
    return run.name if (run / "recipe.yaml").is_file() else None


def _data_dir(run: Path) -> str | None:
    """Where a run on this machine had its data sets: an artifact, which others are given, does not say that."""
    from convae.core.documents import read_mapping
    from convae.core.errors import ConvaeError

    # The best and the last model of a run lie in it.
    for folder in (run, run.parent):
        with contextlib.suppress(ConvaeError, LookupError, TypeError):
            place = read_mapping(folder / "recipe.yaml")["data"]["dir"]
            return place if isinstance(place, str) and Path(place).is_dir() else None
    return None


def open_images(model: VAE, data: str | None, data_dir: Path | None, split: str, progress: Progress) -> Split:
    """The images of a split, brought to the model's shape as they were in training.

    Without `data`, the data that the model was trained on, for a run where it was then. Options of a source are written
    as in a recipe: `{arrays: {path: signals.npy, channels: last}}`.
    """
    from convae.core.config import parse
    from convae.data import DataConfig, open_split

    remembered: dict[str, Any] = dict(model.metadata.get("data", {}))
    if data is None and "source" not in remembered:
        raise ConfigError("the model does not say what it was trained on: give --data")
    config = {**remembered, "channels": model.input_shape[0], "size": model.input_shape[1:]}
    if data is not None:
        config["source"] = source_of(data, "--data")
    if data_dir is not None:
        config["dir"] = data_dir
    return open_split(parse(DataConfig, config, "data"), split, progress=progress)  # type: ignore[arg-type]  # checked there


def source_of(text: str, what: str) -> Any:
    """The source of data that a person writes: a name, a path, or a name with options, as in a recipe."""
    from convae.core.documents import parse_yaml

    return parse_yaml(text, what) if text.startswith("{") else text


def new_files(folder: Path, names: list[str], force: bool) -> list[Path]:
    """Paths in `folder` for files that will be written there.

    Raises:
        OutputError: one of them is there and `force` is not set.
    """
    paths = [folder / name for name in names]
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise OutputError(f"{there[0]}: is there already; choose another place, or --force to overwrite")
    return paths
