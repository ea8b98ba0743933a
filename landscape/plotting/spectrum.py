"""Top eigenvalues against their index, with residual whiskers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, MARKERS, axes, log_y, paper


def draw(spectra: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Eigenvalues of one or several spectra; whiskers are residuals, hollow marks unconverged.

    The axis is logarithmic when all values are positive and span more than a decade.
    """
    with paper():
        ax = axes(ax)
        for i, spectrum in enumerate(spectra):
            values, converged = spectrum.eigenvalues, spectrum.converged.astype(bool)
            index = np.arange(1, len(values) + 1)
            errors = spectrum.residuals
            if spectrum.normaliser is not None:  # as in liu2020: normalised solid, original dashed
                ax.plot(index, values, "--", color=COLOURS[i % len(COLOURS)], linewidth=0.8)
                values = values / spectrum.normaliser.value
                errors = errors / spectrum.normaliser.value
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            ax.plot(index, values, color=colour, linewidth=0.8, alpha=0.6)
            ax.errorbar(
                index[converged],
                values[converged],
                yerr=errors[converged],
                fmt=marker,
                color=colour,
                label=labels[i] if i < len(labels) else None,
            )
            if not converged.all():
                ax.errorbar(
                    index[~converged],
                    values[~converged],
                    yerr=errors[~converged],
                    fmt=marker,
                    color=colour,
                    markerfacecolor="white",
                    label="not converged",
                )
        everything = np.concatenate([line.get_ydata() for line in ax.get_lines()])
        if everything.min() > 0 and everything.max() / everything.min() > 10:
            log_y(ax)
        elif everything.min() < 0 < everything.max():
            ax.axhline(0, color="0.6", linewidth=0.6)
        ax.set_xlabel("index")
        normalised = any(s.normaliser is not None for s in spectra)
        ax.set_ylabel("λ / random loss (dashed: λ)" if normalised else "Hessian eigenvalue λ")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if labels:
            ax.legend()
        return ax
