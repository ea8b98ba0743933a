"""Spectral norms of linear maps known by their products, bounded from above."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import torch
from torch import Tensor

from landscape.errors import NumericalError, UsageError
from landscape.linalg.density import quadrature
from landscape.random import Streams

# Up to this side the Gram matrix is formed and its largest eigenvalue is that of a dense solver.
DENSE = 1024

# The chance, over the random start, that one Lanczos bound is too small.
FAILURE = 1e-10

# All that float64 rounds in a product or an eigenvalue is far below this share of the norm.
_ROUNDING = 1e-9

_CHUNK = 64


class LinearMap(Protocol):
    """A real matrix by its products with rows of vectors, in float64."""

    inputs: int
    outputs: int
    device: torch.device

    def __call__(self, vectors: Tensor) -> Tensor:
        """(j, inputs) → (j, outputs)."""

    def adjoint(self, vectors: Tensor) -> Tensor:
        """(j, outputs) → (j, inputs)."""


@dataclass(frozen=True)
class Norm:
    """``estimate`` ≤ ‖A‖₂ ≤ ``upper``.

    ``certificate``: ``dense``, by the eigenvalues of the Gram matrix, or ``lanczos``, where the
    upper bound holds with probability 1 − ``FAILURE`` over the random start.
    """

    estimate: float
    upper: float
    converged: bool
    certificate: str
    products: int


def spectral_norm(
    a: LinearMap, *, tol: float = 5e-3, steps: int = 1000, streams: Streams, dense: int = DENSE
) -> Norm:
    """‖A‖₂ from both sides, within a share ``tol`` if ``steps`` Lanczos steps suffice.

    The smaller of AᵀA and AAᵀ, n × n, is formed if n ≤ ``dense``. Else k Lanczos steps from a
    start that is uniform on the sphere give its largest Ritz value θ ≤ ‖A‖², and

        ‖A‖ ≤ √θ · cosh(arcosh(√(2n/π) / p) / (2k − 1))   with probability 1 − p, p = ``FAILURE``,

    whatever the other eigenvalues. Proof: for b the start's component along the top eigenvector,
    θ < (1 − ε)λ implies b² cosh²((2k − 1) artanh √ε) < 1, which the polynomial
    U_{2k−2}(√(t / (1 − ε)λ)) of degree k − 1 in t shows; and P(|b| < c) ≤ c√(2n/π). It is
    Kuczyński & Woźniakowski 1992, Theorem 4.2, with the constants kept. Residuals could not do
    this: they tell that an eigenvalue is near θ, not that it is the largest. The power method's
    own value is ``estimate``.

    k is chosen from ``tol`` and n beforehand: about arcosh(√(2n/π)/p) / √(8 tol) steps, each of
    one product with A and one with Aᵀ, and k × n numbers in memory.
    """
    if not 0 < tol < 1:
        raise UsageError(f"tol is a share between 0 and 1, got {tol:g}.")
    if steps < 1:
        raise UsageError(f"the norm needs at least 1 Lanczos step, got {steps}.")
    gram = _Gram(a)
    if gram.size <= dense:
        top = float(torch.linalg.eigvalsh(gram.matrix())[-1])
        norm = math.sqrt(max(top, 0.0))
        return Norm(norm, norm * (1 + _ROUNDING), True, "dense", gram.size)
    wide = math.acosh(math.sqrt(2 * gram.size / math.pi) / FAILURE)
    wanted = math.ceil((wide / math.acosh(1 + tol) + 1) / 2)
    made = min(wanted, steps, gram.size)
    rule = quadrature(gram, probes=1, steps=made, kind="gaussian", streams=streams)
    estimate = math.sqrt(max(rule.largest, 0.0))
    # Where the chain ended early, or the space is full, the space is invariant: the top is in it.
    whole = rule.products < made or made == gram.size
    factor = 1.0 if whole else math.cosh(min(wide / (2 * made - 1), 700.0))
    upper = estimate * factor * (1 + _ROUNDING)
    return Norm(estimate, upper, factor <= 1 + tol, "lanczos", rule.products)


def vertex_norm(
    after: LinearMap, before: LinearMap, low: float, high: float, *, most: int = 12
) -> float | None:
    """max ‖B diag(σ) A‖₂ over all σ with entries in [low, high], None beyond ``most`` entries.

    A norm is convex in σ, so the maximum is at one of the 2ⁿ corners: all are tried
    (Scaman & Virmaux 2018, eq. 10, without their approximations).
    """
    n = before.outputs
    if n > most:
        return None
    eye = torch.eye(n, dtype=torch.float64, device=before.device)
    rows, columns = before.adjoint(eye), after(eye)  # (n, inputs) = A, (n, outputs) = Bᵀ
    # ‖B Σ A‖ = ‖R_B Σ R_Aᵀ‖ with the n × n factors of A = R_Aᵀ Q, B = QᵀR_B.
    left = torch.linalg.qr(columns.T, mode="r").R
    right = torch.linalg.qr(rows.T, mode="r").R
    corners = torch.tensor(list(product((low, high), repeat=n)), dtype=torch.float64)
    best = 0.0
    for part in corners.to(before.device).split(512):
        norms = torch.linalg.matrix_norm(left * part[:, None, :] @ right.T, 2)
        best = max(best, float(norms.max()))
    return best * (1 + _ROUNDING)


class _Gram:
    """AᵀA or AAᵀ, whichever is smaller."""

    dtype = torch.float64

    def __init__(self, a: LinearMap) -> None:
        self._a, self.device = a, a.device
        self._inner = a.inputs <= a.outputs
        self.size = min(a.inputs, a.outputs)

    def rows(self, vectors: Tensor) -> Tensor:
        if self._inner:
            return self._a.adjoint(self._a(vectors))
        return self._a(self._a.adjoint(vectors))

    def __matmul__(self, vector: Tensor) -> Tensor:
        return self.rows(vector[None])[0]

    def matrix(self) -> Tensor:
        eye = torch.eye(self.size, dtype=torch.float64, device=self.device)
        found = torch.cat([self.rows(part) for part in eye.split(_CHUNK)])
        if not bool(found.isfinite().all()):
            raise NumericalError("the squared norm of a layer is not finite: its weights are huge.")
        return found
