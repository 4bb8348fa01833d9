"""One step of the optimiser: a batch in parts, gradients clipped, and nothing done where they are not finite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from convae.core.random import key, torch_generator
from convae.data import Batch
from convae.training.precision import Precision
from convae.training.stage_objective import Clocks, StageObjective


@dataclass(frozen=True)
class Stepped:
    """What a step gives: scalars on the device, which nothing waits for.

    Attributes:
        figures: means over the batch of the total (nats per image) and of each term, the gradient's norm, and whether
            it was clipped.
        skipped: whether nothing was done, since something was not finite.
        faulty: whether it was skipped for more than a loss that was scaled too much.
    """

    figures: dict[str, Tensor]
    skipped: Tensor
    faulty: Tensor


class Stepper:
    """Steps of one model.

    What is random in a step depends on the seed and the step alone.

    Args:
        model: what is trained.
        seed: of noise and dropout.
        parts: in how many parts a batch goes through the model, for less memory. The gradient is that of the whole
            batch up to rounding, and up to what is computed over a batch: batch-norm statistics, and means over the
            labelled images of each part.
        precision: what a step computes in.
    """

    def __init__(self, model: nn.Module, seed: int, parts: int, precision: Precision) -> None:
        self._model = model
        self._seed = seed
        self._parts = parts
        self._precision = precision
        self._buffers = list(model.buffers())

    def __call__(
        self,
        batch: Batch,
        objective: StageObjective,
        clocks: Clocks,
        optimizer: torch.optim.Optimizer,
        clip: float | None,
    ) -> Stepped:
        """One step. Where the total or a gradient is not finite, weights, statistics and optimiser stay as they are.

        Args:
            batch: the images.
            objective: what is minimised.
            clocks: the moment before the step.
            optimizer: fused, with the step's learning rate.
            clip: the largest norm of the gradient; longer ones are scaled down.
        """
        before = [buffer.clone() for buffer in self._buffers]
        optimizer.zero_grad(set_to_none=True)
        figures = self.gradients(batch, objective, clocks)
        parameters = [parameter for parameter in self._model.parameters() if parameter.grad is not None]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        scale = self._precision.scale
        if scale:
            torch._foreach_div_(gradients, scale.factor)
        norm = torch.nn.utils.get_total_norm(gradients)
        skipped = faulty = ~(norm.isfinite() & figures["total"].isfinite())
        if scale:
            overflowed = skipped & figures["total"].isfinite() & (scale.factor > 1)
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
        return Stepped({**figures, "gradient_norm": norm}, skipped, faulty)

    def gradients(self, batch: Batch, objective: StageObjective, clocks: Clocks) -> dict[str, Tensor]:
        """The figures of a batch, after adding its gradients, of the scaled loss, to those of the parameters."""
        step = clocks.training.step
        # Layers that draw (dropout) use their device's default generator. Seeding those of all devices takes longer.
        seed = torch.default_generator.manual_seed if batch.images.device.type == "cpu" else torch.manual_seed
        seed(key(self._seed, "layers", step))
        noise = torch_generator(self._seed, "latent", step)
        figures: dict[str, Tensor] = {}
        for part in _split(batch, min(self._parts, len(batch))):
            with self._precision.compute():
                losses = objective(part, self._model(part.images, noise), clocks)
            share = len(part) / len(batch)
            scale = self._precision.scale
            (losses.total * (share if scale is None else share * scale.factor)).backward()
            for name, value in {"total": losses.total, **losses.terms}.items():
                mean = value.detach().double().mean() if value.device.type != "mps" else value.detach().mean()
                figures[name] = figures[name] + mean * share if name in figures else mean * share
        return figures


def _split(batch: Batch, parts: int) -> Iterator[Batch]:
    """The batch in parts of about equal length."""
    if parts == 1:
        yield batch
        return
    tensors = {field.name: getattr(batch, field.name) for field in fields(batch)}
    pieces = {name: tensor.tensor_split(parts) for name, tensor in tensors.items() if tensor is not None}
    for number in range(parts):
        yield replace(batch, **{name: cut[number] for name, cut in pieces.items()})
