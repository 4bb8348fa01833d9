"""A trained model opened with its data and classes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convae.core.allocator import keep_freed_memory
from convae.core.arguments import Named
from convae.core.config import parse
from convae.core.device import choose_device
from convae.core.documents import read_mapping
from convae.core.errors import ArtifactError, ConfigError, ConvaeError
from convae.core.names import class_names
from convae.core.notes import note
from convae.core.paths import local_path, safe_name
from convae.core.progress import Progress
from convae.core.trust import trusted_packages, untrusted_names
from convae.core.types import Images, Latents
from convae.data import DataConfig, DataSet, Split, in_order, match_classes, open_data_set
from convae.data.provenance import is_same_source, require_permission, with_reading_options
from convae.data.splits.snapshot import Snapshot, describe_changes
from convae.data.splits.split import SplitName
from convae.latents.class_labels import class_number
from convae.latents.decoding import decode
from convae.latents.encoding import Encoding, encode
from convae.latents.inputs import EncodedInputs, encode_inputs
from convae.latents.quantized import nearest_latents
from convae.model.artifact import load
from convae.model.compatibility import check_labels
from convae.model.condition import Labels
from convae.model.mode import evaluation_mode
from convae.model.vae import VAE


class Session:
    """A trained model with images.

    The images are opened on first use, resized to the shape of the model, read with the options of the training data,
    and labeled with the class numbers of the model, matched by class name.

    Args:
        model: a run folder, an artifact folder, or a model.
        data: name of a data set, a path, or a source with options as in a recipe; by default the training data.
        data_dir: folder of data sets; by default that of the run, `$CONVAE_DATA` and the cache.
        split: split; by default `default_split` of the training data, and all of other data.
        default_split: default split of the training data.
        label: for a conditional model, the class for decoding, by name or number, and of images without a label.
        missing_label: for a conditional model, the class of images without a label; each image is decoded as its own
            class.
        device: auto, cpu, cuda or mps; a model object stays on its device.
        trust: packages outside convae whose code the artifact may use.
        progress: called with the number of finished images.

    Raises:
        ArtifactError: there is no artifact, or it is damaged.
        TrustError: it needs code of a package that is not trusted.
        ConfigError: a label for a model that is not conditional, or of a class that it does not have.
    """

    def __init__(
        self,
        model: VAE | str | Path,
        *,
        data: Named | Path | None = None,
        data_dir: Path | None = None,
        split: SplitName | None = None,
        default_split: SplitName = "test",
        label: str | None = None,
        missing_label: str | None = None,
        device: str = "auto",
        trust: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> None:
        self.run: Path | None = None
        self._trust = tuple(trust)
        if isinstance(model, VAE):
            self.model = model
        else:
            keep_freed_memory()
            path = local_path(model)
            self.model, self.run = load(path, choose_device(device), trust=self._trust), _run_of(path)
            if self.run is not None and path.resolve() in (self.run, self.run / "model"):
                self.model.name = safe_name(self.run.name)
        self.progress = progress
        self.label = self._class_number(label)
        self._missing_label = self._class_number(missing_label)
        self._data, self._split, self._default_split = data, split, default_split
        self._data_dir = data_dir if data_dir is not None or self.run is None else _data_dir(self.run)

    @property
    def is_conditional(self) -> bool:
        """Whether the decoder takes a class label."""
        return self.model.condition is not None

    @cached_property
    def class_names(self) -> dict[int, str]:
        """Class names of the model by number; empty without classes."""
        names = self.model.provenance.classes
        if self.model.class_count is not None:
            return class_names(range(self.model.class_count), names)
        return class_names(range(len(names)), names) if names else {}

    @cached_property
    def images(self) -> Split:
        """The images.

        Raises:
            ConfigError: the model does not record its training data, or the class of an image is unknown.
            DataError: the data is missing, damaged or empty.
        """
        return self.open_images(self._data, self._split)

    def open_images(self, data: Named | Path | None = None, split: SplitName | None = None) -> Split:
        """Opens other images in the same way.

        Args:
            data: as for the session.
            split: as for the session.

        Raises:
            ConfigError: as for `images`, or `missing_label` is needed by no image.
            DataError: the data is missing, damaged or empty.
            TrustError: the training data is code of a package that is not trusted.
        """
        # Other data is named by the user, the training data by the artifact.
        with trusted_packages(self._trust), untrusted_names() if data is None else contextlib.nullcontext():
            return self._open_images(data, split)

    def _open_images(self, data: Named | Path | None, split: SplitName | None) -> Split:
        """Implementation of `open_images`."""
        trained = dict(self.model.provenance.data)
        if data is None and "source" not in trained:
            raise ConfigError("the model does not record its training data: give data (--data)")
        if data is None and self.run is None:
            trained = require_permission(trained)
        given = trained["source"] if data is None else str(data) if isinstance(data, Path) else data
        is_own = data is None or ("source" in trained and is_same_source(given, trained["source"]))
        channels, *size = self.model.input_shape
        config: dict[str, Any] = {**trained, "channels": channels, "size": size}
        if self._data_dir is not None:
            config["dir"] = self._data_dir
        reading_options: dict[str, Any] = {}
        if not is_own:
            config |= {"source": given, "label": None}
            if "source" in trained:
                config["source"], reading_options = with_reading_options(given, trained["source"])
        data_set = open_data_set(parse(DataConfig, config, "data"), progress=self.progress)
        images = data_set.split(split or (self._default_split if is_own else "all"))
        column = images.columns.get(trained.get("label") or "")
        if column is not None and not is_own:
            images = images.with_labels(column.values, column.classes)
        images = images if is_own else images.as_other_data()
        _note_images(images, reading_options)
        self._compare_with_training(data_set, images, is_own)
        return self._with_class_numbers(images)

    def encode(self, images: Split | None = None, *, batch_size: int = 256) -> Encoding:
        """Encodes images; by default those of the session."""
        return encode(self.model, images or self.images, batch_size=batch_size, progress=self.progress)

    def encode_inputs(self, words: Sequence[str]) -> EncodedInputs:
        """Encodes images given by file, position in the session's images, or name."""
        return encode_inputs(self.model, words, lambda: self.images, self.label)

    def decode(
        self, z: Latents, labels: Labels | None = None, *, nearest: bool = False, levels: int | None = None
    ) -> Images:
        """Decodes latents to expected images.

        Args:
            z: (batch, *latent).
            labels: (batch,) classes for a conditional decoder; by default the label of the session.
            nearest: whether to take the nearest latents that the bottleneck can produce: codes, or points of a sphere.
            levels: number of latents of a hierarchy, from the top, to take from `z`; the others are the means of their
                priors.
        """
        if labels is None:
            labels = self.labels(len(z))
        return decode(self.model, nearest_latents(self.model, z) if nearest else z, labels=labels, levels=levels)

    def reconstruct(
        self, positions: NDArray[np.int64] | None = None, *, batch_size: int = 256
    ) -> Iterator[tuple[Images, Images]]:
        """Iterates over images and their reconstructions from the posterior means, on the CPU.

        Args:
            positions: positions of the images; by default all.
            batch_size: images per batch.
        """
        model, images = self.model, self.images
        positions = np.arange(len(images)) if positions is None else positions
        check_labels(model, images.labels, images.source, images.classes)
        done = 0
        for batch in in_order(images, batch_size, next(model.parameters()).device, positions):
            with torch.no_grad(), evaluation_mode(model):
                labels = batch.labels if self.label is None else torch.full_like(batch.indices, self.label)
                decoded = model.decode(model.encode(batch.images, batch.labels).mean, labels).mean
            yield batch.images.cpu(), decoded.cpu()
            done += len(batch)
            if self.progress:
                self.progress(done, len(positions), "reconstructing (images)")

    def labels(self, count: int) -> Labels | None:
        """(count,) the label of the session; None without one."""
        return None if self.label is None else torch.full((count,), self.label)

    def require_label(self) -> None:
        """Checks that a conditional model has a class for decoding.

        Raises:
            ConfigError: no class.
        """
        if self.is_conditional and self.label is None:
            raise ConfigError(f"model '{self.model.name}' is conditional: name the class to decode as (--label)")

    @property
    def label_text(self) -> str:
        """The class for decoding, for titles; empty without one."""
        return "" if self.label is None else f", decoded as {self.class_names[self.label]}"

    def _class_number(self, label: str | None) -> int | None:
        """The number of a class of a conditional model.

        Raises:
            ConfigError: the model is not conditional, or has no such class.
        """
        if label is None:
            return None
        if not self.is_conditional:
            raise ConfigError(f"--label: model '{self.model.name}' is not conditional and takes no class")
        return class_number(label, self.class_names)

    def _with_class_numbers(self, images: Split) -> Split:
        """Images whose labels are the model's class numbers, matched by name.

        Raises:
            ConfigError: the model is conditional and an image has no class that it knows, or `missing_label` is not
                needed.
        """
        fill = self.label if self._missing_label is None else self._missing_label
        needs_classes = self.is_conditional or self.model.classifier is not None
        # Data sets without class names are matched by number, as text.
        names = list(self.model.provenance.classes or map(str, self.class_names))
        if names:
            images, others = match_classes(images, names, extend=not needs_classes)
            if others and needs_classes:
                effect = "are used as unlabeled" if fill is None else f"are used as {names[fill]}"
                note(f"{images.source}: images of classes that the model does not know {effect}: {_counts(others)}; "
                     f"model '{self.model.name}' knows {', '.join(names)}", "yellow")  # fmt: skip
        if not self.is_conditional:
            return images
        labels = np.full(len(images), -1) if images.labels is None else images.labels
        if missing := int((labels < 0).sum()):
            if fill is None:
                raise ConfigError(
                    f"model '{self.model.name}' is conditional, and {missing:,} of {len(images):,} images of "
                    f"{images.source} have no label that it knows: name their class (--label): {', '.join(names)}"
                )
            return images.with_labels(np.where(labels < 0, fill, labels), tuple(names))
        if self._missing_label is not None:
            raise ConfigError(f"--label: every image of {images.source} has a label of its own: leave it out")
        return images

    def _compare_with_training(self, data_set: DataSet, images: Split, is_own: bool) -> None:
        """Notes what changed in the training data since the training, or how many images of other data are in it."""
        trained = None
        try:
            trained = None if self.run is None else Snapshot.read(self.run / "data.npz")
        except ArtifactError as error:
            note(str(error), "yellow")
        if trained is not None and not is_own:
            if count := trained.count_trained(images):
                note(f"{images.source}: {count:,} of these {len(images):,} images were trained on", "yellow")
        elif trained is not None:
            if changes := describe_changes(trained, Snapshot.of(data_set.split("all"))):
                note(f"{images.source}: {changes}", "yellow")
        elif is_own:
            then = self.model.provenance.splits.get(images.name)
            if then is not None and then.content_hash != images.content_hash:
                note(
                    f"{images.source}: its {images.name} images are not those of the training ({then.count} then, "
                    f"{len(images)} now), and some of them may have been trained on",
                    "yellow",
                )


