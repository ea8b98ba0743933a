"""liu2020 Figs. 3 and 10: how adversarial examples change when the parameters move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import panels, style_of
from landscape.papers.figures import Figure, Found
from landscape.papers.liu2020.bands import banded
from landscape.papers.liu2020.quantities import attack_of
from landscape.papers.liu2020.setting import (
    DIGITS,
    LENET,
    RESNET,
    SEEDS,
    Family,
    budgets,
    by_budget,
    label,
    named,
    trained,
)
from landscape.papers.measures import cosine_along
from landscape.papers.scale import Scale
from landscape.running.work import Work, measure

KINDS = ("random", "eigen")
HIGH = 0.9  # a "very high" cosine
UNCHANGED = 5.0  # percentage points of robust error
VARIANCE = 0.005  # the paper's own bound


def _plan(scale: Scale, family: Family) -> Mapping[str, Work]:
    return {
        f"{named(eps)}/seed{seed}": measure(
            cosine_along,
            trained(scale, family, eps, seed),
            a=scale.pick(digits=(0.0, 0.5, 6), paper=(0.0, 0.5, 11), smoke=(0.0, 0.5, 2)),
            draws=scale.pick(digits=2, mnist=4, paper=4, smoke=1),
            n=scale.pick(digits=200, paper=None, smoke=30),
            attack=attack_of(scale, eps, mnist=family is LENET),
            which="final",
        )
        for eps in budgets(scale, family)
        if eps
        for seed in scale.seeds(SEEDS)
    }


def _cosines(found: Found, kind: str) -> dict[str, np.ndarray]:
    """By budget (seed, a): the mean over draws."""
    return {
        eps: np.array([r.cosine[list(r.direction).index(kind)].mean(0) for r in results])
        for eps, results in by_budget(found).items()
    }


def _errors(found: Found, kind: str) -> dict[str, np.ndarray]:
    """By budget (seed, a): robust error in %, the mean of both ends."""
    return {
        eps: np.array([100 * r.mean_error(kind).mean(0) for r in results])
        for eps, results in by_budget(found).items()
    }


# -- claims ---------------------------------------------------------------------------------------


def cosine_lower(found: Found) -> Verdict:
    """Mean over a > 0, every budget."""
    random, eigen = (_cosines(found, kind) for kind in KINDS)
    return claims.all_of(
        [
            claims.greater(
                random[eps][:, 1:].mean(1),
                eigen[eps][:, 1:].mean(1),
                f"cosine at {label(eps)}",
                names=("random", "eigenvector"),
            )
            for eps in random
        ]
    )


def random_high(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(v[:, 1:].mean(1), f"cosine along random at {label(eps)}", at_least=HIGH)
            for eps, v in _cosines(found, "random").items()
        ]
    )


def error_rises(found: Found) -> Verdict:
    """Rise of the robust error from a = 0 to the largest a, along both."""
    random, eigen = (_errors(found, kind) for kind in KINDS)
    return claims.all_of(
        [
            claims.greater(
                eigen[eps][:, -1] - eigen[eps][:, 0],
                random[eps][:, -1] - random[eps][:, 0],
                f"rise of the robust error in points at {label(eps)}",
                names=("eigenvector", "random"),
                by=UNCHANGED,
            )
            for eps in random
        ]
    )


def random_flat(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.greater(
                np.full(len(v), UNCHANGED),
                np.abs(v - v[:, :1]).max(1),
                f"points of robust error along random at {label(eps)}",
                names=("tolerated", "largest change"),
            )
            for eps, v in _errors(found, "random").items()
        ]
    )


def variance_small(found: Found) -> Verdict:
    draws = [r.cosine.var(1, ddof=1) for r in found.values() if r.cosine.shape[1] > 1]
    if not draws:
        return Verdict(claims.OPEN, "one draw has no variance", of="draws")
    largest = float(np.max(draws))
    verdict = claims.exactly(
        largest < VARIANCE, f"largest variance over draws {largest:.2g}, bound {VARIANCE:g}"
    )
    return Verdict(verdict.outcome, verdict.numbers, largest, len(draws), "networks")


# -- drawing --------------------------------------------------------------------------------------


def _draw(found: Found) -> Any:
    fig, ((left, right),) = panels(2, ratio=0.8)
    a = next(iter(found.values())).a
    for k, eps in enumerate(by_budget(found)):
        for kind, dashes in zip(KINDS, ("-", "--"), strict=True):
            style = style_of(k, linestyle=dashes)
            if kind == "eigen":
                style["markerfacecolor"] = "white"
            banded(left, a, _cosines(found, kind)[eps], **style)
            banded(right, a, _errors(found, kind)[eps], **style)
        left.plot([], [], label=label(eps), **style_of(k))
    floor = next(iter(found.values())).floor
    right.axhline(100 * (1 - floor), color="0.6", lw=0.8, ls=":")
    right.text(
        0.99,
        100 * (1 - floor) + 1.5,
        f"{100 * floor:g} % robust accuracy",
        color="0.4",
        fontsize=6,
        ha="right",
        transform=right.get_yaxis_transform(),
    )
    left.plot([], [], "-", color="0.4", label="random direction")
    left.plot([], [], "--", color="0.4", label="top eigenvector")
    left.set_ylim(min(0.0, left.get_ylim()[0]), 1.03)
    left.set_ylabel("cosine of the perturbations at θ ± av")
    right.set_ylim(0, 100)
    right.set_ylabel("robust training error at θ ± av (%)")
    for ax in (left, right):
        ax.set_xlabel("step a along the unit vector v")
    fig.legend(loc="outside upper center", ncols=5)
    return fig


def _figure(name: str, family: Family, where: str, title: str, analogue: str) -> Figure:
    place = f"{where}, Fig. {name.removeprefix('fig')}"
    return Figure(
        f"liu2020/{name}",
        title,
        plan=lambda scale: _plan(scale, family),
        draw=_draw,
        claims=(
            Claim(
                "Perturbations made at θ ± av differ more along the top eigenvector than along a "
                "random direction.",
                place,
                cosine_lower,
            ),
            Claim(
                f"Along a random direction they stay alike (cosine above {HIGH:g}).",
                place,
                random_high,
            ),
            Claim(
                "The robust error rises sharply along the top eigenvector "
                f"({UNCHANGED:g} points more than along random).",
                place,
                error_rises,
            ),
            Claim(
                f"It doesn't change along a random direction (by {UNCHANGED:g} points at most).",
                place,
                random_flat,
            ),
            Claim(
                f"Variances over runs of the attack are below {VARIANCE:g}.", place, variance_small
            ),
        ),
        analogue=analogue,
    )


FIG3 = _figure(
    "fig3",
    RESNET,
    "§4.2",
    "Cosine of adversarial perturbations under opposite moves of the parameters (CIFAR-10)",
    f"{DIGITS}, with SGD; 200 training images, 2 runs of the attack instead of 4.",
)
FIG10 = _figure(
    "fig10",
    LENET,
    "App. C.2.2",
    "Cosine of adversarial perturbations under opposite moves of the parameters (MNIST)",
    f"{DIGITS}, with Adam; 200 training images, 2 runs of the attack instead of 4. The paper "
    "leaves out steps where the robust accuracy is below 70 %; here they are drawn, as the "
    "robust accuracy of digits at ε = 0.2 is below that everywhere.",
)
