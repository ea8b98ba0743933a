"""What a paper claims, held against numbers: *holds*, *does not hold* or *inconclusive*.

A claim over seeds is judged by the interval of Student's t at 90 % for the mean over seeds (5 %
in each tail): it holds where all of the interval agrees with it, does not hold where none of it
does, and is inconclusive otherwise. So a claim never holds on one seed alone. Claims that are
exact in theory, about closed forms, are judged by a stated tolerance instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

HOLDS, FAILS, OPEN = "holds", "does not hold", "inconclusive"
OUTCOMES = (HOLDS, FAILS, OPEN)
LEVEL = 0.90

Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Verdict:
    """An outcome with what it rests on.

    Attributes:
        outcome: in ``OUTCOMES``. numbers: in words with units, as they stand in the report.
        effect: size of the effect in the units that ``numbers`` names, NaN if there is none.
        samples: how many seeds, or samples, it rests on. of: "seeds" or what else they are.
    """

    outcome: str
    numbers: str
    effect: float = math.nan
    samples: int = 1
    of: str = "seeds"

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"'{self.outcome}' is no outcome: {', '.join(OUTCOMES)}.")


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, in our words, with where it stands and how it is checked."""

    text: str
    where: str
    check: Callable[[Any], Verdict]


def _interval(values: Numbers) -> tuple[float, float, float]:
    """Mean, and Student's interval of it; the whole line for fewer than two values."""
    from scipy import stats

    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    if len(x) < 2:
        return mean, -math.inf, math.inf
    half = stats.t.ppf((1 + LEVEL) / 2, len(x) - 1) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return mean, mean - half, mean + half


def _outcome(low: float, high: float, at_least: float) -> str:
    if low > at_least:
        return HOLDS
    return FAILS if high <= at_least else OPEN


def _shown(value: float) -> str:
    return f"{value:.3g}"


def positive(values: Numbers, what: str, *, at_least: float = 0.0) -> Verdict:
    """The mean of one number per seed is above ``at_least``."""
    values = [float(v) for v in values]
    if not values or not all(map(math.isfinite, values)):
        return Verdict(OPEN, f"{what}: not measured for every seed", samples=len(values))
    mean, low, high = _interval(values)
    text = f"{what}: {_shown(mean)}"
    if len(values) > 1:
        text += f" [{_shown(low)}, {_shown(high)}]"
    return Verdict(_outcome(low, high, at_least), text, mean, len(values))


def greater(
    one: Numbers,
    other: Numbers,
    what: str,
    *,
    names: tuple[str, str] = ("", ""),
    by: float = 0.0,
) -> Verdict:
    """``one`` exceeds ``other`` by more than ``by``, paired by seed: entry k of both is seed k."""
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} values can't be paired by seed.")
    difference = positive([a - b for a, b in zip(one, other, strict=True)], what, at_least=by)
    if not math.isfinite(difference.effect):
        return difference
    means = [_shown(float(np.mean(values))) for values in (one, other)]
    first, second = (f"{n} {m}".strip() for n, m in zip(names, means, strict=True))
    text = difference.numbers.replace(f"{what}: ", f"{what}: {first} against {second}, difference ")
    return Verdict(difference.outcome, text, difference.effect, difference.samples)


def trend(x: Any, curves: Any, what: str) -> Verdict:
    """Every seed's curve rises with ``x``: mean over seeds of Spearman's rank correlation above 0.

    ``curves[k]`` belongs to seed k, shape (seeds, len(x)). For "falls", pass the negative.
    """
    from scipy import stats

    rho = [
        float(stats.spearmanr(x, y).statistic) if np.ptp(y) > 0 else 0.0
        for y in (np.asarray(curve, dtype=np.float64) for curve in curves)
    ]
    ends = np.mean([[curve[0], curve[-1]] for curve in curves], axis=0)
    verdict = positive(rho, f"rank correlation of {what}")
    text = f"{verdict.numbers}; from {_shown(ends[0])} to {_shown(ends[1])}"
    return Verdict(verdict.outcome, text, verdict.effect, verdict.samples)


def correlation(
    x: Numbers, y: Numbers, what: str, *, sign: int = 1, at_least: float = 0.0
) -> Verdict:
    """Spearman's correlation over samples (not seeds) has this sign, and at least that size.

    The 90 % interval is Fisher's, with the variance (1 + ρ²/2)/(n − 3) of Bonett & Wright 2000.
    """
    from scipy import stats

    pairs = np.isfinite(np.asarray(x, dtype=float)) & np.isfinite(np.asarray(y, dtype=float))
    a, b = np.asarray(x, dtype=float)[pairs], np.asarray(y, dtype=float)[pairs]
    if len(a) < 5 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Verdict(OPEN, f"{what}: too few or constant samples", samples=len(a), of="samples")
    rho = sign * float(stats.spearmanr(a, b).statistic)
    z = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    half = stats.norm.ppf((1 + LEVEL) / 2) * math.sqrt((1 + rho**2 / 2) / (len(a) - 3))
    low, high = float(np.tanh(z - half)), float(np.tanh(z + half))
    shown = sorted((sign * low, sign * high))
    text = f"{what}: rank correlation {sign * rho:.3f} [{shown[0]:.3f}, {shown[1]:.3f}]"
    return Verdict(_outcome(low, high, at_least), text, sign * rho, len(a), "samples")


def exactly(true: bool, numbers: str, effect: float = math.nan) -> Verdict:
    """A statement about closed forms, which is so or isn't; ``numbers`` states the tolerance."""
    return Verdict(HOLDS if true else FAILS, numbers, effect, 1, "closed form")


def all_of(verdicts: Sequence[Verdict] | Mapping[str, Verdict]) -> Verdict:
    """All of them: fails if one fails, holds if all hold. The effect is the smallest one."""
    found = list(verdicts.values() if isinstance(verdicts, Mapping) else verdicts)
    outcomes = {verdict.outcome for verdict in found}
    outcome = FAILS if FAILS in outcomes else OPEN if OPEN in outcomes or not found else HOLDS
    finite = [v.effect for v in found if math.isfinite(v.effect)]
    return Verdict(
        outcome,
        "; ".join(verdict.numbers for verdict in found),
        min(finite, key=abs) if finite else math.nan,
        min((v.samples for v in found), default=0),
        found[0].of if found else "seeds",
    )
