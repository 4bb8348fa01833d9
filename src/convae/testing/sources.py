"""Contract test of data sources."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from convae.core.errors import DataError
from convae.core.names import count_text
from convae.data.data_dirs import DataDirs
from convae.data.images.conversion import preprocess
from convae.data.sources import SOURCES, open_source
from convae.data.sources.base import Listing, Record, Source
from convae.testing.entries import name_of, no_errors, require

_READ = 32
"""Number of images that several threads read."""


def check_source(
    source: str | type[Source], options: Mapping[str, Any] | None = None, *, folder: Path | None = None
) -> None:
    """Checks the contract of a data source: its records match its survey and its listing.

    Args:
        source: class or registered name.
        options: its configuration, as in a recipe.
        folder: folder of its files, if it has files; nothing is downloaded.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(SOURCES, source)
    where = f"data set {name}"
    with no_errors(where):
        opened, again = (
            open_source({name: dict(options or {})}, DataDirs(() if folder is None else (folder,))) for _ in range(2)
        )
        for each in (opened, again):
            each.prepare()
        survey, listing = opened.survey(), opened.listing()
        again.listing()
        _check_listing(listing, where)
        require(opened.fingerprint(), f"{where}: its fingerprint is empty")
        require(opened.fingerprint() == again.fingerprint(), f"{where}: its fingerprint differs between two calls")
        for index in (0, len(listing.names) - 1):
            image = f"{where}, image {index}"
            record = opened.record(index, survey.size or (16, 16))
            require(
                survey.size in (None, record.size),
                f"{image}: has the size {record.size}, but the survey states {survey.size}",
            )
            size = record.size if survey.size is None else survey.size
            pixels = preprocess(record.pixels, size, kind=survey.kind)
            require(
                pixels.dtype == survey.kind,
                f"{image}: has the type {pixels.dtype}, but the survey states {survey.kind}",
            )
            require(
                survey.channels in (None, pixels.shape[-1]),
                f"{image}: has {count_text(pixels.shape[-1], 'channel')}, but the survey states {survey.channels}",
            )
            other = preprocess(again.record(index, size).pixels, size, kind=survey.kind)
            require(np.array_equal(pixels, other), f"{image}: differs when it is read again")
        _check_threads(opened, len(listing.names), survey.size or (16, 16), where)


def _check_threads(opened: Source, count: int, near: tuple[int, ...], where: str) -> None:
    """Checks that several threads read the images that one does."""
    indices = sorted({number * (count - 1) // (_READ - 1) for number in range(_READ)})

    def read(index: int) -> Record | None:
        """None for an image that cannot be read, which is skipped."""
        try:
            return opened.record(index, near)
        except DataError:
            return None

    alone = [None if record is None else np.array(record.pixels) for record in map(read, indices)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            try:
                records = list(pool.map(read, indices))
            except Exception as error:
                raise AssertionError(f"{where}: cannot be read by several threads ({error}). Use a lock") from error
            for index, own, record in zip(indices, alone, records, strict=True):
                same = record is None if own is None else record and np.array_equal(own, np.array(record.pixels))
                require(
                    same,
                    f"{where}, image {index}: differs when several threads read. Use a lock, and a new array each time",
                )


def _check_listing(listing: Listing, where: str) -> None:
    count = len(listing.names)
    require(count, f"{where}: lists no images")
    require(len(set(listing.names)) == count, f"{where}: the listing has duplicate names")
    known = listing.label is None or listing.label in listing.columns
    require(known, f"{where}: its label {listing.label!r} is not one of its columns")
    for key, column in listing.columns.items():
        require(
            len(column.values) == count,
            f"{where}: column {key} must have {count_text(count, 'value')}, got {len(column.values)}",
        )
        if column.classes is not None:
            inside = set(np.unique(column.values)) <= set(range(-1, len(column.classes)))
            require(inside, f"{where}: column {key} has invalid class numbers. They count from 0; -1 is missing")
    for what, values in (("parts", listing.parts), ("stamps", listing.stamps)):
        require(values is None or len(values) == count, f"{where}: its {what} must have one value per image")
