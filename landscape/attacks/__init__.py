"""Attacks: a ball of allowed perturbations and a way to search it.

``ATTACKS`` is the table of named attacks; ``attack("pgd-20", eps=8 / 255)`` makes one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from landscape.attacks.ball import NORMS, Ball
from landscape.attacks.family import KEEPS, MODES, STARTS, STEP_RULES, Attack
from landscape.attacks.objectives import OBJECTIVES
from landscape.errors import UsageError, unknown

__all__ = [
    "ATTACKS",
    "KEEPS",
    "MODES",
    "NORMS",
    "OBJECTIVES",
    "STARTS",
    "STEP_RULES",
    "Attack",
    "Ball",
    "attack",
]


@dataclasses.dataclass(frozen=True)
class AttackEntry:
    """One row of the table: the fields of the attack as a function of ε and the step count.

    ``steps``: when the name has none; ``single``: the number of steps is part of the method.
    """

    fields: Callable[[float, int], dict[str, Any]]
    steps: int
    description: str
    single: bool = False


def _apgd(objective: str, targets: int = 0) -> Callable[[float, int], dict[str, Any]]:
    """Auto-PGD as its authors run it: the first step is the ball's diameter."""
    return lambda eps, steps: {
        "step_size": 2 * eps,
        "step_rule": "auto",
        "objective": objective,
        "targets": tuple(range(1, targets + 1)),
        "keep": "success",
    }


ATTACKS: dict[str, AttackEntry] = {
    "fgsm": AttackEntry(
        lambda eps, steps: {"step_size": eps, "start": "zero"},
        1,
        "one step of ε from the clean input (Goodfellow et al. 2015)",
        single=True,
    ),
    "fgsm-r": AttackEntry(
        lambda eps, steps: {"step_size": 1.25 * eps, "start": "uniform"},
        1,
        "one step of 1.25 ε from a uniform start (Wong et al. 2020)",
        single=True,
    ),
    "n-fgsm": AttackEntry(
        lambda eps, steps: {"step_size": eps, "start_scale": 2.0, "project": False},
        1,
        "one step of ε from noise in 2 ε, not projected: reaches 3 ε (de Jorge et al. 2022)",
        single=True,
    ),
    "mi-fgsm": AttackEntry(
        lambda eps, steps: {"step_size": eps / max(steps, 1), "start": "zero", "decay": 1.0},
        10,
        "k steps of ε/k along the sum of normalised gradients (Dong et al. 2018)",
    ),
    "pgd": AttackEntry(
        # ε/4 as in liu2020, liu2022 and li2023; long runs of fewer than 10 steps take larger ones.
        lambda eps, steps: {"step_size": eps / 4 if steps >= 10 else 2.5 * eps / max(steps, 1)},
        10,
        "k projected steps from a uniform start (Madry et al. 2018), as pgd-20 or pgd-50x5",
    ),
    "apgd-ce": AttackEntry(
        _apgd("cross-entropy"), 100, "k steps of adapted length (Croce & Hein 2020)"
    ),
    "apgd-dlr": AttackEntry(
        _apgd("dlr"), 100, "the same on the difference of logits ratio; needs 3 classes"
    ),
    "apgd-t": AttackEntry(
        _apgd("dlr", 9), 100, "the same towards each of the 9 likeliest other classes; needs 4"
    ),
}

_NAME = re.compile(r"(?P<base>.*?)(?:-(?P<steps>\d+)(?:x(?P<restarts>\d+))?)?")


def attack(name: str, *, eps: float, norm: str = "linf", **overrides: Any) -> Attack:
    """An attack by name: ``fgsm``, ``pgd-K``, ``apgd-ce-KxR`` with K steps and R restarts.

    Args:
        name: a row of ``ATTACKS``, with the number of steps and restarts as its suffix.
        eps: radius, for inputs in [0, 1]. norm: ``linf`` or ``l2``.
        overrides: fields of ``Attack``; ``None`` keeps the table's value.

    >>> attack("pgd-20", eps=8 / 255).steps
    20
    """
    match = _NAME.fullmatch(name)
    base = match["base"] if match else name
    if base not in ATTACKS:
        raise unknown("attack", base, ATTACKS)
    entry = ATTACKS[base]
    overrides = {key: value for key, value in overrides.items() if value is not None}
    names = {field.name for field in dataclasses.fields(Attack)} - {"ball"}
    for key in overrides:
        if key not in names:
            raise unknown("attack option", key, names)
    if match and match["steps"] and entry.single:
        raise UsageError(f"'{name}': {base} has one step; write 'pgd-{match['steps']}' for more.")
    steps = int(match["steps"]) if match and match["steps"] else entry.steps
    steps = overrides.pop("steps", steps)
    restarts = int(match["restarts"]) if match and match["restarts"] else 1
    fields: dict[str, Any] = {"steps": steps, "restarts": restarts, **entry.fields(eps, steps)}
    return Attack(ball=Ball(norm, eps), **{**fields, **overrides})
