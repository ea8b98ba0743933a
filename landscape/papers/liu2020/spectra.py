"""liu2020 Figs. 2 and 9: top Hessian eigenvalues against the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import FAILS, HOLDS, Claim, Verdict
from landscape.papers.drawing import line, over_seeds, panels, style_of
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
    label,
    named,
    radius,
    trained,
)
from landscape.papers.measures import eigenvalues
from landscape.papers.scale import Scale
from landscape.plotting.style import log_y
from landscape.running.work import Work, measure

# "Similar" losses of random networks: the paper's own numbers differ by 1.8 % at most.
SIMILAR = 0.05


def _plan(scale: Scale, family: Family) -> Mapping[str, Work]:
    settings = {
        "top": scale.pick(digits=20, paper=20, smoke=3),
        "n": scale.pick(digits=300, paper=None, smoke=40),
        "which": "final",
        "normalise": scale.pick(digits=10, paper=10, smoke=2),
    }
    return {
        f"{named(eps)}/seed{seed}": measure(
            eigenvalues,
            trained(scale, family, eps, seed),
            attack=attack_of(scale, eps, mnist=family is LENET),
            **settings,
        )
        for eps in budgets(scale, family)
        for seed in scale.seeds(SEEDS)
    }


def _values(found: Found, *, normalised: bool) -> dict[str, list[np.ndarray]]:
    """Eigenvalues by budget, one array per seed."""
    values: dict[str, list[np.ndarray]] = {}
    for name, spectrum in found.items():
        eps = name.partition("/")[0]
        scale = spectrum.normaliser.value if normalised else 1.0
        values.setdefault(eps, []).append(spectrum.eigenvalues / scale)
    return values


def _draw(found: Found) -> Any:
    fig, ((ax,),) = panels(1)
    for k, normalised in enumerate((True, False)):
        for i, (eps, values) in enumerate(_values(found, normalised=normalised).items()):
            style = style_of(i, linestyle=("-", "--")[k], markevery=3)
            x = np.arange(1, len(values[0]) + 1)
            if normalised:
                banded(ax, x, values, label=label(eps), **style)
            else:
                line(ax, x, over_seeds(values)[0], **style)
    log_y(ax)
    ax.plot([], [], color="0.4", label="over the random loss")
    ax.plot([], [], "--", color="0.4", label="as it is")
    ax.set_xlabel("index of the eigenvalue")
    ax.set_ylabel("eigenvalue of ∇²L (loss / weight²)")
    ax.set_xticks([1, 5, 10, 15, 20] if len(x) == 20 else [1, len(x)])
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def _grows(found: Found, *, normalised: bool, top: int, what: str) -> Verdict:
    values = _values(found, normalised=normalised)
    eps = [radius(name) for name in values]
    means = np.array([[v[:top].mean() for v in seeds] for seeds in values.values()])  # (ε, seed)
    return claims.trend(eps, means.T, what)


def top_grows(found: Found) -> Verdict:
    return _grows(found, normalised=True, top=1, what="normalised top eigenvalue with ε")


def original_grows(found: Found) -> Verdict:
    return _grows(found, normalised=False, top=1, what="top eigenvalue as it is with ε")


def all_grow(found: Found) -> Verdict:
    return _grows(found, normalised=True, top=20, what="mean of the 20 largest, normalised, with ε")


def similar_scale(found: Found) -> Verdict:
    """Of random networks, which don't depend on the seed of the training."""
    losses = {
        label(name): found[name].normaliser for name in found if name.endswith(_first_seed(found))
    }
    values = [loss.value for loss in losses.values()]
    ratio = max(values) / min(values) - 1
    numbers = ", ".join(f"{name}: {value:.4f}" for name, value in zip(losses, values, strict=True))
    return Verdict(
        HOLDS if ratio <= SIMILAR else FAILS,
        f"mean loss of random networks (nats): {numbers}; largest over smallest {ratio:+.1%}, "
        f"tolerance {SIMILAR:.0%}",
        ratio,
        min(loss.samples for loss in losses.values()),
        "random networks",
    )


def _first_seed(found: Found) -> str:
    return "/" + next(iter(found)).partition("/")[2]


def _figure(name: str, family: Family, where: str, title: str, analogue: str) -> Figure:
    place = f"{where}, Fig. {name.removeprefix('fig')}"
    return Figure(
        f"liu2020/{name}",
        title,
        plan=lambda scale: _plan(scale, family),
        draw=_draw,
        claims=(
            Claim("The minima found are sharper the larger the budget.", place, top_grows),
            Claim("So are they without the normalisation.", place, original_grows),
            Claim("All of the 20 largest eigenvalues tell so.", place, all_grow),
            Claim(
                "The loss of random networks is nearly the same whatever the budget, so its scale "
                "does not explain the curvature.",
                f"App. C.2.2; {place}",
                similar_scale,
            ),
        ),
        analogue=analogue,
    )


FIG2 = _figure(
    "fig2",
    RESNET,
    "§4.2",
    "Top 20 eigenvalues of the adversarial Hessian for several budgets (CIFAR-10)",
    f"{DIGITS}, with SGD; the Hessian of 300 training images.",
)
FIG9 = _figure(
    "fig9",
    LENET,
    "App. C.2.2",
    "Top 20 eigenvalues of the adversarial Hessian for several budgets (MNIST)",
    f"{DIGITS}, with Adam; the Hessian of 300 training images.",
)
