"""Lipschitz constants: the sampled slopes below the certified bound, and the layers' norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import (
    COLOURS,
    MARKERS,
    PAGE,
    axes,
    figure,
    layer_labels,
    log_x,
    paper,
)

# More rows than this are not legible; the file has them all.
_MOST_LAYERS = 40


def draw(results: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """A row for every result: slopes of pairs, norms of Jacobians, and the upper bound.

    Thick lines reach from the 5 % to the 95 % quantile, with a tick at the median; a mark is the
    largest. The true constant lies between the rightmost mark and the vertical bar.
    """
    with paper():
        ax = axes(ax)
        for i, result in enumerate(results):
            colour = COLOURS[i % len(COLOURS)]
            samples = (
                (result.ratio[np.isfinite(result.ratio)], 0.18, "white"),
                (result.jacobian, -0.18, colour),
            )
            for values, apart, face in samples:
                values = values[values > 0]
                if not len(values):
                    continue
                low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
                row = i + apart
                ax.plot([low, high], [row, row], color=colour, linewidth=3, alpha=0.4)
                ax.plot([middle], [row], "|", color=colour, markersize=7)
                ax.plot(
                    [values.max()],
                    [row],
                    MARKERS[i % len(MARKERS)],
                    color=colour,
                    markerfacecolor=face,
                )
            if result.upper > 0:
                ax.plot([result.upper] * 2, [i - 0.32, i + 0.32], color=colour, linewidth=2)
                if result.lower > 0:
                    ax.plot([result.lower, result.upper], [i, i], ":", color=colour, linewidth=0.8)
        log_x(ax)
        ax.set_yticks(range(len(labels)), labels)
        ax.set_ylim(len(results) - 0.4, -0.6)
        ax.plot([], [], "o", color="0.3", markerfacecolor="white", label="pairs, largest")
        ax.plot([], [], "o", color="0.3", label=r"$\Vert J(x)\Vert$, largest")
        ax.plot([], [], "|", color="0.3", markersize=9, markeredgewidth=2, label="upper bound")
        ax.legend(
            ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), handletextpad=0.3, columnspacing=1
        )
        ax.set_xlabel("slope (output / input), l2 norms")
        return ax


def draw_layers(results: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Certified norm of every layer, in the network's order; hollow where it has not converged."""
    with paper():
        ax = axes(ax)
        names = layer_names(results)
        shown = names[:_MOST_LAYERS]
        for i, result in enumerate(results):
            norms = dict(zip(map(str, result.layer), result.slope_upper, strict=True))
            sure = dict(zip(map(str, result.layer), result.converged, strict=True))
            rows = [row for row, name in enumerate(shown) if name in norms]
            apart = 0.6 * ((i + 0.5) / len(results) - 0.5)
            for hollow in (False, True):
                at = [row for row in rows if bool(sure[shown[row]]) != hollow]
                ax.plot(
                    [norms[shown[row]] for row in at],
                    np.array(at) + apart,
                    MARKERS[i % len(MARKERS)],
                    color=COLOURS[i % len(COLOURS)],
                    markerfacecolor="white" if hollow else COLOURS[i % len(COLOURS)],
                    label=labels[i] if i < len(labels) and not hollow else None,
                )
        log_x(ax)
        ax.axvline(1, color="0.6", linewidth=0.6, zorder=0)
        ax.set_yticks(range(len(shown)), layer_labels(shown))
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.grid(axis="y", color="0.9", linewidth=0.5)
        ax.set_axisbelow(True)
        more = f", first {len(shown)} of {len(names)}" if len(names) > len(shown) else ""
        ax.set_xlabel(f"certified norm of the layer{more}")
        if labels:
            ax.legend()
        return ax


def layer_names(results: Sequence[Any]) -> list[str]:
    """Layers that have a norm, in the order of the first network that has them."""
    names: dict[str, None] = {}
    for result in results:
        for name, norm in zip(result.layer, result.slope_upper, strict=True):
            if np.isfinite(norm):
                names.setdefault(str(name))
    return list(names)


def page(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """The bounds left, the layers' norms right."""
    rows = min(len(layer_names(results)), _MOST_LAYERS)
    with paper():
        height = max(0.32, 0.1 + 0.07 * len(results), 0.11 + rows * (0.016 + 0.006 * len(results)))
        fig = figure(PAGE, height)
        left, right = fig.subplots(1, 2)
        draw(results, labels, ax=left)
        left.set_ylim(max(len(results), rows / 5) - 0.4, -0.6)  # not stretched beside many layers
        draw_layers(results, ax=right)
        return fig
