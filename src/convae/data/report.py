"""What a folder of images holds, by the headers of its files alone: before anything is decoded or decided."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from convae.core.names import shape_text
from convae.core.progress import Progress
from convae.data.cache import survey
from convae.data.config import DataConfig
from convae.data.data_dirs import find_data_dirs
from convae.data.headers import Header
from convae.data.sources import open_source
from convae.data.sources.base import PARTS, Listing

_SIDES = (16, 32, 64, 128)
"""Sides that are proposed: larger ones cost a beginner hours."""
_SHOWN = 5


@dataclass
class Contents:
    """What the headers of images say.

    Attributes:
        sizes, modes, bits, formats: how many images have each.
        paged: files of several pages.
        pages: pages of all files.
        transparent: images with transparency.
        unreadable: (name, reason) of each that has no header.
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
    """What a source of images of several sizes holds.

    Attributes:
        source: its name.
        rows: names and texts of what it holds.
        size: a size that most of the images fill, for a square.
        notes: what a person should know of it, a sentence each.
    """

    source: str
    rows: list[tuple[str, str]]
    size: int
    notes: tuple[str, ...]


def preview(config: DataConfig, progress: Progress | None = None) -> Preview | None:
    """What images of several sizes are, by their headers; None where they share one, or `config` has one.

    Raises:
        ConfigError: no such data set, or wrong arguments of it.
        DataError: it is missing, or cannot be read now.
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
            "of files of several pages, only the first is used; `pages: all`, volume or channels uses them all"
        )
    if len(contents.bits) > 1:
        notes.append("images of several bit depths, each spread over its own range")
    return Preview(source.name, _rows(listing, contents), _proposed_size(contents), tuple(notes))


def _rows(listing: Listing, contents: Contents) -> list[tuple[str, str]]:
    """Names and texts of what a source holds, a row each."""
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
        ("bits a value", _listed(contents.bits.most_common())),
    ]
    if contents.paged:
        rows.append(("pages", f"{contents.pages:,} in {count:,} files, {contents.paged:,} of which have several"))
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
    """What becomes of transparent images."""
    return f"{count:,} of {of:,} images, laid over white; channels=4 keeps it"


def _proposed_size(contents: Contents) -> int:
    """The side of a square that the images fill without being enlarged, as far as most of them go."""
    sides = sorted(min(size) for size in contents.sizes.elements())
    usual = sides[len(sides) // 4] if sides else _SIDES[0]
    return max((side for side in _SIDES if side <= usual), default=_SIDES[0])


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    return "; ".join(f"{name}: {count:,}" for name, count in counts)
