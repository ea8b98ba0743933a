"""Top eigenvalues against their index, a training's progress, a radius or the layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, MARKERS, axes, figure, layer_labels, log_y, paper


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
        _value_axis(ax)
        ax.set_xlabel("index")
        normalised = any(s.normaliser is not None for s in spectra)
        ax.set_ylabel("λ / random loss (dashed: λ)" if normalised else "Hessian eigenvalue λ")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if labels:
            ax.legend()
        return ax


def page(spectra: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """A figure for files: curves if the spectra are points of curves, layers if they are blocks."""
    with paper():
        if all(s.block for s in spectra):
            return _blocks(spectra)
        fig = figure()
        ax = fig.add_subplot()
        if all(s.position is not None for s in spectra):
            draw_curves(spectra, ax)
        else:
            draw(spectra, labels, ax=ax)
        return fig


def draw_curves(spectra: Sequence[Any], ax: Any = None) -> Any:
    """Eigenvalues over what the spectra are against: the first one solid, inner ones fainter.

    Whiskers are residuals, mostly too short to be seen; hollow marks have not converged.
    """
    with paper():
        ax = axes(ax)
        series = list(dict.fromkeys(s.series for s in spectra))
        for i, name in enumerate(series):
            points = sorted((s for s in spectra if s.series == name), key=lambda s: s.position)
            x = np.array([s.position for s in points])
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            for rank, strength in _shown(min(len(s.eigenvalues) for s in points)):
                scales = [s.normaliser.value if s.normaliser is not None else 1.0 for s in points]
                values = np.array([s.eigenvalues[rank] for s in points]) / scales
                errors = np.array([s.residuals[rank] for s in points]) / scales
                good = np.array([bool(s.converged[rank]) for s in points])
                label = f"λ{rank + 1}" if len(series) == 1 else name if rank == 0 else None
                ax.plot(x, values, color=colour, alpha=strength, linewidth=0.9)
                for chosen, face in ((good, colour), (~good, "white")):
                    if chosen.any():
                        ax.errorbar(
                            x[chosen],
                            values[chosen],
                            yerr=errors[chosen],
                            fmt=marker if rank == 0 else ".",
                            color=colour,
                            alpha=strength,
                            markerfacecolor=face,
                            label=label,
                        )
                        label = None
        _value_axis(ax)
        ax.locator_params(axis="x", nbins=6)
        ax.set_xlabel(spectra[0].against)
        normalised = any(s.normaliser is not None for s in spectra)
        ax.set_ylabel("λ / random loss" if normalised else "Hessian eigenvalue λ")
        if len({s.series for s in spectra}) > 1:
            k = min(len(s.eigenvalues) for s in spectra)
            ax.set_title(f"λ1, and fainter λ{k}" if k > 1 else "λ1")
        ax.legend()
        return ax


def _shown(k: int) -> list[tuple[int, float]]:
    """Which eigenvalues are drawn, by index, and how strongly."""
    ranks = [0, *(r - 1 for r in (5, 20, 100) if 1 < r < k), k - 1] if k > 1 else [0]
    ranks = list(dict.fromkeys(ranks))
    return [(rank, 1.0 - 0.65 * i / max(1, len(ranks) - 1)) for i, rank in enumerate(ranks)]


def _blocks(spectra: Sequence[Any]) -> Any:
    """Eigenvalues of every layer's block, a row per layer, the first layer on top."""
    layers = list(dict.fromkeys(s.block for s in spectra))
    series = list(dict.fromkeys(s.series for s in spectra))
    fig = figure(ratio=max(0.5, 0.2 + 0.08 * len(layers)))
    ax = fig.add_subplot()
    for spectrum in spectra:
        i = series.index(spectrum.series)
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        offset = (i - (len(series) - 1) / 2) * 0.5 / len(series)
        values = spectrum.eigenvalues
        y = np.full(len(values), layers.index(spectrum.block) + offset)
        first = spectrum.block == layers[0]
        ax.errorbar(
            values[:1],
            y[:1],
            xerr=spectrum.residuals[:1],
            fmt=marker,
            color=colour,
            label=spectrum.series if first else None,
        )
        ax.plot(values[1:], y[1:], "|", color=colour, markersize=4)
    everything = np.concatenate([s.eigenvalues for s in spectra])
    if everything.min() > 0 and everything.max() / everything.min() > 100:
        ax.set_xscale("log")
    ax.set_yticks(range(len(layers)), layer_labels(layers, 20))
    ax.invert_yaxis()
    ax.set_xlabel("eigenvalues of the layer's block of the Hessian")
    if len(series) > 1:
        ax.legend()
    return fig


def _value_axis(ax: Any) -> None:
    everything = np.concatenate([line.get_ydata() for line in ax.get_lines()])
    if everything.min() > 0 and everything.max() / everything.min() > 10:
        log_y(ax)
    elif everything.min() < 0 < everything.max():
        ax.axhline(0, color="0.6", linewidth=0.6)
