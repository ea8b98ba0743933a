"""Eigenpairs at an end of the spectrum, by thick-restart Lanczos, fully reorthogonalised.

A single chain q, Aq, A²q, … finds one vector of each eigenspace only, so repeated eigenvalues
would be reported once. When the wanted pairs have converged, a second chain is therefore started
from a random vector orthogonal to everything found so far: what the first chain missed stands
out there within a few products. If nothing does, the chain itself says how likely it would have
been to hide something, and it goes on until that is unlikely enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from landscape.errors import UsageError, unknown
from landscape.linalg.basis import Store
from landscape.linalg.chains import Chains, inwards, outermost
from landscape.linalg.operator import SymmetricOperator
from landscape.random import Streams

WHICH = ("largest", "smallest", "magnitude")

# Where a basis can be kept.
BASES = ("device", "host")

# Odds at which a search for missed eigenvectors stops: that it overlooks one that is there.
OVERLOOKED = 1e-3


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues (k,) from the wanted end inwards, with vectors (n, k) as columns.

    ``residuals[i]`` is ‖A v_i − λ_i v_i‖₂, rounding errors included as a further product found
    them: an exact eigenvalue lies within that distance of ``values[i]``. ``converged[i]`` says
    whether it met the tolerance, ``complete`` whether a chain from a random vector looked for
    eigenvectors that are orthogonal to all the others, as copies are, until it would have
    overlooked one with a probability of 1/1000. ``products`` counts A @ v, ``restarts`` how often
    the basis was replaced by a smaller one.
    """

    values: np.ndarray
    vectors: Tensor
    residuals: np.ndarray
    converged: np.ndarray
    complete: bool
    products: int
    restarts: int = 0


def least_basis(k: int, n: int) -> int:
    """The fewest basis vectors that ``eigenpairs`` works with."""
    return min(n, 2 * k + 10)


