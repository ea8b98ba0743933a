"""A loss with its maximum over inputs in the open: the general case of kanai2021, §3.2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit


@dataclass(frozen=True, eq=False)
class Bowl:
    """ℓ(x, θ) = log(1 + exp(−z)) of the output z = ½ (x − θ)ᵀ A (x − θ) − b, A positive definite.

    The loss is highest at x = θ, where its Hessian in x is negative definite, as Lemma 4 asks for;
    the worst input of a ball is the point that is closest to θ in A's norm.
    """

    matrix: np.ndarray  # A, (2, 2)
    depth: float  # b

    def loss(self, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """ℓ at inputs (..., 2)."""
        d = x - theta
        z = np.einsum("...i,ij,...j->...", d, self.matrix, d) / 2 - self.depth
        return np.logaddexp(0, -z)

    def worst(self, theta: np.ndarray, x: np.ndarray, eps: float, norm: str) -> np.ndarray:
        """The input of highest loss within ``eps`` of ``x``."""
        if self._inside(theta - x, eps, norm):
            return theta.copy()
        return x + (self._on_circle if norm == "l2" else self._on_square)(theta - x, eps)

    def bound(
        self, theta: np.ndarray, worst: np.ndarray, x: np.ndarray, eps: float, norm: str
    ) -> float:
        """C_θx/c of this very point: ‖∇_θ∇_x ℓ‖ over the smallest singular value of ∇²_x ℓ inside
        the ball (Lemma 4), of the bordered Hessian of eq. 22 on the circle (Lemma 5); NaN on the
        square, of whose norm there is no Hessian."""
        d = worst - theta
        s = float(expit(self.depth - d @ self.matrix @ d / 2))  # of −z
        slope = self.matrix @ d
        gradient = -s * slope
        hessian = s * (1 - s) * np.outer(slope, slope) - s * self.matrix
        mixed = np.linalg.norm(hessian, 2)  # ∇_θ∇_x ℓ = −∇²_x ℓ, since ℓ is of x − θ
        if self._inside(theta - x, eps, norm):
            return float(mixed / np.linalg.svd(hessian, compute_uv=False)[-1])
        if norm != "l2":
            return float("nan")
        n = (worst - x) / eps
        multiplier = np.linalg.norm(gradient)
        border = np.zeros((3, 3))
        border[0, 1:] = border[1:, 0] = n
        border[1:, 1:] = hessian - multiplier * (np.eye(2) - np.outer(n, n)) / eps
        return float(mixed / np.linalg.svd(border, compute_uv=False)[-1])

    def _inside(self, away: np.ndarray, eps: float, norm: str) -> bool:
        return bool(np.linalg.norm(away, 2 if norm == "l2" else np.inf) < eps)

    def _on_circle(self, away: np.ndarray, eps: float) -> np.ndarray:
        """(A + λI) δ = A·away with the λ > 0 for which ‖δ‖₂ = ε."""
        values, vectors = np.linalg.eigh(self.matrix)
        right = vectors.T @ (self.matrix @ away)

        def excess(multiplier: float) -> float:
            return float(np.linalg.norm(right / (values + multiplier))) - eps

        high = 1.0
        while excess(high) > 0:
            high *= 2
        found = brentq(excess, 0.0, high, xtol=1e-14, rtol=1e-14)
        return np.asarray(vectors @ (right / (values + found)))

    def _on_square(self, away: np.ndarray, eps: float) -> np.ndarray:
        """The best of the best points of the four sides."""
        a, found = self.matrix, []
        for i in (0, 1):
            j = 1 - i
            for side in (-eps, eps):
                delta = np.empty(2)
                delta[i] = side
                delta[j] = np.clip(away[j] - a[j, i] * (side - away[i]) / a[j, j], -eps, eps)
                found.append(delta)
        return min(found, key=lambda delta: float((delta - away) @ a @ (delta - away)))
