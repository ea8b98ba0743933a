"""sitawarin2021 Fig. 4 and the generalisation gap of §6.2.3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import over_seeds, panels, style_of, typeset
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Sheet, sheet
from landscape.papers.scale import Scale
from landscape.papers.sitawarin2021.along import (
    EIGENVALUE,
    GRADIENT,
    TRACE,
    accuracies_along,
    curvature_along,
    first_decay,
    last_epochs,
    measured_epochs,
)
from landscape.papers.sitawarin2021.setting import COMPARED, HOURS, main, seeds
from landscape.plotting.style import log_y
from landscape.running.work import Work, measure

_LABELS = {
    EIGENVALUE: "$\\lambda_{\\max}$ (nats / weight²)",
    TRACE: "trace (nats / weight²)",
    GRADIENT: "gradient norm (nats / weight)",
}


def _curvature(scale: Scale) -> dict[str, Work]:
    settings = {
        "epochs": measured_epochs(scale),
        # The paper doesn't say how many images: as many as in Figs. 6 and 7.
        "n": scale.pick(digits=256, paper=1280, smoke=20),
        "probes": scale.pick(digits=30, paper=100, smoke=2),
    }
    return {
        f"{defence}/seed{seed}": measure(
            curvature_along, main(scale).run(scale, defence, seed), **settings
        )
        for defence in COMPARED
        for seed in seeds(scale)
    }


def _settled(found: Mapping[str, Any], quantity: str, start: float) -> list[float]:
    """Mean over the epochs measured after ``start``, one number per seed."""
    return [float(c.of(quantity)[c.x > start].mean()) for c in found.values()]


def _draw_curvature(found: Found) -> Any:
    fig, (axes,) = panels(3, ratio=1.0)
    decay = first_decay(found.scale)
    for ax, (quantity, label), letter in zip(axes, _LABELS.items(), "abc", strict=True):
        for k, defence in enumerate(COMPARED):
            several = list(found.under(defence).values())
            values = np.array([c.of(quantity) for c in several])
            values[values <= 0] = np.nan  # no place on the axis
            x, style = several[0].x, style_of(k)
            ax.plot(x, values.mean(0), label=defence, **style)
            # From the lowest to the highest seed: a standard deviation would reach below zero.
            ax.fill_between(x, values.min(0), values.max(0), color=style["color"], alpha=0.2, lw=0)
        ax.axvline(decay, color="0.6", lw=0.8, ls=":")
        ax.set(xlabel="epoch", ylabel=label, title=f"({letter})")
        log_y(ax)
    axes[0].legend(loc="best")
    return fig


def _below(quantity: str, lower: str, higher: str) -> Callable[[Found], Verdict]:
    def check(found: Found) -> Verdict:
        start = first_decay(found.scale)
        return claims.greater(
            _settled(found.under(higher), quantity, start),
            _settled(found.under(lower), quantity, start),
            f"mean {quantity} after epoch {start:g}",
            names=(higher, lower),
        )

    return check


def _both_below(quantity: str) -> Callable[[Found], Verdict]:
    checks = [_below(quantity, defence, "AT") for defence in ("H-SAT", "P-SAT")]
    return lambda found: claims.all_of([check(found) for check in checks])


def _smallest(found: Found) -> Verdict:
    checks = [_below(quantity, "P-SAT", "H-SAT") for quantity in (EIGENVALUE, TRACE)]
    return claims.all_of([check(found) for check in checks])


def _erratic(found: Found) -> Verdict:
    """Changes of the logarithm from one measured epoch to the next, before and after."""
    start = first_decay(found.scale)
    parts = []
    for quantity in _LABELS:
        ratio = []
        for seed in found.under("AT"):
            sizes: list[list[float]] = [[], []]
            for defence in COMPARED:
                c = found[f"{defence}/{seed}"]
                change = np.abs(np.diff(np.log(np.abs(c.of(quantity)))))
                sizes[0] += change[c.x[1:] <= start].tolist()
                sizes[1] += change[c.x[:-1] >= start].tolist()
            if not all(sizes):
                return Verdict(claims.OPEN, "too few epochs measured before or after the decay")
            ratio.append(float(np.mean(sizes[0]) - np.mean(sizes[1])))
        parts.append(
            claims.positive(
                ratio,
                f"change of log {quantity} between measured epochs, before less after epoch "
                f"{start:g}",
            )
        )
    return claims.all_of(parts)


_WHERE = "§6.2.3, Fig. 4"
FIG4 = Figure(
    "sitawarin2021/fig4",
    "Top eigenvalue and trace of the Hessian and the norm of the gradient along the training",
    plan=_curvature,
    draw=_draw_curvature,
    claims=(
        Claim(
            "After the first decay of the learning rate λ_max is smaller for H-SAT and for P-SAT "
            "than for AT.",
            f"{_WHERE}a",
            _both_below(EIGENVALUE),
        ),
        Claim("So is the trace.", f"{_WHERE}b", _both_below(TRACE)),
        Claim("So is the norm of the gradient.", f"{_WHERE}c", _both_below(GRADIENT)),
        Claim("P-SAT has the smallest λ_max and trace, H-SAT the second.", _WHERE, _smallest),
        Claim(
            "In the norm of the gradient H-SAT is below P-SAT.",
            f"{_WHERE}c",
            _below(GRADIENT, "H-SAT", "P-SAT"),
        ),
        Claim(
            "Before the decay all three change more from epoch to epoch than after it.",
            _WHERE,
            _erratic,
        ),
    ),
    analogue="LeNet on digits with ε = 0.1, measured every fourth epoch on 256 training images. "
    "The learning rate falls at epochs 25 (dotted) and 35 of 40, λ of P-SAT rises at 16, 24 and "
    "32. The trace is estimated from 30 random vectors. Lines are means of three seeds, bands "
    "their range.",
    needs=f"three {HOURS}; 100 Hessian products and a top eigenvalue at each of 100 epochs",
)


def _gap_plan(scale: Scale) -> dict[str, Work]:
    settings = {
        "epochs": last_epochs(scale),
        "n": scale.pick(digits=None, paper=10_000, smoke=20),
    }
    found = {f"curvature/{name}": work for name, work in _curvature(scale).items()}
    for defence in COMPARED:
        for seed in seeds(scale):
            run = main(scale).run(scale, defence, seed)
            found[f"accuracy/{defence}/seed{seed}"] = measure(accuracies_along, run, **settings)
    return found


def gaps(found: Found, defence: str) -> list[np.ndarray]:
    """Training less test accuracy under attack at the last epochs (points), per seed."""
    several = found.under(f"accuracy/{defence}").values()
    return [c.of("train") - c.of("test") for c in several]


def _gap_table(found: Found) -> Sheet:
    from scipy import stats

    rows = {}
    for defence in COMPARED:
        several = found.under(f"accuracy/{defence}").values()
        each = gaps(found, defence)
        count = len(each[0])
        half = np.nan
        if count > 1:
            wide = stats.t.ppf(0.975, count - 1) / np.sqrt(count)
            half = float(np.mean([wide * gap.std(ddof=1) for gap in each]))
        _, spread = over_seeds([gap.mean() for gap in each])
        rows[defence] = [
            float(np.mean([c.of("train").mean() for c in several])),
            float(np.mean([c.of("test").mean() for c in several])),
            (float(np.mean(each)), half),
            float(spread),
        ]
    columns = ["train", "test", "gap", "sd over seeds"]
    what = f"95 % interval over {len(last_epochs(found.scale))} epochs, as in the paper"
    return sheet(rows, columns, ["%", "%", "points", "points"], what)


def _gap_below(lower: str, higher: str) -> Callable[[Found], Verdict]:
    def check(found: Found) -> Verdict:
        return claims.greater(
            [float(gap.mean()) for gap in gaps(found, higher)],
            [float(gap.mean()) for gap in gaps(found, lower)],
            "generalisation gap under attack (points)",
            names=(higher, lower),
        )

    return check


def _ordered_as(found: Found) -> Verdict:
    start = first_decay(found.scale)
    each = [float(gap.mean()) for defence in COMPARED for gap in gaps(found, defence)]
    parts = []
    for quantity in (EIGENVALUE, TRACE):
        curved = [
            v for d in COMPARED for v in _settled(found.under(f"curvature/{d}"), quantity, start)
        ]
        what = f"gap and {quantity} over networks"
        parts.append(claims.correlation(curved, each, what))
    return claims.all_of(parts)


GAP = Figure(
    "sitawarin2021/gap",
    "Generalisation gap: accuracy under attack on training less that on test data",
    plan=_gap_plan,
    draw=lambda found: typeset(_gap_table(found)),
    table=_gap_table,
    claims=(
        Claim("H-SAT's gap is smaller than AT's.", "§6.2.3", _gap_below("H-SAT", "AT")),
        Claim("P-SAT's gap is smaller than AT's.", "§6.2.3", _gap_below("P-SAT", "AT")),
        Claim("H-SAT's gap is smaller than P-SAT's.", "§6.2.3", _gap_below("H-SAT", "P-SAT")),
        Claim(
            "The gap is larger for networks of larger λ_max and trace.",
            "§6.2.3 (in print P-SAT has the smallest λ_max but H-SAT the smallest gap)",
            _ordered_as,
        ),
    ),
    analogue="LeNet on digits with ε = 0.1: mean over the networks of epochs 34, 36, 38 and 40 of "
    "40 in place of the last 20 of 100, under PGD-10 on all training and test images.",
    needs=f"three {HOURS}; PGD-10 on 20,000 images at 20 epochs",
)
