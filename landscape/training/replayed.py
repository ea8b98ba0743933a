"""Free adversarial training: every batch several times, each backward pass used twice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from landscape.attacks import Ball
from landscape.attacks.family import check_box
from landscape.errors import UsageError
from landscape.training.batch import Batch
from landscape.training.outer_losses import CrossEntropy
from landscape.training.perturbations import Passes, Perturbation

DELTA = "free.delta"


@dataclass(frozen=True)
class Replayed(Perturbation):
    """Free-AT: x' = clip(x + δ), m updates in a row for every batch (Shafahi et al. 2019).

    δ belongs to the place in the batch, not to the sample, and is never reset: every update's
    backward pass also gives the gradient in x', of which δ takes the step Π(δ + α s(∇)), with 0
    for ∇ where the box cuts. So an m-th of the epochs has the updates of a standard training, at
    its cost. A smaller last batch uses the first of the δ.

    Attributes:
        step_size: α. replays: m.
    """

    remembers: ClassVar[bool] = True
    ball: Ball
    step_size: float
    replays: int = 8

    part: ClassVar[str] = "replayed perturbation"

    def __post_init__(self) -> None:
        if not 0 <= self.step_size < math.inf:
            raise UsageError(f"alpha must be a finite number >= 0, got {self.step_size}.")
        if isinstance(self.replays, bool) or not isinstance(self.replays, int) or self.replays < 1:
            raise UsageError(f"replays must be a whole number of at least 1, got {self.replays!r}.")

    def __call__(self, batch: Batch) -> Tensor:
        check_box(batch.x)
        # A leaf that gets its gradient from the update's own backward pass.
        return (batch.x + self._delta(batch)).clamp(0, 1).requires_grad_()

    def _delta(self, batch: Batch) -> Tensor:
        kept = batch.memory.get(DELTA)
        if kept is None or len(kept) < len(batch.x):
            fresh = torch.zeros_like(batch.x)
            if kept is not None:
                fresh[: len(kept)] = kept
            batch.memory[DELTA] = kept = fresh
        return kept[: len(batch.x)]

    @torch.no_grad()
    def after(self, batch: Batch) -> None:
        gradient, delta = batch.adversarial.grad, self._delta(batch)
        if gradient is None:  # the loss didn't depend on x'
            return
        free = ((batch.x + delta) >= 0) & ((batch.x + delta) <= 1)
        # Per-sample gradients differ from those of the mean by a factor only, which steps ignore.
        step = self.ball.steepest((gradient * free).nan_to_num(0.0, 0.0, 0.0))
        delta.copy_(self.ball.project(delta + self.step_size * step))

    @property
    def passes(self) -> Passes:
        """Beside those of the outer loss, whose backward pass gives both gradients."""
        return Passes(0, 0)

    def describe(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "norm": self.ball.norm,
            "eps": self.ball.radius,
            "step_size": self.step_size,
            "replays": self.replays,
        }


def free(
    *, eps: float, norm: str = "linf", alpha: float | None = None, replays: int = 8
) -> tuple[Replayed, CrossEntropy]:
    """Free-AT; ``alpha``: by default ε."""
    step_size = eps if alpha is None else alpha
    return Replayed(Ball(norm, eps), step_size, replays), CrossEntropy()
