"""Cosine of adversarial perturbations against the step, with the robust error beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, COLUMN, MARKERS, PAGE, axes, figure, paper

# As in liu2020: the eigenvector dashed, random directions solid.
LINES = {"eigen": "--", "random": "-"}
_GREY = "0.7"


def draw(results: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Mean cosine against a, with a band of one standard error over the draws.

    Grey where the robust accuracy at an end is below the floor.
    """
    with paper():
        ax = axes(ax)
        beyond: set[float] = set()
        for result, direction, colour, marker, name in _series(results, labels):
            estimates = result.mean(direction)
            mean = np.array([e.value for e in estimates])
            error = np.array([e.standard_error for e in estimates])
            error[~np.isfinite(error)] = 0  # of a single draw
            near = result.near[list(result.direction).index(direction)].astype(bool)
            line = {"linestyle": LINES[direction], "marker": marker}
            # Grey from the last point in reach on, which its coloured marker then covers.
            edge = ~near | ~np.r_[near[1:], True] | ~np.r_[True, near[:-1]]
            ax.plot(result.a, np.where(edge, mean, np.nan), color=_GREY, zorder=1, **line)
            ax.plot(result.a, np.where(near, mean, np.nan), color=colour, label=name, **line)
            for part, shade in ((near, colour), (~near, _GREY)):
                ax.fill_between(
                    result.a, mean - error, mean + error, where=part, color=shade, alpha=0.25, lw=0
                )
            beyond |= set() if near.all() else {result.floor}
        if beyond:
            floors = " or ".join(f"{100 * f:g} %" for f in sorted(beyond))
            ax.plot([], [], color=_GREY, marker="o", label=f"robust accuracy below {floors}")
        low = ax.get_ylim()[0]
        ax.set_ylim(min(low, 0), 1.02)
        ax.axhline(0, color="0.6", linewidth=0.6)
        ax.set_xlabel(results[0].label("a"))
        ax.set_ylabel(r"cosine of $\delta(\theta + av)$ and $\delta(\theta - av)$")
        ax.legend()
        return ax


def draw_error(results: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Robust error at θ + av (filled marks) and at θ − av (hollow), the mean over the draws."""
    with paper():
        ax = axes(ax)
        for result, direction, colour, marker, name in _series(results, labels):
            if result.robust_error is None:
                continue
            for end, face in zip(result.mean_error(direction), (colour, "white"), strict=True):
                ax.plot(
                    result.a,
                    100 * end,
                    linestyle=LINES[direction],
                    marker=marker,
                    color=colour,
                    markerfacecolor=face,
                    label=None if face == "white" else name,
                )
        ax.plot([], [], "o", color="black", label=r"at $\theta + av$")
        ax.plot([], [], "o", color="black", markerfacecolor="white", label=r"at $\theta - av$")
        for floor in {result.floor for result in results}:
            height = 100 * (1 - floor)
            ax.axhline(height, color="0.6", linewidth=0.8, linestyle=":")
            ax.text(
                0.01,
                height + 1,
                f"floor {100 * floor:g} %",
                color="0.4",
                fontsize=7,
                transform=ax.get_yaxis_transform(),
            )
        ax.set_ylim(0, 100)
        ax.set_xlabel(results[0].label("a"))
        ax.set_ylabel("robust error (%)")
        ax.legend()
        return ax


def _series(results: Sequence[Any], labels: Sequence[str]) -> list[tuple[Any, str, str, str, str]]:
    """One colour per result, or per direction of a single one; markers tell the same in grey."""
    series = []
    for i, result in enumerate(results):
        for k, direction in enumerate(result.direction):
            style = i if len(results) > 1 else k
            name = f"{labels[i]}, {direction}" if len(results) > 1 and labels else str(direction)
            series.append(
                (
                    result,
                    str(direction),
                    COLOURS[style % len(COLOURS)],
                    MARKERS[style % len(MARKERS)],
                    name,
                )
            )
    return series


def compare(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """The cosine left and the robust error right."""
    with paper():
        fig = figure(PAGE, 0.75 * COLUMN / PAGE)
        left, right = fig.subplots(1, 2)
        draw(results, labels, ax=left)
        draw_error(results, labels, ax=right)
        known = left.get_legend_handles_labels()[1]
        handles, names = right.get_legend_handles_labels()
        new = [(h, n) for h, n in zip(handles, names, strict=True) if n not in known]
        right.legend(*zip(*new, strict=True))
        return fig
