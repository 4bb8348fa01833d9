"""A list of image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from convae.data.image_files import ImageFiles, Megapixels
from convae.data.images import MEGAPIXELS
from convae.data.places import Places
from convae.data.sources.base import Listing


class Files(ImageFiles):
    """The image files of a list, in its order; there are no labels.

    Args:
        places: not used.
        paths: of the files; one that stands there twice is there twice.
        megapixels: the most pixels that an image may have, in millions; larger ones are skipped.
    """

    def __init__(
        self,
        places: Places,
        *,
        paths: Annotated[list[Path], Field(min_length=1)],
        megapixels: Megapixels = MEGAPIXELS,
    ) -> None:
        super().__init__(places, Path(), megapixels)
        self._listed = [str(path.expanduser().absolute()) for path in paths]

    def listing(self) -> Listing:
        """The files."""
        return Listing(self._paths, stamps=self._stamps)

    def lineage(self) -> str:
        """The files: another list is another data set."""
        return f"{super().lineage()} {self._paths}"

    @property
    def _paths(self) -> Sequence[str]:
        return self._listed
