"""Measurements along a training of li2023: one number per kept epoch, as ``Curves``.

``train`` is what was learned and ``test`` the test set, which the paper calls validation data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from landscape.attacks import Attack
from landscape.diagnostics import effectiveness, inputs, local_linearity
from landscape.functional import Forward
from landscape.losses import cross_entropy
from landscape.models import ModelSpec
from landscape.objective import Objective
from landscape.papers.kinds import Curves, curves
from landscape.running.trained import Trained
from landscape.training.folder import epoch_files

SPLITS = ("train", "test")


def kept(run: Trained) -> list[int]:
    """Finished epochs of which the network was kept; 0 is before training."""
    return [int(path.stem) for path in epoch_files(run.folder)]


def objectives(run: Trained, split: str, n: int | None) -> Iterator[Objective]:
    """The clean loss of every kept network on the same data."""
    data = run.data(split, n)
    return (Objective(run.model(epoch), data) for epoch in kept(run))


def losses_along(run: Trained, *, attack: str = "pgd-20", n: int | None = None) -> Curves:
    """Clean and adversarial loss, in nats, and robust accuracy on both splits.

    AV, the adversarial variance of eq. 2, is the difference of the two losses.
    """
    rows: dict[str, list[float]] = {}
    for split in SPLITS:
        for objective in objectives(run, split, n):
            clean = objective.per_sample()[0]
            adversarial, right = objective.with_attack(run.attack(attack)).per_sample()
            assert right is not None
            found = {
                "clean": clean.double().mean(),
                "adversarial": adversarial.double().mean(),
                "robust accuracy": right.double().mean(),
            }
            for name, value in found.items():
                rows.setdefault(f"{split}/{name}", []).append(float(value))
    return curves(kept(run), rows, x_label="epoch", y_label="loss (nats) or accuracy")


def inputs_along(run: Trained, *, n: int | None = None, top: int = 20) -> Curves:
    """IG = mean ‖∇ₓℓ‖₁ over a whole split, HS = mean Σ|λ| of the ``top`` of ∇²ₓℓ over ``n``."""
    rows: dict[str, list[float]] = {}
    for split in SPLITS:
        whole, part = objectives(run, split, None), objectives(run, split, n)
        for every, some in zip(whole, part, strict=True):
            rows.setdefault(f"{split}/IG", []).append(input_gradient(every))
            rows.setdefault(f"{split}/HS", []).append(curvature(some, top))
    return curves(kept(run), rows, x_label="epoch", y_label="IG (1/input) or HS (1/input²)")


def effectiveness_along(
    run: Trained, *, attacks: Sequence[str] = (), reference: str = "pgd-50", n: int | None = None
) -> Curves:
    """Effectiveness (eq. 7) on the training data of the run's own attack and of others.

    ``own`` is the attack that the run was trained on, as it is made for it, on the network in
    eval mode.
    """
    named = {"own": own_attack(run), **{name: run.attack(name) for name in attacks}}
    rows: dict[str, list[float]] = {name: [] for name in named}
    for objective in objectives(run, "train", n):
        found = effectiveness(objective, named, run.attack(reference), reference_name=reference)
        for name, row in rows.items():
            row.append(found.mean_ratio(name).value)
    return curves(kept(run), rows, x_label="epoch", y_label="effectiveness")


def curvature_along(
    run: Trained,
    *,
    activations: Sequence[str] = ("softplus",),
    every: int = 1,
    n: int | None = None,
    draws: int = 5,
    top: int = 20,
) -> Curves:
    """HS of the network and of its duals, and its gradient alignment GA (A.5), training data.

    A dual has the same weights and ``softplus`` in place of ReLU (A.6). Of the kept epochs every
    ``every``-th is measured.
    """
    ball = run.attack("pgd-10").ball
    data, rows = run.data("train", n), dict[str, list[float]]()
    epochs = kept(run)[::every]
    for epoch in epochs:
        objective = Objective(run.model(epoch), data)
        around = local_linearity(objective, ball, draws=draws, steps=0, restarts=1)
        found = {"GA": around.mean_alignment.value, "HS": curvature(objective, top)}
        for activation in activations:
            dual = Objective(exchanged(run, epoch, activation), data)
            found[f"HS {activation}"] = curvature(dual, top)
        for name, value in found.items():
            rows.setdefault(name, []).append(value)
    return curves(epochs, rows, x_label="epoch", y_label="HS (1/input²) or cosine")


# -- inside ---------------------------------------------------------------------------------------


def own_attack(run: Trained) -> Attack:
    """What the run was trained on, for the network in eval mode."""
    perturbation: Any = run.config.plan.method.perturbation
    found: Attack = dataclasses.replace(perturbation.attack, mode="eval")
    return found


def curvature(objective: Objective, top: int = 20) -> float:
    """Mean over samples of the sum of the ``top`` largest |λ|, of all entries if fewer."""
    x, _ = next(iter(objective.batches))
    return inputs(objective, top=min(top, x[0].numel())).mean_hs.value


def input_gradient(objective: Objective) -> float:
    """Mean over samples of ‖∇ₓℓ‖₁, without Hessians: for whole data sets."""

    def body(forward: Forward) -> float:
        total = 0.0
        for x, y in objective.batches:
            leaf = x.detach().requires_grad_()
            with torch.enable_grad():
                loss = cross_entropy(forward(leaf), y).sum()
                (gradient,) = torch.autograd.grad(loss, leaf)
            total += float(gradient.double().abs().sum())
        return total / objective.batches.samples

    return objective.call(body)


def exchanged(run: Trained, which: str | int, activation: str) -> torch.nn.Module:
    """A saved network with another activation."""
    checkpoint = run.checkpoint(which)
    spec = ModelSpec.from_dict(checkpoint.model or {})
    dual = dataclasses.replace(spec, options={**spec.options, "activation": activation})
    model = checkpoint.into(dual.build(seed=0))
    return model.to(run.config.resolved_device()).eval()


def smoothed(x: Any, y: Any, width: float = 5.0) -> np.ndarray:
    """The mean of ``y`` over ``width`` epochs around every x (Fig. 1), fewer at the ends."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return np.array([y[np.abs(x - at) <= width / 2].mean() for at in x])


def by_method(found: Mapping[str, Any], prefix: str) -> dict[str, list[Any]]:
    """Results named ``prefix/METHOD/seedK``: a list over seeds for every method."""
    groups: dict[str, list[Any]] = {}
    for name, value in found.items():
        first, _, rest = name.partition("/")
        if first == prefix:
            groups.setdefault(rest.partition("/")[0], []).append(value)
    return groups


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's, over the points that both have; NaN where there are fewer than 3, or no order."""
    from scipy import stats

    there = np.isfinite(x) & np.isfinite(y)
    if there.sum() < 3 or np.ptp(x[there]) == 0 or np.ptp(y[there]) == 0:
        return float("nan")
    return float(stats.spearmanr(x[there], y[there]).statistic)
