"""Numerics of a training step: precision, loss scale, buffers that a skipped step restores, and optimizer state.

Weights, averages and optimizer state are float32; convolutions and linear layers compute in half precision inside
`StepPrecision.compute`; statistics of norms, posteriors, likelihoods and losses are float32. Validation, pictures and
the saved model are float32 throughout, so that metrics are those of the loaded model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.errors import ConfigError
from convae.core.precision import cpu_has
from convae.training.recipe.schema import PrecisionName
from convae.training.sharding import shard_like

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
INSTRUCTIONS = {"bf16": ("avx512_bf16", "amx_bf16"), "fp16": ("avx512_fp16", "amx_fp16")}
"""CPU features for matrix products in each half precision."""
GROWS_AFTER = 2000
"""Number of consecutive steps without overflow after which the loss scale doubles."""
_GROUPS = "groups"
"""Key of the numbers in the groups of an optimizer."""


class LossScale:
    """Dynamic loss scale, which keeps gradients in the range of float16.

    Micikevicius et al. 2018 (arXiv:1710.03740): a step whose gradients overflow is skipped and halves the factor; many
    consecutive ones without overflow double it. It does not synchronize with the device.

    Attributes:
        factor: the loss scale, a power of two.

    Args:
        device: device of the factor.
        factor: initial value; lower than the usual 2¹⁶ for mean losses, since nats are summed over the values of an
            image.
        steady: steps since the last change.
    """

    def __init__(self, device: torch.device, factor: float = 2.0**10, steady: int = 0) -> None:
        self.factor = torch.tensor(factor, device=device)
        self._steady = torch.tensor(steady, device=device)

    def update(self, overflowed: Tensor) -> None:
        """Updates the factor after a step."""
        self._steady = torch.where(overflowed, 0, self._steady + 1)
        grows = self._steady == GROWS_AFTER
        change = torch.where(grows, 2.0, 1.0) * torch.where(overflowed, 0.5, 1.0)
        self.factor = (self.factor * change).clamp_min(1.0)
        self._steady = torch.where(grows, 0, self._steady)

    def state(self) -> dict[str, Any]:
        """The factor and the steps since the last change; synchronizes with the device."""
        return {"factor": float(self.factor), "steady": int(self._steady)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores both."""
        self.factor = torch.full_like(self.factor, float(state["factor"]))
        self._steady = torch.full_like(self._steady, int(state["steady"]))


class StepPrecision:
    """The precision of a training step.

    Args:
        name: `float32`, `bf16` or `fp16`.
        device: device of the model.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self._device = device.type
        self._half = HALVES.get(name)
        self.scale = LossScale(device) if name == "fp16" else None

    def compute(self) -> contextlib.AbstractContextManager[object]:
        """The autocast context."""
        return torch.autocast(self._device, self._half) if self._half else contextlib.nullcontext()


def choose_precision(name: PrecisionName, device: torch.device) -> PrecisionName:
    """The precision for a device: `auto` is bf16 if the hardware supports it, otherwise float32.

    Raises:
        ConfigError: the device does not support it.
    """
    if name == "auto":
        return "bf16" if _computes("bf16", device) else "float32"
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError("training.precision: this GPU does not support bf16. Use auto, float32 or fp16")
    return name


def precision_warning(name: str, device: torch.device) -> str | None:
    """A warning about a precision that is slow on this device; None otherwise."""
    if name not in HALVES or device.type != "cpu" or _computes(name, device):
        return None
    return f"this CPU emulates {name}, which is slower than float32. Set training.precision: auto for speed"


def _computes(name: str, device: torch.device) -> bool:
    """Whether the hardware has matrix products in a half precision."""
    if device.type == "cuda":
        return name == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and any(map(cpu_has, INSTRUCTIONS[name]))


class KeptBuffers:
    """Copies of buffers that a skipped step restores; those of one type are copied together.

    Args:
        buffers: of the module.
    """

    def __init__(self, buffers: Sequence[Tensor]) -> None:
        kinds = {(buffer.dtype, buffer.device): None for buffer in buffers if buffer.numel()}
        self._groups = [
            [each for each in buffers if each.numel() and (each.dtype, each.device) == kind] for kind in kinds
        ]

    def copy(self) -> list[Tensor]:
        """A copy of the values, for `restore`."""
        return [torch.cat([buffer.flatten() for buffer in group]) for group in self._groups]

    def restore(self, before: Sequence[Tensor], unchanged: Tensor) -> None:
        """Sets the buffers to the copied values where `unchanged`, a scalar on their device, is true."""
        for group, old in zip(self._groups, before, strict=True):
            now = torch.cat([buffer.flatten() for buffer in group])
            parts = torch.where(unchanged, old, now).split([buffer.numel() for buffer in group])
            torch._foreach_copy_(group, [part.view_as(buffer) for part, buffer in zip(parts, group, strict=True)])


class OptimizerState:
    """The state of an optimizer by parameter name, as a `Stateful`, and numbers that it changes in its groups.

    Args:
        optimizer: the optimizer.
        module: the module that it updates.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, module: nn.Module) -> None:
        self._optimizer, self._module = optimizer, module

    def state(self) -> dict[str, Any]:
        """Each value as `parameter.key`, and the numbers of each group by the key `groups`."""
        names = {id(parameter): name for name, parameter in self._module.named_parameters()}
        found: dict[str, Any] = {
            f"{names[id(parameter)]}.{key}": value
            for parameter, values in self._optimizer.state.items()
            for key, value in values.items()
        }
        for name, value in found.items():
            if not isinstance(value, Tensor | int | float):
                raise ConfigError(
                    f"optimizer: cannot save the {type(value).__name__} {name} of its state. Keep tensors and numbers"
                )
        return {**found, _GROUPS: [_numbers(group) for group in self._optimizer.param_groups]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores the values; tensors in the memory layout and shards of their parameters."""
        self._optimizer.state.clear()
        parameters = dict(self._module.named_parameters())
        for group, numbers in zip(self._optimizer.param_groups, state.get(_GROUPS, ()), strict=False):
            group.update(numbers)
        for name, tensor in state.items():
            if name == _GROUPS:
                continue
            owner, _, key = name.rpartition(".")
            parameter = parameters[owner]
            if not isinstance(tensor, Tensor):
                self._optimizer.state[parameter][key] = tensor
                continue
            like_parameter = tensor.ndim == parameter.ndim and tensor.ndim > 0
            layout = torch.preserve_format if not like_parameter else _memory_format(parameter)
            # A copy, since the optimizer changes it in place.
            own = tensor.to(parameter.device, copy=True).contiguous(memory_format=layout)
            self._optimizer.state[parameter][key] = shard_like(own, parameter) if like_parameter else own


def _numbers(group: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a group of parameters, such as a count of steps, without the learning rate of the step."""
    return {key: value for key, value in group.items() if type(value) in (int, float) and key != "lr"}


def _memory_format(parameter: Tensor) -> torch.memory_format:
    """The memory layout of a parameter, which its optimizer state shares."""
    if parameter.ndim == 4 and not parameter.is_contiguous():
        return torch.channels_last
    if parameter.ndim == 5 and not parameter.is_contiguous():
        return torch.channels_last_3d
    return torch.contiguous_format
