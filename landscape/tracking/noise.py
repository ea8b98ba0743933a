"""Noise of the stochastic gradient, from a block of successive minibatch gradients."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from landscape.results import Estimate
from landscape.tracking.vectors import advance, dot


class Noise(NamedTuple):
    """Of one block: tr Σ of one sample, |G|², and tr Σ / |G|² in samples."""

    trace: Estimate
    square: Estimate
    scale: Estimate


@dataclass
class Block:
    """Gradients g_1, …, g_n of minibatches of B samples each, of equal weight, as they come.

    Only their mean m_n is kept. With d_i = g_i − m_{i−1}, the vectors e_i = √((i−1)/i)·d_i,
    i = 2..n, are the Helmert contrasts of the gradients: for independent gradients of covariance
    Σ/B each has the squared norm tr Σ/B on average, and for normal ones they are independent of
    each other and of m_n. Hence

    - ``trace``: B·mean ‖e_i‖², which is B/(n−1) · Σ_i ‖g_i − m_n‖², the unbiased estimate of tr Σ,
      with the standard error of that mean;
    - ``square``: ‖m_n‖² − tr Σ/(Bn), the mean of ⟨g_i, g_j⟩ over i ≠ j, unbiased for |G|². Its
      variance is 4 GᵀΣG/(Bn) + 2 tr Σ²/(B²n(n−1)). tr Σ²/B² is half the variance of ‖e_i‖² (of
      normal gradients), and ⟨e_i, m_i⟩² is GᵀΣG/B + tr Σ²/(B²i) on average;
    - ``scale``: their quotient, the simple noise scale of McCandlish et al. (2018), eq. 2.9, with
      the standard error of first order. That is infinite where |G|² is within two standard errors
      of zero, and the scale itself where |G|² is not positive: the block is then too short.

    Cost: one vector of θ's size kept, two passes over it per gradient.
    When it lies: θ moves within the block, and the drift of G adds to tr Σ; so a block should be
    short against the changes of the gradient. Augmentation, Dropout and the attack's random
    starts are part of the noise. With BatchNorm the gradient of a minibatch is no mean over its
    samples, and tr Σ depends on B. The batch size that the noise scale recommends rests on a
    Hessian that is a multiple of the identity (McCandlish et al., §2.2).
    """

    batch_size: int
    n: int = 0
    mean: Tensor | None = None
    squares: list[float] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)

    def add(self, gradient: Tensor) -> None:
        """Another gradient, a flat vector."""
        self.n += 1
        if self.mean is None:
            self.mean = gradient.clone()
            return
        square, overlap = advance(self.mean, gradient, self.n)
        factor = (self.n - 1) / self.n
        both: list[float] = torch.stack([square, overlap.square()]).mul_(factor).tolist()
        self.squares.append(both[0])
        self.overlaps.append(both[1])

    def noise(self) -> Noise:
        """What ``n`` gradients, at least 3, say."""
        assert self.mean is not None
        n, size = self.n, self.batch_size
        trace = Estimate.of(self.squares)
        square = float(dot(self.mean, self.mean)) - trace.value / n
        spread = float(np.var(self.squares, ddof=1)) / 2  # tr Σ²/B²
        along = float(np.mean(self.overlaps)) - spread * float(np.mean(1 / np.arange(2, n + 1)))
        error = math.sqrt(4 * max(along, 0.0) / n + 2 * spread / (n * (n - 1)))
        scale, scale_error = math.inf, math.inf
        if square > 0:
            scale = trace.value / square
            if square > 2 * error:
                relative = math.hypot(
                    trace.standard_error / trace.value if trace.value else 0.0, error / square
                )
                scale_error = scale * relative
        return Noise(
            Estimate(size * trace.value, size * trace.standard_error, n),
            Estimate(square, error, n),
            Estimate(size * scale, size * scale_error, n),
        )

    @classmethod
    def restored(cls, state: dict[str, Any], like: Tensor) -> Block:
        """As it was when ``state`` was made, on the device of ``like``."""
        mean = state["mean"]
        return cls(
            state["batch_size"],
            state["n"],
            None if mean is None else mean.to(like, copy=True),
            list(state["squares"]),
            list(state["overlaps"]),
        )

    def state(self) -> dict[str, Any]:
        """Plain data and tensors, from which ``restored`` goes on."""
        return {
            "batch_size": self.batch_size,
            "n": self.n,
            "mean": None if self.mean is None else self.mean.detach().cpu().clone(),
            "squares": list(self.squares),
            "overlaps": list(self.overlaps),
        }
