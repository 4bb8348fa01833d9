"""The cost of a batch as one call, and the same in several processes whose gradients are summed meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from convae.core.noise import CountedNoise
from convae.core.types import Batch
from convae.objective.objective import Losses
from convae.training.distributed.ranks import Ranks
from convae.training.distributed.sharding import is_sharded
from convae.training.recipe.stage_objective import Clocks, StageObjective


class LossModule(nn.Module):
    """From a batch to what it costs.

    Attributes:
        divisor: what gradients are divided by on their way to the parameters.

    Args:
        model: the model.
    """

    divisor = 1

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, part: Batch, noise: CountedNoise, objective: StageObjective, clocks: Clocks) -> Losses:
        """The cost of some images; `noise` draws their latents."""
        return objective(part, self.model(part.images, noise, part.labels), clocks)  # type: ignore[no-any-return]

    def prepare(self, part: Batch, noise: CountedNoise, objective: StageObjective, clocks: Clocks) -> None:
        """Before the first part of each step."""

    def summing(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Around the forward and backward passes of a part of the batch, `last` for its last one."""
        return contextlib.nullcontext()


class DistributedLossModule(LossModule):
    """The same in several processes: gradients are the means over them, which are taken while the rest is computed.

    DDP (Li et al. 2020, arXiv:2006.15704) around a model that every process has whole; a model that is cut does it
    itself. Which parameters take part is looked up anew when another objective comes, or others are frozen.
    """

    def __init__(self, model: nn.Module, ranks: Ranks, sync_batch_norm: bool) -> None:
        super().__init__(model)
        self.divisor = ranks.count
        self._ranks = ranks
        self._sync_batch_norm = sync_batch_norm
        self._cut = any(is_sharded(parameter) for parameter in model.parameters())
        self._group: DistributedDataParallel | None = None
        self._made_for: tuple[object, ...] = ()

    def forward(self, part: Batch, noise: CountedNoise, objective: StageObjective, clocks: Clocks) -> Losses:
        """The cost of some images; `noise` draws their latents."""
        if self._group is None:
            return super().forward(part, noise, objective, clocks)
        losses: Losses = self._group(part, noise, objective, clocks)
        return losses

    def prepare(self, part: Batch, noise: CountedNoise, objective: StageObjective, clocks: Clocks) -> None:
        """Finds out which parameters take part, where that has changed."""
        trained = tuple(name for name, parameter in self.model.named_parameters() if parameter.requires_grad)
        if not self._cut and self._made_for != (objective, trained):
            self._made_for = (objective, trained)
            self._regroup(self._without_gradient(part, noise, objective, clocks))

    @contextlib.contextmanager
    def summing(self, last: bool) -> Iterator[None]:
        """Gradients of the parts before the last stay in the process; what spans a batch is shared in all."""
        keep = contextlib.nullcontext() if last or self._group is None else self._group.no_sync()
        with self._ranks.sharing_batch(self._sync_batch_norm), keep:
            yield

    def _regroup(self, idle: list[str]) -> None:
        costs = LossModule(self.model)
        # Parameters without a gradient would be waited for. Buffers are shared with the figures of the step.
        ignored = [*idle, *(name for name, _ in costs.named_buffers())]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(costs, ignored)  # type: ignore[no-untyped-call]
        self._group = DistributedDataParallel(costs, gradient_as_bucket_view=True)

    def _without_gradient(
        self, part: Batch, noise: CountedNoise, objective: StageObjective, clocks: Clocks
    ) -> list[str]:
        """The names of parameters that the objective does not depend on, found by a pass that changes nothing."""
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        total = LossModule.forward(self, part, noise, objective, clocks).total
        for module, mode in modes.items():
            module.training = mode
        named = [(name, value) for name, value in LossModule(self.model).named_parameters() if value.requires_grad]
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            total, [value for _, value in named], allow_unused=True
        )
        return [name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is None]
