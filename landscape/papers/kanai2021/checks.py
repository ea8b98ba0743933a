"""Checks of kanai2021's claims that the shared ones have no word for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import FAILS, HOLDS, OPEN, Verdict


def within(values: Sequence[float], what: str, low: float, high: float) -> Verdict:
    """The mean of one number per seed lies between two limits: all of its 90 % interval does
    (holds), none of it does (does not hold), or some."""
    found = claims.positive(values, what)
    if not math.isfinite(found.effect) or len(values) < 2:
        return Verdict(OPEN, found.numbers, found.effect, found.samples)
    below = claims.positive([high - v for v in values], what).outcome
    above = claims.positive([v - low for v in values], what).outcome
    outcome = FAILS if FAILS in (below, above) else OPEN if OPEN in (below, above) else HOLDS
    text = f"{found.numbers}, wanted {low:.3g} to {high:.3g}"
    return Verdict(outcome, text, found.effect, found.samples)


def close(
    one: Sequence[float], other: Sequence[float], what: str, by: float, names: tuple[str, str]
) -> Verdict:
    """The mean difference of pairs by seed is at most ``by``, either way."""
    means = [f"{name} {np.mean(v):.3g}" for name, v in zip(names, (one, other), strict=True)]
    difference = [a - b for a, b in zip(one, other, strict=True)]
    return within(difference, f"{what}: {means[0]} against {means[1]}, difference", -by, by)


def whatever(holds: Mapping[str, bool], numbers: Mapping[str, str]) -> Verdict:
    """A statement about something that the paper doesn't give: it holds whatever that is, does
    not hold for any of the values tried, or depends on it (inconclusive)."""
    outcomes = set(holds.values())
    outcome = OPEN if len(outcomes) != 1 else HOLDS if outcomes == {True} else FAILS
    text = "; ".join(
        f"{name}: {numbers[name]} ({'yes' if h else 'no'})" for name, h in holds.items()
    )
    return Verdict(outcome, text, math.nan, len(holds), "values")
