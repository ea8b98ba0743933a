"""Differences of accuracy between networks that were evaluated on the same samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import binomtest

from landscape.diagnostics.evaluation import Evaluation, Z
from landscape.errors import UsageError
from landscape.provenance import Record
from landscape.results import Result, array, scalar

WORST = "worst of all"


@dataclass(frozen=True, eq=False)
class Differences(Result):
    """Accuracy of every network minus that of the first, per attack, with a 95 % interval.

    ``gained`` counts the samples that this network alone gets right, ``lost`` those that the first
    alone does. ``p_value`` is McNemar's, exact and two-sided.
    """

    kind: ClassVar[str] = "differences"

    network: np.ndarray = array("network")
    attack: np.ndarray = array("attack")
    difference: np.ndarray = array("network", "attack", units="fraction")
    low: np.ndarray = array("network", "attack", units="fraction")
    high: np.ndarray = array("network", "attack", units="fraction")
    gained: np.ndarray = array("network", "attack", label="right here, wrong in the first")
    lost: np.ndarray = array("network", "attack", label="wrong here, right in the first")
    p_value: np.ndarray = array("network", "attack", label="McNemar's exact p")
    first: str = scalar(label="network that the others are compared with")
    samples: int = scalar()


def differences(evaluations: Mapping[str, Evaluation]) -> Differences:
    """Paired differences of accuracy with the first of the evaluations, per attack they all have.

    The last attack, ``worst of all``, counts a sample as right if it is so under every attack of
    its evaluation. With b samples gained and c lost of n, the interval is that of Bonett & Price
    (2012) for paired proportions, p₁ − p₂ ± z √((p₁ + p₂ − (p₁ − p₂)²) / (n + 2)) with
    p₁ = (b + 1) / (n + 2) and p₂ = (c + 1) / (n + 2), and p is McNemar's exact test, a binomial
    of b among b + c. Both use that the samples are the same; intervals of each network alone
    would be too wide for this. When it lies: it tells two *networks* apart, on such samples, and
    says nothing of the spread between trainings of the same method; and the more pairs are
    tested, the more of them differ by chance.
    """
    if len(evaluations) < 2:
        raise UsageError("a difference needs two evaluations.")
    names = list(evaluations)
    first = evaluations[names[0]]
    data = {name: e.provenance.objective["data"]["digest"] for name, e in evaluations.items()}
    odd = [name for name in names if data[name] != data[names[0]]]
    if odd:
        raise UsageError(
            f"{odd[0]} was evaluated on other samples than {names[0]}: paired differences need "
            "the same data, split and number of examples."
        )
    attacks = [str(a) for a in first.attack if all(a in e.attack for e in evaluations.values())]
    for name, e in evaluations.items():
        for attack in attacks:
            if (
                e.provenance.settings["attacks"][attack]
                != first.provenance.settings["attacks"][attack]
            ):
                raise UsageError(
                    f"{attack} has other settings for {name} than for {names[0]}: attack all "
                    "networks in the same ball, for example with --eps 8/255."
                )
    record = Record(
        "differences",
        first.provenance.objective,
        first.provenance.seed,
        evaluations={name: e.provenance.to_dict() for name, e in evaluations.items()},
    )
    cells = np.array(
        [
            [_compare(_right(first, a), _right(evaluations[name], a)) for a in (*attacks, WORST)]
            for name in names[1:]
        ]
    )
    return Differences(
        provenance=record.finish(),
        network=np.array(names[1:]),
        attack=np.array([*attacks, WORST]),
        difference=cells[..., 0],
        low=cells[..., 1],
        high=cells[..., 2],
        gained=cells[..., 3].astype(np.int64),
        lost=cells[..., 4].astype(np.int64),
        p_value=cells[..., 5],
        first=names[0],
        samples=first.samples,
    )


def paired_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """Bonett and Price's 95 % interval for the difference of two paired proportions.

    >>> [round(bound, 4) for bound in paired_interval(0, 0, 98)]
    [-0.0277, 0.0277]
    """
    p, q = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return max(-1.0, p - q - half), min(1.0, p - q + half)


def _right(evaluation: Evaluation, attack: str) -> np.ndarray:
    if attack == WORST:
        return evaluation.outcome_together()
    return evaluation.outcome(attack)


def _compare(first: np.ndarray, other: np.ndarray) -> list[float]:
    gained, lost = int((other & ~first).sum()), int((first & ~other).sum())
    p = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    return [
        (gained - lost) / len(first),
        *paired_interval(gained, lost, len(first)),
        gained,
        lost,
        p,
    ]
