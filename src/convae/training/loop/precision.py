"""In which numbers a step computes: float32, or half precision for what does not lose by it.

Weights, their averages and the optimizer stay in float32; convolutions and linear layers compute in half precision
inside `Precision.compute`; statistics of norms, posteriors, likelihoods and losses are float32 again. Validation,
pictures and the saved model are float32 throughout: their figures are those of the model that one loads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from convae.core.errors import ConfigError
from convae.training.recipe.schema import PrecisionName

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
INSTRUCTIONS = {"bf16": ("avx512_bf16", "amx_bf16"), "fp16": ("avx512_fp16", "amx_fp16")}
"""By which a CPU multiplies matrices of it."""
GROWS_AFTER = 2000
"""Steps in a row without an overflow after which the loss is scaled twice as much."""


class LossScale:
    """A factor on the loss that keeps small gradients above the least number of float16, and large ones below infinity.

    Micikevicius et al. 2018 (arXiv:1710.03740): a step whose gradients overflow is skipped and halves the factor; many
    in a row that do not double it. Nothing waits for the device.

    Attributes:
        factor: on the loss, a power of two.

    Args:
        device: where the factor is.
        factor: at first; usual is 2¹⁶ for losses that are means, but nats are summed over the values of an image.
        steady: steps since it last changed.
    """

    def __init__(self, device: torch.device, factor: float = 2.0**10, steady: int = 0) -> None:
        self.factor = torch.tensor(factor, device=device)
        self._steady = torch.tensor(steady, device=device)

    def update(self, overflowed: Tensor) -> None:
        """After a step: whether its gradients overflowed."""
        self._steady = torch.where(overflowed, 0, self._steady + 1)
        grows = self._steady == GROWS_AFTER
        change = torch.where(grows, 2.0, 1.0) * torch.where(overflowed, 0.5, 1.0)
        self.factor = (self.factor * change).clamp_min(1.0)
        self._steady = torch.where(grows, 0, self._steady)

    def state(self) -> dict[str, Any]:
        """The factor and the steps since it last changed; waits for the device."""
        return {"factor": float(self.factor), "steady": int(self._steady)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores both."""
        self.factor = torch.full_like(self.factor, float(state["factor"]))
        self._steady = torch.full_like(self._steady, int(state["steady"]))


class Precision:
    """What a step computes in.

    Args:
        name: `float32`, `bf16` or `fp16`.
        device: of the model.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self._device = device.type
        self._half = HALVES.get(name)
        self.scale = LossScale(device) if name == "fp16" else None

    def compute(self) -> contextlib.AbstractContextManager[object]:
        """Inside the block, what may be half precision is."""
        return torch.autocast(self._device, self._half) if self._half else contextlib.nullcontext()


def choose_precision(name: PrecisionName, device: torch.device) -> PrecisionName:
    """The precision for a device: `auto` is bf16 where the hardware computes in it, else float32.

    Raises:
        ConfigError: the device has nothing that computes in it.
    """
    if name == "auto":
        return "bf16" if _computes("bf16", device) else "float32"
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError("training.precision: this GPU cannot compute in bf16: choose from auto, float32, fp16")
    return name


def precision_warning(name: str, device: torch.device) -> str | None:
    """A sentence on a precision that only costs time here; None where it does not."""
    if name not in HALVES or device.type != "cpu" or _computes(name, device):
        return None
    return f"this CPU only emulates {name}, which is slower than float32: leave training.precision at auto for speed"


def _computes(name: str, device: torch.device) -> bool:
    """Whether the hardware itself multiplies matrices of a half precision."""
    if device.type == "cuda":
        return name == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(known.get(instructions, False) for instructions in INSTRUCTIONS[name])
