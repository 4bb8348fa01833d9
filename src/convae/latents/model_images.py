"""The images that a trained model is used with: read as its training data was, and labeled with its class numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convae.core.config import parse
from convae.core.errors import ArtifactError, ConfigError
from convae.core.names import count_text
from convae.core.notes import note
from convae.core.progress import Progress
from convae.data import DataConfig, DataSet, Split, match_classes, open_data_set
from convae.data.provenance import is_same_source, like_training_data, require_permission
from convae.data.sources import GIVEN
from convae.data.splits.data_set import open_source_data
from convae.data.splits.given_source import GivenSource
from convae.data.splits.snapshot import Snapshot, describe_changes
from convae.data.splits.split import SplitName
from convae.model.vae import VAE


def open_model_images(
    model: VAE,
    run: Path | None,
    data: Any,
    split: SplitName | None,
    *,
    default_split: SplitName,
    data_dir: Path | None,
    progress: Progress | None,
) -> Split:
    """Opens images in the shape of a model, and notes their number and whether they are those of the training.

    Args:
        model: the model.
        run: its run folder; None for an artifact alone.
        data: name of a data set, a path, or a source with options; an array or a dataset; None for the training data.
        split: split; by default `default_split` of the training data, and all of other data.
        default_split: default split of the training data.
        data_dir: folder of data sets; by default `$CONVAE_DATA` and the cache.
        progress: called while the images are decoded.

    Raises:
        ConfigError: the model does not record its training data.
        DataError: the data is missing, damaged or empty.
    """
    trained = dict(model.provenance.data)
    if data is None and "source" not in trained:
        raise ConfigError("the model does not record its training data: give data (--data)")
    if data is None and run is None:
        trained = require_permission(trained)
    held = None if data is None or isinstance(data, str | Path | Mapping) else GivenSource(data)
    if held is not None:
        given: Any = {GIVEN: {"images": len(data)}}
    else:
        given = trained["source"] if data is None else str(data) if isinstance(data, Path) else data
    is_own = data is None or ("source" in trained and is_same_source(given, trained["source"]))
    config, reading_options = (trained, {}) if is_own else like_training_data(trained, given)
    channels, *size = model.input_shape
    config |= {"channels": channels, "size": size}
    if data_dir is not None:
        config["dir"] = data_dir
    read = parse(DataConfig, config, "data")
    data_set = (
        open_data_set(read, progress=progress) if held is None else open_source_data(held, read, progress=progress)
    )
    images = data_set.split(split or (default_split if is_own else "all"))
    column = images.columns.get(trained.get("label") or "")
    if column is not None and not is_own:
        images = images.with_labels(column.values, column.classes)
    images = images if is_own else images.as_other_data()
    _note_images(images, reading_options)
    _compare_with_training(model, run, data_set, images, is_own)
    return images


def match_model_classes(
    model: VAE, images: Split, class_names: Mapping[int, str], label: int | None, missing_label: int | None
) -> Split:
    """Images whose labels are the model's class numbers, matched by name.

    Args:
        model: the model.
        images: images with labels of their own, or without.
        class_names: class names of the model by number.
        label: for a conditional model, the class for decoding, and of images without a label.
        missing_label: for a conditional model, the class of images without a label.

    Raises:
        ConfigError: the model is conditional and an image has no class that it knows, or `missing_label` is not needed.
    """
    fill = label if missing_label is None else missing_label
    needs_classes = model.condition is not None or model.classifier is not None
    # Data sets without class names are matched by number, as text.
    names = list(model.provenance.classes or map(str, class_names))
    if names:
        images, others = match_classes(images, names, extend=not needs_classes)
        if others and needs_classes:
            effect = "are used as unlabeled" if fill is None else f"are used as {names[fill]}"
            counts = ", ".join(f"'{name}' ({count_text(count, 'image')})" for name, count in others.items())
            note(
                f"{images.source}: images of classes that the model does not know {effect}: {counts}; "
                f"model '{model.name}' knows {', '.join(names)}",
                "yellow",
            )
    if model.condition is None:
        return images
    labels = np.full(len(images), -1) if images.labels is None else images.labels
    if missing := int((labels < 0).sum()):
        if fill is None:
            raise ConfigError(
                f"model '{model.name}' is conditional, and {missing:,} of {count_text(len(images), 'image')} of "
                f"{images.source} have no label that it knows: name their class (--label): {', '.join(names)}"
            )
        return images.with_labels(np.where(labels < 0, fill, labels), tuple(names))
    if missing_label is not None:
        raise ConfigError(f"--label: every image of {images.source} has a label of its own: leave it out")
    return images


def _note_images(images: Split, reading_options: dict[str, Any]) -> None:
    """Notes how many images are used, which could not be read, and the options taken over from the training data."""
    text = f"{images.source}: {len(images):,} of {count_text(images.total, 'image')} ({images.name})"
    if images.skipped:
        name, reason = images.skipped[0]
        first = f"{name}: {reason}" if len(images.skipped) == 1 else f"the first is {name}: {reason}"
        text += f"; {len(images.skipped):,} skipped, {first}; see {images.folder / 'skipped.csv'}"
    if images.binarize is not None:
        text += f"; binarized ({images.binarize})"
    if reading_options:
        options = ", ".join(f"{key} {value}" for key, value in reading_options.items())
        text += f"; read with {options}, as the training data was"
    note(text)


def _compare_with_training(model: VAE, run: Path | None, data_set: DataSet, images: Split, is_own: bool) -> None:
    """Notes what changed in the training data since the training, or how many images of other data are in it."""
    trained = None
    try:
        trained = None if run is None else Snapshot.read(run / "data.npz")
    except ArtifactError as error:
        note(str(error), "yellow")
    if trained is not None and not is_own:
        if count := trained.count_trained(images):
            note(f"{images.source}: {count:,} of these {count_text(len(images), 'image')} were trained on", "yellow")
    elif trained is not None:
        if changes := describe_changes(trained, Snapshot.of(data_set.split("all"))):
            note(f"{images.source}: {changes}", "yellow")
    elif is_own:
        then = model.provenance.splits.get(images.name)
        if then is not None and then.content_hash != images.content_hash:
            note(
                f"{images.source}: its {images.name} images are not those of the training ({then.count} then, "
                f"{len(images)} now), and some of them may have been trained on",
                "yellow",
            )
