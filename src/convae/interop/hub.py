"""Models on the Hugging Face Hub: pinned to a commit, verified by digests, safetensors only.

hf:OWNER/NAME@REVISION ── list of files with sizes and digests ──> commit ── download and verify ──> folder in the cache
"""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from convae.core.cache import OFFLINE, cache_directory, is_offline
from convae.core.errors import ArtifactError, ConfigError, DataError
from convae.core.files import read_bytes
from convae.core.names import one_line
from convae.core.progress import Progress
from convae.data.io.download import DownloadError, Remote, download, fetch
from convae.interop.published import CONFIG, SUBFOLDERS, WEIGHTS, index_name, shard_names

PREFIX = "hf:"
ENDPOINT = "https://huggingface.co"
"""Address of the Hub, unless `$HF_ENDPOINT` is set, as for huggingface_hub."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_REVISION = re.compile(r"[\w.-]{1,100}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LARGEST_LIST = 16 << 20
"""Size limit of the list of files, in bytes."""
LARGEST_CONFIG = 64 << 20
LARGEST_WEIGHTS = 16 << 30
"""Size limits of files, in bytes."""
_DENIED = {401: "does not exist, or access is restricted", 403: "access is restricted", 404: "does not exist"}
_RATE_LIMITED = 429
Listed = dict[str, dict[str, Any]]
"""Files of a model on the Hub by path, with their sizes and digests."""


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


def download_model(
    written: str,
    progress: Progress | None = None,
    choose: Callable[[Listed, str], list[Remote]] | None = None,
) -> tuple[Path, str]:
    """Downloads files of a model on the Hub, unless they are in the cache; partial downloads are resumed.

    Args:
        written: `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`.
        progress: called with the progress of the download.
        choose: selects the files, without their URLs; by default configuration and weights of an autoencoder at the
            top level or in a subfolder of a pipeline.

    Returns:
        The folder with `config.json` and weights, and `hf:OWNER/NAME@COMMIT`, which always refers to the same files.

    Raises:
        ConfigError: the name is malformed.
        ArtifactError: there is no such model, access is denied, or it has no configuration or no safetensors weights.
        DataError: downloads are disabled, or the Hub cannot be reached.
    """
    model = HubModel.parse(written)
    cache = cache_directory() / "models" / model.name.replace("/", "--")
    cached = cache / model.revision
    if _COMMIT.fullmatch(model.revision) and _is_complete(cached):
        return cached, f"{PREFIX}{model.name}@{model.revision}"
    require_online(written)
    commit, files = list_files(model)
    folder = cache / commit
    if not _is_complete(folder):
        base = f"{endpoint()}/{model.name}/resolve/{commit}"
        chosen = (choose or _choose)(files, written)
        try:
            download(
                [replace(each, urls=(f"{base}/{each.urls[0]}",), token=read_token()) for each in chosen],
                folder,
                progress,
            )
        except DownloadError as error:
            raise _failure(written, error) from error
    return folder, f"{PREFIX}{model.name}@{commit}"


def require_online(written: str) -> None:
    """Checks that requests to other machines are allowed.

    Raises:
        DataError: they are disabled.
    """
    if is_offline():
        raise DataError(f"{written} is not in the cache, and ${OFFLINE} disables downloads")


def endpoint() -> str:
    """Address of the Hub: `$HF_ENDPOINT`, or else the public one."""
    return os.environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")


def read_token() -> str | None:
    """The user's access token: `$HF_TOKEN`, or the one that `hf auth login` saved; None without one."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    token = os.environ.get("HF_TOKEN", "")
    if not token:
        try:
            token = read_bytes(Path(os.environ.get("HF_TOKEN_PATH", home / "token")), 1 << 10).decode()
        except (OSError, ValueError):
            return None
    return token.strip() or None


def list_files(model: HubModel) -> tuple[str, Listed]:
    """The commit of a revision, and its files.

    Raises:
        ArtifactError: there is no such model or revision, or access is denied.
        DataError: the Hub cannot be reached.
    """
    written = f"{PREFIX}{model.name}@{model.revision}"
    revision = urllib.parse.quote(model.revision, safe="")
    try:
        content = fetch(
            f"{endpoint()}/api/models/{model.name}/revision/{revision}?blobs=true", _LARGEST_LIST, read_token()
        )
        found = json.loads(content)
    except DownloadError as error:
        raise _failure(written, error) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{written}: the Hub returned no list of files ({one_line(error)})") from error
    if not isinstance(found, dict):
        raise DataError(f"{written}: the Hub returned no list of files")
    commit = found.get("sha")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise ArtifactError(f"{written}: the Hub returned no commit")
    return commit, _files(found)


