"""Spectral densities by stochastic Lanczos quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape import params as P
from landscape.errors import NumericalError, UsageError, unknown
from landscape.linalg.basis import Store, own
from landscape.linalg.operator import SymmetricOperator
from landscape.random import Streams
from landscape.results import Estimate

PROBES = ("rademacher", "gaussian")

# The default kernel width σ, as a share of the range of the nodes.
SIGMA_SHARE = 0.01

# Grid points per σ, and how many σ the grid reaches beyond the outermost nodes: the trapezoidal
# rule then integrates the density to 1 within rounding.
_PER_SIGMA, _MARGIN = 4, 6

_MOST_POINTS = 1_000_000


@dataclass(frozen=True)
class Quadrature:
    """Nodes and weights (probes, steps) with Σ_j w_ij f(θ_ij) ≈ tr f(A)/n for every probe i.

    Where a chain broke down early, its row is filled up with weight 0 at its last node. ``size`` is
    n, ``products`` counts A @ v.
    """

    nodes: np.ndarray
    weights: np.ndarray
    size: int
    products: int

    @property
    def smallest(self) -> float:
        """The smallest node: at least the smallest eigenvalue, and close to it after few steps."""
        return float(self.nodes.min())

    @property
    def largest(self) -> float:
        """The largest node: at most the largest eigenvalue."""
        return float(self.nodes.max())

    def moments(self, power: int) -> np.ndarray:
        """zᵀA^power z of every probe (probes,), each an unbiased estimate of tr(A^power)/n.

        Exact for power ≤ 2·steps − 1 given the probe.
        """
        return np.asarray((self.weights * self.nodes**power).sum(1))

    def moment(self, power: int) -> Estimate:
        """tr(A^power)/n with its standard error over the probes."""
        return Estimate.of(self.moments(power))


def quadrature(
    operator: SymmetricOperator,
    *,
    probes: int = 10,
    steps: int = 80,
    kind: str = "rademacher",
    streams: Streams,
    progress: Callable[[int, int], None] | None = None,
) -> Quadrature:
    """Gauss quadrature of the spectral measure of ``operator`` at random unit vectors.

    For a unit vector z, zᵀf(A)z = ∫ f dμ_z with μ_z = Σ_i (u_iᵀz)² δ(λ_i), whose mean over z is the
    spectral density of A. The Jacobi matrix T of μ_z comes from ``steps`` Lanczos steps from z;
    T = S diag(θ) Sᵀ (``eigh`` in float64) gives the nodes θ_j and weights S_{0j}², the squared
    first components. A rule of m nodes is exact for polynomials of degree 2m − 1.

    Args:
        operator: symmetric, n × n.
        probes: number of vectors z. steps: Lanczos steps per probe, at most n are made.
        kind: ``rademacher`` (±1/√n) or ``gaussian`` (uniform on the sphere) vectors.
        streams: of the probes. progress: called as (products done, probes · steps).

    Cost: probes × steps products, O(n·steps²) work per probe to reorthogonalise fully (twice),
    and n × steps numbers in memory. Source: Golub & Welsch 1969; Lin, Saad & Yang 2016; Ghorbani,
    Krishnan & Xiao 2019.

    When it lies: the nodes are not eigenvalues, except that outlying ones converge to them; one
    eigenvalue's weight in one probe scatters by 100 % and more around 1/n, so counts of outliers
    need many probes, or ``eigenpairs``.
    """
    if probes < 1:
        raise UsageError(f"a density needs at least 1 probe, got {probes}.")
    if steps < 1:
        raise UsageError(f"a density needs at least 1 Lanczos step, got {steps}.")
    if kind not in PROBES:
        raise unknown("kind of probe", kind, PROBES)
    n = operator.size
    steps = min(steps, n)
    nodes, weights = np.zeros((probes, steps)), np.zeros((probes, steps))
    products = 0
    for i in range(probes):
        start = _probe(streams, kind, n).to(operator.device, operator.dtype)

        def step(done: int, before: int = i * steps) -> None:
            if progress is not None:
                progress(before + done, probes * steps)

        diagonal, beside = _lanczos(operator, start, steps, step)
        m = len(diagonal)
        theta, s = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        nodes[i, :m], nodes[i, m:], weights[i, :m] = theta, theta[-1], s[0] ** 2
        products += m
        step(steps)
    return Quadrature(nodes, weights, n, products)


def _probe(streams: Streams, kind: str, n: int) -> Tensor:
    if kind == "gaussian":
        z = streams.normal("probe", (n,))
        return z / z.norm()
    return torch.where(streams.uniform("probe", (n,)) < 0.5, 1.0, -1.0) / n**0.5


def _lanczos(
    operator: SymmetricOperator, start: Tensor, steps: int, step: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Diagonal (m,) and off-diagonal (m − 1,) of T after m ≤ ``steps`` steps from ``start``."""
    basis = Store(operator, operator.device)
    alpha: list[float] = []
    beta: list[float] = []
    eps, scale = torch.finfo(operator.dtype).eps, 0.0
    q = start / basis.norm(start)
    for j in range(steps):
        basis.append(q)
        w = own(operator @ q, q)
        if not P.finite([w]):
            raise NumericalError(
                f"the product of the matrix with a vector is not finite (step {j + 1})."
            )
        w, components, left = basis.remove(w)
        alpha.append(float(components[-1]))
        w = basis.polish(w, left)
        length = basis.norm(w)
        step(j + 1)
        scale = max(scale, abs(alpha[-1]), length)
        if length <= 10 * eps * scale or j + 1 == steps:
            break
        beta.append(length)
        q = w.div_(length)
    return np.array(alpha), np.array(beta)


