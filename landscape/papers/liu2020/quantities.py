"""What liu2020 measures and no other paper's figures share: functions of trained networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from landscape.attacks.autoattack import square
from landscape.connectivity import Connectivity, CurvePlan, connect
from landscape.diagnostics import evaluate
from landscape.papers.kinds import Sheet, sheet
from landscape.papers.scale import Scale
from landscape.running.trained import Trained


def held_out_errors(
    run: Trained, *, attacks: Sequence[str], queries: int = 0, which: str = "final"
) -> Sheet:
    """Clean and robust error on the test set, in %; robust is against all attacks together.

    ``queries``: of the Square attack, on the samples that withstand the others; 0 for none.
    """
    objective = run.objective(which)
    found = evaluate(objective, {name: run.attack(name) for name in attacks})
    right = torch.from_numpy(found.outcome_together())
    if queries and right.any():
        x, y = run.data("test").tensors()
        x, y = x[right].to(objective.device), y[right].to(objective.device)
        with torch.no_grad():
            ball = run.attack("pgd-10").ball
            moved = square(objective.model, x, y, ball, queries=queries, seed=objective.seed)
            assert moved is not None  # it is defined for images
            pieces = zip(moved.split(256), y.split(256), strict=True)
            withstood = [objective.model(a).argmax(1) == b for a, b in pieces]
        right[right.clone()] = torch.cat(withstood).cpu()
    clean = float(found.outcome("clean").mean())
    return sheet(
        {
            "clean": [100 * (1 - clean)],
            "robust": [100 * (1 - float(right.double().mean()))],
        },
        ["error"],
        "%",
        provenance=found.provenance,
    )


def connected(
    one: Trained,
    other: Trained,
    *,
    order: int,
    points: int,
    attack: str | None = None,
    n: int | None = None,
) -> Connectivity:
    """A Bezier curve between two networks, trained as they were (the paper doesn't say how)."""
    plan = one.config.plan
    curve_plan = CurvePlan(
        order=order,
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        optimiser=plan.optimiser,
        schedule=plan.schedule,
        seed=plan.seed,
    )
    _, found = connect(
        one.model("final"),
        other.model("final"),
        one.data("train", n),
        one.data("test"),
        plan=curve_plan,
        attack=None if attack is None else one.attack(attack),
        points=points,
    )
    return found


def attack_of(scale: Scale, eps: float, *, mnist: bool) -> str | None:
    """The attack of App. C.1 by name: 10 steps of ε/4, on MNIST ε/0.01 + 10 steps."""
    if eps == 0:
        return None
    if mnist and scale.name in ("mnist", "paper"):
        return f"pgd-{round(eps / 0.01) + 10}"
    return "pgd-10"
