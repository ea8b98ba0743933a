"""Learning-rate schedules in closed form: lr(t) = lr · factor(t), t in epochs done."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from landscape.errors import UsageError, unknown


@dataclass(frozen=True)
class Schedule:
    """What the learning rate is multiplied by at time ``t`` of a run of ``epochs``.

    ========== ====================================================================
    constant   1
    step       factor^(number of milestones ≤ t)
    exponential factor^clip((t − a) / (b − a), 0, 1), milestones (a, b) (liu2020, VGG)
    cosine     ½ (1 + cos(π t / epochs))
    cyclic     linear 0 → 1 → 0, highest at peak · epochs (Wong et al. 2020)
    ========== ====================================================================

    A warm-up multiplies any of them by min(1, t / warmup). With ``periods`` the whole of it begins
    again at each of them, t running from 0 to ``epochs`` in every period (liu2020 §5).

    Attributes:
        schedule: a name above. milestones: in epochs. factor: of a step, or in all.
        peak: where a cycle is highest, as a fraction of the run. warmup: in epochs, 0 for none.
        periods: epochs at which a new period begins, besides 0; milestones and warm-up are
            those of a period as long as the run, and shrink with it.
    """

    schedule: str = "constant"
    milestones: tuple[float, ...] = ()
    factor: float = 0.1
    peak: float = 0.5
    warmup: float = 0
    periods: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        object.__setattr__(self, "periods", tuple(self.periods))
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)
        if self.schedule == "exponential" and len(self.milestones) != 2:
            raise UsageError(
                f"schedule 'exponential' needs two milestones, its first and last epoch; "
                f"got {len(self.milestones)}."
            )
        if self.schedule == "step" and not self.milestones:
            raise UsageError("schedule 'step' needs milestones, the epochs of the steps.")
        if self.schedule not in ("step", "exponential") and self.milestones:
            raise UsageError(f"schedule '{self.schedule}' takes no milestones.")
        if any(a >= b for a, b in zip(self.milestones, self.milestones[1:], strict=False)):
            raise UsageError(f"milestones must increase, got {list(self.milestones)}.")
        if not 0 < self.factor < math.inf:
            raise UsageError(f"factor must be a finite number above 0, got {self.factor}.")
        if not 0 < self.peak < 1:
            raise UsageError(f"peak must lie between 0 and 1, got {self.peak}.")
        if not 0 <= self.warmup < math.inf:
            raise UsageError(f"warmup must be a number of epochs of at least 0, got {self.warmup}.")

    def check(self, epochs: int) -> None:
        """Refuse milestones and warm-ups that a run of ``epochs`` never reaches the end of."""
        for milestone in self.milestones:
            if not 0 <= milestone <= epochs or (self.schedule == "step" and milestone == epochs):
                raise UsageError(
                    f"milestone {milestone:g} lies outside the run of {epochs} epochs: "
                    "change the milestones or the number of epochs."
                )
        if self.warmup > epochs:
            raise UsageError(f"a warm-up of {self.warmup:g} epochs exceeds the run's {epochs}.")
        check_periods(self.periods, epochs)

    def at(self, t: float, epochs: int) -> float:
        """The factor at time ``t`` in [0, epochs]."""
        if self.periods:  # else the very same t, without rounding
            t = position(t, self.periods, epochs) * epochs
        value = SCHEDULES[self.schedule](self, t, epochs)
        return value * min(1.0, t / self.warmup) if self.warmup else value

    def describe(self) -> dict[str, Any]:
        """Every setting, JSON-able; ``periods`` only if there are any."""
        found = dataclasses.asdict(self)
        periods = found.pop("periods")
        found["milestones"] = list(self.milestones)
        return {**found, "periods": list(periods)} if periods else found


def check_periods(periods: tuple[float, ...], epochs: int) -> None:
    """Refuse periods that don't lie within a run of ``epochs``."""
    if any(a >= b for a, b in itertools.pairwise([0, *periods, epochs])):
        raise UsageError(
            f"periods must increase and lie within the run of {epochs} epochs, got {list(periods)}."
        )


def check_within(name: str, value: float, epochs: int) -> None:
    """Refuse a number of epochs that leaves none of a run."""
    if value >= epochs:
        raise UsageError(
            f"{name}={value:g} epochs leave nothing of a run of {epochs}: make it smaller."
        )


def position(t: float, periods: tuple[float, ...], epochs: float) -> float:
    """The part of its period, in [0, 1], that is over at time ``t`` of a run of ``epochs``."""
    ends = [0.0, *periods, epochs]
    i = min(bisect.bisect_right(ends, t), len(ends) - 1)
    return min(1.0, (t - ends[i - 1]) / (ends[i] - ends[i - 1]))


def _step(s: Schedule, t: float, epochs: int) -> float:
    return s.factor ** sum(milestone <= t for milestone in s.milestones)


def _exponential(s: Schedule, t: float, epochs: int) -> float:
    start, end = s.milestones
    return s.factor ** min(1.0, max(0.0, (t - start) / (end - start)))


def _cosine(s: Schedule, t: float, epochs: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * t / epochs))


def _cyclic(s: Schedule, t: float, epochs: int) -> float:
    r = t / epochs
    return r / s.peak if r < s.peak else (1 - r) / (1 - s.peak)


SCHEDULES: dict[str, Callable[[Schedule, float, int], float]] = {
    "constant": lambda s, t, epochs: 1.0,
    "step": _step,
    "exponential": _exponential,
    "cosine": _cosine,
    "cyclic": _cyclic,
}
