"""What a search works on: one batch's objective over the ball, and the best points found so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.attacks.ball import Ball
from landscape.attacks.objectives import OBJECTIVES, TARGETED, succeeded
from landscape.errors import UsageError
from landscape.losses import Loss

Forward = Callable[[Tensor], Tensor]
StepMask = Callable[[int, Tensor, Tensor, Tensor], Tensor]
# Shown every point a search comes to, with its logits and objective; returns which samples the
# search should go on with, or None for all.
Visit = Callable[[Tensor, Tensor, Tensor], Tensor | None]


@dataclass(frozen=True)
class Problem:
    """max over δ of the objective at x + δ, for every sample of a batch.

    Attributes:
        clean: logits at x, for the objective ``kl``. target: class to reach, or ``None``.
        project: whether points are projected onto the ball, besides the box.
        bounded: whether there is a box, [0, 1].
        compared: whether objectives of a sample are compared, so that each needs its own.
    """

    forward: Forward
    ball: Ball
    objective: str
    loss: Loss
    x: Tensor
    y: Tensor
    radius: Tensor | None = None
    clean: Tensor | None = None
    target: Tensor | None = None
    project: bool = True
    bounded: bool = True
    compared: bool = False

    def values(self, logits: Tensor) -> Tensor:
        """The objective of every sample, shape (B,)."""
        if self.objective != "loss":
            if self.target is not None:
                return TARGETED[self.objective](logits, self.y, self.target)
            return OBJECTIVES[self.objective](logits, self.y, self.clean)
        values = (
            self.loss(logits, self.y) if self.target is None else -self.loss(logits, self.target)
        )
        if values.ndim:
            return values
        if self.compared:
            raise UsageError(
                "the attack keeps the worst point of every sample, which needs a loss that "
                "returns one value per sample: use reduction='none'."
            )
        # A batch-mean loss: scaled so that gradients are those of each sample.
        return values.expand(len(self.x))

    def look(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and objective at the points. Cost: a forward pass."""
        with torch.no_grad():
            logits = self.forward(points)
            return logits, self.values(logits)

    def gradient(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, objective and its gradient. Cost: a forward pass and the input's gradient.

        Where the loss overflowed the gradient is zero.
        """
        leaf = points.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.forward(leaf)
            values = self.values(logits)
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return logits.detach(), values.detach(), gradient.nan_to_num(0.0, 0.0, 0.0)

    def place(self, points: Tensor) -> Tensor:
        """The points brought back into ball and box."""
        delta = points - self.x
        if self.project:
            delta = self.ball.project(delta, self.radius)
        return (self.x + delta).clamp(0, 1) if self.bounded else self.x + delta

    def take(self, rows: Tensor) -> Problem:
        """The same for some of the samples: a mask or indices."""
        parts = {
            name: None if tensor is None else tensor[rows]
            for name, tensor in (
                ("x", self.x),
                ("y", self.y),
                ("radius", self.radius),
                ("clean", self.clean),
                ("target", self.target),
            )
        }
        return dataclasses.replace(self, **parts)  # type: ignore[arg-type]


class Best:
    """The best point so far of every sample of a batch.

    The higher objective is the better one; with ``successes`` any success is better than any
    failure. NaN is never better. ``reached``: class whose prediction is the success, in place of
    any but the label.
    """

    def __init__(self, x: Tensor, y: Tensor, successes: bool, reached: Tensor | None) -> None:
        self.points = x.clone()
        self.success = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self._value = torch.full((len(x),), float("-inf"), device=x.device, dtype=x.dtype)
        self._y, self._reached, self._successes = y, reached, successes

    def offer(self, some: Tensor | None, points: Tensor, logits: Tensor, values: Tensor) -> None:
        """Points of all samples or some (indices), to be kept where they are better."""
        rows = slice(None) if some is None else some
        old = self._value[rows]
        values = values.detach().to(old)
        better = values > old
        if self._successes:
            reached = None if self._reached is None else self._reached[rows]
            success, before = succeeded(logits, self._y[rows], reached), self.success[rows]
            better = (success & ~before) | ((success == before) & better)
            self.success[rows] = success | before
        self.points[rows] = torch.where(spread(better, points), points, self.points[rows])
        self._value[rows] = torch.where(better, values, old)


@dataclass
class Watch:
    """Offers the points of one search to ``best``; with ``stop`` samples with a success leave."""

    best: Best
    stop: bool
    rows: Tensor | None = None

    def __call__(self, points: Tensor, logits: Tensor, values: Tensor) -> Tensor | None:
        self.best.offer(self.rows, points, logits, values)
        if not self.stop:
            return None
        success = self.best.success
        going = ~success if self.rows is None else ~success[self.rows]
        if bool(going.all()):
            return None
        self.rows = going.nonzero().squeeze(1) if self.rows is None else self.rows[going]
        return going


def spread(per_sample: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, …, 1), to go with ``like``."""
    return per_sample.reshape(-1, *[1] * (like.ndim - 1))
