"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import NumericalError, UsageError
from landscape.random import Streams, seeded
from landscape.training.batch import Batch
from landscape.training.network import check_classifier, restored_flags
from landscape.training.plan import Plan
from landscape.training.samples import Augment, Samples
from landscape.training.state import State
from landscape.training.validation import Validator

Progress = Callable[[int, int, int, int, dict[str, float]], None]


def fit(
    model: nn.Module,
    data: Any,
    plan: Plan,
    *,
    validation: Any = None,
    augment: Augment | None = None,
    progress: Progress | None = None,
    state: State | None = None,
    save: Callable[[State], None] | None = None,
) -> State:
    """Train ``model`` in place on its device; afterwards it holds the last epoch's weights.

    An epoch's random numbers depend on (seed, epoch) alone, so continuing from the state of
    epoch k gives what an uninterrupted run gives: on a CPU, bit for bit. torch's global random
    state, train flags and ``requires_grad`` are left as they were; frozen parameters stay.

    Args:
        data: ``(x, y)`` tensors, a ``landscape.data`` set or other re-iterable batches, x in
            [0, 1]. validation: the same, for choosing the best epoch.
        augment: ``fn(x, generator) -> x`` on a batch, for example from
            ``landscape.data.AUGMENTATIONS``.
        progress: called after every batch as (epoch, epochs, batch, batches, metrics), counted
            from 1, metrics being means over the epoch so far; after the epoch's last batch once
            more, with the whole row of the history.
        state: to continue from. save: receives the state after every epoch, before ``progress``.

    Cost: ``plan.method.passes`` per update, and the validation. Raises ``NumericalError`` if the
    loss or the weights stop being finite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError("the model has no parameters that require gradients.")
    samples = Samples(data, parameters[0].device, parameters[0].dtype)
    check_classifier(model, samples.take(torch.arange(min(2, len(samples))))[0], samples.labels)
    validator = None
    if validation is not None:
        validator = Validator(
            model,
            validation,
            plan.validation_attack,
            seed=plan.seed,
            # Without gradients of parameters, larger batches fit.
            batch_size=max(256, plan.batch_size),
        )
    optimiser = plan.optimiser.build(parameters)
    state = state or State()
    if state.epoch:
        model.load_state_dict(state.weights)
        optimiser.load_state_dict(state.optimiser)
    memory = {name: t.to(samples.device, copy=True) for name, t in state.memory.items()}
    with restored_flags(model):
        for epoch in range(state.epoch, plan.epochs):
            start = time.perf_counter()
            row = _epoch(model, samples, plan, optimiser, memory, epoch, augment, progress)
            found = validator() if validator else {}
            row["val_accuracy"] = found.get("accuracy", math.nan)
            row["val_robust_accuracy"] = found.get("robust_accuracy", math.nan)
            row["constant_classifier"] = found.get("constant_classifier", math.nan)
            row["seconds"] = time.perf_counter() - start
            state = state.after(model, optimiser, memory, row)
            if save is not None:
                save(state)
            if progress is not None:
                batches = math.ceil(len(samples) / plan.batch_size)
                progress(epoch + 1, plan.epochs, batches, batches, row)
    return state


def _epoch(
    model: nn.Module,
    samples: Samples,
    plan: Plan,
    optimiser: torch.optim.Optimizer,
    memory: dict[str, Tensor],
    epoch: int,
    augment: Augment | None,
    progress: Progress | None,
) -> dict[str, float]:
    streams = Streams(plan.seed, "train", epoch)
    batches = math.ceil(len(samples) / plan.batch_size)
    loss_sum, right, seen, lr = 0.0, 0, 0, 0.0
    model.train()
    with seeded(streams.derived_seed("torch"), samples.device):
        for i, (rows, x, y) in enumerate(samples.shuffled(plan.batch_size, streams, augment)):
            now = epoch + (i + 0.5) / batches
            lr = plan.lr(now)
            for group in optimiser.param_groups:
                group["lr"] = lr
            batch = Batch(model, x, y, plan.method.perturbation, streams, rows, now, memory)
            loss = update(batch, plan, optimiser)
            if not math.isfinite(loss):
                raise _diverged("the training loss is", loss, epoch, i, batches, lr)
            loss_sum += loss * len(x)
            right += int((batch.adversarial_logits.argmax(1) == y).sum())
            seen += len(x)
            row = {
                "train_loss": loss_sum / seen,
                "train_accuracy": right / seen,
                "learning_rate": lr,
            }
            if progress is not None:
                progress(epoch + 1, plan.epochs, i + 1, batches, dict(row))
    # A finite loss can still have had an infinite gradient, which the next loss would show.
    for name, p in model.state_dict().items():
        if p.is_floating_point() and not bool(p.isfinite().all()):
            raise _diverged(f"'{name}' is no longer finite, loss", loss, epoch, i, batches, lr)
    return row


def update(batch: Batch, plan: Plan, optimiser: torch.optim.Optimizer) -> float:
    """One step of the optimiser; returns the outer loss before it. No step if it isn't finite."""
    loss = plan.method.outer_loss(batch)
    value = float(loss.detach())
    if math.isfinite(value):
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(batch.model.parameters(), plan.clip_norm)
        optimiser.step()
    return value


def _diverged(
    what: str, loss: float, epoch: int, batch: int, batches: int, lr: float
) -> NumericalError:
    return NumericalError(
        f"{what} {loss:g} in epoch {epoch + 1}, batch {batch + 1} of {batches}, at lr {lr:g}: "
        "try a lower lr, a warm-up (warmup=5) or gradient clipping (clip_norm=1)."
    )
