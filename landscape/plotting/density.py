"""Spectral densities: a linear and a logarithmic panel, with the scatter over the probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, PAGE, axes, figure, paper

# Ticks of outliers stand above the panel, one row per density, so that no curve crosses them.
_ROW = 0.035

# The logarithmic axis ends at this share of the peak that one single eigenvalue makes.
_FLOOR = 0.1


def draw(
    densities: Sequence[Any],
    labels: Sequence[str] = (),
    ax: Any = None,
    *,
    log: bool = True,
    legend: bool = True,
    outliers: Sequence[Any] | None = None,
) -> Any:
    """Mean density over the probes with a band of one standard error.

    Args:
        densities: results of ``density``. log: a logarithmic axis, from a tenth of the height of
            one eigenvalue's peak, 1/(n σ √2π), below which nothing means anything.
        legend: name the densities and the ticks.
        outliers: for every density, eigenvalues to mark by ticks above the panel (for example
            ``spectrum(...).eigenvalues``). Default: its own ``outliers``; ``()`` for none.
    """
    with paper():
        ax = axes(ax)
        if outliers is None:
            outliers = [() if d.outliers is None else d.outliers for d in densities]
        labels = _named(densities, labels)
        for i, density in enumerate(densities):
            colour = COLOURS[i % len(COLOURS)]
            grid, mean = density.eigenvalue_grid, density.density
            error = np.where(
                np.isfinite(density.density_standard_error), density.density_standard_error, 0.0
            )
            ax.plot(grid, mean, color=colour, label=labels[i] if i < len(labels) else None)
            ax.fill_between(grid, mean - error, mean + error, color=colour, alpha=0.25, linewidth=0)
            if i < len(outliers) and len(outliers[i]):
                ax.plot(
                    outliers[i],
                    np.full(len(outliers[i]), 1 + _ROW * (len(densities) - i)),
                    "|",
                    color=colour,
                    transform=ax.get_xaxis_transform(),
                    clip_on=False,
                )
        if log:
            ax.set_yscale("log", nonpositive="clip")
            ax.set_ylim(*_limits(densities))
        else:
            ax.set_ylim(bottom=0)
        ax.set_xlabel("Hessian eigenvalue λ (loss / weight²)")
        ax.set_ylabel("density of eigenvalues (weight² / loss)")
        if any(len(values) for values in outliers):
            ax.plot([], [], "|", color="0.3", label="outliers")
        if legend and ax.get_legend_handles_labels()[0]:
            ax.legend()
        return ax


def compare(densities: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """A figure for files: linear and logarithmic, or several densities side by side.

    Those share both axes, and every panel shows the curves of the others in grey.
    """
    with paper():
        if len(densities) > 1:
            return _side_by_side(densities, _named(densities, labels))
        fig = figure(PAGE, 0.38)
        left, right = fig.subplots(1, 2, sharex=True)
        draw(densities, labels, ax=left, log=False)
        draw(densities, labels, ax=right, log=True, legend=False)
        return fig


def _side_by_side(densities: Sequence[Any], labels: Sequence[str]) -> Any:
    count = len(densities)
    columns = 2 if count in (2, 4) else 3
    rows = -(-count // columns)
    fig = figure(PAGE, 0.05 + (0.36 if columns == 2 else 0.32) * rows)
    panels = fig.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for i, (density, ax) in enumerate(zip(densities, panels, strict=False)):
        for other in densities:
            if other is not density:
                name = "the others" if other is densities[-1] else None
                grid = other.eigenvalue_grid
                ax.plot(grid, other.density, color="0.75", linewidth=0.8, label=name)
        draw([density], ax=ax, legend=i == 0)
        if labels:
            ax.set_title(labels[i], pad=9)
        if i % columns:
            ax.set_ylabel("")
        lowest = i + columns >= count
        ax.set_xlabel("eigenvalue λ (loss / weight²)" if lowest else "")
        ax.tick_params(labelbottom=lowest)
    for ax in panels[count:]:
        ax.set_visible(False)
    ax.set_ylim(*_limits(densities))
    return fig


def _limits(densities: Sequence[Any]) -> tuple[float, float]:
    """Of a logarithmic axis, for the lowest peak that one eigenvalue can make, and the highest."""
    single = min(1 / (d.parameters * d.sigma * float(np.sqrt(2 * np.pi))) for d in densities)
    return _FLOOR * single, 3 * max(float(d.density.max()) for d in densities)


def _named(densities: Sequence[Any], labels: Sequence[str]) -> list[str]:
    """The labels; with the kernel widths where these differ, as heights then don't compare."""
    if len({d.sigma for d in densities}) == 1:
        return list(labels)
    return [f"{label}, σ = {d.sigma:.2g}" for label, d in zip(labels, densities, strict=False)]
