"""Small drawings of estimates: accuracies with intervals, training curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.plotting.style import COLOURS, MARKERS, axes, paper


def draw_accuracies(evaluations: Sequence[Any], labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Accuracy per attack with 95 % intervals."""
    with paper():
        ax = axes(ax)
        width = 0.6 / max(len(evaluations), 1)
        for i, e in enumerate(evaluations):
            at = np.arange(len(e.attack)) + (i - (len(evaluations) - 1) / 2) * width
            ax.errorbar(
                at,
                100 * e.accuracy,
                yerr=100 * np.stack([e.accuracy - e.accuracy_low, e.accuracy_high - e.accuracy]),
                fmt=MARKERS[i % len(MARKERS)],
                color=COLOURS[i % len(COLOURS)],
                label=labels[i] if i < len(labels) else None,
            )
        ax.set_xticks(np.arange(len(evaluations[0].attack)), evaluations[0].attack)
        ax.set_xlim(-0.5, len(evaluations[0].attack) - 0.5)
        ax.set_ylim(0, 100)
        ax.set_xlabel("attack")
        ax.set_ylabel("accuracy (%)")
        if labels:
            ax.legend()
        return ax


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
