"""liu2020 Figs. 1 and 8: gradient, error and distance over the first and last mini-batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import HOLDS, OPEN, Claim, Verdict
from landscape.papers.drawing import panels
from landscape.papers.figures import Figure, Found
from landscape.papers.liu2020.bands import banded
from landscape.papers.liu2020.setting import (
    DIGITS,
    LENET,
    RESNET,
    SEEDS,
    Family,
    by_budget,
    label,
    per_budget,
    radius,
)
from landscape.plotting.style import COLOURS, log_y

FIRST, LAST = 0, 1
# "Almost zero": a tenth of what it was over the first mini-batches.
SMALL = 0.1


def _of(track: Any, quantity: str, window: int, shown: int | None) -> np.ndarray:
    """One quantity over the first (last) ``shown`` mini-batches of the first (last) window."""
    values = np.asarray(getattr(track, quantity)[track.window == window], dtype=float)
    if shown is None:
        return values
    return values[:shown] if window == FIRST else values[-shown:]


class _Minibatches:
    """What both figures do, which differ in the family and in how many mini-batches they show."""

    def __init__(self, shown: int) -> None:
        self.shown = shown

    def values(self, found: Found, quantity: str, window: int) -> dict[str, np.ndarray]:
        """By budget: (seed, mini-batch)."""
        shown = self.shown if found.scale.name in ("mnist", "paper") else None
        return {
            eps: np.stack([_of(run.track, quantity, window, shown) for run in runs])
            for eps, runs in by_budget(found).items()
        }

    def means(self, found: Found, quantity: str, window: int, share: float = 1.0) -> np.ndarray:
        """(seed, budget): the mean over the window's mini-batches, or its last share of them."""
        rows = self.values(found, quantity, window).values()
        return np.array([v[:, -max(1, round(share * v.shape[1])) :].mean(1) for v in rows]).T

    # -- claims -------------------------------------------------------------------------------

    def trend(
        self, found: Found, quantity: str, window: int, sign: int, what: str, **o: Any
    ) -> Verdict:
        eps = [radius(name) for name in by_budget(found)]
        return claims.trend(eps, sign * self.means(found, quantity, window, **o), what)

    def early_gradient(self, found: Found) -> Verdict:
        return self.trend(found, "gradient_norm", FIRST, -1, "minus the early mean ‖g‖ with ε")

    def early_distance(self, found: Found) -> Verdict:
        what = "minus the distance ‖θ − θ₀‖ after the first mini-batches with ε"
        return self.trend(found, "distance", FIRST, -1, what, share=0.0)

    def early_error(self, found: Found) -> Verdict:
        what = "robust training error in the last fifth of the first mini-batches with ε"
        return self.trend(found, "error", FIRST, 1, what, share=0.2)

    def late_gradient(self, found: Found) -> Verdict:
        return self.trend(found, "gradient_norm", LAST, 1, "the late mean ‖g‖ with ε")

    def vanilla_vanishes(self, found: Found) -> Verdict:
        early, late = (self.means(found, "gradient_norm", w)[:, 0] for w in (FIRST, LAST))
        what = f"‖g‖ without attack, {SMALL:g} of the early mean against the late mean"
        return claims.greater(SMALL * early, late, what)

    def largest_remains(self, found: Found) -> Verdict:
        early, late = (self.means(found, "gradient_norm", w)[:, -1] for w in (FIRST, LAST))
        what = f"‖g‖ under the largest budget, late mean against {SMALL:g} of the early mean"
        return claims.greater(late, SMALL * early, what)

    def sometimes_fails(self, found: Found) -> Verdict:
        """That none of a few seeds fails would prove nothing."""
        runs = list(by_budget(found).values())[-1]
        failed = sum(bool(run.history.constant_classifier[-1]) for run in runs)
        text = f"{failed} of {len(runs)} runs under the largest budget end as constant classifiers"
        return Verdict(HOLDS if failed else OPEN, text, float(failed), len(runs))

    # -- drawing ------------------------------------------------------------------------------

    def draw(self, found: Found) -> Any:
        fig, axes = panels(2, 2, ratio=0.72)
        places = (
            ("gradient_norm", FIRST, "‖g‖₂ of the mini-batch"),
            ("error", FIRST, "robust training error (%)"),
            ("distance", FIRST, "distance ‖θ − θ₀‖₂"),
            ("gradient_norm", LAST, "‖g‖₂ of the mini-batch"),
        )
        for ax, (quantity, window, text) in zip(axes.ravel(), places, strict=True):
            for k, (eps, values) in enumerate(self.values(found, quantity, window).items()):
                values = _smooth(values) * (100 if quantity == "error" else 1)
                n = values.shape[1]
                x = np.arange(1, n + 1) if window == FIRST else np.arange(1 - n, 1)
                dashes = _DASHES[k % len(_DASHES)]
                banded(ax, x, values, color=COLOURS[k], linestyle=dashes, label=label(eps))
            if quantity == "gradient_norm":
                log_y(ax)
            elif quantity == "error":
                ax.set_ylim(0, 100)
            else:
                ax.set_ylim(bottom=0)
            ax.set_xlabel("first mini-batches" if window == FIRST else "last mini-batches")
            ax.set_ylabel(text)
        for ax, name in zip(axes.ravel(), "abcd", strict=True):
            ax.set_title(f"({name})", loc="left")
        handles, names = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside upper center", ncols=len(names))
        return fig


