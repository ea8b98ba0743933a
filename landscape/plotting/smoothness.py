"""Local Lipschitz constants of the loss's gradient against the step, with the inputs' moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, COLUMN, MARKERS, PAGE, axes, figure, log_y, paper

ALONG = {
    "gradient": "the gradient",
    "adversarial": "the AWP ascent",
    "random": "random directions",
}
LOSSES = {"clean": "clean loss", "held": "perturbation held", "renewed": "attack renewed"}


def draw(result: Any, direction: str | None = None, ax: Any = None) -> Any:
    """The ratio of every loss against a along one direction (the first by default).

    Bands are one standard error over the draws; hollow marks are no larger than rounding.
    """
    direction = str(result.direction[0]) if direction is None else direction
    at = list(result.direction).index(direction)
    with paper():
        ax = axes(ax)
        for i, loss in enumerate(result.loss):
            drowned = result.drowned[i, at].any(0)
            _curve(ax, result.a, result.mean(loss, direction), i, LOSSES[loss], hollow=drowned)
        ax.set_title(f"along {ALONG[direction]}")
        _finish(ax, "‖∇L(θ + av) − ∇L(θ)‖ / a\n(loss / weight²)")
        return ax


def draw_moves(result: Any, ax: Any = None) -> Any:
    """How far the adversarial inputs moved from those of θ, for every direction."""
    with paper():
        ax = axes(ax)
        for k, direction in enumerate(result.direction):
            # Colours of their own: those before stand for losses.
            _curve(ax, result.a, result.mean_move(direction), 3 + k, ALONG[direction])
        ax.set_title("adversarial inputs")
        _finish(ax, "mean ‖x′(θ + av) − x′(θ)‖₂ (input)")
        if not result.input_move.any():
            ax.text(0.5, 0.5, "no input moved", transform=ax.transAxes, ha="center")
        return ax


def _curve(
    ax: Any, a: np.ndarray, estimates: Sequence[Any], i: int, name: str, *, hollow: Any = None
) -> None:
    mean = np.array([e.value for e in estimates])
    error = np.nan_to_num([e.standard_error for e in estimates], posinf=0)
    shown = mean > 0  # a zero has no place on a logarithmic axis
    colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
    ax.plot(a[shown], mean[shown], marker=marker, color=colour, label=name)
    if hollow is not None and (hollow & shown).any():
        part = hollow & shown
        ax.plot(
            a[part], mean[part], marker, color=colour, markerfacecolor="white", linestyle="none"
        )
    low = np.maximum(mean - error, 0.02 * mean)
    ax.fill_between(a[shown], low[shown], (mean + error)[shown], color=colour, alpha=0.25, lw=0)


def _finish(ax: Any, quantity: str) -> None:
    if any(len(line.get_ydata()) for line in ax.lines):
        ax.set_xscale("log")
        log_y(ax)
        ax.legend()
    else:  # all zero, which a logarithmic axis can't show
        ax.set_xticks([])
        ax.set_yticks([])
    ax.set_xlabel("step $a$ (weight)")
    ax.set_ylabel(quantity)


def compare(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """For each result a panel per direction and one of the inputs' moves; one scale for all."""
    most = max(len(result.direction) + (len(result.loss) > 1) for result in results)
    columns = min(most, 3) if most != 4 else 2
    rows = math.ceil(most / columns)
    width = COLUMN if columns == 1 else PAGE
    with paper():
        fig = figure(width, 0.75 * COLUMN / width * rows * len(results))
        panels = fig.subplots(rows * len(results), columns, squeeze=False)
        drawn = []
        for i, result in enumerate(results):
            block = panels[i * rows : (i + 1) * rows].ravel()
            for direction, ax in zip(result.direction, block, strict=False):
                drawn.append(draw(result, str(direction), ax=ax))
            adversarial = len(result.loss) > 1
            if adversarial:
                draw_moves(result, ax=block[len(result.direction)])
            for ax in block[len(result.direction) + adversarial :]:
                ax.set_axis_off()
            if len(results) > 1 and i < len(labels):
                block[0].set_title(f"{labels[i]}\n{block[0].get_title()}")
        limits = np.array([ax.get_ylim() for ax in drawn])
        for ax in drawn:
            ax.set_ylim(limits[:, 0].min(), limits[:, 1].max())
            if ax.get_yscale() == "log":
                log_y(ax)  # numbers for the new limits
        for ax in drawn[1:]:  # the losses' colours are explained once
            if ax.get_legend():
                ax.get_legend().remove()
        for row in panels:  # and a scale named once in its row
            for ax in row[1:]:
                if ax in drawn:
                    ax.set_ylabel("")
        return fig
