"""One update of a training step: gradient accumulation, gradients of all ranks, and skipping of non-finite steps."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from convae.core.noise import CountedNoise
from convae.core.random import stream_key
from convae.core.slices import BatchSlices, InitializesFromBatch
from convae.core.types import Batch
from convae.model.inputs import unchecked_values
from convae.model.layers.base import Network
from convae.objective.objective import Losses
from convae.objective.schedules.base import Clocks, Schedule
from convae.training.distributed import Ranks
from convae.training.loop.numerics import KeptBuffers, StepPrecision
from convae.training.loop.task import Loss, Update
from convae.training.optimizers.base import step_unless
from convae.training.recipe.schema import TrainingConfig
from convae.training.sharding import gather_tensor, is_sharded


class LossModule(nn.Module):
    """A module that maps a batch to its loss.

    Attributes:
        model: the trained module.
        divisor: divisor of the gradients.

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
        """The loss of images; `noise` is the source of their latents."""
        return self._loss[0](part, noise, clocks)

    def prepare(self, part: Batch, noise: CountedNoise, clocks: Clocks) -> None:
        """Called before the first slice of each step."""

    def accumulating(self, is_last: bool) -> contextlib.AbstractContextManager[None]:
        """A context around the forward and backward pass of a slice."""
        return contextlib.nullcontext()


