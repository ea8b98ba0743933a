"""liu2020 Figs. 4, 13 and 14: what growing budgets do, for learning rates and widths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import FAILS, HOLDS, OPEN, Claim, Verdict
from landscape.papers.drawing import over_seeds, panels, style_of
from landscape.papers.figures import Figure, Found
from landscape.papers.liu2020.quantities import held_out_errors
from landscape.papers.liu2020.setting import (
    DIGITS,
    LENET,
    SEEDS,
    SEEDS_MNIST,
    Family,
    target,
    trained,
)
from landscape.papers.scale import Scale
from landscape.plotting.style import log_x
from landscape.running.work import Measure, Work, measure

BUDGETS = ("constant", "cosine", "linear")
# Of 10 classes: a robust error from here on is that of a network that has not learned the task.
FAILED = 80.0


def errors(
    scale: Scale, family: Family, eps: float, seed: int, *, resets: bool = False, **o: Any
) -> Measure:
    """The measurement of a run's test errors, of its ensemble if there are periods."""
    return measure(
        held_out_errors,
        trained(scale, family, eps, seed, resets=resets, **o),
        attacks=scale.pick(
            digits=("pgd-20",),
            mnist=("pgd-100", "apgd-ce-100"),
            paper=("pgd-100", "apgd-ce-100"),
            smoke=("pgd-2",),
        ),
        queries=scale.pick(digits=0, mnist=5000, paper=5000),
        which="ensemble" if resets else "final",
    )


def _mnist(scale: Scale, seed: int, **options: Any) -> Measure:
    return errors(scale, LENET, target(scale), seed, **options)


def seeds(scale: Scale) -> tuple[int, ...]:
    """Those of the MNIST experiments of §5."""
    return scale.seeds(scale.pick(digits=SEEDS, mnist=SEEDS_MNIST, paper=SEEDS_MNIST))


def rates(scale: Scale) -> tuple[float, ...]:
    """Learning rates of Fig. 4; the paper's grid is only drawn, not stated."""
    mnist = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
    return scale.pick(digits=(3e-4, 1e-3, 1e-2), mnist=mnist, paper=mnist, smoke=(1e-3,))


def warmed(scale: Scale) -> tuple[float, ...]:
    """Learning rates of Fig. 13: the usual one, 3 and 10 times as much."""
    mnist = (1e-4, 3e-4, 1e-3)
    return scale.pick(digits=(1e-3, 1e-2), mnist=mnist, paper=mnist, smoke=(1e-3,))


def widths(scale: Scale) -> tuple[int, ...]:
    """Of Fig. 14; the text names 2, 4 and 16."""
    mnist = (2, 4, 8, 16)
    return scale.pick(digits=(1, 4), mnist=mnist, paper=mnist, smoke=(1, 4))


def _robust(found: Found) -> dict[str, np.ndarray]:
    """``first/second`` of the plan's names: robust error in %, one number per seed."""
    values: dict[str, list[float]] = {}
    for name, errors in found.items():
        values.setdefault(name.rpartition("/")[0], []).append(errors.at("robust", "error"))
    return {name: np.array(v) for name, v in values.items()}


def _grid(found: Found, budget: str) -> np.ndarray:
    """(abscissa, seed), in the plan's order."""
    rows = [v for name, v in _robust(found).items() if name.startswith(f"{budget}/")]
    return np.array(rows)


def _abscissa(found: Found, budget: str) -> list[float]:
    names = [name for name in _robust(found) if name.startswith(f"{budget}/")]
    return [float(name.partition("=")[2]) for name in names]


# -- Fig. 4 ---------------------------------------------------------------------------------------


def _plan4(scale: Scale) -> Mapping[str, Work]:
    return {
        f"{budget}/lr={lr:g}/seed{seed}": _mnist(scale, seed, budget=budget, lr=lr)
        for budget in BUDGETS
        for lr in rates(scale)
        for seed in seeds(scale)
    }


def _against_constant(found: Found, of: Any, what: str) -> Verdict:
    """Per seed, ``of`` the (learning rate, seed) errors is lower with either scheduler."""
    constant = of(_grid(found, "constant"))
    return claims.all_of(
        [
            claims.greater(
                constant, of(_grid(found, budget)), f"{what}, {budget}", names=("constant", budget)
            )
            for budget in BUDGETS[1:]
        ]
    )


def better(found: Found) -> Verdict:
    return _against_constant(found, lambda e: e.min(0), "lowest robust error over learning rates")


