"""Inference by exported graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from convae.core.errors import ConfigError, ShapeError
from convae.core.names import one_line, shape_text
from convae.core.posterior import MIN_LOGVAR
from convae.core.types import Images, Latents
from convae.interop.exporters.base import Runner
from convae.model.condition import Labels
from convae.model.inference import EncodedBatch, InferenceEngine, join_codes
from convae.model.vae import VAE

ComputationName = Literal["encode", "decode"]


class GraphEngine(InferenceEngine):
    """Exported graphs in another runtime, on the CPU.

    Args:
        name: of the exporter.
        model: the model that was exported, in float32 on the CPU.
        runners: the graphs `encode` and `decode`, or one of them.
    """

    def __init__(self, name: str, model: VAE, runners: Mapping[str, Runner]) -> None:
        self.name = name
        self.model = model
        self._runners = runners

    def encode(self, images: Images, labels: Labels | None = None, weights: Tensor | None = None) -> EncodedBatch:
        """Approximate posteriors; see `InferenceEngine.encode`. The KL divergence of hierarchies is not computed."""
        found = self._run("encode", "image", images, self.model.input_shape, labels)
        codes = {name: values for name, values in found.items() if name.startswith("codes")}
        logvar = found.get("logvar")
        if logvar is not None:
            return EncodedBatch(found["mean"], logvar)
        joined = join_codes(codes) if self.model.is_hierarchical else codes["codes"].long()
        return EncodedBatch(found["mean"], torch.full_like(found["mean"], MIN_LOGVAR), joined)

    def decode(self, z: Latents, labels: Labels | None = None) -> Images:
        """Expected images; see `InferenceEngine.decode`."""
        return self._run("decode", "z", z, self.model.latent_shape, labels)["image"]

    def _run(
        self, graph: ComputationName, name: str, values: Tensor, shape: Sequence[int], labels: Labels | None
    ) -> dict[str, Tensor]:
        """The outputs of a graph by name."""
        if graph not in self._runners:
            raise ConfigError(f"engine {self.name}: was opened without {graph}. Add it to the computations")
        if tuple(values.shape[1:]) != tuple(shape):
            raise ShapeError(
                f"engine {self.name}: expected {name} {shape_text(shape)}, got {shape_text(values.shape[1:])}"
            )
        inputs = {name: values.detach().to("cpu", torch.float32).contiguous()}
        if self.model.condition is not None:
            if labels is None:
                raise ConfigError(f"model '{self.model.name}' is conditional: labels are missing")
            inputs["label"] = labels.to("cpu", torch.int64).contiguous()
        try:
            return self._runners[graph](inputs)
        except Exception as error:  # runtimes raise their own exceptions
            raise ConfigError(f"engine {self.name}: {graph} failed: {one_line(error)[:300]}") from error
