"""What a run writes down: rows of metrics, notes, timings; the same for TensorBoard, an extra imported here alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convae.core.errors import ConfigError
from convae.core.files import append, replacing, sync, writing_errors
from convae.training.run_folder.folder import RunFolder

Row = dict[str, Any]
NOTE = "note"
"""The `split` of a row that holds a sentence in the place of figures."""


class RunLog:
    """The log of a run, row by row.

    Args:
        folder: of the run.
        steps_per_epoch: batches in an epoch.
        writes: whether it is this process that writes it.
    """

    def __init__(self, folder: RunFolder, steps_per_epoch: int, writes: bool) -> None:
        self._folder = folder
        self._writes = writes
        self._per_epoch = steps_per_epoch

    def sync(self) -> int:
        """Sees that the log so far is on the disk, and gives its bytes."""
        with writing_errors(self._folder.metrics):
            sync(self._folder.metrics)
            return self._folder.metrics.stat().st_size

    def write(self, split: str, step: int, content: Row) -> Row:
        """A row; figures are per image, in their terms' units, without weights."""
        row: Row = {"split": split, "step": step, "epoch": round(step / self._per_epoch, 6), **content}
        self._append(self._folder.metrics, row)
        return row

    def time(self, epoch: int, steps: int, images: int, seconds: float, waited: float) -> None:
        """How long the steps of an epoch took, and for how much of that they waited for their batches."""
        row = {"epoch": epoch + 1, "steps": steps, "seconds": round(seconds, 3)}
        rates = {"images_per_second": round(images / seconds, 1), "waiting_for_data": round(waited / seconds, 4)}
        self._append(self._folder.timings, {**row, **rates})

    def tabulate(self) -> None:
        """The rows of figures once more, as a table that spreadsheets read; lists are left out."""
        # Twice through the log, for the columns and for the rows: it may be longer than memory.
        headings = dict[str, None]()
        for row in self._figures():
            headings.update(dict.fromkeys(row))
        with (
            replacing(self._folder.path / "metrics.csv") as place,
            place.open("w", newline="", encoding="utf-8") as file,
        ):
            table = csv.DictWriter(file, list(headings), lineterminator="\n")
            table.writeheader()
            table.writerows(self._figures())

    def _figures(self) -> Iterator[Row]:
        """The rows that are not notes, without lists."""
        for row, _ in self._folder.read_rows():
            if row["split"] != NOTE:
                yield {name: value for name, value in row.items() if not isinstance(value, list)}

    def _append(self, path: Path, row: Row) -> None:
        if self._writes:
            if not path.exists():
                self._folder.check()
            append(path, json.dumps(row) + "\n")


WHERE = ("split", "step", "epoch")
"""What a row says of itself; the rest are figures."""


def summary_writer() -> Any:
    """TensorBoard's class for writing.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "training.tensorboard: TensorBoard is not installed; get it with: pip install 'convae[tensorboard]'"
        ) from error
    return SummaryWriter


class TensorBoard:
    """Writes rows of figures as TensorBoard's scalars, such as `validation/kl`.

    Args:
        folder: where its event files go.
        step: of the state that the run goes on from; what was written after it is hidden.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._writer = summary_writer()(str(folder), purge_step=step + 1)

    def write(self, row: Row) -> None:
        """The numbers of a row."""
        for name, value in row.items():
            if name not in WHERE and isinstance(value, int | float):
                self._writer.add_scalar(f"{row['split']}/{name}", value, row["step"])

    def close(self) -> None:
        """Writes what is still held back."""
        self._writer.close()
