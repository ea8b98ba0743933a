"""Signs of gradient masking: robustness that is the attack's failure, not the network's merit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from scipy.stats import beta

from landscape.attacks import Attack
from landscape.diagnostics.evaluation import Evaluation
from landscape.diagnostics.masking_probes import MORE, examine, probed
from landscape.errors import UsageError
from landscape.objective import Objective
from landscape.provenance import Record
from landscape.results import Result, array, scalar

# Every check counts k of n samples and is suspicious where k / n is above its tolerance with this
# confidence: one-sided, so that a network without masking is accused once in a hundred checks at
# most, and by no check that has too few samples to tell.
CONFIDENCE = 0.99


@dataclass(frozen=True)
class Check:
    """What is counted, of which samples, and up to what share it's no sign of masking."""

    tolerance: float
    counted: str
    among: str


# Tolerances are above what networks without masking show (see tests) and below what masked ones do.
CHECKS: dict[str, Check] = {
    "zero gradient": Check(
        0.05,
        "have a gradient that is zero, not finite, or too small to move the loss",
        "samples that withstand the attack",
    ),
    "black box": Check(
        0.02, "are broken by random search (Square)", "samples that withstand the attack"
    ),
    "other loss": Check(
        0.15, "are broken on the margin of the logits instead", "samples that withstand the attack"
    ),
    "one step": Check(
        0.5, "are broken by one step alone", "samples that one or many steps break alone"
    ),
    "more steps": Check(
        0.1, f"are broken by {MORE} times the steps", "samples that withstand the attack"
    ),
    "more starts": Check(
        0.15, f"are broken by {MORE} times the starts", "samples that withstand the attack"
    ),
    "steps raise loss": Check(
        0.1, f"have a lower loss after {MORE} times the steps", "samples that withstand the attack"
    ),
    "radius raises loss": Check(
        0.1, "have a lower loss in twice the ball", "samples that withstand the attack"
    ),
    "whole box": Check(
        math.nan, "withstand a radius that reaches every input", "samples right without an attack"
    ),
    "Square in AutoAttack": Check(
        0.02, "are broken by Square", "samples that AutoAttack's gradients leave"
    ),
    "AutoAttack": Check(
        0.15, "are broken by AutoAttack", "samples that withstand the strongest other attack"
    ),
    "one step in the table": Check(
        0.5, "are broken by one step alone", "samples that one or many steps break alone"
    ),
}


@dataclass(frozen=True, eq=False)
class Masking(Result):
    """For every check ``found`` of ``among`` samples speak for masking; NaN bound: none to ask.

    ``bound`` is the lower 99 % confidence bound (Clopper–Pearson, one-sided) of that share, and
    the verdict ``suspicious`` where it exceeds ``tolerance``, ``too few samples`` where it could
    not if all of them spoke for masking.
    """

    kind: ClassVar[str] = "masking"

    check: np.ndarray = array("check")
    found: np.ndarray = array("check", label="samples that speak for masking")
    among: np.ndarray = array("check", label="samples that were asked")
    bound: np.ndarray = array("check", label="lower 99 % bound of the share")
    tolerance: np.ndarray = array("check", label="share that is tolerated")
    verdict: np.ndarray = array("check")
    samples: int = scalar(label="samples examined")
    right: int = scalar(label="of these right without an attack")
    withstood: int = scalar(label="of these right under the attack")

    @property
    def suspicious(self) -> bool:
        """Whether any check is."""
        return bool((self.verdict == "suspicious").any())

    def plot(self, ax: Any = None) -> Any:
        from landscape.plotting.masking import draw

        return draw(self, ax=ax)

    def warnings(self) -> list[str]:
        """A sentence for every check that is suspicious, with its numbers."""
        said = []
        for i in np.flatnonzero(self.verdict == "suspicious"):
            check = CHECKS[str(self.check[i])]
            said.append(
                f"{self.check[i]}: {self.found[i]} of {self.among[i]} {check.among} "
                f"{check.counted}; at least {100 * self.bound[i]:.1f} % with 99 % confidence, "
                f"{100 * self.tolerance[i]:.0f} % is tolerated"
            )
        return said


