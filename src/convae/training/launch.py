"""What torchrun started: its processes, which find each other, and its launch, which a run remembers."""

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
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from convae.core.errors import ConfigError
from convae.core.files import read_bytes, write_json
from convae.training.distributed import Ranks

MANY = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables of a process started by torchrun."""
SIGNED = "launch.json"
"""File in the folder of a run that torchrun started."""
_LARGEST = 1 << 16
"""Size limit of this file, in bytes."""
POLL = 0.02
"""Polling interval of the store, in seconds."""
SETTLE = 0.2
"""Time for threads of gloo to free the last collective, in seconds."""
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
        leave_group()


def leave_group() -> None:
    """Destroys the process group, once its threads are idle.

    A thread of gloo needs the GIL to free a collective that has ended. The destructor of the group, called here or with
    the last module that uses the group, joins that thread while it holds the GIL: a deadlock.
    """
    time.sleep(SETTLE)
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
