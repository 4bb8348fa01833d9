"""Lowering of a graph of `torch.export` to the operations that the page computes."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convae.core.errors import ConfigError, ConvaeError
from convae.core.names import one_line
from convae.explorer.lowerings import LOWERINGS
from convae.explorer.program import Program, Value
from convae.interop.graphs import Graph

_WRAPPERS = ("wrap_with_autocast", "wrap_with_set_grad_enabled")
_NOTHING = ("aten._assert_tensor_metadata", "aten._assert_scalar", "aten.sym_size")


def lower(graph: Graph) -> Program:
    """The program of a graph, for a batch of one and the model's own sizes.

    Values that depend on no input are computed here.

    Raises:
        ConfigError: the graph cannot be traced, or holds an operation that the page does not have.
    """
    examples = {name: tensor[:1] for name, tensor in graph.examples.items()}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.export.export(graph.module, tuple(examples.values()), strict=False)
    except ConvaeError:
        raise
    except Exception as error:  # tracing raises what the model's code raises
        raise ConfigError(f"graph '{graph.name}': cannot be traced: {one_line(error)[:300]}") from error
    own = _Lowering(graph.name, exported.module())
    inputs: list[Value | Tensor] = []
    for name, tensor in examples.items():
        value = own.program.add("input", [], tensor.shape)
        own.program.inputs[name] = value.step
        inputs.append(value)
    with torch.no_grad():
        results = own.run(own.root, inputs)
    for name, result in zip(graph.outputs, results, strict=True):
        value = result if isinstance(result, Value) else own.program.constant(result)
        own.program.outputs[name] = value.step
    return own.program


class _Lowering:
    """The state of one lowering.

    Attributes:
        program: so far.
        root: the traced graph.
    """

    def __init__(self, name: str, root: nn.Module) -> None:
        self.name = name
        self.root = root
        self.program = Program()

    def run(self, module: nn.Module, inputs: Sequence[Any]) -> Any:
        """Lowers a graph module; returns its results, values or, where they depend on no input, tensors."""
        found: dict[torch.fx.Node, Any] = {}
        given = iter(inputs)
        graph: torch.fx.Graph = module.graph  # type: ignore[assignment]  # of every graph module
        for node in graph.nodes:
            args, kwargs = torch.fx.map_arg((node.args, node.kwargs), found.__getitem__)
            if node.op == "placeholder":
                found[node] = next(given)
            elif node.op == "get_attr":
                found[node] = _attribute(module, node.target)
            elif node.op == "call_function":
                found[node] = self._call(node, args, kwargs)
            elif node.op == "output":
                return args[0]
            else:
                found[node] = None  # guards of the traced sizes
            self._note_uses(node, found[node])
        raise AssertionError("a graph has an output")

    def _note_uses(self, node: torch.fx.Node, value: Any) -> None:
        if isinstance(value, Value) and len(node.users) > 1:
            self.program.steps[value.step].is_shared = True

    def _call(self, node: torch.fx.Node, args: Any, kwargs: Any) -> Any:
        if node.target is operator.getitem:
            return args[0][args[1]]
        name = str(node.target).rpartition(".")[0] or str(node.target)
        if any(wrapper in str(node.target) for wrapper in _WRAPPERS):
            inner = next(index for index, one in enumerate(args) if isinstance(one, nn.Module))
            return self.run(args[inner], args[inner + 1 :])
        if name in _NOTHING:
            return None
        if not _depends(args) and not _depends(kwargs):
            target: Callable[..., Any] = node.target  # type: ignore[assignment]  # not a name, as of a method
            return target(*args, **kwargs)
        if name not in LOWERINGS:
            raise ConfigError(f"graph '{self.name}': the page in the browser has no operation {name}")
        return LOWERINGS[name](self.program, node, *args, **kwargs)


def _attribute(module: nn.Module, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part)
    return module


def _depends(value: Any) -> bool:
    """Whether a value, or one inside of it, depends on an input."""
    if isinstance(value, Mapping):
        return any(map(_depends, value.values()))
    return any(map(_depends, value)) if isinstance(value, list | tuple) else isinstance(value, Value)
