"""Adversarial training with a single step: FGSM and its random starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from landscape.attacks import Attack, attack
from landscape.errors import UsageError
from landscape.training.batch import Batch
from landscape.training.network import Forward
from landscape.training.outer_losses import CrossEntropy
from landscape.training.perturbations import Attacked


@dataclass(frozen=True)
class Noised(Attacked):
    """x' = attack around x̃ = clip(x + ν), ν uniform in ``noise`` times the ball of the attack.

    The noise is part of the image: the ball is around x̃, so ‖x' − x‖ ≤ (1 + noise) ε (Zhang et
    al. 2022, "Noise augmentation is all you need for FGSM fast adversarial training", which
    li2023 trains with as FGSM-N). With one step of ε it is N-FGSM of k = ``noise`` but for where
    the box cuts: here x̃ is cut as well.

    Attributes:
        noise: radius of the noise, in radii of the attack.
    """

    noise: float = 1.0

    part: ClassVar[str] = "attack on noisy inputs"

    def __post_init__(self) -> None:
        if not 0 <= self.noise < math.inf:
            raise UsageError(f"noise must be a finite number of at least 0, got {self.noise}.")

    def perturbed(self, batch: Batch, forward: Forward, attack: Attack) -> Tensor:
        streams = batch.streams.child("attack")
        noise = self.noise * attack.ball.sample(batch.x, streams.child("noise"))
        noisy = (batch.x + noise).clamp(0, 1)
        return attack.perturb(forward, noisy, batch.y, streams=streams)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "noise": self.noise}


def fgsm(
    *, eps: float, norm: str = "linf", alpha: float | None = None, attack_mode: str = "train"
) -> tuple[Attacked, CrossEntropy]:
    """One step of α, by default ε, from x (Goodfellow et al. 2015)."""
    found = attack("fgsm", eps=eps, norm=norm, step_size=alpha, mode=attack_mode)
    return Attacked(found), CrossEntropy()


def fgsm_r(
    *, eps: float, norm: str = "linf", alpha: float | None = None, attack_mode: str = "train"
) -> tuple[Attacked, CrossEntropy]:
    """One step of α, by default 1.25 ε, from a uniform start in the ball (Wong et al. 2020).

    li2023 takes α = ε.
    """
    found = attack("fgsm-r", eps=eps, norm=norm, step_size=alpha, mode=attack_mode)
    return Attacked(found), CrossEntropy()


def n_fgsm(
    *,
    eps: float,
    norm: str = "linf",
    alpha: float | None = None,
    k: float = 2.0,
    attack_mode: str = "train",
) -> tuple[Attacked, CrossEntropy]:
    """One step of α, by default ε, from noise in k ε, not projected (de Jorge et al. 2022)."""
    found = attack("n-fgsm", eps=eps, norm=norm, step_size=alpha, mode=attack_mode, start_scale=k)
    return Attacked(found), CrossEntropy()


def fgsm_n(
    *,
    eps: float,
    norm: str = "linf",
    alpha: float | None = None,
    noise: float = 1.0,
    attack_mode: str = "train",
) -> tuple[Noised, CrossEntropy]:
    """One step of α, by default ε, from and around the noisy input (``Noised``)."""
    found = attack("fgsm", eps=eps, norm=norm, step_size=alpha, mode=attack_mode)
    return Noised(found, noise=noise), CrossEntropy()
