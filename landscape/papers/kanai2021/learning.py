"""kanai2021 Figs. 3 and 6: robust accuracies along the training, by SGD and by EntropySGD."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import line, over_seeds, panels
from landscape.papers.figures import Figure, Found
from landscape.papers.kanai2021.checks import within
from landscape.papers.kanai2021.setting import ANALOGUE, MAIN, trained
from landscape.papers.scale import Scale
from landscape.plotting.style import COLOURS
from landscape.running.trained import Trained
from landscape.running.work import Work

_TRAIN, _TEST = "train_accuracy", "val_robust_accuracy"
_AWP = "AWP (γ=0.005)"
_ANALOGUE = f"{ANALOGUE} The test curve is of the validation split, under PGD-10."


def _plan3(scale: Scale) -> Mapping[str, Work]:
    return {
        f"{name}/seed{seed}": trained(scale, name, seed) for name in MAIN for seed in scale.seeds(3)
    }


def _plan6(scale: Scale) -> Mapping[str, Work]:
    found: dict[str, Work] = dict(_plan3(scale))
    for seed in scale.seeds(3):
        found[f"{_AWP}/seed{seed}"] = trained(scale, "AWP", seed, gamma=0.005)
    return found


# -- what a training's record says ----------------------------------------------------------------


def passes(run: Trained) -> np.ndarray:
    """Forward and backward passes over the training data up to the end of every epoch."""
    method = run.config.plan.method
    plain = dataclasses.replace(method, weights=None)
    awp = method.weights
    # AWP's share begins after its warm-up.
    each = [
        sum((plain if awp is None or not awp.active(e - 0.5) else method).passes)
        for e in run.history.epoch
    ]
    return np.cumsum(each)


def _seconds(run: Trained) -> np.ndarray:
    return np.cumsum(run.history.seconds)


def _epochs(run: Trained) -> np.ndarray:
    return np.asarray(run.history.epoch)


def _early(run: Trained) -> np.ndarray:
    """The epochs before the first decay of the learning rate."""
    return np.asarray(run.history.epoch <= run.config.plan.schedule.milestones[0])


def _late(run: Trained) -> np.ndarray:
    """The epochs with everything switched on: AWP and EntropySGD."""
    method = run.config.plan.method
    starts = [0.0]
    if method.weights:
        starts.append(method.weights.warmup)
    if method.descent:
        starts.append(method.descent.start)
    return np.asarray(run.history.epoch > max(starts))


def _mean_early(run: Trained, column: str) -> float:
    return 100 * float(getattr(run.history, column)[_early(run)].mean())


def _at_end(run: Trained, column: str) -> float:
    return 100 * float(getattr(run.history, column)[-1])


def _at_best(run: Trained, column: str) -> float:
    return 100 * float(getattr(run.history, column).max())


def _values(
    found: Found, name: str, value: Callable[[Trained, str], float], column: str
) -> list[float]:
    return [value(run, column) for run in found.under(name).values()]


def _greater(
    found: Found,
    one: str,
    other: str,
    value: Callable[[Trained, str], float],
    column: str,
    said: str,
) -> Verdict:
    split = "training" if column == _TRAIN else "test"
    return claims.greater(
        _values(found, one, value, column),
        _values(found, other, value, column),
        f"{split} robust accuracy {said} (%)",
        names=(one, other),
    )


# -- pictures -------------------------------------------------------------------------------------


def _curve(ax: Any, found: Found, k: int, name: str, column: str, x_of: Any, label: str) -> None:
    """The mean over seeds with its standard deviation; SGD's dashed, EntropySGD's solid."""
    runs = list(found.under(name).values())
    x = np.mean([x_of(run) for run in runs], axis=0)
    y = [100 * getattr(run.history, column) for run in runs]
    style = {"color": COLOURS[k], "linestyle": "-" if "EnSGD" in name else "--", "lw": 1}
    line(ax, x, *over_seeds(y), label=label, **(style if k < 4 else _FAINT))


_FAINT = {"color": "0.4", "linestyle": ":", "lw": 1}


def _draw3(found: Found) -> Any:
    """A row of training and one of held-out accuracies, a column per abscissa."""
    fig, axes = panels(3, 2, ratio=0.85, sharey="row")
    columns = (
        ("epoch", _epochs),
        ("passes over the data", passes),
        ("runtime on this machine (s)", _seconds),
    )
    for row, column in enumerate((_TRAIN, _TEST)):
        for ax, (label, x_of) in zip(axes[row], columns, strict=True):
            for k, name in enumerate(MAIN):
                _curve(ax, found, k, name, column, x_of, name)
            ax.set_xlabel(label if row else "")
    axes[0, 0].set_ylabel("training robust\naccuracy (%)")
    axes[1, 0].set_ylabel("held-out robust\naccuracy (%)")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


def _draw6(found: Found) -> Any:
    fig, axes = panels(2, ratio=0.8)
    # The last is of Fig. 3, for the second claim.
    shown = {name: name for name in ("AT", "AT+EnSGD", _AWP, "AWP+EnSGD")}
    shown["AWP"] = "AWP (γ=0.01, Fig. 3)"
    for ax, column, split in zip(axes[0], (_TRAIN, _TEST), ("training", "held-out"), strict=True):
        for k, (name, label) in enumerate(shown.items()):
            _curve(ax, found, k, name, column, _epochs, label)
        ax.set(xlabel="epoch", ylabel=f"{split} robust accuracy (%)")
        ax.locator_params(axis="x", integer=True)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


# -- Fig. 3 ---------------------------------------------------------------------------------------

_PAIRS = (("AT+EnSGD", "AT"), ("AWP+EnSGD", "AWP"))


def _accelerates(found: Found) -> Verdict:
    said = "on average before the first decay"
    return claims.all_of([_greater(found, *pair, _mean_early, _TEST, said) for pair in _PAIRS])


def _higher(found: Found) -> Verdict:
    return claims.all_of(
        [_greater(found, *pair, _at_best, _TEST, "at its best") for pair in _PAIRS]
    )


def _overfits_less(found: Found) -> Verdict:
    return claims.all_of(
        [
            _greater(found, "AT", "AT+EnSGD", _at_end, _TRAIN, "at the end"),
            _greater(found, "AT+EnSGD", "AT", _at_end, _TEST, "at the end"),
        ]
    )


def _underfits_less(found: Found) -> Verdict:
    return _greater(found, "AWP+EnSGD", "AWP", _at_end, _TRAIN, "at the end")


def _seconds_each(run: Trained) -> float:
    return float(np.median(run.history.seconds[_late(run)]))


def _passes_each(run: Trained) -> float:
    return float(np.diff(passes(run))[-1]) if len(run.history.epoch) > 1 else float(passes(run)[0])


def _each(found: Found, name: str, value: Callable[[Trained], float]) -> list[float]:
    return [value(run) for run in found.under(name).values()]


def _runtime(found: Found) -> Verdict:
    parts = []
    for one, other in _PAIRS:
        ratio = np.divide(_each(found, one, _seconds_each), _each(found, other, _seconds_each))
        parts.append(
            within(list(ratio), f"seconds per epoch, {one} over {other}, this machine", 0.9, 1.1)
        )
    return claims.all_of(parts)


def _cheaper(found: Found) -> Verdict:
    """Counted, not timed: passes don't depend on the machine."""
    one, other = (_each(found, name, _passes_each)[0] for name in ("AT+EnSGD", "AWP"))
    text = f"passes over the data per epoch: AT+EnSGD {one:g}, AWP {other:g}"
    return claims.exactly(one < other, text, other - one)


