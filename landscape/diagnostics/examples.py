"""Adversarial examples of a few images, kept as arrays.

Not in the table of diagnostics: it measures nothing of the data as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape.errors import UsageError
from landscape.objective import Objective
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Result, array


@dataclass(frozen=True, eq=False)
class Examples(Result):
    """Some images, their adversarial examples, and what the network says of both.

    Images lie in [0, 1]. ``index`` counts the samples of the data from 0. Confidence is the
    largest softmax probability, that of the class predicted.
    """

    kind: ClassVar[str] = "examples"

    index: np.ndarray = array("sample", label="place in the data")
    labels: np.ndarray = array("sample")
    clean: np.ndarray = array("sample", "channel", "row", "column", label="clean image")
    adversarial: np.ndarray = array("sample", "channel", "row", "column", label="adversarial image")
    clean_prediction: np.ndarray = array("sample")
    clean_confidence: np.ndarray = array("sample", units="fraction")
    adversarial_prediction: np.ndarray = array("sample")
    adversarial_confidence: np.ndarray = array("sample", units="fraction")

    @property
    def perturbation(self) -> np.ndarray:
        """δ = x' − x."""
        return np.asarray(self.adversarial - self.clean)

    def plot(self, ax: Any = None) -> Any:
        """The sheet, a figure of its own."""
        from landscape.plotting.sheets import draw_examples

        if ax is not None:
            raise UsageError("a sheet has axes of its own: call plot() without any.")
        return draw_examples([self])


def adversarial_examples(
    objective: Objective,
    n: int = 8,
    *,
    indices: Sequence[int] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """Adversarial examples of n images, as in sitawarin2021, Fig. 8.

    Args:
        objective: a classifier of images (B, C, H, W) with labels (B,), and its attack; without
            one the adversarial image is the clean one. The random starts are those of the
            objective's seed, drawn for the images chosen alone, so they differ from those that
            an attack on all the data has.
        n: how many images are drawn, without replacement; in the order of the data.
        indices: which samples instead, counted from 0. seed: of the draw.
        progress: called as (batches read, batches).

    Cost: one pass over the data without the network, and the attack on n images. When it lies: a
    few images are no measure of robustness: ``evaluate`` counts.
    """
    total = objective.batches.samples
    if indices is None:
        if not 1 <= n <= total:
            raise UsageError(f"asked for {n} images of {total}: ask for 1 to {total}.")
        drawn = Streams(seed, "examples").uniform("which", (total,)).argsort()[:n]
        indices = sorted(drawn.tolist())
    for i in indices:
        if not 0 <= i < total:
            raise UsageError(f"there is no sample {i}: the data have 0..{total - 1}.")
    if not len(indices):
        raise UsageError("give at least one index.")
    record = Record(
        "examples", objective.describe(), seed, n=len(indices), indices=[int(i) for i in indices]
    )
    x, y = _gather(objective, indices, progress)
    if x.ndim != 4 or y.ndim != 1 or y.is_floating_point():
        raise UsageError(
            f"examples are of images (B, C, H, W) with labels (B,), not {tuple(x.shape)} with "
            f"{str(y.dtype).removeprefix('torch.')} of shape {tuple(y.shape)}."
        )
    term = replace(next(objective.with_attack(None).terms()), x=x, y=y)

    def network(v: Tensor) -> Tensor:
        return replace(term, x=v).network(term.theta)

    moved = x
    if objective.attack is not None:
        streams = Streams(objective.seed, "attack")
        moved = objective.attack.perturb(network, x, y, streams=streams, loss=term.loss)
    found: dict[str, np.ndarray] = {}
    for name, images in (("clean", x), ("adversarial", moved)):
        with torch.no_grad():
            confidence, predicted = network(images).double().softmax(1).max(1)
        found[name] = images.cpu().numpy()
        found[f"{name}_prediction"] = predicted.cpu().numpy()
        found[f"{name}_confidence"] = confidence.cpu().numpy()
    return Examples(
        provenance=record.finish(),
        index=np.array(indices, dtype=np.int64),
        labels=y.cpu().numpy(),
        **found,
    )


def _gather(
    objective: Objective, indices: Sequence[int], progress: Callable[[int, int], None] | None
) -> tuple[Tensor, Tensor]:
    """The samples asked for, in the order asked for; no more than one batch is held besides."""
    places = {int(i): place for place, i in enumerate(indices)}
    if len(places) < len(indices):
        raise UsageError("an index repeats: give each sample once.")
    found: dict[int, tuple[Tensor, Tensor]] = {}
    first = 0
    for done, (x, y) in enumerate(objective.batches):
        for i in range(first, first + len(x)):
            if i in places:
                found[places[i]] = x[i - first], y[i - first]
        first += len(x)
        if progress is not None:
            progress(done + 1, len(objective.batches))
    pairs = [found[place] for place in range(len(indices))]
    return torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs])