@dataclass(frozen=True)
class Smoothed:
    """The density at ``grid`` (g,): of every probe (probes, g), their mean and its standard error.

    ``standard_error`` is over the probes, infinite for one; it does not know of the smoothing.
    """

    grid: np.ndarray
    densities: np.ndarray
    mean: np.ndarray
    standard_error: np.ndarray
    sigma: float


def smooth(
    rule: Quadrature, *, sigma: float | None = None, grid: np.ndarray | None = None
) -> Smoothed:
    """ρ_i(t) = Σ_j w_ij N(t; θ_ij, σ²) on a grid, for every probe i.

    Args:
        rule: (probes, steps). sigma: of the Gaussian kernel, default ``SIGMA_SHARE`` of the
            range of the nodes (of their size, where all are equal).
        grid: increasing points with gaps below σ, so that no peak falls between two of them;
            default 4 per σ, 6 σ beyond the outermost nodes, on which ρ integrates to 1.

    Cost: probes × steps × g exponentials. When it lies: structure finer than σ is gone, so a
    peak of exact zeros looks like a bell; and a width that follows the range makes pictures of
    different matrices differ: give both the same ``sigma`` to compare them.
    """
    low, high = rule.smallest, rule.largest
    if sigma is None:
        size = max(abs(low), abs(high))
        sigma = SIGMA_SHARE * (high - low if high - low > 1e-6 * size else size or 1.0)
    if not 0 < sigma < np.inf:
        raise UsageError(f"the kernel width must be positive and finite, got {sigma}.")
    if grid is None:
        points = (high - low) / sigma * _PER_SIGMA + 2 * _MARGIN * _PER_SIGMA
        if points > _MOST_POINTS:
            raise UsageError(
                f"a kernel width of {sigma:g} needs {points:.2g} grid points over a range of "
                f"{high - low:g}: use at least {(high - low) * _PER_SIGMA / _MOST_POINTS:.2g}."
            )
        grid = np.linspace(low - _MARGIN * sigma, high + _MARGIN * sigma, round(points) + 1)
    grid = np.asarray(grid, dtype=np.float64)
    gaps = np.diff(grid)
    if grid.ndim != 1 or len(grid) < 2 or not (gaps > 0).all():
        raise UsageError("a grid is a vector of at least 2 increasing points.")
    if not gaps.max() < sigma:
        raise UsageError(
            f"the grid's widest gap, {gaps.max():g}, is not below the kernel width {sigma:g}: "
            "peaks could fall between its points."
        )
    densities = np.zeros((len(rule.nodes), len(grid)))
    for i, (nodes, weights) in enumerate(zip(rule.nodes, rule.weights, strict=True)):
        for node, weight in zip(nodes, weights, strict=True):
            densities[i] += weight * np.exp(-0.5 * ((grid - node) / sigma) ** 2)
    densities /= sigma * np.sqrt(2 * np.pi)
    probes = len(densities)
    if probes > 1:
        error = densities.std(0, ddof=1) / np.sqrt(probes)
    else:
        error = np.full(len(grid), np.inf)
    return Smoothed(grid, densities, densities.mean(0), error, float(sigma))
