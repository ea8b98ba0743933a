"""Sweeps: every headline number against an axis of the grid, a series for each of the others."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.errors import UsageError
from landscape.plotting.style import COLOURS, COLUMN, MARKERS, PAGE, axes, figure, log_y, paper

# More panels are not legible on a page: then only the first number of every measurement.
_MOST = 12

# Widest range of positive values on a plain axis.
_RANGE = 30

_NAMES = {
    "eps": "radius ε",
    "lr": "learning rate",
    "n_examples": "samples",
    "batch_size": "batch size",
    "weight_decay": "weight decay",
}


def page(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """A panel for every headline number, two in a row, with one legend for all."""
    if len(results) != 1:
        raise UsageError("sweeps have grids of their own: draw them one by one.")
    (result,) = results
    shown = list(range(len(result.number)))
    if len(shown) > _MOST:
        names = list(map(str, result.measurement))
        shown = [names.index(name) for name in dict.fromkeys(names)][:_MOST]
    if not shown:
        raise UsageError("the sweep has no number to draw: its measurements are pictures alone.")
    columns = min(2, len(shown))
    rows = math.ceil(len(shown) / columns)
    width = PAGE if columns == 2 else COLUMN
    with paper():
        fig = figure(width, (2.3 * rows + 0.5) / width)
        grid = fig.subplots(rows, columns, squeeze=False)
        for ax, j in zip(grid.flat, shown, strict=False):
            draw(result, j, ax=ax, legend=False)
        for ax in [*grid.flat][len(shown) :]:
            ax.set_visible(False)
        handles, names = grid.flat[0].get_legend_handles_labels()
        fits = int(width * 14 / (max(map(len, names), default=0) + 6))
        fig.legend(
            handles,
            names,
            title=_errors(result),
            title_fontsize=7,
            loc="outside upper center",
            ncols=max(1, min(len(names), fits)),
        )
        return fig


def draw(result: Any, number: int, ax: Any = None, *, legend: bool = True) -> Any:
    """One number, by its place: means over the seeds with their standard errors, and the seeds
    themselves as faint points; of single networks the number with an error of its own."""
    with paper():
        ax = axes(ax)
        along = _abscissa(result)
        series = _series(result, along)
        factor = 100.0 if result.units[number] == "fraction" else 1.0
        ticks = list(dict.fromkeys(map(str, result.setting[:, along]))) if along >= 0 else [""]
        numeric = along >= 0 and bool(np.isfinite(result.setting_value[:, along]).all())
        width = 0.5
        if numeric:
            width = 0.03 * float(np.ptp(result.setting_value[:, along]))
        for k, (name, points) in enumerate(series.items()):
            colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
            # Categories side by side, so that the error bars don't hide each other.
            # Along numbers a little apart suffices.
            apart = width * ((k + 0.5) / len(series) - 0.5)
            found = []
            for at, rows in points.items():
                x = float(result.setting_value[rows[0], along]) if numeric else ticks.index(at)
                found.append((x + apart, *_point(result, rows, number)))
                if len(rows) > 1:
                    ax.plot(
                        np.full(len(rows), x + apart),
                        factor * result.value[rows, number],
                        color=colour,
                        marker=marker,
                        linestyle="none",
                        alpha=0.35,
                        markersize=2,
                    )
            at_x, value, low, high = np.array(sorted(found)).T
            style = "-" if k < len(COLOURS) else "--"
            ax.errorbar(
                at_x,
                factor * value,
                yerr=factor * np.nan_to_num([value - low, high - value]).clip(0),
                color=colour,
                marker=marker,
                linestyle=style if numeric else "none",
                label=name or None,
            )
        if numeric:
            _ticks(ax, result, along)
        _label(result, number, along, ax)
        if not numeric:
            ax.set_xticks(range(len(ticks)), ticks)
            ax.set_xlim(-0.5, len(ticks) - 0.5)
        values = result.value[:, number]
        values = values[np.isfinite(values)]
        if len(values) and values.min() > 0 and values.max() > _RANGE * values.min():
            log_y(ax)
        if legend and len(series) > 1:
            ax.legend()
        return ax


def _label(result: Any, number: int, along: int, ax: Any) -> None:
    name = str(result.axis[along]) if along >= 0 else ""
    ax.set_xlabel(_NAMES.get(name, name.replace("_", " ")))
    units = "%" if result.units[number] == "fraction" else str(result.units[number])
    full = str(result.number[number])
    short = full.partition(": ")[2]
    # Whose number it is need only be said where two measurements have one of that name.
    alike = [str(n).partition(": ")[2] for n in result.number].count(short) > 1
    what = (full if alike else short) + (f" ({units})" if units else "")
    ax.set_ylabel("\n".join(textwrap.wrap(what, 34)))


def _errors(result: Any) -> str:
    """What the error bars are."""
    counts = {len(rows) for rows in result.groups().values()}
    if counts == {1}:
        return "single networks; bars: ± s.e. or bound, of shares the 95 % interval"
    seeds = f"{counts.pop()}" if len(counts) == 1 else "the"
    return f"mean ± s.e. over {seeds} seeds; faint: the seeds"


def _ticks(ax: Any, result: Any, along: int) -> None:
    """The values of the grid themselves, where they don't stand too close."""
    values, first = np.unique(result.setting_value[:, along], return_index=True)
    span = values[-1] - values[0]
    if len(values) > 1 and np.diff(values).min() > 0.12 * span:
        ax.set_xticks(values, [str(result.setting[i, along]) for i in first])


def _abscissa(result: Any) -> int:
    """The axis that is drawn along: ε, else the one of most numbers, else the first that varies;
    −1 where nothing does."""
    names = list(map(str, result.axis))
    varying: dict[int, int] = {}
    for k, name in enumerate(names):
        several = len({*map(str, result.setting[:, k])})
        if name in result.group_axes and several > 1:
            numeric = np.isfinite(result.setting_value[:, k]).all()
            varying[k] = several if numeric else 0
    if not varying:
        return names.index("method") if "method" in names else -1
    return max(varying, key=lambda k: (names[k] == "eps" and varying[k] > 0, varying[k]))


def _series(result: Any, along: int) -> dict[str, dict[str, list[int]]]:
    """Rows of every point of every series: those that differ in their seed alone."""
    names = list(map(str, result.axis))
    others = [
        k
        for k, name in enumerate(names)
        if k != along and name in result.group_axes and len({*map(str, result.setting[:, k])}) > 1
    ]
    found: dict[str, dict[str, list[int]]] = {}
    for rows in result.groups().values():
        setting = list(map(str, result.setting[rows[0]]))
        plain = ("method", "checkpoint")
        said = [
            setting[k] if names[k] in plain else f"{names[k]} = {setting[k]}"
            for k in others
            if setting[k]
        ]
        at = setting[along] if along >= 0 else ""
        found.setdefault(", ".join(said), {})[at] = rows
    return found


def _point(result: Any, rows: Sequence[int], number: int) -> tuple[float, float, float]:
    """Value, and the ends of its error bar."""
    there = result.value[result.measured(rows, number), number]
    if not len(there):
        return math.nan, math.nan, math.nan
    value, i = float(there.mean()), rows[0]
    if len(rows) > 1:
        finite = len(there) > 1 and math.isfinite(value)
        error = float(there.std(ddof=1)) / math.sqrt(len(there)) if finite else 0.0
    elif np.isfinite(result.low[i, number]):
        return value, float(result.low[i, number]), float(result.high[i, number])
    else:
        error = float(result.error[i, number])
    return value, value - error, value + error
