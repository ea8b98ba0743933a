"""Accuracy and loss, clean and under attack."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape import parallel
from landscape.attacks import Attack
from landscape.attacks.autoattack import AutoAttack
from landscape.errors import NumericalError, UsageError
from landscape.functional import Forward
from landscape.objective import Objective
from landscape.provenance import Record
from landscape.results import Result, array, scalar

# Two-sided 95 % normal quantile.
Z = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Evaluation(Result):
    """Accuracy with its 95 % Wilson interval, and mean loss with its standard error, per attack.

    ``worst`` is the accuracy against all of them together: the share of samples that are right
    under every attack and clean; attacks that leave their ball (N-FGSM) don't count. ``stage``
    names the members of AutoAttack, as ``autoattack/apgd-ce``, with the samples that withstood it
    and those before; its loss is NaN, because its points maximise none.
    """

    kind: ClassVar[str] = "evaluation"

    attack: np.ndarray = array("attack")
    accuracy: np.ndarray = array("attack", units="fraction")
    accuracy_low: np.ndarray = array("attack", units="fraction")
    accuracy_high: np.ndarray = array("attack", units="fraction")
    loss: np.ndarray = array("attack", units="nats", label="mean loss")
    loss_standard_error: np.ndarray = array("attack", units="nats")
    correct: np.ndarray = array("attack", "sample")
    sample_loss: np.ndarray | None = array(
        "attack", "sample", units="nats", label="loss of every sample", default=None
    )
    within: np.ndarray = array("attack", label="stays within its ball")
    stage: np.ndarray | None = array("stage", label="members of AutoAttack", default=None)
    stage_correct: np.ndarray | None = array(
        "stage", "sample", label="withstood it and those before", default=None
    )
    worst: float = scalar(units="fraction", label="accuracy against all attacks together")
    worst_low: float = scalar(units="fraction")
    worst_high: float = scalar(units="fraction")
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

    @property
    def asked(self) -> list[str]:
        """The attacks that were asked for; an interrupted evaluation holds the first of them."""
        return list(self.provenance.settings["attacks"])

    def outcome(self, attack: str) -> np.ndarray:
        """Which samples are right under an attack, shape (N,), bool."""
        return np.asarray(self.correct[list(self.attack).index(attack)], dtype=bool)

    def outcome_together(self) -> np.ndarray:
        """Which samples are right under every attack that stays within its ball, (N,), bool."""
        return _together(np.asarray(self.correct, dtype=bool), np.asarray(self.within, dtype=bool))

    def stages(self) -> dict[str, np.ndarray]:
        """The samples that withstood each member of AutoAttack and those before it, by name."""
        if self.stage is None or self.stage_correct is None:
            return {}
        rows = np.asarray(self.stage_correct, dtype=bool)
        return dict(zip(map(str, self.stage), rows, strict=True))


def evaluate(
    objective: Objective,
    attacks: Mapping[str, Attack | AutoAttack | None] | None = None,
    *,
    resume: Evaluation | None = None,
    save: Callable[[Evaluation], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Accuracy and loss of a classifier on clean data and under each attack.

    Args:
        objective: gives model, data, loss and seed; its own attack is not used.
        attacks: by name, ``None`` meaning clean; ``clean`` is always measured first.
        resume: an earlier evaluation with the same settings that was interrupted; its attacks,
            and members of AutoAttack, are not run again.
        save: called with the evaluation so far after every attack and member.
        progress: called as (passes done, passes at most).

    Intervals are Wilson's at 95 % (Wilson 1927). Cost: one forward pass, plus one forward and
    backward pass per attack step, restart and target; AutoAttack up to 13,000 forward passes,
    fewer as samples fall. All the data are held in memory for AutoAttack.

    When it lies: robust accuracy is an upper bound, since a stronger attack may find more; see
    ``masking``. A prediction whose loss is NaN counts as wrong under attack, and is refused on
    clean data. With eps 0 every attack gives the clean accuracy, but for rounding.
    """
    named: dict[str, Attack | AutoAttack | None] = {"clean": None, **(attacks or {})}
    record = Record(
        "evaluate",
        objective.describe(),
        objective.seed,
        attacks={name: a.describe() if a else None for name, a in named.items()},
    )
    if any(isinstance(a, Attack) and a.steps for a in named.values()):
        _check_differentiable(objective)
    beyond = {
        name for name, a in named.items() if isinstance(a, Attack) and a.reach > a.ball.radius
    }
    rows = _Rows(objective, record, beyond, resume)
    total = sum(passes(a, objective) for a in named.values())
    done = 0

    def keep() -> None:
        if save is not None:
            save(rows.result())

    for name, attack in named.items():
        budget = passes(attack, objective)
        if name not in rows.found:
            if isinstance(attack, AutoAttack):

                def spent(passes: float, before: int = done) -> None:
                    if progress is not None:
                        progress(before + int(passes), total)

                rows.add(name, None, _autoattack(objective, attack, name, rows, spent, keep))
            else:
                rows.add(name, *_outcome(objective, attack))
            keep()
        done += budget
        if progress is not None:
            progress(done, total)
    return rows.result()


