"""Misclassification-aware adversarial training (MART, Wang et al. 2020)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from landscape.attacks.objectives import kl_to_clean
from landscape.errors import UsageError
from landscape.losses import cross_entropy
from landscape.training.batch import Batch
from landscape.training.perturbations import Attacked, Passes, from_noise

# In the logarithm of the authors' code, so that it stays finite.
_MARGIN = 1.0001


@dataclass(frozen=True)
class Mart:
    """(1/B) Σ_i BCE(x'_i) + β KL(p(x_i) ‖ p(x'_i)) (1 − p_y(x_i)), p = softmax f.

    BCE(x') = CE(f(x'), y) − log(1.0001 − max_{j≠y} p_j(x')): boosted cross-entropy, with the
    constant of the authors' code in place of the paper's 1. Samples that are misclassified when
    clean weigh more. Gradients flow through p(x) and p_y(x) as well (Wang et al. 2020, eq. 11).
    """

    beta: float

    uses_clean = True

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise UsageError(f"beta must be a finite number of at least 0, got {self.beta}.")

    def __call__(self, batch: Batch) -> Tensor:
        labels = batch.y[:, None]
        clean, adversarial = batch.clean_logits, batch.adversarial_logits
        others = adversarial.softmax(1).scatter(1, labels, 0.0).amax(1)
        boosted = cross_entropy(adversarial, batch.y) - (_MARGIN - others).log()
        wrong = 1 - clean.softmax(1).gather(1, labels).squeeze(1)
        consistent = kl_to_clean(adversarial, batch.y, clean)
        return (boosted + self.beta * consistent * wrong).mean()

    def passes(self, *, perturbed: bool) -> Passes:
        return Passes(2, 2) if perturbed else Passes(1, 1)

    def describe(self) -> dict[str, Any]:
        return {"part": "mart", "beta": self.beta}


def mart(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    alpha: float | None = None,
    beta: float = 6.0,
    noise: float = 0.001,
    attack_mode: str = "eval",
) -> tuple[Attacked, Mart]:
    """PGD on cross-entropy from Gaussian noise of standard deviation ``noise``."""
    found = from_noise(
        eps=eps,
        norm=norm,
        steps=steps,
        alpha=alpha,
        noise=noise,
        attack_mode=attack_mode,
    )
    return found, Mart(beta)
