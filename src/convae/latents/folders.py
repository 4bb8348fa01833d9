"""Folders of latents: files of 4,096 images each with a manifest, written and read one file at a time."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
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
from convae.latents.refinement import describe_refinement
from convae.latents.statistics import Moments
from convae.model.fingerprint import autoencoder_fingerprint
from convae.model.inference import InferenceEngine
from convae.model.vae import VAE

FORMAT = 2
MANIFEST = "latents.json"
SHARD = 4096
"""Number of images per file."""
_LARGEST = 64 << 20
"""Largest manifest in bytes."""
_OWN = re.compile(rf"latents-\d{{5,}}-of-\d{{5,}}\.({'|'.join(formats.FORMATS)})")
"""Names of the files that `encode_to` writes."""


@dataclass(frozen=True)
class FileShard:
    """The files that this process writes: every `ranks`-th, from number `rank` on."""

    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise ConfigError(f"expected a rank from 0 to {self.ranks - 1}, got {self.rank}")


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
    engine: InferenceEngine | None = None,
) -> Path:
    """Encodes a split to files of 4,096 images each; memory holds the latents of at most two files.

    Files are written atomically. Existing files of the same model and images are kept, so that the same call resumes
    after a stop and ends with the same files. With the last file, the manifest gets the `statistics` of the latents.

    Args:
        model: the model; its mode is restored.
        split: the images.
        folder: folder for the files and their manifest, `latents.json`.
        format: `safetensors`, `npz`, `csv`, or `parquet` (extra `parquet`).
        shard: the files that this process writes; by default all.
        batch_size: images per batch.
        force: whether to remove existing latents from the folder first; other files are kept.
        progress: called with the number of encoded images.
        engine: computes the posteriors; by default torch.

    Returns:
        The path of the manifest.

    Raises:
        ConfigError: unknown format, or its package is not installed.
        OutputError: the folder has other latents, or cannot be written.
        ShapeError: the images do not have the input shape of the model.
        DataError: a latent is not finite.
    """
    folder, shard = local_path(folder), shard or FileShard()
    write = formats.find_writer(format)
    count = -(-len(split) // SHARD)
    names = [f"latents-{number + 1:05d}-of-{count:05d}.{format}" for number in range(count)]
    refinement = describe_refinement(engine.refinement_steps if engine else 0)
    manifest = _describe(model, split, names) | _describe_tiles(model) | refinement
    made = not folder.exists()
    todo = _prepare(folder, manifest, shard, force)
    try:
        encode_part = partial(encode, model, split, batch_size=batch_size, engine=engine)
        _encode_files(encode_part, len(split), folder, manifest, todo, write, progress)
    except BaseException:
        if made:
            with contextlib.suppress(OSError):  # it holds files by now
                folder.rmdir()
        raise
    _add_statistics(folder, manifest, all(module.is_mean_expected for module in model.latent_modules))
    return folder / MANIFEST


def _describe(model: VAE, split: Split, names: list[str]) -> dict[str, Any]:
    """The manifest of the files of a split, without statistics."""
    return {
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


def _describe_tiles(model: VAE) -> dict[str, Any]:
    """The entry of the tiles in which the encoder is computed, which is approximate; none for the exact result."""
    encoder = model.networks.get("encoder")
    if encoder is None or encoder.tiles is None:
        return {}
    return {"tiles": {"size": list(encoder.tiles.size), "overlap": list(encoder.tiles.overlap)}}


def _add_statistics(folder: Path, manifest: dict[str, Any], is_mean_expected: bool) -> None:
    """Adds the statistics of the latents to the manifest if all files exist.

    Posteriors whose mean is not the expectation have none for drawn latents: the files do not determine their spread.
    """
    names, shape = manifest["files"], tuple(manifest["model"]["latent_shape"])
    if all((folder / name).exists() for name in names):
        # From the files, so that the manifest is the same after a resume, whichever process is the last.
        moments = Moments(shape)
        for name in names:
            moments.add(formats.read_encoding(folder / name, shape))
        write_json(folder / MANIFEST, {**manifest, "statistics": moments.describe(is_mean_expected)})


def _prepare(folder: Path, manifest: dict[str, Any], shard: FileShard, force: bool) -> list[int]:
    """Creates the folder, removes files to replace, and returns the numbers of the files to write.

    Raises:
        OutputError: the folder has other latents, or cannot be written.
    """
    names = manifest["files"]
    with writing_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        other = _what_differs(folder, manifest)
        if other and not force:
            raise OutputError(f"{folder}: {other}. Choose another folder, or replace them with --force")
        if force:
            _remove(folder, names[shard.rank :: shard.ranks] if other is None else None)
        todo = [n for n in range(shard.rank, len(names), shard.ranks) if not (folder / names[n]).exists()]
        for name in [names[number] for number in todo] + [MANIFEST] * (shard.ranks == 1):
            clear_leftovers(folder / name)
    return todo


def _encode_files(
    encode_part: Callable[..., Encoding],
    count: int,
    folder: Path,
    manifest: dict[str, Any],
    todo: Sequence[int],
    write: Callable[[Path, Encoding], None],
    progress: Progress | None,
) -> None:
    """Encodes the images of some files and writes them, after the manifest."""
    ends = [min((number + 1) * SHARD, count) for number in todo]
    total = sum(end - number * SHARD for number, end in zip(todo, ends, strict=True))
    done = 0
    # One file is written while the next is encoded.
    with ThreadPoolExecutor(1) as background:
        written: Future[None] | None = None
        for number, end in zip(todo, ends, strict=True):
            report = _offset(progress, done, total)
            indices = np.arange(number * SHARD, end)
            encoding = encode_part(indices=indices, progress=report)
            if not (folder / MANIFEST).exists():
                write_json(folder / MANIFEST, manifest)
            if written is not None:
                written.result()
            written = background.submit(write, folder / manifest["files"][number], encoding)
            done += len(encoding)
        if written is not None:
            written.result()


def _what_differs(folder: Path, manifest: dict[str, Any]) -> str | None:
    """How the latents in a folder differ from those of a manifest; None if they do not."""
    path = folder / MANIFEST
    if not path.exists():
        return "has files of latents without their manifest" if _written(folder) else None
    try:
        there = json.loads(read_bytes(path, _LARGEST))
        there.pop("statistics", None)
        model, data = there["model"], there["data"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"its {MANIFEST} is damaged"
    if model.get("sha256") != manifest["model"]["sha256"]:
        return f"has latents of another model, '{model.get('name')}'"
    if there.get("refinement") != manifest.get("refinement"):
        return "has the same latents with another number of refinement steps"
    if there.get("tiles") != manifest.get("tiles"):
        return "has latents of the same model in other tiles, or without"
    if data != json.loads(json.dumps(manifest["data"])):
        return f"has latents of other images, {data.get('count')} of {data.get('source')} ({data.get('split')})"
    if there.get("files") != manifest["files"]:
        formats_there = sorted({Path(str(name)).suffix[1:] for name in there.get("files") or ()})
        return f"has the same latents in another format, {', '.join(formats_there)}"
    if (there.get("format"), there.get("convae")) != (FORMAT, VERSION):
        return f"has latents written by convae {there.get('convae')}"
    return None


def _written(folder: Path) -> list[Path]:
    """The files of a folder with names of `encode_to`."""
    return [path for path in sorted(folder.iterdir()) if _OWN.fullmatch(path.name) and not path.is_dir()]


def _remove(folder: Path, names: Sequence[str] | None) -> None:
    """Removes files of latents; without names, all of them and the manifest. Other files are kept."""
    doomed = [folder / MANIFEST, *_written(folder)] if names is None else [folder / name for name in names]
    for path in doomed:
        clear_leftovers(path)
        path.unlink(missing_ok=True)


def _offset(progress: Progress | None, done: int, total: int) -> Progress | None:
    """Progress of one file as progress of all files."""
    return progress and (lambda part, _, what: progress(done + part, total, what))


def read_manifest(folder: str | Path, *, is_complete: bool = True) -> dict[str, Any]:
    """Reads the manifest of a folder of latents.

    Args:
        folder: the folder.
        is_complete: whether all files must exist.

    Raises:
        DataError: the folder has no latents, or files are missing.
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
        raise DataError(f"{folder}: no latents ({MANIFEST}: {error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a manifest of latents") from error
    missing = [name for name in names if not (folder / name).is_file()]
    if missing and is_complete:
        count = f"{len(missing)} of {len(names)} files"
        raise DataError(f"{folder}: {count} are missing, such as {missing[0]}. Run convae encode again")
    return manifest


