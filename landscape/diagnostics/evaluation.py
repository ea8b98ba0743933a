"""Accuracy and loss, clean and under attack."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape.attacks import Attack
from landscape.errors import UsageError
from landscape.objective import Objective
from landscape.provenance import Record
from landscape.results import Result, array, scalar

# Two-sided 95 % normal quantile.
_Z = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Evaluation(Result):
    """Accuracy with its 95 % Wilson interval, and mean loss with its standard error, per attack."""

    kind: ClassVar[str] = "evaluation"

    attack: np.ndarray = array("attack")
    accuracy: np.ndarray = array("attack", units="fraction")
    accuracy_low: np.ndarray = array("attack", units="fraction")
    accuracy_high: np.ndarray = array("attack", units="fraction")
    loss: np.ndarray = array("attack", units="nats", label="mean loss")
    loss_standard_error: np.ndarray = array("attack", units="nats")
    correct: np.ndarray = array("attack", "sample")
    samples: int = scalar()
    classes: int = scalar()

    def plot(self, ax: Any = None) -> Any:
        from landscape.plotting.tables import draw_accuracies

        return draw_accuracies([self], ax=ax)

    @property
    def near_chance(self) -> bool:
        """Whether clean accuracy can't be told from guessing (weights or normalisation wrong?)."""
        clean = np.flatnonzero(self.attack == "clean")
        return bool(len(clean)) and bool(self.accuracy_low[clean[0]] <= 1.5 / self.classes)


def evaluate(
    objective: Objective,
    attacks: Mapping[str, Attack | None] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Accuracy and loss of a classifier on clean data and under each attack.

    Args:
        objective: gives model, data, loss and seed; its own attack is not used.
        attacks: by name, ``None`` meaning clean; ``clean`` is always measured first.
        progress: called as (attacks done, attacks).

    Intervals are Wilson's at 95 % (Wilson 1927). Cost: one forward pass, plus one forward and
    backward pass per attack step and restart. When it lies: robust accuracy is an upper bound,
    since a stronger attack may find more.
    """
    named: dict[str, Attack | None] = {"clean": None, **(attacks or {})}
    record = Record(
        "evaluate",
        objective.describe(),
        objective.seed,
        attacks={name: a.describe() if a else None for name, a in named.items()},
    )
    rows: list[dict[str, Any]] = []
    correct = []
    for done, attack in enumerate(named.values()):
        losses, hits = objective.with_attack(attack).per_sample()
        if hits is None:
            raise UsageError(
                "accuracy needs a classifier: outputs (B, C) and integer targets (B,)."
            )
        n, right = len(hits), int(hits.sum())
        low, high = wilson(right, n)
        rows.append(
            {
                "accuracy": right / n,
                "accuracy_low": low,
                "accuracy_high": high,
                "loss": float(losses.double().mean()),
                "loss_standard_error": float(losses.double().std()) / math.sqrt(n)
                if n > 1
                else math.inf,
            }
        )
        correct.append(hits.cpu().numpy())
        if progress is not None:
            progress(done + 1, len(named))
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    return Evaluation(
        provenance=record.finish(),
        attack=np.array(list(named)),
        correct=np.stack(correct),
        samples=objective.batches.samples,
        classes=objective.outputs,
        **columns,
    )


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a proportion.

    >>> [round(bound, 4) for bound in wilson(9, 10)]
    [0.5958, 0.9821]
    """
    p = successes / n
    centre = p + _Z**2 / (2 * n)
    half = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
