"""Effectiveness of attacks against a reference, per sample too, and of weakened perturbations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, COLUMN, MARKERS, PAGE, axes, figure, paper

_LINES = ("-", "--", ":", "-.")
_ALONG = {"scale": "size of the perturbation (%)", "flip": "signs flipped (%)"}


def page(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """Two panels of the attacks as they are; below them what the weakened ones still reach."""
    curves = [along for along in _ALONG if any(len(r.curve(along)) > 1 for r in results)]
    with paper():
        fig = figure(PAGE, 0.75 * COLUMN / PAGE * (1 + bool(curves)))
        panels = fig.subplots(1 + bool(curves), 2, squeeze=False)
        draw_attacks(results, labels, ax=panels[0, 0])
        draw_samples(results, labels, ax=panels[0, 1])
        for along, ax in zip(curves, panels[-1], strict=False):
            draw_weakened(results, along, labels, ax=ax)
        for ax in panels[-1, len(curves) :] if curves else []:
            ax.set_visible(False)
        return fig


def draw_attacks(results: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Mean of ratios (filled) and ratio of means (hollow) of every attack, ± one standard error."""
    with paper():
        ax = axes(ax)
        names = list(dict.fromkeys(str(a) for r in results for a in r.attack))
        ax.axhline(1, color="0.6", linewidth=0.8, linestyle=":")
        for i, result in enumerate(results):
            shift = 0.5 * ((i + 0.5) / len(results) - 0.5)
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            for hollow, find in enumerate((result.mean_ratio, result.ratio_of_means)):
                found = [find(str(a)) for a in result.attack]
                ax.errorbar(
                    [names.index(str(a)) + shift + 0.06 * hollow for a in result.attack],
                    [e.value for e in found],
                    np.nan_to_num([e.standard_error for e in found], posinf=0),
                    fmt=marker,
                    color=colour,
                    markerfacecolor="white" if hollow else colour,
                    label=None if hollow or i >= len(labels) else labels[i],
                )
        ax.plot([], [], "o", color="0.4", label="mean of ratios")
        ax.plot([], [], "o", color="0.4", markerfacecolor="white", label="ratio of means")
        ax.set_xticks(range(len(names)), names)
        ax.set_xlim(-0.6, len(names) - 0.4)
        _reach_zero(ax)
        ax.set_ylabel(_says(results))
        ax.legend()
        return ax


def draw_samples(results: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Share of the samples included whose ratio is at most r, for every attack.

    The axis ends where all but the outermost 2 % of the ratios lie.
    """
    with paper():
        ax = axes(ax)
        everything = []
        for result, attack, style, name in _series(results, labels):
            ratios = np.sort(result.ratios(attack))
            if not len(ratios):
                continue
            everything.append(ratios)
            share = 100 * np.arange(1, len(ratios) + 1) / len(ratios)
            ax.step(ratios, share, where="post", label=name, **{**style, "marker": ""})
        ax.axvline(1, color="0.6", linewidth=0.8, linestyle=":")
        if everything:
            low, high = np.quantile(np.concatenate(everything), [0.01, 0.99])
            low, high = min(low, 0), max(high, 1.05)
            ax.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
            ax.legend()
        ax.set_ylim(0, 100)
        ax.set_xlabel("effectiveness of one sample")
        ax.set_ylabel("samples (%)")
        return ax


def draw_weakened(
    results: Sequence[Any], along: str, labels: Sequence[str] = (), ax: Any = None
) -> Any:
    """Effectiveness (mean of ratios, band ± s.e.) against the size kept or the signs flipped."""
    with paper():
        ax = axes(ax)
        for result, attack, style, name in _series(results, labels):
            where = result.curve(along)
            found = [result.mean_ratio(attack, int(w)) for w in where]
            mean = np.array([e.value for e in found])
            error = np.nan_to_num([e.standard_error for e in found], posinf=0)
            x = 100 * getattr(result, along)[where]
            ax.plot(x, mean, label=name, **style)
            ax.fill_between(
                x, mean - error, mean + error, color=style["color"], alpha=0.25, linewidth=0
            )
        ax.axhline(1, color="0.6", linewidth=0.8, linestyle=":")
        ax.axhline(0, color="0.6", linewidth=0.6)
        _reach_zero(ax)
        ax.set_xlabel(_ALONG[along])
        ax.set_ylabel(_says(results))
        ax.legend()
        return ax


def _series(
    results: Sequence[Any], labels: Sequence[str]
) -> Iterator[tuple[Any, str, dict[str, Any], str]]:
    """A colour per checkpoint and a line per attack; of a single checkpoint both per attack."""
    for i, result in enumerate(results):
        for k, attack in enumerate(map(str, result.attack)):
            c = i if len(results) > 1 else k
            style = {
                "color": COLOURS[c % len(COLOURS)],
                "marker": MARKERS[c % len(MARKERS)],
                "linestyle": _LINES[k % len(_LINES)],
            }
            named = len(results) > 1 and i < len(labels)
            yield result, attack, style, f"{labels[i]}, {attack}" if named else attack


def _says(results: Sequence[Any]) -> str:
    return "effectiveness against " + " or ".join(sorted({r.reference for r in results}))


def _reach_zero(ax: Any) -> None:
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, 0), high + 0.05 * (high - min(low, 0)))
