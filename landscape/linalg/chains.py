"""Chains of Lanczos vectors, what a matrix is on them, and what they may hide."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape import parallel
from landscape import params as P
from landscape.errors import NumericalError
from landscape.linalg.basis import Store, own
from landscape.linalg.operator import SymmetricOperator
from landscape.random import Streams

# Of a warm start, the share of a random vector: what the guess does not hold must still be found.
_DOUBT = 0.1


def outermost(theta: np.ndarray, k: int, which: str) -> np.ndarray:
    """Indices of the k values that are furthest towards the wanted end, the first one first."""
    return np.argsort(inwards(theta, which), kind="stable")[::-1][:k]


def inwards(theta: Any, which: str) -> Any:
    """A key that is larger the more a value is wanted."""
    return {"largest": theta, "smallest": -theta, "magnitude": np.abs(theta)}[which]


@dataclass
class _End:
    """The end of a chain: A adds f times ``at``ᵀ (m,) outside of the basis.

    ``joined`` (m,): components of f, as it was, along vectors that are in the basis by now.
    ``left`` (m,): what rounding has left of its components along the basis, if that is known.
    """

    at: np.ndarray
    f: Tensor
    joined: np.ndarray
    left: np.ndarray | None = None


@dataclass
class _Search:
    """A chain that began at random, orthogonal to all that was there before, and goes on alone.

    Attributes:
        first: of the basis, its first vector. dropped: Ritz values that its restarts have dropped.
        growth: Σ log β over all its steps. ended: whether it can't go on.
    """

    first: int
    dropped: list[float] = field(default_factory=list)
    growth: float = 0.0
    ended: bool = False


def _eigh(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By torch's LAPACK: numpy's keeps threads of its own that spin after every call and slow down
    the next product, by a factor of two for small networks."""
    theta, y = torch.linalg.eigh(torch.from_numpy(np.ascontiguousarray(matrix)))
    return theta.numpy(), y.numpy()


