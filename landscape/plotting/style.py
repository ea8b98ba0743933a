"""One look for every picture: paper widths, colour-blind-safe colours, vector and bitmap output."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape.files import check_writable, write_atomic

# Width of one column and of a full page of a two-column paper, in inches.
COLUMN, PAGE = 3.25, 6.75

# Okabe & Ito's palette, which stays apart under all common colour deficiencies; the markers
# tell the series apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Perceptually uniform, monotone in lightness.
MAP = "viridis"

FORMATS = ("png", "pdf")

_RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "errorbar.capsize": 2,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # text stays text in the PDF
    "figure.constrained_layout.use": True,
}


@contextlib.contextmanager
def paper() -> Iterator[None]:
    """The style, for the pictures drawn inside; matplotlib's own settings return afterwards."""
    import matplotlib

    with matplotlib.rc_context(_RC):
        yield


def literal(text: str) -> str:
    """A text of the user's or of a file, as it stands: matplotlib would typeset what is between
    dollars, and can't draw halves of characters."""
    return text.replace("$", r"\$").encode(errors="replace").decode()


def axes(ax: Any, width: float = COLUMN, ratio: float = 0.75) -> Any:
    """``ax``, or the axes of a new figure that a notebook shows."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(width, width * ratio))
    return ax


def figure(width: float = COLUMN, ratio: float = 0.75) -> Any:
    """A figure outside pyplot's global list, for files."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, width * ratio))


def panel(width: float = COLUMN, ratio: float = 0.75) -> tuple[Any, Any]:
    """A figure for a file with one pair of axes in it."""
    with paper():
        fig = figure(width, ratio)
        return fig, fig.add_subplot()


def log_y(ax: Any) -> None:
    """A logarithmic y-axis with plain numbers, of which there are some even within a decade."""
    ax.set_yscale("log")
    _plain_numbers(ax.yaxis, *ax.get_ylim())


def log_x(ax: Any) -> None:
    """The same for the x-axis."""
    ax.set_xscale("log")
    _plain_numbers(ax.xaxis, *ax.get_xlim())


def _plain_numbers(axis: Any, low: float, high: float) -> None:
    few_decades = high / low < 1000

    def plain(value: float, _: Any = None) -> str:
        mantissa = value / 10 ** np.floor(np.log10(value) + 1e-9)
        shown = np.isclose(mantissa, (1, 2, 5)).any() if few_decades else np.isclose(mantissa, 1)
        return f"{value:g}" if shown else ""

    axis.set_major_formatter(plain)
    axis.set_minor_formatter(plain)
    # Minor ticks are shorter: without this their numbers would stand higher than the others.
    major, minor = axis.get_major_ticks(1)[0], axis.get_minor_ticks(1)[0]
    shorter = major.get_tick_padding() - minor.get_tick_padding()
    axis.set_tick_params(which="minor", pad=major.get_pad() + shorter)


# It warns about the dates inside matplotlib's own fonts, whenever a PDF has a formula.
logging.getLogger("fontTools").setLevel(logging.ERROR)


def layer_labels(names: Sequence[str], most: int = 28, whole: int = 2) -> list[str]:
    """Names of layers or parameters, of at most so many characters where that can be.

    Parts of a long name are cut to their first letter, from the left, but for numbers and as many
    at the end as ``whole``: ``encoder.layer.0.attention.output.weight`` becomes
    ``e.l.0.a.output.weight``. Names that would become alike stay as they are.
    """

    def short(name: str) -> str:
        parts = name.split(".")
        for i, part in enumerate(parts[:-whole]):
            if len(".".join(parts)) <= most:
                break
            parts[i] = part if part.isdigit() else part[:1]
        return ".".join(parts)

    found = [short(name) for name in names]
    return found if len({*found}) == len({*names}) else list(names)


def picture_paths(stem: str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """The files that ``save_figure`` will write."""
    return [Path(f"{stem}.{form}") for form in formats]


def save_figure(
    fig: Any, stem: str | Path, *, formats: Sequence[str] = FORMATS, overwrite: bool = False
) -> list[Path]:
    """Write ``stem.png`` and ``stem.pdf``, each whole or not at all."""
    paths = picture_paths(stem, formats)
    for path in paths:
        check_writable(path, overwrite=overwrite)
    for path, content in zip(paths, rendered(fig, formats), strict=True):
        write_atomic(path, content, overwrite=overwrite)
    return paths


def rendered(fig: Any, formats: Sequence[str] = FORMATS) -> list[bytes]:
    """The contents of the files that ``save_figure`` writes."""
    found = []
    for form in formats:
        buffer = io.BytesIO()
        # Without dates in the metadata the same numbers give the same file.
        metadata = {"CreationDate": None} if form == "pdf" else None
        with paper():
            fig.savefig(buffer, format=form, metadata=metadata)
        found.append(buffer.getvalue())
    return found
