"""The trainer trains whatever is a task: here a density over latents, which is no VAE."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from convae.core.errors import ArtifactError
from convae.core.noise import CountedNoise
from convae.core.random import torch_generator
from convae.core.types import Batch
from convae.objective.objective import Losses
from convae.objective.schedules.base import Clocks
from convae.training.distributed import Ranks
from convae.training.loop.checkpoint import list_checkpoints, read_checkpoint
from convae.training.loop.task import ModuleState, SavedAs, Task, Update
from convae.training.loop.trainer import Callback, Trainer
from convae.training.recipe.plan import Stage, single_stage
from convae.training.recipe.schema import OptimizerConfig, TrainingConfig
from convae.training.run import train_task
from convae.training.run_folder import RunFolder

CPU = torch.device("cpu")
STEPS, PER_EPOCH = 24, 5


class Latents:
    """A source of batches of latents, in an order that a generator of seed, epoch and step draws."""

    shape, classes, levels, batch_size, waited, steps_per_epoch = (2,), None, None, 32, 0.0, PER_EPOCH

    def iterate(
        self, epoch: int, start_step: int = 0, device: torch.device | str = "cpu", strength: float = 1.0
    ) -> Iterator[Batch]:
        for step in range(start_step, PER_EPOCH):
            noise = torch.randn(self.batch_size, 2, generator=torch_generator(0, "latents", epoch, step))
            yield Batch(noise @ torch.tensor([[2.0, 1.0], [0.0, 0.5]]) + 3, None, torch.arange(self.batch_size))


class Density(nn.Module):
    """An affine flow after a small net: log p(z) = log N(f(z)) + log |det|."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, z: Tensor) -> Tensor:
        matrix = self.second.weight @ self.first.weight
        normal = torch.distributions.Normal(0.0, 1.0).log_prob(self.second(self.first(z))).sum(1)
        value: Tensor = normal + torch.linalg.slogdet(matrix).logabsdet
        return value


class FitDensity(Task):
    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            density = Density()
        self.modules = {"density": density}
        self.options = TrainingConfig(ema=0.9, precision="float32", log_every=2, pictures_every=1)
        optimizer = OptimizerConfig(lr=0.05, clip=10.0)
        self.plan = single_stage(STEPS, PER_EPOCH, units={"nll": "nats"}, optimizer=optimizer)
        self.batches, self.device, self.ranks, self.title = Latents(), CPU, Ranks(), "density"

    def updates(self, stage: Stage) -> list[Update]:
        def loss(batch: Batch, _noise: CountedNoise, _clocks: Clocks) -> Losses:
            costs = -self.modules["density"](batch.images)
            return Losses(costs.mean(), {"nll": costs})

        return [Update("density", self.modules["density"], loss, stage.optimizer, stage.learning_rate)]

    def save(self, path: Path, saved: SavedAs) -> None:
        path.mkdir(exist_ok=True)
        save_file(
            {key: value.contiguous() for key, value in self.main.state_dict().items()}, path / "density.safetensors"
        )

    def description(self) -> dict[str, Any]:
        return {"task": "density"}


def run(path: Path, callback: Callback | None = None) -> Trainer:
    """Trains, from the last checkpoint if there is one."""
    return train_task(FitDensity(), path, callback=callback)


class Stop(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.progress.step == self.step:
            trainer.stop()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("density") / "run"
    assert not run(path).stopped
    return path


def test_a_task_that_is_no_vae_is_trained_logged_and_saved(unbroken: Path) -> None:
    rows = RunFolder(unbroken).rows()
    assert [row["step"] for row in rows if row["split"] == "train"][-1] == STEPS
    assert rows[-1]["nll"] < rows[0]["nll"] - 1
    assert {"total", "nll", "gradient_norm", "clipped", "lr"} <= rows[0].keys()
    assert load_file(unbroken / "model" / "density.safetensors").keys() == Density().state_dict().keys()
    assert (unbroken / "pictures" / "curves.png").is_file()
    names = read_checkpoint(list_checkpoints(unbroken / "checkpoints")[-1]).values
    assert {"progress", "health", "density", "optimizer", "ema"} <= names.keys()


@pytest.mark.parametrize("step", [3, 13])
def test_it_resumes_bit_for_bit(step: int, unbroken: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "run", Stop(step)).stopped
    assert not run(tmp_path / "run").stopped
    for name in ("metrics.jsonl", "model/density.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (unbroken / name).read_bytes()
    last = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    for name in ("state.json", "tensors.safetensors"):
        assert (last / name).read_bytes() == (list_checkpoints(unbroken / "checkpoints")[-1] / name).read_bytes()


def test_a_checkpoint_of_other_objects_is_refused(unbroken: Path) -> None:
    checkpoint = read_checkpoint(list_checkpoints(unbroken / "checkpoints")[-1])
    with pytest.raises(ArtifactError, match="discriminator"):
        checkpoint.restore({"discriminator": ModuleState(Density())})
