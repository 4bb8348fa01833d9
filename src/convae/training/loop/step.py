"""One update of a training step: a batch in slices, in float32 or half precision, and nothing done where not finite.

Weights, their averages and the optimizer stay in float32; convolutions and linear layers compute in half precision
inside `Precision.compute`; statistics of norms, posteriors, likelihoods and losses are float32 again. Validation,
pictures and the saved model are float32 throughout: their metrics are those of the model that one loads.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from convae.core.errors import ConfigError
from convae.core.noise import CountedNoise
from convae.core.random import stream_key
from convae.core.types import Batch
from convae.model.inputs import unchecked_values
from convae.objective.objective import Losses
from convae.objective.schedules.base import Clocks, Schedule
from convae.training.distributed.ranks import Ranks
from convae.training.distributed.sharding import gather_tensor, is_sharded
from convae.training.loop.task import Loss, Update
from convae.training.recipe.schema import PrecisionName, TrainingConfig

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


class LossModule(nn.Module):
    """From a batch to its loss.

    Attributes:
        model: the module that the gradients are of.
        divisor: what gradients are divided by on their way to the parameters.

    Args:
        model: the module.
        loss: the function from a batch to its loss, which uses the module.
    """

    divisor = 1

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self._loss = (loss,)  # in a tuple, as a loss that is a module is no part of this one

    def forward(self, part: Batch, noise: CountedNoise, clocks: Clocks) -> Losses:
        """The loss of some images; `noise` draws their latents."""
        return self._loss[0](part, noise, clocks)

    def prepare(self, part: Batch, noise: CountedNoise, clocks: Clocks) -> None:
        """Before the first slice of each step."""

    def accumulating(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """Around the forward and backward passes of a slice of the batch."""
        return contextlib.nullcontext()


class DistributedLossModule(LossModule):
    """The same on several ranks: gradients are averaged over them while the rest of the backward pass is computed.

    DDP (Li et al. 2020, arXiv:2006.15704) around a module that every rank has whole; a sharded one averages by itself.
    Which parameters take part is looked up again when others are frozen.
    """

    def __init__(self, model: nn.Module, loss: Loss, ranks: Ranks, sync_batch_norm: bool) -> None:
        super().__init__(model, loss)
        self.divisor = ranks.count
        self._ranks = ranks
        self._sync_batch_norm = sync_batch_norm
        self._is_sharded = any(is_sharded(parameter) for parameter in model.parameters())
        self._group: DistributedDataParallel | None = None
        self._made_for: tuple[str, ...] | None = None

    def forward(self, part: Batch, noise: CountedNoise, clocks: Clocks) -> Losses:
        """The loss of some images; `noise` draws their latents."""
        if self._group is None:
            return super().forward(part, noise, clocks)
        losses: Losses = self._group(part, noise, clocks)
        return losses

    def prepare(self, part: Batch, noise: CountedNoise, clocks: Clocks) -> None:
        """Finds out which parameters take part, where that has changed."""
        trained = tuple(name for name, parameter in self.model.named_parameters() if parameter.requires_grad)
        if not self._is_sharded and self._made_for != trained:
            self._made_for = trained
            self._regroup(self._without_gradient(part, noise, clocks))

    @contextlib.contextmanager
    def accumulating(self, is_last: bool) -> Iterator[None]:
        """Gradients of the slices before the last stay on the rank; what spans a batch is shared in all."""
        keep = contextlib.nullcontext() if is_last or self._group is None else self._group.no_sync()
        with self._ranks.sharing_batch(self._sync_batch_norm), keep:
            yield

    def _regroup(self, idle: list[str]) -> None:
        module = LossModule(self.model, self._loss[0])
        # Parameters without a gradient would be waited for. Buffers are averaged with the metrics of the step.
        ignored = [*idle, *(name for name, _ in module.named_buffers())]
        # Under no public name, although DDP's documentation says to call it.
        ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model  # noqa: SLF001
        ignore(module, ignored)  # type: ignore[no-untyped-call]
        self._group = DistributedDataParallel(module, gradient_as_bucket_view=True)

    def _without_gradient(self, part: Batch, noise: CountedNoise, clocks: Clocks) -> list[str]:
        """The names of parameters that the loss does not depend on, found by a pass that changes nothing."""
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        total = LossModule.forward(self, part, noise, clocks).total
        for module, mode in modes.items():
            module.training = mode
        own = LossModule(self.model, self._loss[0])
        named = [(name, value) for name, value in own.named_parameters() if value.requires_grad]
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            total, [value for _, value in named], allow_unused=True
        )
        return [name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is None]


@dataclass(frozen=True)
class StepResult:
    """The result of a step: scalars on the device, which nothing waits for.

    Attributes:
        metrics: means over the batch of the total (nats per image) and of each term, the norm of the gradient, and
            whether it was clipped, or above the limit of `skip_above`, so that nothing was done.
        skipped: whether nothing was done, since something was not finite, or the total beyond all sense.
        faulty: whether it was skipped for more than a loss that was scaled too much.
    """

    metrics: dict[str, Tensor]
    skipped: Tensor
    faulty: Tensor


class TrainStep:
    """The step of one update. What is random in it depends on the seed and the step alone.

    Args:
        update: what is trained, by which loss.
        optimizer: of the update, fused.
        precision: what a step computes in.
        options: seed, and into how many slices a batch is cut to save memory. The gradient is that of the whole batch
            up to rounding, and up to what is computed over a batch, such as batch-norm statistics.
        ranks: the processes that each take a slice of the batch.
        temperature: of the latents that are drawn.
    """

    def __init__(
        self,
        update: Update,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        options: TrainingConfig,
        ranks: Ranks,
        temperature: Schedule,
    ) -> None:
        self.update = update
        self.optimizer = optimizer
        self.precision = precision
        self._seed, self._accumulate = options.seed, options.accumulate
        self._ranks = ranks
        self._temperature = temperature
        model, loss = update.module, update.loss
        self._losses = (
            LossModule(model, loss)
            if ranks.count == 1
            else DistributedLossModule(model, loss, ranks, options.sync_batch_norm)
        )
        self._buffers = list(model.buffers())
        self._statistics = [buffer for buffer in self._buffers if buffer.is_floating_point() and buffer.numel()]

    def __call__(self, batch: Batch, clocks: Clocks, largest_total: Tensor | None = None) -> StepResult:
        """One step. Where the total, a gradient or a statistic is not finite, nothing of the module changes.

        Args:
            batch: the images, or this rank's slice of them.
            clocks: the moment before the step.
            largest_total: nats per image; a step with a larger total is treated like one that is not finite.
        """
        before = [buffer.clone() for buffer in self._buffers]
        self.optimizer.zero_grad(set_to_none=True)
        metrics = self.gradients(batch, clocks)
        parameters = [parameter for parameter in self.update.module.parameters() if parameter.grad is not None]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        scale, clip = self.precision.scale, self.update.optimizer.clip
        if scale:
            torch._foreach_div_(gradients, scale.factor)
        norm = gather_tensor(torch.nn.utils.get_total_norm(gradients))
        total = metrics["total"]
        sound = total.isfinite() & torch.nn.utils.get_total_norm(self._statistics, math.inf).isfinite()
        if largest_total is not None:
            sound &= total <= largest_total
        skipped = faulty = ~(norm.isfinite() & sound)
        if scale:
            overflowed = skipped & sound & (scale.factor > 1)
            scale.update(overflowed)
            faulty = skipped & ~overflowed
        unchanged = skipped
        if (largest := self.update.optimizer.skip_above) is not None:
            unchanged = skipped | (norm > largest)
            metrics["above_limit"] = (norm > largest).float()
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
            metrics["clipped"] = (norm > clip).float()
        # The hook by which gradient scalers tell fused optimizers to do nothing, without waiting for the device.
        self.optimizer.found_inf = unchanged.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        for buffer, old in zip(self._buffers, before, strict=True):
            buffer.copy_(torch.where(unchanged, old, buffer))
        return StepResult({**metrics, "gradient_norm": norm}, skipped, faulty)

    def gradients(self, batch: Batch, clocks: Clocks) -> dict[str, Tensor]:
        """The metrics of the whole batch, after adding the gradients of the scaled loss to those of the parameters."""
        step, ranks, temperature = clocks.training.step, self._ranks, self._temperature(clocks.training)
        # For layers that draw from their device's default generator. Seeding those of all devices takes longer.
        seed = torch.default_generator.manual_seed if batch.images.device.type == "cpu" else torch.manual_seed
        seed(stream_key(self._seed, "layers", step))
        size = batch.global_size or len(batch)
        metrics: dict[str, Tensor] = {}
        parts = list(batch.split(min(self._accumulate, size // ranks.count)))
        self._losses.prepare(parts[0], self._noise(step, batch, size, temperature), clocks)
        for number, part in enumerate(parts, start=1):
            noise = self._noise(step, part, size, temperature)
            fraction, scale = len(part) / size, self.precision.scale
            with self._losses.accumulating(number == len(parts)):
                with self.precision.compute(), unchecked_values():
                    losses: Losses = self._losses(part, noise, clocks)
                weight = fraction * self._losses.divisor
                loss = losses.total * (weight if scale is None else weight * scale.factor)
                torch.autograd.backward(loss)
            for name, value in {"total": losses.total, **losses.terms}.items():
                mean = value.detach().double().mean() if value.device.type != "mps" else value.detach().mean()
                metrics[name] = metrics[name] + mean * fraction if name in metrics else mean * fraction
        return ranks.sum(metrics, self._buffers)

    def _noise(self, step: int, part: Batch, size: int, temperature: float) -> CountedNoise:
        """The noise for the images of a slice: the same on whichever rank they are."""
        return CountedNoise(self._seed, (step,), part.start, size, temperature)
