"""Curvature of an Objective as operators for ``landscape.linalg``."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.func import grad, jvp, linearize, vjp

from landscape import params as P
from landscape.errors import unknown
from landscape.functional import Product, Term
from landscape.objective import Objective, check_product
from landscape.params import Params
from landscape.random import Streams

# In order of preference: the first that fits in memory and that the network's operations allow.
PRODUCTS = ("linearised", "graph", "forward-over-reverse", "double-backward")

KEEPING = ("linearised", "graph")

MEMORY = 4 << 30

# Linearising takes seconds of tracing per batch, whatever its size, and then saves a fifth of each
# product: for batches whose graph is smaller than this, hundreds of products don't earn it back.
WORTH_LINEARISING = 64 << 20


class Operator:
    """A symmetric matrix over θ that is a sum over the batches of an Objective.

    ``A @ v`` for v of shape (n,), in the order of ``params.flatten``, or (n, k).

    Args:
        objective: its own parameters are the point, its perturbations those of that point.
        product: how products are made, a name in ``PRODUCTS``, or ``auto``: the first that fits.

            - ``linearised``: the gradient of every batch is linearised once
              (``torch.func.linearize``) and kept; a product applies the linear maps.
            - ``graph``: the graph of every batch's gradient is kept and differentiated again.
            - ``forward-over-reverse``, ``double-backward``: nothing is kept, all is made anew.
        memory: bytes that what is kept may take, estimated on the first batch.

    Attributes:
        product: the name of the way that was chosen. kept_bytes: the estimate of what it keeps.
    """

    def __init__(
        self, objective: Objective, *, product: str = "auto", memory: int = MEMORY
    ) -> None:
        if product not in ("auto", *PRODUCTS):
            raise unknown("way to make products", product, ["auto", *PRODUCTS])
        self.objective = objective
        self.size = P.size(objective.params)
        self.dtype: torch.dtype = objective.dtype
        self.device: torch.device = objective.device
        self.kept_bytes = 0
        self.product, self._kept = self._choose(product, memory)

    def __matmul__(self, vector: Tensor) -> Tensor:
        if vector.ndim == 2:
            return torch.stack([self @ column for column in vector.unbind(1)], 1)
        tangent = P.unflatten(vector, self.objective.params)
        total = torch.zeros_like(vector)
        for index, product in enumerate(self._products()):
            share = P.flatten(product(tangent)).detach()
            check_product(share, index)
            total += share
        return total

    def _build(self, way: str, term: Term) -> Product:
        """The product of one batch's share of the matrix."""
        raise NotImplementedError

    def _products(self) -> Iterator[Product]:
        if self._kept is not None:
            yield from self._kept
            return
        for term in self.objective.terms():
            yield self._build(self.product, term)

    def _choose(self, product: str, memory: int) -> tuple[str, list[Product] | None]:
        terms = self.objective.terms()
        term = next(terms)
        size = _graph_bytes(term)
        batches = self.objective.batches
        needed = size * batches.samples // max(1, len(term.x))
        way = product
        if product == "auto":
            # Rules, not timings: the same request gives the same numbers, bit for bit.
            ways = [
                way
                for way in PRODUCTS
                if (needed <= memory or way not in KEEPING)
                and (size >= WORTH_LINEARISING or way != "linearised")
            ]
            probe = P.random_like(term.theta, Streams(self.objective.seed, "operator"))
            way = next(way for way in ways if self._works(way, term, probe))
        if way not in KEEPING:
            return way, None
        self.kept_bytes = needed
        return way, [self._build(way, t) for t in itertools.chain([term], terms)]

    def _works(self, way: str, term: Term, probe: Params) -> bool:
        """Whether this way runs on the first batch and agrees with differentiating twice."""
        if way == PRODUCTS[-1]:
            return True
        try:
            found = P.flatten(self._build(way, term)(probe))
        except Exception:  # operations without forward derivatives raise many types
            return False
        expected = P.flatten(self._build(PRODUCTS[-1], term)(probe))
        allowed = torch.finfo(self.dtype).eps ** 0.75 * expected.norm()
        return bool((found - expected).norm() <= allowed) or not bool(expected.isfinite().all())


class Hessian(Operator):
    """∇²_θ L, n × n with n the size of θ.

    With an adversarial objective this is ∇²_θ ℓ(x + δ*; θ) with the perturbations δ* held at those
    of the model's own parameters: the adversarial Hessian of sitawarin2021 eq. 9.

    Cost of a product, in gradients over the data: about 1.5 to 2.4 when linearised, 3 to 4 when
    made anew (``docs/benchmarks.md``).
    """

    def _build(self, way: str, term: Term) -> Product:
        if way == "linearised":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the insides of torch.fx
                _, push = linearize(grad(term), term.theta)
            return push
        if way == "forward-over-reverse":
            return lambda v: jvp(grad(term), (term.theta,), (v,))[1]
        return term.hessian(keep=way == "graph")


class GaussNewton(Operator):
    """Σ_i J_iᵀ (∇²_z ℓ_i) J_i / N, J_i = ∂f(x_i)/∂θ: the Hessian without the curvature of f.

    Positive semi-definite for convex losses, and the Fisher matrix for cross-entropy
    (Schraudolph 2002; Martens 2020). Perturbations are held as in ``Hessian``.
    """

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


def _graph_bytes(term: Term) -> int:
    """Bytes that the graph of one batch's gradient holds; a linearisation holds about as much."""
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        term.gradient(graph=True)
    return sum(seen.values())
