"""Exported graphs of a model in the user's cache, and the engine that was chosen for it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from convae.core.cache import cache_directory
from convae.core.errors import ConfigError
from convae.core.files import write_json
from convae.core.names import shape_text
from convae.core.version import VERSION
from convae.data.store.cache import touch, writing_to_cache
from convae.interop.exporters import EXPORTERS
from convae.interop.exporters.base import GraphExporter, Runner
from convae.interop.exporters.onnx import Onnx
from convae.interop.graphs import trace_graph
from convae.interop.manifests import build_manifest, describe_model
from convae.model.fingerprint import fingerprint
from convae.model.vae import VAE

FORMAT = 1


class GraphCache:
    """The folder of a model in the cache: `index.json`, graphs as ONNX, which all runtimes read, and choices.

    Files are written atomically, so that several processes may use it.

    Args:
        model: the model. What is cached depends on its description, weights and sizes, and on the versions of convae
            and torch.
    """

    def __init__(self, model: VAE) -> None:
        self._model = model
        facts = [FORMAT, fingerprint(model), list(model.input_shape), VERSION, torch.__version__]
        self.folder = cache_directory() / "graphs" / _key(facts)

    def open(self, exporter: str, graph: str) -> Runner:
        """A graph as a function; it is exported to ONNX first unless it is in the cache.

        Args:
            exporter: the runtime; it has to read ONNX.
            graph: name of the graph.

        Raises:
            ConfigError: a package is not installed, or the model cannot be exported.
            OutputError: the cache cannot be written.
        """
        target: GraphExporter = EXPORTERS.get(exporter)()
        path = self.folder / f"{graph}.onnx"
        if path.exists():
            with contextlib.suppress(ConfigError):  # damaged: exported again
                runner = target.open(path)
                touch(self.folder)
                return runner
        traced = trace_graph(self._model, graph)
        self._write_index()
        with writing_to_cache(path):
            Onnx().write(traced, path, build_manifest(describe_model(self._model), traced))
        return target.open(path)

    def read_choice(self, key: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """The trials of the choice for a machine, a batch and computations, the fastest first; None without one."""
        try:
            found = json.loads((self.folder / f"choice-{_key(key)}.json").read_text(encoding="utf-8"))
            trials: list[dict[str, Any]] = found["trials"]
            if found["key"] != json.loads(json.dumps(key)) or not trials[0]["images_per_second"] > 0:
                return None
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None
        return trials

    def write_choice(self, key: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> None:
        """Stores a choice."""
        self._write_index()
        path = self.folder / f"choice-{_key(key)}.json"
        with writing_to_cache(path):
            write_json(path, {"key": key, "trials": trials})

    def _write_index(self) -> None:
        path = self.folder / "index.json"
        if not path.exists():
            with writing_to_cache(path):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_json(path, {"source": self._model.name, "size": shape_text(self._model.input_shape)})


def _key(facts: object) -> str:
    """A file name for what a file depends on."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