def passes(attack: Attack | AutoAttack | None, objective: Objective) -> int:
    """At most so many passes over the data, forward or backward."""
    if attack is None:
        return 1
    if isinstance(attack, AutoAttack):
        return sum(attack.members(objective.outputs, _shape(objective)).values())
    targets = max(1, len(getattr(attack, "targets", ())))
    return attack.restarts * targets * (3 * attack.steps + 2)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a proportion.

    >>> [round(bound, 4) for bound in wilson(9, 10)]
    [0.5958, 0.9821]
    """
    p = successes / n
    centre = p + Z**2 / (2 * n)
    half = Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    scale = 1 + Z**2 / n
    low, high = max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
    # Where all or none are successes a bound is p itself, which rounding may step over.
    return min(low, p), max(high, p)


# -- inside ---------------------------------------------------------------------------------------


def _together(correct: np.ndarray, within: np.ndarray) -> np.ndarray:
    together: np.ndarray = correct[within].all(0)
    return together


class _Rows:
    """What has been found so far, and the result it makes."""

    def __init__(
        self, objective: Objective, record: Record, beyond: set[str], resume: Evaluation | None
    ) -> None:
        self._objective, self._record, self._earlier = objective, record, 0.0
        self._beyond = beyond
        # The loss of every sample (NaN under AutoAttack), and who was right.
        self.found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.stages: dict[str, np.ndarray] = {}
        if resume is None:
            return
        record.check_same(resume.provenance)
        self._earlier = resume.provenance.wall_time
        if resume.sample_loss is None:
            raise UsageError(
                "the partial result is of an earlier version and lacks the losses of the samples: "
                "pass --no-resume to start over."
            )
        columns = (resume.attack, resume.sample_loss, resume.correct)
        for name, losses, hits in zip(*columns, strict=True):
            self.found[str(name)] = np.asarray(losses), np.asarray(hits, dtype=bool)
        self.stages = resume.stages()

    def add(self, name: str, losses: Tensor | None, hits: np.ndarray) -> None:
        nothing = np.full(len(hits), math.nan)
        self.found[name] = nothing if losses is None else losses.double().cpu().numpy(), hits

    def result(self) -> Evaluation:
        losses, correct = (np.stack(rows) for rows in zip(*self.found.values(), strict=True))
        n = self._objective.batches.samples
        counts = [int(hits.sum()) for hits in correct]
        bounds = np.array([wilson(right, n) for right in counts])
        within = np.array([name not in self._beyond for name in self.found])
        worst = int(_together(correct, within).sum())
        spread = losses.std(1, ddof=1) if n > 1 else np.full(len(losses), math.inf)
        low, high = wilson(worst, n)
        return Evaluation(
            provenance=self._record.finish(earlier=self._earlier),
            attack=np.array(list(self.found)),
            accuracy=np.array(counts) / n,
            accuracy_low=bounds[:, 0],
            accuracy_high=bounds[:, 1],
            loss=losses.mean(1),
            loss_standard_error=spread / math.sqrt(n),
            correct=correct,
            sample_loss=losses,
            within=within,
            stage=np.array(list(self.stages)) if self.stages else None,
            stage_correct=np.stack(list(self.stages.values())) if self.stages else None,
            worst=worst / n,
            worst_low=low,
            worst_high=high,
            samples=n,
            classes=self._objective.outputs,
        )


def _outcome(objective: Objective, attack: Attack | None) -> tuple[Tensor, np.ndarray]:
    losses, hits = objective.with_attack(attack).shared().per_sample()
    if hits is None:
        raise UsageError("accuracy needs a classifier: outputs (B, C) and integer targets (B,).")
    nothing = losses.isnan()
    if attack is None and bool(nothing.any()):
        raise NumericalError(
            f"the loss of {int(nothing.sum())} of {len(losses)} clean samples is NaN: the model's "
            "outputs there are NaN or infinite."
        )
    # The argmax of NaN logits is an index like any other.
    return losses, (hits & ~nothing).cpu().numpy()


def _autoattack(
    objective: Objective,
    attack: AutoAttack,
    name: str,
    rows: _Rows,
    spent: Callable[[float], None],
    keep: Callable[[], None],
) -> np.ndarray:
    """Which samples withstand all members, each of which goes on from those before it.

    ``spent`` is told of the passes over the data so far, those of this attack alone; ``keep`` is
    called after every member.
    """
    robust = rows.found["clean"][1]
    x, y = (torch.cat([pair[i].cpu() for pair in objective.batches]) for i in (0, 1))
    base = 0
    for member, limit in attack.members(objective.outputs, x.shape[1:]).items():
        key = f"{name}/{member}"
        if key not in rows.stages:
            left = np.flatnonzero(robust)
            # Of a member's calls each is for one batch of the samples that are left.
            share = len(left) / len(x) / max(1, math.ceil(len(left) / attack.batch_size))

            def called(calls: int, base: int = base, end: int = limit, each: float = share) -> None:
                spent(base + min(end, calls * each))

            robust = robust.copy()

            def withstood(
                rows: np.ndarray, member: str = member, called: Callable[[int], None] = called
            ) -> Tensor:
                search = partial(
                    attack.run,
                    member=member,
                    x=x[rows],
                    y=y[rows],
                    classes=objective.outputs,
                    seed=objective.seed,
                    device=objective.device,
                    dtype=objective.dtype,
                    called=called,
                )
                return objective.call(search)[1]

            def collect(rows: np.ndarray, found: Tensor, robust: np.ndarray = robust) -> None:
                robust[rows] = found.numpy()

            # The package begins every batch from the same seed: batches can be divided.
            size = attack.batch_size if parallel.group().size > 1 else max(1, len(left))
            pieces = [left[i : i + size] for i in range(0, len(left), size)]
            parallel.group().spread(pieces, withstood, collect)
            rows.stages[key] = robust
            keep()
        robust = rows.stages[key]
        base += limit
    return robust


def _check_differentiable(objective: Objective) -> None:
    x = next(iter(objective.batches))[0][:1]

    def connected(forward: Forward) -> bool:
        with torch.enable_grad():
            return forward(x.clone().requires_grad_()).requires_grad

    if x.is_floating_point() and not objective.call(connected):
        raise UsageError(
            "the model's outputs have no gradient in its inputs (a cast or .detach() on the way?), "
            "so gradient attacks can't run: AutoAttack can, whose Square needs none."
        )


def _shape(objective: Objective) -> torch.Size:
    return next(iter(objective.batches))[0].shape[1:]
