"""li2023 Fig. 4 as a figure: what ``weakened`` measures, drawn, and its claims (§4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import line, over_seeds, panels, style_of
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Curves
from landscape.papers.li2023.along import by_method, rank_correlation
from landscape.papers.li2023.overfitting import ANALOGUE, DISK
from landscape.papers.li2023.setting import trained
from landscape.papers.li2023.weakened import randomly_modified, trained_on_weakened
from landscape.papers.scale import Scale
from landscape.plotting.style import log_x
from landscape.running.work import Work, measure

SCALES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
FLIPS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
CASES = {
    "random": "(a) weights with noise",
    "scale": "(b) smaller perturbations",
    "flip": "(c) flipped signs",
}


def _plan(scale: Scale) -> Mapping[str, Work]:
    n = scale.pick(digits=None, mnist=2000, paper=2000)
    reference = scale.pick(digits="pgd-50", paper="pgd-50", smoke="pgd-10")
    epochs = scale.pick(digits=5, paper=1, smoke=1)
    variants = scale.pick(digits=20, paper=20, smoke=6)
    scales = scale.pick(digits=SCALES, paper=SCALES, smoke=(0.0, 1.0))
    flips = scale.pick(digits=FLIPS, paper=FLIPS, smoke=(0.0, 0.5))
    works: dict[str, Work] = {}
    for seed in scale.seeds(3):
        run = trained(scale, "pgd", seed, along=True)
        works[f"random/pgd/seed{seed}"] = measure(
            randomly_modified,
            run,
            variants=variants,
            relative=scale.name != "paper",
            reference=reference,
            n=n,
        )
        shared = {"epochs": epochs, "reference": reference, "n": n}
        works[f"scale/pgd/seed{seed}"] = measure(trained_on_weakened, run, scales=scales, **shared)
        works[f"flip/pgd/seed{seed}"] = measure(trained_on_weakened, run, flips=flips, **shared)
    return works


_EFFECTIVENESS = {"train": "training examples", "fgsm": "FGSM", "pgd-10": "PGD-10"}


def _draw(found: Found) -> Any:
    groups = {case: by_method(found, case)["pgd"] for case in CASES}
    fig, axes = panels(3, ratio=0.95)
    first = axes[0][0]
    for k, name in enumerate(("fgsm", "pgd-10")):
        hs = np.concatenate([c.of("HS") for c in groups["random"]])
        values = np.concatenate([c.of(name) for c in groups["random"]])
        style = style_of(k + 1, linestyle="none", alpha=0.6)
        first.plot(hs, values, label=_EFFECTIVENESS[name], **style)
    log_x(first)
    first.set(xlabel="HS (1/input²)", ylabel="effectiveness", title=CASES["random"])
    for ax, case in zip(axes[0][1:], ("scale", "flip"), strict=True):
        seeds = groups[case]
        for k, (name, label) in enumerate(_EFFECTIVENESS.items()):
            mean, spread = over_seeds([c.of(name) for c in seeds])
            style = style_of(k or 3, markersize=2.5)
            line(ax, seeds[0].x, mean, spread, label=f"effectiveness, {label}", **style)
        other = ax.twinx()
        other.spines["right"].set_visible(True)
        mean, spread = over_seeds([c.of("HS") for c in seeds])
        style = style_of(0, markersize=2.5, linestyle="--")
        line(other, seeds[0].x, mean, spread, label="HS (right axis)", **style)
        other.set_ylim(bottom=0)
        ax.set(xlabel=seeds[0].x_label, title=CASES[case])
        if case == "flip":
            other.set_ylabel("HS (1/input²)")
    handles, labels = (
        a + b
        for a, b in zip(
            axes[0][1].get_legend_handles_labels(), other.get_legend_handles_labels(), strict=True
        )
    )
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    return fig


def _minus_rank(one: Curves, a: str, b: str) -> float:
    return -rank_correlation(one.of(a), one.of(b))


def _examples(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(
                [_minus_rank(c, "HS", "train") for c in by_method(found, case)["pgd"]],
                f"minus the rank correlation of HS and effectiveness, {CASES[case]}",
            )
            for case in ("scale", "flip")
        ]
    )


def _attacks(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(
                [_minus_rank(c, "HS", name) for c in by_method(found, case)["pgd"]],
                f"minus the rank correlation of HS and {_EFFECTIVENESS[name]}, {CASES[case]}",
            )
            for case in CASES
            for name in ("fgsm", "pgd-10")
        ]
    )


def _drop(one: Curves, name: str) -> float:
    """Mean effectiveness of the third of least HS minus that of the third of most."""
    hs, values = one.of("HS"), one.of(name)
    there = np.isfinite(hs) & np.isfinite(values)
    ordered = values[there][np.argsort(hs[there], kind="stable")]
    third = max(1, len(ordered) // 3)
    return float(ordered[:third].mean() - ordered[-third:].mean()) if len(ordered) else np.nan


def _more_sensitive(found: Found) -> Verdict:
    verdicts = []
    for case in CASES:
        seeds = by_method(found, case)["pgd"]
        fgsm, pgd = ([_drop(c, name) for c in seeds] for name in ("fgsm", "pgd-10"))
        what = f"loss of effectiveness from little to much HS, {CASES[case]}"
        verdicts.append(claims.greater(fgsm, pgd, what, names=("FGSM", "PGD-10")))
    return claims.all_of(verdicts)


FIG4 = Figure(
    "li2023/fig4",
    "Curvature and effectiveness of modified networks",
    plan=_plan,
    draw=_draw,
    claims=(
        Claim(
            "HS falls as the effectiveness of the weakened examples that were trained on rises.",
            "§4.3, Fig. 4b, c",
            _examples,
        ),
        Claim(
            "The effectiveness of FGSM and of PGD-10 falls as HS rises, in all three cases.",
            "§4.3, Fig. 4",
            _attacks,
        ),
        Claim("FGSM loses more effectiveness than PGD-10.", "§4.3, Fig. 4", _more_sensitive),
    ),
    analogue=f"{ANALOGUE} One epoch has 8 updates here, so weakened examples are trained on for 5. "
    "Noise in the weights is in proportion to the weights of every parameter.",
    needs=f"{DISK} The paper leaves open the learning rate of the epoch on weakened examples (here "
    "0.1, that of the start) and the number of random networks (20). Its text and its caption name "
    "the panels differently: these are the caption's.",
)