_DASHES = ("-", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 1, 1, 1, 1, 1)))


def _smooth(values: np.ndarray) -> np.ndarray:
    """The mean with the neighbours, over a twentieth of the row, fewer at its ends."""
    half = values.shape[1] // 40
    columns = range(values.shape[1])
    return np.stack([values[:, max(0, i - half) : i + half + 1].mean(1) for i in columns], 1)


def _figure(name: str, family: Family, shown: int, title: str, where: str, analogue: str) -> Figure:
    what = _Minibatches(shown)
    place = f"{where}, Fig. {name.removeprefix('fig')}"
    return Figure(
        f"liu2020/{name}",
        title,
        plan=lambda scale: per_budget(scale, family, scale.seeds(SEEDS)),
        draw=what.draw,
        claims=(
            Claim(
                "Early in training the gradients are the smaller the larger the budget.",
                f"{place}a",
                what.early_gradient,
            ),
            Claim(
                "Early in training the error falls the slower the larger the budget.",
                f"{place}b",
                what.early_error,
            ),
            Claim(
                "Early in training the parameters move the less the larger the budget.",
                f"{place}c",
                what.early_distance,
            ),
            Claim(
                "At the end of training the gradients are the larger the larger the budget.",
                f"{place}d",
                what.late_gradient,
            ),
            Claim(
                "Vanilla training ends with gradients of almost zero (under a tenth of those at "
                "its beginning).",
                f"{place}d",
                what.vanilla_vanishes,
            ),
            Claim(
                "Under the largest budget gradients don't vanish (stay above a tenth of those at "
                "the beginning).",
                f"{place}d",
                what.largest_remains,
            ),
            Claim(
                "Under a large budget training sometimes fails and ends as a constant classifier.",
                f"§3.1, {where}",
                what.sometimes_fails,
            ),
        ),
        analogue=analogue,
    )


FIG1 = _figure(
    "fig1",
    RESNET,
    2000,
    "Mini-batch gradients, robust error and distance at the beginning and the end (CIFAR-10)",
    "§4.1",
    f"{DIGITS}, with SGD; the first and the last 5 of 32 epochs (95 mini-batches each) instead "
    "of 2000 mini-batches of 200 epochs.",
)
FIG8 = _figure(
    "fig8",
    LENET,
    500,
    "Mini-batch gradients, robust error and distance at the beginning and the end (MNIST)",
    "App. C.2.1",
    f"{DIGITS}, with Adam; the first and the last 5 of 25 epochs (95 mini-batches each) instead "
    "of 500 mini-batches of 100 epochs; vanilla training has not quite converged by then.",
)
