"""A list of image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from convae.core.paths import absolute_path
from convae.data.data_dirs import DataDirs
from convae.data.image_reading import MEGAPIXELS
from convae.data.ranges import ValueRange
from convae.data.sources.base import Listing
from convae.data.sources.base.image_files import ImageFiles, Megapixels, Pages


class Files(ImageFiles):
    """The image files of a list, in its order; there are no labels.

    Args:
        data_dirs: not used.
        paths: of the files; one that stands there twice is there twice.
        megapixels: the most pixels that an image may have, in millions; larger ones are skipped.
        range: the values that become 0 and 1, such as [0, 4095]; by default those of each file's type. A file of a type
            that does not reach so far keeps its own.
        pages: what becomes of files of several pages, such as stacks and animations: the `first` page is the image,
            `all` pages are images, or they are one image: a `volume`, or its `channels`.
    """

    def __init__(
        self,
        data_dirs: DataDirs,
        *,
        paths: Annotated[list[Path], Field(min_length=1)],
        megapixels: Megapixels = MEGAPIXELS,
        range: ValueRange | None = None,
        pages: Pages = "first",
    ) -> None:
        super().__init__(data_dirs, Path(), megapixels, range, pages)
        self._listed = [str(absolute_path(path)) for path in paths]

    def listing(self) -> Listing:
        """The files."""
        return self._expanded({}, None)

    def lineage(self) -> str:
        """The files: another list is another data set."""
        return f"{super().lineage()} {self._paths}"

    @property
    def _paths(self) -> Sequence[str]:
        return self._listed
