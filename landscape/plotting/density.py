"""Spectral densities: a linear and a logarithmic panel, with the scatter over the probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, PAGE, axes, figure, paper

# The logarithmic axis ends at this share of the peak that one single eigenvalue makes.
_FLOOR = 0.1


def draw(
    densities: Sequence[Any],
    labels: Sequence[str] = (),
    ax: Any = None,
    *,
    log: bool = True,
    outliers: Sequence[Any] = (),
) -> Any:
    """Mean density over the probes with a band of one standard error.

    Args:
        densities: results of ``density``. log: a logarithmic axis, from a tenth of the height of
            one eigenvalue's peak, 1/(n σ √2π), below which nothing means anything.
        outliers: for every density, eigenvalues to mark by ticks at the foot (for example
            ``spectrum(...).eigenvalues``); none by default.
    """
    with paper():
        ax = axes(ax)
        floor = _FLOOR * min(
            1 / (d.parameters * d.sigma * float(np.sqrt(2 * np.pi))) for d in densities
        )
        for i, density in enumerate(densities):
            colour = COLOURS[i % len(COLOURS)]
            grid, mean = density.eigenvalue_grid, density.density
            error = np.where(
                np.isfinite(density.density_standard_error), density.density_standard_error, 0.0
            )
            ax.plot(grid, mean, color=colour, label=labels[i] if i < len(labels) else None)
            ax.fill_between(grid, mean - error, mean + error, color=colour, alpha=0.25, linewidth=0)
            if i < len(outliers):
                values = np.asarray(outliers[i])
                foot = ax.get_xaxis_transform()
                ax.plot(values, np.full(len(values), 0.02), "|", color=colour, transform=foot)
        if log:
            ax.set_yscale("log", nonpositive="clip")
            ax.set_ylim(floor, 3 * max(float(d.density.max()) for d in densities))
        else:
            ax.set_ylim(bottom=0)
        ax.set_xlabel("Hessian eigenvalue λ")
        ax.set_ylabel("density of eigenvalues")
        if labels:
            ax.legend()
        return ax


def compare(densities: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """A figure with the linear panel on the left and the logarithmic one on the right."""
    with paper():
        fig = figure(PAGE, 0.38)
        left, right = fig.subplots(1, 2)
        draw(densities, labels, ax=left, log=False)
        draw(densities, [], ax=right, log=True)
        return fig
