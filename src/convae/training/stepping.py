"""One step of the optimiser: a batch in parts, gradients clipped, and nothing done where they are not finite."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from convae.core.random import key, torch_generator
from convae.data import Batch
from convae.training.stage_objective import Clocks, StageObjective


class Stepper:
    """Steps of one model.

    What is random in a step depends on the seed and the step alone.

    Args:
        model: what is trained.
        seed: of noise and dropout.
        parts: in how many parts a batch goes through the model, for less memory. The gradient is that of the whole
            batch up to rounding, and up to what is computed over a batch: batch-norm statistics, and means over the
            labelled images of each part.
    """

    def __init__(self, model: nn.Module, seed: int, parts: int) -> None:
        self._model = model
        self._seed = seed
        self._parts = parts
        self._buffers = list(model.buffers())

    def __call__(
        self,
        batch: Batch,
        objective: StageObjective,
        clocks: Clocks,
        optimizer: torch.optim.Optimizer,
        clip: float | None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """One step. Where the total or a gradient is not finite, weights, statistics and optimiser stay as they are.

        Args:
            batch: the images.
            objective: what is minimised.
            clocks: the moment before the step.
            optimizer: fused, with the step's learning rate.
            clip: the largest norm of the gradient; longer ones are scaled down.

        Returns:
            The means over the batch of the total (nats per image), of each term, of the gradient's norm and of whether
            it was clipped; and whether the step was skipped: scalars on the device, which nothing waits for.
        """
        before = [buffer.clone() for buffer in self._buffers]
        optimizer.zero_grad(set_to_none=True)
        figures = self.gradients(batch, objective, clocks)
        parameters = [parameter for parameter in self._model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        skipped = ~(norm.isfinite() & figures["total"].isfinite())
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
            figures["clipped"] = (norm > clip).float()
        # The hook by which gradient scalers tell fused optimisers to do nothing, without waiting for the device.
        optimizer.found_inf = skipped.float()  # type: ignore[attr-defined]
        optimizer.step()
        for buffer, old in zip(self._buffers, before, strict=True):
            buffer.copy_(torch.where(skipped, old, buffer))
        return {**figures, "gradient_norm": norm}, skipped

    def gradients(self, batch: Batch, objective: StageObjective, clocks: Clocks) -> dict[str, Tensor]:
        """The figures of a batch, after adding its gradients to those of the parameters."""
        step = clocks.training.step
        # Layers that draw (dropout) use their device's default generator. Seeding those of all devices takes longer.
        seed = torch.default_generator.manual_seed if batch.images.device.type == "cpu" else torch.manual_seed
        seed(key(self._seed, "layers", step))
        noise = torch_generator(self._seed, "latent", step)
        figures: dict[str, Tensor] = {}
        for part in _split(batch, min(self._parts, len(batch))):
            losses = objective(part, self._model(part.images, noise), clocks)
            share = len(part) / len(batch)
            (losses.total * share).backward()
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
