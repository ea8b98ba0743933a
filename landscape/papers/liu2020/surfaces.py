"""liu2020 Fig. 12: the adversarial loss along the top two eigenvectors of its Hessian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.figures import Figure, Found
from landscape.papers.liu2020.quantities import attack_of
from landscape.papers.liu2020.setting import (
    DIGITS,
    LENET,
    RESNET,
    SEEDS,
    budgets,
    by_budget,
    label,
    like,
    named,
    radius,
    trained,
)
from landscape.papers.measures import loss_surface
from landscape.papers.scale import Scale
from landscape.plotting.style import PAGE, figure
from landscape.plotting.surface import relief
from landscape.running.work import Work, measure

FAMILIES = (RESNET, LENET)


def _plan(scale: Scale) -> Mapping[str, Work]:
    axis = scale.pick(digits=(-0.5, 0.5, 9), paper=(-0.5, 0.5, 21), smoke=(-0.5, 0.5, 3))
    small = scale.name in ("digits", "smoke")
    plan: dict[str, Work] = {}
    for family in FAMILIES:
        for eps in budgets(scale, family):
            attack = attack_of(scale, eps, mnist=family is LENET)
            for seed in scale.seeds(SEEDS):
                plan[f"{family.key}/{named(eps)}/seed{seed}"] = measure(
                    loss_surface,
                    trained(scale, family, eps, seed),
                    x=axis,
                    y=axis,
                    directions="eigen",
                    which="final",
                    n=scale.pick(digits=100, paper=None, smoke=20),
                    attack="pgd-5" if attack and small else attack,
                )
    return plan


def curvature(surface: Any, axis: str) -> float:
    """Second difference of the loss at the network, along one direction, in nats / weight²."""
    loss, i, j = surface.loss, len(surface.y) // 2, len(surface.x) // 2
    if axis == "x":
        near, h = (loss[i, j - 1], loss[i, j + 1]), surface.x[j + 1] - surface.x[j]
    else:
        near, h = (loss[i - 1, j], loss[i + 1, j]), surface.y[i + 1] - surface.y[i]
    return float((sum(near) - 2 * loss[i, j]) / h**2)


def _sharper(found: Found, axis: str, which: str) -> Verdict:
    verdicts = []
    for family in FAMILIES:
        rows = by_budget(found.under(family.key))
        values = np.array([[curvature(s, axis) for s in some] for some in rows.values()])
        what = f"second difference along the {which} eigenvector with ε, {family.key}"
        verdicts.append(claims.trend([radius(eps) for eps in rows], values.T, what))
    return claims.all_of(verdicts)


def sharper_first(found: Found) -> Verdict:
    return _sharper(found, "x", "first")


def sharper_second(found: Found) -> Verdict:
    return _sharper(found, "y", "second")


def _draw(found: Found) -> Any:
    """The first seed; one scale of height per row."""
    from matplotlib.colors import Normalize

    rows = {f: {e: s[0] for e, s in by_budget(found.under(f.key)).items()} for f in FAMILIES}
    columns = max(len(row) for row in rows.values())
    fig = figure(PAGE, 0.5 if columns > 2 else 0.9)
    for i, (family, row) in enumerate(rows.items()):
        # Linear: on a logarithmic scale the lower of two equal bowls looks the sharper.
        losses = [surface.loss for surface in row.values()]
        norm = Normalize(np.min(losses), np.max(losses))
        for j, (eps, surface) in enumerate(row.items()):
            ax = fig.add_subplot(len(rows), columns, i * columns + j + 1, projection="3d")
            relief(ax, surface, norm)
            ax.set_title(f"{like(found.scale, family)}, {label(eps)}", fontsize=7, pad=-2)
            ax.set_xlabel("$a_1$", labelpad=-9, fontsize=6)
            ax.set_ylabel("$a_2$", labelpad=-9, fontsize=6)
            ax.set_zlabel("loss (nats)" if j == len(row) - 1 else "", labelpad=-8, fontsize=6)
            ax.tick_params(labelsize=5, pad=-4)
            ax.locator_params(axis="both", nbins=3)
    return fig


FIG12 = Figure(
    "liu2020/fig12",
    "The adversarial loss along the top two eigenvectors under several budgets",
    plan=_plan,
    draw=_draw,
    claims=(
        Claim(
            "Along the first eigenvector the curvature grows with the budget.",
            "App. C.2.2, Fig. 12",
            sharper_first,
        ),
        Claim(
            "Along the second eigenvector too.",
            "App. C.2.2, Fig. 12",
            sharper_second,
        ),
    ),
    analogue=f"{DIGITS}; above with SGD, below with Adam. Grids of 9×9 points on 100 training "
    "images, which are attacked anew with 5 steps at every point.",
)
