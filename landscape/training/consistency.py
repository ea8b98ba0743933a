"""Regularisers that ask for equal outputs on neighbouring inputs."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from landscape.errors import UsageError, unknown
from landscape.losses import cross_entropy
from landscape.training.batch import Batch
from landscape.training.distances import DISTANCES, js, kl, top
from landscape.training.outer_losses import Regulariser
from landscape.training.perturbations import Passes


@dataclass(frozen=True)
class LogitConsistency(Regulariser):
    """λ ρ(f(x'), f(x)): equal logits on clean and adversarial inputs (AdvLC, li2023 eq. 12 to 16).

    The distance ρ is by default the sum of the largest tenth of the batch's logit differences,
    over B: with λ .55 for FGSM-N (.5 averaged) and .4 for PGD-10 (.3 averaged) on CIFAR-10. The
    top N are those of a batch, so that λ depends on the batch size a little. The authors' code
    trains on noisy images, which then are the x; here x is always the clean one.

    Attributes:
        weight: λ. distance: a row of ``DISTANCES`` (Table 3). share: N over the B·C differences,
            for ``top`` alone.
        ramp: epochs over which λ rises from λ/ramp to λ, a step per epoch (TinyImageNet: all of
            them, to .15); 0 for none.
    """

    weight: float = 0.4
    distance: str = "top"
    share: float = 0.1
    ramp: float = 0

    uses_clean = True

    def __post_init__(self) -> None:
        check_weight("weight", self.weight)
        check_weight("ramp", self.ramp)
        if self.distance not in DISTANCES:
            raise unknown("distance", self.distance, DISTANCES)
        if not 0 < self.share <= 1:
            raise UsageError(f"share must lie in (0, 1], got {self.share}.")

    def __call__(self, batch: Batch) -> Tensor:
        pair = batch.adversarial_logits, batch.clean_logits
        gap = top(*pair, self.share) if self.distance == "top" else DISTANCES[self.distance](*pair)
        return self.strength(batch.time) * gap

    def check(self, epochs: int) -> None:
        check_ramp("advlc", self.ramp, epochs)

    def strength(self, time: float) -> float:
        """λ at a time in epochs."""
        return self.weight * risen(self.ramp, time)

    def describe(self) -> dict[str, Any]:
        found = {"part": "advlc", **dataclasses.asdict(self)}
        if self.distance != "top":
            del found["share"]
        return found


@dataclass(frozen=True)
class LogitAlign(Regulariser):
    """λ (1/B) Σ_i KL(p(x''_i) ‖ p(x'_i)), x'' attacked from a noisy neighbour (Zhang et al. 2022).

    x'' is what the method's own perturbation makes of clip(x + u), u uniform in ±noise·ε; the
    authors' is FGSM. Gradients flow through both arguments. Compared in li2023 Table 1 with λ 100
    (FGSM-N) and 50 (PGD-10).

    Attributes:
        eps: ε. noise: range of u over ε. weight: λ.
    """

    eps: float
    noise: float = 2.0
    weight: float = 50.0

    attacks = 1

    def __post_init__(self) -> None:
        for name in ("eps", "noise", "weight"):
            check_weight(name, getattr(self, name))

    def __call__(self, batch: Batch) -> Tensor:
        if _NEIGHBOUR not in batch.shared:
            batch.shared[_NEIGHBOUR] = self._neighbour(batch)
        return self.weight * kl(batch.adversarial_logits, batch.model(batch.shared[_NEIGHBOUR]))

    def _neighbour(self, batch: Batch) -> Tensor:
        u = batch.streams.uniform("logitalign", tuple(batch.x.shape)).mul_(2).sub_(1).to(batch.x)
        noisy = (batch.x + self.noise * self.eps * u).clamp(0, 1)
        if batch.perturb is None:
            return noisy
        # A batch of its own, whose parts leave nothing for those of this one.
        return dataclasses.replace(batch, x=noisy, shared={}).adversarial.detach()

    @property
    def passes(self) -> Passes:
        return Passes(1, 1)

    def describe(self) -> dict[str, Any]:
        return {"part": "logitalign", **dataclasses.asdict(self)}


_NEIGHBOUR = "logitalign.neighbour"


@dataclass(frozen=True)
class Consistency(Regulariser):
    """λ (1/B) Σ_i JS(p_T(x'_i1), p_T(x'_i2)) of two augmentations of a sample (Tack et al. 2022).

    Both views are attacked and trained on: a batch of B samples holds 2B inputs. p_T is the
    softmax of f/T. The paper has λ 1 and T ½; li2023 Table 1 λ 50 and T 1, since ½ hid gradients
    from PGD there. Without an augmentation both views are one image, and JS is what the random
    starts of the attack make it.

    Attributes:
        weight: λ. temperature: T.
    """

    weight: float = 1.0
    temperature: float = 0.5

    views = 2

    def __post_init__(self) -> None:
        check_weight("weight", self.weight)
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"temperature must be a finite number above 0, got {self}.")

    def __call__(self, batch: Batch) -> Tensor:
        first, second = (batch.adversarial_logits / self.temperature).chunk(2)
        return self.weight * js(first, second)

    def describe(self) -> dict[str, Any]:
        return {"part": "consistency", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class LessClean(Regulariser):
    """−α (1/B) Σ_i CE(f(x_i), y_i): adversarial training less standard training (li2023 eq. 9).

    An experiment, not a defence: with α near 1 nothing keeps the clean loss down but the gap
    between the two. The paper takes FGSM from a random start with steps of ε.

    Attributes:
        alpha: α, in [0, 1].
        ramp: epochs over which α rises, as ``LogitConsistency``'s λ; 0 for none. While a network
            answers the same to every input the two gradients are nearly equal, so that 1 − α of
            one is left to learn from.
    """

    alpha: float = 0.5
    ramp: float = 0

    uses_clean = True

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"alpha must lie in [0, 1], got {self.alpha}.")
        check_weight("ramp", self.ramp)

    def __call__(self, batch: Batch) -> Tensor:
        alpha = self.alpha * risen(self.ramp, batch.time)
        return -alpha * cross_entropy(batch.clean_logits, batch.y).mean()

    def check(self, epochs: int) -> None:
        check_ramp("less-clean", self.ramp, epochs)

    def describe(self) -> dict[str, Any]:
        found = {"part": "less-clean", "alpha": self.alpha}
        return {**found, "ramp": self.ramp} if self.ramp else found


def check_weight(name: str, value: float) -> None:
    """Refuse what is not a finite number of at least 0."""
    if not 0 <= value < math.inf:
        raise UsageError(f"{name} must be a finite number of at least 0, got {value}.")


def risen(ramp: float, time: float) -> float:
    """The share of a weight that rises by a step per epoch over ``ramp`` epochs; 1 without."""
    return min(1.0, (math.floor(time) + 1) / ramp) if ramp else 1.0


def check_ramp(name: str, ramp: float, epochs: int) -> None:
    """Refuse a ramp that a run of ``epochs`` doesn't come to the end of."""
    if ramp > epochs:
        raise UsageError(
            f"{name} rises over {ramp:g} epochs, the run has {epochs}: shorten the ramp."
        )
