"""Which numbers of networks differ by more than their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import stats

from landscape.diagnostics.pairing import paired_interval
from landscape.errors import UsageError
from landscape.provenance import Record
from landscape.reporting.headlines import BOUND, EXACT, SHARE, Headline, differing
from landscape.results import Result, array, scalar

ALPHA = 0.05
SAME = "not distinguishable"


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """Every headline number of every network minus that of ``first``, with its uncertainty.

    ``standard_error`` is that of the difference, NaN where ``bound`` holds instead: the most that
    both numbers together can be off on these samples. ``p_value`` is two-sided, before Holm's
    correction, ``p_adjusted`` after it. ``low`` and ``high`` are the 95 % interval of one row
    alone. ``verdict`` names the network whose number is higher.
    """

    kind: ClassVar[str] = "comparison"

    network: np.ndarray = array("row")
    section: np.ndarray = array("row")
    name: np.ndarray = array("row")
    units: np.ndarray = array("row")
    value: np.ndarray = array("row")
    first_value: np.ndarray = array("row")
    difference: np.ndarray = array("row")
    standard_error: np.ndarray = array("row")
    bound: np.ndarray = array("row")
    low: np.ndarray = array("row")
    high: np.ndarray = array("row")
    p_value: np.ndarray = array("row")
    p_adjusted: np.ndarray = array("row")
    method: np.ndarray = array("row")
    verdict: np.ndarray = array("row")
    first: str = scalar(label="network that the others are compared with")
    tests: int = scalar(label="rows that Holm's correction counts")


@dataclass(frozen=True)
class Difference:
    """One difference: see ``Comparison``."""

    value: float
    method: str
    standard_error: float = math.nan
    bound: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan


def compare_numbers(numbers: Mapping[str, Sequence[Headline]]) -> Comparison:
    """Compare the headlines of networks with those of the first, row by row.

    - **Paired**, where both numbers are means over the same samples or probes: the mean of the
      differences d_i, standard error s_d/√n, Student's t with n − 1 degrees of freedom. Shares of
      the same samples: McNemar's exact test and Bonett and Price's interval (``differences``).
    - **Independent** otherwise: √(s₁² + s₂²), Welch's t with Satterthwaite's degrees of freedom.
    - **Bounds**, of residuals: the difference is real on these samples if it exceeds the sum of
      both; no p-value.

    A verdict needs p below 5 % after Holm's step-down correction (Holm 1979) over all rows of all
    networks that have a p-value: the probability that any of them is wrong is then at most 5 %,
    whatever their dependence. Rows measured in different ways get no verdict.

    When it lies: it tells networks apart, on such samples; it says nothing of the spread between
    trainings by the same method. A bound is one on the samples that were used.
    """
    if len(numbers) < 2:
        raise UsageError("a comparison needs two networks.")
    first, *others = numbers
    base = {(h.section, h.name): h for h in numbers[first]}
    rows: list[tuple[str, Headline, Headline, Difference]] = [
        (network, h, base[h.section, h.name], difference(base[h.section, h.name], h))
        for network in others
        for h in numbers[network]
        if (h.section, h.name) in base
    ]
    if not rows:
        raise UsageError("the networks have no number in common: nothing to compare.")
    record = Record("compare", {}, None, networks=list(numbers), alpha=ALPHA, correction="Holm")
    found = [row[3] for row in rows]
    adjusted = holm([d.p for d in found])

    def column(name: str) -> np.ndarray:
        return np.array([getattr(d, name) for d in found], dtype=float)

    return Comparison(
        provenance=record.finish(),
        network=np.array([row[0] for row in rows]),
        section=np.array([h.section for _, h, *_ in rows]),
        name=np.array([h.name for _, h, *_ in rows]),
        units=np.array([h.units for _, h, *_ in rows]),
        value=np.array([h.value for _, h, *_ in rows]),
        first_value=np.array([b.value for _, _, b, _ in rows]),
        difference=column("value"),
        standard_error=column("standard_error"),
        bound=column("bound"),
        low=column("low"),
        high=column("high"),
        p_value=column("p"),
        p_adjusted=adjusted,
        method=np.array([d.method for d in found]),
        verdict=np.array(
            [_verdict(d, p, first, row[0]) for d, p, row in zip(found, adjusted, rows, strict=True)]
        ),
        first=first,
        tests=int(np.isfinite(adjusted).sum()),
    )


def difference(a: Headline, b: Headline) -> Difference:
    """b − a with its uncertainty, as ``compare_numbers`` has it."""
    value = b.value - a.value
    kinds = {EXACT: BOUND}  # a residual may happen to be zero
    if kinds.get(a.kind, a.kind) != kinds.get(b.kind, b.kind) or a.conditions != b.conditions:
        what = ", ".join(differing(a.conditions, b.conditions)) or "kinds"
        return Difference(value, f"measured differently: {what}")
    if not math.isfinite(value):
        return Difference(value, "not a number")
    same = a.data == b.data
    if not same and a.over != "samples":
        return Difference(value, "measured on other samples")
    if a.kind in (BOUND, EXACT):
        bound = a.error + b.error
        return Difference(value, "bound", bound=bound, low=value - bound, high=value + bound)
    alike = same and (a.over == "samples" or a.probes == b.probes)
    if alike and a.draws is not None and b.draws is not None and len(a.draws) == len(b.draws):
        return _paired_shares(a, b) if a.kind == SHARE else _paired(a.draws, b.draws)
    return _independent(a, b)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values: max over j ≤ i of (m − j + 1) p_(j), at most 1; NaN stays NaN.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, math.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p[order]))
    return adjusted


def _paired(a: Any, b: Any) -> Difference:
    d = np.asarray(b) - np.asarray(a)
    d = d[np.isfinite(d)]
    if len(d) < 2:
        return Difference(float(d.mean()) if len(d) else math.nan, "too few pairs")
    return _student(float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d)), len(d) - 1, "paired")


def _paired_shares(a: Headline, b: Headline) -> Difference:
    assert a.draws is not None
    assert b.draws is not None
    gained = int(((b.draws == 1) & (a.draws == 0)).sum())
    lost = int(((a.draws == 1) & (b.draws == 0)).sum())
    n = len(a.draws)
    value = (gained - lost) / n
    low, high = paired_interval(gained, lost, n)
    p = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    error = math.sqrt(max(0.0, (gained + lost) / n - value**2) / n)
    return Difference(value, "paired, McNemar", error, low=low, high=high, p=p)


def _independent(a: Headline, b: Headline) -> Difference:
    squares = [a.error**2, b.error**2]
    error = math.sqrt(sum(squares))
    value = b.value - a.value
    if not math.isfinite(error) or min(a.n, b.n) < 2:
        return Difference(value, "no standard error")
    spread = sum(s**2 / (n - 1) for s, n in zip(squares, (a.n, b.n), strict=True))
    freedom = sum(squares) ** 2 / spread if spread else math.inf
    return _student(value, error, freedom, "independent")


def _student(value: float, error: float, freedom: float, method: str) -> Difference:
    if error == 0:  # all pairs differ by the same
        return Difference(value, method, 0.0, low=value, high=value, p=float(value == 0))
    half = float(stats.t.ppf(1 - ALPHA / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(value) / error, freedom))
    return Difference(value, method, error, low=value - half, high=value + half, p=p)


def _verdict(d: Difference, adjusted: float, first: str, other: str) -> str:
    higher = f"{other if d.value > 0 else first} higher"
    if not math.isnan(d.bound):
        return higher if abs(d.value) > d.bound else SAME
    if math.isnan(d.p):
        return f"no verdict: {d.method}"
    return higher if adjusted < ALPHA else SAME
