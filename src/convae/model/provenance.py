"""Provenance of a model: classes, data and training, as stored in the artifact and shown on the model card."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from pydantic import ConfigDict, Field

from convae.core.config import Config


class _Facts(Config):
    """Base class of stored facts; unknown keys, such as those of a later version, are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class SplitFacts(_Facts):
    """The images of a split.

    Attributes:
        source: name of the data set.
        split: train, validation, test or all.
        chosen: how the split was chosen: `official`, or by fraction and seed.
        count: number of images.
        channels: number of channels.
        size: spatial sizes, height first.
        resize_mode: how images of another aspect ratio were resized.
        interpolation: how pixels were interpolated in resizing; None for bicubic.
        skipped: number of unreadable files.
        content_hash: SHA-256 (hex) of shape, pixels and labels.
    """

    source: str | None = None
    split: str | None = None
    chosen: str | None = None
    count: int | None = None
    channels: int | None = None
    size: tuple[int, ...] | None = None
    resize_mode: str | None = None
    interpolation: str | None = None
    skipped: int | None = None
    content_hash: str | None = None


class TrainingFacts(_Facts):
    """Facts about the training of a model.

    Attributes:
        recipe: title of the recipe.
        data: the training images.
        step: number of optimizer steps.
        stage: name of the stage at that step.
        which: `best on the validation images` or `last`.
        objective: terms by name, with their weights and options.
        encoder_objective: that of the training of the encoder, if this one had encoder and bottleneck frozen: empty if
            it is not known. None if they were trained.
        validation: metrics on the validation images, in nats per image unless the name says otherwise.
        start: SHA-256 (hex) of the initial model; None for random weights.
    """

    recipe: str | None = None
    data: SplitFacts = SplitFacts()
    step: int | None = None
    stage: str | None = None
    which: str | None = None
    objective: dict[str, dict[str, Any]] = Field(default_factory=dict)
    encoder_objective: dict[str, dict[str, Any]] | None = None
    validation: dict[str, float] = Field(default_factory=dict)
    start: str | None = None


class ImportFacts(_Facts):
    """The file of another project from which weights were imported.

    Attributes:
        file: name of the file.
        importer: name of the importer.
        notes: what was not imported or was assumed.
        sha256: SHA-256 (hex) of the file; None if not recorded.
        source: where it was downloaded from, with the revision; None for a local file.
    """

    file: str
    importer: str
    notes: tuple[str, ...] = ()
    sha256: str | None = None
    source: str | None = None


class LatentScale(_Facts):
    """How a generator takes the latents: (z − mean) / std · factor, for all channels or for each.

    Attributes:
        mean: one number for all channels, or one per channel; empty for 0.
        std: one number for all channels, or one per channel; empty for 1.
        factor: multiplied last; the `scaling_factor` of diffusers.
        patch: sizes of the patches whose positions are channels first, as by `pixel-unshuffle`; empty for none.
        source: the configuration or the images that it comes from.
        images: number of the images it was measured on; None if it was not measured here.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    factor: float = 1.0
    patch: tuple[int, ...] = ()
    source: str | None = None
    images: int | None = None


class Provenance(_Facts):
    """Provenance of a model; it does not affect what the network computes.

    Attributes:
        classes: class names, for a model trained on labeled images.
        data: section `data` of the recipe, without its `dir`.
        splits: facts about each split at the time of training.
        training: facts about the training.
        imported: the file from which it was imported.
        prior: facts about fitting the prior afterwards; `start` is the SHA-256 of the model before.
        latent_scale: how a generator takes the latents; None if unknown. A model that is trained further keeps it.
        published: what an imported configuration states besides the network, for export; kept likewise.
        source: where the artifact was pulled from, pinned: `hf:OWNER/NAME@COMMIT`, or a URL and a SHA-256.
    """

    classes: tuple[str, ...] | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    splits: dict[str, SplitFacts] = Field(default_factory=dict)
    training: TrainingFacts | None = None
    imported: ImportFacts | None = None
    prior: TrainingFacts | None = None
    latent_scale: LatentScale | None = None
    published: dict[str, Any] = Field(default_factory=dict)
    source: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The known facts, as stored in config.json."""
        return self.model_dump(mode="json", exclude_defaults=True)


def without_folders(facts: Any) -> Any:
    """Facts in which each absolute path is its last part: `/home/me/cats` is `cats`.

    Args:
        facts: values of JSON.
    """
    if isinstance(facts, dict):
        return {key: without_folders(value) for key, value in facts.items()}
    if isinstance(facts, list):
        return [without_folders(value) for value in facts]
    for kind in (PurePosixPath, PureWindowsPath):
        if isinstance(facts, str) and kind(facts).is_absolute():
            return kind(facts).name or facts
    return facts


def provenance_of_format_1(metadata: Any) -> Any:
    """The `metadata` of an artifact of format 1 with current keys; other types are returned for validation."""

    def renamed(facts: Any, old: str, new: str) -> Any:
        return {new if key == old else key: value for key, value in facts.items()} if isinstance(facts, dict) else facts

    if not isinstance(metadata, dict):
        return metadata
    found = {key: value for key, value in metadata.items() if value is not None}
    if "data" in found:
        found["data"] = renamed(found["data"], "fit", "resize_mode")
    if "imported" in found:
        found["imported"] = renamed(found["imported"], "as", "importer")
    if isinstance(found.get("training"), dict) and "data" in found["training"]:
        found["training"] = {**found["training"], "data": renamed(found["training"]["data"], "fit", "resize_mode")}
    return found
