"""Training the inner points of a curve."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from landscape.attacks import Attack
from landscape.connectivity.batchnorm import batch_statistics, split
from landscape.connectivity.curves import Curve
from landscape.errors import NumericalError, UsageError
from landscape.functional import total
from landscape.losses import Loss, cross_entropy
from landscape.provenance import plain
from landscape.random import Streams, seeded
from landscape.training.network import restored_flags
from landscape.training.optimisers import Optimiser
from landscape.training.samples import Samples
from landscape.training.schedules import Schedule


@dataclass(frozen=True)
class CurvePlan:
    """How to train a curve; wrong values are refused here.

    Attributes:
        order: n, the number of points less one. chain: polygonal instead of Bezier.
        batch_size: of the training and of BatchNorm's re-estimation.
        optimiser: its ``weight_decay`` acts on B(t), not on the points: λ B(t) is added to dL/dB.
        seed: of t, shuffling, attack starts and Dropout.
    """

    order: int = 2
    chain: bool = False
    epochs: int = 100
    batch_size: int = 128
    optimiser: Optimiser = Optimiser(lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule: Schedule = Schedule("cosine")
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("order", 1), ("epochs", 1), ("batch_size", 2)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(
                    f"{name} must be a whole number of at least {least}, got {value!r}."
                )
        self.schedule.check(self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """The resolved configuration, JSON-able."""
        found: dict[str, Any] = plain(dataclasses.asdict(self))
        return found


@dataclass(frozen=True, eq=False)
class CurveState:
    """A curve after ``epoch`` epochs, and what the next epoch depends on.

    Attributes:
        optimiser: its ``state_dict``. losses: mean training loss of every epoch, t at random.
        seconds: spent so far. settings: that it was made with; others can't continue it.
    """

    curve: Curve
    optimiser: dict[str, Any] = field(default_factory=dict)
    epoch: int = 0
    losses: tuple[float, ...] = ()
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)


def loss_and_gradient(
    model: nn.Module, curve: Curve, vector: Tensor, x: Tensor, y: Tensor, loss: Loss
) -> tuple[float, Tensor]:
    """L and dL/dB at B = ``vector``, (P,), over one batch, in the model's present mode."""
    leaf = vector.detach().requires_grad_()
    with torch.enable_grad():
        output = torch.func.functional_call(model, curve.named(leaf), (x,))
        value = total(loss, output, y) / len(x)
        (gradient,) = torch.autograd.grad(value, leaf)
    return float(value.detach()), gradient


