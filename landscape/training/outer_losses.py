"""Parts that say what is minimised, given the clean and the adversarial inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from landscape.attacks.objectives import kl_to_clean
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


class PerSample(OuterLoss, Protocol):
    """A mean over samples of losses that can be given other targets and weights."""

    def each(self, batch: Batch, target: Tensor) -> Tensor:
        """Loss of every sample, (B,). ``target``: classes (B,) or probabilities (B, C)."""
        ...


class Around:
    """Base of losses that give another one, ``inner``, other targets, weights or company."""

    inner: PerSample

    def __call__(self, batch: Batch) -> Tensor:
        return self.each(batch, batch.y).mean()

    def each(self, batch: Batch, target: Tensor) -> Tensor:
        """As in ``PerSample``."""
        raise NotImplementedError

    @property
    def uses_clean(self) -> bool:
        return getattr(self.inner, "uses_clean", False)

    def passes(self, *, perturbed: bool) -> Passes:
        return self.inner.passes(perturbed=perturbed)


class Regulariser:
    """``batch -> term``: a scalar in nats, added to the outer loss, with its weight and a graph.

    Attributes:
        views: augmentations of every sample that the batch must hold, one after the other.
        uses_clean: whether it needs f(x), which is computed once, whoever asks.
        attacks: further calls of the method's perturbation.
        search: cost of what is found once per update, however often the loss is computed.
    """

    views: int = 1
    uses_clean: bool = False
    attacks: int = 0

    @property
    def search(self) -> Passes:
        return Passes(0, 0)

    def __call__(self, batch: Batch) -> Tensor:
        raise NotImplementedError

    @property
    def passes(self) -> Passes:
        """Beside those of the outer loss, f(x), ``attacks`` and ``search``."""
        return Passes(0, 0)

    def check(self, epochs: int) -> None:
        """Refuse settings that don't fit into a run of ``epochs``."""

    def describe(self) -> dict[str, Any]:
        """Every setting, JSON-able."""
        raise NotImplementedError


@dataclass(frozen=True)
class CrossEntropy:
    """(1/B) Σ_i CE(f(x'_i), y_i); standard training where x' = x (Madry et al. 2018)."""

    def __call__(self, batch: Batch) -> Tensor:
        return self.each(batch, batch.y).mean()

    def each(self, batch: Batch, target: Tensor) -> Tensor:
        return cross_entropy(batch.adversarial_logits, target)

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

    uses_clean = True

    def __post_init__(self) -> None:
        if not 0 <= self.beta < math.inf:
            raise UsageError(f"beta must be a finite number of at least 0, got {self.beta}.")

    def __call__(self, batch: Batch) -> Tensor:
        return self.each(batch, batch.y).mean()

    def each(self, batch: Batch, target: Tensor) -> Tensor:
        natural = cross_entropy(batch.clean_logits, target)
        robust = kl_to_clean(batch.adversarial_logits, batch.y, batch.clean_logits)
        return natural + self.beta * robust

    def passes(self, *, perturbed: bool) -> Passes:
        return Passes(2, 2) if perturbed else Passes(1, 1)

    def describe(self) -> dict[str, Any]:
        return {"part": "trades", "beta": self.beta}
