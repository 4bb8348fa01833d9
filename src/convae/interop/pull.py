"""Artifacts from other places: by name, the Hugging Face Hub, a web address, an archive or a folder; checked first.

SOURCE ── files in the cache, sizes and digests checked ──> every tensor checked ──> artifact folder with its source
"""

from __future__ import annotations

import re
import shutil
import urllib.parse
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from convae.core.cache import cache_directory
from convae.core.checked_files import read_checked_json, read_tensors, with_checksum
from convae.core.errors import ArtifactError, ConfigError
from convae.core.files import require_free, write_json
from convae.core.folders import new_folder
from convae.core.names import one_line
from convae.core.paths import local_path
from convae.core.progress import Progress
from convae.data.io.download import Remote, download
from convae.interop.hub import (
    LARGEST_CONFIG,
    LARGEST_WEIGHTS,
    PREFIX,
    HubModel,
    Listed,
    download_model,
    listed_file,
    require_online,
    require_safetensors,
)
from convae.interop.pretrained import PulledModel, pull_pretrained
from convae.model.artifact import CARD, CONFIG, FORMAT, MARK, WEIGHTS, find, read_config
from convae.model.pretrained import is_model_name
from convae.model.weights import sha256_of

LARGEST_CARD = 4 << 20
"""Size limit of the model card, in bytes."""
_LIMITS = {CONFIG: LARGEST_CONFIG, WEIGHTS: LARGEST_WEIGHTS, CARD: LARGEST_CARD}
ARCHIVE = ".zip"
_WEB = ("http://", "https://")


