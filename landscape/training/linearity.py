"""LLR: keeps the loss close to linear where it is least so."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from landscape.attacks import MODES, Ball
from landscape.attacks.ball import flat
from landscape.errors import UsageError, unknown
from landscape.losses import cross_entropy
from landscape.training.batch import Batch
from landscape.training.consistency import check_weight
from landscape.training.input_gradients import input_gradient
from landscape.training.network import frozen
from landscape.training.outer_losses import Regulariser
from landscape.training.perturbations import Passes


@dataclass(frozen=True)
class LinearityPenalty(Regulariser):
    """λ (1/B) Σ_i [h_i(δ_i) + μ |⟨δ_i, g_i⟩|], δ_i = argmax h_i in the ball (Qin et al. 2019).

    h(δ) = |ℓ(x+δ) − ℓ(x) − ⟨δ, g⟩|, g = ∇_x ℓ(x): how far ℓ is from its tangent. The search takes
    projected steps along ±(∇ℓ(x+δ) − g) from a uniform start, within [0, 1]; then δ is held and ℓ
    and g are differentiated, g as in ``input_gradients``. With 2 CE + 4 (h + .3 |⟨δ, g⟩|) as the
    authors' whole loss, λ = 2 and μ = .3 beside a CE of weight 1, at half its learning rate; their
    search follows Adam. With Dropout, ℓ(x+δ) and ℓ(x) differ by their masks alone.

    Attributes:
        eps, norm: of the ball. steps: of the search. alpha: their size, ε by default.
        weight: λ. slope: μ. attack_mode: of the network during the search.
    """

    precisions = ("full",)  # a difference of nearly equal losses

    eps: float
    norm: str = "linf"
    steps: int = 2
    alpha: float | None = None
    weight: float = 2.0
    slope: float = 0.3
    attack_mode: str = "train"

    def __post_init__(self) -> None:
        Ball(self.norm, self.eps)
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 0:
            raise UsageError(f"steps must be a whole number of at least 0, got {self.steps!r}.")
        if self.alpha is None:
            object.__setattr__(self, "alpha", self.eps)
        for name in ("alpha", "weight", "slope"):
            check_weight(name, getattr(self, name))
        if self.attack_mode not in MODES:
            raise unknown("attack mode", self.attack_mode, MODES)

    def __call__(self, batch: Batch) -> Tensor:
        if _DELTA not in batch.shared:
            batch.shared[_DELTA] = self.worst(batch)
        delta = batch.shared[_DELTA]
        gradient, here = input_gradient(batch.model, batch.x, batch.y, graph=True)
        there = cross_entropy(batch.model(batch.x + delta), batch.y)
        slope = flat(delta * gradient).sum(1)
        return self.weight * ((there - here - slope).abs() + self.slope * slope.abs()).mean()

    def worst(self, batch: Batch) -> Tensor:
        """δ of every sample, detached."""
        assert self.alpha is not None
        ball, x = Ball(self.norm, self.eps), batch.x
        with frozen(batch.model, self.attack_mode) as forward:

            def loss(points: Tensor) -> tuple[Tensor, Tensor]:
                leaf = points.detach().requires_grad_()
                losses = cross_entropy(forward(leaf), batch.y)
                return torch.autograd.grad(losses.sum(), leaf)[0], losses.detach()

            tangent, here = loss(x)
            delta = ball.sample(x, batch.streams.child("llr"))
            delta = (x + delta).clamp(0, 1) - x
            for _ in range(self.steps):
                gradient, there = loss(x + delta)
                gap = there - here - flat(delta * tangent).sum(1)
                sides = gap.sign().reshape(-1, *[1] * (x.ndim - 1))
                step = ball.steepest(sides * (gradient - tangent))
                delta = (x + ball.project(delta + self.alpha * step)).clamp(0, 1) - x
        return delta

    @property
    def search(self) -> Passes:
        return Passes(self.steps + 1, self.steps + 1)

    @property
    def passes(self) -> Passes:
        return Passes(2, 3)

    def describe(self) -> dict[str, Any]:
        return {"part": "llr", **dataclasses.asdict(self)}


_DELTA = "llr.delta"
