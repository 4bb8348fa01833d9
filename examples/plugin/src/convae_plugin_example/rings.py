import numpy as np

from convae.data import Column, DataDirs, Listing, Record, Source, Survey
from convae.types import Positive, Progress


class Rings(Source):
    """Rings of two radii, each somewhere in the image; the radius is the label."""

    def __init__(self, data_dirs: DataDirs, *, count: Positive = 256, size: Positive = 16) -> None:
        super().__init__(data_dirs)
        self.count, self.size = count, size

    def fingerprint(self) -> str:
        return f"rings {self.count} {self.size}"

    def survey(self, progress: Progress | None = None, *, sizes: bool = True) -> Survey:
        return Survey(size=(self.size, self.size), channels=1)

    def listing(self) -> Listing:
        radius = Column(np.arange(self.count) % 2, classes=("small", "large"))
        return Listing([f"{index:05d}" for index in range(self.count)], {"radius": radius}, label="radius")

    def record(self, index: int, near: tuple[int, ...]) -> Record:
        row, column = np.random.default_rng(index).uniform(0.3, 0.7, 2) * self.size
        rows, columns = np.ogrid[: self.size, : self.size]
        distance = np.hypot(rows - row, columns - column)
        ring = np.abs(distance - self.size * (0.15, 0.3)[index % 2]) < 1
        return Record((ring * 255).astype(np.uint8)[..., None], (self.size, self.size))
