"""Which sections of a report fit into a time budget, and how thorough each can be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# What measuring the pace, drawing and writing may take of the budget.
RESERVE = 0.1


@dataclass(frozen=True)
class Choice:
    """A section at a level of thoroughness (0 the cheapest), or left out (None) with a reason."""

    section: str
    level: int | None
    seconds: float = 0.0
    reason: str = ""


def plan(costs: Mapping[str, Sequence[float]], budget: float) -> list[Choice]:
    """Fit sections into ``budget`` seconds.

    ``costs``: per section, in the order of their value, the seconds of every level, the cheapest
    first; infinite where it can't be done. First every section gets its cheapest level if that
    fits into what is left; then, round by round in the same order, each is raised by one level
    where that fits. A tenth of the budget stays free. The same costs give the same plan.
    """
    left = (1 - RESERVE) * budget
    levels: dict[str, int] = {}
    for section, seconds in costs.items():
        if seconds[0] <= left:
            levels[section] = 0
            left -= seconds[0]
    raised = True
    while raised:
        raised = False
        for section, level in levels.items():
            seconds = costs[section]
            if level + 1 < len(seconds) and seconds[level + 1] - seconds[level] <= left:
                left -= seconds[level + 1] - seconds[level]
                levels[section], raised = level + 1, True
    return [
        Choice(section, levels[section], seconds[levels[section]])
        if section in levels
        else Choice(section, None, reason=_too_long(seconds[0], budget))
        for section, seconds in costs.items()
    ]


def fitting(seconds: Sequence[float], level: int, left: float) -> int | None:
    """The highest level up to ``level`` that fits into what is left of the budget, if any does."""
    return next((k for k in range(level, -1, -1) if seconds[k] <= left), None)


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> [duration(s) for s in (0.5, 90, 600, 9000, float("inf"))]
    ['0.5 s', '90 s', '10 min', '2.5 h', 'for ever']
    """
    if math.isinf(seconds):
        return "for ever"
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _too_long(seconds: float, budget: float) -> str:
    return f"would take {duration(seconds)} at least, too long for a budget of {duration(budget)}"
