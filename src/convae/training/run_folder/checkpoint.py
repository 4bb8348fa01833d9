"""Checkpoints: all that a run needs to go on as if it had never stopped.

    checkpoints/step-00001200/
      state.json              how far the run is, its recipe, the machine, a SHA-256 of each tensor and of itself
      tensors.safetensors     model, optimiser, averaged weights

A checkpoint appears whole or not at all. Generators have no state to save, since all randomness is counted.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from convae.core.arguments import NonNegative
from convae.core.errors import ArtifactError
from convae.core.files import new_folder, temporary, write_bytes, write_json
from convae.model.artifact import digest, read_checked_json, read_tensors, with_checksum
from convae.training.distributed.ranks import Ranks
from convae.training.distributed.sharding import gather_tensor, load_full_state, shard_like
from convae.training.loop.averaging import ExponentialMovingAverage
from convae.training.loop.health import SkippedSteps
from convae.training.loop.precision import LossScaleState

FORMAT = 3
STATE = "state.json"
TENSORS = "tensors.safetensors"
STOPPED = "-stopped"
"""At the end of the name of a checkpoint that was written because somebody stopped the run."""


@dataclass
class TrainingState:
    """How far a run is, beside its tensors.

    Attributes:
        step: steps done.
        stage_starts: the step at which each stage began, up to the running one.
        finished: whether the last stage is over.
        plateau_best: the best figure yet of a stage that a plateau ends.
        plateau_wait: epochs since then.
        log_bytes: length of the log of figures at this step; what is beyond it was written by a run that was lost.
        log_window: sums of the training figures since the last row of the log.
        epoch_window: the same, since the running epoch or stage began.
        best: the lowest validation total of the running stage, under the weights of its end, nats per image.
        best_step: the step at which it was measured.
        skips: steps that were skipped because something in them was not finite.
        last_reported_skip: the first step of the row of skipped ones that a note was written on last.
        scaling: of the loss, in fp16.
        lr_halvings: how often the run was rolled back and the learning rate halved.
        collapse_streak: validations in a row that found a collapsed posterior.
        divergence_streak: validations in a row that found a model that diverged.
    """

    step: NonNegative = 0
    stage_starts: Annotated[list[NonNegative], Field(min_length=1)] = field(default_factory=lambda: [0])
    finished: bool = False
    plateau_best: float | None = None
    plateau_wait: int = 0
    log_bytes: Annotated[int, Field(ge=0)] = 0
    log_window: dict[str, float] = field(default_factory=dict)
    epoch_window: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    best_step: int | None = None
    skips: SkippedSteps = field(default_factory=SkippedSteps)
    last_reported_skip: int = -1
    scaling: LossScaleState = field(default_factory=LossScaleState)
    lr_halvings: int = 0
    collapse_streak: int = 0
    divergence_streak: int = 0


@dataclass(frozen=True)
class Machine:
    """What the rounding of a run depends on, beside its recipe and data.

    Attributes:
        threads: in which torch computes.
        instructions: that torch's kernels use, such as `AVX2`.
        torch_version: of the library.
        device: `cpu`, or the name of the GPU.
        processes: that train together.
    """

    threads: int
    instructions: str
    torch_version: str
    device: str
    processes: int

    @classmethod
    def here(cls, device: torch.device, processes: int) -> Machine:
        """The one that this process computes on."""
        return cls(
            threads=torch.get_num_threads(),
            instructions=torch.backends.cpu.get_cpu_capability(),
            torch_version=str(torch.__version__),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            processes=processes,
        )

    def changes(self, before: Machine) -> str | None:
        """A sentence on what is different from the machine before; None where nothing is."""
        own, old = asdict(self), asdict(before)
        found = [
            f"{name.replace('_', ' ')} {own[name]} instead of {old[name]}" for name in own if own[name] != old[name]
        ]
        if not found:
            return None
        return f"{', '.join(found)}: from here on the run equals an uninterrupted one up to rounding, not bit for bit"


_STATES, _DIGESTS = TypeAdapter(TrainingState), TypeAdapter(dict[str, str])
_RECIPES, _MACHINES = TypeAdapter(dict[str, Any]), TypeAdapter(Machine)


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        path: where it lies.
        state: how far the run is.
        recipe: of the run, as it was when the checkpoint was written.
        machine: that it was written on.
        tensors: of the model, the optimiser and the averaged weights, by name; none where only the rest was read.
    """

    path: Path
    state: TrainingState
    recipe: dict[str, Any]
    machine: Machine
    tensors: dict[str, Tensor]

    def put_into(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, average: ExponentialMovingAverage | None
    ) -> None:
        """Gives the model, the optimiser and the averaged weights the values that they had.

        Raises:
            ArtifactError: the checkpoint is of another model.
        """
        try:
            load_full_state(model, self._part("model."))
        except RuntimeError as error:
            raise ArtifactError(f"{self.path}: is of another model ({str(error).splitlines()[-1].strip()})") from error
        optimizer.state.clear()
        for name, parameter in model.named_parameters():
            values: dict[str, Tensor] = {}
            for key, tensor in self._part(f"optimizer.{name}.").items():
                if "." not in key:
                    like_parameter = tensor.ndim == parameter.ndim and tensor.ndim > 0
                    layout = torch.preserve_format if not like_parameter else _layout(parameter)
                    # A copy: the optimiser changes it in place.
                    own = tensor.to(parameter.device, copy=True).contiguous(memory_format=layout)
                    values[key] = shard_like(own, parameter) if like_parameter else own
            if values:
                optimizer.state[parameter] = values
        if average:
            average.begin(self._part("average."))

    def _part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of one object, by the names that it gives them."""
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def checkpoint_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: ExponentialMovingAverage | None
) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name; every process has to call it, since a model may be cut among them."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            tensors[f"optimizer.{names[id(parameter)]}.{key}"] = torch.as_tensor(value)
    tensors |= {f"average.{name}": tensor for name, tensor in (average.tensors if average else {}).items()}
    return {name: gather_tensor(tensors[name].detach()) for name in sorted(tensors)}


def save_checkpoint(
    folder: Path,
    state: TrainingState,
    tensors: Mapping[str, Tensor],
    *,
    recipe: Mapping[str, Any],
    machine: Machine,
    planned: bool,
    keep: int,
) -> Path:
    """Writes the checkpoint of a step.

    Of those that every run of the recipe writes the `keep` newest are kept, so that a run that was stopped rolls back
    to the same ones as one that was not; of those that were written because somebody stopped the run, the newest.

    Raises:
        OutputError: it cannot be written; the older ones are still there.
    """
    stored = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    path = folder / f"step-{state.step:08d}{'' if planned else STOPPED}"
    with new_folder(path) as place:
        write_bytes(place / TENSORS, to_bytes(stored))
        sha256 = {name: digest(tensor) for name, tensor in stored.items()}
        facts = {"state": asdict(state), "recipe": recipe, "machine": asdict(machine), "sha256": sha256}
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
    """Whether a checkpoint is one that every run of the recipe writes."""
    return not path.name.endswith(STOPPED)


def remove_checkpoint(path: Path) -> None:
    """Removes a checkpoint, out of sight first: a process that dies meanwhile leaves none that looks damaged."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path.rename(temporary(path)), ignore_errors=True)


