"""What a person writes about data: which images, at which size, and which of them are held out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from convae.core.arguments import Named, Positive
from convae.core.config import Config
from convae.core.paths import with_absolute_paths
from convae.data.augment import AugmentConfig
from convae.data.pixels import ResizeMode
from convae.data.sources import absolute_source

HeldOut = Annotated[float, Field(ge=0, lt=1)]
"""A share of the images that training never sees."""


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def absolute_data(data: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """What a person writes about data, with absolute paths in place of relative ones.

    Args:
        data: the mapping, still unchecked.
        folder: what relative paths are relative to; by default the working directory.

    Raises:
        ConfigError: a path that cannot be one of this machine.
    """
    found = with_absolute_paths(DataConfig, data, folder)
    return {**found, "source": absolute_source(data["source"], folder)} if "source" in data else found


def _per_axis(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


class DataConfig(Config):
    """The data of a run. A number for `size` means a square."""

    source: Annotated[Named, BeforeValidator(_as_text)] = Field(
        description="a data set's name, or a folder of images", examples=["mnist", "photos/"]
    )
    label: str | None = Field(
        None, description="which of the things known of the images is their label, such as celeba's `Smiling`"
    )
    download: bool = Field(True, description="get a known data set that is not found; $CONVAE_OFFLINE forbids it too")
    dir: Path | None = Field(
        None,
        description="where data sets lie; otherwise $CONVAE_DATA, the user's cache, the system's folders",
    )
    size: Annotated[tuple[Positive, ...] | None, BeforeValidator(_per_axis)] = Field(
        None, description="spatial sizes, height first; otherwise the images' own size"
    )
    channels: Positive | None = Field(None, description="1 gray, 3 RGB, 4 RGBA; otherwise the images' own")
    resize_mode: ResizeMode = Field("crop", description="how an image of another aspect fills the size")
    validation: HeldOut = Field(0.1, description="share of the training images held out, where a set has no own")
    test: HeldOut = Field(0.1, description="share of all images held out, where a set has no test images of its own")
    split_seed: int = Field(0, description="seed of the choice of held-out images")
    augment: AugmentConfig = Field(AugmentConfig(), description="random changes of training images")
