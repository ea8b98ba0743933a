"""Curves with their scatter over seeds, within what the seeds reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.papers.drawing import over_seeds


def banded(ax: Any, x: Any, values: Sequence[Any] | np.ndarray, **style: Any) -> None:
    """The mean of ``values`` (seed, point), in a band of ± one standard deviation.

    The band ends where the lowest and the highest seed are, so that it neither leaves the range
    of a share nor reaches below zero on a logarithmic axis.
    """
    mean, spread = over_seeds(values)
    ax.plot(x, mean, **style)
    if np.isfinite(spread).any():
        low = np.maximum(mean - spread, np.min(values, axis=0))
        high = np.minimum(mean + spread, np.max(values, axis=0))
        ax.fill_between(x, low, high, color=style.get("color"), alpha=0.18, lw=0)
