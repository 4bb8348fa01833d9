"""Configuration of the data: source, size, held-out images and augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from convae.core.arguments import Fraction, Named, Positive
from convae.core.config import Config
from convae.core.paths import with_absolute_paths
from convae.data.augment import AugmentConfig
from convae.data.binarize import Binarization
from convae.data.images.pixels import Interpolation, ResizeMode
from convae.data.missing import Missing, Origin
from convae.data.sources import absolute_source

HeldOut = Annotated[float, Field(ge=0, lt=1)]
"""Fraction of held-out images."""


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def absolute_data(data: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """The configuration of the data with absolute paths.

    Args:
        data: the mapping, not validated.
        folder: base of relative paths; by default the working directory.

    Raises:
        ConfigError: an invalid path.
    """
    found = with_absolute_paths(DataConfig, data, folder)
    return {**found, "source": absolute_source(data["source"], folder)} if "source" in data else found


def _per_axis(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


class DataConfig(Config):
    """The data of a run. A number for `size` means a square."""

    source: Annotated[Named, BeforeValidator(_as_text)] = Field(
        description="name of a data set, or path of a folder of images", examples=["mnist", "photos/"]
    )
    label: str | None = Field(None, description="column that is the label, such as celeba's `Smiling`")
    download: bool = Field(True, description="download a missing data set; $CONVAE_OFFLINE forbids it")
    dir: Path | None = Field(
        None,
        description="folder of data sets; by default $CONVAE_DATA, the user's cache and the system's folders",
    )
    size: Annotated[tuple[Positive, ...] | None, BeforeValidator(_per_axis)] = Field(
        None, description="spatial sizes, height first; by default the size of the images"
    )
    channels: Positive | None = Field(None, description="1 gray, 3 RGB, 4 RGBA; by default that of the images")
    resize_mode: ResizeMode = Field("crop", description="resizing to another aspect ratio: crop, pad or squash")
    interpolation: Interpolation = Field(
        "bicubic", description="antialiased resizing: bicubic, or bilinear as torchvision's by default"
    )
    validation: HeldOut = Field(
        0.1, description="fraction of training images held out, unless there is a validation part"
    )
    test: HeldOut = Field(0.1, description="fraction of all images held out, unless there is a test part")
    split_seed: int = Field(0, description="seed of the held-out images")
    augment: AugmentConfig = Field(AugmentConfig(), description="data augmentation")
    binarize: Binarization | None = Field(
        None,
        description="pixels of 0 or 1: `dynamic` draws them with the gray value as the probability, again in each "
        "epoch and once for held-out images; `fixed` draws them once; `threshold` compares them with 0.5",
    )
    missing: Annotated[float, Field(gt=0, lt=1)] | Origin | None = Field(
        None,
        description="how missing pixels are known: `nan` of floats, the array `mask` of a .npz file, or `alpha` of "
        "colors; or a fraction of the pixels of each image to drop at random, for tests",
    )
    fill: Fraction = Field(0.0, description="what the encoder sees in place of a missing value")

    @model_validator(mode="after")
    def _whole_where_augmented(self) -> DataConfig:
        if self.missing is not None and self.augment != AugmentConfig():
            raise ValueError("augment is not supported with missing values. Remove augment")
        return self

    def missing_values(self, *, stored: bool) -> Missing | None:
        """How missing values are known; None where all values are observed.

        Args:
            stored: whether images are in a store, which keeps weights in a channel.
        """
        if self.missing is None:
            return None
        if isinstance(self.missing, float):
            return Missing(None, self.missing, self.fill, False)
        return Missing(self.missing, 0.0, self.fill, stored)