def eigenpairs(
    operator: SymmetricOperator,
    k: int,
    *,
    which: str = "largest",
    tol: float = 1e-3,
    max_products: int | None = None,
    max_basis: int | None = None,
    basis: str = "device",
    start: Tensor | None = None,
    streams: Streams,
    progress: Callable[[int, int], None] | None = None,
) -> Eigenpairs:
    """The ``k`` eigenpairs that are largest, smallest, or largest in magnitude.

    Every new vector of the Krylov basis Q is orthogonalised against all of it twice: after the
    product that it is left of, and when it joins. A is projected to G = QᵀAQ, whose eigenpairs
    (θ, y) in float64 give the Ritz pairs (θ, Qy). What A does outside span Q is known (the ends of
    the chains), so residuals cost no product while iterating. At the end a product with a
    combination of the vectors is compared with what is thought to be known of it: the difference
    is the rounding errors, which go into the residuals. When the basis is full, the outermost Ritz
    vectors and the ends are kept and the rest is dropped (a thick restart).

    Args:
        operator: symmetric, n × n. k: at most n.
        which: ``largest`` and ``smallest`` are algebraic.
        tol: a pair has converged when its residual is at most tol·|λ|, or at the rounding
            error of the operator's dtype, 10·eps·‖A‖.
        max_products: give up after so many products (default 20 k + 100); one more is the check.
        max_basis: restart at so many vectors, at least ``least_basis(k, n)``. Default: never.
        basis: where Q is kept: on the operator's ``device``, or in the memory of the ``host``, from
            where it is streamed. The numbers are the same.
        start: vectors (n, j) near the wanted eigenvectors, to begin from: those of a matrix like
            this one (a warm start), or a gradient.
        streams: of the start vectors. progress: called as (pairs converged, k).

    Cost: one product per basis vector, O(n·m) work to orthogonalise the m-th, and memory for
    n × basis numbers. Sources: Parlett, The Symmetric Eigenvalue Problem (1998), ch. 13; Wu and
    Simon, Thick-restart Lanczos (2000).
    """
    n = operator.size
    if not 1 <= k <= n:
        raise UsageError(f"asked for {k} eigenvalues of a matrix of size {n}: ask for 1 to {n}.")
    if which not in WHICH:
        raise unknown("end of the spectrum", which, WHICH)
    if basis not in BASES:
        raise unknown("place for the basis", basis, BASES)
    if not tol > 0:
        raise UsageError(f"tol must be positive, got {tol}.")
    capacity = n if max_basis is None else min(n, max_basis)
    if capacity < least_basis(k, n):
        raise UsageError(
            f"{k} eigenvalues need a basis of at least {least_basis(k, n)} vectors, got {capacity}."
        )
    limit = 20 * k + 100 if max_products is None else max_products
    if capacity == n:
        limit = min(n, limit)
    if limit < k:
        raise UsageError(f"{k} eigenvalues need at least {k} products, got max_products={limit}.")

    store = Store(operator, torch.device("cpu") if basis == "host" else operator.device)
    chains = Chains(operator, streams, store)
    chains.start_chain(start)
    pairs = _Pairs.none(k)
    odds = 1.0  # that all searches so far have overlooked a copy
    restarts = due = 0
    while True:
        exhausted = chains.extend()
        m = chains.size
        full = m == capacity
        hidden = chains.overlooked(pairs.edge(which), which) if pairs.found else math.inf
        # Pairs that have been found stay as they are while nothing else is: a search would improve
        # some of them, and mix others with what it has found by half.
        if exhausted or math.isinf(hidden):
            looks = exhausted or full or chains.products >= min(due, limit)
            if m < k or not looks:
                if exhausted:
                    chains.start_chain()
                continue
            theta, coordinates, pairs = _look(chains, k, which, tol, pairs.norm)
            # eigh costs O(m³), and it takes about a product to converge a pair.
            due = chains.products + max(1, int((~pairs.converged).sum()) // 4, m // 50)
            hidden = chains.overlooked(pairs.edge(which), which) if pairs.found else math.inf
        if progress is not None:
            progress(int(pairs.converged.sum()), k)
        complete = m == n or odds * hidden <= OVERLOOKED
        if complete or chains.products >= limit:
            break
        over = pairs.found and (exhausted or math.isinf(hidden))
        if math.isinf(hidden):
            odds = 1.0  # the last search has found something, or was none
        elif over:
            odds *= min(1.0, hidden)  # starts are independent of each other
        if full and pairs.found and not over:
            chains.shorten(which)
            restarts += 1
        elif full or (over and capacity < n and capacity - m < (capacity - k) // 2):
            # Each search begins with room.
            outer = outermost(theta, k + (capacity - k) // (6 if pairs.found else 3), which)
            chains.restart(coordinates[:, outer])
            pairs = replace(pairs, coordinates=np.eye(len(outer), k))
            restarts += 1
        if over or not (pairs.found or chains.focus(pairs.coordinates[:, ~pairs.converged])):
            chains.start_chain()
    if chains.size > len(pairs.coordinates):
        latest = _look(chains, k, which, tol, pairs.norm)[2]
        pairs = latest if latest.found else pairs.within(chains.size)
    vectors, errors = chains.finish(pairs.values, pairs.coordinates, pairs.allowed)
    return Eigenpairs(
        values=pairs.values,
        vectors=vectors,
        residuals=np.hypot(pairs.residuals, errors),
        converged=pairs.converged & (errors <= pairs.allowed),
        complete=complete,
        products=chains.products,
        restarts=restarts,
    )


@dataclass(frozen=True)
class _Pairs:
    """The wanted Ritz pairs when they were looked at, with what their residuals may be.

    ``coordinates`` (m, k) are in the basis as it was then; ``norm`` is that of A, as far as known.
    """

    values: np.ndarray
    coordinates: np.ndarray
    residuals: np.ndarray
    allowed: np.ndarray
    norm: float

    @classmethod
    def none(cls, k: int) -> _Pairs:
        return cls(np.zeros(k), np.zeros((0, k)), np.full(k, np.inf), np.zeros(k), 0.0)

    @property
    def converged(self) -> np.ndarray:
        return self.residuals <= self.allowed

    @property
    def found(self) -> bool:
        return bool(self.converged.all())

    def edge(self, which: str) -> float:
        """From where on an eigenvalue that is not among them would have to be."""
        value, step = self.values[-1], self.allowed[-1]
        return float(value - step if which == "smallest" else inwards(value, which) + step)

    def within(self, size: int) -> _Pairs:
        """In a basis that has grown to ``size`` vectors."""
        grown = ((0, size - len(self.coordinates)), (0, 0))
        return replace(self, coordinates=np.pad(self.coordinates, grown))


def _look(
    chains: Chains, k: int, which: str, tol: float, norm: float
) -> tuple[np.ndarray, np.ndarray, _Pairs]:
    """All Ritz values, their coordinates, and the wanted pairs; ``norm`` is the largest so far."""
    theta, coordinates, residuals = chains.ritz()
    wanted = outermost(theta, k, which)
    norm = max(norm, float(np.abs(theta).max()))  # restarts may drop the largest
    rounding = torch.finfo(chains.operator.dtype).eps * norm
    allowed = np.maximum(tol * np.abs(theta[wanted]), 10 * rounding)
    residuals = np.hypot(residuals[wanted], rounding)
    return (
        theta,
        coordinates,
        _Pairs(theta[wanted], coordinates[:, wanted], residuals, allowed, norm),
    )
