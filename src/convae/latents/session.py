"""A trained model opened with its data and classes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convae.core.allocator import keep_freed_memory
from convae.core.device import choose_device
from convae.core.errors import ConfigError
from convae.core.names import class_names
from convae.core.paths import local_path, safe_name
from convae.core.progress import Progress
from convae.core.trust import trusted_packages, untrusted_names
from convae.core.types import Images, Latents
from convae.data import Split, in_order
from convae.data.provenance import recorded_data_dir
from convae.data.splits.split import SplitName
from convae.latents.batches import iterate_batches
from convae.latents.class_labels import class_number
from convae.latents.decoding import decode
from convae.latents.encoding import Encoding, encode
from convae.latents.imputation import impute
from convae.latents.inputs import EncodedInputs, encode_inputs
from convae.latents.model_images import match_model_classes, open_model_images
from convae.latents.quantized import nearest_latents
from convae.model.artifact import find_run, load
from convae.model.compatibility import check_labels
from convae.model.condition import Labels
from convae.model.inference import InferenceEngine, TorchEngine
from convae.model.pretrained import model_path
from convae.model.vae import VAE


class Session:
    """A trained model with images.

    The images are opened on first use, resized to the shape of the model, read with the options of the training data,
    and labeled with the class numbers of the model, matched by class name.

    Attributes:
        engine: computes latents and images; torch, unless it is set to another, such as that of
            `convae.interop.choose_engine`.

    Args:
        model: a run or its folder, an artifact folder, the name of a pretrained model, or a model.
        data: name of a data set, a path, or a source with options as in a recipe; or an array, a tensor or a map-style
            torch Dataset, as for `convae.train`; by default the training data.
        data_dir: folder of data sets; by default that of the run, `$CONVAE_DATA` and the cache.
        split: split; by default `default_split` of the training data, and all of other data.
        default_split: default split of the training data.
        label: for a conditional model, the class for decoding, by name or number, and of images without a label.
        missing_label: for a conditional model, the class of images without a label; each image is decoded as its own
            class.
        size: sizes of the images, if the model is to be used for others than its own; see `VAE.with_sizes`.
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
        model: VAE | str | os.PathLike[str],
        *,
        data: Any = None,
        data_dir: str | Path | None = None,
        split: SplitName | None = None,
        default_split: SplitName = "test",
        label: str | None = None,
        missing_label: str | None = None,
        size: int | Sequence[int] | None = None,
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
            path = model_path(model)
            self.model, self.run = load(path, choose_device(device), trust=self._trust), find_run(path)
            if self.run is not None and path.resolve() in (self.run, self.run / "model"):
                self.model.name = safe_name(self.run.name)
        if size is not None:
            self.model = self.model.with_sizes(size)
        self.progress = progress
        self.engine: InferenceEngine = TorchEngine(self.model)
        self.label = self._class_number(label)
        self._missing_label = self._class_number(missing_label)
        self._data, self._split, self._default_split = data, split, default_split
        known_dir = None if self.run is None else recorded_data_dir(self.run)
        self._data_dir = known_dir if data_dir is None else local_path(data_dir)

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

    def open_images(self, data: Any = None, split: SplitName | None = None) -> Split:
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
            images = open_model_images(
                self.model,
                self.run,
                data,
                split,
                default_split=self._default_split,
                data_dir=self._data_dir,
                progress=self.progress,
            )
        return match_model_classes(self.model, images, self.class_names, self.label, self._missing_label)

    def encode(self, images: Split | None = None, *, batch_size: int = 256) -> Encoding:
        """Encodes images; by default those of the session."""
        return encode(
            self.model, images or self.images, batch_size=batch_size, progress=self.progress, engine=self.engine
        )

    def encode_inputs(self, words: Sequence[str]) -> EncodedInputs:
        """Encodes images given by file, position in the session's images, or name."""
        return encode_inputs(self.model, words, lambda: self.images, self.label, engine=self.engine)

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
        z = nearest_latents(self.model, z) if nearest else z
        return decode(self.model, z, labels=labels, levels=levels, engine=self.engine)

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
            labels = batch.labels if self.label is None else torch.full_like(batch.indices, self.label)
            decoded = self.engine.reconstruct(batch.images, batch.labels, decoded_labels=labels, weights=batch.weights)
            yield batch.images.cpu(), decoded.cpu()
            done += len(batch)
            if self.progress:
                self.progress(done, len(positions), "reconstructing (images)")

    def impute(
        self,
        positions: NDArray[np.int64] | None = None,
        *,
        samples: int = 1,
        seed: int = 0,
        batch_size: int = 256,
    ) -> Iterator[tuple[Images, Tensor, Images]]:
        """Iterates over images with missing values, their weights, and the images with imputed values, on the CPU.

        Args:
            positions: positions of the images; by default all.
            samples: latents of each image, see `impute`.
            seed: of the latents.
            batch_size: images per batch.

        Raises:
            ConfigError: the images have no missing values.
        """
        if self.images.missing is None:
            raise ConfigError(f"{self.images.source}: has no missing values. Set data.missing in the recipe")
        batches = iterate_batches(
            self.model,
            self.images,
            indices=positions,
            batch_size=batch_size,
            seed=seed,
            progress=self.progress,
            what="imputing (images)",
        )
        for _, batch in batches:
            assert batch.weights is not None
            labels = batch.labels if self.label is None else torch.full_like(batch.indices, self.label)
            noise = batch.generators("impute")
            found = impute(
                self.model,
                batch.images,
                batch.weights,
                labels,
                samples=samples,
                noise=noise,
                refinement_steps=self.engine.refinement_steps,
            )
            yield batch.images.cpu(), batch.weights.cpu(), found.cpu()

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
