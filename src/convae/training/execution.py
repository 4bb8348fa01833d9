"""Running a task in the processes of a launch, with its progress shown, and the status of its run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

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
from convae.core.trust import trust_options, trusted_packages
from convae.data import DataSet
from convae.data.splits.given import GivenData
from convae.data.splits.snapshot import Snapshot
from convae.model.artifact import save
from convae.model.vae import VAE
from convae.training.distributed import Ranks
from convae.training.loop.checkpoint import Checkpoint
from convae.training.loop.recovery import last_good
from convae.training.loop.task import Task
from convae.training.loop.trainer import Callback, Trainer
from convae.training.recipe.reading import write_recipe
from convae.training.recipe.schema import PriorRecipe, Recipe
from convae.training.report import TrainingReport
from convae.training.run_folder import RUNS, RunFolder, free_path, taken_paths

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
_RecipeT = TypeVar("_RecipeT", Recipe, PriorRecipe)


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


@dataclass(frozen=True)
class Execution:
    """The processes of a training, and the callbacks of the main one.

    Attributes:
        ranks: the processes.
        callback: callback of the training.
        progress: called during the preparation of the data.
    """

    ranks: Ranks
    callback: Callback | None = None
    progress: Progress | None = None

    def say(self, sentence: str) -> None:
        """Passes a message to the callback, in the main process."""
        if self.callback is not None and self.ranks.is_main:
            self.callback.on_message(sentence)

    def read(self, read: Callable[[], _RecipeT], out: str | Path | None) -> tuple[_RecipeT, RunFolder | None]:
        """Reads the recipe of a new run in the main process.

        Args:
            read: reads the recipe.
            out: the run folder; None for one in `runs/`.

        Returns:
            The recipe, and the run to resume: the one that this launch of torchrun has begun already, if its processes
            were restarted.

        Raises:
            OutputError: `out` has files.
        """
        restarted = any(self.ranks.gather(was_restarted()))

        def prepare() -> tuple[_RecipeT, RunFolder | None]:
            recipe, launch, begun = read(), current_launch(), None
            if launch is not None:
                paths = taken_paths(RUNS, recipe.title) if out is None else [local_path(out)]
                begun = next((RunFolder(path) for path in paths if launch.started(path, restarted)), None)
            if begun is None and out is not None:
                RunFolder(local_path(out)).free()
            return recipe, begun

        return self.ranks.broadcast(prepare)

    def new_folder(self, title: str, out: str | Path | None) -> RunFolder:
        """The folder of a new run: `out`, or a free one in `runs/`."""
        return RunFolder(local_path(out) if out is not None else self.ranks.broadcast(partial(free_path, RUNS, title)))

    @contextlib.contextmanager
    def held(self, folder: RunFolder) -> Iterator[None]:
        """Locks a run folder inside the block, in the main process."""
        with contextlib.ExitStack() as stack:
            self.ranks.broadcast(lambda: stack.enter_context(folder.held()))
            yield

    def begin(
        self,
        folder: RunFolder,
        recipe: Recipe | PriorRecipe,
        data_set: DataSet | GivenData | None,
        open_start: Callable[[], VAE | None],
    ) -> None:
        """Writes the first files of a new run, in the main process.

        Args:
            folder: run folder, held.
            recipe: the recipe with every option.
            data_set: the data set, whose digests are recorded.
            open_start: returns the model from which the run starts; None for random weights.
        """

        def write() -> None:
            folder.begin(write_recipe(recipe), recipe.title)
            if isinstance(data_set, DataSet):
                Snapshot.of(data_set.split("all")).write(folder.data)
            if (start := open_start()) is not None:
                save(start, folder.start)
            if (launch := current_launch()) is not None:
                launch.sign(folder.path)

        self.ranks.broadcast(write)


@contextlib.contextmanager
def open_execution(
    callback: Callback | None, progress: Progress | None, quiet: bool, trust: Iterable[str]
) -> Iterator[Execution]:
    """Connects the processes, and shows progress bars by default on a terminal and in notebooks.

    Args:
        callback: callback of the training.
        progress: called during the preparation of the data.
        quiet: no progress bar.
        trust: packages outside convae whose code saved models may use.
    """
    with trusted_packages(trust), connect_ranks() as ranks:
        if quiet or callback is not None or not has_viewer():
            yield Execution(ranks, callback, progress)
            return
        bar = WorkBar()
        try:
            yield Execution(ranks, TrainingReport(bar), progress or bar)
        finally:
            bar.close()


def recover_run(folder: RunFolder, task: Task, callback: Callback | None) -> Checkpoint | None:
    """The checkpoint to continue from, after the files of the run were restored to its step."""
    say = (callback or Callback()).on_message
    checkpoint = last_good(folder, task.plan, say)
    lost = folder.recover(checkpoint.progress.log_bytes if checkpoint else 0)
    if lost is not None:
        say(lost)
    return checkpoint


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
