"""Artifacts to the Hugging Face Hub, as one commit that is compared with the files afterwards, or to an archive."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convae.core.checked_files import read_checked_json, read_tensors, with_checksum
from convae.core.errors import ArtifactError, ConfigError, ConvaeError, DataError, OutputError
from convae.core.files import encode_text, read_bytes, replacing, require_free
from convae.core.names import one_line
from convae.core.paths import local_path
from convae.core.version import VERSION
from convae.data.io import download
from convae.interop.hub import PREFIX, HubModel, endpoint, list_files, listed_file, require_online
from convae.interop.pull import ARCHIVE, LARGEST_CARD
from convae.model.artifact import CARD, CONFIG, FORMAT, WEIGHTS, find, read_config
from convae.model.pretrained import model_path
from convae.model.provenance import without_folders
from convae.model.weights import sha256_of

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of the files in an archive, so that equal artifacts have equal archives."""
MEASURED = ("card.md", "card.json")
PICTURE = "card.png"
"""Files of `convae card` that are published with a model; diverged models have no picture."""
_DENIED = frozenset({401, 403, 404})
_RATE_LIMITED = 429


@dataclass(frozen=True)
class PushedModel:
    """An artifact that was published.

    Attributes:
        target: `hf:OWNER/NAME@COMMIT`, or the path of the archive.
        sha256: SHA-256 (hex) of the archive; None on the Hub.
    """

    target: str
    sha256: str | None = None


def push_model(
    model: str | os.PathLike[str],
    target: str,
    *,
    card: str | Path | None = None,
    private: bool = False,
    message: str = "Add a model",
    force: bool = False,
) -> PushedModel:
    """Publishes an artifact with its card: to the Hugging Face Hub as one commit, or as an archive.

    Of a path in the provenance, such as that of a folder of images, only the last part is published.
    Each tensor is checked before, and the size and digest of each file on the Hub afterwards. The access token is that
    of huggingface_hub: `$HF_TOKEN`, or the one that `hf auth login` saved.

    Args:
        model: an artifact or a run.
        target: `hf:OWNER/NAME`, `hf:OWNER/NAME@BRANCH`, or the path of a new archive, such as `model.zip`.
        card: folder that `convae card --out` wrote; its Markdown becomes the model card on the Hub, with its picture.
        private: whether a new repository on the Hub is private.
        message: of the commit.
        force: whether to replace an existing archive.

    Raises:
        ArtifactError: no artifact, or it is damaged.
        ConfigError: the target is malformed, or huggingface_hub is not installed.
        DataError: the Hub cannot be reached, or has other files than were sent.
        OutputError: access is denied, or the archive exists or cannot be written.
    """
    folder = find(model_path(model))
    read_tensors(folder / WEIGHTS, read_config(folder).sha256)
    if target.startswith(PREFIX):
        return PushedModel(
            _push(folder, HubModel.parse(target), None if card is None else local_path(card), private, message)
        )
    if card is not None:
        raise ConfigError("an archive has no place for the measured card. Push to hf:OWNER/NAME")
    path = local_path(target)
    if path.suffix != ARCHIVE:
        raise ConfigError(f"{target}: expected hf:OWNER/NAME, or an archive such as model{ARCHIVE}")
    require_free(path, force=force)
    _pack(folder, path)
    return PushedModel(str(path), sha256_of(path))


def _config(folder: Path) -> bytes:
    """The configuration of an artifact without folders of this machine."""
    content = read_checked_json(folder / CONFIG, FORMAT)
    facts = {key: without_folders(value) for key, value in content.items() if key in ("provenance", "metadata")}
    return encode_text(json.dumps(with_checksum({**content, **facts}), indent=2, ensure_ascii=False) + "\n")


def _pack(folder: Path, path: Path) -> None:
    """Writes the files of an artifact to an archive, without compression."""
    with replacing(path) as place, zipfile.ZipFile(place, "w") as archive:
        archive.writestr(zipfile.ZipInfo(CONFIG, _EPOCH), _config(folder))
        for name in (WEIGHTS, CARD):
            if (folder / name).is_file():
                info = zipfile.ZipInfo(name, _EPOCH)
                info.file_size = (folder / name).stat().st_size
                with (folder / name).open("rb") as file, archive.open(info, "w") as packed:
                    while piece := file.read(1 << 20):
                        packed.write(piece)


