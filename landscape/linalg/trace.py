"""Traces and Frobenius norms of matrices known by their products.

All estimators share one interface: ``samples`` is the most products to make, ``tol`` a relative
standard error at which to stop earlier. ``TRACES`` names them. They ask for products with blocks
of vectors, ``A @ V`` for V (n, j), j ≤ 16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape import parallel
from landscape import params as P
from landscape.errors import NumericalError, UsageError
from landscape.linalg.operator import SymmetricOperator
from landscape.random import Streams
from landscape.results import Estimate

Progress = Callable[[int, int], None]

# Columns of one product A @ V, and bytes that they may take: where products are made anew, what
# they share is made once for all columns, and more than these would earn little more.
_COLUMNS, _BLOCK_BYTES = 16, 1 << 28


class Recorded:
    """An operator that counts its products and keeps ‖A v‖² of each in ``squares``.

    Of every vector v, made of consecutive blocks v_b of the given ``sizes``, the v_b·(A v)_b go
    to ``shares``, a row (blocks,) per product. They add up to vᵀA v.
    """

    def __init__(self, operator: SymmetricOperator, sizes: Sequence[int] = ()) -> None:
        self.operator = operator
        self.size, self.dtype, self.device = operator.size, operator.dtype, operator.device
        self.sizes = list(sizes)
        self.squares: list[float] = []
        self.shares: list[list[float]] = []

    @property
    def products(self) -> int:
        return len(self.squares)

    def __matmul__(self, vectors: Tensor) -> Tensor:
        products = self.operator @ vectors
        columns = products.reshape(self.size, -1)
        self.squares += [norm**2 for norm in columns.norm(dim=0).tolist()]
        if self.sizes:
            blocks = (vectors.reshape(columns.shape) * columns).split(self.sizes)
            self.shares += torch.stack([_sum(block) for block in blocks], 1).tolist()
        return products


def hutchinson(
    operator: SymmetricOperator,
    *,
    samples: int = 100,
    tol: float | None = None,
    min_samples: int = 10,
    streams: Streams,
    progress: Progress | None = None,
) -> tuple[Estimate, np.ndarray]:
    """tr A ≈ mean of zᵀAz over Rademacher vectors z, with its standard error.

    Unbiased; Var(zᵀAz) = 2 (‖A‖_F² − Σ a_ii²). Stops at ``samples``, or once the standard error is
    below tol·|mean| after at least ``min_samples``, looked at after every block of up to 16
    products. Stopping early on a small sample's own error is optimistic, which is why
    ``min_samples`` is not 2.

    Returns the estimate and the single samples (s,). Cost: one product each.
    Source: Hutchinson 1990; Avron & Toledo 2011.
    """
    if samples < 2:
        raise UsageError(f"a standard error needs at least 2 samples, got {samples}.")
    values: list[float] = []
    product = _Blocks(operator, samples, progress)
    while len(values) < samples and not _enough(values, tol, min_samples):
        width = product.next(len(values), samples, 0 if tol is None else min_samples)
        z = _columns(_rademacher, operator, streams, "rademacher", width)
        values += _sum(z * product(z)).tolist()
    return Estimate.of(values), np.asarray(values)


def hutchpp(
    operator: SymmetricOperator,
    *,
    samples: int = 100,
    tol: float | None = None,
    min_samples: int = 10,
    streams: Streams,
    progress: Progress | None = None,
) -> tuple[Estimate, np.ndarray]:
    """tr A = tr(QᵀAQ) exactly + tr((I − QQᵀ)A(I − QQᵀ)) by Hutchinson; Q = orth(AS).

    A third of the products goes into A S with S Rademacher (n, k), a third into A Q, and the rest
    into the residual. Unbiased given Q; the standard error is that of the residual part, the only
    random one then. Exact for rank A ≤ k (with probability one).

    Args:
        operator: symmetric, n × n. samples: most products, at least 4.
        tol: stop the residual part once the standard error is below tol·|estimate|, after
            ``min_samples`` residual samples. The sketch is made whole before.
        streams: of S and the residual probes. progress: called as (products done, samples).

    Returns the estimate, whose sample count is that of the residual part, and tr(QᵀAQ) plus every
    residual sample. Cost: ``samples`` products and n × samples/3 numbers in memory, O(n·k²) work.
    Source: Meyer, Musco, Musco & Woodruff, Hutch++, SOSA 2021.

    When it lies: the error falls as 1/products only if the spectrum decays; on a flat spectrum it
    is Hutchinson with a third of the samples.
    """
    if samples < 4:
        raise UsageError(f"hutchpp needs at least 4 products, got {samples}.")
    k = min(samples // 3, operator.size)
    product = _Blocks(operator, samples, progress)
    sketch = product(_columns(_rademacher, operator, streams, "sketch", k))
    q = torch.linalg.qr(sketch)[0]
    exact = float(_sum(q * product(q)).sum())
    values: list[float] = []
    while len(values) < samples - 2 * k and not _enough(values, tol, min_samples):
        width = product.next(len(values), samples - 2 * k, 0 if tol is None else min_samples)
        z = _columns(_rademacher, operator, streams, "residual", width)
        for _ in range(2):
            z = z - q @ (q.T @ z)
        values += (exact + _sum(z * product(z))).tolist()
    return Estimate.of(values), np.asarray(values)


def xtrace(
    operator: SymmetricOperator,
    *,
    samples: int = 100,
    tol: float | None = None,
    min_samples: int = 10,
    streams: Streams,
    progress: Progress | None = None,
) -> tuple[Estimate, np.ndarray]:
    """Hutch++ with every test vector used for both the sketch and the residual, in turn.

    For test vectors Ω (n, m) on the sphere of radius √n and Q_(i) = orth(A Ω without column i),

        tr_i = tr(Q_(i)ᵀ A Q_(i)) + (n − m + 1) u_iᵀ A u_i / ‖u_i‖²,  u_i = (I − Q_(i)Q_(i)ᵀ) ω_i,

    is unbiased; the estimate is their mean. All m of them come from one Q = orth(AΩ), since
    Q_(i) lacks only the direction Q s_i, s_i ∝ R⁻ᵀe_i. Exact for rank A < m.

    Args:
        operator: symmetric, n × n. samples: most products, of which m = samples // 2.
        tol: begin with ``min_samples`` test vectors and double them, keeping all products, until
            the standard error is below tol·|estimate|. None: all at once.
        streams: of Ω. progress: called as (products done, products of m vectors).

    Returns the estimate, whose sample count is m, and tr_i (m,). The standard error is
    std(tr_i)/√m, the authors' own; the tr_i are exchangeable but not independent, so it is a
    good guess rather than a theorem. Cost: 2 m products, 4·n·m numbers in memory, O(n·m²) work.
    Source: Epperly, Tropp & Webber, XTrace, SIMAX 2024.
    """
    if samples < 4:
        raise UsageError(f"xtrace needs at least 4 products, got {samples}.")
    n = operator.size
    if n < 2:
        return hutchinson(operator, samples=2, streams=streams, progress=progress)
    most = min(samples // 2, n)
    m = most if tol is None else min(max(2, min_samples), most)
    omega, y, q, z = (
        torch.empty(n, 0, dtype=operator.dtype, device=operator.device) for _ in range(4)
    )
    product = _Blocks(operator, 2 * most, progress)
    while True:
        fresh = _columns(_sphere, operator, streams, "sphere", m - omega.shape[1])
        images = product(fresh)
        added = _extension(q, images)
        omega, y = torch.cat([omega, fresh], 1), torch.cat([y, images], 1)
        q, z = torch.cat([q, added], 1), torch.cat([z, product(added)], 1)
        values = _leave_one_out(omega, y, q, z)
        if m == most or _enough(values, tol, 2):
            return Estimate.of(values), values
        m = min(2 * m, most)


def _extension(q: Tensor, images: Tensor) -> Tensor:
    """Orthonormal columns orthogonal to q, spanning with q the images too."""
    added = images
    for _ in range(3):  # the first time takes the images apart, the others mend the rounding
        for _ in range(2):
            added = added - q @ (q.T @ added)
        added = torch.linalg.qr(added)[0]
    return added


def _leave_one_out(omega: Tensor, y: Tensor, q: Tensor, z: Tensor) -> np.ndarray:
    """tr_i (m,) from Ω, AΩ, Q and AQ, all (n, m); the m × m algebra is in float64."""

    def small(matrix: Tensor) -> np.ndarray:
        return np.asarray(matrix.double().cpu().numpy())

    n, m = omega.shape
    r, h, w = small(q.T @ y), small(q.T @ z), small(q.T @ omega)
    plain = small((omega * y).sum(0))
    # A rank below m leaves zeros on the diagonal of R. Any direction that the other columns lack
    # will do then, and lifting the zeros to the rounding level finds one.
    r_upper = np.triu(r)
    floor = np.finfo(np.float64).eps * (np.linalg.norm(r_upper) or 1.0)
    at = np.diag_indices(m)
    r_upper[at] = np.where(np.abs(r_upper[at]) < floor, floor, r_upper[at])
    s = np.linalg.solve(r_upper.T, np.eye(m))
    s /= np.linalg.norm(s, axis=0)
    v = w - s * (s * w).sum(0)  # Q v_i is the part of ω_i in the range of Q_(i)
    inside = np.trace(h) - (s * (h @ s)).sum(0)
    curved = plain - 2 * (v * r).sum(0) + (v * (h @ v)).sum(0)
    length = n - (v**2).sum(0)
    factor = np.divide(n - m + 1, length, out=np.zeros(m), where=length > 1e-12 * n)
    return np.asarray(inside + factor * curved)


def frobenius(
    operator: SymmetricOperator,
    *,
    samples: int = 100,
    tol: float | None = None,
    min_samples: int = 10,
    streams: Streams,
    progress: Progress | None = None,
) -> tuple[Estimate, np.ndarray]:
    """‖A‖_F² = tr A² ≈ mean of ‖Az‖² over Rademacher vectors z: Hutchinson's estimator of A².

    The arguments are those of ``hutchinson``. Returns the estimate of the *square* and the samples
    (s,); ``frobenius_norm`` makes them one of ‖A‖_F. Cost: one product each.
    """
    if samples < 2:
        raise UsageError(f"a standard error needs at least 2 samples, got {samples}.")
    recorded = Recorded(operator)
    for done in range(samples):
        _check(recorded @ _rademacher(operator, streams, "rademacher"))
        if progress is not None:
            progress(done + 1, samples)
        if _enough(recorded.squares, tol, min_samples):
            break
    return Estimate.of(recorded.squares), np.asarray(recorded.squares)


def frobenius_norm(squares: Any) -> Estimate:
    """‖A‖_F from unbiased samples (s,) of its square: the root of their mean.

    Standard error by the delta method, se(mean) / 2√mean; the bias, −se²/2 relative to the norm's
    relative error se, is below it.
    """
    square = Estimate.of(squares)
    norm = max(square.value, 0.0) ** 0.5
    error = square.standard_error / (2 * norm) if norm > 0 else square.standard_error
    return Estimate(norm, error, square.samples)


def effective_rank(traces: Any, squares: Any) -> Estimate:
    """(tr A)²/‖A‖_F² from samples (s,) of both, by the same probes; at most the rank of A.

    Standard error by the delta method on the pairs, so their correlation is in it. Where the trace
    is nought for cancelling curvature, so is this: it says how many equal eigenvalues of one sign
    would have that trace and norm. NaN for a zero matrix.
    """
    t, f = np.asarray(traces, dtype=np.float64), np.asarray(squares, dtype=np.float64)
    if f.mean() <= 0:
        return Estimate(float("nan"), float("nan"), len(t))
    ratio = t.mean() / f.mean()
    slopes = 2 * ratio * (t - t.mean()) - ratio**2 * (f - f.mean())
    return Estimate(float(ratio * t.mean()), Estimate.of(slopes).standard_error, len(t))


def _enough(values: Any, tol: float | None, min_samples: int) -> bool:
    if tol is None or len(values) < min_samples:
        return False
    now = Estimate.of(values)
    return parallel.group().agree(bool(now.standard_error <= tol * abs(now.value)))


def _rademacher(operator: SymmetricOperator, streams: Streams, name: str) -> Tensor:
    bits = streams.uniform(name, (operator.size,)) < 0.5
    return torch.where(bits, 1.0, -1.0).to(operator.device, operator.dtype)


def _sphere(operator: SymmetricOperator, streams: Streams, name: str) -> Tensor:
    """Uniform on the sphere of radius √n."""
    x = streams.normal(name, (operator.size,))
    return (x * (operator.size**0.5 / x.norm())).to(operator.device, operator.dtype)


def _columns(
    draw: Callable[[SymmetricOperator, Streams, str], Tensor],
    operator: SymmetricOperator,
    streams: Streams,
    name: str,
    count: int,
) -> Tensor:
    vectors = torch.empty(count, operator.size, dtype=operator.dtype, device=operator.device)
    for row in vectors:
        row.copy_(draw(operator, streams, name))
    return vectors.T


class _Blocks:
    """A V (n, k) in blocks of at most ``width`` columns, progress after each."""

    def __init__(self, operator: SymmetricOperator, total: int, progress: Progress | None) -> None:
        column = operator.size * torch.finfo(operator.dtype).bits // 8
        self.width = max(1, min(_COLUMNS, _BLOCK_BYTES // column))
        self._operator, self._total, self._progress = operator, total, progress
        self._done = 0

    def next(self, done: int, samples: int, first: int) -> int:
        """Columns to make next, ``done`` of ``samples`` made: a pause after the ``first``."""
        until = min(first, samples) if done < first else samples
        return min(self.width, until - done)

    def __call__(self, vectors: Tensor) -> Tensor:
        images = vectors.new_empty(vectors.T.shape).T
        for into, block in zip(
            images.split(self.width, 1), vectors.split(self.width, 1), strict=True
        ):
            columns = block.T.contiguous().T  # every one in one piece of memory
            into.copy_(_check(self._operator @ columns))
            self._done += block.shape[1]
            if self._progress is not None:
                self._progress(self._done, self._total)
        return images


def _check(products: Tensor) -> Tensor:
    if not P.finite([products]):
        raise NumericalError("the product of the matrix with a vector is not finite.")
    return products


def _sum(numbers: Tensor) -> Tensor:
    """Over the first axis, in float64: single numbers of float32 are exact enough, sums not."""
    return numbers.sum(0, dtype=torch.float64)


TRACES: dict[str, Callable[..., tuple[Estimate, np.ndarray]]] = {
    "hutchinson": hutchinson,
    "hutchpp": hutchpp,
    "xtrace": xtrace,
}
