"""Drawings that several figures share. They take numbers and never compute them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.papers.kinds import Curves, Sheet
from landscape.plotting.style import COLOURS, COLUMN, MARKERS, PAGE, figure


def panels(
    columns: int, rows: int = 1, width: float | None = None, ratio: float = 0.8, **options: Any
) -> tuple[Any, Any]:
    """A figure for a file and its axes, an array of shape (rows, columns)."""
    width = width or (COLUMN if columns == 1 else PAGE)
    fig = figure(width, ratio * rows / columns)
    return fig, fig.subplots(rows, columns, squeeze=False, **options)


def style_of(k: int, **changes: Any) -> dict[str, Any]:
    """Colour and marker of the k-th series."""
    return {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)], **changes}


def line(ax: Any, x: Any, y: Any, error: Any = None, *, label: str = "", **style: Any) -> None:
    """A curve, with a band of ± error where there is one."""
    y = np.asarray(y, dtype=float)
    ax.plot(x, y, label=label, **style)
    if error is not None and np.isfinite(error).any():
        error = np.nan_to_num(np.asarray(error, dtype=float))
        ax.fill_between(x, y - error, y + error, color=style.get("color"), alpha=0.2, lw=0)


def over_seeds(values: Sequence[Any] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds (the first axis) and standard deviation, NaN for one seed."""
    x = np.asarray(values, dtype=float)
    spread = x.std(axis=0, ddof=1) if len(x) > 1 else np.full(x.shape[1:], np.nan)
    return x.mean(axis=0), spread


def draw_curves(ax: Any, content: Curves, *, markers: bool = True) -> None:
    """All curves of a ``Curves`` with their bands."""
    for k, name in enumerate(content.curve):
        style = style_of(k) if markers else style_of(k, marker=None)
        line(ax, content.x, content.y[k], content.error[k], label=str(name), **style)
    ax.set_xlabel(content.x_label)
    ax.set_ylabel(content.y_label)


def typeset(content: Sheet, *, digits: int = 3, best: str | None = None) -> Any:
    """A ``Sheet`` as a printed table. ``best``: ``max`` or ``min`` of every column in bold."""
    heads = [""] + [
        f"{name}\n({units})" if units else str(name)
        for name, units in zip(content.column, content.units, strict=True)
    ]
    cells = [
        [str(name), *(_cell(v, e, digits) for v, e in zip(row, errors, strict=True))]
        for name, row, errors in zip(content.row, content.value, content.error, strict=True)
    ]
    lengths = [
        max(len(part) for row in [heads, *cells] for part in row[j].split("\n"))
        for j in range(len(heads))
    ]
    width = min(PAGE, max(COLUMN, 0.075 * sum(n + 2 for n in lengths)))
    lines = 2 if any("\n" in head for head in heads) else 1
    height = 0.2 * (len(cells) + lines) + 0.1 + (0.22 if content.what else 0)
    fig = figure(width, height / width)
    ax = fig.add_subplot()
    ax.axis("off")
    ends = np.cumsum(np.array(lengths) + 2.0) / sum(n + 2 for n in lengths)
    top = len(cells) + lines
    ax.set(xlim=(0, 1), ylim=(-0.4 - bool(content.what), top + 0.2))

    def write(y: float, texts: Sequence[str], bold: Sequence[bool]) -> None:
        for j, (text, end) in enumerate(zip(texts, ends, strict=True)):
            at = 0.01 if j == 0 else end - 0.01
            ax.text(
                at,
                y,
                text,
                ha="left" if j == 0 else "right",
                va="center",
                fontsize=7,
                weight="bold" if bold[j] else "normal",
            )

    write(top - lines / 2, heads, [False] * len(heads))
    for y, lw in ((top + 0.1, 0.8), (top - lines, 0.5), (-0.1, 0.8)):
        ax.axhline(y, color="black", lw=lw)
    winners = _winners(content.value, best)
    for i, texts in enumerate(cells):
        write(len(cells) - i - 0.5, texts, [False, *winners[i]])
    if content.what:
        ax.text(0.01, -0.7, f"±: {content.what}", fontsize=6, va="center", color="0.3")
    return fig


def _winners(values: np.ndarray, best: str | None) -> np.ndarray:
    if best is None:
        return np.zeros(values.shape, dtype=bool)
    sign = 1 if best == "max" else -1
    signed = np.where(np.isfinite(values), sign * values, -np.inf)
    return np.asarray(np.isfinite(values) & (signed == signed.max(axis=0)))


def _cell(value: float, error: float, digits: int) -> str:
    if not np.isfinite(value):
        return "–"
    text = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    return f"{text} ± {error:.2g}" if np.isfinite(error) else text