def broader(found: Found) -> Verdict:
    return _against_constant(
        found, lambda e: np.ptp(e, axis=0), "range of the robust error over learning rates"
    )


def faster(found: Found) -> Verdict:
    return _against_constant(found, lambda e: e[0], "robust error at the smallest learning rate")


def steadier(found: Found) -> Verdict:
    return _against_constant(found, lambda e: e[-1], "robust error at the largest learning rate")


def _lines(ax: Any, found: Found) -> None:
    # Side by side, so that bars don't hide each other.
    for k, budget in enumerate(BUDGETS):
        mean, spread = over_seeds(_grid(found, budget).T)
        x = np.array(_abscissa(found, budget)) * (0.95, 1.0, 1.05)[k]
        error = np.nan_to_num(spread)
        ax.errorbar(x, mean, error, label=f"{budget} ε", **style_of(k, linestyle="-"))


def _draw4(found: Found) -> Any:
    fig, ((ax,),) = panels(1)
    _lines(ax, found)
    log_x(ax)
    ax.set_xlabel("learning rate of Adam")
    ax.set_ylabel("robust test error (%)")
    ax.set_ylim(top=100)
    fig.legend(loc="outside upper center", ncols=3)
    return fig


# -- Fig. 13 --------------------------------------------------------------------------------------


def _plan13(scale: Scale) -> Mapping[str, Work]:
    learning = {
        f"warm-up/lr={lr:g}/seed{seed}": _mnist(scale, seed, lr=lr, warmup=True)
        for lr in warmed(scale)
        for seed in seeds(scale)
    }
    budget = {
        f"{budget}/lr={lr:g}/seed{seed}": _mnist(scale, seed, budget=budget, lr=lr)
        for budget in BUDGETS[1:]
        for lr in rates(scale)
        for seed in seeds(scale)
    }
    return learning | budget


def _best(found: Found) -> np.ndarray:
    """Robust error per seed of the budget warm-up whose mean is the lowest."""
    rows = np.concatenate([_grid(found, budget) for budget in BUDGETS[1:]])
    return np.asarray(rows[rows.mean(1).argmin()])


def not_as_good(found: Found) -> Verdict:
    return claims.greater(
        _grid(found, "warm-up")[0],
        _best(found),
        "robust error at the usual learning rate",
        names=("warm-up of the learning rate", "best warm-up of ε"),
    )


def less_steady(found: Found) -> Verdict:
    """Deviation from the median over seeds (Brown & Forsythe): larger learning rates' against the
    usual one's."""
    deviation = np.abs(
        _grid(found, "warm-up") - np.median(_grid(found, "warm-up"), 1, keepdims=True)
    )
    if len(deviation) < 2:
        return Verdict(OPEN, "one learning rate", samples=deviation.shape[1])
    return claims.greater(
        deviation[1:].mean(0),
        deviation[0],
        "deviation of the robust error from its median in points",
        names=("larger learning rates", "usual one"),
    )


def sometimes_fails(found: Found) -> Verdict:
    """Among the larger learning rates; that none of a few seeds fails would prove nothing."""
    larger = _grid(found, "warm-up")[1:]
    failed = int((larger >= FAILED).sum())
    outcome = OPEN if failed == 0 else FAILS if failed == larger.size else HOLDS
    text = f"{failed} of {larger.size} runs with larger learning rates above {FAILED:g} %"
    return Verdict(outcome, text, float(failed), larger.size, "runs")


def _draw13(found: Found) -> Any:
    fig, ((ax,),) = panels(1)
    grid = _grid(found, "warm-up")
    mean, spread = over_seeds(grid.T)
    x = _abscissa(found, "warm-up")
    style = style_of(1, linestyle="none")
    ax.errorbar(x, mean, np.nan_to_num(spread), label="warm-up of the learning rate", **style)
    ax.plot(
        np.repeat(x, grid.shape[1]), grid.ravel(), ".", ms=3, color="0.5", label="its single runs"
    )
    best = _best(found).mean()
    ax.axhline(best, color=style_of(0)["color"], label="best warm-up of ε")
    log_x(ax)
    if len(x) > 1:
        ax.set_xlim(x[0] / 1.5, x[-1] * 1.5)
    ax.set_xlabel("final learning rate of Adam")
    ax.set_ylabel("robust test error (%)")
    fig.legend(loc="outside upper center", ncols=2)
    return fig


