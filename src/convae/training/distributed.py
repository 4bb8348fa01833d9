"""Data-parallel processes, each of which trains on a slice of every batch.

    torchrun ── starts ranks ──> same recipe, same order ── slices ──> summed gradients ──> same step on all ranks
                                                                                                 rank 0 writes

Sums are weighted by the number of images, so that a step equals that of the global batch up to rounding, for any number
of ranks. The backend is gloo on CPUs and NCCL on GPUs. A single process has no process group.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from convae.core.collective import sharing
from convae.core.errors import ConfigError, ConvaeError, ReportedElsewhereError, TrainingError
from convae.core.names import count_text

PATIENCE = timedelta(days=7)
"""Timeout of the process group, long enough to prepare the data; a rank that dies is noticed immediately."""
_T = TypeVar("_T")


@dataclass
class Stop:
    """Whether the training was requested to stop."""

    requested: bool = False


@contextlib.contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Inside the block, the first SIGINT or SIGTERM sets `stop.requested`; a second SIGINT interrupts immediately.

    So does SIGHUP, of a terminal that is closed, unless it is ignored, as by `nohup`.
    Signals can only be handled in the main thread; in other threads it has no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.requested = True

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Ranks:
    """The processes of a training, seen from one of them.

    Attributes:
        number: rank of this process.
        count: number of processes.
        is_main: whether this process writes files and prints.
        stop: whether this process was requested to stop; `should_stop` tells whether any was.

    Args:
        number: rank of this process.
        count: number of processes; above 1, the default process group must exist.
        local: rank on the host.
    """

    def __init__(self, number: int = 0, count: int = 1, local: int = 0) -> None:
        self.number, self.count = number, count
        self.is_main = number == 0
        self._local = local
        self.stop = Stop()
        self._stop_requests: deque[Tensor] = deque(maxlen=2)
        self._patient = dist.new_group(backend="gloo", timeout=PATIENCE) if count > 1 else None

    def device(self, wanted: torch.device) -> torch.device:
        """The device of this process.

        Raises:
            ConfigError: the host has fewer GPUs than processes.
        """
        if self.count == 1 or wanted.type != "cuda":
            return wanted
        if self._local >= torch.cuda.device_count():
            raise ConfigError(
                f"training.device: {self._local + 1} processes on a host with "
                f"{count_text(torch.cuda.device_count(), 'GPU')}. Set --nproc-per-node of torchrun to their number"
            )
        torch.cuda.set_device(self._local)
        return torch.device("cuda", self._local)

    def local_main_first(self, work: Callable[[], _T]) -> _T:
        """Runs `work` in one process of each host, and then in the others of the host.

        Raises:
            ConvaeError: raised by any of them.
        """
        if self.count == 1:
            return work()
        for turn in (True, False):
            if (self._local == 0) == turn:
                result = self.run_on_all(work)
            else:
                self.run_on_all(lambda: None)
        return result

    def run_on_all(self, work: Callable[[], _T]) -> _T:
        """Runs `work` in each process.

        Raises:
            ConvaeError: raised by any of them.
        """
        error: ConvaeError | None = None
        try:
            result = work()
        except ConvaeError as raised:
            error = raised
        self._raise(self.gather(error))
        return result

    def broadcast(self, work: Callable[[], _T]) -> _T:
        """Runs `work` in the main process, and returns its result in all processes.

        Raises:
            ConvaeError: raised there.
        """
        if self.count == 1:
            return work()
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome[0] = work()
            except ConvaeError as raised:
                outcome[1] = raised
        dist.broadcast_object_list(outcome, group=self._patient)
        self._raise([outcome[1]])
        result: _T = outcome[0]
        return result

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the named tensors of the main process on the CPU; other processes may pass none."""
        if self.count == 1:
            return dict(tensors)
        forms = self.broadcast(lambda: {name: (value.shape, value.dtype) for name, value in tensors.items()})
        result = (
            dict(tensors)
            if self.is_main
            else {name: torch.empty(shape, dtype=kind) for name, (shape, kind) in forms.items()}
        )
        for value in result.values():
            dist.broadcast(value, src=0, group=self._patient)
        return result

    def gather(self, value: _T) -> list[_T]:
        """Returns the values of all processes in order of rank."""
        found: list[Any] = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(found, value, group=self._patient)
        return found

    def should_stop(self, now: bool = False) -> bool:
        """Whether training stops after this step; the same in all processes.

        Requests are sent with the metrics of a step. On a GPU the answer is that of the step before, to avoid waiting.

        Args:
            now: synchronize with all processes instead.
        """
        if self.count == 1:
            return self.stop.requested
        if now:
            return any(self.gather(self.stop.requested))
        if not self._stop_requests:
            return False
        return bool(self._stop_requests[-1] if self._stop_requests[-1].device.type == "cpu" else self._stop_requests[0])

    def sum(self, metrics: Mapping[str, Tensor], buffers: Sequence[Tensor]) -> dict[str, Tensor]:
        """Sums scalars over all processes, and sets buffers to their means, in one all-reduce.

        Args:
            metrics: the contribution of this process to means over the batch.
            buffers: buffers of the model; equal in all processes afterwards.
        """
        if self.count == 1:
            return dict(metrics)
        values = torch.stack([*metrics.values()])
        stop = values.new_full((1,), float(self.stop.requested))
        floats = [buffer for buffer in buffers if buffer.is_floating_point()]
        scaled = (buffer.detach().flatten().to(values.dtype) / self.count for buffer in floats)
        message = self.add(torch.cat([values, stop, *scaled]))
        totals, *means = torch.split(message, [len(values) + 1, *(buffer.numel() for buffer in floats)])
        for buffer, mean in zip(floats, means, strict=True):
            buffer.copy_(mean.view_as(buffer))
        self._stop_requests.append(totals[-1])
        return dict(zip(metrics, totals[:-1].unbind(), strict=True))

    def add(self, values: Tensor) -> Tensor:
        """Sums a tensor over all processes, in place."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def sharing_batch(self, sync_batch_norm: bool = False) -> contextlib.AbstractContextManager[None]:
        """A context in which layers and terms compute batch statistics over all processes.

        Args:
            sync_batch_norm: whether batch norms do as well.
        """
        return sharing(batch_norm=sync_batch_norm) if self.count > 1 else contextlib.nullcontext()

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Converts a lost connection inside the block to a `TrainingError`.

        Raises:
            TrainingError: another process ended.
        """
        try:
            yield
        except (RuntimeError, dist.DistError) as error:
            text = str(error)
            if self.count == 1 or not (isinstance(error, dist.DistError) or "gloo" in text):
                raise
            # Without locations in the source of gloo.
            reason = re.sub(r"\[/\S*\] ?", "", text.splitlines()[0]).partition(". ")[0]
            lost = (
                f"lost the connection to another of the {self.count} processes ({reason}). With --max-restarts, "
                "torchrun restarts all of them at the last checkpoint"
            )
            raise TrainingError(lost) if self.is_main else ReportedElsewhereError(lost) from error

    def _raise(self, errors: Sequence[ConvaeError | None]) -> None:
        """Raises the first error; only the main process reports it."""
        for error in errors:
            if error is not None:
                raise error if self.is_main else ReportedElsewhereError(str(error))
