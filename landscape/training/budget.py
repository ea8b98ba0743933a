"""Perturbation budgets that change along a training (PAS, liu2020 §5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from landscape.errors import UsageError, unknown
from landscape.training.schedules import check_periods, position

BUDGETS: dict[str, Callable[[float], float]] = {
    "constant": lambda r: 1.0,
    "linear": lambda r: r,
    "cosine": lambda r: 0.5 * (1 - math.cos(math.pi * r)),
}


@dataclass(frozen=True)
class Budget:
    """ε at time t: clip(ε_min + s(r) (ε_max − ε_min), 0, ε), ε the attack's own radius (eq. 5).

    r in [0, 1) is the position within the period, s(r) = 1, r or ½ (1 − cos πr). Here r moves with
    every update, in the paper with every epoch. Step sizes shrink with ε. With a budget of
    ``maximum`` above 1 the target is reached before a period ends: at r = ½ for 2, linear and
    cosine alike (liu2020, CIFAR-10: 16/255 for a target of 8/255).

    Attributes:
        schedule: ``constant``, ``linear`` or ``cosine``.
        maximum, minimum: ε_max and ε_min over ε.
        periods: epochs at which a new period begins, in increasing order; the first begins at 0
            and the last ends with the run.
    """

    schedule: str = "cosine"
    maximum: float = 1.0
    minimum: float = 0.0
    periods: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "periods", tuple(self.periods))
        if self.schedule not in BUDGETS:
            raise unknown("schedule of the budget", self.schedule, BUDGETS)
        if not 0 <= self.minimum <= self.maximum < math.inf:
            raise UsageError(
                f"budgets must be 0 <= minimum <= maximum, got {self.minimum} and {self.maximum}."
            )

    def check(self, epochs: int) -> None:
        """Refuse periods that don't lie within a run of ``epochs``."""
        check_periods(self.periods, epochs)

    def at(self, t: float, epochs: float) -> float:
        """ε(t) / ε, in [0, 1]."""
        s = BUDGETS[self.schedule](position(t, self.periods, epochs))
        return min(1.0, self.minimum + s * (self.maximum - self.minimum))

    def describe(self) -> dict[str, Any]:
        return {
            "schedule": self.schedule,
            "maximum": self.maximum,
            "minimum": self.minimum,
            "periods": list(self.periods),
        }
