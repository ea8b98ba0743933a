"""liu2022 Table 6 and Fig. 11: Lipschitz bounds of networks trained on parts of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from landscape.diagnostics import lipschitz
from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import line, over_seeds, panels, style_of, typeset
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Curves, Sheet, curves, sheet
from landscape.papers.liu2022.radii import radius_run
from landscape.papers.liu2022.setting import KINDS, L2, LINF, at, subset
from landscape.papers.scale import Scale
from landscape.plotting.style import log_y
from landscape.running.trained import Trained
from landscape.running.work import Work, measure
from landscape.training.folder import epoch_files


def bounds_along(run: Trained, *, last: bool = False, n: int | None = None) -> Curves:
    """Upper bounds of the Lipschitz constant at the kept networks, or at the last alone.

    The product of the layers' norms, as Scaman & Virmaux 2018 have it; here certified, where the
    power method approaches from below. In the l2 norms of image and logits.
    """
    kept = [int(path.stem) for path in epoch_files(run.folder)]
    kept = kept[-1:] if last else kept
    found = [
        lipschitz(run.objective(epoch, n=n), refine="product", samples=32, pairs=200)
        for epoch in kept
    ]
    return curves(
        kept,
        {
            "certified": [f.upper for f in found],
            "power method": [f.estimate for f in found],
            "sampled lower bound": [f.lower for f in found],
        },
        x_label="epoch",
        y_label="Lipschitz constant (logits / input)",
    )


# -- Table 6 ----------------------------------------------------------------------------------

_RADII = {**LINF, "paper": (2 / 255, 4 / 255, 8 / 255)}


def _table6(scale: Scale) -> Mapping[str, Work]:
    plan: dict[str, Work] = {}
    n = scale.pick(digits=100, paper=1000, smoke=40)
    for norm, radii in (("linf", _RADII), ("l2", L2)):
        chosen = at(scale, radii)
        for eps in chosen[-1:] if scale.smoke else chosen:
            seeds = scale.seeds(3 if norm == "linf" else scale.pick(digits=1, paper=3))
            for kind in KINDS:
                for seed in seeds:
                    run = radius_run(scale, kind, eps, norm, seed)
                    work = measure(bounds_along, run, last=True, n=n)
                    plan[f"{norm} {eps:.3g}/{kind}/seed{seed}"] = work
    return plan


def _cells(found: Found) -> dict[str, dict[str, list[float]]]:
    """Bounds by budget and kind, one per seed."""
    cells: dict[str, dict[str, list[float]]] = {}
    for name, value in found.items():
        budget, kind, _ = name.split("/")
        cells.setdefault(budget, {}).setdefault(kind, []).append(float(value.of("certified")[-1]))
    return cells


def _table6_sheet(found: Found) -> Sheet:
    cells = _cells(found)
    rows: dict[str, Sequence[Any]] = {
        kind: [
            (float(np.mean(c[kind])), float(np.std(c[kind], ddof=1)))
            if len(c[kind]) > 1
            else c[kind][0]
            for c in cells.values()
        ]
        for kind in KINDS
    }
    names = [n.replace("linf", "L∞").replace("l2", "L2") for n in cells]
    return sheet(rows, names, what="standard deviation over seeds")


def _harder_steeper(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.greater(c["hardest"], c["easiest"], name, names=("hardest", "easiest"))
            for name, c in _cells(found).items()
        ]
    )


def _top(found: Found) -> Verdict:
    """The largest L∞ budget alone, that of Fig. 1."""
    name, c = [(n, c) for n, c in _cells(found).items() if n.startswith("linf")][-1]
    return claims.greater(c["hardest"], c["easiest"], name, names=("hardest", "easiest"))


def _with_eps(found: Found) -> Verdict:
    cells = {n: c for n, c in _cells(found).items() if n.startswith("linf")}
    eps = [float(n.split()[1]) for n in cells]
    least = min(len(c["hardest"]) for c in cells.values())
    return claims.all_of(
        [
            claims.trend(
                eps,
                np.array([c[kind][:least] for c in cells.values()]).T,
                f"the bound with ε, {kind}",
            )
            for kind in ("easiest", "hardest")
        ]
    )


TABLE6 = Figure(
    "liu2022/table6",
    "Upper bounds of the Lipschitz constant by training set and budget",
    plan=_table6,
    draw=lambda found: typeset(_table6_sheet(found)),
    table=_table6_sheet,
    claims=(
        Claim(
            "Networks trained on the hardest samples have a much larger Lipschitz bound, "
            "in all cases.",
            "App. D.4, Table 6",
            _harder_steeper,
        ),
        Claim("So they have under the largest L∞ budget.", "App. D.4, Table 6", _top),
        Claim("The bound grows with the budget (L∞).", "§5.2, Table 6", _with_eps),
    ),
    analogue="The networks of Figs. 4 and 9 (LeNets on 300 digits); three seeds for L∞, "
    "one for L2. Bounds are certified.",
    needs="CIFAR-10. Bounds are certified, where the paper's are means of 20 power iterations.",
)

# -- Fig. 11 ----------------------------------------------------------------------------------


def _fig11(scale: Scale) -> Mapping[str, Work]:
    return {
        f"{kind}/seed{seed}": measure(
            bounds_along, subset(scale, kind, seed), n=scale.pick(digits=100, paper=1000, smoke=40)
        )
        for kind in KINDS
        for seed in scale.seeds(3)
    }


def _along(found: Found, kind: str) -> np.ndarray:
    """Bounds (seed, kept network)."""
    return np.array([value.of("certified") for value in found.under(kind).values()])


def _draw_fig11(found: Found) -> Any:
    fig, ((ax,),) = panels(1, ratio=0.8)
    for k, kind in enumerate(KINDS):
        first = next(iter(found.under(kind).values()))
        mean, spread = over_seeds(list(_along(found, kind)))
        line(ax, first.x, mean, spread, label=kind, **style_of(k))
    log_y(ax)
    ax.set(xlabel="epoch", ylabel="Lipschitz upper bound\n(logits / input, l2)")
    ax.legend()
    return fig


def _growth(found: Found, kind: str) -> list[float]:
    """Slope of the bound itself along the epochs, per epoch, from the initial network."""
    along = _along(found, kind)
    x = next(iter(found.under(kind).values())).x
    return [float((curve[-1] - curve[0]) / (x[-1] - x[0])) for curve in along]


def _rises(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.trend(
                next(iter(found.under(kind).values())).x,
                _along(found, kind),
                f"the bound with the epoch, {kind}",
            )
            for kind in KINDS
        ]
    )


def _faster(found: Found) -> Verdict:
    return claims.greater(
        _growth(found, "hardest"),
        _growth(found, "easiest"),
        "growth of the bound per epoch",
        names=("hardest", "easiest"),
    )


FIG11 = Figure(
    "liu2022/fig11",
    "Upper bound of the Lipschitz constant along PGD training on parts of the data",
    plan=_fig11,
    draw=_draw_fig11,
    claims=(
        Claim("The bound grows along the training in all cases.", "App. D.4, Fig. 11", _rises),
        Claim("It grows much faster on the hardest samples.", "App. D.4, Fig. 11", _faster),
    ),
    analogue="The networks of Fig. 1a (LeNets on 300 digits), kept every ten epochs.",
    needs="CIFAR-10. Bounds are certified.",
)
