"""Digests of a data set at the start of a run, to detect later changes."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int8, UInt8
from numpy.typing import NDArray

from convae.core.errors import ArtifactError
from convae.core.files import open_regular, write_bytes
from convae.core.names import array_error
from convae.data.sources.base import PARTS
from convae.data.splits.split import Split, digest_values

_NAME_BYTES = 8


@dataclass(frozen=True)
class Snapshot:
    """Digests of the images of a data set.

    Attributes:
        names: (images, 8) digests of the names.
        contents: (images, 16) digests of the content, as in `Split.contents`.
        labels: (images, 8) digests of the class names; zeros without a label.
        parts: (images,) indices into `PARTS`.
        trained: (trained, 16) digests of the content of all images used for training.
    """

    names: UInt8[np.ndarray, "images 8"]
    contents: UInt8[np.ndarray, "images 16"]
    labels: UInt8[np.ndarray, "images 8"]
    parts: Int8[np.ndarray, " images"]
    trained: UInt8[np.ndarray, "trained 16"]

    @classmethod
    def of(cls, split: Split) -> Snapshot:
        """Takes the digests of the split `all`."""
        names = _digests(split.keys)
        labels = np.zeros_like(names)
        if split.labels is not None:
            known, positions = np.unique(split.labels, return_inverse=True)
            texts = [str(number) if split.classes is None else split.classes[number] for number in known[known >= 0]]
            table = np.concatenate([np.zeros((int((known < 0).sum()), _NAME_BYTES), np.uint8), _digests(texts)])
            labels = table[positions.reshape(-1)]
        parts = np.array([PARTS.index(split.part(index)) for index in range(len(split))], np.int8)
        return cls(names, split.contents, labels, parts, split.contents[parts == PARTS.index("train")])

    def write(self, path: Path) -> None:
        """Writes the snapshot as a .npz file.

        Raises:
            OutputError: the file cannot be written.
        """
        stream = io.BytesIO()
        np.savez(stream, **vars(self))
        write_bytes(path, stream.getvalue())

    @classmethod
    def read(cls, path: Path) -> Snapshot | None:
        """Reads a snapshot; None without the file.

        Raises:
            ArtifactError: the file is damaged.
        """
        if not path.is_file():
            return None
        try:
            with open_regular(path) as file, np.load(file, allow_pickle=False) as arrays:
                found = cls(**{name: arrays[name] for name in ("names", "contents", "labels", "parts", "trained")})
            lengths = {len(found.names), len(found.contents), len(found.labels), len(found.parts)}
            if len(lengths) != 1 or found.contents.shape[1:] != found.trained.shape[1:]:
                raise ValueError("arrays of different lengths")
        except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile) as error:
            raise ArtifactError(
                f"{path}: damaged: the record of the training data is unreadable ({array_error(error)})"
            ) from error
        return found

    def trained_also_on(self, later: Snapshot) -> Snapshot:
        """The snapshot with the training images of a later state added, after a resumed training."""
        together = np.concatenate([self.trained, later.trained])
        return replace(self, trained=np.unique(together, axis=0))

    def count_trained(self, split: Split) -> int:
        """Number of images of a split that were used for training."""
        return int(np.isin(digest_values(split.contents), digest_values(self.trained)).sum())


def describe_changes(before: Snapshot, now: Snapshot) -> str | None:
    """Describes the changes between two states of a data set in a sentence; None without changes.

    Renamed images do not count as changed.

    Args:
        before: the state at the start of the run, with all images trained on since.
        now: the current state.
    """
    old_names, new_names = digest_values(before.names), digest_values(now.names)
    old_contents, new_contents = digest_values(before.contents), digest_values(now.contents)
    place = {name: row for row, name in enumerate(old_names.tolist())}
    rows = np.array([place.get(name, -1) for name in new_names.tolist()], np.int64)
    known = rows >= 0
    gone = ~np.isin(old_names, new_names)
    is_new = ~known & ~np.isin(new_contents, old_contents[gone])
    is_gone = gone & ~np.isin(old_contents, new_contents[~known])
    has_changed, is_relabeled, has_moved = (np.zeros(len(rows), bool) for _ in range(3))
    has_changed[known] = new_contents[known] != old_contents[rows[known]]
    is_relabeled[known] = (now.labels[known] != before.labels[rows[known]]).any(1)
    has_moved[known] = now.parts[known] != before.parts[rows[known]]
    has_moved &= ~has_changed
    phrases = []
    for number, part in enumerate(PARTS):
        counts = {
            "added": is_new & (now.parts == number),
            "removed": is_gone & (before.parts == number),
            "changed": has_changed & (now.parts == number),
            "moved from another split": has_moved & (now.parts == number),
            "relabeled": is_relabeled & (now.parts == number),
        }
        counted = [f"{int(which.sum()):,} {what}" for what, which in counts.items() if which.any()]
        phrases += [f"{part} {', '.join(counted)}"] if counted else []
    if not phrases:
        return None
    was_trained = np.isin(new_contents, digest_values(before.trained))
    held_out = [
        f"{int((was_trained & (now.parts == number)).sum()):,} of {int((now.parts == number).sum()):,} {part} images"
        for number, part in enumerate(PARTS)
        if part != "train" and (now.parts == number).any()
    ]
    text = f"the data changed since the run began: {'; '.join(phrases)}"
    return f"{text}; already used for training: {', '.join(held_out)}" if held_out else text


def _digests(texts: Iterable[str]) -> NDArray[np.uint8]:
    """(texts, 8) digest of each string."""
    raw = b"".join(hashlib.blake2b(_encoded(text), digest_size=_NAME_BYTES).digest() for text in texts)
    return np.frombuffer(raw, np.uint8).reshape(-1, _NAME_BYTES)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
