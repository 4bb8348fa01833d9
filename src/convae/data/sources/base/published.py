"""Published data sets: found on this machine or downloaded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from convae.core.errors import DataError
from convae.core.progress import Progress
from convae.data.io.download import Remote, download
from convae.data.sources.base.source import Source


class PublishedSource(Source):
    """A data set of published files.

    Subclasses state the files and their web page, and locate them in a folder.
    """

    remotes: ClassVar[tuple[Remote, ...]]
    origin: ClassVar[str]
    system: ClassVar[Path | None] = None
    torchvision: ClassVar[str | None] = None
    """The folder that torchvision creates for the data set, if its name differs."""

    @abstractmethod
    def locate(self, folder: Path) -> Mapping[str, Path] | None:
        """The files of the source by role, if the folder contains all of them; otherwise None."""

    def prepare(self, progress: Progress | None = None) -> None:
        """Downloads the files if they are not on this machine."""
        if self._found is not None:
            return
        if not self._data_dirs.download or not self.remotes:
            raise DataError(f"{self.name}: not found in {self._looked_in}. {self._by_hand}")
        try:
            download(self.remotes, self._home, progress)
        except DataError as error:
            raise DataError(f"{self.name}: cannot be downloaded ({error}). {self._by_hand}") from error
        del self._found

    def fingerprint(self) -> str:
        """Location, size and times of the files."""
        stats = [(path, path.stat()) for path in self.files.values()]
        return "\n".join(
            f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}" for path, stat in stats
        )

    @property
    def files(self) -> Mapping[str, Path]:
        """The files found by `locate`.

        Raises:
            DataError: the files are not on this machine.
        """
        if self._found is None:
            raise DataError(f"{self.name}: not found in {self._looked_in}. {self._by_hand}")
        return self._found

    @cached_property
    def _found(self) -> Mapping[str, Path] | None:
        return next((found for folder in self._folders if (found := self.locate(folder))), None)

    @property
    def _folders(self) -> list[Path]:
        folders = [given / inner for given in self._data_dirs.directories for inner in self._inner]
        return folders + ([self.system] if self.system else [])

    @property
    def _inner(self) -> list[str]:
        """Possible folders of the files within a folder of data sets; those with the name of the set come first."""
        if self.torchvision is None:
            return [self.name, "."]
        return [self.name, f"{self.name}/raw", f"{self.torchvision}/raw", self.torchvision, ".", "raw"]

    @property
    def _home(self) -> Path:
        """Destination of missing files."""
        return self._data_dirs.directories[-1] / self.name

    @property
    def _looked_in(self) -> str:
        inner = ", ".join(name for name in self._inner if name != ".")
        directories = ", ".join(map(str, [*self._data_dirs.directories, *([self.system] if self.system else [])]))
        return f"{directories} and the folders {inner} there"

    @property
    def _by_hand(self) -> str:
        names = ", ".join(remote.name for remote in self.remotes)
        return f"Download {names} from {self.origin} into {self._home}"