def fit_curve(
    model: nn.Module,
    state: CurveState,
    samples: Samples,
    plan: CurvePlan,
    *,
    attack: Attack | None = None,
    loss: Loss = cross_entropy,
    save: Callable[[CurveState], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CurveState:
    """Minimise E_{t ~ U[0,1]} L(B(t)) over the inner points (liu2020 C.2.5), the ends held.

    One t per batch; dL/dθ_i = w_i(t) (dL/dB + λ B). Dropout is active and BatchNorm uses its
    batch; an attack sees the network at B(t) with BatchNorm on its batch and Dropout off,
    whatever its ``mode``, because running statistics belong to no t. An epoch's random
    numbers depend on (seed, epoch) alone, so that continuing is bit for bit the uninterrupted
    run on a CPU.

    Args:
        model: whose buffers may be written: give a copy. state: to start or continue from.
        save: receives the state after every epoch. progress: called as (batches done, batches).

    Cost: a forward and backward pass per batch, and the attack's; memory (n+1) · P, twice.
    """
    if state.curve.order == 1:  # there is nothing to train
        state = dataclasses.replace(state, epoch=plan.epochs)
    if state.epoch == plan.epochs:
        if save is not None:
            save(state)
        return state
    descent = _Descent(model, state, plan, attack, loss)
    updates = updates_per_epoch(samples, plan)
    with restored_flags(model):
        for epoch in range(state.epoch, plan.epochs):
            start = time.perf_counter()
            summed = 0.0
            streams = Streams(plan.seed, "connect", epoch)
            order = torch.randperm(len(samples), generator=streams.generator("shuffle"))
            times = streams.uniform("t", (updates,)).tolist()
            with seeded(streams.derived_seed("torch"), samples.device):
                for i, rows in enumerate(split(order, plan.batch_size)):
                    now = epoch + (i + 0.5) / updates
                    value = descent.step(now, times[i], *samples.take(rows), streams)
                    summed += value * len(rows)
                    if progress is not None:
                        progress(epoch * updates + i + 1, plan.epochs * updates)
            state = CurveState(
                dataclasses.replace(state.curve, points=descent.points.clone()),
                _copy(descent.optimiser.state_dict()),
                epoch + 1,
                (*state.losses, summed / len(samples)),
                state.seconds + time.perf_counter() - start,
                state.settings,
            )
            if save is not None:
                save(state)
    return state


class _Descent:
    """The points and the optimiser of the inner ones."""

    def __init__(
        self,
        model: nn.Module,
        state: CurveState,
        plan: CurvePlan,
        attack: Attack | None,
        loss: Loss,
    ) -> None:
        self.model, self.plan, self.attack, self.loss = model, plan, attack, loss
        self.points = state.curve.points.clone()
        self.curve = dataclasses.replace(state.curve, points=self.points)
        self.inner = nn.Parameter(self.points[1:-1].clone())
        # Its own decay would be that of the points.
        self.optimiser = dataclasses.replace(plan.optimiser, weight_decay=0.0).build([self.inner])
        if state.optimiser:
            self.optimiser.load_state_dict(state.optimiser)

    def step(self, now: float, t: float, x: Tensor, y: Tensor, streams: Streams) -> float:
        """One update at the time ``now``, in epochs; returns the loss at B(t) before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.optimiser.lr * self.plan.schedule.at(now, self.plan.epochs)
        value, self.inner.grad = point_gradients(
            self.model,
            self.curve,
            t,
            x,
            y,
            loss=self.loss,
            attack=self.attack,
            streams=streams.child("attack"),
            decay=self.plan.optimiser.weight_decay,
        )
        if math.isfinite(value):
            self.optimiser.step()
            self.points[1:-1] = self.inner.detach()
        if not (math.isfinite(value) and bool(self.inner.isfinite().all())):
            raise NumericalError(
                f"the curve diverged (loss {value:g} at t = {t:.3f}, epoch {int(now) + 1}): "
                "try a lower lr."
            )
        return value


def updates_per_epoch(samples: Samples, plan: CurvePlan) -> int:
    """Batches of an epoch."""
    return len(split(torch.arange(len(samples)), plan.batch_size))


def point_gradients(
    model: nn.Module,
    curve: Curve,
    t: float,
    x: Tensor,
    y: Tensor,
    *,
    loss: Loss = cross_entropy,
    attack: Attack | None = None,
    streams: Streams | None = None,
    decay: float = 0.0,
) -> tuple[float, Tensor]:
    """L(B(t)) over one batch, and d/dθ_i [L(B(t)) + λ/2 ‖B(t)‖²] of the inner points, (n−1, P)."""
    vector = curve.vector(t)
    if attack is not None:
        state = curve.named(vector)
        with batch_statistics(model):
            x = attack.perturb(
                lambda inputs: torch.func.functional_call(model, state, (inputs,)),
                x,
                y,
                streams=streams or Streams(0, "attack"),
                loss=loss,
            )
    model.train()
    value, gradient = loss_and_gradient(model, curve, vector, x, y, loss)
    gradient = gradient.add(vector, alpha=decay)
    weights = torch.from_numpy(curve.weights(t)[1:-1]).to(gradient)
    return value, weights[:, None] * gradient


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state that later steps don't change, on the CPU."""

    def copied(value: Any) -> Any:
        if torch.is_tensor(value):
            return value.detach().cpu().clone()
        if isinstance(value, dict):
            return {key: copied(item) for key, item in value.items()}
        return [copied(item) for item in value] if isinstance(value, list) else value

    found: dict[str, Any] = copied(state)
    return found
