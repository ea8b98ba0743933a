"""Contact sheets: images in a grid with a caption under each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.errors import UsageError
from landscape.plotting.style import COLOURS, PAGE, figure, paper

# The widest that a tile is drawn, in inches: a few 8×8 images need not fill a page.
TILE = 0.95

# White at zero, and the two hues stay apart under all common colour deficiencies.
SIGNED_MAP = "PuOr_r"

# Inches of height for a line of caption, 7 points, and between rows.
_LINE, _GAP = 0.125, 0.08

# Inches of width for a letter of the title, 8 points.
_LETTER = 0.065


def draw_sheet(
    images: Any,
    captions: Sequence[str] = (),
    *,
    columns: int = 8,
    title: str = "",
    row_labels: Sequence[str] = (),
    colours: Sequence[str] = (),
    signed: Sequence[bool] = (),
    fig: Any = None,
) -> Any:
    """Images (N, C, H, W) in rows of ``columns``, in their order, with a caption under each.

    Returns the figure, as high as it has to be. One channel is drawn in grey, three in colour;
    values lie in [0, 1] and are clipped to it. There are N captions, ``colours`` of captions and
    flags ``signed``, or none of them; row labels stand left of the first image of every row.

    Args:
        signed: where true the image is a signed change in [−0.5, 0.5] around zero: one channel is
            drawn on a diverging map, white at zero, three as a shift from middle grey.
        fig: draw into this figure or subfigure, for pages of several sheets (``height`` says how
            much room each needs).
    """
    images = as_images(images)
    n = len(images)
    for name, given in (("captions", captions), ("colours", colours), ("signed", signed)):
        if len(given) not in (0, n):
            raise UsageError(f"{len(given)} {name} for {n} images: give one for each, or none.")
    if columns < 1:
        raise UsageError(f"columns must be at least 1, got {columns}.")
    columns = min(columns, n)
    with paper():
        if fig is None:
            high = height(images, captions, columns=columns, title=title)
            wide = min(PAGE, TILE * columns + 0.35 * bool(row_labels))
            wide = max(wide, *(_LETTER * len(line) for line in title.split("\n")))
            fig = figure(wide, high / wide)
        if title:
            fig.suptitle(title, fontsize=8)
        grid = fig.subplots(math.ceil(n / columns), columns, squeeze=False)
        for i, ax in enumerate(grid.flat):
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set_visible(i < n)
                spine.set(linewidth=0.3, color="0.6")
            if i >= n:
                continue
            ax.imshow(_pixels(images[i], bool(signed[i]) if len(signed) else False), aspect="equal")
            if captions:
                ax.set_xlabel(
                    captions[i],
                    fontsize=7,
                    labelpad=2,
                    color=colours[i] if len(colours) else "black",
                )
        for label, ax in zip(row_labels, grid[:, 0], strict=False):
            longest = max(map(len, label.split("\n")))
            # The height of a tile holds about 18 letters of 7 points.
            ax.set_ylabel(label, fontsize=min(7, 7 * 18 / longest) if longest else 7)
        return fig


def height(
    images: Any, captions: Sequence[str] = (), *, columns: int = 8, title: str = ""
) -> float:
    """Inches that ``draw_sheet`` needs from top to bottom."""
    shape = np.shape(images)
    columns = min(columns, shape[0])
    tile = min(TILE, PAGE / columns) * shape[-2] / shape[-1]
    needed = _LINE * (1.5 + 1.1 * title.count("\n")) * bool(title)
    for first in range(0, shape[0], columns):
        row = captions[first : first + columns]
        lines = max((c.count("\n") + 1 for c in row if c), default=0)
        needed += tile + _LINE * lines + _GAP
    return needed


def draw_examples(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """Clean images, then per network the perturbation and the adversarial image (sitawarin2021).

    The perturbations are magnified by one factor for all, so that the largest entry has the
    strongest colour. Adversarial images say prediction (confidence) before → after, in vermilion
    where the latter isn't the label.
    """
    first = results[0]
    for other in results[1:]:
        if not np.array_equal(other.clean, first.clean):
            raise UsageError("these sheets show different images: draw them one by one.")
    n = len(as_images(first.clean))
    largest = max(float(np.abs(r.perturbation).max()) for r in results)
    factor = 0.5 / largest if largest > 0 else 1.0
    images, captions = [first.clean], [f"label {y}" for y in first.labels]
    rows, colours, signed = ["clean"], ["black"] * n, [False] * n
    for i, result in enumerate(results):
        images += [factor * result.perturbation, result.adversarial]
        name = f"{labels[i]}\n" if len(results) > 1 and i < len(labels) else ""
        rows += [f"{name}perturbation", f"{name}adversarial"]
        captions += [""] * n + [
            f"{a} ({p:.2f}) →\n{b} ({q:.2f})"
            for a, p, b, q in zip(
                result.clean_prediction,
                result.clean_confidence,
                result.adversarial_prediction,
                result.adversarial_confidence,
                strict=True,
            )
        ]
        wrong = result.adversarial_prediction != result.labels
        colours += ["black"] * n + [COLOURS[1] if w else "black" for w in wrong]
        signed += [True] * n + [False] * n
    grey = first.clean.shape[1] == 1
    signs = "brown up, purple down, white none" if grey else "as a shift from middle grey"
    title = (
        f"perturbations × {factor:.3g}: {signs}\n"
        "below: prediction (confidence) before → after the attack"
    )
    return draw_sheet(
        np.concatenate(images),
        captions,
        columns=n,
        title=title,
        row_labels=rows,
        colours=colours,
        signed=signed,
    )


def as_images(images: Any) -> np.ndarray:
    """The array (N, C, H, W) with 1 or 3 channels, or an error that says what came."""
    images = np.asarray(images, dtype=float)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise UsageError(
            f"a sheet shows images of shape (N, C, H, W) with 1 or 3 channels, got {images.shape}."
        )
    return images


def _pixels(image: np.ndarray, signed: bool) -> np.ndarray:
    """(H, W, 3) in [0, 1]; what isn't finite is drawn black."""
    import matplotlib

    values = np.clip(np.nan_to_num(image + 0.5 * signed, nan=0, posinf=0, neginf=0), 0, 1)
    if len(values) == 3:
        return np.asarray(values.transpose(1, 2, 0))
    if signed:
        return np.asarray(matplotlib.colormaps[SIGNED_MAP](values[0]))[..., :3]
    return np.repeat(values[0][..., None], 3, 2)
