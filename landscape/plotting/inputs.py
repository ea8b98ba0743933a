"""Input gradients and input Hessians: their distributions, the spectrum, and the running mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, PAGE, axes, figure, paper


def page(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """Four panels: distribution of IG and of HS, spectrum, mean HS against the samples used."""
    with paper():
        fig = figure(PAGE, 0.72)
        fill(fig.subplots(2, 2), results, labels)
        return fig


def fill(panels: Any, results: Sequence[Any], labels: Sequence[str] = ()) -> None:
    """The four panels, on axes (2, 2)."""
    draw_distribution(results, "ig_l1", labels, ax=panels[0, 0])
    draw_distribution(results, "hs", labels, ax=panels[0, 1])
    draw_spectrum(results, labels, ax=panels[1, 0])
    draw_running(results, labels, ax=panels[1, 1])


def draw_distribution(
    results: Sequence[Any], name: str, labels: Sequence[str] = (), ax: Any = None
) -> Any:
    """Histogram over samples of the field ``name``, common bins, medians dashed.

    Bins are logarithmic if the values span more than a decade. Samples at which it is zero are
    not drawn; the legend counts them.
    """
    with paper():
        ax = axes(ax)
        series = [np.asarray(getattr(r, name), dtype=float) for r in results]
        positive = np.concatenate([s[s > 0] for s in series])
        if len(positive):
            low, high = positive.min(), positive.max()
            log = high / low > 10  # the labels of less than a decade would overlap
            spaced = np.geomspace if log else np.linspace
            bins = spaced(low, max(high, low * 1.01), 31)
            bins[0], bins[-1] = low * (1 - 1e-9), max(high, low * 1.01) * (1 + 1e-9)
            ax.set_xscale("log" if log else "linear")
        else:
            bins = np.linspace(-0.5, 0.5, 3)
        for i, values in enumerate(series):
            colour = COLOURS[i % len(COLOURS)]
            median = float(np.median(values))
            zeros = int((values <= 0).sum())
            said = (f"{labels[i]}: " if i < len(labels) else "") + f"median {median:.3g}"
            said += f", {zeros} at zero" if zeros else ""
            shown = values[values > 0] if len(positive) else values
            ax.hist(shown, bins, histtype="stepfilled", color=colour, alpha=0.3)
            ax.hist(shown, bins, histtype="step", color=colour, linewidth=0.8)
            if median > 0:
                draw_median(ax, median, len(series), color=colour, label=said)
            else:
                ax.plot([], [], color=colour, label=said)
        ax.set_xlabel(results[0].label(name))
        ax.set_ylabel("samples")
        legend_above(ax, len(series))
        return ax


def draw_median(ax: Any, median: float, series: int, **style: Any) -> None:
    """A dashed line that ends where ``legend_above`` puts the legend."""
    ax.axvline(median, ymax=1 / _headroom(series), linestyle="--", linewidth=1.0, **style)


def legend_above(ax: Any, series: int) -> None:
    """A legend of so many rows above all that is drawn."""
    ax.set_ylim(0, _headroom(series) * ax.get_ylim()[1])
    ax.legend(loc="upper left")


def _headroom(series: int) -> float:
    return 1.08 + 0.13 * series


def draw_spectrum(results: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Mean |λ| over samples at every index (line), and the middle half of the samples (band)."""
    with paper():
        ax = axes(ax)
        largest = 0.0
        for i, result in enumerate(results):
            colour = COLOURS[i % len(COLOURS)]
            size = np.abs(result.eigenvalues)
            index = np.arange(1, size.shape[1] + 1)
            mean = size.mean(0)
            error = size.std(0, ddof=1) / np.sqrt(len(size)) if len(size) > 1 else 0 * mean
            low, high = np.quantile(size, [0.25, 0.75], axis=0)
            name = f"{labels[i]}: mean ± s.e." if i < len(labels) else "mean ± s.e."
            # Zeros (a ReLU network has C − 1 eigenvalues) have no place on a logarithmic axis.
            there = mean > 1e-9 * max(mean.max(), 1e-300)
            ax.errorbar(index[there], mean[there], error[there], fmt="o-", color=colour, label=name)
            band = "middle half" if i == 0 else None
            ax.fill_between(
                index[there],
                np.maximum(low, 1e-9 * mean.max())[there],
                high[there],
                color=colour,
                alpha=0.2,
                linewidth=0,
                label=band,
            )
            largest = max(largest, float(mean.max()))
        if largest > 0:
            ax.set_yscale("log")
        ax.set_xlabel("index")
        ax.set_ylabel("|λ| of the input Hessian\n(loss / input²)")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend()
        return ax


def draw_running(results: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Mean HS of the first n samples with a band of one standard error (li2023, Fig. A3)."""
    with paper():
        ax = axes(ax)
        for i, result in enumerate(results):
            colour = COLOURS[i % len(COLOURS)]
            n, mean, error = result.running_hs()
            name = labels[i] if i < len(labels) else "mean ± s.e."
            start = min(9, len(n) - 1)  # a handful of samples would set the scale
            n, mean, error = n[start:], mean[start:], np.nan_to_num(error[start:])
            ax.plot(n, mean, color=colour, label=name)
            ax.fill_between(n, mean - error, mean + error, color=colour, alpha=0.25, linewidth=0)
        ax.set_xlabel("samples used")
        ax.set_ylabel("mean Σ|λ| (loss / input²)")
        ax.legend()
        return ax
