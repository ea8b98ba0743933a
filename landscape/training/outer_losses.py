"""Parts that say what is minimised, given the clean and the adversarial inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from landscape.attacks.pgd import kl_to_clean
from landscape.errors import UsageError
from landscape.losses import cross_entropy
from landscape.training.batch import Batch
from landscape.training.perturbations import Passes


class OuterLoss(Protocol):
    """``batch -> loss``: a scalar in nats, averaged over the samples, with a graph."""

    def __call__(self, batch: Batch) -> Tensor: ...

    def passes(self, *, perturbed: bool) -> Passes: ...

    def describe(self) -> dict[str, Any]:
        """Every setting, JSON-able."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """(1/B) Σ_i CE(f(x'_i), y_i); standard training where x' = x (Madry et al. 2018)."""

    def __call__(self, batch: Batch) -> Tensor:
        return cross_entropy(batch.adversarial_logits, batch.y).mean()

    def passes(self, *, perturbed: bool) -> Passes:
        return Passes(1, 1)

    def describe(self) -> dict[str, Any]:
        return {"part": "cross-entropy"}


@dataclass(frozen=True)
class Trades:
    """(1/B) Σ_i CE(f(x_i), y_i) + β KL(p(x_i) ‖ p(x'_i)), p = softmax f (Zhang et al. 2019).

    p(x) is not detached: gradients flow through both arguments of KL. f(x) is computed once, so
    BatchNorm counts the clean batch once (the authors' code computes and counts it twice).
    """

    beta: float

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise UsageError(f"beta must be a finite number of at least 0, got {self.beta}.")

    def __call__(self, batch: Batch) -> Tensor:
        natural = cross_entropy(batch.clean_logits, batch.y)
        robust = kl_to_clean(batch.adversarial_logits, batch.y, batch.clean_logits)
        return (natural + self.beta * robust).mean()

    def passes(self, *, perturbed: bool) -> Passes:
        return Passes(2, 2) if perturbed else Passes(1, 1)

    def describe(self) -> dict[str, Any]:
        return {"part": "trades", "beta": self.beta}
