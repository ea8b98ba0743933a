"""sitawarin2021 Fig. 1: the adversarial loss around networks of AT, H-SAT and P-SAT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.figures import Figure, Found
from landscape.papers.measures import loss_surface
from landscape.papers.scale import Scale
from landscape.papers.sitawarin2021.setting import COMPARED, HOURS, main, seeds
from landscape.plotting import surface as plots
from landscape.running.work import Work, measure


def _plan(scale: Scale) -> Mapping[str, Work]:
    points = scale.pick(digits=13, mnist=21, paper=31, smoke=3)
    return {
        f"{defence}/seed{seed}": measure(
            loss_surface,
            main(scale).run(scale, defence, seed),
            x=(-1.0, 1.0, points),
            y=(-1.0, 1.0, points),
            attack="pgd-10",
            orthogonal=True,
            # The paper doesn't say how many images.
            n=scale.pick(digits=128, paper=1280, smoke=20),
            seed=seed,
        )
        for defence in COMPARED
        for seed in seeds(scale)
    }


def curvature(surface: Any) -> float:
    """Mean of |∂²L/∂x²| and |∂²L/∂y²| over the inner points of the plane, in nats."""
    loss, dx, dy = surface.loss, surface.x[1] - surface.x[0], surface.y[1] - surface.y[0]
    along_x = np.abs(np.diff(loss, 2, axis=1)) / dx**2
    along_y = np.abs(np.diff(loss, 2, axis=0)) / dy**2
    return float((along_x.mean() + along_y.mean()) / 2)


def _draw(found: Found) -> Any:
    shown = {defence: next(iter(found.under(defence).values())) for defence in COMPARED}
    return plots.compare(list(shown.values()), list(shown))


def _smoother(defence: str) -> Any:
    def check(found: Found) -> Verdict:
        rough = {d: [curvature(s) for s in found.under(d).values()] for d in ("AT", defence)}
        return claims.greater(
            rough["AT"],
            rough[defence],
            "mean second derivative of the adversarial loss in the plane (nats)",
            names=("AT", defence),
        )

    return check


FIG1 = Figure(
    "sitawarin2021/fig1",
    "Adversarial loss around networks of AT, H-SAT and P-SAT, along two random directions",
    plan=_plan,
    draw=_draw,
    claims=tuple(
        Claim(
            f"The adversarial loss around the network of {defence} is smoother than around AT's.",
            "§1, Fig. 1",
            _smoother(defence),
        )
        for defence in ("H-SAT", "P-SAT")
    ),
    analogue="LeNet on digits with ε = 0.1 in place of PreAct-ResNet-20 on CIFAR-10; 128 training "
    "images. The first of three seeds is drawn, each seed has a plane of its own.",
    needs=f"three {HOURS}",
)