def pull_model(
    source: str,
    out: str | Path | None = None,
    *,
    sha256: str | None = None,
    origin: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> PulledModel:
    """Copies an artifact from another place into a folder, or a pretrained model into the cache; runs none of its code.

    Downloads are resumed, kept in the cache, and checked by size and digest; each tensor is checked against its
    SHA-256. The folder appears only when it is complete.

    Args:
        source: the name of a pretrained model, `hf:OWNER/NAME`, `hf:OWNER/NAME@REVISION`, the URL or path of an archive
            that `push_model` wrote, or the folder of an artifact or a run.
        out: folder of the artifact; by default the cache for a pretrained model, else the name of the model on the Hub,
            or of the archive, in the working directory.
        sha256: SHA-256 (hex) of the archive; required for a URL.
        origin: where pretrained models are: see `pull_pretrained`.
        force: whether to replace an existing artifact.
        progress: called with the progress of the download.

    Raises:
        ArtifactError: there is no such model, access is denied, or it is damaged or no artifact.
        ConfigError: the source or `sha256` is malformed, an argument does not apply, or `out` is missing.
        DataError: the source cannot be reached, differs from `sha256`, or downloads are disabled.
        OutputError: `out` exists and `force` is False, or it cannot be written.
    """
    out = None if out is None else local_path(out)
    is_remote = source.startswith((PREFIX, *_WEB)) and not Path(source).exists()
    if is_model_name(source) and not Path(source).exists():
        if sha256 is not None:
            raise ConfigError(f"{source}: sha256 is that of an archive. The digests of pretrained models are known")
        return pull_pretrained(source, out, origin=origin, force=force, progress=progress)
    if origin is not None:
        raise ConfigError(f"{source}: the origin (--from) is that of pretrained models by name; see `convae models`")
    out = _default_folder(source, is_remote) if out is None else out
    require_free(out, force=force)
    digest = None if sha256 is None else sha256.lower()
    if digest is not None and not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ConfigError(f"sha256: expected 64 hexadecimal digits, got '{sha256}'")
    if is_remote and not source.startswith(PREFIX):
        address, archive = _download_archive(source, digest, progress)
        return _install_archive(archive, out, address)
    path = local_path(source)
    if not is_remote and path.suffix == ARCHIVE and path.is_file():
        if digest is not None and sha256_of(path) != digest:
            raise ArtifactError(f"{path}: its SHA-256 is {sha256_of(path)}, not {digest}")
        return _install_archive(path, out, None)
    if digest is not None:
        raise ConfigError(f"{source}: sha256 is that of an archive. Of the Hub, give the commit: hf:OWNER/NAME@COMMIT")
    folder, pinned = download_model(source, progress, _choose_artifact) if is_remote else (find(path), None)
    return _install(folder, out, pinned)


def _default_folder(source: str, is_remote: bool) -> Path:
    """The folder of the artifact, if the user gives none.

    Raises:
        ConfigError: the source has no name, or is a local folder.
    """
    if source.startswith(PREFIX) and is_remote:
        return Path(HubModel.parse(source).name.rpartition("/")[2])
    name = Path(urllib.parse.urlsplit(source).path if is_remote else source)
    if name.suffix != ARCHIVE or name.stem.startswith("."):
        raise ConfigError(f"{source}: give the folder of the artifact with --out")
    return Path(name.stem)


def _choose_artifact(files: Listed, written: str) -> list[Remote]:
    """The files of an artifact on the Hub.

    Raises:
        ArtifactError: there is no artifact.
    """
    if not {CONFIG, WEIGHTS} <= files.keys():
        require_safetensors(files, written)
        raise ArtifactError(
            f"{written}: found no {CONFIG} and {WEIGHTS} of convae. For autoencoders of diffusers, use `convae import`"
        )
    # The configuration last: with it, the folder counts as complete.
    return [listed_file(files[name], _LIMITS[name], written) for name in (CARD, WEIGHTS, CONFIG) if name in files]


def _download_archive(url: str, sha256: str | None, progress: Progress | None) -> tuple[str, Path]:
    """Downloads an archive to the cache, unless it is there; returns its pinned address and its path.

    Raises:
        ConfigError: no SHA-256, or the URL contains a password.
        DataError: it cannot be downloaded, or has another SHA-256.
    """
    address = url.partition("#")[0].partition("?")[0]
    if "@" in urllib.parse.urlsplit(url).netloc:
        raise ConfigError("the URL contains a user name or password, which would be recorded. Remove it")
    if sha256 is None:
        raise ConfigError(f"{address}: give the SHA-256 of the archive with --sha256")
    name, folder = f"{sha256}{ARCHIVE}", cache_directory() / "models" / "archives"
    if not (folder / name).exists():
        require_online(address)
        download([Remote(name, (url,), sha256)], folder, progress)
    return f"{address}#sha256={sha256}", folder / name


def _install_archive(archive: Path, out: Path, source: str | None) -> PulledModel:
    """Unpacks an archive of an artifact, and installs the artifact.

    Raises:
        ArtifactError: it is damaged, or contains other files than those of an artifact.
    """
    with TemporaryDirectory(prefix="convae-") as place:
        folder = Path(place)
        try:
            with zipfile.ZipFile(archive) as content:
                for info in content.infolist():
                    if not 0 <= info.file_size <= _LIMITS.get(info.filename, -1):
                        raise ArtifactError(
                            f"{archive}: '{info.filename[:80]}' is no file of an artifact, or too large"
                        )
                    with content.open(info) as packed, (folder / info.filename).open("wb") as file:
                        shutil.copyfileobj(packed, file)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, OSError) as error:
            raise ArtifactError(f"{archive}: damaged or not an archive of an artifact ({one_line(error)})") from error
        return _install(folder, out, source)


def _install(folder: Path, out: Path, source: str | None) -> PulledModel:
    """Checks an artifact, and copies it with the source in its provenance.

    Raises:
        ArtifactError: it is damaged, or no artifact.
    """
    stored = read_config(folder)
    read_tensors(folder / WEIGHTS, stored.sha256)
    content = read_checked_json(folder / CONFIG, FORMAT)
    if source is not None:
        facts = "metadata" if content["format"] == 1 else "provenance"
        content[facts] = {**content[facts], "source": source}
    with new_folder(out, (CONFIG, WEIGHTS, CARD), MARK) as place:
        write_json(place / CONFIG, with_checksum(content))
        for name in (WEIGHTS, CARD):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, place / name)
    return PulledModel(out, source)
