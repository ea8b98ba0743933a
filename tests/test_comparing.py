"""Differences of headline numbers against independent statistics, and the planner of a report."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from landscape.errors import UsageError
from landscape.reporting.comparing import SAME, compare_numbers, difference, holm
from landscape.reporting.costs import Line, Pace, Work
from landscape.reporting.headlines import BOUND, EXACT, MEAN, SHARE, Headline
from landscape.reporting.planning import RESERVE, duration, fitting, plan

RNG = np.random.default_rng(0)
HOW = json.dumps({"settings": {"top": 5}, "attack": None})


def number(draws=None, *, name="a", value=0.0, error=0.0, kind=MEAN, data="d", **fields):
    if draws is not None:
        there = np.asarray(draws, dtype=float)
        there = there[np.isfinite(there)]
        value, error = float(there.mean()), float(there.std(ddof=1)) / math.sqrt(len(there))
        fields = {"n": len(there), "over": "samples", "draws": np.asarray(draws, float), **fields}
    return Headline("s", name, value, kind, error, data=data, conditions=HOW, **fields)


def closed_testing(p: list[float], alpha: float) -> list[bool]:
    """Holm's procedure by its definition: every intersection hypothesis by Bonferroni."""
    everyone = range(len(p))
    subsets = [s for k in range(1, len(p) + 1) for s in itertools.combinations(everyone, k)]
    rejected = {s: min(p[i] for i in s) <= alpha / len(s) for s in subsets}
    return [all(rejected[s] for s in subsets if i in s) for i in everyone]


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_closed_testing(seed):
    p = list(np.random.default_rng(seed).uniform(size=6) ** 4)
    for alpha in (0.01, 0.05, 0.3):
        assert list(holm(p) <= alpha) == closed_testing(p, alpha)


def test_holm_leaves_out_what_has_no_p_value():
    assert_allclose(holm([0.01, math.nan, 0.04]), [0.02, math.nan, 0.04])
    assert len(holm([])) == 0


def test_paired_means():
    a = RNG.normal(size=50)
    b = a + 0.2 + 0.1 * RNG.normal(size=50)
    found, oracle = difference(number(a), number(b)), stats.ttest_rel(b, a)
    assert found.method == "paired"
    assert_allclose(found.p, oracle.pvalue, rtol=1e-9)
    assert_allclose((found.low, found.high), oracle.confidence_interval(0.95), rtol=1e-9)
    assert_allclose(found.value / found.standard_error, oracle.statistic, rtol=1e-9)


def test_a_sample_that_one_network_has_no_value_for_is_left_out_of_both():
    a, b = RNG.normal(size=(2, 30))
    a[3] = b[7] = math.nan
    there = np.isfinite(a) & np.isfinite(b)
    found = difference(number(a), number(b))
    assert_allclose(found.p, stats.ttest_rel(b[there], a[there]).pvalue, rtol=1e-9)
    assert_allclose(found.value, (b - a)[there].mean())


@pytest.mark.parametrize("change", [{"data": "other"}, {"draws": None}])
def test_independent_means(change):
    a, b = RNG.normal(size=40), 0.3 + 2 * RNG.normal(size=25)
    other = dataclasses.replace(number(b), **change)
    found, oracle = difference(number(a), other), stats.ttest_ind(b, a, equal_var=False)
    assert found.method == "independent"
    assert_allclose(found.p, oracle.pvalue, rtol=1e-9)
    assert_allclose((found.low, found.high), oracle.confidence_interval(0.95), rtol=1e-9)


