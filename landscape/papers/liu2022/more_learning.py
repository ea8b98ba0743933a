"""liu2022 Figs. 5, 6, 7 and 10: optimisers, another data set, longer training, more data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import panels
from landscape.papers.figures import Figure, Found
from landscape.papers.liu2022.curves import (
    HELD_OUT,
    best,
    draw,
    finish,
    gap,
    held_out,
    last,
    training,
)
from landscape.papers.liu2022.learning import (
    CHANCE,
    NEEDS,
    PART,
    each,
    easy_keeps,
    hard_fails,
    of,
    random_decays,
)
from landscape.papers.liu2022.setting import EPOCHS, KINDS, RN18, SVHN, at, full, sixths, subset
from landscape.papers.scale import Scale
from landscape.running.work import Run, Work

# -- Fig. 5: optimisers -----------------------------------------------------------------------


def _optimisers(scale: Scale) -> dict[str, dict[str, Any]]:
    theirs = (0.1, 1e-2, 1e-3)
    rates = scale.pick(digits=(0.05, 0.005, 0.0005), mnist=theirs, paper=theirs)
    adam = scale.pick(digits=1e-3, paper=1e-4)
    constant = {"schedule": "constant", "optimiser": "adam"}
    return {
        **{f"SGD, lr={lr:g}": {"lr": lr} for lr in rates},
        f"Adam, lr={adam:g}": {"lr": adam, **constant},
    }


def _fig5(scale: Scale) -> Mapping[str, Work]:
    plan: dict[str, Work] = {}
    for i, (name, options) in enumerate(_optimisers(scale).items()):
        for seed in scale.seeds(3):
            # The first is the run of Fig. 1.
            plan[f"{name}/seed{seed}"] = subset(scale, "hardest", seed, **(options if i else {}))
    return plan


def _names(found: Found) -> list[str]:
    return list(dict.fromkeys(name.rpartition("/")[0] for name in found))


def _draw_lines(found: Found, columns: int = 2) -> Any:
    fig, ((ax,),) = panels(1, ratio=0.95)
    for k, name in enumerate(_names(found)):
        draw(ax, of(found, name), k, name)
    finish(ax, columns)
    return fig


def _no_optimiser(found: Found) -> Verdict:
    return claims.all_of(
        [
            claims.positive(each(found, n, best), f"lowest error, {n}", at_least=0.95 - CHANCE)
            for n in _names(found)
        ]
    )


def _adam_fits(found: Found) -> Verdict:
    names = _names(found)
    adam = [last(training(r)) for r in of(found, names[-1])]
    sgd = [last(training(r)) for r in of(found, names[0])]
    return claims.greater(sgd, adam, "training error", names=("SGD", "Adam"))


FIG5 = Figure(
    "liu2022/fig5",
    "Learning curves of PGD training on the hardest samples with several optimisers",
    plan=_fig5,
    draw=_draw_lines,
    claims=(
        Claim(
            "No optimiser gets the robust accuracy significantly above chance.",
            "App. D.3, Fig. 5",
            _no_optimiser,
        ),
        Claim(
            "Adam fits the hard training samples better than SGD.", "App. D.3, Fig. 5", _adam_fits
        ),
    ),
    analogue=f"{PART} SGD of .05, .005 and .0005 and Adam of .001 in place of .1, .01, .001 and "
    f".0001. {HELD_OUT}",
    needs=NEEDS,
)

# -- Fig. 6: another data set; Fig. 10: more and more data ------------------------------------


def _larger(scale: Scale, kind: str, size: int, seed: int, recipe: Mapping[str, str]) -> Run:
    """A larger part, trained like all the data so that it can be compared with that."""
    return subset(
        scale,
        kind,
        seed,
        size=size,
        recipe=recipe,
        epochs=at(scale, EPOCHS),
        batch_size=scale.pick(digits=64, mnist=128, paper=128),
    )


def _fig6(scale: Scale) -> Mapping[str, Work]:
    size = scale.pick(digits=600, mnist=20_000, paper=20_000)
    return {
        f"{kind}/seed{seed}": _larger(scale, kind, size, seed, SVHN)
        for kind in KINDS
        for seed in scale.seeds(3)
    }


FIG6 = Figure(
    "liu2022/fig6",
    "Learning curves on the easiest, random and hardest samples of a second data set",
    plan=_fig6,
    draw=lambda found: _draw_lines(found, 3),
    claims=(
        Claim("The hardest samples give trivial robustness.", "App. D.3, Fig. 6", hard_fails),
        Claim("Random samples overfit late.", "App. D.3, Fig. 6", random_decays),
        Claim("The easiest don't.", "App. D.3, Fig. 6", easy_keeps),
    ),
    analogue="No second data set is at hand offline: a larger part, 600 of the 1,197 training "
    f"digits, for 30 epochs, in place of 20,000 of SVHN. {HELD_OUT}",
    needs=f"SVHN. {HELD_OUT}",
)


def _fig10(scale: Scale) -> Mapping[str, Work]:
    plan: dict[str, Work] = {}
    theirs = {
        "CIFAR-10": (RN18, (10_000, 20_000, 30_000, 40_000)),
        "SVHN": (SVHN, (20_000, 30_000, 40_000)),
    }
    ours = {"mnist": (10_000, 20_000, 30_000, 40_000), "digits": (300, 600, 900), "smoke": (20,)}
    sets = theirs if scale.name == "paper" else {scale.name: (RN18, ours[scale.name])}
    for data, (recipe, sizes) in sets.items():
        for seed in scale.seeds(3):
            for size in sizes:
                plan[f"{data}/{size}/seed{seed}"] = _larger(scale, "easiest", size, seed, recipe)
            plan[f"{data}/all/seed{seed}"] = full(scale, "pgd", seed, recipe=recipe)
    return plan


def _sizes(found: Found) -> dict[str, list[str]]:
    sizes: dict[str, list[str]] = {}
    for name in found:
        data, size, _ = name.split("/")
        if size not in sizes.setdefault(data, []):
            sizes[data].append(size)
    return {data: [s for s in x if s != "all"] + ["all"] for data, x in sizes.items()}


def _draw_fig10(found: Found) -> Any:
    sizes = _sizes(found)
    fig, (row,) = panels(len(sizes), ratio=0.95, sharey=True)
    for ax, (data, names) in zip(row, sizes.items(), strict=True):
        for k, size in enumerate(names):
            label = "all" if size == "all" else f"easiest {size}"
            draw(ax, of(found, f"{data}/{size}"), k, label)
        finish(ax, 3 if ax is row[0] else 0)
        if len(sizes) > 1:
            ax.set_title(data)
    return fig


def _by_size(found: Found, number: Any) -> Verdict:
    verdicts = []
    for data, names in _sizes(found).items():
        curves = np.array([each(found, f"{data}/{size}", number) for size in names]).T
        x = np.arange(len(names))
        verdicts.append(claims.trend(x, -curves, f"accuracy with the amount of data, {data}"))
    return claims.all_of(verdicts)


def _final_not_better(found: Found) -> Verdict:
    """What the last epoch loses to the best one grows with the data."""
    verdicts = []
    for data, names in _sizes(found).items():
        lost = [[last(held_out(r)) - best(r) for r in of(found, f"{data}/{n}")] for n in names]
        verdicts.append(
            claims.trend(np.arange(len(names)), np.array(lost).T, f"loss to the best epoch, {data}")
        )
    return claims.all_of(verdicts)


FIG10 = Figure(
    "liu2022/fig10",
    "Learning curves of PGD training on more and more samples, the easiest first",
    plan=_fig10,
    draw=_draw_fig10,
    claims=(
        Claim(
            "With early stopping more data make a better model.",
            "§4.1, App. D.3, Fig. 10",
            lambda found: _by_size(found, best),
        ),
        Claim(
            "Without it the harder samples cost part of that: the last epoch falls behind the "
            "best the more, the more data.",
            "App. D.3, Fig. 10",
            _final_not_better,
        ),
    ),
    analogue="The easiest 300, 600 and 900 and all 1,197 training digits, 30 epochs, in place of "
    f"10,000 to all of CIFAR-10 and SVHN. {HELD_OUT}",
    needs=f"CIFAR-10 and SVHN. {HELD_OUT}",
)

# -- Fig. 7: three times as long --------------------------------------------------------------


def _fig7(scale: Scale) -> Mapping[str, Work]:
    epochs = scale.pick(digits=120, mnist=180, paper=600)
    return {
        f"hardest/seed{seed}": subset(
            scale, "hardest", seed, epochs=epochs, **sixths(scale, epochs)
        )
        for seed in scale.seeds(3)
    }


def _gap_widens(found: Found) -> Verdict:
    # From after the first fall of the learning rate, at a sixth of the epochs.
    begin = 1 / 6
    change = [
        gap(r) - (lambda e: e[0] - e[1])([_at(held_out(r), begin), _at(training(r), begin)])
        for r in of(found, "hardest")
    ]
    return claims.positive(change, "growth of the generalisation gap")


def _at(values: np.ndarray, begin: float) -> float:
    first = int(begin * len(values))
    return float(np.mean(values[first : max(first + 1, first + len(values) // 30)]))


def _no_gain(found: Found) -> Verdict:
    return hard_fails(found)


FIG7 = Figure(
    "liu2022/fig7",
    "Learning curves of a long PGD training on the hardest samples",
    plan=_fig7,
    draw=_draw_lines,
    claims=(
        Claim(
            "Longer training on the hardest samples greatly widens the generalisation gap.",
            "App. D.3, Fig. 7",
            _gap_widens,
        ),
        Claim("Robust accuracy stays near chance all along.", "App. D.3, Fig. 7", _no_gain),
    ),
    analogue=f"{PART} 120 epochs in place of 600. {HELD_OUT}",
    needs=NEEDS,
)
