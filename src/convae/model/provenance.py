"""Where a model came from: classes, data and training, as the artifact stores and the model card shows them."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from convae.core.config import Config


class _Facts(Config):
    """Base of stored facts; unknown keys, as of a later version, are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class SplitFacts(_Facts):
    """The images of a split.

    Attributes:
        source: the data set's name.
        split: train, validation, test or all.
        chosen: how the split was made.
        count: number of images.
        channels: of the images.
        size: spatial sizes, height first.
        resize_mode: how images of another aspect ratio were brought to the size.
        skipped: number of files that could not be read.
        content_hash: SHA-256 (hex) of shape, pixels and labels.
    """

    source: str | None = None
    split: str | None = None
    chosen: str | None = None
    count: int | None = None
    channels: int | None = None
    size: tuple[int, ...] | None = None
    resize_mode: str | None = None
    skipped: int | None = None
    content_hash: str | None = None


class TrainingFacts(_Facts):
    """The run that trained a model.

    Attributes:
        recipe: title of the recipe.
        data: the training images.
        step: optimizer steps taken.
        stage: name of the stage that the run was in.
        which: `best on the validation images` or `last`.
        objective: terms by name, with their weights and options.
        validation: metrics on the validation images, nats per image unless the name says otherwise.
        start: SHA-256 (hex) of the model that the run started from; None for random weights.
    """

    recipe: str | None = None
    data: SplitFacts = SplitFacts()
    step: int | None = None
    stage: str | None = None
    which: str | None = None
    objective: dict[str, dict[str, Any]] = Field(default_factory=dict)
    validation: dict[str, float] = Field(default_factory=dict)
    start: str | None = None


class ImportFacts(_Facts):
    """The file of another project that weights were imported from.

    Attributes:
        file: its name.
        importer: which importer read it.
        notes: what it did not take over or had to assume.
        sha256: SHA-256 (hex) of the file; None in artifacts that do not record it.
    """

    file: str
    importer: str
    notes: tuple[str, ...] = ()
    sha256: str | None = None


class Provenance(_Facts):
    """Where a model came from. Nothing here changes what the network computes.

    Attributes:
        classes: names of the class numbers, of a model trained on labeled images.
        data: the recipe's `data` section without the folder of data sets: source, size, channels, split fractions.
        splits: the images of each split at the time of training.
        training: the run that trained it.
        imported: the file it was imported from.
        prior: the run that fitted the prior afterwards; `start` is the SHA-256 of the model before.
    """

    classes: tuple[str, ...] | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    splits: dict[str, SplitFacts] = Field(default_factory=dict)
    training: TrainingFacts | None = None
    imported: ImportFacts | None = None
    prior: TrainingFacts | None = None

    def as_dict(self) -> dict[str, Any]:
        """The known facts, as config.json stores them."""
        return self.model_dump(mode="json", exclude_defaults=True)


def provenance_of_format_1(metadata: Any) -> Any:
    """The `metadata` of an artifact of format 1 under today's keys; what is no mapping stays, and is refused later."""

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