class Chains:
    """Orthonormal chains of Lanczos vectors and the projection of A onto all of them.

    A Q = Q G + Σ_e f_e at_eᵀ: the ends e are what A adds outside span Q.
    """

    def __init__(self, operator: SymmetricOperator, streams: Streams, store: Store) -> None:
        self.operator, self.streams, self.store = operator, streams, store
        self.group = parallel.group()
        self.products = 0
        self._search: _Search | None = None
        self._projected = np.zeros((0, 0))
        self._ends: list[_End] = []
        self._slot = 0  # which of the ends is extended next
        self._fresh: Tensor | None = None  # the start of a new chain
        self._scale = 0.0

    @property
    def size(self) -> int:
        return self.store.size

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
            v, _, _ = self.store.remove(v)
            if self.store.norm(v) > 1e-3 / n**0.5:  # otherwise rounding is all that is left
                break
        v, _, left = self.store.remove(v.div_(v.norm()))
        v = self.store.polish(v, left)
        self._fresh = v.div_(self.store.norm(v))
        self._search = _Search(self.size) if guess is None else None

    def focus(self, coordinates: np.ndarray) -> bool:
        """Go on from the end that adds most to these pairs' residuals; false if none does.

        A pair that a chain had half found when the next chain began has its residual at the
        first one's end, where going on with the second would never reduce it.
        """
        shares = self.group.agree(
            [float(e.f.norm()) * float(np.linalg.norm(e.at @ coordinates)) for e in self._ends]
        )
        self._slot = int(np.argmax(shares))
        return shares[self._slot] > self._rounding()

    def extend(self) -> bool:
        """Take the next vector into the basis; true if its chain can't go on."""
        if self._fresh is not None:
            q, self._fresh = self._fresh, None
        else:
            if self._slot != len(self._ends) - 1:
                self._search = None
            end = self._ends.pop(self._slot)
            # It is orthogonal up to rounding errors of the product that it is left of, which may
            # be much longer: once more, up to its own.
            f, left = end.f, end.left
            if left is None:
                f, _, left = self.store.remove(f)
            f = self.store.polish(f, left)
            q = f.div_(self.store.norm(f))
        self.store.append(q)
        w, h, left = self.store.remove(self.apply(q))
        m = self.size
        grown = np.zeros((m, m))
        grown[: m - 1, : m - 1] = self._projected
        grown[:, m - 1] = grown[m - 1, :] = h
        self._projected = grown
        for e in self._ends:
            along = float(torch.dot(q, e.f))
            e.at, e.joined = np.append(e.at, 0.0), np.append(e.joined, along)
            e.f.sub_(q, alpha=along)
            e.left = None
        self._ends.append(_End(np.eye(m)[-1], w, np.zeros(m), left))
        self._slot = len(self._ends) - 1
        beta = self.store.norm(w)
        self._scale = max(self._scale, float(np.abs(h).max()), beta)
        exhausted = beta <= self._rounding()
        if self._search is not None:
            self._search.ended = exhausted
            self._search.growth += 0.0 if exhausted else math.log(beta)
        return exhausted

    def apply(self, q: Tensor) -> Tensor:
        w = own(self.operator @ q, q)
        self.products += 1
        if not P.finite([w]):
            raise NumericalError(
                f"the product of the matrix with a vector is not finite (product {self.products})."
            )
        return w

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ritz values (m,), their coordinates (m, m) in the basis, and residual norms (m,)."""
        theta, y = _eigh(self._projected)
        ends = torch.stack([e.f for e in self._ends])
        gram = (ends @ ends.T).double().cpu().numpy()
        at_ends = np.stack([e.at for e in self._ends]) @ y
        squared = np.einsum("ej,ef,fj->j", at_ends, gram, at_ends)
        return self.group.agree((theta, y, np.sqrt(squared.clip(min=0))))

    def restart(self, coordinates: np.ndarray) -> None:
        """Keep the Ritz vectors with these coordinates (m, p), and the ends."""
        self._search = None
        for e in self._ends:
            e.joined[:] = 0  # A, projected, is diagonal now
        self._turn(coordinates)

    def shorten(self, which: str) -> None:
        """Of the present chain, keep the outer half of its own Ritz vectors, and go on with it.

        What was there before it stays: chain and all else must not mix, or the chain would say
        nothing more about what it might hide.
        """
        assert self._search is not None
        first = self._search.first
        theta, y = self._of_search()
        keep = len(theta) // 2
        kept = outermost(theta, keep, which)
        dropped = np.delete(np.arange(len(theta)), kept)
        self._search.dropped += theta[dropped].tolist()
        for e in self._ends:  # what A adds to vectors before the chain along those that go
            gone = y[:, dropped] @ (y[:, dropped].T @ e.joined[first:])
            e.f = self.store.subtract(e.f, np.append(np.zeros(first), -gone))
        coordinates = np.eye(self.size, first + keep)
        coordinates[first:, first:] = y[:, kept]
        self._turn(coordinates)

    def _turn(self, coordinates: np.ndarray) -> None:
        self.store.rotate(coordinates)
        turn = torch.from_numpy(np.ascontiguousarray(coordinates))
        self._projected = (turn.T @ torch.from_numpy(self._projected) @ turn).numpy()
        for e in self._ends:
            e.at, e.joined, e.left = e.at @ coordinates, e.joined @ coordinates, None

    def _of_search(self) -> tuple[np.ndarray, np.ndarray]:
        """Ritz values of the present chain alone, and their coordinates in it."""
        assert self._search is not None
        first = self._search.first
        return self.group.agree(_eigh(self._projected[first:, first:]))

    def overlooked(self, edge: float, which: str) -> float:
        """A bound on the odds that the present chain hides an eigenvector from ``edge`` on.

        Let v be an eigenvector that is orthogonal to all before this chain, λ its eigenvalue, and
        p the characteristic polynomial of the chain's matrix T_j. Then p(A) takes the chain's
        start r to β_1 ⋯ β_j q_{j+1}, so that |⟨v, r⟩| ≤ ∏ β_i / |λ − θ_i|, which falls with the
        distance of λ from the Ritz values θ. A random r is so nearly orthogonal to v with
        probability at most √(2n/π) times that (van Dorsselaer, Hochstenbach and van der Vorst,
        SIAM J. Matrix Anal. Appl. 22 (2000)). A thick restart divides p by the factors λ − θ_i of
        what it drops, as if they had been applied to r before (Wu and Simon 2000), so these
        factors stay. Infinite if the chain has shown one, or says nothing.
        """
        search = self._search
        if search is None:
            return math.inf
        theta = self._of_search()[0]
        odds = 0.0
        for side in {"largest": (1,), "smallest": (-1,), "magnitude": (1, -1)}[which]:
            distance, dropped = (
                abs(edge) - side * values if which == "magnitude" else side * (edge - values)
                for values in (theta, np.array(search.dropped))
            )
            # A chain that can't go on has seen all that r holds.
            if distance.min() < 0 or (distance.min() == 0 and not search.ended):
                return math.inf
            if not search.ended:
                away = np.log(np.append(distance, dropped)).sum()
                odds += math.exp(search.growth - float(away))
        return odds * math.sqrt(2 * self.operator.size / math.pi)

    def finish(
        self, values: np.ndarray, coordinates: np.ndarray, allowed: np.ndarray
    ) -> tuple[Tensor, np.ndarray]:
        """Vectors (n, k) of these coordinates, and estimates (k,) of rounding errors in residuals.

        They are Ritz pairs, or were when the basis was smaller. A V = V Λ + Q D + Σ f_e at_eᵀ with
        D what the projection adds to them, and zero for Ritz pairs. With signs s at random and
        weights a, e = A V(s/a) minus the right hand side times s/a would be zero without rounding.
        Its expected square is Σ ‖e_i‖²/a_i², e_i being that of pair i, so that a_i ‖e‖/√k
        estimates ‖e_i‖. Roots of the allowed residuals are the weights: between errors that are
        alike for all pairs, and errors in proportion to the eigenvalue.
        """
        k = len(values)
        signs = np.sign(self.streams.uniform("audit", (k,)).double().numpy() - 0.5)
        scale = np.maximum(allowed, np.finfo(float).tiny) ** 0.5
        scale /= scale.min()
        weights = signs / scale
        added = (self._projected @ coordinates - coordinates * values) @ weights
        n, device = self.operator.size, self.operator.device
        nothing = torch.zeros(n, device=device, dtype=self.operator.dtype)
        known = self.store.subtract(nothing, -added)
        for e in self._ends:
            known += e.f * float(e.at @ coordinates @ weights)
        self.store.rotate(coordinates)
        vectors = self.store.release()
        for row in vectors:
            row /= self.store.norm(row)
        together = vectors.T @ self.store.numbers(weights)
        length = float(together.norm())
        known += vectors.T @ self.store.numbers(values * weights)
        error = self.apply(together / length) * length - known
        return vectors.T, float(error.norm()) * scale / k**0.5

    def _rounding(self) -> float:
        return 10 * torch.finfo(self.operator.dtype).eps * self._scale
