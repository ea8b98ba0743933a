"""Eigenpairs at an end of the spectrum, by Lanczos with full reorthogonalisation.

A single chain q, Aq, A²q, … finds one vector of each eigenspace only, so repeated eigenvalues
would be reported once. When the wanted pairs have converged, a second chain is therefore started
from a random vector orthogonal to everything found so far: what the first chain missed stands
out there and converges in a few products, and if nothing does the answer is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import NumericalError, UsageError, unknown
from landscape.linalg.operator import SymmetricOperator
from landscape.random import Streams

WHICH = ("largest", "smallest", "magnitude")

# Products of the second chain before it is believed: with a gap of a third between the wanted
# end and the rest, ten Chebyshev steps amplify a missed eigenvector by more than 10⁵. Where the
# gaps are so small that the first chain needed many steps, a missed vector needs many too.
_PROBE_STEPS = 10
_PROBE_SHARE = 4


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues (k,) from the wanted end inwards, with vectors (n, k) as columns.

    ``residuals[i]`` is ‖A v_i − λ_i v_i‖₂, the rounding error eps·‖A‖ included: an exact eigenvalue
    lies within that distance of ``values[i]``. ``converged[i]`` says whether it met the tolerance,
    ``complete`` whether a second chain looked for missed copies and found none; where the gaps at
    the wanted end are below about 1 %, that search can still miss one. ``products`` counts A @ v.
    """

    values: np.ndarray
    vectors: Tensor
    residuals: np.ndarray
    converged: np.ndarray
    complete: bool
    products: int


