"""liu2020 Fig. 15: losses and errors along curves between independently trained networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import panels
from landscape.papers.figures import Figure, Found
from landscape.papers.liu2020.bands import banded
from landscape.papers.liu2020.quantities import attack_of, connected
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
from landscape.papers.scale import Scale
from landscape.plotting.style import COLOURS
from landscape.running.work import Work, measure

FAMILIES = (RESNET, LENET)
ORDERS = {"resnet": 4, "lenet": 2}
CURVE = 0  # row of the trained curve, beside the straight line
# A curve is "flat" if the loss along it rises by so many nats at most above its higher end.
FLAT = 0.1


def pairs(scale: Scale) -> list[tuple[int, int]]:
    """Seeds of the networks that are connected: each with the next."""
    seeds = scale.seeds(SEEDS)
    if len(seeds) == 1:
        return [(seeds[0], seeds[0] + 1)]
    if len(seeds) == 2:
        return [(seeds[0], seeds[1])]
    return [(seed, seeds[(i + 1) % len(seeds)]) for i, seed in enumerate(seeds)]


def _plan(scale: Scale) -> Mapping[str, Work]:
    small = scale.name in ("digits", "smoke")
    plan: dict[str, Work] = {}
    for family in FAMILIES:
        for eps in budgets(scale, family):
            attack = attack_of(scale, eps, mnist=family is LENET)
            for a, b in pairs(scale):
                plan[f"{family.key}/{named(eps)}/seeds{a},{b}"] = measure(
                    connected,
                    trained(scale, family, eps, a),
                    trained(scale, family, eps, b),
                    order=scale.pick(digits=ORDERS[family.key], paper=ORDERS[family.key], smoke=2),
                    points=scale.pick(digits=7, paper=31, smoke=3),
                    attack="pgd-5" if attack and small else attack,
                    n=scale.pick(digits=None, paper=None, smoke=40),
                )
    return plan


def _barriers(found: Found, family: str) -> dict[str, np.ndarray]:
    """By budget, one per pair: the rise of the loss along the curve above its higher end."""
    rows = by_budget(found.under(family))
    return {eps: np.array([float(c.barrier[CURVE]) for c in some]) for eps, some in rows.items()}


def flat_vanilla(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(
                FLAT - next(iter(_barriers(found, family.key).values())),
                f"{FLAT:g} nats minus the barrier of the curve, {family.key}, vanilla",
            )
            for family in FAMILIES
        ]
    )


def less_connected(found: Found) -> Verdict:
    verdicts = []
    for family in FAMILIES:
        rows = _barriers(found, family.key)
        values = np.array(list(rows.values()))
        what = f"barrier of the curve (nats) with ε, {family.key}"
        verdicts.append(claims.trend([radius(eps) for eps in rows], values.T, what))
    return claims.all_of(verdicts)


def not_flat(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(
                list(_barriers(found, family.key).values())[-1],
                f"barrier of the curve (nats) at the largest budget, {family.key}",
                at_least=FLAT,
            )
            for family in FAMILIES
        ]
    )


def _draw(found: Found) -> Any:
    fig, axes = panels(2, 2, ratio=0.75, sharex=True)
    shown: list[str] = []
    for column, family in enumerate(FAMILIES):
        rows = by_budget(found.under(family.key))
        for eps in rows:
            if eps not in shown:
                shown.append(eps)
        for eps, some in rows.items():
            colour = {"color": COLOURS[shown.index(eps) % len(COLOURS)]}
            t = some[0].t
            losses = [c.train_loss[CURVE] for c in some]
            banded(axes[0, column], t, losses, label=label(eps), **colour)
            clean = [100 * c.test_error[CURVE] for c in some]
            robust = [100 * c.robust_test_error[CURVE] for c in some if _attacked(c)]
            banded(axes[1, column], t, robust or clean, **colour)
            if robust:
                banded(axes[1, column], t, clean, linestyle=":", **colour)
        axes[0, column].set_title(f"{like(found.scale, family)}, order {some[0].order}")
        axes[1, column].set_xlabel("position t along the curve")
    axes[0, 0].set_ylabel("training loss (nats)")
    axes[1, 0].set_ylabel("test error (%)")
    for ax in axes.ravel():
        ax.set_ylim(bottom=0)
    axes[0, 1].plot([], [], color="0.4", label="under attack")
    axes[0, 1].plot([], [], ":", color="0.4", label="clean")
    handles: dict[str, Any] = {}
    for ax in axes[0]:
        handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    fig.legend(handles.values(), handles, loc="outside upper center", ncols=len(handles))
    return fig


def _attacked(content: Any) -> bool:
    return content.robust_test_error is not None


FIG15 = Figure(
    "liu2020/fig15",
    "Training loss and test error along Bezier curves between two trained networks",
    plan=_plan,
    draw=_draw,
    claims=(
        Claim(
            f"Networks of vanilla training are joined by flat curves (within {FLAT:g} nats).",
            "App. C.2.5, Fig. 15",
            flat_vanilla,
        ),
        Claim(
            "The curves are the less flat the larger the budget.",
            "App. C.2.5, Fig. 15",
            less_connected,
        ),
        Claim(
            f"Under the largest budget they aren't flat (above {FLAT:g} nats).",
            "App. C.2.5, Fig. 15",
            not_flat,
        ),
    ),
    analogue=f"{DIGITS}; left with SGD, right with Adam. Curves are trained as long as the "
    "networks, between the three pairs of three networks, which share ends.",
)
