"""The choice of the fastest engine for inference, by a trial."""

from __future__ import annotations

import contextlib
import importlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import torch
from torch import Tensor

from convae.core.errors import ConfigError, ConvaeError
from convae.core.names import count_text, one_line
from convae.core.types import Images, Latents
from convae.interop.exporters.base import TOLERANCE, Runner, largest_difference
from convae.interop.graph_cache import GraphCache
from convae.interop.graph_engine import ComputationName, GraphEngine
from convae.model.condition import Labels
from convae.model.inference import ChannelsLastEngine, InferenceEngine, TorchEngine
from convae.model.inputs import unchecked_values
from convae.model.vae import VAE

EngineName = Literal["auto", "torch", "onnx", "openvino"]
BUDGET = 1.0
"""Seconds that the trial of one engine takes, after its first batch."""
_FEWEST = 3
"""Smallest number of batches of a trial."""
_WORTHWHILE = 30.0
"""Seconds of work with torch below which other engines are not tried: exporting and trying them takes as long."""
_RUNTIMES = {"onnx": ("onnxruntime", "export"), "openvino": ("openvino", "openvino")}
"""By the name of the exporter, the package that runs the graphs and the extra that installs it."""


@dataclass(frozen=True)
class Trial:
    """What an engine achieved on one batch.

    Attributes:
        engine: its name.
        images_per_second: for all requested computations together; None if it was not measured.
        difference: largest difference from torch's results, relative to the largest value where that exceeds 1.
        reason: why it was not tried or not chosen; None of other engines.
    """

    engine: str
    images_per_second: float | None = None
    difference: float = 0.0
    reason: str | None = None


@dataclass(frozen=True)
class EngineChoice:
    """The chosen engine, and how it was chosen.

    Attributes:
        engine: the engine.
        trials: of all candidates, the chosen one first; measured now or, for a choice in the cache, when it was made.
        difference: of the engine from torch on the given batch; 0 for torch.
        count: number of images of that batch.
    """

    engine: InferenceEngine
    trials: tuple[Trial, ...]
    difference: float
    count: int

    def describe(self) -> str:
        """One line: the engine, its speed, that of the others, and the difference from torch."""
        own, *others = self.trials
        speed = "" if own.images_per_second is None else f": {own.images_per_second:,.0f} images/s"
        compared = [
            f"{each.engine} {each.reason}" if each.reason else f"{each.engine} {each.images_per_second:,.0f}"
            for each in others
        ]
        text = f"engine {self.engine.name}{speed}" + (f" ({'; '.join(compared)})" if compared else "")
        return f"{text}; differs from torch by at most {self.difference:.1e} on {count_text(self.count, 'image')}"


@dataclass(frozen=True)
class _Batch:
    """The inputs of a trial."""

    images: Images | None
    z: Latents | None
    labels: Labels | None

    def __len__(self) -> int:
        given = self.images if self.images is not None else self.z
        return 0 if given is None else len(given)

    def run(self, engine: InferenceEngine) -> dict[str, Tensor]:
        """The results of an engine by name, on the CPU."""
        found: dict[str, Tensor] = {}
        if self.images is not None:
            with unchecked_values():  # as in the loops over data
                encoded = engine.encode(self.images, self.labels)
            found |= {"mean": encoded.mean.cpu(), "logvar": encoded.logvar.cpu()}
        if self.z is not None:
            found["image"] = engine.decode(self.z, self.labels).cpu()
        return found


def choose_engine(
    model: VAE,
    name: EngineName = "auto",
    computations: Sequence[ComputationName] = ("encode", "decode"),
    *,
    images: Images | None = None,
    z: Latents | None = None,
    labels: Labels | None = None,
    batch_size: int = 256,
    count: int | None = None,
) -> EngineChoice:
    """Opens an inference engine, or the fastest one for a model on this machine, and compares it with torch.

    Candidates of `auto` are torch, torch with weights in channels_last, and the exporters onnx and openvino, each with
    one second of batches of the size that it will get. The choice is cached for the model, the batch size and the
    machine, exported graphs for the model; `convae cache` lists and removes them.

    Args:
        model: the model; onnx and openvino need it on the CPU and in float32.
        name: an engine, or `auto`.
        computations: what the engine will compute.
        images: (batch, channel, *sizes), a batch to encode; random ones by default.
        z: (batch, *latent), a batch to decode; random ones by default.
        labels: (batch,) class numbers for a conditional model; by default all classes in turn.
        batch_size: size of random batches.
        count: number of images that will be computed. `auto` keeps torch if they take it less than half a minute, and
            no choice is cached. By default the trial is made in any case.

    Raises:
        ConfigError: the named engine is not installed, cannot run the model, or differs from torch by more than 1e-4.
    """
    batch = _batch(model, computations, images, z, labels, batch_size)
    torch_engine = TorchEngine(model)
    with torch.no_grad():
        expected = batch.run(torch_engine)
        if name == "torch":
            return EngineChoice(torch_engine, (Trial("torch"),), 0.0, len(batch))
        candidates = _Candidates(model, tuple(computations), batch, expected)
        if name != "auto":
            engine, difference = candidates.open(name)
            return EngineChoice(engine, (Trial(name, None, difference),), difference, len(batch))
        return _fastest(candidates, torch_engine, count)


