"""Surfaces: lines, contours and 3-D, comparable across models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, MAP, PAGE, axes, figure, log_y, paper

_LEVELS = 25


def draw(surface: Any, ax: Any = None, norm: Any = None) -> Any:
    """A contour plot of a plane, or the loss along a line. Points without a value are hatched."""
    with paper():
        if len(surface.y) == 1:
            return draw_lines([surface], ax=ax)
        ax = axes(ax, ratio=0.85)
        filled = contour(ax, surface, norm or scale([surface]))
        ax.figure.colorbar(filled, ax=ax, label=surface.loss_label, format=_tick)
        return ax


def draw_lines(surfaces: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Loss along one direction, for one or several models."""
    with paper():
        ax = axes(ax)
        for i, surface in enumerate(surfaces):
            colour = COLOURS[i % len(COLOURS)]
            label = labels[i] if i < len(labels) else None
            ax.plot(surface.x, surface.loss[0], color=colour, label=label)
            ax.plot([0], [surface.centre_loss], marker="*", color=colour, markersize=6)
            bad = surface.done[0] & ~np.isfinite(surface.loss[0])
            for x in surface.x[bad]:
                ax.axvspan(*_cell(surface.x, x), color="0.85", hatch="///", linewidth=0)
        ax.set_xlabel(surfaces[0].label("x"))
        ax.set_ylabel(_label(surfaces))
        losses = np.concatenate([s.loss[0] for s in surfaces])
        losses = losses[np.isfinite(losses)]
        if len(losses) and losses.min() > 0 and losses.max() / losses.min() > 100:
            log_y(ax)
        if labels:
            ax.legend()
        return ax


def compare(surfaces: Sequence[Any], labels: Sequence[str]) -> Any:
    """A figure with a 3-D view and a contour plot of each surface, all on one colour scale."""
    with paper():
        if all(len(s.y) == 1 for s in surfaces):
            fig = figure()
            draw_lines(surfaces, labels, ax=fig.add_subplot())
            return fig
        # One model: side by side. Several: a column for each.
        n = len(surfaces)
        rows, columns = (1, 2) if n == 1 else (2, n)
        fig = figure(PAGE, 0.4 if n == 1 else 1.55 / n)
        norm = scale(surfaces)
        filled = None
        flat = []
        for i, (surface, label) in enumerate(zip(surfaces, labels, strict=True)):
            solid = fig.add_subplot(rows, columns, i + 1, projection="3d")
            relief(solid, surface, norm)
            solid.set_title(label)
            ax = fig.add_subplot(rows, columns, n + i + 1)
            flat.append(ax)
            filled = contour(ax, surface, norm)
        fig.colorbar(filled, ax=flat, label=_label(surfaces), format=_tick)
        return fig


def scale(surfaces: Sequence[Any]) -> Any:
    """One colour normalisation for all: logarithmic where the positive range asks for it."""
    from matplotlib.colors import LogNorm, Normalize

    values = np.concatenate([s.loss[np.isfinite(s.loss)] for s in surfaces])
    if len(values) == 0:
        return Normalize(0, 1)
    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low > 20:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + 1)


def levels(norm: Any) -> np.ndarray:
    """Contour levels, evenly spaced on the scale."""
    from matplotlib.colors import LogNorm

    space = np.geomspace if isinstance(norm, LogNorm) else np.linspace
    found = space(norm.vmin, norm.vmax, _LEVELS)
    found[0], found[-1] = norm.vmin, norm.vmax  # rounding would leave the extremes white
    return found


def contour(ax: Any, surface: Any, norm: Any) -> Any:
    """Filled contours; a star marks the model, a cross the lowest point if elsewhere."""
    loss = np.ma.masked_invalid(surface.loss)
    ax.set_facecolor("0.9")
    if loss.mask.any():
        ax.patch.set_hatch("////")
        ax.patch.set_edgecolor("0.6")
    filled = ax.contourf(surface.x, surface.y, loss, levels(norm), norm=norm, cmap=MAP)
    ax.contour(
        surface.x, surface.y, loss, levels(norm)[::3], norm=norm, colors="white", linewidths=0.4
    )
    if loss.count():
        j, i = np.unravel_index(np.ma.argmin(loss), loss.shape)
        if surface.x[i] or surface.y[j]:
            ax.plot(surface.x[i], surface.y[j], "x", color=COLOURS[1], markersize=5, zorder=4)
    if surface.x[0] <= 0 <= surface.x[-1] and surface.y[0] <= 0 <= surface.y[-1]:
        ax.plot(0, 0, "*", color="white", markeredgecolor="black", markersize=6, zorder=3)
    ax.set_xlabel(surface.label("x"))
    ax.set_ylabel(surface.label("y"))
    return filled


def relief(ax: Any, surface: Any, norm: Any) -> None:
    """The surface in three dimensions, its height on the scale of the colours."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    x, y = np.meshgrid(surface.x, surface.y)
    log = isinstance(norm, LogNorm)
    # mplot3d has no logarithmic axes, so the exponent is drawn and the ticks say so.
    height = np.log10(surface.loss) if log else surface.loss
    colours = colormaps[MAP](norm(np.ma.masked_invalid(surface.loss)))
    ax.plot_surface(
        x, y, height, facecolors=colours, rcount=100, ccount=100, linewidth=0, shade=False
    )
    bounds = (norm.vmin, norm.vmax)
    ax.set_zlim(*(np.log10(bounds) if log else bounds))
    if log:
        ax.zaxis.set_major_formatter(lambda value, _: _tick(10**value))
    ax.set_xlabel("direction 1", labelpad=-6)
    ax.set_ylabel("direction 2", labelpad=-6)
    ax.set_zlabel("loss", labelpad=-4)
    ax.tick_params(pad=-2)
    ax.locator_params(axis="both", nbins=5)
    ax.view_init(elev=30, azim=-60)
    ax.set_box_aspect((1, 1, 0.75), zoom=0.95)


def _label(surfaces: Sequence[Any]) -> str:
    labels = {surface.loss_label for surface in surfaces}
    return labels.pop() if len(labels) == 1 else "loss"


def _tick(value: float, _: Any = None) -> str:
    return f"{value:.2g}"


def _cell(x: np.ndarray, at: float) -> tuple[float, float]:
    half = (x[1] - x[0]) / 2
    return at - half, at + half
