"""liu2020 Figs. 2 and 9: top Hessian eigenvalues against the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import line, over_seeds, panels, style_of
from landscape.papers.figures import Figure, Found
from landscape.papers.liu2020.setting import RESNET, budgets, trained
from landscape.papers.measures import eigenvalues
from landscape.papers.scale import Scale
from landscape.papers.work import Work, measure
from landscape.plotting.style import log_y


def _plan(scale: Scale, recipe: dict[str, str]) -> Mapping[str, Work]:
    settings = {
        "top": scale.pick(digits=20, paper=20, smoke=3),
        "n": scale.pick(digits=None, paper=None, smoke=40),
        "which": "final",
        "normalise": scale.pick(digits=10, paper=10, smoke=2),
    }
    return {
        f"eps={eps:.3g}/seed{seed}": measure(
            eigenvalues,
            trained(scale, eps, seed, recipe),
            attack="pgd-10" if eps else None,
            **settings,
        )
        for eps in budgets(scale, recipe)
        for seed in scale.seeds(3)
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
            mean, spread = over_seeds(values)
            line(
                ax,
                np.arange(1, len(mean) + 1),
                mean,
                spread if normalised else None,
                label=eps.replace("eps=", "ε = ") if normalised else "",
                **style_of(i, linestyle=("-", "--")[k], markevery=3),
            )
    log_y(ax)
    ax.set_xlabel("index of the eigenvalue")
    ax.set_ylabel("eigenvalue, over random loss (solid)\nand as it is (dashed)")
    ax.legend()
    return fig


def _grows(found: Found) -> Verdict:
    values = _values(found, normalised=True)
    eps = [float(name.removeprefix("eps=")) for name in values]
    tops = np.array([[v[0] for v in seeds] for seeds in values.values()])  # (ε, seed)
    return claims.trend(eps, tops.T, "normalised top eigenvalue with ε")


def spectra(name: str, recipe: dict[str, str], title: str, analogue: str) -> Figure:
    return Figure(
        name,
        title,
        plan=lambda scale: _plan(scale, recipe),
        draw=_draw,
        claims=(
            Claim("The minima found are sharper the larger the budget.", "§4.2, Fig. 2", _grows),
        ),
        analogue=analogue,
    )


FIG2 = spectra(
    "liu2020/fig2",
    RESNET,
    "Top 20 eigenvalues of the adversarial Hessian for several budgets",
    "LeNet on digits in place of ResNet-18 on CIFAR-10, radii up to 0.2 of 8×8 images.",
)
