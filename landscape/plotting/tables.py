"""Small drawings of estimates: accuracies with intervals, training curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, MARKERS, PAGE, axes, panel, paper

_WORST = "worst of all"


def draw_accuracies(evaluations: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Accuracy per attack with 95 % intervals, and against all of them together; chance dotted.

    Attacks that only some of the evaluations have leave a gap for the others.
    """
    with paper():
        ax = axes(ax)
        names = _attacks(evaluations)
        width = 0.6 / max(len(evaluations), 1)
        for i, e in enumerate(evaluations):
            columns = {
                str(name): row
                for name, *row in zip(
                    e.attack, e.accuracy, e.accuracy_low, e.accuracy_high, strict=True
                )
            }
            columns[_WORST] = [e.worst, e.worst_low, e.worst_high]
            here = [name for name in names if name in columns]
            at = np.array([names.index(name) for name in here])
            mean, low, high = 100 * np.array([columns[name] for name in here]).T
            ax.errorbar(
                at + (i - (len(evaluations) - 1) / 2) * width,
                mean,
                yerr=[mean - low, high - mean],
                fmt=MARKERS[i % len(MARKERS)],
                color=COLOURS[i % len(COLOURS)],
                label=labels[i] if i < len(labels) else None,
            )
        for chance in {100 / e.classes for e in evaluations}:
            ax.axhline(chance, color="0.6", linewidth=0.8, linestyle=":")
            ax.text(
                0.01,
                chance + 1,
                "chance",
                color="0.4",
                fontsize=7,
                transform=ax.get_yaxis_transform(),
            )
        ax.set_xticks(np.arange(len(names)), names)
        if sum(len(name) for name in names) > 28:  # more than a column is wide
            ax.tick_params(axis="x", rotation=30)
            for label in ax.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        ax.set_xlim(-0.5, len(names) - 0.5)
        ax.set_ylim(0, 100)
        ax.set_xlabel("attack")
        ax.set_ylabel("accuracy (%)")
        if labels:
            # Above the points: below them there is the chance level, beside them no room.
            ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
        return ax


def compare_accuracies(evaluations: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """One panel, wider for several networks under several attacks."""
    crowded = len(evaluations) * len(_attacks(evaluations)) > 16
    fig, ax = panel(PAGE, 0.45) if crowded else panel()
    draw_accuracies(evaluations, labels, ax=ax)
    return fig


def _attacks(evaluations: Sequence[Any]) -> list[str]:
    """All attacks, in the order they come, and all together where there are several."""
    names = list(dict.fromkeys(str(name) for e in evaluations for name in e.attack))
    return [*names, _WORST] if len(names) > 2 else names


def draw_histories(histories: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Validation accuracy over the epochs, clean solid and robust dashed; the best epoch marked."""
    with paper():
        ax = axes(ax)
        for i, history in enumerate(histories):
            colour = COLOURS[i % len(COLOURS)]
            name = f"{labels[i]}, " if i < len(labels) else ""
            clean, robust = 100 * history.val_accuracy, 100 * history.val_robust_accuracy
            ax.plot(history.epoch, clean, color=colour, label=f"{name}clean")
            chosen = clean
            if np.isfinite(robust).any():
                ax.plot(history.epoch, robust, "--", color=colour, label=f"{name}robust")
                chosen = robust
            at = history.best_epoch - 1
            ax.plot(history.epoch[at], chosen[at], MARKERS[0], color=colour)
        ax.set_ylim(0, 100)
        ax.set_xlabel("epoch")
        ax.set_ylabel("validation accuracy (%)")
        ax.legend()
        return ax