def _batch(
    model: VAE,
    computations: Sequence[ComputationName],
    images: Images | None,
    z: Latents | None,
    labels: Labels | None,
    batch_size: int,
) -> _Batch:
    """The inputs of a trial; random where they are not given."""
    generator = torch.Generator().manual_seed(0)
    size = next((len(given) for given in (images, z) if given is not None), batch_size)
    if "encode" in computations and images is None:
        images = torch.rand(size, *model.input_shape, generator=generator)
    if "decode" in computations and z is None:
        device = next(model.parameters()).device
        z = model.nearest_latents(torch.randn(size, *model.latent_shape, generator=generator).to(device))
    if model.condition is not None and labels is None:
        labels = torch.arange(size) % model.condition.classes
    return _Batch(
        images if "encode" in computations else None,
        z if "decode" in computations else None,
        labels if model.condition is not None else None,
    )


class _Candidates:
    """Opens engines and compares their results with those of torch."""

    def __init__(
        self, model: VAE, computations: Sequence[ComputationName], batch: _Batch, expected: Mapping[str, Tensor]
    ) -> None:
        self.model, self.computations, self.batch, self._expected = model, computations, batch, expected
        self.cache = GraphCache(model)

    def open(self, name: str) -> tuple[InferenceEngine, float]:
        """An engine, and its difference from torch.

        Raises:
            ConfigError: it is not installed, cannot run the model, or differs too much.
        """
        if name == ChannelsLastEngine.name:
            engine: InferenceEngine = ChannelsLastEngine(self.model)
        else:
            parameter = next(self.model.parameters())
            if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
                has = f"{str(parameter.dtype).removeprefix('torch.')} weights on {parameter.device.type}"
                raise ConfigError(
                    f"engine {name} computes in float32 on the CPU, and model '{self.model.name}' has {has}. "
                    "Use --device cpu"
                )
            _require_package(name)
            runners: dict[str, Runner] = {each: self.cache.open(name, each) for each in self.computations}
            engine = GraphEngine(name, self.model, runners)
        difference = largest_difference(self.batch.run(engine), self._expected)
        if not difference <= TOLERANCE:
            if isinstance(engine, ChannelsLastEngine):
                engine.close()
            raise ConfigError(
                f"engine {name}: differs from torch by {difference:.1e}, more than {TOLERANCE:g}. Use --engine torch"
            )
        return engine, difference

    @property
    def key(self) -> dict[str, object]:
        """What the choice depends on, besides the model and the versions of convae and torch."""
        versions = {}
        for package in ("onnx", "onnxscript", *(package for package, _ in _RUNTIMES.values())):
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                versions[package] = ""
        return {
            "computations": list(self.computations),
            "batch": len(self.batch),
            "machine": [platform.node(), platform.machine(), platform.processor(), torch.get_num_threads()],
            "versions": versions,
        }


def _fastest(candidates: _Candidates, torch_engine: TorchEngine, count: int | None) -> EngineChoice:
    """The engine of the cached choice, or of a trial."""
    size = len(candidates.batch)
    on_cpu = next(candidates.model.parameters()).device.type == "cpu"
    known = candidates.cache.read_choice(candidates.key) if on_cpu else None
    if known is not None:
        with contextlib.suppress(ConvaeError, TypeError):  # if it cannot be opened now, there is another trial
            trials = tuple(Trial(**each) for each in known)
            is_torch = trials[0].engine == TorchEngine.name
            engine, difference = (torch_engine, 0.0) if is_torch else candidates.open(trials[0].engine)
            return EngineChoice(engine, trials, difference, size)
    first = Trial("torch", _measure(partial(candidates.batch.run, torch_engine), size))
    assert first.images_per_second is not None
    if not on_cpu or (count is not None and count < _WORTHWHILE * first.images_per_second):
        return EngineChoice(torch_engine, (first,), 0.0, size)
    engines: dict[str, tuple[InferenceEngine, float]] = {"torch": (torch_engine, 0.0)}
    trials = (first, *_try_others(candidates, engines))
    trials = tuple(sorted(trials, key=lambda each: -(each.images_per_second or 0.0)))
    chosen = trials[0].engine
    for name, (engine, _) in engines.items():
        if isinstance(engine, ChannelsLastEngine) and name != chosen:
            engine.close()
    candidates.cache.write_choice(candidates.key, [asdict(each) for each in trials])
    engine, difference = engines[chosen]
    return EngineChoice(engine, trials, difference, size)


def _try_others(candidates: _Candidates, engines: dict[str, tuple[InferenceEngine, float]]) -> Iterator[Trial]:
    """Trials of the engines besides torch; those that work are added to `engines`."""
    for name in (*_RUNTIMES, ChannelsLastEngine.name):  # the last one, since it changes the layout of the model
        try:
            engines[name] = engine, difference = candidates.open(name)
            speed = _measure(partial(candidates.batch.run, engine), len(candidates.batch))
            yield Trial(name, speed, difference)
        except ConvaeError as error:
            yield Trial(name, reason=f"skipped ({one_line(error)})")


def _require_package(name: str) -> None:
    """Checks that the runtime of an exporter is installed, before a graph is exported for it."""
    package, extra = _RUNTIMES[name]
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ConfigError(f"engine {name} needs the package {package}: pip install 'convae[{extra}]'") from error


def _measure(compute: Callable[[], object], size: int) -> float:
    """Images per second of the fastest batch within the time of a trial; the first batch was computed before."""
    best, begin, done = float("inf"), time.perf_counter(), 0
    while done < _FEWEST or time.perf_counter() - begin < BUDGET:
        before = time.perf_counter()
        compute()
        best, done = min(best, time.perf_counter() - before), done + 1
    return size / best
