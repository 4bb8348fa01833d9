"""Models on the Hugging Face Hub: pinned to a commit, verified by digests, safetensors only.

hf:OWNER/NAME@REVISION ── list of files with sizes and digests ──> commit ── download and verify ──> folder in the cache
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from convae.core.errors import ArtifactError, ConfigError, DataError
from convae.core.names import one_line
from convae.core.progress import Progress
from convae.core.version import VERSION
from convae.data.data_dirs import OFFLINE, cache_directory
from convae.data.io.download import TIMEOUT, Remote, download
from convae.interop.published import CONFIG, SUBFOLDERS, WEIGHTS

PREFIX = "hf:"
ENDPOINT = "https://huggingface.co"
"""Address of the Hub, unless `$HF_ENDPOINT` is set, as for huggingface_hub."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_REVISION = re.compile(r"[\w.-]{1,100}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LARGEST_LIST = 16 << 20
"""Size limit of the list of files, in bytes."""
_LARGEST_CONFIG = 1 << 20
_LARGEST_WEIGHTS = 16 << 30
"""Size limits of files, in bytes."""


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub.

    Attributes:
        name: `owner/name`.
        revision: branch, tag or commit.
    """

    name: str
    revision: str

    @classmethod
    def parse(cls, written: str) -> HubModel:
        """Parses `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`; the default revision is `main`.

        Raises:
            ConfigError: the text is malformed.
        """
        name, _, revision = written.removeprefix(PREFIX).partition("@")
        revision = revision or "main"
        if not _NAME.fullmatch(name) or not _REVISION.fullmatch(revision) or ".." in name + revision:
            raise ConfigError(f"{written}: expected hf:OWNER/NAME, or hf:OWNER/NAME@REVISION")
        return cls(name, revision)


def is_on_hub(path: Path) -> bool:
    """Whether a path names a model on the Hub."""
    return str(path).startswith(PREFIX) and not path.exists()


def download_model(written: str, progress: Progress | None = None) -> tuple[Path, str]:
    """Downloads configuration and weights of a model on the Hub, unless they are in the cache.

    Args:
        written: `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`.
        progress: called with the progress of the download.

    Returns:
        The folder with `config.json` and weights, and `hf:OWNER/NAME@COMMIT`, which always refers to the same files.

    Raises:
        ConfigError: the name is malformed.
        ArtifactError: there is no such model, or it has no configuration or no safetensors weights.
        DataError: downloads are disabled, or the Hub cannot be reached.
    """
    model = HubModel.parse(written)
    cache = cache_directory() / "models" / model.name.replace("/", "--")
    cached = cache / model.revision
    if _COMMIT.fullmatch(model.revision) and _is_complete(cached):
        return cached, f"{PREFIX}{model.name}@{model.revision}"
    if os.environ.get(OFFLINE, "") not in {"", "0"}:
        raise DataError(f"{written} is not in the cache, and ${OFFLINE} disables downloads")
    endpoint = os.environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")
    revision = urllib.parse.quote(model.revision, safe="")
    found = _list(f"{endpoint}/api/models/{model.name}/revision/{revision}?blobs=true", written)
    commit = found.get("sha")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise ArtifactError(f"{written}: the Hub returned no commit")
    folder = cache / commit
    if not _is_complete(folder):
        base = f"{endpoint}/{model.name}/resolve/{commit}"
        config, weights = _choose(_files(found), written)
        files = [_remote(config, base, _LARGEST_CONFIG, written), _remote(weights, base, _LARGEST_WEIGHTS, written)]
        try:
            download(files, folder, progress)
        except DataError as error:
            raise DataError(f"{written}: {error}") from error
    return folder, f"{PREFIX}{model.name}@{commit}"


def _is_complete(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and any((folder / name).is_file() for name in WEIGHTS)


def _list(url: str, written: str) -> dict[str, Any]:
    """Requests the description of a model from the Hub."""
    request = urllib.request.Request(url, headers={"User-Agent": f"convae/{VERSION}", "Accept": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            content = response.read(_LARGEST_LIST + 1)
        found = json.loads(content) if len(content) <= _LARGEST_LIST else None
    except urllib.error.HTTPError as error:
        error.close()
        reasons = {401: "does not exist, or access is restricted", 403: "access is restricted", 404: "does not exist"}
        reason = reasons.get(error.code, f"the Hub returned HTTP {error.code}")
        advice = ". Download it with huggingface_hub, and import the folder" if error.code in (401, 403) else ""
        raise ArtifactError(f"{written}: {reason}{advice}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{written}: the Hub cannot be reached ({one_line(error)})") from error
    if not isinstance(found, dict):
        raise DataError(f"{written}: the Hub returned no list of files")
    return found


def _files(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The files of a model by path."""
    siblings = found.get("siblings")
    listed = siblings if isinstance(siblings, list) else []
    files = (each for each in listed if isinstance(each, dict) and isinstance(each.get("rfilename"), str))
    return {each["rfilename"]: each for each in files}


def _choose(files: Mapping[str, dict[str, Any]], written: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration and weights of the autoencoder, at the top level or in a subfolder of a pipeline."""
    for folder in SUBFOLDERS:
        prefix = f"{folder}/" if folder else ""
        weights = [files[f"{prefix}{name}"] for name in WEIGHTS if f"{prefix}{name}" in files]
        if f"{prefix}{CONFIG}" in files and weights:
            return files[f"{prefix}{CONFIG}"], weights[0]
    if any(name.endswith((".bin", ".ckpt", ".pt", ".pth")) for name in files):
        raise ArtifactError(f"{written}: the weights are pickled, and reading them could run code")
    places = ", ".join(filter(None, SUBFOLDERS))
    raise ArtifactError(f"{written}: found no {CONFIG} and {WEIGHTS[0]}, neither at the top level nor in {places}")


def _remote(file: Mapping[str, Any], base: str, largest: int, written: str) -> Remote:
    """A file of the Hub with its size and digest, from git or Git LFS."""
    path, lfs, size = str(file["rfilename"]), file.get("lfs"), file.get("size")
    digest = lfs.get("sha256") if isinstance(lfs, dict) else file.get("blobId")
    if not isinstance(size, int) or not 0 < size <= largest:
        raise ArtifactError(f"{written}: {path}: expected 1 to {largest:,} bytes, got {size}")
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}" if isinstance(lfs, dict) else _COMMIT, digest):
        raise ArtifactError(f"{written}: the Hub returned no digest of {path}")
    url = f"{base}/{urllib.parse.quote(path)}"
    return Remote(PurePosixPath(path).name, (url,), digest, "sha256" if isinstance(lfs, dict) else "git", size)
