"""What commands on trained models have in common: the model, the images it takes, and a folder to write to."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convae.cli._classes import with_model_classes
from convae.core.errors import ArtifactError, ConfigError, OutputError
from convae.core.notes import note
from convae.core.paths import local_path, safe_name

if TYPE_CHECKING:
    from convae.core.progress import Progress
    from convae.data import DataSet, Split
    from convae.model.vae import VAE


def open_model(path: Path, device: str) -> VAE:
    """The model of an artifact or a run, on a device."""
    from convae.core.allocator import keep_freed_memory
    from convae.core.device import choose_device
    from convae.model.artifact import load

    keep_freed_memory()
    model = load(path, choose_device(device))
    model.metadata.pop("run", None)  # no artifact says where its run is
    run = _run_of(path)
    if run is None:
        return model
    model.metadata["run"] = str(run)
    model.name = safe_name(run.name) if path.resolve() in (run, run / "model") else model.name
    place = _data_dir(run)
    if place is not None and "data" in model.metadata:
        model.metadata["data"]["dir"] = place
    return model


def _run_of(path: Path) -> Path | None:
    """The run that a path leads to: itself, or the run whose best or last model it is; None for any other artifact."""
    place = path.resolve()
    return next((run for run in (place, place.parent) if (run / "recipe.yaml").is_file()), None)


def _data_dir(run: Path) -> str | None:
    """Where a run on this machine had its data sets: an artifact, which others are given, does not say that."""
    from convae.core.documents import read_mapping
    from convae.core.errors import ConvaeError

    with contextlib.suppress(ConvaeError, LookupError, TypeError):
        place = read_mapping(run / "recipe.yaml")["data"]["dir"]
        return place if isinstance(place, str) and Path(place).is_dir() else None
    return None


def open_images(
    model: VAE,
    data: str | None,
    data_dir: Path | None,
    split: str | None,
    progress: Progress,
    *,
    usual: str = "test",
    label: int | None = None,
    must_fill: bool = False,
) -> Split:
    """Images brought to the model's shape, read and labelled as those of its training; says how many they are.

    Without `data`, the data that the model was trained on, for a run where it was then. Options of a source are written
    as in a recipe: `{arrays: {path: signals.npy, channels: last}}`. Classes are matched with the model's by name.

    Args:
        model: the model.
        data: what the person names.
        data_dir: where data sets lie.
        split: the part that the person names; otherwise the usual one of the training data, and all of other data.
        progress: told how far the decoding is.
        usual: the part of the training data that the command takes.
        label: the class of images that have none, for a conditional model.
        must_fill: whether the label is for nothing else.

    Raises:
        ConfigError: the model does not say what it was trained on, or is conditional and a class is not known, or
            there is a label that no image needs.
        DataError: the data is missing, damaged or empty.
    """
    from convae.core.config import parse
    from convae.data import DataConfig, open_data_set
    from convae.data.permission import require_permission
    from convae.data.provenance import is_same_source, with_reading_options

    trained: dict[str, Any] = dict(model.metadata.get("data", {}))
    if data is None and "source" not in trained:
        raise ConfigError("the model does not say what it was trained on: give --data")
    if data is None and "run" not in model.metadata:
        trained = require_permission(trained)
    config = {**trained, "channels": model.input_shape[0], "size": model.input_shape[1:]}
    if data_dir is not None:
        config["dir"] = data_dir
    given = trained["source"] if data is None else source_of(data, "--data")
    is_own = data is None or ("source" in trained and is_same_source(given, trained["source"]))
    taken: dict[str, Any] = {}
    if not is_own:
        config |= {"source": given, "label": None}
        if "source" in trained:
            config["source"], taken = with_reading_options(given, trained["source"])
    part = split or (usual if is_own else "all")
    data_set = open_data_set(parse(DataConfig, config, "data"), progress=progress)
    images = data_set.split(part)  # type: ignore[arg-type]  # checked by the command line
    column = images.columns.get(trained.get("label") or "")
    if column is not None and not is_own:
        images = images.with_labels(column.values, column.classes)
    images = images if is_own else images.as_other_data()
    _say_used(images, taken)
    _compare_with_training(model, data_set, images, is_own)
    return with_model_classes(model, images, label, must_fill=must_fill)


def _say_used(images: Split, taken: dict[str, Any]) -> None:
    """Says how many images are used, which could not be read, and what other data takes over from the training data."""
    text = f"{images.source}: {len(images):,} of {images.total:,} images ({images.name})"
    if images.skipped:
        name, reason = images.skipped[0]
        first = f"{name}: {reason}" if len(images.skipped) == 1 else f"the first is {name}: {reason}"
        text += f"; {len(images.skipped):,} skipped, {first}; see {images.folder / 'skipped.csv'}"
    if taken:
        text += f"; read with {', '.join(f'{key} {value}' for key, value in taken.items())}, as the training data was"
    note(text)


def _compare_with_training(model: VAE, data_set: DataSet, images: Split, is_own: bool) -> None:
    """Says what changed in the training data since, or how many images of other data were trained on."""
    from convae.data.snapshot import Snapshot, describe_changes

    run, trained = model.metadata.get("run"), None
    try:
        trained = None if run is None else Snapshot.read(Path(run) / "data.npz")
    except ArtifactError as error:
        note(str(error), "yellow")
    if trained is not None and not is_own:
        if count := trained.count_trained(images):
            note(f"{images.source}: {count:,} of these {len(images):,} images were trained on", "yellow")
        return
    if trained is not None:
        changes = describe_changes(trained, Snapshot.of(data_set.split("all")))
        if changes:
            note(f"{images.source}: {changes}", "yellow")
        return
    splits = model.metadata.get("splits")
    then = splits.get(images.name) if isinstance(splits, dict) else None
    if is_own and isinstance(then, dict) and then.get("content_hash") != images.content_hash:
        note(
            f"{images.source}: its {images.name} images are not those of the training: {then.get('count')} then and "
            f"{len(images)} now, and some of them may have been trained on",
            "yellow",
        )


def recipe_and_overrides(words: list[str], written: str = "key.path=value") -> tuple[str | None, list[str]]:
    """The recipe among the words of a command, if there is one, and the options that change it.

    Args:
        words: each is a recipe, or holds `=` and is not a file that is there.
        written: how an option is written, for the message.

    Raises:
        ConfigError: there is more than one recipe.
    """
    files = [word for word in words if "=" not in word or local_path(word).is_file()]
    if len(files) > 1:
        raise ConfigError(f"more than one recipe: {', '.join(files)}; an option of it is written {written}")
    return (files[0] if files else None), [word for word in words if word not in files]


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