def eigenpairs(
    operator: SymmetricOperator,
    k: int,
    *,
    which: str = "largest",
    tol: float = 1e-3,
    max_products: int | None = None,
    streams: Streams,
    progress: Callable[[int, int], None] | None = None,
) -> Eigenpairs:
    """The ``k`` eigenpairs that are largest, smallest, or largest in magnitude.

    The Krylov basis Q is kept whole and every new vector is orthogonalised against all of it
    twice; A is projected to G = QᵀAQ, whose eigenpairs (θ, y) in float64 give the Ritz pairs
    (θ, Qy). What A does outside span Q is known exactly (the ends of the chains), so residuals
    cost no product.

    Args:
        operator: symmetric, n × n. k: at most n.
        which: ``largest`` and ``smallest`` are algebraic.
        tol: a pair has converged when its residual is at most tol·|λ|, or at the rounding
            error of the operator's dtype, 10·eps·‖A‖.
        max_products: give up after so many products (default 20 k + 100, at most n).
        streams: of the start vectors. progress: called as (pairs converged, k).

    Cost: one product per basis vector, O(n·m) work to orthogonalise the m-th, and memory for
    n × products numbers. Source: Parlett, The Symmetric Eigenvalue Problem (1998), ch. 13.
    """
    n = operator.size
    if not 1 <= k <= n:
        raise UsageError(f"asked for {k} eigenvalues of a matrix of size {n}: ask for 1 to {n}.")
    if which not in WHICH:
        raise unknown("end of the spectrum", which, WHICH)
    if not tol > 0:
        raise UsageError(f"tol must be positive, got {tol}.")
    limit = min(n, 20 * k + 100 if max_products is None else max_products)
    if limit < k:
        raise UsageError(f"{k} eigenvalues need at least {k} products, got max_products={limit}.")

    basis = _Basis(operator, streams)
    basis.start_chain()
    before: np.ndarray | None = None  # the wanted values when the present probe began
    probe = _PROBE_STEPS
    complete = False
    while True:
        exhausted = basis.extend()
        m = basis.size
        due = exhausted or m == limit or m % max(1, m // 30) == 0
        if m < k or not due:  # eigh costs O(m³): at every step while m is small, then every few
            if exhausted:
                basis.start_chain()
            continue
        theta, coordinates, residuals = basis.ritz()
        wanted = _wanted(theta, k, which)
        rounding = torch.finfo(operator.dtype).eps * float(np.abs(theta).max())
        residuals = np.hypot(residuals, rounding)
        allowed = np.maximum(tol * np.abs(theta[wanted]), 10 * rounding)
        converged = residuals[wanted] <= allowed
        if progress is not None:
            progress(int(converged.sum()), k)
        if m == n:
            complete = True
        elif converged.all() and (before is None or exhausted or basis.chain >= probe):
            # A missed copy pushes the values below it down one place each: compare every place.
            now = _inwards(theta[wanted], which)
            complete = before is not None and bool((now <= before + allowed).all())
            before = now
            probe = max(probe, basis.chain // _PROBE_SHARE)
            exhausted = True
        if complete or m == limit:
            break
        goes_on = (
            not exhausted if converged.all() else basis.focus(coordinates[:, wanted[~converged]])
        )
        if not goes_on:
            basis.start_chain()
    return Eigenpairs(
        values=theta[wanted],
        vectors=basis.combine(coordinates[:, wanted]),
        residuals=residuals[wanted],
        converged=converged,
        complete=complete,
        products=basis.size,
    )


def _wanted(theta: np.ndarray, k: int, which: str) -> np.ndarray:
    """Indices of the k wanted Ritz values, outermost first."""
    order = np.argsort(_inwards(theta, which), kind="stable")[::-1]
    return order[:k]


def _inwards(theta: Any, which: str) -> Any:
    """A key that is larger the more a value is wanted."""
    return {"largest": theta, "smallest": -theta, "magnitude": np.abs(theta)}[which]


class _Basis:
    """Orthonormal chains of Lanczos vectors and the projection of A onto all of them."""

    rows_per_block = 32

    def __init__(self, operator: SymmetricOperator, streams: Streams) -> None:
        self.operator, self.streams = operator, streams
        self.size = 0  # basis vectors, each of which has cost one product
        self.chain = 0  # those of the present chain
        self._blocks: list[Tensor] = []
        self._projected = np.zeros((0, 0))
        # (index of a chain's last vector, the part of A times it outside span Q)
        self._ends: list[tuple[int, Tensor]] = []
        self._slot = 0  # which of them is extended next
        self._fresh: Tensor | None = None  # the start of a new chain
        self._scale = 0.0

    def start_chain(self) -> None:
        """A random unit vector orthogonal to all so far; the present ends are remembered."""
        n = self.operator.size
        while True:
            v = self.streams.normal("start", (n,)).to(self.operator.device, self.operator.dtype)
            v /= v.norm()
            v, _ = self._orthogonalise(v)
            if v.norm() > 1e-3 / n**0.5:  # otherwise rounding is all that is left
                break
        v, _ = self._orthogonalise(v / v.norm())
        self._fresh, self.chain = v / v.norm(), 0

    def focus(self, coordinates: np.ndarray) -> bool:
        """Go on from the end that adds most to these pairs' residuals; false if none does.

        A pair that a chain had half found when the next chain began has its residual at the
        first one's end, where going on with the second would never reduce it.
        """
        shares = [float(f.norm()) * float(np.linalg.norm(coordinates[i])) for i, f in self._ends]
        self._slot = int(np.argmax(shares))
        return shares[self._slot] > self._rounding()

    def extend(self) -> bool:
        """Take the next vector into the basis; true if its chain can't go on."""
        fresh = self._fresh is not None
        if self._fresh is not None:
            q, self._fresh = self._fresh, None
        else:
            end = self._ends[self._slot][1]
            q, _ = self._orthogonalise(end / end.norm())
            q = q / q.norm()
        self._append(q)
        w = self.operator @ q
        if not bool(w.isfinite().all()):
            raise NumericalError(
                f"the product of the matrix with a vector is not finite (product {self.size})."
            )
        w, h = self._orthogonalise(w)
        m = self.size
        grown = np.zeros((m, m))
        grown[: m - 1, : m - 1] = self._projected
        grown[:, m - 1] = grown[m - 1, :] = h
        self._projected = grown
        self._ends = [(i, f - q * torch.dot(q, f)) for i, f in self._ends]
        if fresh:
            self._ends.append((m - 1, w))
            self._slot = len(self._ends) - 1
        else:
            self._ends[self._slot] = (m - 1, w)
        beta = float(w.norm())
        self._scale = max(self._scale, float(np.abs(h).max()), beta)
        return beta <= self._rounding()

    def _rounding(self) -> float:
        return 10 * torch.finfo(self.operator.dtype).eps * self._scale

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values (m,), their coordinates (m, m) in the basis, and residual norms (m,)."""
        theta, y = np.linalg.eigh(self._projected)
        ends = torch.stack([f for _, f in self._ends]).double()
        gram = (ends @ ends.T).cpu().numpy()
        at_ends = y[[i for i, _ in self._ends]]
        squared = np.einsum("ej,ef,fj->j", at_ends, gram, at_ends)
        return theta, y, np.sqrt(squared.clip(min=0))

    def combine(self, coordinates: np.ndarray) -> Tensor:
        """The vectors (n, k) with these coordinates (m, k)."""
        weights = torch.as_tensor(np.ascontiguousarray(coordinates)).to(
            self.operator.device, self.operator.dtype
        )
        total = torch.zeros(
            self.operator.size,
            coordinates.shape[1],
            dtype=self.operator.dtype,
            device=self.operator.device,
        )
        for start, rows in self._filled():
            total += rows.T @ weights[start : start + len(rows)]
        return total / total.norm(dim=0)

    def _orthogonalise(self, w: Tensor) -> tuple[Tensor, np.ndarray]:
        """w minus its components along the basis, and those components; twice is enough."""
        components = np.zeros(self.size)
        for _ in range(2):
            pieces = [(rows, rows @ w) for _, rows in self._filled()]
            if not pieces:
                break
            for rows, c in pieces:
                w = w - rows.T @ c
            components += torch.cat([c for _, c in pieces]).double().cpu().numpy()
        return w, components

    def _append(self, q: Tensor) -> None:
        row = self.size % self.rows_per_block
        if row == 0:
            rows = min(self.rows_per_block, self.operator.size - self.size)
            self._blocks.append(q.new_empty(rows, len(q)))
        self._blocks[-1][row] = q
        self.size += 1
        self.chain += 1

    def _filled(self) -> Iterator[tuple[int, Tensor]]:
        for i, block in enumerate(self._blocks):
            start = i * self.rows_per_block
            yield start, block[: self.size - start]
