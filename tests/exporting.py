"""Many small models in one exported graph: each export by itself takes seconds, whatever its size."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from convae.interop.graphs import Graph


class _Bundle(nn.Module):
    def __init__(self, graphs: Mapping[str, Graph]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(each.module for each in graphs.values())
        self.counts = [len(each.examples) for each in graphs.values()]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found: list[Tensor] = []
        rest = list(inputs)
        for part, count in zip(self.parts, self.counts, strict=True):
            given, rest = rest[:count], rest[count:]
            found += part(*given)
        return tuple(found)


def bundle(graphs: Mapping[str, Graph]) -> Graph:
    """Graphs beside each other as one, whose inputs and outputs have names such as `vq decode: z`."""
    examples = {f"{key}: {name}": tensor for key, each in graphs.items() for name, tensor in each.examples.items()}
    outputs = tuple(f"{key}: {name}" for key, each in graphs.items() for name in each.outputs)
    return Graph("bundle", _Bundle(graphs).eval(), examples, outputs)
