"""Tables of images that commands write: for pandas, R and spreadsheets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convae.data import Split


def columns_of(split: Split) -> dict[str, Any]:
    """The columns that say which image a row is of: `name`, `split`, `class`, `label`."""
    from convae.latents.formats import image_columns

    labels = None if split.labels is None else split.labels.tolist()
    return image_columns(split.keys, [split.part(index) for index in range(len(split))], labels, split.classes)


def sorted_by(table: dict[str, Any], order: list[int]) -> dict[str, Any]:
    """The rows of a table in another order."""
    return {name: [column[index] for index in order] for name, column in table.items()}
