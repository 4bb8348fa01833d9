"""Folders of latents: files of several thousand images each and their manifest, written and read a file at a time."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convae.core.errors import ConfigError, DataError, OutputError
from convae.core.files import clear_leftovers, read_bytes, write_json, writing_errors
from convae.core.names import shape_text
from convae.core.paths import local_path
from convae.core.progress import Progress
from convae.core.version import VERSION
from convae.data import Split
from convae.latents import formats
from convae.latents.encoding import Encoding, encode
from convae.latents.statistics import Moments
from convae.model.artifact import autoencoder_fingerprint
from convae.model.vae import VAE

FORMAT = 2
MANIFEST = "latents.json"
SHARD = 4096
"""Images in a file."""
_LARGEST = 64 << 20
"""Bytes of the largest manifest that is read."""
_OWN = re.compile(rf"latents-\d{{5,}}-of-\d{{5,}}\.({'|'.join(formats.FORMATS)})")
"""The names of the files that `encode_to` writes next to the manifest."""


@dataclass(frozen=True)
class FileShard:
    """Which of the files this process writes: those whose number leaves `rank` when divided by `ranks`."""

    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise ConfigError(f"process {self.rank} of {self.ranks}: there are {self.ranks}, counted from 0")


def encode_to(
    model: VAE,
    split: Split,
    folder: str | Path,
    *,
    format: str = "safetensors",
    shard: FileShard | None = None,
    batch_size: int = 256,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Writes the posteriors of a split as files of 4,096 images each, so that memory holds the latents of two files.

    A file appears whole or not at all. Existing files are kept, if the manifest next to them says that
    they come from the same model and images: a run that was killed continues, and ends with the same files. With the
    last file, the manifest gets the `statistics` of the latents.

    Args:
        model: is left in the mode that it is in.
        split: the images.
        folder: for the files and their manifest, `latents.json`.
        format: `safetensors`, `npz`, `csv`, or `parquet` from the extra of that name.
        shard: of the files, where several processes write them.
        batch_size: images at a time.
        force: whether latents that are in the folder already are removed first, and nothing else.
        progress: called with the number of images that are done.

    Returns:
        The manifest's path.

    Raises:
        ConfigError: no such format, or its package is not installed.
        OutputError: the folder holds other latents, or cannot be written.
        ShapeError: the images do not have the model's input shape.
        DataError: a latent is not finite.
    """
    folder, shard = local_path(folder), shard or FileShard()
    write = formats.find_writer(format)
    count = -(-len(split) // SHARD)
    names = [f"latents-{number + 1:05d}-of-{count:05d}.{format}" for number in range(count)]
    manifest = {
        "format": FORMAT,
        "convae": VERSION,
        "model": {
            "name": model.name,
            "sha256": autoencoder_fingerprint(model),
            "latent_shape": list(model.latent_shape),
        },
        "data": split.describe(),
        "classes": None if split.classes is None else list(split.classes),
        "files": names,
    }
    made = not folder.exists()
    todo = _prepare(folder, manifest, shard, force)
    try:
        _encode_files(model, split, folder, manifest, todo, write, batch_size, progress)
    except BaseException:
        if made:
            with contextlib.suppress(OSError):  # it holds files by now
                folder.rmdir()
        raise
    _add_statistics(folder, manifest)
    return folder / MANIFEST


def _add_statistics(folder: Path, manifest: dict[str, Any]) -> None:
    """Adds the statistics of the latents to the manifest, once all files are there."""
    names, shape = manifest["files"], tuple(manifest["model"]["latent_shape"])
    if all((folder / name).exists() for name in names):
        # From the files, so that a run that went on ends with the same manifest, whichever process is the last.
        moments = Moments(shape)
        for name in names:
            moments.add(formats.read_encoding(folder / name, shape))
        write_json(folder / MANIFEST, {**manifest, "statistics": moments.describe()})


def _prepare(folder: Path, manifest: dict[str, Any], shard: FileShard, force: bool) -> list[int]:
    """Makes the folder, removes what is to be replaced, and gives the numbers of the files that are left to write.

    Raises:
        OutputError: the folder holds other latents, or cannot be written.
    """
    names = manifest["files"]
    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        other = _what_differs(folder, manifest)
        if other and not force:
            raise OutputError(f"{folder}: {other}; choose another folder, or replace them with force (--force)")
        if force:
            _remove(folder, names[shard.rank :: shard.ranks] if other is None else None)
        todo = [n for n in range(shard.rank, len(names), shard.ranks) if not (folder / names[n]).exists()]
        for name in [names[number] for number in todo] + [MANIFEST] * (shard.ranks == 1):
            clear_leftovers(folder / name)
    return todo


def _encode_files(
    model: VAE,
    split: Split,
    folder: Path,
    manifest: dict[str, Any],
    todo: Sequence[int],
    write: Callable[[Path, Encoding], None],
    batch_size: int,
    progress: Progress | None,
) -> None:
    """Encodes the images of some files and writes them, after the manifest."""
    ends = [min((number + 1) * SHARD, len(split)) for number in todo]
    total = sum(end - number * SHARD for number, end in zip(todo, ends, strict=True))
    done = 0
    # A file is written while the next is encoded, and no more than one is waited for.
    with ThreadPoolExecutor(1) as background:
        written: Future[None] | None = None
        for number, end in zip(todo, ends, strict=True):
            report = _offset(progress, done, total)
            indices = np.arange(number * SHARD, end)
            encoding = encode(model, split, indices=indices, batch_size=batch_size, progress=report)
            if not (folder / MANIFEST).exists():
                write_json(folder / MANIFEST, manifest)
            if written is not None:
                written.result()
            written = background.submit(write, folder / manifest["files"][number], encoding)
            done += len(encoding)
        if written is not None:
            written.result()


def _what_differs(folder: Path, manifest: dict[str, Any]) -> str | None:
    """What other latents a folder holds than those of a manifest; None where there are none."""
    path = folder / MANIFEST
    if not path.exists():
        return "holds files of latents without their manifest" if _written(folder) else None
    try:
        there = json.loads(read_bytes(path, _LARGEST))
        there.pop("statistics", None)
        model, data = there["model"], there["data"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"its {MANIFEST} is damaged"
    if model.get("sha256") != manifest["model"]["sha256"]:
        return f"holds latents of another model, '{model.get('name')}'"
    if data != json.loads(json.dumps(manifest["data"])):
        return f"holds latents of other images, {data.get('count')} of {data.get('source')} ({data.get('split')})"
    if there.get("files") != manifest["files"]:
        formats_there = sorted({Path(str(name)).suffix[1:] for name in there.get("files") or ()})
        return f"holds the same latents in another format, {', '.join(formats_there)}"
    if (there.get("format"), there.get("convae")) != (FORMAT, VERSION):
        return f"holds latents that convae {there.get('convae')} wrote"
    return None


def _written(folder: Path) -> list[Path]:
    """The files in a folder that have the names `encode_to` gives."""
    return [path for path in sorted(folder.iterdir()) if _OWN.fullmatch(path.name) and not path.is_dir()]


def _remove(folder: Path, names: Sequence[str] | None) -> None:
    """Removes these files of latents; without names all of them and their manifest, and nothing else."""
    doomed = [folder / MANIFEST, *_written(folder)] if names is None else [folder / name for name in names]
    for path in doomed:
        clear_leftovers(path)
        path.unlink(missing_ok=True)


def _offset(progress: Progress | None, done: int, total: int) -> Progress | None:
    """`progress` for one file among several."""
    return progress and (lambda part, _, what: progress(done + part, total, what))


def read_manifest(folder: str | Path, *, is_complete: bool = True) -> dict[str, Any]:
    """The manifest of the latents in a folder.

    Args:
        folder: where the latents are.
        is_complete: whether all of their files have to be there.

    Raises:
        DataError: the folder holds no latents, or not all of them.
    """
    folder = local_path(folder)
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(read_bytes(path, _LARGEST))
        names = [str(name) for name in manifest["files"]]
        if not names or not isinstance(manifest.get("model", {}), dict):
            raise ValueError("no files")
        if not all(map(_OWN.fullmatch, names)):
            raise ValueError("other files")
    except OSError as error:
        raise DataError(f"{folder}: holds no latents ({MANIFEST}: {error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a manifest of latents") from error
    missing = [name for name in names if not (folder / name).is_file()]
    if missing and is_complete:
        count = f"{len(missing)} of {len(names)} files"
        raise DataError(f"{folder}: {count} are missing, such as {missing[0]}: encode again")
    return manifest


def iterate_latents(folder: str | Path) -> Iterator[Encoding]:
    """The latents that `encode_to` wrote, a file at a time.

    Raises:
        DataError: the folder holds no latents, not all of them, or damaged ones.
    """
    folder, manifest = local_path(folder), read_manifest(folder)
    shape = manifest.get("model", {}).get("latent_shape")
    classes = manifest.get("classes")
    for name in manifest["files"]:
        part = formats.read_encoding(folder / name, None if shape is None else tuple(shape))
        if shape is not None and list(part.mean.shape[1:]) != shape:
            raise DataError(
                f"{folder / name}: holds latents {shape_text(part.mean.shape[1:])}, and {MANIFEST} says "
                f"{shape_text(shape)}: encode again"
            )
        yield replace(part, classes=classes)


def read_latents(folder: str | Path) -> tuple[Encoding, dict[str, Any]]:
    """All latents that `encode_to` wrote, and their manifest.

    Raises:
        DataError: the folder holds no latents, not all of them, or damaged ones.
    """
    manifest = read_manifest(folder)
    parts = list(iterate_latents(folder))
    # A table without any labeled image holds no labels.
    labeled = any(part.labels is not None for part in parts)
    labels = [torch.full((len(part),), -1) if part.labels is None else part.labels for part in parts]
    codes = [part.codes for part in parts if part.codes is not None]
    splits = [split for part in parts for split in part.splits or ()]
    names = [name for part in parts for name in part.names]
    if codes and len(codes) != len(parts):
        raise DataError(f"{folder}: some of its files hold codes and some do not: encode again")
    encoding = Encoding(
        torch.cat([part.mean for part in parts]),
        torch.cat([part.logvar for part in parts]),
        torch.cat(labels) if labeled else None,
        names,
        torch.cat(codes) if codes else None,
        manifest.get("classes"),
        splits if len(splits) == len(names) else None,
    )
    return encoding, manifest
