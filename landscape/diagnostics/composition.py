"""An upper bound of a network's Lipschitz constant, composed from those of its parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.fx import Node

from landscape.diagnostics.affine import MEETING, Piece, is_affine
from landscape.diagnostics.graphs import Graph, operation
from landscape.diagnostics.slopes import Interval, elementwise, joint
from landscape.errors import UsageError
from landscape.linalg.norms import Norm, spectral_norm, vertex_norm
from landscape.random import Streams

REFINEMENTS = ("product", "fused", "seqlip")

# Branches that are put beside each other. The squares of their bounds add up, as where of two
# entries the larger one is taken.
_JOINING = frozenset(["cat", "select_scatter", "slice_scatter", "stack"])
_SIDE_BY_SIDE = _JOINING | {"maximum", "minimum"}

# Of norm 1: the same entries in another order.
# fmt: off
_RESHAPING = frozenset([
    "_to_copy", "_unsafe_view", "alias", "clone", "contiguous", "detach", "getitem", "permute",
    "reshape", "squeeze", "t", "transpose", "unsqueeze", "view",
])
# fmt: on

_DIVIDING = "normalisation by the input's own deviation, whose slope only its eps bounds"
_REFUSED = {
    "native_layer_norm": _DIVIDING,
    "native_group_norm": _DIVIDING,
    "_fused_rms_norm": _DIVIDING,
    "native_batch_norm": "BatchNorm by the batch's statistics, in place of running ones",
    "cudnn_batch_norm": "BatchNorm by the batch's statistics, in place of running ones",
    "mul": "a product of two functions of the input, not globally Lipschitz (gates, attention; "
    "write x * sigmoid(x) as silu)",
    "bmm": "a product of two functions of the input, not globally Lipschitz (attention)",
    "pow": "a power of the input, not globally Lipschitz",
    "embedding": "a look-up of whole numbers",
}


@dataclass(frozen=True)
class Part:
    """One factor of the bound: a linear piece, or a nonlinear operation.

    ``slope`` bounds it alone (None where branches meet), ``bound`` everything from the network's
    input up to and with it; ``estimate`` is the same product made of the norms' estimates.
    """

    name: str
    kind: str
    inputs: int
    outputs: int
    slope: Norm | None
    bound: float


@dataclass(frozen=True)
class Composition:
    """Parts in the order of the network, and the bound of the whole from both kinds of norms."""

    parts: list[Part]
    upper: float
    estimate: float
    norms: list[Norm]


@dataclass(frozen=True)
class _Reach:
    """Of a point of the graph: certified bound, and product of estimates, from the input on."""

    upper: float
    estimate: float


def compose(
    model: nn.Module,
    state: Mapping[str, Tensor],
    x: Tensor,
    *,
    refine: str = "fused",
    tol: float = 5e-3,
    steps: int = 1000,
    streams: Streams,
    progress: Callable[[int, int], None] | None = None,
) -> Composition:
    """Bound the l2 Lipschitz constant of f at all inputs of the shape of ``x``, one sample (1, …).

    See ``lipschitz`` for the rules. ``state``: parameters and buffers by name.
    """
    graph = Graph(model, state, x)
    return _Composer(graph, refine, tol, steps, streams).run(progress)


class _Composer:
    """Walks the graph. Every node is linear in an anchor: the input, a nonlinear operation, or a
    place where branches with different anchors meet.
    """

    def __init__(self, graph: Graph, refine: str, tol: float, steps: int, streams: Streams) -> None:
        self.graph, self.refine, self.tol, self.steps = graph, refine, tol, steps
        self.streams = streams
        self.anchor: dict[Node, Node] = {graph.input: graph.input}
        self.reach: dict[Node, _Reach] = {graph.input: _Reach(1.0, 1.0)}  # of anchors
        self.slopes: dict[Node, Interval] = {}  # of anchors that act on every entry
        self.closed: dict[Node, _Reach] = {}
        self.norms: dict[tuple[Node, Node], tuple[Norm, Piece | None]] = {}
        self.parts: list[Part] = []

    def run(self, progress: Callable[[int, int], None] | None) -> Composition:
        path = self.graph.path
        if not path:
            return Composition([], 0.0, 0.0, [])  # a constant
        for done, node in enumerate(path, 1):
            if node is not self.graph.input:
                self._visit(node)
            if progress is not None:
                progress(done, len(path))
        end = self._close(self.graph.output)
        norms = [norm for norm, piece in self.norms.values() if piece is not None]
        return Composition(self.parts, end.upper, end.estimate, norms)

    def _visit(self, node: Node) -> None:
        graph, name = self.graph, operation(node)
        sources = graph.inputs(node)
        anchors = {self.anchor[s] for s in sources}
        if is_affine(graph, node) and len(anchors) == 1:
            self.anchor[node] = anchors.pop()
            if self.refine == "product":
                self._nail(node)
        elif name in MEETING or (name in _SIDE_BY_SIDE and len(sources) > 1):
            self._meet(node, sources)
        else:
            self._bend(node, sources)

    def _nail(self, node: Node) -> None:
        """Make an anchor of a layer, so that nothing is composed with it."""
        layer = node
        if operation(node) == "getitem":  # of BatchNorm, which makes three tensors
            (layer,) = self.graph.inputs(node)
        if isinstance(node.meta["val"], list | tuple) or not self.graph.parameters(layer):
            return
        reach = self._close(node)
        self.anchor[node], self.reach[node] = node, reach

    def _bend(self, node: Node, sources: list[Node]) -> None:
        """A nonlinear operation."""
        graph, name = self.graph, operation(node)
        args, options = graph.arguments(node)
        slopes = slope = None
        repeats = self._repeats(sources[0], node)
        if len(sources) == 1:
            slopes = (
                (0.0, 1.0) if name in ("maximum", "minimum") else elementwise(name, args, options)
            )
            if slopes is not None:
                slope = repeats * max(map(abs, slopes))
            else:
                slope = joint(name, args, graph.shape(sources[0]), graph.shape(node))
        if slope is None:
            raise UsageError(self._refusal(node, sources))
        before = self._close(sources[0])
        self.anchor[node] = node
        self.reach[node] = _Reach(slope * before.upper, slope * before.estimate)
        if slopes is not None and repeats == 1:
            self.slopes[node] = slopes
        if slope != 1:
            exact = Norm(slope, slope, True, "closed form", 0)
            self._add(name, "nonlinear", sources[0], node, exact)

    def _repeats(self, source: Node, node: Node) -> float:
        """The norm of broadcasting: the root of how often every entry is repeated."""
        return math.sqrt(max(1, self.graph.shape(node).numel() / self.graph.shape(source).numel()))

    def _meet(self, node: Node, sources: list[Node]) -> None:
        """Branches with different anchors: bounds add up, or their squares where side by side."""
        name = operation(node)
        # Put beside each other, nothing is repeated; entry by entry, the smaller one may be.
        repeats = [1.0 if name in _JOINING else self._repeats(s, node) for s in sources]
        reaches = [
            _Reach(r * reach.upper, r * reach.estimate)
            for r, reach in zip(repeats, map(self._close, sources), strict=True)
        ]
        if name in _SIDE_BY_SIDE:
            upper = math.hypot(*(r.upper for r in reaches))
            estimate = math.hypot(*(r.estimate for r in reaches))
        else:
            one, other = reaches
            if name == "rsub":  # b − alpha · a
                one, other = other, one
            alpha = abs(float(node.kwargs.get("alpha", 1)))  # type: ignore[arg-type]
            upper = one.upper + alpha * other.upper
            estimate = one.estimate + alpha * other.estimate
        self.anchor[node] = node
        self.reach[node] = _Reach(upper, estimate)
        self._add(name, "branches meet", sources[0], node, None)

    # -- bounds of linear pieces ------------------------------------------------------------------

    def _close(self, node: Node) -> _Reach:
        """The bound from the input to a node, by the linear piece that ends there."""
        if node not in self.closed:
            start = self.anchor[node]
            if node is start:
                return self.reach[node]
            norm, piece = self._norm(start, node, {})
            self.closed[node] = _Reach(
                self._through(start, node, {}), norm.estimate * self.reach[start].estimate
            )
            if piece is not None:
                self._add(self._name(start, node), "linear", start, node, norm)
        return self.closed[node]

    def _through(self, start: Node, end: Node, scaled: dict[Node, float]) -> float:
        """A bound of M(start), M the linear map from ``start`` to ``end`` past ``scaled``."""
        norm, piece = self._norm(start, end, scaled)
        best = norm.upper * self.reach[start].upper
        if self.refine != "seqlip" or start not in self.slopes:
            return best
        (source,) = self.graph.inputs(start)
        before = self.anchor[source]
        if before is source:
            return best  # nothing linear before the activation
        low, high = self.slopes[start]
        centre, radius = (low + high) / 2, (high - low) / 2
        straight = self._through(before, end, {**scaled, start: centre})
        best = min(best, straight + radius * norm.upper * self.closed[source].upper)
        first = self._norm(before, source, {})[1]
        if piece is not None and first is not None:
            corner = vertex_norm(piece, first, low, high)
            if corner is not None:
                best = min(best, corner * self.reach[before].upper)
        return best

    def _norm(self, start: Node, end: Node, scaled: dict[Node, float]) -> tuple[Norm, Piece | None]:
        """Of the map from ``start`` to ``end``; no piece where it does nothing but reshape."""
        key = (start, end)  # ``scaled`` follows from it
        if key not in self.norms:
            nodes = self._between(start, end)
            if all(operation(n) in _RESHAPING for n in nodes):
                self.norms[key] = Norm(1.0, 1.0, True, "closed form", 0), None
            else:
                piece = Piece(self.graph, start, end, nodes, scaled)
                norm = spectral_norm(
                    piece,
                    tol=self.tol,
                    steps=self.steps,
                    streams=self.streams.child("norm", len(self.norms)),
                )
                self.norms[key] = norm, piece
        return self.norms[key]

    def _between(self, start: Node, end: Node) -> list[Node]:
        """The nodes that ``end`` needs after ``start``, in order."""
        needed, todo = set(), [end]
        while todo:
            node = todo.pop()
            if node is not start and node not in needed:
                needed.add(node)
                todo += self.graph.inputs(node)
        return [n for n in self.graph.path if n in needed]

    # -- names ------------------------------------------------------------------------------------

    def _add(self, name: str, kind: str, first: Node, last: Node, slope: Norm | None) -> None:
        taken = sum(p.name == name or p.name.startswith(f"{name} (") for p in self.parts)
        self.parts.append(
            Part(
                f"{name} ({taken + 1})" if taken else name,
                kind,
                self.graph.shape(first).numel(),
                self.graph.shape(last).numel(),
                slope,
                self._close(last).upper,
            )
        )

    def _name(self, start: Node, end: Node) -> str:
        """By the modules whose parameters take part, or by the operations."""
        modules: list[str] = []
        nodes = self._between(start, end)
        for node in nodes:
            for parameter in self.graph.parameters(node):
                module = parameter.rpartition(".")[0] or parameter
                if module not in modules:
                    modules.append(module)
        if not modules:
            return " + ".join(dict.fromkeys(operation(n) for n in nodes))
        prefix = modules[0].rpartition(".")[0] + "."
        return " + ".join([modules[0], *(m.removeprefix(prefix) for m in modules[1:])])

    def _refusal(self, node: Node, sources: list[Node]) -> str:
        name = operation(node)
        where = ", ".join(self.graph.parameters(node))
        start = self.anchor[sources[0]]
        last = self.parts[-1].name if self.parts else "the input"
        if start is not sources[0]:
            last = self._name(start, sources[0])
        why = _REFUSED.get("bmm" if "attention" in name else name, "an operation without a rule")
        return (
            f"no Lipschitz bound for '{name}' ({f'with {where}, ' if where else ''}after {last}): "
            f"{why}."
        )
