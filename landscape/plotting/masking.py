"""The checks of gradient masking: shares of samples against what is tolerated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, COLUMN, PAGE, axes, figure, paper


def draw(result: Any, title: str = "", ax: Any = None) -> Any:
    """Every check's share with its lower 99 % bound, a bar where it becomes suspicious."""
    with paper():
        ax = axes(ax)
        rows = np.arange(len(result.check))
        share = np.divide(
            result.found, result.among, out=np.full(len(rows), np.nan), where=result.among > 0
        )
        ax.plot(result.tolerance, rows, "|", color="black", markersize=9, label="tolerated")
        for verdict, colour, marker in (
            ("passed", COLOURS[0], "o"),
            ("suspicious", COLOURS[1], "D"),
            ("too few samples", "0.6", "s"),
        ):
            here = result.verdict == verdict
            if here.any():
                ax.errorbar(
                    share[here],
                    rows[here],
                    xerr=[(share - result.bound)[here], np.zeros(here.sum())],
                    fmt=marker,
                    color=colour,
                    label=verdict,
                )
        for row in rows[result.among == 0]:
            ax.text(0.01, row, "no samples to ask", fontsize=6, color="0.4", va="center")
        names = [
            f"{name}  {k}/{n}"
            for name, k, n in zip(result.check, result.found, result.among, strict=True)
        ]
        ax.set_yticks(rows, names)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(-0.02, 1.02)
        ax.set_xlabel("share that speaks for masking")
        if title:
            ax.set_title(title)
        ax.legend(loc="lower right")
        return ax


def compare(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """One panel per network."""
    with paper():
        count = len(results)
        fig = figure(
            COLUMN if count == 1 else PAGE, 0.75 if count == 1 else 0.4 * ((count + 1) // 2)
        )
        panels = np.atleast_1d(fig.subplots((count + 1) // 2, min(count, 2), squeeze=False)).ravel()
        for i, ax in enumerate(panels):
            if i < count:
                draw(results[i], labels[i] if i < len(labels) else "", ax=ax)
            else:
                ax.remove()
        return fig
