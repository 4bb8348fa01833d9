"""Training on a GPU: determinism, resuming, half precision, moving a run, one process of several, no waiting."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from gpu.devices import deterministic, on_devices, on_gpu, without_waiting
from torch import Tensor, nn
from training.ranks import RUNS
from training.runs import RECIPE, StopAt, content, model_of

from convae.core.collective import shared_sum, sharing
from convae.core.errors import TrainingError
from convae.core.noise import CountedNoise
from convae.core.types import Batch
from convae.data import Batches, DataConfig, open_split
from convae.model.layers.base import compiled
from convae.objective.objective import Losses
from convae.objective.schedules.base import Clocks, Moment
from convae.training import resume, train
from convae.training.distributed import Ranks
from convae.training.launch import leave_group
from convae.training.loop.engine import Engine
from convae.training.loop.step import DistributedLossModule, LossModule
from convae.training.loop.trainer import Callback, Trainer


def recipe(device: str, **training: Any) -> dict[str, Any]:
    return {**RECIPE, "training": {**RECIPE["training"], "steps": 8, "epochs": None, "device": device, **training}}


@on_devices
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(device: str, precision: str, tmp_path: Path) -> None:
    written = recipe(device, precision=precision, ema=0.9)
    with deterministic(device):
        train(written, out=tmp_path / "unbroken")
        train(written, out=tmp_path / "run", callback=StopAt(3))
        resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


@on_devices
def test_a_loss_scale_falls_after_overflows_and_the_run_goes_on(device: str, tmp_path: Path) -> None:
    written = {**recipe(device, precision="fp16", log_every=1), "objective": {"reconstruction": 64, "kl": 64}}
    run = train(written, out=tmp_path / "run")
    rows = [row for row in run.metrics if row["split"] == "train"]
    assert 1 < rows[-1]["loss_scale"] < 1024
    assert rows[-1]["skipped"] == 0


@on_devices
def test_a_run_moves_from_the_cpu_to_the_device_and_back(device: str, tmp_path: Path) -> None:
    written = recipe("cpu", precision="float32", log_every=1)
    whole = train(written, out=tmp_path / "unbroken").metrics
    train(written, out=tmp_path / "run", callback=StopAt(3))
    path = tmp_path / "run" / "recipe.yaml"
    for other, before, step in ((device, "cpu", 6), ("cpu", device, 0)):
        path.write_text(path.read_text().replace(f"device: {before}", f"device: {other}"))
        run = resume(tmp_path / "run", callback=StopAt(step))
    for one, other_row in zip(whole, run.metrics, strict=True):
        assert other_row["total"] == pytest.approx(one["total"], rel=0.02)


STEPPED = [
    *(("cpu", name) for name in ("whole", "codes", "hierarchy-slices", "adversarial")),
    *(
        pytest.param("cuda", name, marks=pytest.mark.gpu)
        # The last one reads random numbers that are drawn on the CPU, which is no waiting.
        for name in ("whole", "codes", "hierarchy-slices", "adversarial", "codes-levels-slices")
    ),
]


@pytest.mark.parametrize(("device", "name"), STEPPED)
def test_the_host_does_not_wait_for_the_device_in_a_step(device: str, name: str, tmp_path: Path) -> None:
    step = Engine.step
    written = RUNS[name]
    training = {**written["training"], "device": device, "steps": 4, "log_every": 100, "checkpoint_every": 100}

    def watched(self: Engine, batch: Batch, clocks: Clocks, *more: Any) -> Any:
        if clocks.training.step < 2:  # codebooks and discriminators are initialized
            return step(self, batch, clocks, *more)
        with without_waiting(device):
            return step(self, batch, clocks, *more)

    with mock.patch.object(Engine, "step", watched):
        train({**written, "training": training}, out=tmp_path / "run")


@on_devices
def test_batches_on_the_device_are_those_of_the_store(device: str) -> None:
    batches = Batches(open_split(DataConfig(source="digits"), "train"), 100, 0)
    for here, there in zip(batches.iterate(0), batches.iterate(0, device=device), strict=True):
        assert there.images.device.type == device
        assert torch.equal(here.images, there.images.cpu())
        assert here.labels is not None
        assert there.labels is not None
        assert torch.equal(here.labels, there.labels.cpu())
        assert torch.equal(here.indices, there.indices.cpu())


@on_devices
def test_one_process_of_a_group_has_the_gradients_of_none(device: str, tmp_path: Path) -> None:
    """With NCCL on a GPU, gloo on the CPU."""
    model = nn.Linear(4, 1).to(device)
    images = torch.rand(6, 4, device=device)

    def loss(part: Batch, _noise: CountedNoise, _clocks: Clocks) -> Losses:
        values = model(part.images)[:, 0].square()
        total = shared_sum(values.sum()) / len(values)
        return Losses(total, {"loss": values.detach()})

    noise, clocks = CountedNoise(0, (), 0, 6), Clocks(Moment(0, 0.0, 0.0), Moment(0, 0.0, 0.0), Moment(0, 0.0, 0.0), 1)
    found: list[list[Tensor]] = []
    kind = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(kind, init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        for module in (LossModule(model, loss), DistributedLossModule(model, loss, Ranks(), False)):
            model.zero_grad(set_to_none=True)
            module.prepare(Batch.of(images), noise, clocks)
            with sharing(), module.accumulating(is_last=True):
                torch.autograd.backward(module.forward(Batch.of(images), noise, clocks).total)
            found.append([value.grad.clone() for value in model.parameters() if value.grad is not None])
    finally:
        leave_group()
    assert len(found[0]) == len(found[1]) == 2
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


class Weights(Callback):
    """The weights after the last step, and whether encoder and decoder were compiled."""

    def on_train_end(self, trainer: Trainer) -> None:
        model = model_of(trainer)
        self.modes = {side: network.compile_mode for side, network in model.networks.items()}
        self.values = {name: value.detach().cpu().double() for name, value in model.named_parameters()}


@on_devices
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # from the checks of types, when they are traced
def test_compiled_steps_are_those_of_the_layers_up_to_rounding(
    device: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if device == "cpu":
        monkeypatch.setattr(compiled, "BACKEND", "eager")  # a compiler takes many seconds
    conv, *layers = [each for each in RECIPE["model"]["encoder"] if "dropout" not in each]
    # A bias before a batch norm has no gradient but rounding, of which Adam would make whole steps.
    model = {**RECIPE["model"], "encoder": [{"conv": {**conv["conv"], "bias": False}}, *layers]}
    found = {}
    for is_on in ("off", "on"):
        weights = Weights()
        written = {**recipe(device, precision="float32", compile=is_on, log_every=1), "model": model}
        run = train(written, out=tmp_path / is_on, callback=weights)
        found[is_on] = [row["total"] for row in run.metrics]
        mode = {"cpu": "default", "cuda": "reduce-overhead"}[device] if is_on == "on" else None
        assert weights.modes == {"encoder": mode, "decoder": mode}
    # Layers may compute convolutions as matrix products, compiled ones do not: rounding grows from step to step.
    assert found["on"][0] == pytest.approx(found["off"][0], rel=1e-6 if device == "cpu" else 1e-2)
    assert found["on"] == pytest.approx(found["off"], rel=1e-5 if device == "cpu" else 1e-2)


@on_gpu
def test_too_large_a_batch_says_so(tmp_path: Path) -> None:
    torch.cuda.set_per_process_memory_fraction(0.02)
    model = {"preset": "torch-vae", "input": [3, 256, 256], "latent": 4}
    data = {"source": {"sprites": {"count": 2048, "size": 256}}, "validation": 0, "test": 0}
    try:
        with pytest.raises(TrainingError, match="find-batch-size"):
            train(
                {"data": data, "model": model, "training": {"steps": 1, "batch_size": 2048, "device": "cuda"}},
                out=tmp_path / "run",
            )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
