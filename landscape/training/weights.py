"""Adversarial weight perturbation: gradients taken where the weights are at their worst nearby."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.training.batch import Batch
from landscape.training.schedules import check_within

_TINY = 1e-20


@dataclass(frozen=True)
class AdversarialWeights:
    """The update's gradient is that at w + v, v one step up the outer loss (AWP, Wu et al. 2020).

    v_l = γ ‖w_l‖ g_l / ‖g_l‖ for every weight tensor l of more than one axis, g the gradient of
    the whole loss at w on the same adversarial inputs; biases and normalisation layers stay. The
    optimiser steps at w + v, so that weight decay sees it, and v is taken off afterwards. The
    gradient for v moves no running statistics of BatchNorm; the one at w + v does.

    Attributes:
        gamma: γ, relative size of v. warmup: epochs without.
    """

    gamma: float = 0.01
    warmup: float = 0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < math.inf:
            raise UsageError(f"gamma must be a finite number of at least 0, got {self.gamma}.")
        if not 0 <= self.warmup < math.inf:
            raise UsageError(f"warmup must be a number of epochs of at least 0, got {self.warmup}.")

    def check(self, epochs: int) -> None:
        """Refuse a warm-up that lasts for a run of ``epochs``."""
        check_within("awp.warmup", self.warmup, epochs)

    def active(self, time: float) -> bool:
        """Whether weights are perturbed at a time in epochs."""
        return time >= self.warmup and self.gamma > 0

    @contextlib.contextmanager
    def perturbed(self, batch: Batch, loss: Callable[[Batch], Tensor]) -> Iterator[None]:
        """The batch's network at w + v inside."""
        if not self.active(batch.time):
            yield
            return
        weights = perturbable(batch.model)
        with _kept_buffers(batch.model):
            value = loss(batch.again())
            gradients = torch.autograd.grad(value, weights, materialize_grads=True)
        steps = [self._step(w.detach(), g) for w, g in zip(weights, gradients, strict=True)]
        _add(weights, steps, 1)
        try:
            yield
        finally:
            _add(weights, steps, -1)

    def _step(self, weight: Tensor, gradient: Tensor) -> Tensor:
        step: Tensor = self.gamma * weight.norm() / (gradient.norm() + _TINY) * gradient
        return step.nan_to_num(0.0, 0.0, 0.0)

    def describe(self) -> dict[str, Any]:
        return {"part": "awp", "gamma": self.gamma, "warmup": self.warmup}


def perturbable(model: nn.Module) -> list[nn.Parameter]:
    """The weights of more than one axis that are trained."""
    return [
        p
        for name, p in model.named_parameters()
        if p.requires_grad and p.ndim > 1 and "weight" in name
    ]


@torch.no_grad()
def _add(weights: list[nn.Parameter], steps: list[Tensor], sign: int) -> None:
    for weight, step in zip(weights, steps, strict=True):
        weight.add_(step, alpha=sign)


@contextlib.contextmanager
def _kept_buffers(model: nn.Module) -> Iterator[None]:
    """Whatever the network writes into its buffers inside is undone."""
    before = [(b, b.clone()) for b in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
