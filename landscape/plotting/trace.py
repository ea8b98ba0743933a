"""Traces: the running mean over the probes, and what every parameter tensor adds."""

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
    panel,
    paper,
)

# More rows than this are not legible; the file has them all.
_MOST_LAYERS = 24


def draw(traces: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Running mean of the trace estimates with a band of one standard error."""
    with paper():
        ax = axes(ax)
        for i, trace in enumerate(traces):
            colour = COLOURS[i % len(COLOURS)]
            n = np.arange(1, len(trace.estimates) + 1)
            mean = np.cumsum(trace.estimates) / n
            error = np.array([trace.estimates[:m].std(ddof=1) / np.sqrt(m) for m in n[1:]])
            ax.plot(
                n,
                mean,
                color=colour,
                marker=MARKERS[i % len(MARKERS)],
                markevery=[-1],
                label=labels[i] if i < len(labels) else None,
            )
            ax.fill_between(
                n[1:], mean[1:] - error, mean[1:] + error, color=colour, alpha=0.25, linewidth=0
            )
        if labels:
            ax.legend()
        ax.set_xlabel("probes")
        ax.set_ylabel("trace of the Hessian ± s.e.\n(loss / weight²)")
        return ax


def draw_layers(traces: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Traces of the parameter tensors' blocks ± one standard error, the largest on top."""
    with paper():
        ax = axes(ax)
        names = largest_layers(traces)
        shown = names[:_MOST_LAYERS]
        for i, trace in enumerate(traces):
            estimates = trace.layers()
            rows = [row for row, name in enumerate(shown) if name in estimates]
            found = [estimates[shown[row]] for row in rows]
            apart = 0.6 * ((i + 0.5) / len(traces) - 0.5)  # side by side within the row
            ax.errorbar(
                np.array([e.value for e in found]),
                np.array(rows) + apart,
                xerr=[e.standard_error for e in found],
                fmt=MARKERS[i % len(MARKERS)],
                color=COLOURS[i % len(COLOURS)],
                label=labels[i] if i < len(labels) else None,
            )
        ax.axvline(0, color="0.6", linewidth=0.6, zorder=0)
        ax.set_yticks(range(len(shown)), layer_labels(shown))
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.grid(axis="y", color="0.9", linewidth=0.5)
        ax.set_axisbelow(True)
        more = f", largest {len(shown)} of {len(names)}" if len(names) > len(shown) else ""
        ax.set_xlabel(f"trace of the parameter's block ± s.e.\n(loss / weight²){more}")
        if labels:
            ax.legend()
        return ax


def largest_layers(traces: Sequence[Any]) -> list[str]:
    """The names of the parameter tensors, by the largest |trace| in any of the results."""
    size: dict[str, float] = {}
    for trace in traces:
        for name, estimate in trace.layers().items():
            size[name] = max(size.get(name, 0.0), abs(estimate.value))
    return sorted(size, key=lambda name: -size[name])


def compare(traces: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """A figure with the running means, and on the right the layers where they are known."""
    rows = min(len(largest_layers(traces)), _MOST_LAYERS)
    if not rows:
        fig, ax = panel()
        draw(traces, labels, ax=ax)
        return fig
    with paper():
        height = max(0.38, 0.11 + rows * (0.016 + 0.008 * len(traces)))
        fig = figure(PAGE, height)
        left, right = fig.subplots(1, 2)
        draw(traces, labels, ax=left)
        draw_layers(traces, ax=right)
        return fig
