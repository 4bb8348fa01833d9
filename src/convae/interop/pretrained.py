"""Pretrained models of the index, from a folder, a web server or the Hub, verified by size and SHA-256.

NAME ── index ──> files, sizes, SHA-256 ── download or copy, verify ──> folder in the cache, which appears at once
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from convae.core.errors import ArtifactError, ConfigError, DataError
from convae.core.files import require_free, writing_errors
from convae.core.folders import new_folder
from convae.core.names import one_line, unknown_message
from convae.core.paths import local_path
from convae.core.progress import Progress
from convae.data.io.download import DownloadError, Remote, download
from convae.interop.hub import PREFIX, HubModel, endpoint, read_token, require_online
from convae.model.artifact import MARK
from convae.model.pretrained import FOLDERS, PretrainedModel, find_pretrained, pretrained_cache, read_index
from convae.model.weights import sha256_of

URL = "Models"
"""Label of the project URL in pyproject.toml under which models are published."""


@dataclass(frozen=True)
class PulledModel:
    """An artifact from another place.

    Attributes:
        path: folder of the artifact.
        source: what always refers to the same files, as the artifact records it: `hf:OWNER/NAME@COMMIT`, or a URL and
            a SHA-256. For a pretrained model, where its files were downloaded. None for a local source.
    """

    path: Path
    source: str | None


def pull_pretrained(
    name: str,
    out: Path | None = None,
    *,
    origin: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> PulledModel:
    """Copies a pretrained model into the cache or a folder; every file has the size and SHA-256 of the index.

    Args:
        name: of the index, such as `digits/conditional`.
        out: folder of the model; by default in the cache, where its name finds it.
        origin: where the models are: a folder, a URL, or `hf:OWNER/NAME@REVISION`, each with a folder for each name.
            By default `$CONVAE_MODELS`, a folder that has the model already, or the URL of the project.
        force: whether to replace an existing model.
        progress: called with the progress of the download.

    Raises:
        ArtifactError: a file in a folder is missing, or differs from the index.
        ConfigError: there is no such model, or it is not known where the models are.
        DataError: a file cannot be downloaded, differs from the index, or downloads are disabled.
        OutputError: `out` exists and `force` is False, or it cannot be written.
    """
    index = read_index()
    if name not in index:
        raise ConfigError(unknown_message("pretrained model", name, index))
    model = index[name]
    target = pretrained_cache() / name if out is None else out
    if out is None and not force and _is_verified(target, model):
        return PulledModel(target, None)
    if out is not None:
        require_free(out, force=force)
    written = _origin(name, model) if origin is None else origin
    if "://" not in written and not written.startswith(PREFIX):
        _install(local_path(written) / name, target, model, is_cache=out is None)
        return PulledModel(target, None)
    if "@" in urllib.parse.urlsplit(written).netloc:
        raise ConfigError("the URL contains a user name or password, which would be printed. Remove it")
    partial = pretrained_cache() / ".partial" / f"{name.replace('/', '--')}-{_digest(model)}"
    with writing_errors(partial):
        partial.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{partial}.lock"):
        _download(name, model, written, partial, progress)
        _install(partial, target, model, is_cache=out is None)
        shutil.rmtree(partial, ignore_errors=True)  # the model is installed: what cannot be removed only takes space
    return PulledModel(target, f"{written.rstrip('/')}/{name}")


def _origin(name: str, model: PretrainedModel) -> str:
    """Where the models are, if the user does not say.

    Raises:
        ConfigError: it is not known.
    """
    if given := os.environ.get(FOLDERS):
        return given
    held = find_pretrained(name)
    if held is not None and _is_verified(held, model):
        return str(held.parents[name.count("/")])
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        urls: list[str] = importlib.metadata.metadata("convae").get_all("Project-URL") or []
        for line in urls:
            label, _, url = line.partition(", ")
            if label == URL:
                return url
    raise ConfigError(
        f"{name}: this build of convae records no URL of its models. Name a folder, a URL or hf:OWNER/NAME with --from "
        f"or ${FOLDERS}"
    )


def _digest(model: PretrainedModel) -> str:
    """What tells the files of a model from those of the same name in another index."""
    return "".join(file.sha256[:4] for file in model.files.values())


def _is_verified(folder: Path, model: PretrainedModel) -> bool:
    """Whether a folder holds every file of a model, unchanged."""
    return folder.is_dir() and _first_wrong(folder, model) is None


def _first_wrong(folder: Path, model: PretrainedModel) -> str | None:
    """The first file of a model that a folder lacks or has with other content."""
    for name, file in model.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != file.size or sha256_of(path) != file.sha256:
            return name
    return None


def _download(name: str, model: PretrainedModel, origin: str, folder: Path, progress: Progress | None) -> None:
    """Downloads the files of a model; those of an earlier call are kept, and partial ones resumed.

    Raises:
        DataError: one cannot be downloaded, differs from the index, or downloads are disabled.
    """
    token = None
    if origin.startswith(PREFIX):
        hub = HubModel.parse(origin)
        base, token = f"{endpoint()}/{hub.name}/resolve/{hub.revision}", read_token()
    else:
        base = origin.rstrip("/")
    if _first_wrong(folder, model) is None:
        return
    require_online(name)
    remotes = [
        Remote(file, (f"{base}/{name}/{file}",), facts.sha256, size=facts.size, token=token)
        for file, facts in model.files.items()
    ]
    try:
        download(remotes, folder, progress)
    except DownloadError as error:
        raise DataError(f"{name}: {one_line(error)}") from error


def _install(folder: Path, target: Path, model: PretrainedModel, *, is_cache: bool) -> None:
    """Installs verified files of a model as a folder, which is complete or absent.

    Raises:
        ArtifactError: a file is missing, or differs from the index.
    """
    wrong = _first_wrong(folder, model)
    if wrong is not None:
        reason = "differs from the file of the index" if (folder / wrong).is_file() else "is missing"
        raise ArtifactError(f"{folder / wrong}: {reason}. Get the model from another place with --from")
    with new_folder(target, None if is_cache else model.files, None if is_cache else MARK) as place:
        for name in model.files:
            shutil.copyfile(folder / name, place / name)
        if _first_wrong(place, model) is not None:
            raise ArtifactError(f"{folder}: was changed by another program during copying. Try again")
