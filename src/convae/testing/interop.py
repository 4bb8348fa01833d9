"""Contract tests of importers and exporters."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import convae
from convae.core.errors import ArtifactError
from convae.core.random import torch_generator
from convae.interop import EXPORTERS, IMPORTERS, GraphExporter, export_model
from convae.interop.base import ImportedModel
from convae.interop.exporters.base import TOLERANCE
from convae.model.provenance import Provenance
from convae.testing.entries import name_of, no_errors, require


def check_importer(importer: str | Callable[..., Any], state: Mapping[str, Tensor]) -> None:
    """Checks that an importer builds a model from foreign weights, and refuses weights of another network.

    Test yourself that the outputs equal those of the original.

    Args:
        importer: function or registered name.
        state: foreign weights, as returned by `torch.load`.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(IMPORTERS, importer)
    where = f"importer {name}"
    run: Callable[[dict[str, Tensor]], ImportedModel] = IMPORTERS.get(name)
    with no_errors(where):
        model = run(dict(state)).model
        require(not model.training, f"{where}: must return a model in evaluation mode")
        with tempfile.TemporaryDirectory() as folder:
            again = convae.load(convae.save(model, Path(folder) / "model"))
        x = torch.rand(2, *model.input_shape, generator=torch_generator(0, "test"))
        with torch.no_grad():
            equal = torch.equal(model(x).likelihood.mean, again(x).likelihood.mean)
        require(equal, f"{where}: its model gives different outputs after saving and loading")
    first = next(iter(state))
    wrong: dict[str, dict[str, Tensor]] = {
        f"without the tensor {first}": {key: tensor for key, tensor in state.items() if key != first},
        "with a tensor of another name": {**state, "a tensor of another name": torch.zeros(1)},
        f"with NaN in the tensor {first}": {**state, first: torch.full_like(state[first], torch.nan)},
    }
    for what, changed in wrong.items():
        try:
            run(changed)
        except ArtifactError:
            continue
        raise AssertionError(f"{where}: must raise an ArtifactError for weights {what}")


def check_exporter(exporter: str | type[GraphExporter]) -> None:
    """Checks that an exporter writes graphs of a conditional model whose outputs are torch's, with the manifest.

    Args:
        exporter: class or registered name.

    Raises:
        AssertionError: the contract is violated.
    """
    name = name_of(EXPORTERS, exporter)
    where = f"exporter {name}"
    model = convae.build(_EXPORTED).eval()
    model.provenance = Provenance(classes=_CLASSES)
    with no_errors(where), tempfile.TemporaryDirectory() as folder:
        for each in export_model(model, Path(folder), name, graphs=["decode"]):
            require(each.difference <= TOLERANCE, f"{where}: {each.name} differs from torch by {each.difference:g}")
            found = EXPORTERS.get(name)().read_manifest(each.path)
            require(found["classes"] == list(_CLASSES), f"{where}: its manifest has the classes {found['classes']}")
            shape = found["inputs"]["z"]["shape"]
            require(
                shape[0] == "batch", f"{where}: the batch of the input z is not free in the manifest, but {shape[0]}"
            )


_CLASSES = ('</script><script>alert("1")</script>', "mit Umlauten: äöü\n")
_EXPORTED: dict[str, Any] = {
    "input": [1, 6, 6],
    "encoder": [{"conv": {"channels": 2, "stride": 2}}],
    "bottleneck": {"gaussian": {"latent": 2}},
    "decoder": [{"conv-transpose": {"channels": 1, "stride": 2}}],
    "likelihood": "bernoulli",
    "condition": {"classes": 2, "channels": 1},
}