def iterate_latents(folder: str | Path) -> Iterator[Encoding]:
    """Iterates over the files of a folder of latents.

    Raises:
        DataError: the folder has no latents, or files are missing or damaged.
    """
    folder, manifest = local_path(folder), read_manifest(folder)
    shape = manifest.get("model", {}).get("latent_shape")
    classes = manifest.get("classes")
    for name in manifest["files"]:
        part = formats.read_encoding(folder / name, None if shape is None else tuple(shape))
        if shape is not None and list(part.mean.shape[1:]) != shape:
            raise DataError(
                f"{folder / name}: has latents {shape_text(part.mean.shape[1:])}, but {MANIFEST} states "
                f"{shape_text(shape)}. Run convae encode again"
            )
        yield replace(part, classes=classes)


def read_latents(folder: str | Path) -> tuple[Encoding, dict[str, Any]]:
    """Reads all latents of a folder, and their manifest.

    Raises:
        DataError: the folder has no latents, or files are missing or damaged.
    """
    manifest = read_manifest(folder)
    parts = list(iterate_latents(folder))
    # Tables without labeled images have no labels.
    labeled = any(part.labels is not None for part in parts)
    labels = [torch.full((len(part),), -1) if part.labels is None else part.labels for part in parts]
    codes = [part.codes for part in parts if part.codes is not None]
    splits = [split for part in parts for split in part.splits or ()]
    names = [name for part in parts for name in part.names]
    if codes and len(codes) != len(parts):
        raise DataError(f"{folder}: only some of its files have codes. Run convae encode again")
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
