"""Drawings of losses over two parameters in which kinks can be seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, MAP, MARKERS


def relief(ax: Any, surface: Any, title: str) -> None:
    """The surface from above its low side, lit so that kinks show; a dot at its lowest point."""
    from matplotlib.colors import LightSource

    x, y = np.meshgrid(surface.x, surface.y)
    light = LightSource(azdeg=200, altdeg=50)
    ax.plot_surface(
        x, y, surface.loss, cmap=MAP, rcount=81, ccount=81, linewidth=0, lightsource=light
    )
    j, i = np.unravel_index(surface.loss.argmin(), surface.loss.shape)
    ax.plot([x[j, i]], [y[j, i]], [surface.loss[j, i]], "o", color=COLOURS[1], zorder=10)
    ax.set_title(title, pad=-8)
    ax.set_xlabel("$\\theta_1$", labelpad=-8)
    ax.set_ylabel("$\\theta_2$", labelpad=-8)
    ax.tick_params(pad=-3)
    ax.set_xticks([-2, 0, 2])
    ax.set_yticks([-2, 0, 2])
    ax.locator_params(axis="z", nbins=4)
    ax.view_init(elev=35, azim=-120)
    ax.set_box_aspect((1, 1, 0.7), zoom=0.9)


def slopes(ax: Any, surfaces: Mapping[str, Any]) -> None:
    """∂/∂θ₁ along θ₂ = 0.5: a jump is a kink of the surface."""
    for i, (label, surface) in enumerate(surfaces.items()):
        axis = surface.x
        row = np.abs(surface.y - 0.5).argmin()
        middle = (axis[1:] + axis[:-1]) / 2
        slope = np.diff(surface.loss[row]) / np.diff(axis)
        style = {"color": COLOURS[i], "marker": MARKERS[i], "markevery": (2 * i, 10)}
        ax.plot(middle, slope, label=label, **style)
    ax.set_xlabel("$\\theta_1$, at $\\theta_2 = 0.5$")
    ax.set_ylabel("slope along $\\theta_1$ (nats)")
    ax.set_title("kinks are jumps of the slope")
    ax.legend(loc="upper left")
