"""Ranks of samples by a cost, and averages over groups of like rank."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import rankdata

from landscape.errors import DataError
from landscape.results import Estimate


def ranks(cost: np.ndarray) -> np.ndarray:
    """d_i = P(c_i < c_e) + ½·P(c_i = c_e) over the entries e of ``cost``; the cheapest is near 1.

    >>> ranks(np.array([3.0, 1.0, 1.0, 0.5])).tolist()
    [0.125, 0.5, 0.5, 0.875]
    """
    return np.asarray((len(cost) + 0.5 - rankdata(cost)) / len(cost))


def group_of(d: np.ndarray, groups: int) -> np.ndarray:
    """⌊G·d⌋, exactly: 2N·d is a whole number, where G·d would be rounded."""
    n = len(d)
    return np.asarray(np.rint(2 * n * d).astype(np.int64) * groups // (2 * n))


def mean_distance(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Mean of |a_i − b_i| of two ``ranks`` of the same samples, as ``difficulty_distance``."""
    n = len(a)
    value = float(np.abs(a - b).mean())
    if n < 2:
        return Estimate(value, math.inf, n)
    sign = np.sign(a - b)
    influence = np.abs(a - b) + _share_of_ranks(a, sign) - _share_of_ranks(b, sign)
    return Estimate(value, float(influence.std(ddof=1) / math.sqrt(n)), n)


def _share_of_ranks(d: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """(1/N) Σ_j s_j·(1[d_j > d_i] + ½·1[d_j = d_i]): sample i's share of the d_j of others."""
    order = np.argsort(d, kind="stable")
    above = np.r_[np.cumsum(sign[order][::-1])[::-1], 0.0]  # of the entries from each place on
    ordered = d[order]
    low, high = (above[np.searchsorted(ordered, d, side=s)] for s in ("left", "right"))
    return np.asarray((low + high) / (2 * len(d)))


def mean_over_epochs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (N,) of the finite entries of every column, and their number."""
    present = ~np.isnan(values)
    seen = present.sum(0)
    if not seen.all():
        raise DataError(
            f"{int((seen == 0).sum())} of {len(seen)} samples were never seen in the "
            f"{len(values)} epoch(s) recorded: train for longer."
        )
    return np.where(present, values, 0).sum(0) / seen, seen


def group_means(values: np.ndarray, index: np.ndarray, groups: int) -> tuple[np.ndarray, ...]:
    """Mean and its standard error, (epochs, groups) each, over the samples seen."""
    mean, error = (np.full((len(values), groups), math.nan) for _ in range(2))
    for g in range(groups):
        for e, row in enumerate(values[:, index == g]):
            there = row[~np.isnan(row)]
            if len(there):
                mean[e, g] = there.mean()
            if len(there) > 1:
                error[e, g] = there.std(ddof=1) / math.sqrt(len(there))
    return mean, error
