"""A training, minibatch by minibatch and epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.errors import UsageError, unknown
from landscape.plotting.style import COLOURS, MARKERS, PAGE, axes, figure, log_y, paper

# Of the minibatches, in the order of the page.
MINIBATCH = ("gradient_norm", "error", "distance", "loss", "delta_l2", "delta_linf", "cosine")
NOISE = ("noise_trace", "noise_scale")

# So many of them, which liu2020 shows, stand in one row for every window.
_FIRST = 3

# Running means are over this share of what a panel shows.
_SHARE = 40

# Words and units of the diagnostics that have names of their own.
_DIAGNOSTICS = {
    "clean_accuracy": ("accuracy", "fraction"),
    "robust_accuracy": ("accuracy under the attack", "fraction"),
    "clean_loss": ("loss", "nats"),
    "robust_loss": ("loss under the attack", "nats"),
    "full_gradient_norm": ("gradient ‖∇L‖₂", "loss / weight"),
    "lambda_max": ("top Hessian eigenvalue", "loss / weight²"),
    "trace": ("trace of the Hessian", "loss / weight²"),
    "ig_l1": ("input gradient ‖∇ₓℓ‖₁", "loss / input"),
    "ig_l2": ("input gradient ‖∇ₓℓ‖₂", "loss / input"),
    "hs": ("input Hessian Σ|λ|", "loss / input²"),
    "effectiveness": ("effectiveness of the attack", ""),
}
_SHARES = ("error", "clean_accuracy", "robust_accuracy")
_LOGARITHMIC = ("gradient_norm", "loss", *NOISE)


def draw(
    results: Sequence[Any],
    quantity: str = "gradient_norm",
    labels: Sequence[str] = (),
    ax: Any = None,
    *,
    window: int | None = None,
) -> Any:
    """One quantity of several trainings.

    Minibatches: pale as they are, the line a running mean of equal weights over a fortieth of
    them; against the time in epochs, or the update where epochs are unknown. Blocks of gradients
    and diagnostics: with error bars, standard errors or residuals; estimates with an infinite one
    are hollow.

    Args:
        quantity: of ``MINIBATCH``, of ``NOISE``, or a tracked diagnostic.
        window: of the minibatches; None for all.
    """
    with paper():
        ax = axes(ax)
        measured = quantity not in MINIBATCH + NOISE
        styles = [_Style(i, labels[i] if i < len(labels) else None) for i in range(len(results))]
        if not _panel(ax, results, styles, quantity, window, measured):
            known = [*MINIBATCH, *NOISE, *_names(results)]
            if quantity not in known:
                raise unknown("tracked quantity", quantity, known)
            raise UsageError(f"'{quantity}' was not recorded.")
        if labels:
            ax.legend()
        return ax


def _panel(
    ax: Any,
    results: Sequence[Any],
    styles: Sequence[_Style],
    quantity: str,
    window: int | None,
    measured: bool,
) -> bool:
    """One quantity, a diagnostic if ``measured``; whether there was any of it."""
    series = _diagnostic if measured else _blocks if quantity in NOISE else _minibatches
    drawn = [
        series(ax, result, quantity, window, style)
        for result, style in zip(results, styles, strict=True)
    ]
    if not any(drawn):
        return False
    words, units = _words(results[0], quantity, measured)
    ax.set_title(words)
    ax.set_ylabel(units)
    if quantity in NOISE and not measured:  # few points, in the frame of the minibatches
        times = np.concatenate([r.time for r in results])
        times = times[np.isfinite(times)]
        if len(times):
            ax.set_xlim(times.min(), times.max())
    timed = measured or any(np.isfinite(r.time).any() for r in results)
    ax.set_xlabel("epoch" if timed else "update")
    _scale(ax, quantity, measured)
    return True


class _Style:
    """Colour, marker and name of one training."""

    def __init__(self, i: int, name: str | None) -> None:
        self.colour, self.marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        self.name = name


def _words(result: Any, quantity: str, measured: bool) -> tuple[str, str]:
    if measured:
        return _DIAGNOSTICS.get(quantity, (quantity.replace("_", " "), ""))
    (field,) = (f for f in result.fields() if f.name == quantity)
    return field.metadata["label"], field.metadata["units"]


def _minibatches(ax: Any, result: Any, quantity: str, window: int | None, style: _Style) -> bool:
    """A line for every window, so that none crosses the gaps between them."""
    drawn = False
    time = result.time if np.isfinite(result.time).any() else result.update
    for number in np.unique(result.window):
        use = (result.window == number) & np.isfinite(getattr(result, quantity))
        if (window is not None and number != window) or not use.any():
            continue
        x, values = time[use], getattr(result, quantity)[use]
        width = max(1, len(values) // _SHARE)
        if width > 1:
            ax.plot(x, values, alpha=0.25, linewidth=0.5, color=style.colour)
        kernel = np.ones(width) / width
        ax.plot(
            np.convolve(x, kernel, "valid"),
            np.convolve(values, kernel, "valid"),
            color=style.colour,
            label=None if drawn else style.name,
        )
        drawn = True
    return drawn


def _blocks(ax: Any, result: Any, quantity: str, window: int | None, style: _Style) -> bool:
    estimates = result.estimates(quantity)
    if not estimates:
        return False
    x = result.block_time if np.isfinite(result.block_time).any() else result.block_update
    values = np.array([e.value for e in estimates])
    errors = np.array([e.standard_error for e in estimates])
    _with_errors(ax, x, values, errors, style)
    return True


def _diagnostic(ax: Any, result: Any, quantity: str, window: int | None, style: _Style) -> bool:
    if result.diagnostic is None or quantity not in result.diagnostic:
        return False
    values, errors = result.measured(quantity)
    # Of a number that has no error the bar has no length.
    ax.plot(result.measured_epoch, values, linewidth=0.8, color=style.colour)
    _with_errors(ax, result.measured_epoch, values, np.where(np.isnan(errors), 0, errors), style)
    return True


def _with_errors(
    ax: Any, x: np.ndarray, values: np.ndarray, errors: np.ndarray, style: _Style
) -> None:
    sure = np.isfinite(values) & np.isfinite(errors)
    unsure = np.isfinite(values) & ~np.isfinite(errors)
    how = {"color": style.colour}
    ax.errorbar(x[sure], values[sure], errors[sure], fmt=style.marker, label=style.name, **how)
    ax.plot(x[unsure], values[unsure], style.marker, markerfacecolor="white", **how)


def _scale(ax: Any, quantity: str, measured: bool) -> None:
    """Positive numbers that span more than a decade get a logarithmic axis, shares a whole one."""
    if quantity in _SHARES:
        ax.set_ylim(0, 1)
        return
    seen = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
    values = np.concatenate([v[np.isfinite(v)] for v in seen])
    if not len(values) or values.min() < 0:
        return
    if values.max() > 10 * values.min() > 0 and (measured or quantity in _LOGARITHMIC):
        log_y(ax)
    else:
        ax.set_ylim(0, 1.08 * values.max() or 1)


def _names(results: Sequence[Any]) -> list[str]:
    """Names of all diagnostics, in the order of their first appearance."""
    named = [r.diagnostic for r in results if r.diagnostic is not None]
    return list(dict.fromkeys(str(name) for names in named for name in names))


def _panels(results: Sequence[Any]) -> list[tuple[str, int | None, bool]]:
    """Which quantities are drawn, of which window, and whether they are diagnostics."""
    windows = sorted({int(w) for r in results for w in np.unique(r.window)})
    panels: list[tuple[str, int | None]] = [
        *((quantity, w) for w in windows for quantity in MINIBATCH[:_FIRST]),
        *((quantity, w) for quantity in MINIBATCH[_FIRST:] for w in windows),
    ]
    panels = [(quantity, w) for quantity, w in panels if _moves(results, quantity, w)]
    # Blocks that were too short for a noise scale have an infinite one.
    estimates = {q: [e.value for r in results for e in r.estimates(q)] for q in NOISE}
    panels += [(q, None) for q in NOISE if np.isfinite(estimates[q]).any()]
    return [
        *((quantity, window, False) for quantity, window in panels),
        *((name, None, True) for name in _names(results)),
    ]


def _moves(results: Sequence[Any], quantity: str, window: int | None) -> bool:
    """Whether a quantity of the minibatches was recorded; perturbations of no size aren't drawn."""
    parts = [getattr(r, quantity)[r.window == window] for r in results]
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    return bool(len(values)) and not (quantity.startswith("delta") and values.max() == 0)


def page(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """Everything that was tracked, three panels to a row.

    First gradient norm, error and distance from θ₀ of every window of minibatches (liu2020 Figs.
    1 and 8), then the other numbers of the minibatches, the gradient noise, the diagnostics.
    """
    panels = _panels(results)
    if not panels:
        raise UsageError("nothing was recorded: the windows were never reached.")
    rows = math.ceil(len(panels) / 3)
    with paper():
        fig = figure(PAGE, (0.25 * rows + (0.04 if labels else 0)))
        grid = fig.subplots(rows, 3, squeeze=False).ravel()
        styles = [_Style(i, labels[i] if labels else None) for i in range(len(results))]
        for ax, (quantity, window, measured) in zip(grid, panels, strict=False):
            _panel(ax, results, styles, quantity, window, measured)
        for ax in grid[len(panels) :]:
            ax.remove()
        if labels:
            handles = [
                grid[0].plot([], [], marker=s.marker, color=s.colour, label=s.name)[0]
                for s in styles
            ]
            fig.legend(handles=handles, loc="outside upper center", ncols=min(len(labels), 4))
        return fig
