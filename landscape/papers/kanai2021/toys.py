"""The small problems of kanai2021 in numbers: where worst inputs go, and where losses have kinks.

Everything is a closed form or, for EntropySGD's −F, an integral; the only attack is the PGD of
Fig. 2 (e) and (f).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from landscape.attacks import attack
from landscape.diagnostics import Axis, Surface
from landscape.diagnostics.analytic import SWISH_MINIMUM, Logistic, swish_loss
from landscape.diagnostics.analytic_models import Neuron, attacked
from landscape.diagnostics.entropy import LocalEntropy, local_entropy
from landscape.papers.kanai2021.bowl import Bowl
from landscape.papers.kinds import Curves, Sheet, curves, sheet
from landscape.provenance import Record
from landscape.random import Streams

Loss = Callable[[np.ndarray], np.ndarray]

# The square of θ, and the sample and radius of Fig. 2.
SQUARE, SAMPLE, EPS = 2.0, (-1.0, 1.0), 0.6


def problem(model: str, norm: str, n: int, seed: int) -> Loss:
    """L(θ) of a linear model or one with swish, on Fig. 2's sample (n = 0) or on Fig. 4's n.

    ``norm``: of the worst attack of radius .6, or ``clean``.
    """
    x, y = np.array([SAMPLE]), np.array([1.0])
    if n:
        x = Streams(seed, "kanai2021").normal("x", (n, 2)).numpy()
        y = np.sign(x[:, 0])
    eps, norm = (0.0, "linf") if norm == "clean" else (EPS, norm)
    if model == "linear":
        return Logistic(x, y, eps, norm).loss
    assert model == "swish", model
    assert not n, "swish has a closed form for one sample"
    return lambda theta: swish_loss(theta, x[0], 1, eps, norm)


def plane(points: int) -> tuple[np.ndarray, np.ndarray]:
    """The axis, and the grid of (θ₁, θ₂), shape (points, points, 2)."""
    axis = Axis(-SQUARE, SQUARE, points).coordinates()
    return axis, np.stack(np.meshgrid(axis, axis), -1)


def toy_surface(
    *,
    model: str,
    norm: str,
    points: int,
    n: int = 0,
    seed: int = 0,
    gamma: float = 0.0,
    pgd: int = 0,
) -> Surface:
    """L(θ) on the square; with ``gamma`` EntropySGD's −F of it instead; with ``pgd`` steps under
    that attack and not the worst one (of swish on the one sample)."""
    made = {"model": model, "norm": norm, "points": points, "n": n, "gamma": gamma, "pgd": pgd}
    name = None if norm == "clean" else {"name": "pgd" if pgd else "worst", "eps": EPS}
    record = Record("toy_surface", {"attack": name, "perturbation": "each"}, seed, **made)
    axis, grid = plane(points)
    flat = grid.reshape(-1, 2)
    loss = problem(model, norm, n, seed)
    if pgd:
        values = _by_pgd(flat, norm, pgd, seed)
    else:
        values = local_entropy(loss, flat, gamma, tol=1e-5).value if gamma else loss(flat)
    return Surface(
        provenance=record.finish(),
        x=axis,
        y=axis,
        loss=values.reshape(points, points),
        done=np.ones((points, points), dtype=bool),
        centre_loss=float(values.reshape(points, points)[points // 2, points // 2]),
        directions="coordinates",
        direction_norms=np.ones(2),
    )


def _by_pgd(points: np.ndarray, norm: str, steps: int, seed: int) -> np.ndarray:
    neuron = Neuron(np.zeros(2), span=2.0, activation="swish")
    eps = neuron.unit_eps(EPS)
    pgd = attack(f"pgd-{steps}", eps=eps, norm=norm, step_size=2 * eps / steps, start="zero")
    return attacked(neuron, points, np.array(SAMPLE), 1, pgd, seed=seed)


def kinks(
    *, model: str, norm: str, points: int, n: int = 0, seed: int = 0, gamma: float = 0.0, h: float
) -> Curves:
    """How much the slope changes within ±h of every θ of the square, along the axis where it
    changes more: |L(θ + h e) − 2 L(θ) + L(θ − h e)| / h. A kink's stays as h → 0, while that of
    a smooth loss is h times its curvature. A curve per θ₂ over θ₁, in nats per unit of θ."""
    loss = problem(model, norm, n, seed)
    axis, grid = plane(points)
    flat = grid.reshape(-1, 2)

    def value(theta: np.ndarray) -> np.ndarray:
        return local_entropy(loss, theta, gamma, tol=1e-9).value if gamma else loss(theta)

    steps = h * np.eye(2)
    change = [np.abs(value(flat + e) - 2 * value(flat) + value(flat - e)) / h for e in steps]
    found = np.max(change, axis=0).reshape(points, points)
    return curves(
        axis,
        {f"{v:.4f}": row for v, row in zip(axis, found, strict=True)},
        x_label="θ₁",
        y_label="change of the slope (nats)",
    )


def gap(*, model: str, norm: str, points: int, n: int = 0, seed: int = 0, h: float) -> Curves:
    """How much the loss itself changes within ±h of the two axes of the square: a jump's would
    stay as h → 0. Curves "θ₁ = 0" over θ₂ and "θ₂ = 0" over θ₁, in nats."""
    loss = problem(model, norm, n, seed)
    axis, _ = plane(points)
    found = {}
    for i in (0, 1):
        along, across = np.eye(2)[1 - i] * axis[:, None], h * np.eye(2)[i]
        found[f"θ{'₁₂'[i]} = 0"] = np.abs(loss(along + across) - loss(along - across))
    return curves(axis, found, x_label="θ", y_label="change of the loss (nats)")


def smoothed(
    *, norms: Sequence[str], gammas: Sequence[float], points: int, n: int = 0, seed: int = 0
) -> Sheet:
    """EntropySGD's −F of the linear model's losses: how steeply its gradient changes, and its
    lowest point, which the row "loss" has of the loss itself.

    Largest curvature: max ‖−∇²F‖₂ over the square. Bound: γ + γ² max ‖Σ‖_F, of Theorem 3.
    """
    flat = plane(points)[1].reshape(-1, 2)
    rows: dict[str, list[Any]] = {}
    for norm in norms:
        loss = problem("linear", norm, n, seed)
        rows[f"{norm}, loss"] = [None, None, *flat[loss(flat).argmin()]]
        for gamma in gammas:
            found = local_entropy(loss, flat, gamma, tol=1e-5)
            rows[f"{norm}, γ={gamma:g}"] = [*_steepness(found), *flat[found.value.argmin()]]
    return sheet(rows, ["largest curvature", "bound", "lowest θ₁", "lowest θ₂"])


def _steepness(found: LocalEntropy) -> tuple[float, float]:
    largest = np.abs(np.linalg.eigvalsh(found.hessian)).max()
    spread = np.linalg.norm(found.covariance, axis=(1, 2)).max()
    return float(largest), float(found.gamma + found.gamma**2 * spread)


def attack_inside(*, points: int, norm: str) -> Curves:
    """Whether the worst input of Fig. 2's sample under swish lies inside the ball (1) or on its
    edge (0): inside if u = θᵀx' can reach swish's minimum. A curve per θ₂ over θ₁."""
    axis, grid = plane(points)
    reach = EPS * np.linalg.norm(grid, 1 if norm == "linf" else 2, axis=-1)
    inside = np.abs(grid @ np.array(SAMPLE) - SWISH_MINIMUM) < reach
    named = {f"{v:.4f}": row for v, row in zip(axis, inside.astype(float), strict=True)}
    return curves(axis, named, x_label="θ₁", y_label="worst input inside the ball")


def path(
    *,
    model: str,
    norm: str,
    start: Sequence[float],
    end: Sequence[float],
    points: int,
    x: Sequence[float],
    eps: float,
    matrix: Sequence[Sequence[float]] = (),
    depth: float = 0.0,
) -> Curves:
    """The worst input x'(θ) of one input while θ goes straight from ``start`` to ``end``.

    ``model``: ``linear``, or ``bowl`` with its ``matrix`` and ``depth``. Curves over the share of
    the way: θ, x', the speed ‖dx'/dθ‖ from one point to the next (at the first of the two), and
    its bound: ε/‖θ‖ for linear under L2 (Lemma 2), else that of ``Bowl.bound`` (Lemmas 4, 5).
    """
    t = np.linspace(0, 1, points)
    theta = np.array(start) + t[:, None] * (np.array(end) - np.array(start))
    if model == "linear":
        worst = (
            np.array(x)
            + Logistic(np.array([x]), np.array([1]), eps, norm).perturbations(theta)[:, 0]
        )
        bound = eps / np.linalg.norm(theta, axis=1) if norm == "l2" else np.full(points, np.nan)
    else:
        bowl = Bowl(np.array(matrix), depth)
        worst = np.array([bowl.worst(at, np.array(x), eps, norm) for at in theta])
        bound = np.array(
            [bowl.bound(at, w, np.array(x), eps, norm) for at, w in zip(theta, worst, strict=True)]
        )
    moved = np.linalg.norm(np.diff(worst, axis=0), axis=1)
    speed = np.append(moved / np.linalg.norm(np.diff(theta, axis=0), axis=1), np.nan)
    named = {
        "θ₁": theta[:, 0],
        "θ₂": theta[:, 1],
        "x'₁": worst[:, 0],
        "x'₂": worst[:, 1],
        "speed": speed,
        "bound": bound,
    }
    return curves(t, named, x_label="share of the way from θ₁ to θ₂", y_label="")
