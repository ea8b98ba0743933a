"""A network's forward pass as a graph of ATen operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

from landscape.errors import UsageError
from landscape.functional import untouched

# Constants that take no more than the shape of their argument.
# fmt: off
_SHAPES = frozenset([
    "empty_like", "full_like", "new_empty", "new_full", "new_ones", "new_zeros", "ones_like",
    "zeros_like",
])
# fmt: on


class Graph:
    """f(x) for one sample x, as operations on x and on constants; mutations are removed.

    ``state`` are all parameters and buffers by name. Shapes alone are followed, so control flow
    that looks at values is refused. ``path`` holds the operations from input to output, in order.
    """

    def __init__(self, model: nn.Module, state: Mapping[str, Tensor], x: Tensor) -> None:
        self.device = x.device
        self._state = dict(state)
        self._module = _traced(model, self._state, x)
        nodes = list(self._module.graph.nodes)
        *held, self.input = (n for n in nodes if n.op == "placeholder")
        self._names = dict(zip(held, self._state, strict=True))
        self.output = _output(nodes[-1])
        self._constants: dict[Node, Any] = {}
        needed = _ancestors(self.output)
        for node in needed:
            if "attention" in operation(node):
                continue  # may drop out, but is refused for what it is
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                raise UsageError(
                    f"the forward pass draws random numbers ('{operation(node)}'): a random "
                    "function has no Lipschitz constant; is a Dropout on in eval mode?"
                )
        self._reached = {self.input}
        for node in nodes:
            if any(a in self._reached for a in _sources(node)):
                self._reached.add(node)
        self.path = [n for n in nodes if n in self._reached and n in needed]

    def inputs(self, node: Node) -> list[Node]:
        """The arguments of a node that depend on x."""
        return [n for n in _sources(node) if n in self._reached]

    def shape(self, node: Node) -> torch.Size:
        """Of the tensor that the node makes, or of the first if it makes several."""
        value = node.meta["val"]
        shape: torch.Size = (value[0] if isinstance(value, list | tuple) else value).shape
        return shape

    def arguments(
        self, node: Node, values: Mapping[Node, Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """With constants filled in; what depends on x is from ``values``, or stays a node."""

        def fill(n: Node) -> Any:
            if n in self._reached:
                return n if values is None else values[n]
            return self._constant(n)

        args: tuple[Any, ...] = map_arg(node.args, fill)
        options: dict[str, Any] = map_arg(dict(node.kwargs), fill)
        return args, options

    def parameters(self, node: Node) -> list[str]:
        """Names of the state among the arguments, also behind transpositions and the like."""
        found: list[str] = []
        for other in node.all_input_nodes:
            if other in self._names:
                found.append(self._names[other])
            elif other not in self._reached:
                found += self.parameters(other)
        return found

    def _constant(self, node: Node) -> Any:
        """The value of a node that doesn't depend on x, in float64."""
        if node not in self._constants:
            if node.op == "placeholder":
                value: Any = self._state[self._names[node]]
            elif node.op == "get_attr":
                value = getattr(self._module, str(node.target))
            else:
                shaped = node.all_input_nodes if operation(node) in _SHAPES else []
                value = call(self, node, {n: torch.zeros(self.shape(n)) for n in shaped})
            if torch.is_tensor(value):
                value = value.detach().to(self.device)
                value = value.double() if value.is_floating_point() else value
            self._constants[node] = value
        return self._constants[node]


def operation(node: Node) -> str:
    """``relu`` for ``torch.ops.aten.relu.default``."""
    packet = getattr(node.target, "overloadpacket", None)
    return str(getattr(packet or node.target, "__name__", node.target))


def call(graph: Graph, node: Node, values: Mapping[Node, Any] | None = None) -> Any:
    """The node's own operation on the values of its arguments."""
    assert callable(node.target)
    args, options = graph.arguments(node, values)
    return node.target(*args, **options)


def _traced(model: nn.Module, state: Mapping[str, Tensor], x: Tensor) -> GraphModule:
    names = list(state)

    def forward(tensors: list[Tensor], one: Tensor) -> Tensor:
        full = dict(zip(names, tensors, strict=True))
        out: Tensor = torch.func.functional_call(model, full, (one,))
        return out

    inputs = ([t.detach() for t in state.values()], x.detach())
    with untouched(model), torch.no_grad():
        try:
            found = _pure(forward, inputs)
            if _mutating(found):  # torch's own composite operations write in place too
                found = _pure(found, inputs)
        except Exception as error:  # the network's own, or one of many of the tracer's
            kind = type(error).__name__
            reason = (str(error).splitlines() or [""])[0].rstrip(".")
            what = (
                "the forward pass looks at the values of its input"
                if "DataDependent" in kind
                else "the forward pass can't be followed symbolically"
            )
            raise UsageError(
                f"{what}: only a network that does the same operations for every input has a "
                f"bound by composition ({kind}: {reason})."
            ) from error
    left = _mutating(found)
    if left:
        raise UsageError(
            f"the forward pass writes in place ({operation(left[0])}) in a way that can't be "
            "followed: write it without."
        )
    return found


def _pure(forward: Callable[..., Tensor], inputs: tuple[list[Tensor], Tensor]) -> GraphModule:
    pure = torch.func.functionalize(forward, remove="mutations")
    trace = make_fx(pure, tracing_mode="fake", _allow_non_fake_inputs=True)
    found: GraphModule = trace(*inputs)
    return found


def _mutating(module: GraphModule) -> list[Node]:
    """Operations that write in place, but for the last values of buffers."""
    found = []
    for node in module.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            written = node.args[0]
            if not (isinstance(written, Node) and written.op == "placeholder"):
                found.append(node)
    return found


def _output(end: Node) -> Node:
    result = end.args[0]
    if isinstance(result, list | tuple) and len(result) >= 1:
        result = result[0]
    assert isinstance(result, Node)
    return result


def _ancestors(node: Node) -> set[Node]:
    found: set[Node] = set()
    todo = [node]
    while todo:
        n = todo.pop()
        if n not in found:
            found.add(n)
            todo += _sources(n)
    return found


def _sources(node: Node) -> list[Node]:
    """The arguments whose values matter."""
    if operation(node) in _SHAPES:
        return []
    if operation(node) == "copy":  # of the second into the place of the first
        return [n for n in node.args[1:2] if isinstance(n, Node)]
    return node.all_input_nodes
