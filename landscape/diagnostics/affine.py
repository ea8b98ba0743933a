"""The operations that are affine in a network's input, and pieces of them as matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from landscape.diagnostics.graphs import Graph, call, operation

Values = Mapping[Node, Any]

# Linear in their first argument, the others being constants.
# fmt: off
_LINEAR = frozenset([
    "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_unsafe_view", "adaptive_avg_pool1d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "expand", "flip", "im2col", "index_select",
    "mean", "narrow", "neg", "permute", "pixel_shuffle", "pixel_unshuffle", "reflection_pad1d",
    "reflection_pad2d", "repeat", "replication_pad1d", "replication_pad2d", "reshape", "roll",
    "select", "slice", "split", "split_with_sizes", "squeeze", "sum", "t", "transpose", "tril",
    "triu", "unbind", "unfold", "unsqueeze", "upsample_bilinear2d", "upsample_nearest2d",
    "view",
])
# fmt: on
# The first argument itself; a cast between floating types is one, since all is in float64 here.
_IDENTITY = frozenset(["_to_copy", "alias", "clone", "contiguous", "detach", "lift_fresh_copy"])
_SUM = frozenset(["add", "sub", "rsub"])
_JOIN = frozenset(["cat", "stack"])
# Products of two arguments, of which one may depend on x, and products with a constant added.
_PRODUCT = frozenset(["bmm", "dot", "matmul", "mm", "mul", "mv"])
_PRODUCT_AND_SUM = frozenset(["addmm", "baddbmm"])
# Where a flag of training and where eps is among their arguments.
_BATCH_NORM: dict[str, tuple[int | None, int]] = {
    "_batch_norm_no_update": (None, 6),
    "_native_batch_norm_legit": (5, 7),
    "_native_batch_norm_legit_no_training": (None, 6),
    "cudnn_batch_norm": (5, 7),
    "miopen_batch_norm": (5, 7),
    "native_batch_norm": (5, 7),
}

# The second written into some entries of the first.
_SCATTER = frozenset(["select_scatter", "slice_scatter"])

# Where branches meet, entry by entry or side by side.
MEETING = _SUM | _JOIN | _SCATTER


def is_affine(graph: Graph, node: Node) -> bool:
    """Whether the node is affine in those of its arguments that depend on x, taken together."""
    name, sources = operation(node), graph.inputs(node)
    first = len(sources) == 1 and node.args[:1] == (sources[0],)
    if name in MEETING or name == "copy":
        return True
    if name in _PRODUCT or name in _PRODUCT_AND_SUM:
        factors = node.args[:2] if name in _PRODUCT else node.args[1:3]
        return len(sources) == 1 and factors.count(sources[0]) == 1
    if name == "div":
        return first and "rounding_mode" not in node.kwargs
    if name in _BATCH_NORM:
        training = _BATCH_NORM[name][0]
        trained = training is not None and bool(node.args[training])
        return first and len(node.args) > 6 and not trained
    if name == "getitem":  # max-pooling's second are positions
        return bool(node.args[1] == 0 or operation(sources[0]) in _LINEAR)
    if name == "view" and isinstance(node.args[1], torch.dtype):
        return False  # the same bits as other numbers
    if name == "_to_copy":
        return first and bool(node.meta["val"].is_floating_point())
    return first and (
        name in _LINEAR or name in _IDENTITY or name in ("constant_pad_nd", "convolution", "linear")
    )


def linear_part(graph: Graph, node: Node, values: Values) -> Any:
    """The node without its constant terms, at vectors in place of what depends on x."""
    name = operation(node)
    if name in _IDENTITY:
        return values[graph.inputs(node)[0]]
    if name in _SUM:
        return _sum(graph, node, values)
    if name in _LINEAR or name in _PRODUCT or name == "div":
        return call(graph, node, values)
    if name == "copy":
        return values[graph.inputs(node)[0]].expand(graph.shape(node))
    args, options = graph.arguments(node, values)
    if name == "getitem":
        return args[0][args[1]] if isinstance(args[0], list | tuple) else args[0]
    if name in _BATCH_NORM:
        return (_normalised(name, args),)
    if name in _PRODUCT_AND_SUM:
        return options.get("alpha", 1) * (args[1] @ args[2])
    if name in _JOIN:
        given: Any = node.args[0]
        pairs = zip(args[0], given, strict=True)
        args = ([p if n in values else torch.zeros_like(p) for p, n in pairs], *args[1:])
    elif name in _SCATTER:
        pairs = zip(args[:2], node.args[:2], strict=True)
        args = (*(p if n in values else torch.zeros_like(p) for p, n in pairs), *args[2:])
    elif name == "constant_pad_nd":
        args = args[:2]
    elif name in ("convolution", "linear"):
        args = (*args[:2], None, *args[3:])
    assert callable(node.target)
    return node.target(*args, **options)


def _sum(graph: Graph, node: Node, values: Values) -> Tensor:
    alpha: Any = node.kwargs.get("alpha", 1)
    signs = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}[operation(node)]
    terms = [
        sign * values[term]
        for sign, term in zip(signs, node.args[:2], strict=True)
        if isinstance(term, Node) and term in values
    ]
    total: Tensor = sum(terms[1:], terms[0])
    return total.expand(graph.shape(node))  # where the constant was the larger one


def _normalised(name: str, args: Sequence[Any]) -> Tensor:
    x, weight, _, _, variance = args[:5]
    scale = (variance + args[_BATCH_NORM[name][1]]).rsqrt()
    scale = scale if weight is None else scale * weight
    product: Tensor = x * scale.view(1, -1, *[1] * (x.ndim - 2))
    return product


class Piece:
    """The linear part of f between two nodes, as a matrix that is known by its products.

    ``scaled`` are operations on every entry between them, replaced by a factor.
    """

    def __init__(
        self,
        graph: Graph,
        start: Node,
        end: Node,
        nodes: Sequence[Node],
        scaled: Mapping[Node, float],
    ) -> None:
        self._graph, self._start, self._end = graph, start, end
        self._nodes, self._scaled = nodes, scaled
        self.device = graph.device
        self._shape = graph.shape(start)
        self.inputs, self.outputs = self._shape.numel(), graph.shape(end).numel()
        with torch.enable_grad():
            self._leaf = torch.zeros(
                self.inputs, dtype=torch.float64, device=self.device, requires_grad=True
            )
            self._image = self._run(self._leaf)

    def __call__(self, vectors: Tensor) -> Tensor:
        with torch.no_grad():
            if len(vectors) == 1:
                return self._run(vectors[0])[None]
            found: Tensor = torch.vmap(self._run)(vectors)
            return found

    def adjoint(self, vectors: Tensor) -> Tensor:
        one = len(vectors) == 1
        (found,) = torch.autograd.grad(
            self._image,
            self._leaf,
            vectors[0] if one else vectors,
            retain_graph=True,
            is_grads_batched=not one,
            materialize_grads=True,
        )
        return found[None] if one else found

    def _run(self, vector: Tensor) -> Tensor:
        values: dict[Node, Any] = {self._start: vector.view(self._shape)}
        for node in self._nodes:
            if node in self._scaled:
                values[node] = self._scaled[node] * values[self._graph.inputs(node)[0]]
            else:
                values[node] = linear_part(self._graph, node, values)
        found: Tensor = values[self._end]
        return found.reshape(-1)
