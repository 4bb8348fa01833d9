"""Images listed in a CSV or JSON lines table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from convae.core.errors import DataError
from convae.core.names import count_text, unknown_message
from convae.data.io.tables import PATHS, read_manifest
from convae.data.sources.base import Listing
from convae.data.sources.base.image_files import ImageFiles
from convae.data.sources.base.labels import look_alike_notes, numbered, part_numbers

_PARTS = ("split", "part")
_UNLABELED = "-1"
"""Among whole numbers, the customary one of a missing class."""


class Manifest(ImageFiles):
    """The images in a table with one row per image: CSV with a header, or JSON lines.

    Paths are in a column `path`, `file`, `file_name`, `filename` or `image`, absolute or relative to the folder of the
    table. A column `split` or `part` has the official parts. All other columns are kept as classes; an empty value is
    missing, as is -1 in a column of integers from 0. The label is the column `label` or `class`, or the only one.

    Args:
        data_dirs: not used.
        path: the table.
        megapixels: size limit of an image in millions of pixels; larger ones are skipped.
        range: the values mapped to 0 and 1, such as [0, 4095]; by default the range of the type of each file. A file of
            a narrower type keeps the range of its type.
        pages: treatment of multi-page files, such as stacks and animations: only the `first` page, `all` pages as
            images, or one image with the pages as `volume` or `channels`.
    """

    @property
    def _table(self) -> Path:
        return self._path

    @property
    def _root(self) -> Path:
        return self._path.parent

    @property
    def name(self) -> str:
        """Name of the table."""
        return f"manifest {self._table.name}"

    def fingerprint(self) -> str:
        """The files and the rows."""
        return f"{super().fingerprint()} {self._rows}"

    def lineage(self) -> str:
        """The folder, the limit and the table."""
        return f"{super().lineage()} {self._table.name}"

    def listing(self) -> Listing:
        """The rows."""
        texts = {key: [row[key] for row in self._rows] for key in self._rows[0] if key != self._key}
        part = next((name for name in _PARTS if name in texts), None)
        parts = None if part is None else part_numbers(texts.pop(part), str(self._table))
        unlabeled = {name: count for name, values in texts.items() if (count := _count_unlabeled(values))}
        texts |= {name: ["" if text == _UNLABELED else text for text in texts[name]] for name in unlabeled}
        columns = {name: numbered(values) for name, values in texts.items()}
        label = next((name for name in columns if name in {"label", "class"} or len(columns) == 1), None)
        notes = [
            f"{name} {_UNLABELED} of {count_text(count, 'row')} is read as none" for name, count in unlabeled.items()
        ]
        if label is not None:
            notes += look_alike_notes(columns[label].classes or ())
        return self._expanded(columns, label, parts, notes=notes)

    @cached_property
    def _paths(self) -> Sequence[str]:
        paths = [row[self._key] for row in self._rows]
        twice, count = Counter(paths).most_common(1)[0]
        if count > 1:
            raise DataError(f"{self._table}: lists {twice} more than once")
        return paths

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        return read_manifest(self._table)

    @cached_property
    def _key(self) -> str:
        found = [name for name in PATHS if name in self._rows[0]]
        if not found:
            raise DataError(f"{self._table}: {unknown_message('column of paths', PATHS[0], self._rows[0])}")
        return found[0]


def _count_unlabeled(texts: Sequence[str]) -> int:
    """How many rows of a column of class numbers say that there is no class."""
    counts = Counter(texts)
    numbers = [text for text in counts if text not in {"", _UNLABELED}]
    return counts[_UNLABELED] if numbers and all(text.isdecimal() for text in numbers) else 0