FIG3 = Figure(
    "kanai2021/fig3",
    "Robust accuracies of AT and AWP with SGD and EntropySGD against epochs and runtime",
    plan=_plan3,
    draw=_draw3,
    claims=(
        Claim(
            "EntropySGD accelerates training: with it test accuracies before the first decay of "
            "the learning rate are higher.",
            "§5.3, Fig. 3(a)",
            _accelerates,
        ),
        Claim("EntropySGD achieves higher test accuracies than SGD.", "§5.3, Fig. 3(a)", _higher),
        Claim(
            "It alleviates overfitting in AT: training accuracy is lower, test accuracy higher.",
            "§5.3, Fig. 3",
            _overfits_less,
        ),
        Claim(
            "With AWP it alleviates underfitting: training accuracy is higher.",
            "§5.3, Fig. 3",
            _underfits_less,
        ),
        Claim(
            "An epoch takes almost as long as with SGD (within 10 %).", "§5.3, Fig. 3(b)", _runtime
        ),
        Claim("AT with EntropySGD is faster than AWP with SGD.", "§5.3, Fig. 3(b)", _cheaper),
    ),
    analogue=_ANALOGUE,
    needs="A GPU: 12 trainings of 200 epochs.",
)

# -- Fig. 6 ---------------------------------------------------------------------------------------


def _converges(found: Found) -> Verdict:
    said = "on average before the first decay"
    return claims.all_of(
        [
            _greater(found, "AWP+EnSGD", _AWP, _mean_early, column, said)
            for column in (_TRAIN, _TEST)
        ]
    )


def _smaller_is_worse(found: Found) -> Verdict:
    return _greater(found, "AWP", _AWP, _at_best, _TEST, "at its best")


FIG6 = Figure(
    "kanai2021/fig6",
    "Robust accuracies along the training, AWP with γ = 0.005 for both optimisers",
    plan=_plan6,
    draw=_draw6,
    claims=(
        Claim(
            "At γ = .005 for both, AWP converges faster with EntropySGD than with SGD.",
            "App. E.1, Fig. 6",
            _converges,
        ),
        Claim(
            "By SGD, AWP's best test accuracy is lower with γ = .005 than with .01.",
            "App. E.1, Fig. 6",
            _smaller_is_worse,
        ),
    ),
    analogue=_ANALOGUE,
    needs="A GPU: 15 trainings of 200 epochs.",
)
