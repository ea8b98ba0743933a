"""Drawing functions, one per kind of result. They take results and never compute them.

``picture`` makes the figure of one or several results of a kind; ``PICTURES`` names the kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from landscape.errors import UsageError
from landscape.plotting import (
    connectivity,
    cosine,
    density,
    difficulty,
    effectiveness,
    inputs,
    linearity,
    lipschitz,
    masking,
    neurons,
    samples,
    sheets,
    smoothness,
    spectrum,
    style,
    surface,
    sweep,
    tables,
    trace,
    track,
)

__all__ = ["PICTURES", "picture"]


def _on_one_panel(draw: Callable[..., Any]) -> Callable[[Sequence[Any], Sequence[str]], Any]:
    def figure(results: Sequence[Any], labels: Sequence[str]) -> Any:
        fig, ax = style.panel()
        draw(results, labels, ax=ax)
        return fig

    return figure


PICTURES: dict[str, Callable[[Sequence[Any], Sequence[str]], Any]] = {
    "connectivity": connectivity.page,
    "cosine": cosine.compare,
    "density": density.compare,
    "difficulty": difficulty.compare,
    "samples": samples.compare,
    "smoothness": smoothness.compare,
    "spectrum": spectrum.page,
    "inputs": inputs.page,
    "masking": masking.compare,
    "linearity": linearity.page,
    "lipschitz": lipschitz.page,
    "neurons": neurons.compare,
    "effectiveness": effectiveness.page,
    "examples": sheets.draw_examples,
    "surface": surface.compare,
    "sweep": sweep.page,
    "trace": trace.compare,
    "track": track.page,
    "history": _on_one_panel(tables.draw_histories),
    "evaluation": tables.compare_accuracies,
}


def picture(results: Sequence[Any], labels: Sequence[str] = ()) -> Any:
    """A figure for files that shows results of one kind together, on one scale."""
    kinds = sorted({result.kind for result in results})
    if len(kinds) != 1 or kinds[0] not in PICTURES:
        raise UsageError(f"can't draw {', '.join(kinds)} in one picture: give results of one kind.")
    return PICTURES[kinds[0]](results, [style.literal(label) for label in labels])
