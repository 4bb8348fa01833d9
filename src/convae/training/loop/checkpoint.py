"""Checkpoints, with everything that a run needs to continue exactly.

    checkpoints/step-00001200/
      state.json              values by object, recipe, machine, a SHA-256 of each tensor and of itself
      tensors.safetensors     tensors by object: model, optimizer, ema

Checkpoints are written atomically. Random number generators have no state, since all randomness is counter-based.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save as to_bytes
from torch import Tensor

from convae.core.checked_files import digest, read_checked_json, read_tensors, with_checksum
from convae.core.errors import ArtifactError
from convae.core.files import temporary_path, write_bytes, write_json
from convae.core.folders import new_folder
from convae.training.distributed import Ranks
from convae.training.loop.counters import Counters
from convae.training.loop.task import Stateful
from convae.training.sharding import gather_tensor

FORMAT = 4
STATE = "state.json"
TENSORS = "tensors.safetensors"
STOPPED = "-stopped"
"""Suffix of the name of a checkpoint that was written because the run was stopped."""


@dataclass(frozen=True)
class Machine:
    """Properties of the machine that affect rounding.

    Attributes:
        threads: number of threads of torch.
        instructions: instruction set of torch's kernels, such as `AVX2`.
        torch_version: version of torch.
        device: `cpu`, or the name of the GPU.
        processes: number of processes.
    """

    threads: int
    instructions: str
    torch_version: str
    device: str
    processes: int

    @classmethod
    def here(cls, device: torch.device, processes: int) -> Machine:
        """The machine of this process."""
        return cls(
            threads=torch.get_num_threads(),
            instructions=torch.backends.cpu.get_cpu_capability(),
            torch_version=str(torch.__version__),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            processes=processes,
        )

    def changes(self, before: Machine) -> str | None:
        """Describes the differences from an earlier machine in a sentence; None without differences."""
        own, old = asdict(self), asdict(before)
        found = [
            f"{name.replace('_', ' ')} {own[name]} instead of {old[name]}" for name in own if own[name] != old[name]
        ]
        if not found:
            return None
        return f"{', '.join(found)}: from here on, the run equals an uninterrupted one up to rounding, not bit for bit"


_PARTS, _DIGESTS = TypeAdapter(dict[str, dict[str, Any]]), TypeAdapter(dict[str, str])
_RECIPES, _MACHINES = TypeAdapter(dict[str, Any]), TypeAdapter(Machine)


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    Attributes:
        path: its folder.
        values: JSON values of each `Stateful` by name.
        recipe: recipe of the run.
        machine: machine on which it was written.
        tensors: tensors of all `Stateful`s as `object.name`; empty if they were not read.
    """

    path: Path
    values: dict[str, dict[str, Any]]
    recipe: dict[str, Any]
    machine: Machine
    tensors: dict[str, Tensor]

    @property
    def progress(self) -> Counters:
        """The progress of the run.

        Raises:
            ArtifactError: the progress is missing or invalid.
        """
        found = Counters()
        try:
            found.load_state(self.values["progress"])
        except (KeyError, ValueError) as error:
            raise ArtifactError(f"{self.path / STATE}: not the state of a training ({error})") from error
        return found

    @property
    def skips_in_a_row(self) -> int:
        """Number of consecutive skipped steps before it."""
        return int(self.values.get("health", {}).get("row", 0))

    def restore(self, objects: Mapping[str, Stateful]) -> None:
        """Restores the state of each object, by name.

        Raises:
            ArtifactError: the checkpoint is of another training.
        """
        if missing := sorted(objects.keys() - self.values.keys()):
            raise ArtifactError(f"{self.path}: belongs to another training: {', '.join(missing)} missing")
        for name, each in objects.items():
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}
            try:
                each.load_state({**self.values[name], **own})
            except (RuntimeError, KeyError, TypeError, ValueError) as error:
                reason = str(error).splitlines()[-1].strip()
                raise ArtifactError(f"{self.path}: belongs to another model ({reason})") from error


def collect_state(objects: Mapping[str, Stateful]) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """JSON values and full tensors of objects; every process must call it, since tensors may be sharded."""
    values: dict[str, dict[str, Any]] = {}
    tensors: dict[str, Tensor] = {}
    for name, each in objects.items():
        state = each.state()
        tensors |= {f"{name}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
        values[name] = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
    return values, {name: gather_tensor(tensors[name].detach()) for name in sorted(tensors)}


def save_checkpoint(
    folder: Path,
    step: int,
    values: Mapping[str, Mapping[str, Any]],
    tensors: Mapping[str, Tensor],
    *,
    recipe: Mapping[str, Any],
    machine: Machine,
    planned: bool,
    keep: int,
) -> Path:
    """Writes the checkpoint of a step.

    Of the planned checkpoints the `keep` newest are kept, so that an interrupted run rolls back to the same ones as an
    uninterrupted run; of those written because the run was stopped, the newest.

    Raises:
        OutputError: it cannot be written; older ones are kept.
    """
    stored = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    path = folder / f"step-{step:08d}{'' if planned else STOPPED}"
    with new_folder(path) as place:
        write_bytes(place / TENSORS, to_bytes(stored))
        sha256 = {name: digest(tensor) for name, tensor in stored.items()}
        facts = {"values": values, "recipe": recipe, "machine": asdict(machine), "sha256": sha256}
        write_json(place / STATE, with_checksum({"format": FORMAT, **facts}))
    kept = {*[old for old in list_checkpoints(folder) if is_planned(old)][-keep:], path}
    for old in list_checkpoints(folder):
        if old not in kept:
            remove_checkpoint(old)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(folder.glob("step-*"))


def is_planned(path: Path) -> bool:
    """Whether a checkpoint is a planned one, which every run of the recipe writes."""
    return not path.name.endswith(STOPPED)


def remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint after renaming it, so that a process that dies meanwhile leaves no damaged one."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path.rename(temporary_path(path)), ignore_errors=True)


def read_checkpoint(path: Path, with_tensors: bool = True) -> Checkpoint:
    """Reads and checks a checkpoint.

    Raises:
        ArtifactError: it is damaged, or of another format.
        ConvaeError: a transient failure of the system.
    """
    written = read_checked_json(path / STATE, FORMAT)
    if written["format"] < FORMAT:
        raise ArtifactError(f"{path}: was written by an earlier version of convae, which can continue it")
    try:
        values = _PARTS.validate_python(written.get("values"))
        recipe = _RECIPES.validate_python(written.get("recipe"))
        machine = _MACHINES.validate_python(written.get("machine"))
        sha256 = _DIGESTS.validate_python(written.get("sha256"))
    except ValidationError as error:
        raise ArtifactError(f"{path / STATE}: not the state of a training ({error.errors()[0]['msg']})") from error
    tensors = read_tensors(path / TENSORS, sha256) if with_tensors else {}
    return Checkpoint(path, values, recipe, machine, tensors)


def read_together(ranks: Ranks, read: Callable[[], Checkpoint | None]) -> Checkpoint | None:
    """Runs `read` in the main process, and returns the checkpoint in all processes."""
    found: list[Checkpoint] = []

    def read_main() -> Checkpoint | None:
        found.extend(filter(None, [read()]))
        return replace(found[0], tensors={}) if found else None

    seen = ranks.broadcast(read_main)
    return seen and replace(seen, tensors=ranks.broadcast_tensors(found[0].tensors if found else {}))
