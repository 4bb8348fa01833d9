"""How several processes come together: what torchrun tells each of them, and which run a restarted one belongs to."""

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
from convae.training.distributed.ranks import Ranks

MANY = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables that say that a process is one of several."""
SIGNED = "launch.json"
"""In the folder of a run that torchrun began."""
_LARGEST = 1 << 16
"""Bytes of such a file, at most."""
POLL = 0.02
"""Seconds between two looks at what the first process says."""
UNNAMED = "none"
"""torchrun's name of a launch that nobody gave one."""


@contextlib.contextmanager
def connect_ranks() -> Iterator[Ranks]:
    """The processes of this launch, connected inside the block; one alone where nothing says otherwise.

    Raises:
        ConfigError: the others cannot be reached.
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
            f"the other {os.environ['WORLD_SIZE']} processes cannot be reached ({str(error).splitlines()[0]}): start "
            "all of them with torchrun, or unset RANK and WORLD_SIZE"
        ) from error
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()


def _meeting(store: Store, number: int, count: int) -> str:
    """A name that the processes of this attempt agree on.

    torchrun keeps the store when it starts processes again, and with it the addresses of those that died: what an
    earlier attempt wrote must not be taken for what one of this attempt says.

    Raises:
        RuntimeError: the others did not come.
    """
    own = uuid.uuid4().hex
    if number == 0:
        store.set("convae", own)
        for other in range(1, count):
            # Nobody but a process of this attempt can have answered to a name that is so new.
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
    raise RuntimeError("the first process did not come")


def require_single_process(what: str) -> None:
    """Checks that this process is the only one.

    Raises:
        ConfigError: it is one of several.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError(f"{what} is for one process: give torchrun a single training, `-m convae train`")


@dataclass(frozen=True)
class Launch:
    """One call of torchrun, which may start its processes several times.

    Attributes:
        name: that torchrun was given or made (`--rdzv-id`); `none` where there is none.
        agent: the process that starts this one, by host, number and time.
    """

    name: str
    agent: str

    def sign(self, folder: Path) -> None:
        """Writes into the folder of a run that this launch began it."""
        write_json(folder / SIGNED, asdict(self))

    def started(self, folder: Path, restarted: bool) -> bool:
        """Whether it was this launch that began the run in a folder.

        Args:
            folder: of the run.
            restarted: whether torchrun says that it has started some of the processes again.
        """
        try:
            other = Launch(**json.loads(read_bytes(folder / SIGNED, _LARGEST)))
        except (OSError, ValueError, TypeError, RecursionError):
            return False
        return self.agent == other.agent or (restarted and self.name == other.name != UNNAMED)


def current_launch() -> Launch | None:
    """The launch that this process is of; None without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None:
        return None
    agent = os.getppid()
    began = ""
    with contextlib.suppress(OSError):  # there is /proc on Linux alone
        began = Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[19]
    return Launch(name, f"{socket.gethostname()} {agent} {began}")


def was_restarted() -> bool:
    """Whether torchrun has started this process again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