# -- Fig. 14 --------------------------------------------------------------------------------------


def _plan14(scale: Scale) -> Mapping[str, Work]:
    own = scale.pick(digits=4, mnist=16, paper=16)  # the family's width, whose runs are shared
    return {
        f"{budget}/w={width}/seed{seed}": _mnist(
            scale, seed, budget=budget, width=None if width == own else width
        )
        for budget in BUDGETS
        for width in widths(scale)
        for seed in seeds(scale)
    }


def every_width(found: Found) -> Verdict:
    """Both schedulers, at every width."""
    constant = _grid(found, "constant")
    return claims.all_of(
        [
            claims.greater(
                constant[i],
                _grid(found, budget)[i],
                f"robust error at w = {width:g}, {budget}",
                names=("constant", budget),
            )
            for budget in BUDGETS[1:]
            for i, width in enumerate(_abscissa(found, budget))
        ]
    )


def narrow_fails(found: Found) -> Verdict:
    """All but the widest two of the widths fail with a constant budget, none with the others."""
    narrow = _abscissa(found, "constant")
    narrow = narrow[: max(1, len(narrow) - 2)]
    fails = [
        claims.positive(row, f"robust error at w = {width:g}, constant", at_least=FAILED)
        for width, row in zip(narrow, _grid(found, "constant"), strict=False)
    ]
    works = [
        claims.greater(
            np.full_like(row, FAILED), row, f"robust error at w = {width:g}", names=("bound", name)
        )
        for name in BUDGETS[1:]
        for width, row in zip(narrow, _grid(found, name), strict=False)
    ]
    return claims.all_of(fails + works)


def _draw14(found: Found) -> Any:
    fig, ((ax,),) = panels(1)
    _lines(ax, found)
    log_x(ax)
    shown = _abscissa(found, "constant")
    ax.set_xticks(shown, [f"{width:g}" for width in shown])
    ax.minorticks_off()
    ax.set_xlabel("width factor w of LeNet")
    ax.set_ylabel("robust test error (%)")
    ax.set_ylim(top=100)
    fig.legend(loc="outside upper center", ncols=3)
    return fig


_BOTH = "The cosine and the linear scheduler"
FIG4 = Figure(
    "liu2020/fig4",
    "Robust test error against the learning rate, for several schedulers of the budget",
    plan=_plan4,
    draw=_draw4,
    claims=(
        Claim(f"{_BOTH} reach a lower error than a constant budget.", "§5, Fig. 4", better),
        Claim(
            f"{_BOTH} do well for more learning rates: their error varies less over them.",
            "§5, Fig. 4",
            broader,
        ),
        Claim("At small learning rates they speed training up.", "§5, Fig. 4", faster),
        Claim("At large learning rates they prevent divergence.", "§5, Fig. 4", steadier),
    ),
    analogue=f"{DIGITS}, with Adam for 25 epochs; target 0.2 instead of 0.4, three learning rates.",
)
FIG13 = Figure(
    "liu2020/fig13",
    "Warm-up of the learning rate instead of the budget",
    plan=_plan13,
    draw=_draw13,
    claims=(
        Claim(
            "At the usual learning rate its warm-up does worse than that of the budget.",
            "App. C.2.3, Fig. 13",
            not_as_good,
        ),
        Claim(
            "At larger ones (3 and 10 times) results vary more from run to run.",
            "App. C.2.3, Fig. 13",
            less_steady,
        ),
        Claim(
            "There it sometimes does well and sometimes fails to converge.",
            "App. C.2.3, Fig. 13",
            sometimes_fails,
        ),
    ),
    analogue=f"{DIGITS}, with Adam; a warm-up of 2.5 of 25 epochs, 3 runs instead of 5, and two "
    "learning rates, ten times as large, as there are 475 updates instead of 43,000.",
)
FIG14 = Figure(
    "liu2020/fig14",
    "Robust test error against the width, for several schedulers of the budget",
    plan=_plan14,
    draw=_draw14,
    claims=(
        Claim(
            f"{_BOTH} do better than a constant budget at every width.",
            "App. C.2.4, Fig. 14",
            every_width,
        ),
        Claim(
            f"Narrow networks fail under a constant budget (error above {FAILED:g} %), but not "
            "under the others.",
            "App. C.2.4, Fig. 14",
            narrow_fails,
        ),
    ),
    analogue=f"{DIGITS}, with Adam; widths 1 and 4 instead of 2 to 16.",
)
