"""The loss of EntropySGD on one or two parameters, by numerical integration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import roots_legendre

from landscape.errors import NumericalError, UsageError

# Standard deviations of the kernel exp(−βγ‖θ − θ'‖²/2) that are integrated over.
_REACH = 10.0

# Nodes on every interval: the rule is doubled until two successive ones agree.
_NODES = (16, 32, 64, 128, 256)


@dataclass(frozen=True, eq=False)
class LocalEntropy:
    """−F(θ) at P points, with the first two moments of p_θ ∝ exp(−βL(θ') − (βγ/2)‖θ − θ'‖²).

    ``error`` estimates how far ``value`` is off: the change at the last doubling of the nodes, and
    what the kernel's tails could add.
    """

    points: np.ndarray  # (P, m)
    value: np.ndarray  # (P,)
    error: np.ndarray  # (P,)
    mean: np.ndarray  # (P, m)
    covariance: np.ndarray  # (P, m, m)
    gamma: float
    beta: float

    @property
    def gradient(self) -> np.ndarray:
        """−∇F = βγ (θ − E[θ']), shape (P, m): kanai2021 eq. 11."""
        return self.beta * self.gamma * (self.points - self.mean)

    @property
    def hessian(self) -> np.ndarray:
        """−∇²F = βγ I − (βγ)² Cov[θ'], shape (P, m, m): kanai2021 eq. 53.

        For convex L it lies between 0 and βγ I: p_θ is then at least as narrow as the kernel
        (Brascamp & Lieb 1976), whatever L's kinks.
        """
        c = self.beta * self.gamma
        return c * np.eye(self.points.shape[1]) - c**2 * self.covariance


def local_entropy(
    loss: Callable[[np.ndarray], np.ndarray],
    points: np.ndarray,
    gamma: float,
    beta: float = 1.0,
    *,
    kinks: Sequence[float] = (0.0,),
    tol: float = 1e-8,
) -> LocalEntropy:
    """−F(θ) = −log ∫ exp(−βL(θ') − (βγ/2)‖θ − θ'‖²) dθ' (Chaudhari et al. 2017; kanai2021 eq. 10).

    Gauss-Legendre quadrature (scipy) between the kinks, doubled until ``value`` and moments stand
    still. For L = 0, −F = −(m/2)·log(2π/(βγ)): the kernel is not normalised, so values compare
    between points and not between γ.

    Args:
        loss: L ≥ 0 for points (K, m), shape (K,).
        points: (P, m), m = 1 or 2.
        gamma: γ > 0; 1/√(βγ) is the length over which the loss is smoothed. beta: β > 0.
        kinks: coordinates, on every axis, where the gradient of L may jump: the rules converge
            slowly across a kink they don't know of, and then refuse.
        tol: largest change of ``value`` and of the moments, in units of the kernel's width,
            at the last doubling; ``NumericalError`` if 256 nodes between kinks don't reach it.

    Cost: L at (nodes·(kinks + 1))^m points. When it lies: features of L much narrower than
    the distance between nodes can be missed by two successive rules alike.
    """
    points = np.asarray(points, dtype=float)
    if points.ndim != 2 or len(points) == 0 or points.shape[1] not in (1, 2):
        raise UsageError(f"expected points of shape (P, 1) or (P, 2), got {points.shape}.")
    if not np.isfinite(points).all():
        raise UsageError("points hold values that are NaN or infinite.")
    for name, value in (("gamma", gamma), ("beta", beta)):
        if not 0 < value < math.inf:
            raise UsageError(f"{name} must be a positive number, got {value}.")
    width = 1 / math.sqrt(beta * gamma)
    previous, change = None, np.inf
    for nodes in _NODES:
        current = _moments(loss, points, beta, width, kinks, nodes)
        if previous is not None:
            with np.errstate(invalid="ignore"):
                changes = np.abs(current - previous)
            change = float(changes.max())
            if change <= tol:
                return _entropy(current, changes[:, 0], points, gamma, beta)
        previous = current
    if not np.isfinite(change):
        raise NumericalError(
            "the integral underflows around some points: lower beta or gamma, or give fewer points "
            "at a time, which lie closer together."
        )
    raise NumericalError(
        f"the integral still changes by {change:.1e} at {_NODES[-1]} nodes, above tol = {tol:g}: "
        "give the coordinates where the gradient jumps as kinks, or a larger tol."
    )


def _entropy(
    found: np.ndarray, change: np.ndarray, points: np.ndarray, gamma: float, beta: float
) -> LocalEntropy:
    m, width = points.shape[1], 1 / math.sqrt(beta * gamma)
    value, shift = found[:, 0], found[:, 1 : 1 + m]
    second = found[:, 1 + m :].reshape(-1, m, m)
    # exp(−βL) ≤ 1, so the integral left out is at most the kernel's own.
    tails = m * math.erfc(_REACH / math.sqrt(2)) * (math.sqrt(2 * math.pi) * width) ** m
    return LocalEntropy(
        points=points,
        value=value,
        error=change + tails * np.exp(value),
        mean=points + width * shift,
        covariance=width**2 * (second - shift[:, :, None] * shift[:, None, :]),
        gamma=gamma,
        beta=beta,
    )


def _moments(
    loss: Callable[[np.ndarray], np.ndarray],
    points: np.ndarray,
    beta: float,
    width: float,
    kinks: Sequence[float],
    nodes: int,
) -> np.ndarray:
    """−log Z, E[d] and E[ddᵀ] of d = (θ' − θ)/width, per point: shape (P, 1 + m + m²)."""
    m = points.shape[1]
    rules = [_rule(column, _REACH * width, kinks, nodes) for column in points.T]
    grid = np.stack(np.meshgrid(*(at for at, _ in rules), indexing="ij"), -1)
    # Row by row: the loss may hold an array for every sample of its data.
    density = np.stack(
        [_density(loss, row, beta) for row in grid.reshape(-1, len(rules[-1][0]), m)]
    )
    shares = []
    for (at, weight), column in zip(rules, points.T, strict=True):
        d = (at - column[:, None]) / width
        kernel = weight * np.exp(-(d**2) / 2)
        shares.append([kernel * d**power for power in range(3)])

    def integral(*powers: int) -> np.ndarray:
        last = shares[-1][powers[-1]]
        first = shares[0][powers[0]] if m == 2 else np.ones((len(points), 1))
        return ((first @ density) * last).sum(1)

    z = integral(*[0] * m)
    unit = np.eye(m, dtype=int)
    powers = [*unit, *(unit[i] + unit[j] for i, j in itertools.product(range(m), repeat=2))]
    with np.errstate(divide="ignore", invalid="ignore"):  # z = 0 where all nodes miss the kernel
        return np.stack([-np.log(z), *(integral(*power) / z for power in powers)], 1)


def _density(
    loss: Callable[[np.ndarray], np.ndarray], points: np.ndarray, beta: float
) -> np.ndarray:
    values = np.asarray(loss(points))
    if values.shape != points.shape[:1]:
        raise UsageError(f"loss returned shape {values.shape} for {len(points)} points: one each.")
    if not (values >= 0).all():
        raise UsageError(
            "the loss must be a number of at least 0 everywhere (kanai2021 Theorem 3)."
        )
    return np.exp(-beta * values)


def _rule(
    column: np.ndarray, reach: float, kinks: Sequence[float], nodes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on one axis, an interval between any two kinks."""
    low, high = column.min() - reach, column.max() + reach
    edges = [low, *sorted({float(k) for k in kinks if low < k < high}), high]
    at, weight = roots_legendre(nodes)
    half = np.diff(edges) / 2
    middle = np.add(edges[:-1], half)
    return (middle[:, None] + half[:, None] * at).ravel(), (half[:, None] * weight).ravel()
