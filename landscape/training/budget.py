"""Perturbation budgets that change along a training (PAS, liu2020 §5)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from landscape.attacks import Attack
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
    every update, in the paper with every epoch. Step sizes shrink with ε, or with ``spare`` the
    number of steps does. With a budget of ``maximum`` above 1 the target is reached before a period
    ends: at r = ½ for 2, linear and cosine alike (liu2020, CIFAR-10: 16/255 for a target of 8/255).

    Attributes:
        schedule: ``constant``, ``linear`` or ``cosine``.
        maximum, minimum: ε_max and ε_min over ε.
        periods: epochs at which a new period begins, in increasing order; the first begins at 0
            and the last ends with the run.
        spare: keep α, and take the ε/α steps that reach the boundary and so many more, at most
            the attack's own (liu2020 App. C.1: MNIST, α .01, ε/.01 + 10 steps); ``None``: keep the
            number of steps.
        start_in_step: begin within α of x, as the authors' code does, in place of ε.
    """

    schedule: str = "cosine"
    maximum: float = 1.0
    minimum: float = 0.0
    periods: tuple[float, ...] = ()
    spare: int | None = None
    start_in_step: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "periods", tuple(self.periods))
        if self.schedule not in BUDGETS:
            raise unknown("schedule of the budget", self.schedule, BUDGETS)
        if not 0 <= self.minimum <= self.maximum < math.inf:
            raise UsageError(
                f"budgets must be 0 <= minimum <= maximum, got {self.minimum} and {self.maximum}."
            )

        spare = self.spare
        if spare is not None and (isinstance(spare, bool) or not isinstance(spare, int)):
            raise UsageError(f"spare must be a whole number of steps, got {spare!r}.")
        if spare is not None and spare < 0:
            raise UsageError(f"spare must be at least 0 steps, got {spare}.")

    def check(self, epochs: int) -> None:
        """Refuse periods that don't lie within a run of ``epochs``."""
        check_periods(self.periods, epochs)

    def at(self, t: float, epochs: float) -> float:
        """ε(t) / ε, in [0, 1]."""
        s = BUDGETS[self.schedule](position(t, self.periods, epochs))
        return min(1.0, self.minimum + s * (self.maximum - self.minimum))

    def of(self, attack: Attack, t: float, epochs: float) -> Attack:
        """The attack as it is at time ``t`` of a run of ``epochs``."""
        share, whole = self.at(t, epochs), attack.ball.radius
        ball = dataclasses.replace(attack.ball, radius=share * whole)
        changed: dict[str, Any] = {"ball": ball}
        if self.spare is None:
            changed["step_size"] = share * attack.step_size
        elif attack.step_size > 0:
            reach = round(share * whole / attack.step_size)
            changed["steps"] = min(attack.steps, reach + self.spare)
        found = dataclasses.replace(attack, **changed)
        if self.start_in_step and ball.radius > 0:
            scale = min(1.0, found.step_size / ball.radius)
            found = dataclasses.replace(found, start_scale=scale)
        return found

    def describe(self) -> dict[str, Any]:
        """Every setting, JSON-able; the last two only if they are in use."""
        found: dict[str, Any] = {
            "schedule": self.schedule,
            "maximum": self.maximum,
            "minimum": self.minimum,
            "periods": list(self.periods),
        }
        if self.spare is not None:
            found["spare"] = self.spare
        if self.start_in_step:
            found["start_in_step"] = True
        return found
