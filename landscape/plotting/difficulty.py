"""Groups of samples of like difficulty along a training; the easiest and the hardest images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from textwrap import wrap
from typing import Any

import numpy as np

from landscape.errors import UsageError, unknown
from landscape.plotting.sheets import draw_sheet
from landscape.plotting.style import COLOURS, COLUMN, MARKERS, PAGE, axes, figure, paper

QUANTITIES = ("loss", "error", "feature_norm")

_AXIS = {"loss": "mean loss (nats)", "error": "0-1 error (%)", "feature_norm": "mean ‖h(x)‖₂"}

# Groups drawn: of ten, those of liu2022 Fig. 2.
_SHOWN = 4
# Classes on a sheet, and pairs of runs on a page, before they are too many to see.
_CLASSES = 10
_PAIRS = 3


def draw(result: Any, quantity: str = "loss", ax: Any = None) -> Any:
    """Mean of ``loss``, ``error`` or ``feature_norm`` over four of the groups, along the epochs.

    Bands are one standard error of the mean over the group's samples. With a single epoch, the
    mean of every group.
    """
    if quantity not in QUANTITIES:
        raise unknown("quantity", quantity, QUANTITIES)
    mean = getattr(result, f"group_{quantity}")
    if mean is None:
        raise UsageError(f"there is no {quantity} of the groups to draw.")
    error = np.nan_to_num(getattr(result, f"group_{quantity}_standard_error"))
    scale = 100 if quantity == "error" else 1
    mean, error = scale * mean, scale * error
    epochs = result.feature_epoch if quantity == "feature_norm" else result.epoch
    last = int(result.group[-1])
    with paper():
        ax = axes(ax)
        ax.set_ylabel(_AXIS[quantity])
        if len(epochs) == 1:
            ax.errorbar(result.group, mean[0], error[0], fmt="o", color=COLOURS[0])
            ax.set_xlabel(f"group (0 hardest)\nat epoch {epochs[0]}")
            ax.locator_params(axis="x", integer=True)
            if quantity != "feature_norm":
                ax.set_ylim(0, None if mean.max() > 0 else 1)
            return ax
        for i, g in enumerate(_groups(last)):
            words = {0: " (hardest)", last: " (easiest)"}.get(g, "")
            ax.plot(
                epochs,
                mean[:, g],
                color=COLOURS[i],
                marker=MARKERS[i],
                markevery=max(1, len(epochs) // 10),
                label=f"$G_{{{g}}}${words}",
            )
            low, high = mean[:, g] - error[:, g], mean[:, g] + error[:, g]
            ax.fill_between(epochs, low, high, color=COLOURS[i], alpha=0.25, linewidth=0)
        ax.set_xlabel("epoch")
        ax.locator_params(axis="x", integer=True)
        ax.set_ylim(0, 102 if quantity == "error" else None)
        return ax


def draw_pair(
    first: Any, second: Any, labels: Sequence[str] = ("first", "second"), ax: Any = None
) -> Any:
    """d of every sample in the one run and in the other; on the line they agree."""
    with paper():
        ax = axes(ax)
        many = len(first.difficulty) > 3000
        ax.plot(
            first.difficulty,
            second.difficulty,
            ".",
            color=COLOURS[0],
            markersize=1 if many else 2.5,
            markeredgewidth=0,
            alpha=0.1 if many else 0.4,
            rasterized=many,
        )
        ax.plot([0, 1], [0, 1], color="0.4", linewidth=0.8)
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        ax.set_xlabel(f"d, {labels[0]}")
        ax.set_ylabel(f"d, {labels[1]}")
        return ax


def compare(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """A row of curves per result; below, the d of pairs of runs on the same samples."""
    pairs = [
        (i, j)
        for i, j in combinations(range(len(results)), 2)
        if np.array_equal(results[i].labels, results[j].labels)
    ][:_PAIRS]
    with paper():
        rows = len(results) + bool(pairs)
        fig = figure(PAGE, 0.75 * COLUMN / PAGE * rows)
        grid = fig.subplots(rows, len(QUANTITIES), squeeze=False)
        for i, result in enumerate(results):
            known = [q for q in QUANTITIES if getattr(result, f"group_{q}") is not None]
            for quantity, ax in zip(known, grid[i], strict=False):
                draw(result, quantity, ax)
            for ax in grid[i][len(known) :]:
                ax.set_axis_off()
            if i < len(labels):
                grid[i][0].set_title(labels[i], loc="left")
        for ax, (i, j) in zip(grid[-1], pairs, strict=False):
            names = [labels[k] if k < len(labels) else f"run {k + 1}" for k in (i, j)]
            draw_pair(results[i], results[j], names, ax)
        for ax in grid[-1][len(pairs) :] if pairs else ():
            ax.set_axis_off()
        curves = {h.get_label(): h for ax in fig.axes for h in ax.get_legend_handles_labels()[0]}
        if curves:  # one legend, as there is room inside few panels
            fig.legend(curves.values(), curves, loc="outside upper center", ncols=_SHOWN)
        return fig


def extremes(result: Any, each: int) -> list[np.ndarray]:
    """Positions of the ``each`` easiest and ``each`` hardest samples of every class, for a sheet.

    Of the first ten classes, and no more than the smallest of them has.
    """
    found = []
    classes, counts = np.unique(result.labels, return_counts=True)
    each = min(each, int(counts[:_CLASSES].min()))
    for label in classes[:_CLASSES]:
        rows = np.flatnonzero(result.labels == label)
        rows = rows[np.argsort(-result.difficulty[rows], kind="stable")]
        found.append(np.r_[rows[:each], rows[::-1][:each]])
    return found


def sheet(
    result: Any, images: Any, each: int, *, classes: Sequence[str] = (), title: str = ""
) -> Any:
    """The easiest images of every class left, the hardest right (liu2022 Figs. 20 and 21).

    ``images`` (M, C, H, W) are those at ``np.concatenate(extremes(result, each))``. Under every
    image: d, the class it was predicted as at last where that is known, and in how many epochs
    it was wrong.
    """
    rows = extremes(result, each)
    each = len(rows[0]) // 2
    captions, colours, names = [], [], []
    for part in rows:
        label = int(result.labels[part[0]])
        names.append(_name(classes, label))
        for k, row in enumerate(part):
            told = []
            if result.predicted is not None:
                told.append(f"→ {_name(classes, result.predicted[row])}")
            if result.mean_error is not None:
                told.append(f"{100 * result.mean_error[row]:.0f} %")
            captions.append(f"{result.difficulty[row]:.3f}\n{', '.join(told)}")
            colours.append(COLOURS[0] if k < each else COLOURS[1])
    words = f"{each} easiest (left) and {each} hardest (right) of every class: difficulty d"
    described = result.provenance.objective
    attack = described.get("features", described).get("attack")
    if result.predicted is not None:
        words += "; → class predicted at last" + (" under attack" if attack else "")
    words += "" if result.mean_error is None else "; share of epochs with a wrong prediction"
    return draw_sheet(
        images,
        captions,
        columns=2 * each,
        title="\n".join([*([title] if title else []), *wrap(words, 26 * each)]),
        row_labels=names,
        colours=colours,
    )


def _groups(last: int) -> list[int]:
    return sorted({round(g) for g in np.linspace(0, last, _SHOWN)})


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label][:7] if label < len(classes) else str(label)