def masking(
    objective: Objective,
    attack: Attack,
    *,
    table: Evaluation | None = None,
    examples: int = 256,
    queries: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> Masking:
    """Checks of whether a gradient attack fails for reasons other than robustness.

    A gradient attack can fail because gradients are zero, shattered or misleading; then a weaker
    attack does better, or an easier one no better (Athalye et al. 2018 §3.1, Carlini et al. 2019
    §4). On the first ``examples`` samples, as many of every class as there are, with the attack at
    its ε:

    - zero gradient: where the attack ended, ε‖∇_x ℓ‖_* (dual norm: the first-order rise of the
      loss over the ball) is below the rounding of 1, or isn't finite;
    - black box: the Square attack breaks samples that withstood;
    - other loss: the same attack on the margin of the logits breaks them;
    - one step: FGSM breaks samples that the attack doesn't, more than the other way round;
    - more steps, more starts: five times as many break them, so the attack had not converged;
    - steps raise loss, radius raises loss: the loss of those falls by a tenth with five times the
      steps, or in twice the ball, which holds the ball;
    - whole box: with a radius that reaches all of [0, 1]^d accuracy stays above chance, taken as
      the largest class's share.

    Args:
        objective: gives model, data, loss and seed; its own attack is not used.
        attack: of several steps, as ``pgd-20``. table: an evaluation of the same model, which adds
            checks at no cost: what Square found within AutoAttack, what AutoAttack found beyond
            the strongest other attack, and whether one step beats many.
        examples: at most so many samples. queries: of Square. progress: (checks done, checks).

    Cost: 7 attacks and one step on those samples, and on those that withstood 7 attacks more and
    ``queries`` forward passes.

    When it lies: passing proves nothing. Masking that all these attacks share goes unseen, and
    with few samples so does what is rare: 10 of 200 is the least that the black box accuses. An
    attack with too few steps is suspicious without any masking.
    """
    if not isinstance(attack, Attack) or attack.steps < 2:
        raise UsageError(
            "masking examines an attack of several gradient steps, for example "
            "landscape.attack('pgd-20', eps=8/255)."
        )
    if examples < 1 or queries < 1:
        raise UsageError(f"examples and queries must be at least 1, got {examples}, {queries}.")
    record = Record(
        "masking",
        objective.describe(),
        objective.seed,
        attack=attack.describe(),
        table=table.provenance.settings if table else None,
        examples=examples,
        queries=queries,
    )
    # Not within the call: the network's parameters are not in place there.
    loss = next(objective.with_attack(None).terms()).loss
    findings = objective.call(
        lambda forward: examine(
            probed(objective, examples, forward, loss), attack, queries, progress
        )
    )
    counts = {
        name: (int(hit.sum()), len(hit)) if hit is not None else (0, 0)
        for name, hit in findings.hits.items()
    }
    if table is not None:
        counts |= {name: (int(hit.sum()), len(hit)) for name, hit in _in_table(table).items()}
    chance = max(findings.chance, 1 / objective.outputs)
    tolerances = [chance if name == "whole box" else CHECKS[name].tolerance for name in counts]
    bounds = [_bound(k, n) for k, n in counts.values()]
    return Masking(
        provenance=record.finish(),
        check=np.array(list(counts)),
        found=np.array([k for k, _ in counts.values()]),
        among=np.array([n for _, n in counts.values()]),
        bound=np.array(bounds),
        tolerance=np.array(tolerances),
        verdict=np.array(
            [_verdict(*c, t) for c, t in zip(counts.values(), tolerances, strict=True)]
        ),
        samples=findings.samples,
        right=findings.right,
        withstood=findings.withstood,
    )


# -- inside ---------------------------------------------------------------------------------------


def _in_table(table: Evaluation) -> dict[str, np.ndarray]:
    """The checks that an evaluation's outcomes hold."""
    settings = table.provenance.settings["attacks"]
    steps = {str(a): (settings[a] or {}).get("steps", 0) for a in table.attack}
    accuracy = {str(a): table.outcome(str(a)).sum() for a in table.attack}
    # Attacks that leave the ball (N-FGSM) are no match for those that stay inside.
    inside = [a for a in steps if (settings[a] or {}).get("project", True) and steps[a]]
    inside.sort(key=lambda a: accuracy[a])
    single, many = ([a for a in inside if (steps[a] == 1) is one] for one in (True, False))
    hits: dict[str, np.ndarray] = {}
    if single and many:
        one, more = table.outcome(single[0]), table.outcome(many[0])
        hits["one step in the table"] = ~one[one != more]
    for (_, before), (name, after) in pairwise(table.stages().items()):
        if name.endswith("/square") and "Square in AutoAttack" not in hits:
            hits["Square in AutoAttack"] = ~after[before]
    ensembles = [str(a) for a in table.attack if (settings[a] or {}).get("autoattack")]
    if ensembles and inside:
        hits["AutoAttack"] = ~table.outcome(ensembles[0])[table.outcome(inside[0])]
    return hits


def _bound(k: int, n: int) -> float:
    """Clopper–Pearson's lower confidence bound of a share, one-sided; NaN of nothing."""
    if n == 0:
        return math.nan
    return float(beta.ppf(1 - CONFIDENCE, k, n - k + 1)) if k else 0.0


def _verdict(k: int, n: int, tolerance: float) -> str:
    if n == 0:
        return "not applicable"
    if _bound(n, n) <= tolerance:
        return "too few samples"
    return "suspicious" if _bound(k, n) > tolerance else "passed"
