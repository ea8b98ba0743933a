"""Surfaces: lines, contours and 3-D, comparable across models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.errors import UsageError
from landscape.plotting.style import COLOURS, MAP, PAGE, axes, figure, literal, log_y, paper

_LEVELS = 25


def draw(surface: Any, ax: Any = None, norm: Any = None) -> Any:
    """A contour plot of a plane, or the loss along a line. Points without a value are hatched."""
    with paper():
        if len(surface.y) == 1 or surface.draws:
            return draw_lines([surface], ax=ax)
        ax = axes(ax, ratio=0.85)
        filled = contour(ax, surface, norm or scale([surface]))
        _colorbar(filled, ax, surface.loss_label)
        return ax


def draw_lines(surfaces: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Loss along one direction, for one or several models; the clean loss dashed, if measured.

    Of several draws: their mean, with a band of one standard deviation of the single line.
    """
    with paper():
        ax = axes(ax)
        for i, surface in enumerate(surfaces):
            colour = COLOURS[i % len(COLOURS)]
            label = labels[i] if i < len(labels) else None
            for values, dashes in ((surface.loss, "-"), (surface.clean_loss, "--")):
                if values is None:
                    continue
                mean = values.mean(0)
                text = label if dashes == "-" else f"{label}, clean" if label else "clean"
                ax.plot(surface.x, mean, dashes, color=colour, label=text)
                if surface.draws:
                    spread = values.std(0, ddof=1)
                    ax.fill_between(
                        surface.x, mean - spread, mean + spread, color=colour, alpha=0.2, lw=0
                    )
            ax.plot([0], [surface.centre_loss], marker="*", color=colour, markersize=6)
            _name_places(ax, surface)
            bad = (surface.done & ~np.isfinite(surface.loss)).any(0)
            for x in surface.x[bad]:
                ax.axvspan(*_cell(surface.x, x), color="0.85", hatch="///", linewidth=0)
        ax.set_xlabel(_axis_label(surfaces[0], 0))
        draws = surfaces[0].draws
        ax.set_ylabel(_label(surfaces) + (f", mean ± sd of {draws} draws" if draws else ""))
        losses = np.concatenate([s.loss.ravel() for s in surfaces])
        losses = losses[np.isfinite(losses)]
        if len(losses) and losses.min() > 0 and losses.max() / losses.min() > 100:
            log_y(ax)
        if labels or any(s.clean_loss is not None for s in surfaces):
            ax.legend()
        return ax


def _name_places(ax: Any, surface: Any) -> None:
    """Upright lines where other networks lie."""
    if surface.mark is None:
        return
    for name, x in zip(surface.mark, surface.mark_x, strict=True):
        ax.axvline(x, color="0.6", linewidth=0.6, linestyle=":")
        ax.annotate(
            literal(str(name)),
            (x, 0.98),
            xycoords=ax.get_xaxis_transform(),
            rotation=90,
            ha="right",
            va="top",
            fontsize=6,
            color="0.3",
        )


def _axis_label(surface: Any, axis: int) -> str:
    label: str = surface.label("xy"[axis])
    if surface.explained_variance is not None:
        label += f" ({100 * surface.explained_variance[axis]:.0f} % of the path)"
    return label


def compare(surfaces: Sequence[Any], labels: Sequence[str]) -> Any:
    """A figure with a 3-D view and a contour plot of each surface, all on one colour scale."""
    with paper():
        lines = [len(s.y) == 1 or bool(s.draws) for s in surfaces]
        if any(lines) and not all(lines):
            raise UsageError("lines and planes can't be drawn in one picture: plot them apart.")
        if all(lines):
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
        _colorbar(filled, flat, _label(surfaces))
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
    if surface.path_x is not None:
        ax.plot(surface.path_x, surface.path_y, ".-", color=COLOURS[1], linewidth=0.8, markersize=3)
    if surface.mark is not None:
        ax.plot(
            surface.mark_x, surface.mark_y, "o", color="white", markeredgecolor="black", zorder=3
        )
        for name, x, y in zip(surface.mark, surface.mark_x, surface.mark_y, strict=True):
            ax.annotate(
                literal(str(name)),
                (x, y),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=6,
                color="white",
            )
    ax.set_xlim(surface.x[0], surface.x[-1])
    ax.set_ylim(surface.y[0], surface.y[-1])
    ax.set_xlabel(_axis_label(surface, 0))
    ax.set_ylabel(_axis_label(surface, 1))
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


def _colorbar(filled: Any, beside: Any, label: str) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    # Levels are as many digits apart as they need, and no two ticks may read the same.
    log = isinstance(filled.norm, LogNorm)
    ticks = {"format": _tick} if log else {"ticks": MaxNLocator(6)}
    filled.axes.figure.colorbar(filled, ax=beside, label=label, **ticks)


def _tick(value: float, _: Any = None) -> str:
    return f"{value:.2g}"


def _cell(x: np.ndarray, at: float) -> tuple[float, float]:
    half = (x[1] - x[0]) / 2
    return at - half, at + half
