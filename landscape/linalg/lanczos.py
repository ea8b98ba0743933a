"""Eigenpairs at an end of the spectrum, by thick-restart Lanczos, fully reorthogonalised.

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

# Of a warm start, the share of a random vector: what the guess does not hold must still be found.
_DOUBT = 0.1

# Numbers of a basis vector that are turned at a time when the basis is replaced.
_COLUMNS = 1 << 16


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues (k,) from the wanted end inwards, with vectors (n, k) as columns.

    ``residuals[i]`` is ‖A v_i − λ_i v_i‖₂, rounding errors included as two further products found
    them: an exact eigenvalue lies within that distance of ``values[i]``. ``converged[i]`` says
    whether it met the tolerance, ``complete`` whether a second chain looked for missed copies and
    found none; where the gaps at the wanted end are below about 1 %, that search can still miss
    one. ``products`` counts A @ v, ``restarts`` how often the basis was full.
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
    start: Tensor | None = None,
    streams: Streams,
    progress: Callable[[int, int], None] | None = None,
) -> Eigenpairs:
    """The ``k`` eigenpairs that are largest, smallest, or largest in magnitude.

    Every new vector of the Krylov basis Q is orthogonalised against all of it
    twice; A is projected to G = QᵀAQ, whose eigenpairs (θ, y) in float64 give the Ritz pairs
    (θ, Qy). What A does outside span Q is known (the ends of the chains), so residuals cost no
    product while iterating. At the end two products with combinations of the vectors are compared
    with what is thought to be known of them: the differences are the rounding errors, which go
    into the residuals. When the basis is full, the outermost Ritz vectors and the ends are kept
    and the rest is dropped (a thick restart).

    Args:
        operator: symmetric, n × n. k: at most n.
        which: ``largest`` and ``smallest`` are algebraic.
        tol: a pair has converged when its residual is at most tol·|λ|, or at the rounding
            error of the operator's dtype, 10·eps·‖A‖.
        max_products: give up after so many products (default 20 k + 100); two more are the check.
        max_basis: restart at so many vectors, at least ``least_basis(k, n)``. Default: never.
        start: eigenvectors (n, j) of a matrix like this one, to begin from (a warm start).
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

    basis = _Basis(operator, streams)
    basis.start_chain(start)
    before: np.ndarray | None = None  # the wanted values when the present probe began
    probe = _PROBE_STEPS
    complete = False
    restarts = 0
    while True:
        exhausted = basis.extend()
        m = basis.size
        full = m == capacity
        due = exhausted or full or basis.products == limit or m % max(1, m // 20) == 0
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
        if complete or basis.products >= limit:
            break
        if full:
            kept = _wanted(theta, k + (capacity - k) // 3, which)
            basis.restart(theta[kept], coordinates[:, kept])
            coordinates, wanted = np.eye(len(kept)), np.arange(k)
            restarts += 1
        goes_on = (
            not exhausted if converged.all() else basis.focus(coordinates[:, wanted[~converged]])
        )
        if not goes_on:
            basis.start_chain()
    values = theta[wanted]
    vectors, errors = basis.finish(values, coordinates[:, wanted], allowed)
    return Eigenpairs(
        values=values,
        vectors=vectors,
        residuals=np.hypot(residuals[wanted], errors),
        converged=converged & (errors <= allowed),
        complete=complete,
        products=basis.products,
        restarts=restarts,
    )


def _wanted(theta: np.ndarray, k: int, which: str) -> np.ndarray:
    """Indices of the k wanted Ritz values, outermost first."""
    order = np.argsort(_inwards(theta, which), kind="stable")[::-1]
    return order[:k]


def _inwards(theta: Any, which: str) -> Any:
    """A key that is larger the more a value is wanted."""
    return {"largest": theta, "smallest": -theta, "magnitude": np.abs(theta)}[which]


class _Basis:
    """Orthonormal chains of Lanczos vectors and the projection of A onto all of them.

    A Q = Q G + Σ_e f_e c_eᵀ: the ends e are pairs of what A adds outside span Q, and where.
    """

    block_bytes = 1 << 26

    def __init__(self, operator: SymmetricOperator, streams: Streams) -> None:
        self.operator, self.streams = operator, streams
        self.size = 0  # basis vectors
        self.chain = 0  # those of the present chain
        self.products = 0
        row = operator.size * torch.finfo(operator.dtype).bits // 8
        self._rows = min(max(16, self.block_bytes // row), 64)
        self._blocks: list[Tensor] = []
        self._projected = np.zeros((0, 0))
        self._ends: list[tuple[np.ndarray, Tensor]] = []
        self._slot = 0  # which of them is extended next
        self._fresh: Tensor | None = None  # the start of a new chain
        self._scale = 0.0

    def start_chain(self, guess: Tensor | None = None) -> None:
        """A random unit vector orthogonal to all so far; the present ends are remembered."""
        n = self.operator.size
        while True:
            v = self.streams.normal("start", (n,)).to(self.operator.device, self.operator.dtype)
            v /= v.norm()
            if guess is not None:
                near = (guess / guess.norm(dim=0)).to(v).sum(1)
                v = v * _DOUBT + near / near.norm()
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
        shares = [float(f.norm()) * float(np.linalg.norm(c @ coordinates)) for c, f in self._ends]
        self._slot = int(np.argmax(shares))
        return shares[self._slot] > self._rounding()

    def extend(self) -> bool:
        """Take the next vector into the basis; true if its chain can't go on."""
        if self._fresh is not None:
            q, self._fresh = self._fresh, None
        else:
            end = self._ends.pop(self._slot)[1]
            # Orthogonal when it was made, but the division has grown its rounding errors. In
            # float32 leaving this out cost three digits of a ResNet-18's eigenvectors.
            q, _ = self._orthogonalise(end / end.norm(), passes=1)
            q = q / q.norm()
        self._append(q)
        w, h = self._orthogonalise(self._apply(q))
        m = self.size
        grown = np.zeros((m, m))
        grown[: m - 1, : m - 1] = self._projected
        grown[:, m - 1] = grown[m - 1, :] = h
        self._projected = grown
        self._ends = [(np.append(c, 0.0), f - q * torch.dot(q, f)) for c, f in self._ends]
        last = np.zeros(m)
        last[-1] = 1
        # An end that was extended now lies in span Q.
        self._ends.append((last, w))
        self._slot = len(self._ends) - 1
        beta = float(w.norm())
        self._scale = max(self._scale, float(np.abs(h).max()), beta)
        return beta <= self._rounding()

    def _apply(self, q: Tensor) -> Tensor:
        w = self.operator @ q
        self.products += 1
        if not bool(w.isfinite().all()):
            raise NumericalError(
                f"the product of the matrix with a vector is not finite (product {self.products})."
            )
        return w

    def _rounding(self) -> float:
        return 10 * torch.finfo(self.operator.dtype).eps * self._scale

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values (m,), their coordinates (m, m) in the basis, and residual norms (m,)."""
        # torch's LAPACK, because numpy's keeps threads of its own that spin after every call and
        # slow down the next product: by a factor of two for small networks.
        theta, y = (t.numpy() for t in torch.linalg.eigh(torch.from_numpy(self._projected)))
        ends = torch.stack([f for _, f in self._ends])
        gram = (ends @ ends.T).double().cpu().numpy()
        at_ends = np.stack([c for c, _ in self._ends]) @ y
        squared = np.einsum("ej,ef,fj->j", at_ends, gram, at_ends)
        return theta, y, np.sqrt(squared.clip(min=0))

    def restart(self, theta: np.ndarray, coordinates: np.ndarray) -> None:
        """Keep the Ritz vectors with these coordinates (m, p), and the ends."""
        self._rotate(coordinates)
        self._projected = np.diag(theta)
        self._ends = [(c @ coordinates, f) for c, f in self._ends]

    def finish(
        self, values: np.ndarray, coordinates: np.ndarray, allowed: np.ndarray
    ) -> tuple[Tensor, np.ndarray]:
        """The Ritz vectors (n, k), and estimates (k,) of the rounding errors in their residuals.

        With signs s at random and weights a, e = A V(s/a) − V(λ ∘ s/a) − Σ f_e c_eᵀ(s/a) would be
        zero without rounding. Its expected square is Σ ‖e_i‖²/a_i², e_i being that of pair i, so
        that a_i ‖e‖/√k estimates ‖e_i‖. One product with equal weights measures errors that are
        alike for all pairs; one with the allowed residuals as weights, errors in proportion to
        the eigenvalue, which would otherwise hide those of the small ones. The smaller counts.
        """
        self._rotate(coordinates)
        vectors = (self._blocks[0] if len(self._blocks) == 1 else torch.cat(self._blocks))[
            : self.size
        ]
        self._blocks = []
        vectors /= vectors.norm(dim=1, keepdim=True)
        k = self.size
        signs = np.sign(self.streams.uniform("audit", (k,)).double().numpy() - 0.5)
        errors = np.full(k, np.inf)
        for scale in (np.ones(k), np.maximum(allowed, np.finfo(float).tiny)):
            weights = signs * scale.min() / scale
            together = vectors.T @ self._weights(weights)
            length = float(together.norm())
            found = self._apply(together / length) * length
            error = found - vectors.T @ self._weights(values * weights)
            for c, f in self._ends:
                error -= f * float(c @ coordinates @ weights)
            errors = np.minimum(errors, float(error.norm()) * scale / scale.min() / k**0.5)
        return vectors.T, errors

    def _rotate(self, coordinates: np.ndarray) -> None:
        """Replace the basis by Q times ``coordinates`` (m, p), in place."""
        weights = self._weights(coordinates.T)
        for start in range(0, self.operator.size, _COLUMNS):
            columns = slice(start, start + _COLUMNS)
            turned = weights @ torch.cat([rows[:, columns] for rows in self._filled()])
            for block, rows in zip(self._blocks, turned.split(self._rows), strict=False):
                block[: len(rows), columns] = rows
        self.size = coordinates.shape[1]
        del self._blocks[-(-self.size // self._rows) :]

    def _weights(self, numbers: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(numbers)).to(
            self.operator.device, self.operator.dtype
        )

    def _orthogonalise(self, w: Tensor, passes: int = 2) -> tuple[Tensor, np.ndarray]:
        """w minus its components along the basis, and those components; twice is enough."""
        components = np.zeros(self.size)
        for _ in range(passes):
            pieces = [(rows, rows @ w) for rows in self._filled()]
            if not pieces:
                break
            for rows, c in pieces:
                w = torch.addmv(w, rows.T, c, alpha=-1)
            components += torch.cat([c for _, c in pieces]).double().cpu().numpy()
        return w, components

    def _append(self, q: Tensor) -> None:
        row = self.size % self._rows
        if row == 0:
            rows = min(self._rows, self.operator.size - self.size)
            self._blocks.append(q.new_empty(rows, len(q)))
        self._blocks[-1][row] = q
        self.size += 1
        self.chain += 1

    def _filled(self) -> Iterator[Tensor]:
        for i, block in enumerate(self._blocks):
            yield block[: self.size - i * self._rows]
