"""IAAT: a radius for every training sample, which follows what the network withstands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from landscape.attacks import Attack, attack
from landscape.errors import UsageError
from landscape.training.batch import Batch
from landscape.training.network import Forward, frozen
from landscape.training.outer_losses import CrossEntropy
from landscape.training.perturbations import Passes, Perturbation

RADII = "iaat.eps"


def own_radii(batch: Batch, key: str, first: float) -> Tensor:
    """ε_i of all training samples, in ``batch.memory``; ``first`` before the first update."""
    if key not in batch.memory:
        batch.memory[key] = batch.x.new_full((batch.population,), first)
    return batch.memory[key]


@dataclass(frozen=True)
class InstanceAdaptive(Perturbation):
    """IAAT: PGD with an ε_i that grows where the sample withstands more (Balaji et al. 2019).

    During ``warmup`` epochs ε_i = ε. Then, before a sample is trained on, ε_i becomes
    (1 − μ) ε_i + μ ε', where ε' = ε_i + γ if its prediction withstands an attack of
    ε_i + γ, else ε_i if it withstands one of ε_i, else ε_i − γ, at least 0; the training attack
    then has ε_i. There is no upper limit. Step sizes are max(2 ε_i / steps, α), α the attack's.

    Cost: three attacks, and a forward pass each to judge two of them. Samples drawn twice in a
    batch keep the last of their values.

    Attributes:
        gamma: γ. rate: μ, .1 in the authors' code; 1 takes ε' itself (liu2022 App. D.5).
        warmup: epochs (10; liu2022: 5).
    """

    remembers: ClassVar[bool] = True
    attack: Attack
    gamma: float
    rate: float = 0.1
    warmup: float = 10

    part: ClassVar[str] = "attack with instance-adaptive radii"

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < math.inf:
            raise UsageError(f"gamma must be a finite number of at least 0, got {self.gamma}.")
        if not 0 < self.rate <= 1:
            raise UsageError(f"the rate of the radii must lie in (0, 1], got {self.rate}.")
        if not 0 <= self.warmup < math.inf:
            raise UsageError(f"the warm-up must be at least 0 epochs, got {self.warmup}.")

    def __call__(self, batch: Batch) -> Tensor:
        kept = own_radii(batch, RADII, self.attack.ball.radius)
        rows = batch.rows.to(kept.device)
        with frozen(batch.model, self.attack.mode) as forward:
            if batch.time >= self.warmup:
                kept[rows] = self._moved(batch, forward, kept[rows])
            return self._attacked(batch, forward, kept[rows], "attack")

    def _moved(self, batch: Batch, forward: Forward, radii: Tensor) -> Tensor:
        robust = []
        for name, tried in (("higher", radii + self.gamma), ("same", radii)):
            found = self._attacked(batch, forward, tried, f"attack {name}")
            with torch.no_grad():
                robust.append(forward(found).argmax(1) == batch.y)
        less = (radii - self.gamma).clamp_min(0)
        best = torch.where(robust[0], radii + self.gamma, torch.where(robust[1], radii, less))
        return radii.lerp(best, self.rate)

    def _attacked(self, batch: Batch, forward: Forward, radii: Tensor, stream: str) -> Tensor:
        return self.attack.perturb(
            forward,
            batch.x,
            batch.y,
            streams=batch.streams.child(stream),
            radius=radii,
            step_size=(2 * radii / max(1, self.attack.steps)).clamp_min(self.attack.step_size),
        )

    def check(self, epochs: int) -> None:
        if self.warmup >= epochs:
            raise UsageError(
                f"a warm-up of {self.warmup:g} epochs leaves none of the run's {epochs}: shorten "
                "it (radii_warmup=) or train longer."
            )

    @property
    def passes(self) -> Passes:
        """After the warm-up."""
        one = Passes(*self.attack.passes)
        return one + one + one + Passes(2, 0)

    def describe(self) -> dict[str, Any]:
        own = {"gamma": self.gamma, "rate": self.rate, "warmup": self.warmup}
        return {"part": self.part, **self.attack.describe(), **own}


def iaat(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    alpha: float | None = None,
    gamma: float | None = None,
    radii_rate: float = 0.1,
    radii_warmup: float = 10,
    attack_mode: str = "train",
) -> tuple[InstanceAdaptive, CrossEntropy]:
    """IAAT; ``gamma``: by default 1.9/8 of eps (1.9/255 at 8/255)."""
    found = attack("pgd", eps=eps, norm=norm, steps=steps, step_size=alpha, mode=attack_mode)
    change = eps * 1.9 / 8 if gamma is None else gamma
    part = InstanceAdaptive(found, gamma=change, rate=radii_rate, warmup=radii_warmup)
    return part, CrossEntropy()
