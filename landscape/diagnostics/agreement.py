"""How far the difficulty of the same samples agrees between runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from landscape.diagnostics.difficulties import Difficulty, check_same_data
from landscape.diagnostics.ranks import mean_distance
from landscape.diagnostics.samples import spearman
from landscape.errors import UsageError
from landscape.provenance import Record
from landscape.results import Estimate, Result, array, scalar

# E|u − v| of two independent uniform numbers; liu2022 D.1 prints 0.375.
UNRELATED = 1 / 3


@dataclass(frozen=True, eq=False)
class Agreement(Result):
    """D-distances and rank correlations of every pair of runs, with standard errors."""

    kind: ClassVar[str] = "agreement"

    run: np.ndarray = array("run")
    other: np.ndarray = array("other", label="the other run")
    distance: np.ndarray = array("run", "other", label="D-distance")
    distance_standard_error: np.ndarray = array("run", "other")
    spearman: np.ndarray = array("run", "other", label="Spearman correlation of mean losses")
    spearman_standard_error: np.ndarray = array("run", "other")
    samples: int = scalar()


def difficulty_agreement(runs: Mapping[str, Difficulty]) -> Agreement:
    """``difficulty_distance`` and ``difficulty_correlation`` of every pair (liu2022 Table 4)."""
    if len(runs) < 2:
        raise UsageError(f"agreement is between at least 2 runs, got {len(runs)}.")
    names = list(runs)
    described = {name: runs[name].provenance.to_dict() for name in names}
    record = Record("difficulty_agreement", {}, None, runs=described)
    distances, correlations = (
        [[function(runs[a], runs[b]) for b in names] for a in names]
        for function in (difficulty_distance, difficulty_correlation)
    )
    return Agreement(
        provenance=record.finish(),
        run=np.array(names),
        other=np.array(names),
        distance=_part(distances, "value"),
        distance_standard_error=_part(distances, "standard_error"),
        spearman=_part(correlations, "value"),
        spearman_standard_error=_part(correlations, "standard_error"),
        samples=len(runs[names[0]].labels),
    )


def difficulty_distance(first: Difficulty, second: Difficulty) -> Estimate:
    """D-distance E_x |d₁(x) − d₂(x)| (liu2022 eq. 45), with its standard error.

    0 for the same order, 1/3 for unrelated ones (liu2022 D.1 prints 0.375), 1/2 for opposite
    ones. The standard error is that of drawing the samples: every one counts with its own term
    and with what it adds to the ranks of the others (the influence function), so it holds for
    large N. How far two trainings of one kind are apart is not in it: train more of them.
    """
    _check_pair(first, second)
    return mean_distance(first.difficulty, second.difficulty)


def difficulty_correlation(first: Difficulty, second: Difficulty) -> Estimate:
    """Spearman's ρ of the two runs' mean losses: Pearson's of d₁ and d₂, which are their ranks."""
    _check_pair(first, second)
    return spearman(first.difficulty, second.difficulty)


def _check_pair(first: Difficulty, second: Difficulty) -> None:
    digest = second.provenance.objective.get("data", {}).get("digest")
    check_same_data(first, second.labels, digest)


def _part(table: list[list[Estimate]], name: str) -> np.ndarray:
    return np.array([[getattr(estimate, name) for estimate in row] for row in table])
