"""One step of the optimiser: a batch in parts, gradients clipped, and nothing done where they are not finite."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convae.core.noise import CountedNoise
from convae.core.random import key
from convae.core.types import Batch
from convae.model.inputs import unchecked_values
from convae.objective.schedules.base import Schedule
from convae.training.distributed.ranks import Ranks
from convae.training.distributed.sharding import gather_tensor
from convae.training.loop.loss_module import DistributedLossModule, LossModule
from convae.training.loop.precision import Precision
from convae.training.recipe.stage_objective import Clocks, StageObjective


@dataclass(frozen=True)
class StepResult:
    """What a step gives: scalars on the device, which nothing waits for.

    Attributes:
        figures: means over the batch of the total (nats per image) and of each term, the gradient's norm, and whether
            it was clipped.
        skipped: whether nothing was done, since something was not finite, or the total beyond all sense.
        faulty: whether it was skipped for more than a loss that was scaled too much.
    """

    figures: dict[str, Tensor]
    skipped: Tensor
    faulty: Tensor


class TrainStep:
    """Steps of one model.

    What is random in a step depends on the seed and the step alone.

    Args:
        model: what is trained.
        seed: of noise and dropout.
        parts: in how many parts a batch goes through the model, for less memory. The gradient is that of the whole
            batch up to rounding, and up to what is computed over a batch, such as batch-norm statistics.
        precision: what a step computes in.
        ranks: the processes that each take a part of the batch.
        temperature: of the latents that are drawn.
        sync_batch_norm: whether batch norms take their statistics over all ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        seed: int,
        parts: int,
        precision: Precision,
        ranks: Ranks,
        temperature: Schedule,
        sync_batch_norm: bool = False,
    ) -> None:
        self._model = model
        self._seed = seed
        self._parts = parts
        self._precision = precision
        self._ranks = ranks
        self._temperature = temperature
        self._losses = LossModule(model) if ranks.count == 1 else DistributedLossModule(model, ranks, sync_batch_norm)
        self._buffers = list(model.buffers())
        self._statistics = [buffer for buffer in self._buffers if buffer.is_floating_point() and buffer.numel()]

    def __call__(
        self,
        batch: Batch,
        objective: StageObjective,
        clocks: Clocks,
        optimizer: torch.optim.Optimizer,
        clip: float | None,
        largest_total: Tensor | None = None,
    ) -> StepResult:
        """One step. Where the total, a gradient or a statistic is not finite, nothing of the model changes.

        Args:
            batch: the images, or this process's part of them.
            objective: what is minimised.
            clocks: the moment before the step.
            optimizer: fused, with the step's learning rate.
            clip: the largest norm of the gradient; longer ones are scaled down.
            largest_total: nats per image; a step with a larger total is treated like one that is not finite.
        """
        before = [buffer.clone() for buffer in self._buffers]
        optimizer.zero_grad(set_to_none=True)
        figures = self.gradients(batch, objective, clocks)
        parameters = [parameter for parameter in self._model.parameters() if parameter.grad is not None]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        scale = self._precision.scale
        if scale:
            torch._foreach_div_(gradients, scale.factor)
        norm = gather_tensor(torch.nn.utils.get_total_norm(gradients))
        total = figures["total"]
        sound = total.isfinite() & torch.nn.utils.get_total_norm(self._statistics, math.inf).isfinite()
        if largest_total is not None:
            sound &= total <= largest_total
        skipped = faulty = ~(norm.isfinite() & sound)
        if scale:
            overflowed = skipped & sound & (scale.factor > 1)
            scale.update(overflowed)
            faulty = skipped & ~overflowed
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
            figures["clipped"] = (norm > clip).float()
        # The hook by which gradient scalers tell fused optimisers to do nothing, without waiting for the device.
        optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
        optimizer.step()
        for buffer, old in zip(self._buffers, before, strict=True):
            buffer.copy_(torch.where(skipped, old, buffer))
        return StepResult({**figures, "gradient_norm": norm}, skipped, faulty)

    def gradients(self, batch: Batch, objective: StageObjective, clocks: Clocks) -> dict[str, Tensor]:
        """The figures of the whole batch, after adding the gradients of the scaled loss to those of the parameters."""
        step, ranks, temperature = clocks.training.step, self._ranks, self._temperature(clocks.training)
        # For layers that draw from their device's default generator. Seeding those of all devices takes longer.
        seed = torch.default_generator.manual_seed if batch.images.device.type == "cpu" else torch.manual_seed
        seed(key(self._seed, "layers", step))
        size = batch.global_size or len(batch)
        figures: dict[str, Tensor] = {}
        parts = list(batch.split(min(self._parts, size // ranks.count)))
        self._losses.prepare(parts[0], self._noise(step, batch, size, temperature), objective, clocks)
        for number, part in enumerate(parts, start=1):
            noise = self._noise(step, part, size, temperature)
            share, scale = len(part) / size, self._precision.scale
            with self._losses.summing(number == len(parts)):
                with self._precision.compute(), unchecked_values():
                    losses = self._losses(part, noise, objective, clocks)
                weight = share * self._losses.divisor
                (losses.total * (weight if scale is None else weight * scale.factor)).backward()
            for name, value in {"total": losses.total, **losses.terms}.items():
                mean = value.detach().double().mean() if value.device.type != "mps" else value.detach().mean()
                figures[name] = figures[name] + mean * share if name in figures else mean * share
        return ranks.sum(figures, self._buffers)

    def _noise(self, step: int, part: Batch, size: int, temperature: float) -> CountedNoise:
        """The noise for the images of a slice: the same on whichever rank they are."""
        return CountedNoise(self._seed, (step,), part.start, size, temperature)
