"""Curvature of an Objective as operators for ``landscape.linalg``."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import grad, jvp, linearize, vjp

from landscape import params as P
from landscape.differentiability import check_differentiable
from landscape.errors import UsageError, unknown
from landscape.folding import Folding
from landscape.functional import Product, Term
from landscape.memory import ran_out
from landscape.objective import Objective, check_derivative
from landscape.params import Params
from landscape.random import Streams

# A kept graph is as fast as a linearisation and a fifth of its size, and differentiating twice
# faster than going forward over reverse (``docs/benchmarks.md``): the others are to be asked for.
PRODUCTS = ("graph", "double-backward", "linearised", "forward-over-reverse")

# The one that always works, and that others are checked against.
_ANEW = "double-backward"

# Those that keep something, and how many times the bytes that the graph of a gradient saves, at
# most: measured, 0.98 to 1.04 on convolutional networks and transformers. A linearisation holds
# copies of weights and folded constants too.
KEEPING = {"linearised": 7.0, "graph": 1.05}

# Those that are made in the coordinates of a folding.
_FOLDED = ("graph", _ANEW)

MEMORY = 4 << 30

# A product's own work takes as much again as its part of the data, so batches are split to this
# share of the memory.
PIECE = 1 / 8

# Samples on which ways are tried, and bytes below which no batch is split.
_PROBE = 8
_LEAST_PIECE = 16 << 20


class Operator:
    """A symmetric matrix over θ that is a sum over the batches of an Objective.

    ``A @ v`` for v of shape (n,), in the order of ``params.flatten``, or (n, k): what has to be
    made anew for every product is then made once for all columns.

    Args:
        objective: its own parameters are the point, its perturbations those of that point.
        product: how products are made, a name in ``PRODUCTS``, or ``auto``: what is kept of as many
            batches as fit, the others' made anew.

            - ``graph``: the graph of every batch's gradient is kept and differentiated again.
            - ``linearised``: the gradient of every batch is linearised once
              (``torch.func.linearize``) and kept; a product applies the linear maps.
            - ``double-backward``, ``forward-over-reverse``: nothing is kept, all is made anew.
        memory: bytes that what is kept may take, estimated on a few samples. Batches whose graph
            would take more than an eighth of it are split.

    Attributes:
        product: the name of the way that was chosen. kept_bytes: the estimate of what it keeps.
        kept_samples: of how many samples. folding: the coordinates that products are made in
        (``folding``), or nothing where they are those of θ.
    """

    _kept_way = "graph"

    def __init__(
        self, objective: Objective, *, product: str = "auto", memory: int = MEMORY
    ) -> None:
        if product not in ("auto", *PRODUCTS):
            raise unknown("way to make products", product, ["auto", *PRODUCTS])
        self.objective = objective
        self.size = P.size(objective.params)
        self.dtype: torch.dtype = objective.dtype
        self.device: torch.device = objective.device
        # One copy for all: graphs that are kept outlive changes of the model.
        self._theta = {name: p.clone() for name, p in objective.params.items()}
        self._piece = 0
        self.folding: Folding | None = None
        self._versions: list[int] = []
        self._kept: list[tuple[int, Product]] = []
        # How the others are made, for one vector and for several at once.
        self._anew = self._several = _ANEW
        self.kept_samples = 0
        self.kept_bytes = 0
        while True:
            try:
                self.product = self._choose(product, memory)
                break
            except Exception as error:
                if not ran_out(error) or self._piece == 1:
                    raise
            self._release()
            product, memory = _ANEW, 0

    def __matmul__(self, vector: Tensor) -> Tensor:
        while True:
            try:
                total = self._product(vector)
                break
            except Exception as error:
                if not ran_out(error) or self._piece == 1:
                    raise
            self._release()
        return self.objective.own.sum(total)

    def _release(self) -> None:
        """After memory has run out: keep nothing, and take half as many samples at once."""
        self._forget(self.objective.parts.halve(self._piece or _PROBE))

    def _forget(self, piece: int) -> None:
        """From now on nothing is kept, and all is made anew from pieces of so many samples."""
        self._kept, self.kept_samples, self.kept_bytes = [], 0, 0
        self._anew = self._several = self.product = _ANEW
        self._piece, self.folding = piece, None

    def _product(self, vector: Tensor) -> Tensor:
        columns = vector.unbind(1) if vector.ndim == 2 else (vector,)
        # What is kept outlives changes of the model; what is made anew would not fold as before.
        everything = self.kept_samples == self.objective.own.samples
        if self.folding and not everything and self._versions != _versions(self.objective.model):
            self._forget(self._piece)
        try:
            totals = self._sum(self._products(len(columns)), columns, self.folding)
        except _OtherNetwork:
            self._forget(self._piece)
            totals = self._sum(self._products(len(columns)), columns, None)
        return torch.stack(totals, 1) if vector.ndim == 2 else totals[0]

    def _sum(
        self,
        products: Iterable[tuple[int, Product]],
        columns: Sequence[Tensor],
        folding: Folding | None,
    ) -> list[Tensor]:
        """The shares of all pieces together, for every column; their products are in the
        coordinates of ``folding``."""
        vectors = [P.unflatten(column, self._theta) for column in columns]
        tangents = [folding.push(v) for v in vectors] if folding else vectors
        totals = [torch.zeros_like(column) for column in columns]
        # Views of them: shares are added as they come, since vectors of the size of θ cost as
        # much to make as a layer's product.
        places = [P.unflatten(total, self._theta) for total in totals]
        if folding:
            places = [folding.places(place) for place in places]
        for batch, product in products:
            for tangent, place in zip(tangents, places, strict=True):
                share = product(tangent)
                if folding and not folding.holds(share):
                    raise _OtherNetwork
                if share:
                    check_derivative(share.values(), "Hessian-vector product", batch)
                    with torch.no_grad():
                        torch._foreach_add_([place[n] for n in share], [*share.values()])
        if folding:
            for place, v in zip(places, vectors, strict=True):
                folding.pull(place, v)
        return totals

    def gradient(self) -> Tensor:
        """∇L (n,), made from the same pieces of the data."""
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        places = [*P.unflatten(total, self._theta).values()]

        def add(batch: int, term: Term, part: slice) -> None:
            gradient = term.rows(part).gradient()
            check_derivative(gradient, "gradient", batch)
            torch._foreach_add_(places, gradient)

        for batch, term in self._terms():
            self.objective.parts.each(len(term.y), functools.partial(add, batch, term))
        return self.objective.own.sum(total)

    def _build(self, way: str, term: Term) -> Product:
        """The product of one piece's share of the matrix, in the coordinates of the folding."""
        raise NotImplementedError

    def _fold(self, pieces: Iterable[tuple[int, Term]]) -> Folding | None:
        """Coordinates in which the products of these pieces are cheaper, if there are any."""
        return None

    def _terms(self) -> Iterator[tuple[int, Term]]:
        """The pieces of the data with the batch that each is from."""
        for batch, term in enumerate(
            self.objective.terms(self._theta), self.objective.own.first_batch
        ):
            for part in term.split(self._piece):
                yield batch, part

    def _products(self, columns: int) -> Iterator[tuple[int, Product]]:
        yield from self._kept
        if self.kept_samples == self.objective.own.samples:
            return
        way = self._several if columns > 1 else self._anew
        for batch, term in itertools.islice(self._terms(), len(self._kept), None):
            yield batch, self._build(way, term)

    def _choose(self, product: str, memory: int) -> str:
        first = next(self.objective.terms(self._theta))
        # Of large networks fewer samples, since what is tried takes as much as a product's part.
        room = int(max(memory * PIECE, _LEAST_PIECE))
        few = first.split(min(2, self._piece or 2))[0]
        # The graph of a gradient holds about three times what that of the value does.
        each = 3 * graph_bytes(few, of=few.value_with_graph) // len(few.y)
        fitting = max(1, room // max(1, each))
        probe = first.split(min(_PROBE, self._piece or _PROBE, fitting))[0].tempered()
        check_differentiable(probe)
        self._recomputes = probe.recomputes()
        self.folding = None
        v = P.random_like(self._theta, Streams(self.objective.seed, "operator"))
        folding = self._fold_of(probe, v) if product in ("auto", *_FOLDED) else None
        each = graph_bytes(probe, folding) // len(probe.x)
        most = room // max(1, each)
        if not self._piece:  # else memory has run out, and what fits is known
            parts = -(-len(first.x) // _split(first, most))
            self._piece = -(-len(first.x) // parts)  # of equal size
        piece_bytes = each * min(self._piece, len(first.x))

        @functools.cache
        def works(way: str) -> bool:
            """Whether this way runs on a few samples and agrees with differentiating twice."""
            if way == _ANEW or (way == "graph" and folding):
                return True
            try:
                with warnings.catch_warnings():  # torch's, about its own insides
                    warnings.simplefilter("ignore")
                    found = P.flatten(self._build(way, probe)(v))
            except Exception:  # operations without forward derivatives raise many types
                return False
            return self._agrees(found, probe, v)

        way = product
        if way not in ("auto", _ANEW) and not works(way):
            reason = "its products are not those of differentiating twice"
            try:
                self._build(way, probe)(v)
            except Exception as error:
                if ran_out(error):
                    raise
                reason = str(error).splitlines()[0].rstrip(".")
            raise UsageError(
                f"{way} does not work for this network: {reason}. Use auto or {_ANEW}."
            )
        if product == "auto":
            # A rule, not timings: the same request gives the same numbers, bit for bit.
            way = self._kept_way
            if KEEPING[way] * piece_bytes > memory or not works(way):
                way = _ANEW
        # Differentiating a graph once more costs less than making a product from scratch.
        several = "graph" if product == "auto" and works("graph") else None
        if folding and way in _FOLDED:
            self._versions = _versions(self.objective.model)
            self.folding = self._fold(self._terms())
        if way in KEEPING:
            piece = next(self._terms())[1]
            each = -(-graph_bytes(piece, self.folding) // len(piece.x))
            for batch, term in self._terms():
                cost = int(KEEPING[way] * each * len(term.x))
                if product == "auto" and self.kept_bytes + cost > memory:
                    break
                self._kept.append((batch, self._build(way, term)))
                self.kept_samples += len(term.x)
                self.kept_bytes += cost
        if self.kept_samples < self.objective.own.samples:
            self._anew = way if way not in KEEPING else _ANEW
            self._several = several or self._anew
        return way

    def _agrees(self, found: Tensor, probe: Term, v: Params) -> bool:
        """Whether a product is that of differentiating twice; one not finite is refused later."""
        expected = P.flatten(self._build(_ANEW, probe)(v))
        allowed = torch.finfo(self.dtype).eps ** 0.75 * expected.norm()
        return bool((found - expected).norm() <= allowed) or not bool(expected.isfinite().all())

    def _fold_of(self, probe: Term, v: Params) -> Folding | None:
        """That of a few samples, if it runs on them and agrees with differentiating twice."""
        batch = self.objective.own.first_batch
        try:
            folding = self._fold([(batch, probe)])
            if folding is None:
                return None
            graph_bytes(probe, folding)  # checkpoints may run other layers where this is measured
            product = probe.hessian(keep=True, recomputes=self._recomputes, folding=folding)
            (found,) = self._sum([(batch, product)], [P.flatten(v)], folding)
        except Exception as error:
            if ran_out(error):
                raise
            return None
        return folding if self._agrees(found, probe, v) else None


class _OtherNetwork(Exception):
    """The network does not take the way, or has not the statistics, that it was folded with."""


def _versions(model: nn.Module) -> list[int]:
    """How often each of its tensors was changed."""
    tensors = (*model.parameters(), *model.buffers())
    return [t._version for t in tensors if not t.is_inference()]


class Hessian(Operator):
    """∇²_θ L, n × n with n the size of θ.

    With an adversarial objective this is ∇²_θ ℓ(x + δ*; θ) with the perturbations δ* held at those
    of the model's own parameters: the adversarial Hessian of sitawarin2021 eq. 9.

    Cost of a product, in gradients over the data: 1.5 to 2.1 with a graph kept, 2.5 to 3.0 made
    anew (``docs/benchmarks.md``).
    """

    def _build(self, way: str, term: Term) -> Product:
        if way == "linearised":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the insides of torch.fx
                _, push = linearize(grad(term), term.theta)
            return push
        if way == "forward-over-reverse":
            return lambda v: jvp(grad(term), (term.theta,), (v,))[1]
        return term.hessian(keep=way == "graph", recomputes=self._recomputes, folding=self.folding)

    def _fold(self, pieces: Iterable[tuple[int, Term]]) -> Folding | None:
        folding = Folding(self._theta)
        for batch, term in pieces:
            slopes = term.slopes(folding)
            if not folding.pairs:
                return None
            check_derivative(slopes.values(), "gradient", batch)
            folding.add(slopes)
        folding.close()
        return folding if folding.pairs else None


class GaussNewton(Operator):
    """Σ_i J_iᵀ (∇²_z ℓ_i) J_i / N, J_i = ∂f(x_i)/∂θ: the Hessian without the curvature of f.

    Positive semi-definite for convex losses, and the Fisher matrix for cross-entropy
    (Schraudolph 2002; Martens 2020). Perturbations are held as in ``Hessian``.
    """

    _kept_way = "linearised"

    def _build(self, way: str, term: Term) -> Product:
        output, theta = term.network, term.theta
        if way in ("linearised", "graph"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                z, push = linearize(output, theta)
                _, curve = linearize(grad(term.outer), z)
            pull = vjp(output, theta)[1]
            return lambda v: pull(curve(push(v)))[0]

        def anew(v: Params) -> Params:
            z, tangent = jvp(output, (theta,), (v,))[:2]
            curved = jvp(grad(term.outer), (z,), (tangent,))[1]
            return vjp(output, theta)[1](curved)[0]

        return anew


def _split(term: Term, most: int) -> int:
    """Samples per piece: at most ``most``, unless samples of a batch depend on each other."""
    most = max(1, most)
    if most >= len(term.x):
        return most
    with torch.no_grad():
        whole = term(term.theta)
        parts = sum(part(part.theta) for part in term.split(most))
    eps = torch.finfo(whole.dtype).eps
    together = abs(whole - parts) > 100 * eps * abs(whole)
    return len(term.x) if bool(together) else most


def graph_bytes(
    term: Term, folding: Folding | None = None, of: Callable[[], object] | None = None
) -> int:
    """Bytes that the graph of the gradient, or of what ``of`` makes, holds beside parameters."""
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made = of() if of else term.gradient(graph=True, folding=folding)
    del made  # alive until here, lest a storage is counted as another that took its place
    for shared in (*term.full.values(), *(folding.leaves() if folding else {}).values()):
        seen.pop(shared.untyped_storage().data_ptr(), None)
    return sum(seen.values())


def memory_needed(
    objective: Objective, *, vectors: int = 0, beside: int = 0, memory: int = 0
) -> int:
    """Bytes that a measurement keeps at once, at most, roughly.

    Model, data, the graph of one batch's loss (its size is measured on two samples), and so many
    vectors of the size of θ. With Hessian-vector products, what they keep and ``vectors`` are
    bounded by ``memory``; ``beside`` it are others, and the product at work.
    """
    model = sum(t.numel() * t.element_size() for t in objective.model.state_dict().values())
    first = next(objective.with_attack(None).terms())
    few = first.split(2)[0]
    batch = graph_bytes(few, of=few.value_with_graph) // len(few.y) * len(first.y)
    x, samples = first.x[:1], objective.batches.samples
    data = x.numel() * x.element_size() * samples
    if not objective.batches.in_memory:
        data //= len(objective.batches)
    row = P.size(objective.params) * objective.dtype.itemsize
    kept = vectors * row
    if memory:
        each = graph_bytes(few) // len(few.y)
        kept = min(memory, int(KEEPING["graph"] * each * samples) + kept)
        # It takes three times a gradient of its piece, and a few vectors are at work, of which
        # three are a folding's.
        kept += 3 * min(each * len(first.y), max(int(memory * PIECE), each)) + 11 * row
    return 2 * model + data + max(batch, kept) + beside * row
