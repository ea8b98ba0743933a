"""liu2022 Figs. 4 and 9: learning curves on parts of the data under several budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import panels
from landscape.papers.figures import Figure, Found
from landscape.papers.liu2022.curves import HELD_OUT, decay, draw, finish
from landscape.papers.liu2022.learning import NEEDS, each, of
from landscape.papers.liu2022.setting import EPOCHS, KINDS, L2, LINF, SHORT, at, full, subset
from landscape.papers.scale import Scale
from landscape.running.work import Run, Work


def radius_run(scale: Scale, kind: str, eps: float, norm: str, seed: int) -> Run:
    """A subset by the difficulty under this very ball; at the radius of Fig. 1, its run.

    At digits scale that difficulty is of a training of half the length, which is close to that
    of a whole one (Table 4).
    """
    if norm == "linf" and eps == scale.pick(digits=0.1, mnist=0.3, paper=8 / 255):
        return subset(scale, kind, seed)
    epochs = scale.pick(digits=SHORT, mnist=SHORT, paper=EPOCHS)
    ball: dict[str, Any] = {"eps": eps, "norm": norm}
    ranked = full(scale, "pgd", seed, epochs=epochs, **ball)
    return subset(scale, kind, seed, ranked=ranked, **ball)


def _radii(scale: Scale, norm: str) -> tuple[float, ...]:
    radii: tuple[float, ...] = at(scale, LINF if norm == "linf" else L2)
    return radii[-1:] if scale.smoke else radii


def _radii_plan(scale: Scale, norm: str) -> Mapping[str, Work]:
    seeds = scale.seeds(3 if norm == "linf" else scale.pick(digits=1, paper=3))
    return {
        f"eps={eps:.3g}/{kind}/seed{seed}": radius_run(scale, kind, eps, norm, seed)
        for eps in _radii(scale, norm)
        for kind in KINDS
        for seed in seeds
    }


def _by_radius(found: Found) -> list[str]:
    return list(dict.fromkeys(name.partition("/")[0] for name in found))


def _draw_radii(found: Found) -> Any:
    names = _by_radius(found)
    fig, (row,) = panels(max(2, len(names)), ratio=1.15 if len(names) > 2 else 0.75, sharey=True)
    for ax, name in zip(row, names, strict=False):
        for k, kind in enumerate(KINDS):
            draw(ax, of(found, f"{name}/{kind}"), k, kind)
        finish(ax, 5 if ax is row[len(names) - 1] else 0)
        ax.set_title(f"({'abc'[names.index(name)]}) {name.replace('eps=', 'ε = ')}")
        if ax is not row[0]:
            ax.set_ylabel("")
    for ax in row[len(names) :]:
        ax.set_axis_off()
    return fig


def worse_with_radius(found: Found) -> Verdict:
    """The rise of the held-out error grows with ε, for random and for the hardest samples."""
    names = _by_radius(found)
    eps = [float(name.removeprefix("eps=")) for name in names]
    return claims.all_of(
        [
            claims.trend(
                eps,
                np.array([each(found, f"{name}/{kind}", decay) for name in names]).T,
                f"the rise of the error with ε, {kind}",
            )
            for kind in ("random", "hardest")
        ]
    )


def _radii_figure(name: str, norm: str, title: str, where: str, analogue: str) -> Figure:
    return Figure(
        name,
        title,
        plan=lambda scale: _radii_plan(scale, norm),
        draw=_draw_radii,
        claims=(
            Claim(
                "The larger the budget, the more the error rises late, on random and hard samples.",
                where,
                worse_with_radius,
            ),
        ),
        analogue=f"{analogue} {HELD_OUT}",
        needs=NEEDS,
    )


FIG4 = _radii_figure(
    "liu2022/fig4",
    "linf",
    "Learning curves on parts of the data under three L∞ budgets",
    "App. D.3, Fig. 4",
    "As Fig. 1, with radii 0.033, 0.067 and 0.1 of 8×8 images in place of 2, 4 and 6/255.",
)
FIG9 = _radii_figure(
    "liu2022/fig9",
    "l2",
    "Learning curves on parts of the data under three L2 budgets",
    "App. D.3, Fig. 9",
    "As Fig. 1, with L2 radii 0.4 and 0.8 of 8×8 images in place of 0.5, 0.75 and 1, one seed.",
)
