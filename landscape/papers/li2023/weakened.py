"""li2023 Fig. 4: curvature and effectiveness of modified networks (§4.3).

The text calls the two weakenings Fig. 4a and b and the random networks 4c; the caption, which the
panels follow here, calls the random networks (a), the sizes (b) and the flipped signs (c).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from landscape.attacks import Attack
from landscape.diagnostics import effectiveness
from landscape.objective import Objective
from landscape.papers.kinds import Curves, curves
from landscape.papers.li2023.along import curvature
from landscape.random import Streams
from landscape.running.trained import Trained
from landscape.training.batch import Batch
from landscape.training.loop import fit
from landscape.training.methods import Method
from landscape.training.network import Forward
from landscape.training.outer_losses import CrossEntropy
from landscape.training.perturbations import Attacked
from landscape.training.schedules import Schedule

TESTED = ("fgsm", "pgd-10")


@dataclass(frozen=True)
class Weakened(Attacked):
    """x' = clip(x + s δ) with δ of the attack and a share of its signs flipped.

    Attributes:
        scale: s. flip: share of the entries of every sample, drawn anew for every batch.
    """

    scale: float = 1.0
    flip: float = 0.0

    part: ClassVar[str] = "weakened attack"

    def perturbed(self, batch: Batch, forward: Forward, attack: Attack) -> Tensor:
        delta = super().perturbed(batch, forward, attack) - batch.x
        if self.flip:
            size = delta[0].numel()
            order = batch.streams.uniform("flip", (len(delta), size)).argsort(1).argsort(1)
            flipped = (order < round(self.flip * size)).reshape(delta.shape).to(delta.device)
            delta = torch.where(flipped, -delta, delta)
        return (batch.x + self.scale * delta).clamp(0, 1)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "scale": self.scale, "flip": self.flip}


def trained_on_weakened(
    run: Trained,
    *,
    scales: Sequence[float] = (),
    flips: Sequence[float] = (),
    epochs: int = 1,
    attack: str = "pgd-20",
    reference: str = "pgd-50",
    n: int | None = None,
) -> Curves:
    """The run's best network after ``epochs`` more on weakened perturbations of the attack.

    HS and effectiveness of FGSM and PGD-10 are of the network afterwards, on training data;
    ``train`` is the effectiveness of the weakened examples, the mean over the networks before and
    after every epoch. The learning rate, which the paper leaves open, is that of the training's
    start. Give ``scales`` or ``flips``.
    """
    config, data = run.config, run.data("train", n)
    amounts = [(s, 0.0) for s in scales] + [(1.0, f) for f in flips]
    rows: dict[str, list[float]] = {}
    for scale, flip in amounts:
        model, own = run.model("best"), []
        made = Weakened(dataclasses.replace(run.attack(attack), mode="train"), None, scale, flip)
        plan = dataclasses.replace(
            config.plan,
            method=Method("weakened", made, CrossEntropy()),
            epochs=1,
            schedule=Schedule(),
        )

        def examples(model: nn.Module, scale: float = scale, flip: float = flip) -> float:
            found = effectiveness(
                Objective(model, data),
                {"own": run.attack(attack)},
                run.attack(reference),
                scales=[scale],
                flips=[flip],
            )
            # The combinations are (1, 0), (scale, 0) and (1, flip).
            there = list(zip(found.scale, found.flip, strict=True)).index((scale, flip))
            return found.mean_ratio("own", there).value

        own.append(examples(model))
        for epoch in range(epochs):
            whole = run.data("train")
            model.train()
            fit(model, whole, dataclasses.replace(plan, seed=config.plan.seed + epoch))
            model.eval()
            own.append(examples(model))
        rows.setdefault("train", []).append(float(np.mean(own)))
        for name, value in _tested(run, model, data, reference).items():
            rows.setdefault(name, []).append(value)
    at = [*scales] or [*flips]
    label = "size of the perturbation" if scales else "share of its signs flipped"
    return curves(at, rows, x_label=label, y_label="HS (1/input²) or effectiveness")


def randomly_modified(
    run: Trained,
    *,
    variants: int = 20,
    largest: float = 1.0,
    relative: bool = False,
    reference: str = "pgd-50",
    n: int | None = None,
    seed: int = 0,
) -> Curves:
    """HS and effectiveness of variants of the best network: weights plus U(−s, s), s ~ U(0, most).

    ``relative``: s is in root mean squares of each parameter's entries. Variants without any
    sample that PGD-50 can raise are NaN.
    """
    original, data = run.model("best"), run.data("train", n)
    streams = Streams(seed, "modified")
    sizes = largest * streams.uniform("size", (variants,))
    rows: dict[str, list[float]] = {}
    for k, size in enumerate(sizes.tolist()):
        model = copy.deepcopy(original)
        for name, p in model.named_parameters():
            noise = 2 * streams.child("noise", k).uniform(name, tuple(p.shape)) - 1
            unit = float(p.detach().pow(2).mean().sqrt()) if relative else 1.0
            p.data += (size * unit * noise).to(p)
        for name, value in _tested(run, model, data, reference).items():
            rows.setdefault(name, []).append(value)
    return curves(sizes, rows, x_label="size s of the noise", y_label="HS or effectiveness")


def _tested(run: Trained, model: nn.Module, data: Any, reference: str) -> dict[str, float]:
    objective = Objective(model, data)
    attacks = {name: run.attack(name) for name in TESTED}
    found = effectiveness(objective, attacks, run.attack(reference), reference_name=reference)
    numbers = {"HS": curvature(objective)}
    return numbers | {name: found.mean_ratio(name).value for name in TESTED}
