"""The figures of a run for TensorBoard, which is an extra and imported here alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convae.core.errors import ConfigError
from convae.training.journal import Row

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