def _counts(classes: dict[str, int]) -> str:
    return ", ".join(f"'{name}' ({count:,} images)" for name, count in classes.items())


def _note_images(images: Split, reading_options: dict[str, Any]) -> None:
    """Notes how many images are used, which could not be read, and the options taken over from the training data."""
    text = f"{images.source}: {len(images):,} of {images.total:,} images ({images.name})"
    if images.skipped:
        name, reason = images.skipped[0]
        first = f"{name}: {reason}" if len(images.skipped) == 1 else f"the first is {name}: {reason}"
        text += f"; {len(images.skipped):,} skipped, {first}; see {images.folder / 'skipped.csv'}"
    if reading_options:
        options = ", ".join(f"{key} {value}" for key, value in reading_options.items())
        text += f"; read with {options}, as the training data was"
    note(text)


def _run_of(path: Path) -> Path | None:
    """The run that a path leads to: itself, or the run whose best or last model it is; None for any other artifact."""
    place = path.resolve()
    candidates: Iterable[Path] = (place, place.parent)
    return next((run for run in candidates if (run / "recipe.yaml").is_file()), None)


def _data_dir(run: Path) -> Path | None:
    """Where a run on this machine had its data sets: an artifact, which others are given, does not record that."""
    with contextlib.suppress(ConvaeError, LookupError, TypeError):
        place = read_mapping(run / "recipe.yaml")["data"]["dir"]
        return Path(place) if isinstance(place, str) and Path(place).is_dir() else None
    return None
