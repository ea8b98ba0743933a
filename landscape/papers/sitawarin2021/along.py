"""Networks along the training, as they were kept: curvature, accuracies, sizes of perturbations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from landscape import params as P
from landscape.diagnostics import evaluate, spectrum, trace
from landscape.papers.kinds import Curves, curves
from landscape.papers.scale import Scale
from landscape.papers.sitawarin2021.setting import main
from landscape.running.trained import Trained

EIGENVALUE, TRACE, GRADIENT = "λ_max", "trace", "gradient norm"


def curvature_along(
    run: Trained, *, epochs: Sequence[int], n: int, probes: int, attack: str = "pgd-10"
) -> Curves:
    """λ_max and trace of ∇²_θ L_ε, and ‖∇_θ L_ε‖, on the same training samples at every epoch.

    λ_max by Lanczos (± its residual), the trace by Hutchinson's estimator (± standard error).
    """
    names = (EIGENVALUE, TRACE, GRADIENT)
    values: dict[str, list[float]] = {name: [] for name in names}
    errors: dict[str, list[float]] = {name: [] for name in names}
    for epoch in epochs:
        objective = run.objective(epoch, split="train", n=n, attack=attack)
        top = spectrum(objective, top=1)
        total = trace(objective, samples=probes).trace
        for name, value, error in (
            (EIGENVALUE, top.eigenvalues[0], top.residuals[0]),
            (TRACE, total.value, total.standard_error),
            (GRADIENT, P.norm(objective.gradient()), np.nan),
        ):
            values[name].append(float(value))
            errors[name].append(float(error))
    return curves(
        list(epochs), values, errors=errors, x_label="epoch", what="residual or standard error"
    )


def accuracies_along(
    run: Trained, *, epochs: Sequence[int], n: int | None, attack: str = "pgd-10"
) -> Curves:
    """Accuracy under attack on training and on test data at every epoch, in percent."""
    named: dict[str, list[float]] = {"train": [], "test": []}
    for epoch in epochs:
        for split, values in named.items():
            objective = run.objective(epoch, split=split, n=n)
            found = evaluate(objective, {attack: run.attack(attack)})
            values.append(100 * float(found.accuracy[list(found.attack).index(attack)]))
    return curves(list(epochs), named, x_label="epoch", y_label="accuracy under attack (%)")


def norms_along(
    run: Trained,
    *,
    epochs: Sequence[int],
    batches: int = 10,
    size: int = 128,
    held: float | None = None,
) -> Curves:
    """Mean over training samples of ‖x' − x‖∞ / ε, x' by the method's own attack from x itself.

    At epoch t the network is the one kept then and λ is that of t, or ``held``. Batches are drawn
    once. Without the random start, which alone has a norm of almost ε.
    """
    from landscape.random import Streams
    from landscape.training.batch import Batch

    part: Any = run.config.plan.method.perturbation
    part = dataclasses.replace(part, attack=dataclasses.replace(part.attack, start="zero"))
    if held is not None:
        level = dataclasses.replace(part.difficulty, schedule="constant", start=held, milestones=())
        part = dataclasses.replace(part, difficulty=level)
    data = run.data("train")
    streams = Streams(0, "norms")
    order = streams.uniform("order", (len(data),)).argsort()[: batches * size]
    device, total = run.config.resolved_device(), run.config.plan.epochs
    pairs = [data[int(i)] for i in order]
    x = torch.stack([torch.as_tensor(a) for a, _ in pairs]).to(device)
    y = torch.as_tensor([int(b) for _, b in pairs]).to(device)
    means = []
    for epoch in epochs:
        model = run.model(epoch)
        norms = []
        for rows in torch.arange(len(x)).split(size):
            batch = Batch(
                model, x[rows], y[rows], None, streams, rows, float(epoch), {}, total, len(x)
            )
            moved = part(batch) - x[rows]
            norms.append(moved.flatten(1).abs().amax(1))
        means.append(float(torch.cat(norms).double().mean()) / part.attack.ball.radius)
    return curves(list(epochs), {"‖δ‖∞ / ε": means}, x_label="epoch", y_label="mean ‖δ‖∞ / ε")


def length(scale: Scale) -> int:
    """Epochs of the trainings of ``main``."""
    return main(scale).run(scale, "AT", 0).config().plan.epochs


def first_decay(scale: Scale) -> float:
    """Epoch at which the learning rate first falls."""
    schedule = main(scale).run(scale, "AT", 0).config().plan.schedule
    return float(schedule.milestones[0])


def measured_epochs(scale: Scale) -> tuple[int, ...]:
    """Epochs of Figs. 4 and 6: every one in the paper."""
    step = scale.pick(digits=4, mnist=2, paper=1, smoke=1)
    return tuple(range(step, length(scale) + 1, step))


def last_epochs(scale: Scale) -> tuple[int, ...]:
    """The last fifth of the training, 20 of the paper's 100 epochs."""
    end, step = length(scale), scale.pick(digits=2, mnist=2, paper=1, smoke=1)
    return tuple(range(end - end // 5 + step, end + 1, step)) or (end,)
