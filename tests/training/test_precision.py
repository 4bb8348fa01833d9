"""Half precision: what computes in it and what never does, and a loss that is scaled as far as it can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training.runs import RECIPE, StopAt, content, model_of

from convae.core.errors import ConfigError, TrainingError
from convae.core.output import Output
from convae.core.random import torch_generator
from convae.describe import build
from convae.model.initialize import initialize
from convae.model.layers.base.network import Network
from convae.training import resume, train
from convae.training.loop.numerics import GROWS_AFTER, HALVES, LossScale, choose_precision
from convae.training.loop.trainer import Callback, Trainer

CPU = torch.device("cpu")
halves = pytest.mark.parametrize("precision", list(HALVES))


def recipe(precision: str, weight: float = 1.0, **training: Any) -> dict[str, Any]:
    objective = {name: {"weight": weight} for name in ("reconstruction", "kl")}
    options = {"epochs": 2, "log_every": 1, "precision": precision, **training}
    return {**RECIPE, "objective": objective, "training": {**RECIPE["training"], **options}}


def hardware(monkeypatch: pytest.MonkeyPatch, *instructions: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(instructions, True))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


def test_auto_is_bf16_where_the_hardware_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware(monkeypatch, "avx2", "avx512_f")
    assert choose_precision("auto", CPU) == "float32"
    for instructions in ("avx512_bf16", "amx_bf16"):
        hardware(monkeypatch, instructions)
        assert choose_precision("auto", CPU) == "bf16"
    # Limited by ATEN_CPU_CAPABILITY=avx2, torch's kernels emulate bf16, and attention fails in it.
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert choose_precision("auto", CPU) == "float32"
    assert [choose_precision(name, CPU) for name in ("float32", "fp16")] == ["float32", "fp16"]


def test_a_gpu_without_bf16_gets_float32_and_refuses_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **_: has)
        assert choose_precision("auto", gpu) == ("bf16" if has else "float32")
    with pytest.raises(ConfigError, match=r"^training\.precision: this GPU .*bf16.* auto"):
        choose_precision("bf16", gpu)


def test_the_run_folder_says_what_auto_chose_so_that_a_run_goes_on_in_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hardware(monkeypatch, "avx512_bf16")
    run = train(recipe("auto", steps=1, epochs=None), out=tmp_path / "run")
    assert run.recipe.training.precision == "bf16"
    assert "precision: bf16" in (run.path / "recipe.yaml").read_text()


def test_a_precision_that_is_only_emulated_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Reader(Callback):
        def __init__(self) -> None:
            self.sentences: list[str] = []

        def on_message(self, sentence: str) -> None:
            self.sentences.append(sentence)

    told = {}
    for instructions in ("avx512_bf16", "avx2"):
        hardware(monkeypatch, instructions)
        reader = Reader()
        train(recipe("bf16", steps=1, epochs=None), out=tmp_path / instructions, callback=reader)
        told[instructions] = reader.sentences
    assert told["avx512_bf16"] == []
    assert [sentence.partition(",")[0] for sentence in told["avx2"]] == ["this CPU emulates bf16"]


@halves
def test_layers_compute_in_half_precision_and_figures_and_weights_do_not(precision: str, tmp_path: Path) -> None:
    found: dict[str, set[torch.dtype]] = {}

    class Look(Callback):
        def on_train_start(self, trainer: Trainer) -> None:
            for name, layer in model_of(trainer).named_modules():
                layer.register_forward_hook(lambda layer, _, output, name=name: self.note(layer, name, output))

        def note(self, layer: torch.nn.Module, name: str, output: Any) -> None:
            if not torch.is_grad_enabled():
                name = f"validation {name}"
            values = {name: output} if isinstance(output, Tensor) else {}
            if isinstance(output, Output):
                posterior = output.posterior
                values = {"mean": posterior.mean, "logvar": posterior.logvar, "kl": posterior.kl()}
            if name == "head":
                values = {"log_prob": output.log_prob(torch.rand(output.mean.shape)), "image": output.mean}
            for key, value in values.items():
                found.setdefault(key, set()).add(value.dtype)

        def on_step_end(self, trainer: Trainer) -> None:
            for name, tensor in model_of(trainer).state_dict().items():
                found.setdefault(f"weight {name}", set()).add(tensor.dtype)
            assert trainer.engine.ema is not None
            found.setdefault("average", set()).update(value.dtype for value in trainer.engine.ema.tensors.values())

    train(recipe(precision, epochs=1, ema=0.9), out=tmp_path / "run", callback=Look())
    assert {found[name].pop() for name in ("encoder.0", "encoder.1", "decoder.0", "decoder.2")} == {HALVES[precision]}
    rest = {name for name, dtypes in found.items() if dtypes and not name.startswith(("encoder", "decoder"))}
    assert {"mean", "logvar", "kl", "log_prob", "image", "average", "validation encoder.0"} <= rest
    assert all(found[name] == {torch.float32} for name in rest)


@halves
@pytest.mark.parametrize("norm", ["batch-norm", {"group-norm": {"groups": 2}}, "instance-norm", "layer-norm"])
def test_statistics_of_norms_are_those_of_float64_up_to_the_rounding_of_the_output(precision: str, norm: Any) -> None:
    half = HALVES[precision]
    x = (100 + 4 * torch.randn(16, 4, 8, 8, generator=torch_generator(0, "x"))).to(half)
    network, exact = Network((4, 8, 8), [norm], "layers"), Network((4, 8, 8), [norm], "layers").double()
    initialize(network, 0)
    initialize(exact, 0)
    with torch.autocast("cpu", half):
        y = network(x)
    assert y.dtype == half
    # Values of up to four are rounded by half a unit in their last place, twice at most.
    torch.testing.assert_close(y.double(), exact(x.double()), rtol=0, atol=4 * torch.finfo(half).eps)
    for name, buffer in network.named_buffers():
        torch.testing.assert_close(buffer.double(), exact.get_buffer(name).double(), rtol=1e-5, atol=1e-6)


@halves
def test_training_goes_as_in_float32(precision: str, tmp_path: Path) -> None:
    one = train(recipe("float32"), out=tmp_path / "one").metrics
    other = train(recipe(precision), out=tmp_path / "other").metrics
    for wide, half in zip(one, other, strict=True):
        for name in ("reconstruction", "kl", "total"):
            assert half[name] == pytest.approx(wide[name], rel=0.01, abs=0.05)
    # Unscaled again, in fp16.
    assert other[0]["gradient_norm"] == pytest.approx(one[0]["gradient_norm"], rel=0.02)
    assert other[-1]["total"] < other[0]["total"]


def test_only_fp16_scales_its_loss(tmp_path: Path) -> None:
    for precision in ("float32", "bf16", "fp16"):
        run = train(recipe(precision, epochs=1), out=tmp_path / precision)
        rows = [row for row in run.metrics if row["split"] == "train"]
        assert {row.get("loss_scale") for row in rows} == ({1024.0} if precision == "fp16" else {None})


def test_the_loss_is_scaled_less_after_an_overflow_and_more_after_many_steps_without() -> None:
    scale = LossScale(CPU, 4.0, GROWS_AFTER - 2)
    no, yes = torch.tensor(False), torch.tensor(True)
    seen = []
    for overflowed in (no, no, no, yes, yes, yes, yes, yes, no):
        scale.update(overflowed)
        seen.append((scale.state()["factor"], scale.state()["steady"]))
    assert seen == [
        (4.0, GROWS_AFTER - 1),
        (8.0, 0),
        (8.0, 1),
        (4.0, 0),
        (2.0, 0),
        (1.0, 0),
        (1.0, 0),
        (1.0, 0),
        (1.0, 1),
    ]


def test_overflows_halve_the_scale_and_are_no_fault_of_the_run(tmp_path: Path) -> None:
    run = train(recipe("fp16", weight=64), out=tmp_path / "run")
    rows = [row for row in run.metrics if row["split"] == "train"]
    assert 1 < rows[-1]["loss_scale"] < 1024
    assert rows[-1]["skipped"] == 0
    assert run.notes == []
    assert rows[0]["step"] > 1  # the first steps gave no figures, since they did nothing
    assert rows[-1]["total"] < rows[0]["total"]


@pytest.mark.parametrize("step", [3, 9])
def test_a_run_in_fp16_resumes_bit_for_bit_in_the_middle_of_overflows(step: int, tmp_path: Path) -> None:
    options = recipe("fp16", weight=64, ema=0.9, accumulate=2)
    train(options, out=tmp_path / "unbroken")
    train(options, out=tmp_path / "run", callback=StopAt(step))
    resume(tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "unbroken")


def test_activations_that_overflow_are_a_fault_that_names_its_layer(tmp_path: Path) -> None:
    class Breaker(Callback):
        """Makes a layer's values too large for float16, and only for that."""

        def __init__(self) -> None:
            self.sentences: list[str] = []

        def on_train_start(self, trainer: Trainer) -> None:
            with torch.no_grad():
                model_of(trainer).get_parameter("decoder.0.weight").fill_(1e6)

        on_step_end = on_train_start

        def on_message(self, sentence: str) -> None:
            self.sentences.append(sentence)

    breaker = Breaker()
    with pytest.raises(TrainingError, match=r"training\.precision: float32"):
        train(recipe("fp16", batch_size=20), out=tmp_path / "run", callback=breaker)
    assert "step 0 was skipped: the first non-finite values are in decoder.0 (Linear)" in breaker.sentences


def test_the_model_of_a_run_in_half_precision_is_float32(tmp_path: Path) -> None:
    run = train(recipe("bf16", epochs=1), out=tmp_path / "run")
    assert {tensor.dtype for tensor in run.model.state_dict().values()} == {torch.float32}
    assert build(RECIPE["model"]).state_dict().keys() == run.model.state_dict().keys()
