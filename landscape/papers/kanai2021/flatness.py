"""kanai2021 Fig. 7: the adversarial loss around the best weights, along a random direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import FAILS, HOLDS, OPEN, Claim, Verdict
from landscape.papers.drawing import line, over_seeds, panels, style_of
from landscape.papers.figures import Figure, Found
from landscape.papers.kanai2021.setting import ANALOGUE, MAIN, trained
from landscape.papers.measures import loss_surface
from landscape.papers.scale import Scale
from landscape.running.work import Work, measure

_PAIRS = (("AT+EnSGD", "AT"), ("AWP+EnSGD", "AWP"))
_SPLITS = ("train", "test")


def _plan(scale: Scale) -> Mapping[str, Work]:
    settings: dict[str, Any] = {
        "x": scale.pick(digits=(-1.0, 1.0, 21), paper=(-1.0, 1.0, 21), smoke=(-1.0, 1.0, 5)),
        "n": scale.pick(digits=200, mnist=1000, paper=None, smoke=20),
        "attack": scale.pick(digits="pgd-10", paper="pgd-20", smoke="pgd-2"),
    }
    return {
        f"{split}/{name}/seed{seed}": measure(
            loss_surface, trained(scale, name, seed), split=split, **settings
        )
        for split in _SPLITS
        for name in MAIN
        for seed in scale.seeds(3)
    }


def _draw(found: Found) -> Any:
    fig, axes = panels(2, ratio=0.8, sharey=True)
    for ax, split in zip(axes[0], _SPLITS, strict=True):
        for k, name in enumerate(MAIN):
            surfaces = list(found.under(f"{split}/{name}").values())
            mean, spread = over_seeds([surface.loss[0] for surface in surfaces])
            style = style_of(k, linestyle="-" if k % 2 else "--", markevery=2)
            line(ax, surfaces[0].x, mean, spread, label=name, **style)
        ax.set_xlabel("step α along a filter-normalised direction")
        ax.set_title({"train": "training data", "test": "test data"}[split])
    axes[0, 0].set_ylabel("adversarial loss (nats)")
    axes[0, 0].legend()
    return fig


def _rise(surface: Any) -> float:
    """Mean of L(α) − L(0) over |α| ≤ ½, in nats: how sharp the landscape is nearby."""
    near = np.abs(surface.x) <= 0.5 + 1e-9
    return float(surface.loss[0, near].mean() - surface.centre_loss)


def _rises(found: Found, split: str, name: str) -> list[float]:
    return [_rise(surface) for surface in found.under(f"{split}/{name}").values()]


def _not_always_flatter(found: Found) -> Verdict:
    """Holds if one of the four comparisons finds EntropySGD sharper, not if all find it flatter."""
    flatter = [
        claims.greater(
            _rises(found, split, sgd),
            _rises(found, split, entropy),
            f"rise of the {split} loss for α within ±½ (nats)",
            names=(sgd, entropy),
        )
        for split in _SPLITS
        for entropy, sgd in _PAIRS
    ]
    outcomes = [verdict.outcome for verdict in flatter]
    outcome = HOLDS if FAILS in outcomes else FAILS if set(outcomes) == {HOLDS} else OPEN
    both = claims.all_of(flatter)
    return Verdict(outcome, both.numbers, both.effect, both.samples)


def _lower(found: Found) -> Verdict:
    def centres(name: str) -> list[float]:
        return [surface.centre_loss for surface in found.under(f"train/{name}").values()]

    return claims.all_of(
        [
            claims.greater(
                centres(sgd), centres(entropy), "training loss (nats)", names=(sgd, entropy)
            )
            for entropy, sgd in _PAIRS
        ]
    )


FIG7 = Figure(
    "kanai2021/fig7",
    "Adversarial loss along a random direction from the best weights",
    plan=_plan,
    draw=_draw,
    claims=(
        Claim(
            "EntropySGD does not necessarily flatten the landscape.",
            "App. F.1, Fig. 7",
            _not_always_flatter,
        ),
        Claim("Its training loss is smaller than that of the others.", "App. F.1, Fig. 7", _lower),
    ),
    analogue=f"{ANALOGUE} The losses are of 200 samples, under PGD-10.",
    needs="A GPU: 12 trainings of 200 epochs, and PGD-20 on all data at 21 points of each.",
)