def test_probes_are_paired_if_they_are_the_same_vectors():
    a, b = RNG.normal(size=(2, 30))
    first = number(a, over="probes", probes="seed 0, 10 parameters")
    same = number(b, over="probes", probes="seed 0, 10 parameters")
    assert difference(first, same).method == "paired"
    assert difference(first, dataclasses.replace(same, probes="seed 1")).method == "independent"
    assert difference(first, dataclasses.replace(same, data="x")).method == (
        "measured on other samples"  # the standard error knows of the probes alone
    )


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p: twice the smaller tail of Bin(gained + lost, 1/2)."""
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (3, 9), (7, 7)])
def test_paired_shares(gained, lost):
    a, b = np.zeros(60), np.zeros(60)
    a[:20] = b[:20] = 1
    b[20 : 20 + gained] = 1
    a[40 : 40 + lost] = 1
    found = difference(number(a, kind=SHARE), number(b, kind=SHARE))
    assert_allclose(found.p, mcnemar(gained, lost))
    assert_allclose(found.value, (gained - lost) / 60)
    # The population form of the paired standard error.
    assert_allclose(found.standard_error, (b - a).std() / math.sqrt(60), atol=1e-15)
    assert found.low <= found.value <= found.high


def test_residuals_are_bounds():
    first = number(value=1.0, error=0.1, kind=BOUND)
    apart = difference(first, number(value=1.25, error=0.1, kind=BOUND))
    assert_allclose((apart.bound, apart.low, apart.high), (0.2, 0.05, 0.45))
    found = compare_numbers(
        {
            "A": [first],
            "B": [number(value=1.25, error=0.1, kind=BOUND)],
            "C": [number(value=1.15, error=0.1, kind=BOUND)],
            "D": [number(value=0.5, error=0.0, kind=EXACT)],
            "E": [number(value=0.5, kind=BOUND, error=0.1, data="other")],
        }
    )
    assert list(found.verdict) == [
        "B higher",
        SAME,
        "A higher",
        "no verdict: measured on other samples",
    ]
    assert found.tests == 0
    assert np.isnan(found.p_adjusted).all()


def test_numbers_measured_differently_get_no_verdict():
    other = json.dumps({"settings": {"top": 7}, "attack": {"eps": 0.1}})
    a, b = RNG.normal(size=(2, 30))
    found = difference(number(a), dataclasses.replace(number(b), conditions=other))
    assert found.method == "measured differently: attack, top"
    assert math.isnan(found.p)
    assert difference(number(a), number(b, kind=SHARE)).method.startswith("measured differently")


def test_the_correction_counts_every_row_of_every_network():
    a = RNG.normal(size=40)
    shift = 0.05 + 0.14 * RNG.normal(size=40)  # p alone between 1 and 5 %
    rows = {"A": [number(a, name=f"row {k}") for k in range(3)]}
    for network in "BC":
        rows[network] = [
            number(a + (shift if k == 0 and network == "B" else RNG.permutation(shift) - 0.05),
                   name=f"row {k}")
            for k in range(3)
        ]  # fmt: skip
    found = compare_numbers(rows)
    assert found.tests == 6
    assert_allclose(found.p_adjusted, holm(list(found.p_value)))
    assert list(found.first_value) == [h.value for h in rows["A"]] * 2
    alone = compare_numbers({n: h[:1] for n, h in rows.items() if n != "C"})
    assert (alone.p_value[0] < 0.05) == (alone.verdict[0] == "B higher")


def test_equal_networks_are_seldom_told_apart():
    """The probability of any wrong verdict among five rows is at most 5 %."""
    rng, wrong, runs = np.random.default_rng(1), 0, 300
    for _ in range(runs):
        sets = {n: [number(rng.normal(size=12), name=str(k)) for k in range(5)] for n in ("A", "B")}
        wrong += any(v != SAME for v in compare_numbers(sets).verdict)
    assert wrong / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert wrong > 0


def test_refusals():
    with pytest.raises(UsageError, match="a comparison needs two networks"):
        compare_numbers({"A": []})
    with pytest.raises(UsageError, match="the networks have no number in common"):
        compare_numbers({"A": [number([1.0, 2.0])], "B": []})


# -- the plan -------------------------------------------------------------------------------------


def test_a_plan_by_hand():
    costs = {"a": [1.0, 4.0, 50.0], "b": [20.0], "c": [2.0, 3.0], "d": [math.inf]}
    found = plan(costs, 10.0)  # 9 are free: a 1, c 2, then a + 3, c + 1
    assert [(c.section, c.level, c.seconds) for c in found] == [
        ("a", 1, 4.0),
        ("b", None, 0.0),
        ("c", 1, 3.0),
        ("d", None, 0.0),
    ]
    assert found[1].reason == "would take 20 s at least, too long for a budget of 10 s"


@pytest.mark.parametrize("seed", range(30))
def test_a_plan_keeps_to_its_rules(seed):
    rng = np.random.default_rng(seed)
    costs = {str(k): list(np.cumsum(rng.exponential(size=rng.integers(1, 5)))) for k in range(8)}
    budget = float(rng.uniform(0.5, 25))
    found = plan(costs, budget)
    left = (1 - RESERVE) * budget - sum(c.seconds for c in found)
    assert left >= -1e-9
    before = (1 - RESERVE) * budget
    for choice in found:
        seconds = costs[choice.section]
        if choice.level is None:  # it did not fit when its turn came
            assert seconds[0] > before
        else:
            before -= seconds[0]
            assert choice.seconds == seconds[choice.level]
            if choice.level + 1 < len(seconds):  # nothing more would fit
                assert seconds[choice.level + 1] - seconds[choice.level] > left
    assert plan(costs, budget) == found


def test_what_fits_when_time_has_passed():
    assert fitting([1, 5, 9], 2, 20) == 2
    assert fitting([1, 5, 9], 1, 20) == 1
    assert fitting([1, 5, 9], 2, 6) == 1
    assert fitting([1, 5, 9], 2, 0.5) is None


def test_seconds_of_work_by_hand():
    pace = Pace(Line(1, 0.1), Line(0, 0.2), Line(0, 0.3), None, batch=10, outputs=2,
                parameters=5, input_size=4, why="no")  # fmt: skip
    # 25 samples are 3 batches: 3·1 + 25·0.1 = 5.5 s a forward pass.
    assert_allclose(pace.seconds(Work(forward=2, step=4, seconds=1), 25), 1 + 11 + 4 * 7.5)
    assert pace.seconds(Work(product=1), 25) == math.inf
    assert_allclose(pace.seconds(Work(gradient=1, seconds=0) + Work(seconds=0), 25), 5)
    assert duration(pace.seconds(Work(product=1), 1)) == "for ever"
