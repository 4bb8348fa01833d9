"""Running a task in the processes of a launch, with its progress shown, and the status of its run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.utils.deterministic as determinism
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from convae.core.console import WorkBar, has_viewer
from convae.core.errors import ConfigError
from convae.core.files import read_bytes, write_json
from convae.core.paths import local_path
from convae.core.progress import Progress
from convae.core.trust import trust_options
from convae.training.distributed import Ranks
from convae.training.loop.checkpoint import Checkpoint
from convae.training.loop.task import Task
from convae.training.loop.trainer import Callback, Trainer
from convae.training.report import TrainingReport
from convae.training.run_folder import RUNS, RunFolder, taken_paths

MANY = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables of a process started by torchrun."""
SIGNED = "launch.json"
"""File in the folder of a run that torchrun started."""
_LARGEST = 1 << 16
"""Size limit of this file, in bytes."""
POLL = 0.02
"""Polling interval of the store, in seconds."""
UNNAMED = "none"
"""torchrun's default launch id."""


@contextlib.contextmanager
def connect_ranks() -> Iterator[Ranks]:
    """Connects the processes of this launch inside the block; a single process without torchrun.

    Raises:
        ConfigError: the other processes are unreachable.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size(), local)
        return
    if not all(name in os.environ for name in MANY) or os.environ["WORLD_SIZE"] == "1":
        yield Ranks()
        return
    try:
        store, number, count = next(rendezvous("env://"))
        meeting = PrefixStore(_meeting(store, number, count), store)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=meeting, rank=number, world_size=count)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the other of {os.environ['WORLD_SIZE']} processes are unreachable ({str(error).splitlines()[0]}). Start "
            "all of them with torchrun, or unset RANK and WORLD_SIZE"
        ) from error
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()


def _meeting(store: Store, number: int, count: int) -> str:
    """Agrees on a name for this attempt among its processes.

    torchrun keeps the store when it restarts processes, with the addresses of processes that ended: entries of an
    earlier attempt must be ignored.

    Raises:
        RuntimeError: the other processes did not connect.
    """
    own = uuid.uuid4().hex
    if number == 0:
        store.set("convae", own)
        for other in range(1, count):
            # Only a process of this attempt can answer to this new name.
            store.set(f"{own}/{str(store.get(f'{own}/{other}'), 'ascii')}", "come")
        return own
    until = time.monotonic() + dist.constants.default_pg_timeout.total_seconds()
    while time.monotonic() < until:
        if store.check(["convae"]):
            name = str(store.get("convae"), "ascii")
            store.set(f"{name}/{number}", own)
            if store.check([f"{name}/{own}"]):
                return name
        time.sleep(POLL)
    raise RuntimeError("rank 0 did not connect")


def require_single_process(what: str) -> None:
    """Checks that this process is the only one.

    Raises:
        ConfigError: there are several processes.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError(
            f"{what} runs in a single process. Use torchrun only with `-m convae train` and `-m convae prior`"
        )


@dataclass(frozen=True)
class Launch:
    """One call of torchrun, which may restart its processes.

    Attributes:
        name: the launch id (`--rdzv-id`), or `none`.
        agent: the parent process, by host, process id and start time.
    """

    name: str
    agent: str

    def sign(self, folder: Path) -> None:
        """Records this launch in the folder of a run."""
        write_json(folder / SIGNED, asdict(self))

    def started(self, folder: Path, restarted: bool) -> bool:
        """Whether this launch started the run in a folder.

        Args:
            folder: run folder.
            restarted: whether torchrun has restarted processes.
        """
        try:
            other = Launch(**json.loads(read_bytes(folder / SIGNED, _LARGEST)))
        except (OSError, ValueError, TypeError, RecursionError):
            return False
        return self.agent == other.agent or (restarted and self.name == other.name != UNNAMED)


def current_launch() -> Launch | None:
    """The launch of this process; None without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None:
        return None
    agent = os.getppid()
    began = ""
    with contextlib.suppress(OSError):  # /proc exists on Linux only
        began = Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[19]
    return Launch(name, f"{socket.gethostname()} {agent} {began}")


def was_restarted() -> bool:
    """Whether torchrun has restarted this process."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextlib.contextmanager
def show_progress(
    callback: Callback | None, progress: Progress | None, quiet: bool
) -> Iterator[tuple[Callback | None, Progress | None]]:
    """The callbacks of a training: by default progress bars, on a terminal and in notebooks."""
    if quiet or callback is not None or not has_viewer():
        yield callback, progress
        return
    bar = WorkBar()
    try:
        yield TrainingReport(bar), progress or bar
    finally:
        bar.close()


@contextlib.contextmanager
def hold_folder(folder: RunFolder, ranks: Ranks) -> Iterator[None]:
    """Locks the folder in the main process."""
    with contextlib.ExitStack() as stack:
        ranks.broadcast(lambda: stack.enter_context(folder.held()))
        yield


def begun_run(title: str, out: str | Path | None, restarted: bool) -> RunFolder | None:
    """The run that this launch of torchrun has started already, if its processes were restarted.

    Args:
        title: of the run.
        out: its folder; None for one in `runs/`.
        restarted: whether torchrun has restarted processes.
    """
    own = current_launch()
    if own is None:
        return None
    paths = taken_paths(RUNS, title) if out is None else [local_path(out)]
    return next((RunFolder(path) for path in paths if own.started(path, restarted)), None)


def sign_folder(folder: RunFolder) -> None:
    """Records the launch of torchrun in the folder of a new run."""
    own = current_launch()
    if own is not None:
        own.sign(folder.path)


def run_task(
    task: Task,
    folder: RunFolder,
    checkpoint: Checkpoint | None,
    callback: Callback | None,
    note: str | None = None,
) -> Trainer:
    """Trains a task, and updates the status in its run folder.

    Args:
        task: the task.
        folder: run folder, held by the main process.
        checkpoint: checkpoint to continue from; None for a new run.
        callback: called in the main process.
        note: a note to log first.

    Returns:
        The trainer after the last step.
    """
    is_main = task.ranks.is_main
    trainer = Trainer(task, folder, checkpoint, callback if callback and is_main else Callback(), note)
    with _deterministic(task.device):
        trainer.fit()
    progress, total = trainer.progress, trainer.total_steps
    status = f"Training is done: {total} steps."
    if trainer.stopped:
        status = f"Training was stopped after {progress.step} of {total} steps: "
        status += f"`convae train --resume {folder.path}{trust_options()}` continues."
    elif progress.best is not None:
        status += (
            f" The best model is that of step {progress.best_step}: {progress.best:.2f} {task.plan.total_unit} per "
            "validation image."
        )
    if is_main:
        folder.describe(task.title, status)
    return trainer


@contextlib.contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """On the CPU, sums do not depend on the timing of threads, such as that of the gradient of `table[indices]`.

    Without it, a run with several threads is not repeated bit for bit. On other devices, the choice is the caller's.
    """
    modes = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills = determinism.fill_uninitialized_memory  # type: ignore[attr-defined]
    if device.type != "cpu" or modes[0]:
        yield
        return
    # As `torch.use_deterministic_algorithms`, which imports torch's compiler: a second or two.
    set_mode = torch._C._set_deterministic_algorithms  # noqa: SLF001
    set_mode(True, warn_only=True)
    determinism.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        set_mode(modes[0], warn_only=modes[1])
        determinism.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
