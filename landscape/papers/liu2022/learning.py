"""liu2022 Fig. 1: learning curves of trainings on parts of the data by difficulty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import panels
from landscape.papers.figures import Figure, Found
from landscape.papers.liu2022.curves import (
    HELD_OUT,
    best,
    decay,
    draw,
    finish,
    gap,
    held_out,
    last,
)
from landscape.papers.liu2022.setting import (
    KINDS,
    subset,
)
from landscape.papers.scale import Scale
from landscape.running.trained import Trained
from landscape.running.work import Work

# A rise of the held-out error below this, or a robust accuracy within this of chance, is none.
SMALL = 0.02
CHANCE = 0.10
PART = (
    "LeNet on the 300 easiest, random or hardest of 1,197 training digits, 60 epochs, PGD-5 of "
    "ε = 0.1, in place of 10,000 of CIFAR-10, ResNet-18, 200 epochs, PGD-10 of 8/255."
)
NEEDS = f"CIFAR-10. {HELD_OUT}"


def of(found: Found, name: str) -> list[Trained]:
    """The runs of all seeds under a name."""
    return list(found.under(name).values())


def each(found: Found, name: str, number: Any) -> list[float]:
    """One number of every seed's run."""
    return [number(run) for run in of(found, name)]


# -- Fig. 1 -----------------------------------------------------------------------------------

_METHODS = {"pgd": "PGD training", "fgsm": "FGSM training", "standard": "vanilla training"}


def _fig1(scale: Scale) -> Mapping[str, Work]:
    return {
        f"{method}/{kind}/seed{seed}": subset(scale, kind, seed, method=method)
        for method in _METHODS
        for kind in KINDS
        for seed in scale.seeds(3)
    }


def _draw_fig1(found: Found) -> Any:
    fig, (row,) = panels(3, ratio=1.15, sharey=True)
    for ax, (method, title) in zip(row, _METHODS.items(), strict=True):
        for k, kind in enumerate(KINDS):
            draw(ax, of(found, f"{method}/{kind}"), k, kind)
        finish(ax, 5 if ax is row[-1] else 0)
        ax.set_title(f"({'abc'[list(row).index(ax)]}) {title}")
    row[0].set_ylabel("error (%)")
    for ax in row[1:]:
        ax.set_ylabel("")
    return fig


def no_decay(values: Sequence[float], what: str) -> Verdict:
    """A rise below two percentage points."""
    verdict = claims.positive([-v for v in values], what, at_least=-SMALL)
    mean = float(np.mean(values))
    return Verdict(
        verdict.outcome, f"{what}: {mean:+.3f}, against at most {SMALL}", mean, verdict.samples
    )


def easy_keeps(found: Found, prefix: str = "") -> Verdict:
    return no_decay(each(found, f"{prefix}easiest", decay), "rise of the error, easiest")


def random_decays(found: Found, prefix: str = "") -> Verdict:
    return claims.positive(each(found, f"{prefix}random", decay), "rise of the error, random")


def hard_overfits(found: Found, prefix: str = "") -> Verdict:
    """The generalisation gap of the hardest above those of the others."""
    hard = each(found, f"{prefix}hardest", gap)
    return claims.all_of(
        {
            kind: claims.greater(
                hard, each(found, prefix + kind, gap), "gap", names=("hardest", kind)
            )
            for kind in ("random", "easiest")
        }
    )


def hard_fails(found: Found, prefix: str = "") -> Verdict:
    """At no epoch more than five points above chance."""
    return claims.positive(
        each(found, f"{prefix}hardest", best), "lowest error, hardest", at_least=0.95 - CHANCE
    )


def _non_trivial(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(
                [1 - last(held_out(r)) for r in of(found, f"{m}/hardest")],
                f"accuracy after training on the hardest, {m}",
                at_least=2 * CHANCE,
            )
            for m in ("fgsm", "standard")
        ]
    )


def _milder(found: Found) -> Verdict:
    return claims.all_of(
        [
            no_decay(each(found, f"{m}/{kind}", decay), f"rise, {m}, {kind}")
            for m in ("fgsm", "standard")
            for kind in KINDS
        ]
    )


def _apart(found: Found, method: str) -> list[float]:
    easy, hard = (of(found, f"{method}/{kind}") for kind in ("easiest", "hardest"))
    return [last(held_out(b)) - last(held_out(a)) for a, b in zip(easy, hard, strict=True)]


def _closer(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.greater(
                _apart(found, "pgd"),
                _apart(found, m),
                "error after the hardest less that after the easiest",
                names=("pgd", m),
            )
            for m in ("fgsm", "standard")
        ]
    )


FIG1 = Figure(
    "liu2022/fig1",
    "Learning curves on the easiest, random and hardest samples under three kinds of training",
    plan=_fig1,
    draw=_draw_fig1,
    claims=(
        Claim(
            "PGD training on the easiest samples shows no adversarial overfitting.",
            "§4.1, Fig. 1a",
            lambda found: easy_keeps(found, "pgd/"),
        ),
        Claim(
            "PGD training on random samples overfits: the robust error rises late.",
            "§4.1, Fig. 1a",
            lambda found: random_decays(found, "pgd/"),
        ),
        Claim(
            "PGD training on the hardest samples overfits most.",
            "§4.1, Fig. 1a",
            lambda found: hard_overfits(found, "pgd/"),
        ),
        Claim(
            "PGD training on the hardest samples fails: robust accuracy stays near chance.",
            "§4.1, Fig. 1a",
            lambda found: hard_fails(found, "pgd/"),
        ),
        Claim(
            "FGSM and vanilla training don't suffer from severe adversarial overfitting.",
            "§4.1, Fig. 1b, c",
            _milder,
        ),
        Claim(
            "With these even the hardest samples give a non-trivial accuracy.",
            "§4.1, Fig. 1b, c",
            _non_trivial,
        ),
        Claim(
            "Easy and hard samples differ less there than under PGD training.",
            "§4.1, Fig. 1b, c",
            _closer,
        ),
    ),
    analogue=f"{PART} Attack of FGSM's held-out error: FGSM. {HELD_OUT}",
    needs=NEEDS,
)