def _failure(written: str, error: DownloadError) -> ArtifactError | DataError:
    """The error of a request that failed: access, rate limit, or the network."""
    if error.status in _DENIED:
        advice = ""
        if error.status != 404:
            advice = ". Set $HF_TOKEN to a token with access, or run `hf auth login`"
        return ArtifactError(f"{written}: {_DENIED[error.status]}{advice}")
    if error.status == _RATE_LIMITED:
        return DataError(f"{written}: the Hub's rate limit is reached. Try again later, or set $HF_TOKEN")
    if error.status is not None:
        return DataError(f"{written}: the Hub returned {one_line(error)}")
    return DataError(f"{written}: {one_line(error)}")


def _is_complete(folder: Path) -> bool:
    # An index is downloaded after the files that it lists.
    names = [each for name in WEIGHTS for each in (name, index_name(name))]
    return (folder / CONFIG).is_file() and any((folder / name).is_file() for name in names)


def _files(found: Mapping[str, Any]) -> Listed:
    """The files of a model by path."""
    siblings = found.get("siblings")
    listed = siblings if isinstance(siblings, list) else []
    files = (each for each in listed if isinstance(each, dict) and isinstance(each.get("rfilename"), str))
    return {each["rfilename"]: each for each in files}


def _choose(files: Listed, written: str) -> list[Remote]:
    """The configuration and weights of the autoencoder, at the top level or in a subfolder of a pipeline."""
    for folder in SUBFOLDERS:
        prefix = f"{folder}/" if folder else ""
        here = {path.removeprefix(prefix): file for path, file in files.items() if path.startswith(prefix)}
        weights = next((found for name in WEIGHTS if (found := _weights(name, here, written))), [])
        if CONFIG in here and weights:
            return [listed_file(here[CONFIG], LARGEST_CONFIG, written), *weights]
    require_safetensors(files, written)
    places = ", ".join(filter(None, SUBFOLDERS))
    raise ArtifactError(f"{written}: found no {CONFIG} and {WEIGHTS[0]}, neither at the top level nor in {places}")


def _weights(name: str, files: Listed, written: str) -> list[Remote]:
    """The weights of a name in a folder: one file, or several and then their index; empty without any."""
    if name in files:
        return [listed_file(files[name], LARGEST_WEIGHTS, written)]
    shards, index = shard_names(name, files), index_name(name)
    if index not in files or not shards:
        return []
    found = [listed_file(files[shard], LARGEST_WEIGHTS, written) for shard in shards]
    return [*found, listed_file(files[index], LARGEST_CONFIG, written)]


def require_safetensors(files: Listed, written: str) -> None:
    """Checks that the weights are not pickled.

    Raises:
        ArtifactError: they are.
    """
    if any(name.endswith((".bin", ".ckpt", ".pt", ".pth")) for name in files):
        raise ArtifactError(f"{written}: the weights are pickled, and reading them could run code")


def listed_file(file: Mapping[str, Any], largest: int, written: str) -> Remote:
    """A file of the Hub with its size and digest, from git or Git LFS; the URL is the quoted path.

    Raises:
        ArtifactError: it has no digest, or its size is unknown, zero or larger than `largest`.
    """
    path, lfs, size = str(file["rfilename"]), file.get("lfs"), file.get("size")
    digest = lfs.get("sha256") if isinstance(lfs, dict) else file.get("blobId")
    if not isinstance(size, int) or not 0 < size <= largest:
        raise ArtifactError(f"{written}: {path}: expected 1 to {largest:,} bytes, got {size}")
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}" if isinstance(lfs, dict) else _COMMIT, digest):
        raise ArtifactError(f"{written}: the Hub returned no digest of {path}")
    algorithm: Literal["sha256", "git"] = "sha256" if isinstance(lfs, dict) else "git"
    return Remote(PurePosixPath(path).name, (urllib.parse.quote(path),), digest, algorithm, size)
