"""Dead neurons: share of dead units and of zero activations, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, COLUMN, MARKERS, axes, figure, layer_labels, paper

# More rows than this are not legible; the file has them all.
_MOST_LAYERS = 50


def draw(results: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Share of dead units (filled) and mean share of zeros with 1 s.e. (hollow), by layer."""
    with paper():
        ax = axes(ax)
        names = layer_names(results)
        shown = names[:_MOST_LAYERS]
        for i, result in enumerate(results):
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            index = {str(name): k for k, name in enumerate(result.layer)}
            rows = [row for row, name in enumerate(shown) if name in index]
            at = [index[shown[row]] for row in rows]
            height = np.array(rows) + 0.6 * ((i + 0.5) / len(results) - 0.5)
            ax.plot(
                100 * result.dead_share[at],
                height,
                marker,
                color=colour,
                label=labels[i] if i < len(labels) else None,
                clip_on=False,
            )
            ax.errorbar(
                100 * result.zero_share[at],
                height,
                xerr=100 * result.zero_share_standard_error[at],
                fmt=marker,
                color=colour,
                markerfacecolor="white",
            )
        ax.plot([], [], "o", color="0.3", label="units that are dead")
        ax.plot([], [], "o", color="0.3", markerfacecolor="white", label="zeros, mean ± s.e.")
        ax.set_yticks(range(len(shown)), layer_labels(shown, 20, whole=1))
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.set_xlim(0, 100)
        ax.grid(axis="y", color="0.9", linewidth=0.5)
        ax.set_axisbelow(True)
        more = f", first {len(shown)} of {len(names)} layers" if len(names) > len(shown) else ""
        ax.set_xlabel(f"share (%){more}")
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
        return ax


def layer_names(results: Sequence[Any]) -> list[str]:
    """Activations in the order of the first network that has them."""
    return list(dict.fromkeys(str(name) for result in results for name in result.layer))


def compare(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """One panel, as high as its layers need."""
    rows = min(len(layer_names(results)), _MOST_LAYERS)
    with paper():
        fig = figure(COLUMN, max(0.6, 0.3 + rows * (0.035 + 0.012 * len(results))))
        draw(results, labels, ax=fig.add_subplot())
        return fig