def _push(folder: Path, model: HubModel, card: Path | None, private: bool, message: str) -> str:
    """Commits the files of an artifact to the Hub, and compares what it lists with them."""
    written = f"{PREFIX}{model.name}"
    if "/" not in model.name:
        raise ConfigError(f"{written}: expected hf:OWNER/NAME")
    require_online(written)
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise ConfigError("push needs the package huggingface_hub: pip install 'convae[hugging-face]'") from error
    contents: dict[str, bytes | Path] = {CONFIG: _config(folder), WEIGHTS: folder / WEIGHTS}
    readme = folder / CARD
    if card is not None:
        readme, *others = _measured(local_path(card))
        contents |= {path.name: path for path in others}
    if readme.is_file():
        contents[CARD] = _card(read_bytes(readme, LARGEST_CARD), model.name)
    api = hub.HfApi(endpoint=endpoint(), library_name="convae", library_version=VERSION)

    def commit() -> str:
        api.create_repo(model.name, private=private or None, exist_ok=True)
        if model.revision != "main":
            api.create_branch(model.name, branch=model.revision, exist_ok=True)
        added = [hub.CommitOperationAdd(name, content) for name, content in contents.items()]
        return str(api.create_commit(model.name, added, commit_message=message, revision=model.revision).oid)

    with _hub_errors(written), _quietly(hub):
        revision = _repeat(commit)
    _compare(HubModel(model.name, revision), contents)
    return f"{written}@{revision}"


def _repeat(commit: Callable[[], str]) -> str:
    """Runs a commit again after a rate limit or an error of the server; what was uploaded is not sent again."""
    for failures in range(1, download.TRIES):
        try:
            return commit()
        except Exception as error:  # see `_hub_errors`
            response = _response(error)
            if response is None or not (response.status_code == _RATE_LIMITED or response.status_code >= 500):
                raise
            wait = response.headers.get("Retry-After", "")
            pause = float(wait) if wait.isdigit() else download.PAUSE * 2 ** (failures - 1)
            time.sleep(min(pause, download.LONGEST_PAUSE))
    return commit()


def _measured(folder: Path) -> list[Path]:
    """The files of a measured card, the Markdown first.

    Raises:
        ArtifactError: one is missing.
    """
    paths = [folder / name for name in MEASURED]
    for path in paths:
        if not path.is_file():
            raise ArtifactError(f"{path}: is missing. Write it with `convae card MODEL --out {folder}`")
    return [*paths, *([folder / PICTURE] if (folder / PICTURE).is_file() else [])]


def _card(content: bytes, name: str) -> bytes:
    """A model card with the command that downloads the model, unless it has one."""
    text = content.decode(errors="replace")
    if "convae pull" not in text:
        text = f"{text.rstrip()}\n\n## Download\n\n```sh\nconvae pull {PREFIX}{name}\n```\n"
    return encode_text(text)


def _compare(model: HubModel, contents: dict[str, bytes | Path]) -> None:
    """Compares sizes and digests of the files of a commit with what was sent.

    Raises:
        DataError: a file is missing or differs.
    """
    written = f"{PREFIX}{model.name}@{model.revision}"
    _, files = list_files(model)
    for name, content in contents.items():
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        if name not in files:
            raise DataError(f"{written}: {name} is missing after the upload. Push the model again")
        try:
            found = listed_file(files[name], size, written)
        except ArtifactError as error:
            raise DataError(f"{error}. Push the model again") from error
        if (found.size, found.digest) != (size, _digest(content, found.algorithm)):
            raise DataError(f"{written}: {name} differs from the file that was sent. Push the model again")


def _digest(content: bytes | Path, algorithm: str) -> str:
    """SHA-256 of a file, or its digest in git."""
    if algorithm == "sha256":
        return sha256_of(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
    blob = content.read_bytes() if isinstance(content, Path) else content
    return hashlib.sha1(b"blob %d\0" % len(blob) + blob, usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def _hub_errors(written: str) -> Iterator[None]:
    """Converts errors of huggingface_hub, whose messages may contain requests and tokens, to one message."""
    try:
        yield
    except ConvaeError:
        raise
    except Exception as error:  # HTTP errors, and those of the network library, which differ between versions
        status = getattr(_response(error), "status_code", None)
        if status in _DENIED:
            text = f"{written}: access is denied. Set $HF_TOKEN to a token that may write, or run `hf auth login`"
            raise OutputError(text) from None
        if status == _RATE_LIMITED:
            raise DataError(f"{written}: the Hub's rate limit is reached. Try again later") from None
        reason = f"the Hub returned HTTP {status}" if status else f"the upload failed ({_reason(error)})"
        raise DataError(f"{written}: {reason}. Push the model again") from None


def _response(error: BaseException | None) -> Any:
    """The HTTP response of an error or of its cause; None without one."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return response
        error = error.__cause__
    return None


def _reason(error: Exception) -> str:
    """The first line of an error and of its first cause, without the token."""
    from huggingface_hub import get_token

    last: BaseException = error
    while last.__cause__ is not None:
        last = last.__cause__
    token = get_token()
    text = one_line(f"{type(last).__name__}: {last}")
    return (text.replace(token, "…") if token else text)[:300]


@contextlib.contextmanager
def _quietly(hub: Any) -> Iterator[None]:
    """Hides the progress bars of huggingface_hub, and warnings about its own use of the network library."""
    bars = hub.utils
    had_bars = not bars.are_progress_bars_disabled()
    bars.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        if had_bars:
            bars.enable_progress_bars()
