"""Loss and error along curves between two networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, PAGE, axes, figure, log_y, paper

# The curve is drawn solid, the straight line dashed; what is under attack carries squares.
_STYLES: Any = ("-", "--")
_ATTACKED: dict[str, Any] = {"marker": "s", "markerfacecolor": "white", "markevery": (2, 5)}


def draw_losses(
    results: Sequence[Any], labels: Sequence[str] = (), ax: Any = None, *, legend: bool = True
) -> Any:
    """Training loss along the curve and the straight line; dots are the two networks."""
    with paper():
        ax = axes(ax)
        for i, result in enumerate(results):
            for j, losses in enumerate(result.train_loss):
                ax.plot(result.t, losses, _STYLES[j], color=_colour(results, i, j))
            _mark_ends(ax, result.t, result.train_loss[0])
        values = np.concatenate([result.train_loss.ravel() for result in results])
        values = values[np.isfinite(values)]
        if len(values) and values.max() > 30 * values.min() > 0:
            log_y(ax)
        ax.set_xlabel(results[0].label("t"))
        ax.set_ylabel(results[0].loss_label)
        if legend:
            ax.legend(handles=_handles(results, labels))
        return ax


def draw_errors(results: Sequence[Any], ax: Any = None) -> Any:
    """Test error along both paths, clean and, where measured, under attack."""
    with paper():
        ax = axes(ax)
        for i, result in enumerate(results):
            for what, errors in _errors(result).items():
                extra: dict[str, Any] = _ATTACKED if what == "attacked" else {}
                for j, row in enumerate(errors):
                    ax.plot(result.t, 100 * row, _STYLES[j], color=_colour(results, i, j), **extra)
                _mark_ends(ax, result.t, 100 * errors[0])
        ax.set_ylim(bottom=0)
        ax.set_xlabel(results[0].label("t"))
        ax.set_ylabel("test error (%)")
        return ax


def page(results: Sequence[Any], labels: Sequence[str]) -> Any:
    """A figure with the loss on the left and the errors, if measured, on the right."""
    with paper():
        names = labels if len(results) > 1 else ()
        if not all(_errors(result) for result in results):
            fig = figure()
            draw_losses(results, names, fig.add_subplot())
            return fig
        fig = figure(PAGE, 0.42)
        draw_losses(results, ax=fig.add_subplot(1, 2, 1), legend=False)
        draw_errors(results, fig.add_subplot(1, 2, 2))
        attacked = any("attacked" in _errors(result) for result in results)
        handles = _handles(results, names, attacked)
        fig.legend(handles=handles, loc="outside upper center", ncols=min(4, len(handles)))
        return fig


def _handles(results: Sequence[Any], labels: Sequence[str], attacked: bool = False) -> list[Any]:
    """Legend: a colour per result if there are several, a style per path, the marks."""
    from matplotlib.lines import Line2D

    several = len(results) > 1
    kinds = {result.curve for result in results}
    paths = [kinds.pop() if len(kinds) == 1 else "curve", str(results[0].path[1])]
    colours = [Line2D([], [], color=_colour(results, i, 0), label=n) for i, n in enumerate(labels)]
    styles = [
        Line2D([], [], linestyle=_STYLES[j], label=name, color="black" if several else COLOURS[j])
        for j, name in enumerate(paths)
    ]
    marks = [Line2D([], [], linestyle="", marker="o", color="black", label="the two networks")]
    if attacked:
        square = {**_ATTACKED, "markevery": None}
        marks.append(Line2D([], [], color="0.4", label="under attack", **square))
    return [*colours, *styles, *marks]


def _errors(result: Any) -> dict[str, Any]:
    found = {"clean": result.test_error, "attacked": result.robust_test_error}
    return {name: values for name, values in found.items() if values is not None}


def _colour(results: Sequence[Any], i: int, j: int) -> str:
    """One colour per result, or per path if there is one result."""
    return COLOURS[(i if len(results) > 1 else j) % len(COLOURS)]


def _mark_ends(ax: Any, t: Any, values: Any) -> None:
    ax.plot(t[[0, -1]], values[[0, -1]], "o", color="black", zorder=3, clip_on=False)
