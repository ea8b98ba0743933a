"""Learning curves: held-out and training error, and numbers of them that the claims are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.papers.drawing import line, over_seeds, style_of
from landscape.running.trained import Trained

# What every figure of learning curves has in place of the paper's.
HELD_OUT = "Held-out errors are those on the validation split, after every epoch."


def held_out(run: Trained) -> np.ndarray:
    """Error on the validation split after every epoch, a fraction: robust if it was trained so."""
    robust = run.history.val_robust_accuracy
    return np.asarray(1 - (robust if np.isfinite(robust).all() else run.history.val_accuracy))


def training(run: Trained) -> np.ndarray:
    """Error on the samples trained on as they were perturbed, over every epoch's own updates."""
    return np.asarray(1 - run.history.train_accuracy)


def window(values: np.ndarray, begin: float) -> float:
    """Mean over a tenth of the epochs, from the share ``begin`` of the training on."""
    n = len(values)
    first = min(int(begin * n), n - 1)
    return float(np.mean(values[first : max(first + 1, int((begin + 0.1) * n))]))


def last(values: np.ndarray) -> float:
    """Mean over the last tenth."""
    return window(values, 0.9)


def decay(run: Trained, *, begin: float = 0.5) -> float:
    """How much the held-out error rises after the first fall of the learning rate, at ``begin``.

    The mean of the last tenth of the epochs less that of the tenth after the fall, a fraction:
    "adversarial overfitting" where positive. Unlike the difference to the best epoch it is not
    positive by chance.
    """
    error = held_out(run)
    return last(error) - window(error, begin)


def gap(run: Trained) -> float:
    """Generalisation gap: held-out error less training error, means of the last tenth."""
    return last(held_out(run)) - last(training(run))


def best(run: Trained) -> float:
    """The lowest held-out error of all epochs: what early stopping would come to."""
    return float(held_out(run).min())


def draw(ax: Any, runs: Sequence[Trained], k: int, label: str) -> None:
    """Mean over seeds with its standard deviation: held-out solid, training dashed."""
    n = min(len(run.history.epoch) for run in runs)
    x = np.arange(1, n + 1)
    for values, style in ((held_out, "-"), (training, "--")):
        mean, spread = over_seeds([100 * values(run)[:n] for run in runs])
        line(
            ax,
            x,
            mean,
            spread,
            label=label if style == "-" else "",
            **style_of(k, marker=None, linestyle=style),
        )


def finish(ax: Any, columns: int = 3) -> None:
    """Labels, range and, of ``columns`` columns, the key of the lines; 0 for none."""
    ax.set(xlabel="epoch", ylabel="robust error (%)", ylim=(0, 100))
    ax.locator_params(axis="x", integer=True)
    if columns:
        below(ax, columns)


def below(ax: Any, columns: int) -> None:
    """A legend under all the panels of the picture, where it covers nothing."""
    ax.plot([], [], "-", color="0.4", label="held out")
    ax.plot([], [], "--", color="0.4", label="training")
    handles, labels = ax.get_legend_handles_labels()
    ax.figure.legend(handles, labels, loc="outside lower center", ncols=columns)
