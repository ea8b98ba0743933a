"""Landscapes known in closed form: oracles for what is measured, and the papers' sketches.

Points are float64 arrays of shape (..., m). Nothing here is differentiated or attacked by torch:
``analytic_models`` has the same functions as modules, to be measured and compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, lambertw

from landscape.attacks import NORMS
from landscape.errors import UsageError, unknown

# Where swish(u) = u·sigmoid(u) is lowest: its derivative vanishes where exp(u) = −u − 1.
SWISH_MINIMUM = -1.0 - float(lambertw(np.exp(-1.0)).real)


@dataclass(frozen=True, eq=False)
class Logistic:
    """L_ε(w) = (1/N) Σ_i log(1 + exp(−y_i wᵀx_i + ε‖w‖_q)): liu2020 eq. 6, kanai2021 §3.1.

    The largest logistic loss over ‖δ_i‖_p ≤ ε, with q dual to p: ‖w‖₁ for ``linf``, ‖w‖₂ for
    ``l2``. It is convex, and its gradient jumps at the kinks, where a worst perturbation does:
    with ε > 0 at every w that has a zero entry (``linf``), or at w = 0 alone (``l2``).

    When it lies: inputs are not held in a box, so attacks agree with it only where the ball around
    every x_i lies inside theirs.

    Liu et al. set ‖w‖_q = 1 in their eq. 7 and differentiate as if it stayed so. Their eq. 29 is
    thus not the Hessian of eq. 6, and Theorem 3 (every curvature grows with ε) holds for eq. 29
    only: on one point x = 1, L_ε″(w) = s(1 − s)(1 − ε)² with s = expit(−(1 − ε)w) for w > 0, which
    is 0 at ε = 1. Their logits [wᵀx, −wᵀx] would double the margin.

    Args:
        x: (N, m) inputs, of any range. y: (N,) labels, −1 or +1.
        eps: radius of the ball, in the units of ``x``. norm: ``linf`` or ``l2``.

    >>> Logistic([[1.0]], [1], eps=0.5).loss([[0.0], [2.0]]).round(4).tolist()
    [0.6931, 0.3133]
    """

    x: np.ndarray
    y: np.ndarray
    eps: float = 0.0
    norm: str = "linf"

    def __post_init__(self) -> None:
        x, y = np.asarray(self.x, dtype=float), np.asarray(self.y, dtype=float)
        if x.ndim != 2 or len(x) == 0 or y.shape != x.shape[:1]:
            raise UsageError(f"expected x (N, m) and y (N,), N > 0, got {x.shape} and {y.shape}.")
        if not np.isfinite(x).all():
            raise UsageError("x holds values that are NaN or infinite.")
        if not np.isin(y, (-1, 1)).all():
            raise UsageError("labels must be −1 or +1: write 2 * y - 1 for labels 0 and 1.")
        _check_ball(self.eps, self.norm)
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)

    def margins(self, w: np.ndarray) -> np.ndarray:
        """y_i wᵀx_i, shape (..., N)."""
        return _points(w, self.x.shape[1]) @ self.x.T * self.y

    def loss(self, w: np.ndarray) -> np.ndarray:
        """L_ε(w), shape (...)."""
        return np.logaddexp(0, self._exponents(w)).mean(-1)

    def lowest(self, w: np.ndarray) -> np.ndarray:
        """The smallest loss over the same balls: L_ε with −ε, the lower edge of liu2020 Fig. 5."""
        reach = self.eps * _dual_norm(w, self.norm)[..., None]
        return np.logaddexp(0, -self.margins(w) - reach).mean(-1)

    def perturbations(self, w: np.ndarray) -> np.ndarray:
        """A worst δ_i = −y_i ε ∂‖w‖_q, shape (..., N, m); at a kink, the mean of the two sides."""
        return -self.eps * self.y[:, None] * _dual_slope(w, self.norm)[..., None, :]

    def gradient(self, w: np.ndarray) -> np.ndarray:
        """∇L_ε(w), shape (..., m); at a kink the subgradient of ``perturbations``."""
        return (expit(self._exponents(w))[..., None] * self._slopes(w)).mean(-2)

    def smooth(self, w: np.ndarray) -> np.ndarray:
        """Whether L_ε is twice differentiable at w, shape (...)."""
        nonzero = _points(w, self.x.shape[1]) != 0
        away = nonzero.all(-1) if self.norm == "linf" else nonzero.any(-1)
        return np.asarray(away | (self.eps == 0))

    def hessian(self, w: np.ndarray, *, held: bool = False) -> np.ndarray:
        """∇²L_ε(w), shape (..., m, m); NaN at the kinks.

        With v_i = −y_i x_i + ε ∇‖w‖_q and s_i the sigmoid of the exponent it is
        (1/N) Σ s_i (1 − s_i) v_i v_iᵀ + ε (1/N) Σ s_i ∇²‖w‖_q.

        ``held``: the first term alone, the Hessian with the perturbations held at those of w
        (sitawarin2021 eq. 9; ``landscape.Hessian``). Under ``linf`` that is the whole Hessian;
        under ``l2`` it lacks ε·mean(s)·(I − ŵŵᵀ)/‖w‖₂, as the perturbations turn with w.
        """
        w = _points(w, self.x.shape[1])
        s, v = expit(self._exponents(w)), self._slopes(w)
        found = np.einsum("...n,...ni,...nj->...ij", s * (1 - s), v, v) / len(self.x)
        if held:
            return found
        if self.norm == "l2":
            length, unit = _dual_norm(w, "l2")[..., None, None], _dual_slope(w, "l2")
            turn = np.eye(w.shape[-1]) - unit[..., :, None] * unit[..., None, :]
            bend = np.divide(turn, length, out=np.zeros_like(turn), where=length > 0)
            found += self.eps * s.mean(-1)[..., None, None] * bend
        return np.where(self.smooth(w)[..., None, None], found, np.nan)

    def in_version_space(self, w: np.ndarray) -> np.ndarray:
        """Whether w ∈ V_ε: every x_i + δ_i classified rightly or on the edge (liu2020 §3.1)."""
        return np.asarray((self._exponents(w) <= 0).all(-1))

    def no_better_than_constant(self, w: np.ndarray) -> np.ndarray:
        """Whether w ∈ T_ε: 0 minimises γ ↦ L_ε(γw) over real γ, so |mean margin| ≤ ε‖w‖_q.

        Liu et al. call T_ε the complement of V_ε for two classes. With both signs of γ, as in
        their eq. 11, the complement holds −V_ε too; and V_ε and T_ε share their edge.
        """
        return np.abs(self.margins(w).mean(-1)) <= self.eps * _dual_norm(w, self.norm)

    @property
    def constant_from(self) -> float:
        """The ε̄ of liu2020 Theorem 1, ‖mean y_i x_i‖_p: T_ε is everything from there on."""
        order = np.inf if self.norm == "linf" else 2
        return float(np.linalg.norm((self.y[:, None] * self.x).mean(0), order))

    def _exponents(self, w: np.ndarray) -> np.ndarray:
        return self.eps * _dual_norm(w, self.norm)[..., None] - self.margins(w)

    def _slopes(self, w: np.ndarray) -> np.ndarray:
        """−y_i (x_i + δ_i), shape (..., N, m)."""
        return self.eps * _dual_slope(w, self.norm)[..., None, :] - self.y[:, None] * self.x


def swish_loss(
    theta: np.ndarray, x: np.ndarray, y: int, eps: float = 0.0, norm: str = "linf"
) -> np.ndarray:
    """max over ‖δ‖_p ≤ ε of log(1 + exp(−y·swish(θᵀ(x + δ)))), shape (...): kanai2021 Fig. 2d–f.

    u = θᵀ(x + δ) takes every value within ε‖θ‖_q of θᵀx, and swish falls to ``SWISH_MINIMUM`` and
    rises after it, so the worst u is known although Kanai et al. use PGD. For y = 1 it is
    the minimum if within reach (the attack inside the ball, their Lemma 4), else the nearer end.

    Args: theta: (..., m). x: (m,), one input. y: its label, −1 or +1. eps, norm: the ball.
    """
    _check_ball(eps, norm)
    if y not in (-1, 1):
        raise UsageError(f"the label must be −1 or +1, got {y}.")
    x = np.asarray(x, dtype=float)
    u, reach = _points(theta, len(x)) @ x, eps * _dual_norm(theta, norm)
    low, high = u - reach, u + reach
    if y == 1:
        worst = _swish(np.clip(SWISH_MINIMUM, low, high))
    else:
        worst = np.maximum(_swish(low), _swish(high))
    return np.logaddexp(0, -y * worst)


def _dual_norm(w: np.ndarray, norm: str) -> np.ndarray:
    """‖w‖_q with q dual to the norm of the ball, shape (...)."""
    return np.linalg.norm(np.asarray(w, dtype=float), 1 if norm == "linf" else 2, axis=-1)


def _dual_slope(w: np.ndarray, norm: str) -> np.ndarray:
    """∇‖w‖_q, 0 for entries where it has none: the steepest direction an attack takes."""
    w = np.asarray(w, dtype=float)
    if norm == "linf":
        return np.sign(w)
    length = _dual_norm(w, norm)[..., None]
    return np.divide(w, length, out=np.zeros_like(w), where=length > 0)


def _points(w: np.ndarray, m: int) -> np.ndarray:
    w = np.asarray(w, dtype=float)
    if w.shape[-1:] != (m,):
        raise UsageError(f"expected points of shape (..., {m}), got {w.shape}.")
    return w


def _check_ball(eps: float, norm: str) -> None:
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if not 0 <= eps < np.inf:
        raise UsageError(f"eps must be a finite number of at least 0, got {eps}.")


def _swish(u: np.ndarray) -> np.ndarray:
    return u * expit(u)
