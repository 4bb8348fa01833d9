"""A list of image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from convae.core.paths import absolute_path
from convae.data.data_dirs import DataDirs
from convae.data.images.ranges import ValueRange
from convae.data.images.reading import MEGAPIXELS
from convae.data.sources.base import Listing
from convae.data.sources.base.image_files import ImageFiles, Megapixels, Pages


class Files(ImageFiles):
    """The image files of a list, in order, without labels.

    Args:
        data_dirs: not used.
        paths: paths of the files, with repetitions.
        megapixels: size limit of an image in millions of pixels; larger ones are skipped.
        range: the values mapped to 0 and 1, such as [0, 4095]; by default the range of the type of each file. A file of
            a narrower type keeps the range of its type.
        pages: treatment of multi-page files, such as stacks and animations: only the `first` page, `all` pages as
            images, or one image with the pages as `volume` or `channels`.
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
        super().__init__(data_dirs, path=Path(), megapixels=megapixels, range=range, pages=pages)
        self._listed = [str(absolute_path(path)) for path in paths]

    def listing(self) -> Listing:
        """The files."""
        return self._expanded({}, None)

    def lineage(self) -> str:
        """The list of files."""
        return f"{super().lineage()} {self._paths}"

    @property
    def _paths(self) -> Sequence[str]:
        return self._listed
