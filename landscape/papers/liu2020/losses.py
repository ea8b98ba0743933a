"""liu2020 Fig. 11: learning curves of the training loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import panels
from landscape.papers.figures import Figure, Found
from landscape.papers.liu2020.bands import banded
from landscape.papers.liu2020.setting import (
    DIGITS,
    LENET,
    RESNET,
    SEEDS,
    by_budget,
    label,
    like,
    per_budget,
    radius,
)
from landscape.papers.scale import Scale
from landscape.plotting.style import COLOURS
from landscape.running.work import Work

FAMILIES = (RESNET, LENET)
SIMILAR = 1.5  # largest over smallest of what is of "similar magnitude"


def _plan(scale: Scale) -> Mapping[str, Work]:
    return {
        f"{family.key}/{name}": run
        for family in FAMILIES
        for name, run in per_budget(scale, family, scale.seeds(SEEDS)).items()
    }


def _curves(found: Found, family: str) -> dict[str, np.ndarray]:
    """By budget (seed, epoch)."""
    runs = by_budget(found.under(family))
    return {eps: np.stack([run.history.train_loss for run in some]) for eps, some in runs.items()}


def similar(found: Found) -> Verdict:
    """Highest loss of a training, the ratio over budgets."""
    verdicts = []
    for family in FAMILIES:
        tops = np.array([v.max(1) for v in _curves(found, family.key).values()])
        ratio = tops.max(0) / tops.min(0)
        what = f"{SIMILAR:g} minus the ratio of the highest losses over budgets, {family.key}"
        verdicts.append(claims.positive(SIMILAR - ratio, what))
    return claims.all_of(verdicts)


def narrower(found: Found) -> Verdict:
    verdicts = []
    for family in FAMILIES:
        values = _curves(found, family.key)
        ranges = np.array([np.ptp(v, axis=1) for v in values.values()])
        what = f"minus the range of the training loss (nats) with ε, {family.key}"
        verdicts.append(claims.trend([radius(eps) for eps in values], -ranges.T, what))
    return claims.all_of(verdicts)


def _draw(found: Found) -> Any:
    fig, (axes,) = panels(2, ratio=0.8, sharey=True)
    colours: dict[str, str] = {}
    for eps in _order(found):
        colours[eps] = COLOURS[len(colours) % len(COLOURS)]
    for ax, family in zip(axes, FAMILIES, strict=True):
        for eps, values in _curves(found, family.key).items():
            epochs = np.arange(1, values.shape[1] + 1)
            banded(ax, epochs, values, color=colours[eps])
        ax.set_title(like(found.scale, family))
        ax.set_xlabel("epoch")
    axes[0].set_ylabel("training loss under attack (nats)")
    axes[0].set_ylim(bottom=0)
    for eps, colour in colours.items():
        axes[0].plot([], [], color=colour, label=label(eps))
    fig.legend(loc="outside upper center", ncols=min(5, len(colours)))
    return fig


def _order(found: Found) -> list[str]:
    """Budgets of both families, ascending."""
    both = {eps for family in FAMILIES for eps in _curves(found, family.key)}
    return sorted(both, key=radius)


FIG11 = Figure(
    "liu2020/fig11",
    "Learning curves of the training loss under several budgets",
    plan=_plan,
    draw=_draw,
    claims=(
        Claim(
            "The training loss is of similar magnitude whatever the budget (its highest values "
            f"within a factor of {SIMILAR:g}).",
            "App. C.2.2, Fig. 11",
            similar,
        ),
        Claim(
            "The loss covers a smaller range during training the larger the budget.",
            "App. C.2.2, Fig. 11",
            narrower,
        ),
    ),
    analogue=f"{DIGITS}; left with SGD for 32 epochs, right with Adam for 25.",
)
