"""Gradient alignment, linearity gap and local Lipschitz constant: distributions over samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting import inputs
from landscape.plotting.style import COLOURS, COLUMN, PAGE, axes, figure, paper


def page(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """Three panels."""
    with paper():
        fig = figure(PAGE, 0.7 * COLUMN / PAGE)
        _fill(fig.subplots(1, 3), results, labels)
        return fig


def below_inputs(slopes: Sequence[Any], results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """The page of the input derivatives, with the three panels as its last row."""
    with paper():
        fig = figure(PAGE, 1.1)
        above, below = fig.subfigures(2, 1, height_ratios=(0.72, 0.36))
        inputs.fill(above.subplots(2, 2), slopes, labels)
        _fill(below.subplots(1, 3), results, labels)
        return fig


def _fill(panels: Any, results: Sequence[Any], labels: Sequence[str]) -> None:
    draw_alignment(results, labels, ax=panels[0])
    for ax, name in zip(panels[1:], ("gap", "lipschitz"), strict=True):
        # The names stand in the first panel alone: the panels are narrower than three legends.
        inputs.draw_distribution(results, name, labels if len(results) == 1 else (), ax=ax)
    for ax in panels[1:]:
        ax.set_ylabel("")
        ax.set_xlabel(ax.get_xlabel().replace(" (", "\n(", 1))  # the panels are narrow


def draw_alignment(results: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Histogram over samples of the cosine (mean over the draws), medians dashed."""
    with paper():
        ax = axes(ax)
        series = [r.sample_alignment() for r in results]
        known = np.concatenate([s[np.isfinite(s)] for s in series])
        # Where all is nearly aligned, an axis down to −1 would be empty.
        low = min(float(known.min()), 0.9) if len(known) else -1.0
        bins = np.linspace(max(low, -1.0), 1.0, 31)
        for i, values in enumerate(series):
            colour = COLOURS[i % len(COLOURS)]
            there = values[np.isfinite(values)]
            said = f"{labels[i]}: " if i < len(labels) else ""
            said += f"median {np.median(there):.3g}" if len(there) else "none"
            left = len(values) - len(there)
            said += f", {left} undefined" if left else ""
            shown = np.clip(there, bins[0], 1)  # rounding may pass 1
            ax.hist(shown, bins, histtype="stepfilled", color=colour, alpha=0.3)
            ax.hist(shown, bins, histtype="step", color=colour, linewidth=0.8)
            if len(there):
                inputs.draw_median(
                    ax, float(np.median(there)), len(series), color=colour, label=said
                )
            else:
                ax.plot([], [], color=colour, label=said)
        ax.set_xlabel("gradient alignment\n(mean cosine over draws)")
        ax.set_ylabel("samples")
        inputs.legend_above(ax, len(series))
        return ax
