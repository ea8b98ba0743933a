"""Cheap scores of every sample's curvature against the exact eigenvalue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.errors import UsageError
from landscape.plotting.style import COLOURS, COLUMN, MARKERS, PAGE, axes, figure, paper


def draw(
    result: Any, score: str = "lower", ax: Any = None, *, sub_batches: Sequence[int] | None = None
) -> Any:
    """One score (``lower`` or ``upper``) of every sample against its exact λ_max.

    A colour and a marker for each sub-batch size, with Spearman's ρ ± s.e. in the legend; hollow
    marks are samples whose λ_max has not converged. Axes that span more than a decade are
    logarithmic, or linear around zero and logarithmic beyond if both signs occur. On the dashed
    line score and λ_max are equal. The largest sizes lie at the back.
    """
    if result.lambda_max is None:
        raise UsageError("there are no exact eigenvalues to draw against: exact=True.")
    exact, scores = result.lambda_max, getattr(result, score)
    wanted = list(result.sub_batch if sub_batches is None else sub_batches)
    with paper():
        ax = axes(ax)
        shown = []
        for i, size in enumerate(result.sub_batch):
            if size not in wanted:
                continue
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            rho = result.correlation(score, int(size))
            use = np.isfinite(scores[i])
            shown.append(scores[i][use])
            for hollow in (False, True):
                part = use & (result.converged.astype(bool) != hollow)
                if not part.any() and hollow:
                    continue
                ax.plot(
                    exact[part],
                    scores[i][part],
                    marker,
                    color=colour,
                    markersize=2.5,
                    markeredgewidth=0.5 if hollow else 0,
                    markerfacecolor="white" if hollow else colour,
                    alpha=0.7,
                    zorder=3 - i / len(result.sub_batch),
                    label=None
                    if hollow
                    else f"b = {size}, ρ = {rho.value:.2f} ± {rho.standard_error:.2f}",
                )
        values = np.concatenate(shown) if shown else np.zeros(0)
        for scale, numbers in ((ax.set_xscale, exact), (ax.set_yscale, values)):
            _stretch(scale, numbers)
        if result.form == "corrected" and score == "lower":
            low, high = exact.min(), exact.max()
            same = np.geomspace(low, high, 200) if low > 0 else np.linspace(low, high, 200)
            ax.plot(same, same, "--", color="0.5", linewidth=0.8, zorder=1)
        ax.set_xlabel(r"exact $\lambda_{\max}$ of $\nabla^2\ell_i$")
        ax.set_ylabel(f"{score} score ({result.form})")
        ax.legend()
        return ax


def _stretch(scale: Any, numbers: np.ndarray) -> None:
    """A logarithmic axis for more than a decade; linear around zero if there are both signs."""
    sizes = np.abs(numbers[numbers != 0])
    if not len(sizes) or sizes.max() / sizes.min() <= 10:
        return
    if numbers.min() > 0:
        scale("log")
    else:
        scale("symlog", linthresh=10 ** np.ceil(np.log10(np.quantile(sizes, 0.25))))


def compare(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """A figure with a row per result, the lower score left and the upper one right."""
    with paper():
        fig = figure(PAGE, 0.75 * COLUMN / PAGE * len(results))
        panels = fig.subplots(len(results), 2, squeeze=False)
        for i, (result, row) in enumerate(zip(results, panels, strict=True)):
            for score, ax in zip(("lower", "upper"), row, strict=True):
                draw(result, score, ax)
            if i < len(labels):
                row[0].set_title(labels[i])
        return fig
