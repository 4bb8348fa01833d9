"""Report on a source of images from file headers only, before anything is decoded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from convae.core.names import count_text, shape_text
from convae.core.progress import Progress
from convae.data.config import DataConfig
from convae.data.data_dirs import find_data_dirs
from convae.data.images.headers import Header
from convae.data.sources import open_source
from convae.data.sources.base import PARTS, Listing
from convae.data.store.cache import survey

_SIDES = (16, 32, 64, 128)
"""Proposed side lengths; larger ones would train for hours."""
_SHOWN = 5


@dataclass
class Contents:
    """Statistics of image headers.

    Attributes:
        sizes, modes, bits, formats: number of images with each.
        paged: number of multi-page files.
        pages: number of pages in all files.
        transparent: number of images with transparency.
        unreadable: (name, reason) of each file without a readable header.
    """

    sizes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    bits: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    paged: int = 0
    pages: int = 0
    transparent: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, header: Header | str) -> None:
        """Counts one image."""
        if isinstance(header, str):
            self.unreadable.append((name, header))
            return
        self.sizes[header.size] += 1
        self.modes[header.mode] += 1
        self.bits[f"{header.bits}{' (float)' if header.is_float else ''}"] += 1
        self.formats[header.format] += 1
        self.paged += len(header.pages) > 1
        self.pages += len(header.pages)
        self.transparent += header.transparent


@dataclass(frozen=True)
class Preview:
    """Report on a source with images of several sizes.

    Attributes:
        source: name of the source.
        rows: (name, text) pairs of the report.
        size: proposed side of a square.
        notes: notes for the user, one sentence each.
    """

    source: str
    rows: list[tuple[str, str]]
    size: int
    notes: tuple[str, ...]


def preview(config: DataConfig, progress: Progress | None = None) -> Preview | None:
    """Reports on images of several sizes; None if they share one, or `config` sets one.

    Raises:
        ConfigError: unknown data set, or invalid arguments.
        DataError: it is missing or unreadable.
    """
    if config.size is not None:
        return None
    source = open_source(config.source, find_data_dirs(config.dir, config.download))
    source.prepare(progress)
    if survey(source, source.fingerprint(), progress).size is not None:
        return None
    contents = Contents()
    for name, header in source.headers(progress):
        contents.add(name, header)
    listing = source.listing()
    notes = [*listing.notes]
    if contents.paged:
        notes.append(
            "only the first page of multi-page files is read. Set `pages: all`, volume or channels to read all"
        )
    if len(contents.bits) > 1:
        notes.append("images of several bit depths, each scaled by its own range")
    return Preview(source.name, _rows(listing, contents), _proposed_size(contents), tuple(notes))


def _rows(listing: Listing, contents: Contents) -> list[tuple[str, str]]:
    """The rows of the report."""
    count = sum(contents.sizes.values())
    rows = [("images", f"{len(listing.names):,}")]
    if contents.sizes:
        areas = sorted(contents.sizes, key=math.prod)
        sides = f"sides from {min(map(min, areas))} to {max(map(max, areas))}"
        rows += [
            ("sizes", f"{shape_text(areas[0])} … {shape_text(areas[-1])} (height × width), {sides}"),
            ("most frequent", _listed((shape_text(size), n) for size, n in contents.sizes.most_common(_SHOWN))),
        ]
        if len(contents.sizes) > _SHOWN:
            rows[-1] = (rows[-1][0], f"{rows[-1][1]}; {len(contents.sizes) - _SHOWN:,} other sizes")
    rows += [
        ("formats", _listed(contents.formats.most_common())),
        ("modes", _listed(contents.modes.most_common())),
        ("bits per value", _listed(contents.bits.most_common())),
    ]
    if contents.paged:
        rows.append(("pages", f"{contents.pages:,} in {count_text(count, 'file')}, {contents.paged:,} with several"))
    if contents.transparent:
        rows.append(("transparency", transparency_text(contents.transparent, count)))
    if listing.parts is not None:
        numbers = Counter(listing.parts.tolist())
        rows.append(("official parts", _listed((PARTS[part], numbers[part]) for part in sorted(numbers))))
    for name, column in listing.columns.items():
        counts = Counter(column.values.tolist())
        texts = [
            (str(kind) if column.classes is None else column.classes[kind], counts[kind])
            for kind in sorted(counts)
            if kind >= 0
        ]
        listed = _listed(texts) if len(texts) <= 12 else f"{len(texts):,} different values"
        rows.append((f"column {name}", listed + (f"; without one: {counts[-1]:,}" if counts[-1] else "")))
    broken = [*listing.skipped, *contents.unreadable]
    if broken:
        first = f"{broken[0][0]} ({broken[0][1]})"
        rows.append(("unreadable", first if len(broken) == 1 else f"{len(broken):,}, the first is {first}"))
    return rows


def transparency_text(count: int, of: int) -> str:
    """Text on the treatment of transparent images."""
    return f"{count:,} of {of:,} images, composited over white; channels=4 keeps it"


def _proposed_size(contents: Contents) -> int:
    """The side of a square that most images fill without upscaling."""
    sides = sorted(min(size) for size in contents.sizes.elements())
    usual = sides[len(sides) // 4] if sides else _SIDES[0]
    return max((side for side in _SIDES if side <= usual), default=_SIDES[0])


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    return "; ".join(f"{name}: {count:,}" for name, count in counts)
