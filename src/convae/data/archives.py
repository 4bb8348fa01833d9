"""Members of archives, read in place: nothing is unpacked, so no name in an archive is ever a path on the disk."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from convae.core.errors import DataError

_MEMBERS = 1000
_TOTAL = 1 << 30
"""How many members, and bytes of them, an archive of a known data set may hold."""


def read_tar(path: Path, wanted: Mapping[str, int]) -> dict[str, bytes]:
    """The content of some members of a tar archive, packed or not.

    Args:
        path: the archive.
        wanted: the names of files, without their folders, and the most bytes that each may have.

    Raises:
        DataError: unreadable, damaged, far larger than it should be, or without one of the members.
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
                    raise DataError(f"{path}: holds more than the data set has: get it again")
                if limit is not None and member.isreg() and name not in found:
                    content = archive.extractfile(member)
                    found[name] = content.read() if content is not None else b""
                if len(found) == len(wanted):
                    break
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged archive ({error}): get it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}: get it again")
    return found
