"""Official parts and classes from the folders of a tree of images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convae.core.names import count_text
from convae.data.sources.base.labels import PART_NAMES, look_alike_notes, numbered
from convae.data.sources.base.source import PARTS, Column

CONTAINERS = frozenset({"images", "image", "imgs", "img", "jpegimages", "jpegs", "jpeg", "jpg", "png"})
"""Names of folders that contain images and are not classes."""
_COMPANIONS = frozenset({"masks", "mask", "labels", "label", "annotations", "gt", "groundtruth", "segmentations"})
"""Names of folders that are not classes next to such a folder."""
_UNLABELED = frozenset({"unlabeled", "unlabelled"})
_FILLERS = frozenset({"set", "data", "dataset", "images", "image", "imgs", "img", "split", "part", ""})
_LABELED = 0.5
"""Smallest fraction of training images in class folders; below it, folders are not classes."""

Dirs = tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """Parts and classes of images.

    Attributes:
        classes: class of each image, -1 without one; None if no folder is a class.
        parts: (images,) official parts as indices into `PARTS`; None without parts.
        notes: what was found, and which images have no class or part, one sentence each.
    """

    classes: Column | None
    parts: NDArray[np.int8] | None
    notes: tuple[str, ...]


def read_layout(paths: Sequence[str], annotations: Mapping[str, Mapping[str, str]]) -> Layout:
    """Reads parts and classes from the folders of image files.

    Args:
        paths: paths relative to the root, with `/` as separator.
        annotations: classes by file name, by the folder of the annotation file.
    """
    notes: list[str] = []
    dirs: list[Dirs] = [tuple(path.split("/")[:-1]) for path in paths]
    companions = _companions(dirs)
    dirs = [tuple(name for name in place if not _is_container(name, companions)) for place in dirs]
    depth = _single(dirs)
    if depth:
        notes.append(f"nested single folders were skipped: {'/'.join(dirs[0][:depth])}")
    rest = [place[depth:] for place in dirs]
    heads = {place[0] for place in rest if place}
    parts = None
    if _are_parts(heads):
        numbers = [(_part(place[0]) or 0) if place else 0 for place in rest]
        parts = np.array(numbers, np.int8)
        notes += _part_notes(paths, rest, parts)
        rest = _inside_parts(rest)
    texts = [place[0] if place else "" for place in rest]
    texts = _annotated(paths, texts, annotations, notes)
    return Layout(_classes(paths, texts, parts, notes), parts, tuple(notes))


def read_annotations(text: str) -> dict[str, str]:
    """Classes by file name from lines `file<TAB>class …`, as in Tiny ImageNet."""
    rows = (line.split("\t") for line in text.splitlines())
    return {row[0].strip(): row[1].strip() for row in rows if len(row) > 1}


def _companions(dirs: Iterable[Dirs]) -> set[str]:
    """Names of folders next to an image folder that belong to it, such as masks."""
    beside: dict[Dirs, set[str]] = {}
    for place in set(dirs):
        for level, name in enumerate(place):
            beside.setdefault(place[:level], set()).add(name.lower())
    return {name for names in beside.values() if names & CONTAINERS for name in names & _COMPANIONS}


def _is_container(name: str, companions: set[str]) -> bool:
    return name.lower() in CONTAINERS or name.lower() in companions


def _single(dirs: Sequence[Dirs]) -> int:
    """Number of nested folders that all images share, before the one that is the only class."""
    depth = 0
    while all(len(place) > depth for place in dirs) and len(names := {place[depth] for place in dirs}) == 1:
        if any(len(place) == depth + 1 for place in dirs) and _part(names.pop()) is None:
            break
        depth += 1
    return depth


def _part(name: str) -> int | None:
    """The part named by a folder: `train`, `Test`, `val2017`, `training_set`."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word not in _FILLERS]
    return PART_NAMES.get(words[0]) if len(words) == 1 else None


def _are_parts(heads: set[str]) -> bool:
    found = {_part(name) for name in heads} - {None}
    unlabeled = any(name.lower() in _UNLABELED for name in heads)
    return len(found) > 1 or (len(found) == 1 and unlabeled)


def _part_notes(paths: Sequence[str], rest: Sequence[Dirs], parts: NDArray[np.int8]) -> list[str]:
    """Notes on the parts found, and on images outside of them."""
    counts = np.bincount(parts, minlength=len(PARTS)).tolist()
    listed = ", ".join(f"{name} {count:,}" for name, count in zip(PARTS, counts, strict=True) if count)
    notes = [f"official parts from folders: {listed}"]
    beside = [path for path, place in zip(paths, rest, strict=True) if not place or _part(place[0]) is None]
    if beside:
        notes.append(
            f"{count_text(len(beside), 'image')} outside of the part folders, such as {beside[0]}, used for training "
            "without a label"
        )
    return notes


def _inside_parts(rest: Sequence[Dirs]) -> list[Dirs]:
    """The folders within each part, single ones skipped; empty for images outside of the parts."""
    inner: dict[str, list[Dirs]] = {}
    for place in rest:
        if place and _part(place[0]) is not None:
            inner.setdefault(place[0], []).append(place[1:])
    # A single folder in only some of the parts is a class.
    depth = 1 + min((_single(folders) for folders in inner.values() if any(folders)), default=0)
    return [place[depth:] if place and place[0] in inner else () for place in rest]


def _annotated(
    paths: Sequence[str], texts: Sequence[str], annotations: Mapping[str, Mapping[str, str]], notes: list[str]
) -> list[str]:
    """Classes from folders or, without one, from an annotation file in or above the folder of the image."""
    found = list(texts)
    used = 0
    for index, (path, text) in enumerate(zip(paths, texts, strict=True)):
        pieces = path.split("/")
        for level in range(len(pieces) - 1, -1, -1) if not text else ():
            table = annotations.get("/".join(pieces[:level]), {})
            known = table.get("/".join(pieces[level:]), table.get(pieces[-1]))
            if known is not None:
                found[index] = known
                used += 1
                break
    if used:
        notes.append(f"classes of {count_text(used, 'image')} from annotation files")
    return found


def _classes(
    paths: Sequence[str], texts: Sequence[str], parts: NDArray[np.int8] | None, notes: list[str]
) -> Column | None:
    """The classes, if enough training images have one."""
    trained = np.ones(len(texts), bool) if parts is None else parts == 0
    labeled = np.array([bool(text) for text in texts])
    if not labeled.any():
        return None
    if labeled[trained].sum() < _LABELED * trained.sum():
        notes.append(
            f"only {labeled[trained].sum():,} of {trained.sum():,} training images are in folders, so the folders are"
            " not used as classes"
        )
        return None
    bare = np.flatnonzero(~labeled)
    if len(bare):
        where = Counter("" if parts is None else f" of {PARTS[parts[row]]}" for row in bare)
        listed = ", ".join(f"{count_text(count, 'image')}{part}" for part, count in where.items())
        notes.append(f"images outside of class folders, without a class: {listed}, such as {paths[bare[0]]}")
    if parts is not None:
        known = {text for text, of in zip(texts, trained, strict=True) if of}
        new = sorted({text for text in texts if text} - known)
        if new:
            names = ", ".join(new[:3])
            notes.append(f"{count_text(len(new), 'class')} without training images, such as {names}")
    classes = numbered(texts)
    notes += look_alike_notes(classes.classes or ())
    return classes