def read_checkpoint(path: Path, with_tensors: bool = True) -> Checkpoint:
    """What a checkpoint holds, checked.

    Raises:
        ArtifactError: it is damaged, or of another format.
    """
    written = read_checked_json(path / STATE, FORMAT)
    if written["format"] < FORMAT:
        raise ArtifactError(f"{path}: was written by an earlier version of convae, which can continue it")
    try:
        state = _STATES.validate_python(written.get("state"))
        recipe = _RECIPES.validate_python(written.get("recipe"))
        machine = _MACHINES.validate_python(written.get("machine"))
        sha256 = _DIGESTS.validate_python(written.get("sha256"))
    except ValidationError as error:
        raise ArtifactError(f"{path / STATE}: not the state of a training ({error.errors()[0]['msg']})") from error
    tensors = read_tensors(path / TENSORS, sha256) if with_tensors else {}
    return Checkpoint(path, state, recipe, machine, tensors)


def read_together(ranks: Ranks, read: Callable[[], Checkpoint | None]) -> Checkpoint | None:
    """What `read` gives in the first process, which alone has to see the files, in all of them."""
    found: list[Checkpoint] = []

    def told() -> Checkpoint | None:
        found.extend(filter(None, [read()]))
        return replace(found[0], tensors={}) if found else None

    seen = ranks.broadcast(told)
    return seen and replace(seen, tensors=ranks.broadcast_tensors(found[0].tensors if found else {}))


def _layout(parameter: Tensor) -> torch.memory_format:
    """The memory layout of a parameter, which its optimiser state shares."""
    if parameter.ndim == 4 and not parameter.is_contiguous():
        return torch.channels_last
    if parameter.ndim == 5 and not parameter.is_contiguous():
        return torch.channels_last_3d
    return torch.contiguous_format