class DistributedLossModule(LossModule):
    """A `LossModule` on several ranks; gradients are averaged during the backward pass.

    DDP (Li et al. 2020, arXiv:2006.15704) for a replicated module; a sharded one averages by itself. The participating
    parameters are determined again when others are frozen.
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
        """The loss of images; `noise` is the source of their latents."""
        if self._group is None:
            return super().forward(part, noise, clocks)
        losses: Losses = self._group(part, noise, clocks)
        return losses

    def prepare(self, part: Batch, noise: CountedNoise, clocks: Clocks) -> None:
        """Determines the participating parameters, if they have changed."""
        trained = tuple(name for name, parameter in self.model.named_parameters() if parameter.requires_grad)
        if not self._is_sharded and self._made_for != trained:
            self._made_for = trained
            self._regroup(self._without_gradient(part, noise, clocks))

    @contextlib.contextmanager
    def accumulating(self, is_last: bool) -> Iterator[None]:
        """Gradients are reduced for the last slice only; batch statistics are shared for all."""
        keep = contextlib.nullcontext() if is_last or self._group is None else self._group.no_sync()
        with self._ranks.sharing_batch(self._sync_batch_norm), keep:
            yield

    def _regroup(self, idle: list[str]) -> None:
        module = LossModule(self.model, self._loss[0])
        # DDP would wait for parameters without gradient. Buffers are averaged with the metrics of the step.
        ignored = [*idle, *(name for name, _ in module.named_buffers())]
        # DDP's documentation recommends it, although it has no public name.
        ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model  # noqa: SLF001
        ignore(module, ignored)  # type: ignore[no-untyped-call]
        self._group = DistributedDataParallel(module, gradient_as_bucket_view=True)

    def _without_gradient(self, part: Batch, noise: CountedNoise, clocks: Clocks) -> list[str]:
        """Names of parameters that the loss does not depend on, from a pass without side effects."""
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        own = LossModule(self.model, self._loss[0])
        named = [(name, value) for name, value in own.named_parameters() if value.requires_grad]
        slices = BatchSlices()
        with slices.first_pass(), slices.one():  # sums for running statistics are not added
            total = LossModule.forward(self, part, noise, clocks).total
            gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
                total, [value for _, value in named], allow_unused=True
            )
        for module, mode in modes.items():
            module.training = mode
        return [name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is None]


@dataclass(frozen=True)
class StepResult:
    """The result of a step: scalars on the device.

    Attributes:
        metrics: batch means of the total (nats per image) and of each term, the gradient norm, whether it was clipped,
            and whether it was above the limit of `skip_above`.
        skipped: whether the step was skipped, because of non-finite values or a too large total.
        faulty: whether it was skipped for another reason than an overflow of the loss scale.
    """

    metrics: dict[str, Tensor]
    skipped: Tensor
    faulty: Tensor


class TrainStep:
    """The step of one update. Its randomness depends on the seed and the step only.

    Args:
        update: module and loss.
        optimizer: fused optimizer of the update.
        precision: precision of the step.
        options: seed, and number of slices of a batch for gradient accumulation. The gradient is that of the batch up
            to rounding and the statistics of batch norm.
        ranks: the processes.
        temperature: temperature of the posterior samples.
    """

    def __init__(
        self,
        update: Update,
        optimizer: torch.optim.Optimizer,
        precision: StepPrecision,
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
        self._uses_means = True
        self._data_initialized = [module for module in model.modules() if isinstance(module, InitializesFromBatch)]
        self._buffers = list(model.buffers())
        self._kept = KeptBuffers(self._buffers)
        networks = [module for module in model.modules() if isinstance(module, Network)]
        self._has_graphs = any(network.compile_mode == "reduce-overhead" for network in networks)
        self._statistics = [buffer for buffer in self._buffers if buffer.is_floating_point() and buffer.numel()]

    def __call__(self, batch: Batch, clocks: Clocks, largest_total: Tensor | None = None) -> StepResult:
        """Runs one step. If the total, a gradient or a statistic is not finite, the module does not change.

        Args:
            batch: the images, or the slice of this rank.
            clocks: the moment before the step.
            largest_total: limit of the total, nats per image; a step above it is skipped.
        """
        if self._has_graphs:
            # The outputs of the step before may be overwritten.
            torch.compiler.cudagraph_mark_step_begin()
        before = self._kept.copy()
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
        step_unless(self.optimizer, unchanged)
        self._kept.restore(before, unchanged)
        return StepResult({**metrics, "gradient_norm": norm}, skipped, faulty)

    def gradients(self, batch: Batch, clocks: Clocks) -> dict[str, Tensor]:
        """Accumulates the gradients of the scaled loss, and returns the metrics of the batch."""
        step, ranks, temperature = clocks.training.step, self._ranks, self._temperature(clocks.training)
        size = batch.global_size or len(batch)
        metrics: dict[str, Tensor] = {}
        parts = list(batch.split(min(self._accumulate, size // ranks.count)))
        self._losses.prepare(parts[0], self._noise(step, batch, size, temperature), clocks)
        noises = [self._noise(step, part, size, temperature) for part in parts]
        slices = BatchSlices(len(parts))
        if len(parts) > 1 and (self._uses_means or self._has_modules_to_initialize()):
            self._run_first_passes(slices, list(zip(parts, noises, strict=True)), clocks)
        self._seed_layers(step, batch.images.device)
        for number, (part, noise) in enumerate(zip(parts, noises, strict=True), start=1):
            fraction, scale = len(part) / size, self.precision.scale
            with self._losses.accumulating(number == len(parts)):
                with self.precision.compute(), unchecked_values(), slices.one():
                    losses: Losses = self._losses(part, noise, clocks)
                weight = fraction * self._losses.divisor
                loss = losses.total * (weight if scale is None else weight * scale.factor)
                torch.autograd.backward(loss)
            for name, value in {"total": losses.total, **losses.terms}.items():
                mean = value.detach().double().mean() if value.device.type != "mps" else value.detach().mean()
                metrics[name] = metrics[name] + mean * fraction if name in metrics else mean * fraction
        with self._losses.accumulating(is_last=False):
            slices.finish()
        return ranks.sum(metrics, self._buffers)

    @torch.no_grad()
    def _run_first_passes(
        self, slices: BatchSlices, parts: Sequence[tuple[Batch, CountedNoise]], clocks: Clocks
    ) -> None:
        """Gathers batch means, and initializes codebooks from the whole batch; later steps omit it if there are none.

        One pass initializes one codebook, as the values of those after it depend on it.
        """
        is_done = False
        while not is_done:
            self._seed_layers(clocks.training.step, parts[0][0].images.device)
            kept = [buffer.clone() for buffer in self._buffers]
            with slices.first_pass():
                for part, noise in parts:
                    with (
                        self._losses.accumulating(is_last=False),
                        self.precision.compute(),
                        unchecked_values(),
                        slices.one(),
                    ):
                        LossModule.forward(self._losses, part, noise, clocks)
            for buffer, old in zip(self._buffers, kept, strict=True):
                buffer.copy_(old)
            with self._losses.accumulating(is_last=False):
                is_done = not slices.start_first()
        self._uses_means = slices.has_means

    def _has_modules_to_initialize(self) -> bool:
        """Whether the next batch initializes a trained module, such as a codebook."""
        return not all(module.is_initialized for module in self._data_initialized if module.training)

    def _seed_layers(self, step: int, device: torch.device) -> None:
        """Seeds layers that draw from the default generator of the device."""
        # Seeding the generators of all devices takes longer.
        seed = torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed
        seed(stream_key(self._seed, "layers", step))

    def _noise(self, step: int, part: Batch, size: int, temperature: float) -> CountedNoise:
        """The noise of the images of a slice, independent of the rank."""
        return CountedNoise(self._seed, (step,), part.start, size, temperature)
