"""Images to latents: the posteriors of a whole split, as tensors or as files that a killed run goes on with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from convae.core.errors import ConfigError, DataError, OutputError, ShapeError
from convae.core.files import clear, write_json, writing
from convae.core.names import shape_text
from convae.core.progress import Progress
from convae.core.types import CodedLike, Latents
from convae.core.version import VERSION
from convae.data import Split, in_order
from convae.latents import formats
from convae.model.artifact import fingerprint
from convae.model.vae import VAE

FORMAT = 1
MANIFEST = "latents.json"
SHARD = 4096
"""Images in a file."""


@dataclass(frozen=True)
class Encoding:
    """The posteriors of some images, on the CPU.

    Attributes:
        mean: (image, *latent).
        logvar: (image, *latent), natural logarithm of the variance.
        labels: (image,) class numbers, -1 where one is missing; None without labels.
        names: of the images, such as their paths within a folder.
        codes: (image, *grid) numbers of the code that each place of the latent has, from models whose bottleneck has
            a code book; None from others.
    """

    mean: Latents
    logvar: Latents
    labels: Int64[Tensor, " image"] | None
    names: Sequence[str]
    codes: Int64[Tensor, image * grid] | None = None

    def __len__(self) -> int:
        return len(self.mean)


@torch.no_grad()
def encode(
    model: VAE,
    split: Split,
    *,
    indices: NDArray[np.int64] | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Encoding:
    """The posteriors of the images of a split, in its order; nothing is drawn.

    Args:
        model: is put into evaluation mode.
        split: the images.
        indices: positions in the split; without them, all.
        batch_size: images at a time.
        progress: told how many images are done.

    Raises:
        ShapeError: the images have not the model's shape.
        ConfigError: the model is conditional, and the images have not the labels that it knows.
    """
    if split.shape != model.input_shape:
        raise ShapeError(f"the model takes {shape_text(model.input_shape)}, the images are {shape_text(split.shape)}")
    model.check_labels(split.labels, split.source)
    model.eval()
    wanted = np.arange(len(split)) if indices is None else indices
    mean = torch.empty(len(wanted), *model.latent_shape)
    logvar = torch.empty_like(mean)
    codes: list[Tensor] = []
    done = 0
    for batch in in_order(split, batch_size, next(model.parameters()).device, wanted):
        posterior = model.encode(batch.images, batch.labels)
        here = slice(done, done + len(batch))
        mean[here], logvar[here] = posterior.mean, posterior.logvar
        if isinstance(posterior, CodedLike):
            codes.append(posterior.codes.cpu().long())
        done += len(batch)
        if progress:
            progress(done, len(wanted), "encoding (images)")
    labels = None if split.labels is None else torch.from_numpy(split.labels[wanted])
    names = [split.key(int(index)) for index in wanted]
    return Encoding(mean, logvar, labels, names, torch.cat(codes) if codes else None)


@dataclass(frozen=True)
class Share:
    """Which of the files this process writes: those whose number leaves `rank` when divided by `ranks`."""

    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise ConfigError(f"process {self.rank} of {self.ranks}: there are {self.ranks}, counted from 0")


def encode_to(
    model: VAE,
    split: Split,
    folder: Path,
    *,
    format: str = "safetensors",
    share: Share | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Path:
    """Writes the posteriors of a split as files of 4,096 images each, whatever the number of images in memory.

    A file appears whole or not at all. Files that are there already are kept, if the manifest beside them says that
    they come from the same model and images: a run that was killed goes on, and ends with the same files.

    Args:
        model: is put into evaluation mode.
        split: the images.
        folder: for the files and their manifest, `latents.json`.
        format: `safetensors`, `npz`, or `parquet` from the extra of that name.
        share: of the files, where several processes write them.
        batch_size: images at a time.
        progress: told how many images are done.

    Returns:
        The manifest's path.

    Raises:
        ConfigError: no such format, or its package is not installed.
        OutputError: the folder holds other latents, or cannot be written.
        ShapeError: the images have not the model's shape.
    """
    share = share or Share()
    write = formats.writer(format)
    starts = range(0, len(split), SHARD)
    names = [f"latents-{number + 1:05d}-of-{len(starts):05d}.{format}" for number in range(len(starts))]
    manifest = {
        "format": FORMAT,
        "convae": VERSION,
        "model": {"name": model.name, "sha256": fingerprint(model), "latent_shape": list(model.latent_shape)},
        "data": split.describe(),
        "files": names,
    }
    path = folder / MANIFEST
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not _there(path, manifest):
            write_json(path, manifest)
        todo = [n for n in range(share.rank, len(names), share.ranks) if not (folder / names[n]).exists()]
        for own in [names[number] for number in todo] + [MANIFEST] * (share.ranks == 1):
            clear(folder / own)
    total = sum(min(SHARD, len(split) - starts[number]) for number in todo)
    done = 0
    # A file is written while the next is encoded, and no more than one is waited for.
    with ThreadPoolExecutor(1) as background:
        written: Future[None] | None = None
        for number in todo:
            indices = np.arange(starts[number], min(starts[number] + SHARD, len(split)))
            told = _offset(progress, done, total)
            encoding = encode(model, split, indices=indices, batch_size=batch_size, progress=told)
            if written is not None:
                written.result()
            written = background.submit(write, folder / names[number], encoding)
            done += len(encoding)
        if written is not None:
            written.result()
    return path


def _there(path: Path, manifest: dict[str, Any]) -> bool:
    """Whether a folder holds latents, which then are those of this very manifest."""
    if not path.exists():
        return False
    try:
        same = json.loads(path.read_bytes()) == manifest
    except ValueError:
        same = False
    if not same:
        raise OutputError(f"{path.parent}: holds latents of another model or of other images; choose another folder")
    return True


def _offset(progress: Progress | None, done: int, total: int) -> Progress | None:
    """`progress` for one file among several."""
    return progress and (lambda part, _, what: progress(done + part, total, what))


def read_latents(folder: Path) -> tuple[Encoding, dict[str, Any]]:
    """All latents that `encode_to` wrote, and their manifest.

    Raises:
        DataError: the folder holds no latents, not all of them, or damaged ones.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        files = [folder / name for name in manifest["files"]]
        if not files:
            raise ValueError("no files")
    except OSError as error:
        raise DataError(f"{folder}: holds no latents ({MANIFEST}: {error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a manifest of latents") from error
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(files)} files are missing, such as {missing[0]}: encode again"
        )
    parts = [formats.read(file) for file in files]
    if len({part.mean.shape[1:] for part in parts}) != 1:
        raise DataError(f"{folder}: its files hold latents of different shapes: encode again")
    labels = [part.labels for part in parts if part.labels is not None]
    codes = [part.codes for part in parts if part.codes is not None]
    encoding = Encoding(
        torch.cat([part.mean for part in parts]),
        torch.cat([part.logvar for part in parts]),
        torch.cat(labels) if labels else None,
        [name for part in parts for name in part.names],
        torch.cat(codes) if codes else None,
    )
    return encoding, manifest
