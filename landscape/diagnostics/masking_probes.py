"""A network under the weaker and the stronger attacks that tell whether gradients are masked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape.attacks import Attack, Ball
from landscape.attacks.autoattack import connected, square
from landscape.errors import UsageError
from landscape.functional import Forward
from landscape.losses import Loss
from landscape.objective import Objective
from landscape.random import Streams

MORE = 5  # times the steps, and times the starts
LOST = 0.1  # share of its value that a loss must lose to have fallen


@dataclass(frozen=True)
class Seen:
    """What an attack came to: its points, their losses, and who is still right."""

    points: Tensor
    losses: Tensor
    right: Tensor


@dataclass(frozen=True)
class Probe:
    """The network on the examples, in pieces of the size of the objective's batches."""

    forward: Forward
    x: Tensor
    y: Tensor
    loss: Loss
    chunk: int
    seed: int

    def on(self, rows: Tensor) -> Probe:
        return dataclasses.replace(self, x=self.x[rows], y=self.y[rows])

    def look(self, points: Tensor) -> Seen:
        losses, right = [], []
        with torch.no_grad():
            for a, b in zip(points.split(self.chunk), self.y.split(self.chunk), strict=True):
                output = self.forward(a)
                values = self.loss(output, b)
                if values.ndim == 0 or output.ndim != 2 or b.ndim != 1 or b.is_floating_point():
                    raise UsageError(
                        "masking needs a classifier, outputs (B, C) and integer targets (B,), "
                        "and a loss that returns one value per sample."
                    )
                losses.append(values)
                right.append((output.argmax(1) == b) & ~values.isnan())
        if not losses:
            return Seen(points, points.new_zeros(0), torch.zeros(0, dtype=torch.bool))
        return Seen(points, torch.cat(losses), torch.cat(right))

    def attacked(self, attack: Attack) -> Seen:
        # Always the same streams: the same starts, scaled, in every ball.
        streams = Streams(self.seed, "attack")
        found = [
            attack.perturb(self.forward, a, b, streams=streams, loss=self.loss)
            for a, b in zip(self.x.split(self.chunk), self.y.split(self.chunk), strict=True)
        ]
        return self.look(torch.cat(found) if found else self.x)

    def blind(self, points: Tensor, ball: Ball) -> Tensor:
        """Where the loss has no gradient to follow."""
        found = [torch.zeros(0, dtype=torch.bool, device=points.device)]
        for a, b in zip(points.split(self.chunk), self.y.split(self.chunk), strict=True):
            leaf = a.detach().requires_grad_()
            with torch.enable_grad():
                total = self.loss(self.forward(leaf), b).sum()
                (gradient,) = torch.autograd.grad(total, leaf)
            rows = gradient.flatten(1)
            norms = rows.abs().sum(1) if ball.norm == "linf" else rows.norm(dim=1)
            found.append(~(ball.radius * norms >= torch.finfo(points.dtype).eps))
        return torch.cat(found)

    def square(self, ball: Ball, queries: int) -> Tensor | None:
        """Who withstands random search, or ``None`` where it can't be run."""

        def forward(images: Tensor) -> Tensor:
            return torch.cat([self.forward(piece) for piece in images.split(self.chunk)])

        points = square(forward, self.x, self.y, ball, queries=queries, seed=self.seed)
        return None if points is None else self.look(points).right


@dataclass(frozen=True)
class Findings:
    """Per check, among the samples it asks, those that speak for masking; None: it can't be run."""

    hits: dict[str, Tensor | None]
    samples: int
    right: int
    withstood: int
    chance: float


def examine(
    probe: Probe,
    attack: Attack,
    queries: int,
    progress: Callable[[int, int], None] | None = None,
) -> Findings:
    """The checks of ``masking`` that need the network."""
    hits: dict[str, Tensor | None] = {}

    def found(name: str, hit: Tensor | None) -> None:
        hits[name] = hit
        if progress is not None:
            progress(len(hits), 9)

    samples = len(probe.x)
    chance = int(probe.y.bincount().max()) / samples
    probe = probe.on(probe.look(probe.x).right)
    base = probe.attacked(attack)
    kept = probe.on(base.right)

    found("zero gradient", kept.blind(base.points[base.right], attack.ball))
    withstood = kept.square(attack.ball, queries)
    found("black box", None if withstood is None else ~withstood)
    other = dataclasses.replace(attack, objective="margin")
    found("other loss", ~kept.attacked(other).right)
    one = probe.attacked(_one_step(attack)).right
    found("one step", ~one[one != base.right])
    # On all samples, so that those that withstood begin where they began before.
    more = probe.attacked(dataclasses.replace(attack, steps=MORE * attack.steps))
    found("more steps", ~more.right[base.right])
    starts = dataclasses.replace(attack, restarts=MORE * attack.restarts)
    found("more starts", ~kept.attacked(starts).right)
    # Of those broken already the loss may be anything: the attack had no more to reach for.
    found("steps raise loss", _fallen(base.losses, more.losses)[base.right])
    whole = _whole(attack, probe.x)
    wider = probe.attacked(_scaled(attack, min(2 * attack.ball.radius, whole)))
    found("radius raises loss", _fallen(base.losses, wider.losses)[base.right])
    # Balls are nested: what a smaller one holds, the largest does.
    unbroken = base.right & wider.right
    unbroken[base.right] &= kept.attacked(_scaled(attack, whole)).right
    found("whole box", unbroken)
    return Findings(hits, samples, len(probe.x), len(kept.x), chance)


def _one_step(attack: Attack) -> Attack:
    return dataclasses.replace(
        attack, steps=1, restarts=1, step_size=attack.ball.radius, start="zero"
    )


def _scaled(attack: Attack, radius: float) -> Attack:
    """The same attack in a larger ball, with its steps and noise as large in proportion."""
    factor = radius / attack.ball.radius if attack.ball.radius else 1.0
    gaussian = attack.start == "gaussian"
    return dataclasses.replace(
        attack,
        ball=Ball(attack.ball.norm, radius),
        step_size=attack.step_size * factor,
        start_scale=attack.start_scale * (factor if gaussian else 1.0),
    )


def _whole(attack: Attack, x: Tensor) -> float:
    """A radius within which every input of [0, 1]^d lies."""
    size = math.prod(x.shape[1:])
    return max(1.0 if attack.ball.norm == "linf" else math.sqrt(size), attack.ball.radius)


def _fallen(before: Tensor, after: Tensor) -> Tensor:
    return after < before - LOST * before.abs()


def probed(objective: Objective, most: int, forward: Forward, loss: Loss) -> Probe:
    """The network on the first samples, classes in turn, in pieces of the largest batch's size."""
    pairs = list(objective.batches)
    y = torch.cat([y for _, y in pairs])
    if y.ndim != 1 or y.is_floating_point():
        raise UsageError("masking needs a classifier: outputs (B, C) and integer targets (B,).")
    labels = y.cpu().numpy()
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        of = np.flatnonzero(labels == label)
        turn[of] = np.arange(len(of))
    rows = torch.as_tensor(np.sort(np.lexsort((np.arange(len(labels)), labels, turn))[:most]))
    x = torch.cat([x for x, _ in pairs])
    rows = rows.to(y.device)
    chunk = max(len(x) for x, _ in pairs)
    return Probe(connected(forward), x[rows], y[rows], loss, chunk, objective.seed)
