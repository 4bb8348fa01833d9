"""Reading members of archives without unpacking, so that no name in an archive becomes a path on the disk."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from convae.core.errors import DataError

_MEMBERS = 1000
_TOTAL = 1 << 30
"""Limits of the number of members of an archive and of their size in bytes."""


def read_tar(path: Path, wanted: Mapping[str, int]) -> dict[str, bytes]:
    """Reads members of a tar archive, compressed or not.

    Args:
        path: the archive.
        wanted: file names, without folders, and the size limit of each in bytes.

    Raises:
        DataError: unreadable, damaged, too large, or a member is missing.
    """
    found: dict[str, bytes] = {}
    total = 0
    try:
        with tarfile.open(path, "r|*") as archive:
            for count, member in enumerate(archive, start=1):
                total += member.size
                name = member.name.rpartition("/")[2]
                limit = wanted.get(name)
                if count > _MEMBERS or total > _TOTAL or (limit is not None and member.size > limit):
                    raise DataError(f"{path}: contains more data than the data set. Download it again")
                if limit is not None and member.isreg() and name not in found:
                    content = archive.extractfile(member)
                    found[name] = content.read() if content is not None else b""
                if len(found) == len(wanted):
                    break
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged archive ({error}). Download it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} missing. Download it again")
    return found
