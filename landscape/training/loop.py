"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from landscape.attacks import Attack
from landscape.errors import CheckpointError, NumericalError, UsageError
from landscape.random import Streams, seeded
from landscape.tracking import Tracker
from landscape.training import snapshots
from landscape.training.batch import Batch
from landscape.training.mixing import Mixed
from landscape.training.network import check_classifier, exchanged, restored_flags
from landscape.training.plan import Plan
from landscape.training.precision import computing, loss_scaler, unscaled
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
    extra: Any = None,
    augment: Augment | None = None,
    progress: Progress | None = None,
    state: State | None = None,
    save: Callable[[State], None] | None = None,
    tracker: Tracker | None = None,
) -> State:
    """Train ``model`` in place on its device; afterwards it holds the last epoch's weights.

    With an averaging method it holds their mean.

    An epoch's random numbers depend on (seed, epoch) alone, so continuing from the state of
    epoch k gives what an uninterrupted run gives: on a CPU, bit for bit. torch's global random
    state, train flags and ``requires_grad`` are left as they were; frozen parameters stay.

    Args:
        data: ``(x, y)`` tensors, a ``landscape.data`` set or other re-iterable batches, x in
            [0, 1]. validation: the same, for choosing the best epoch.
        extra: additional training data, from which half of every batch comes (``Mixed``).
        augment: ``fn(x, generator) -> x`` on a batch, for example from
            ``landscape.data.AUGMENTATIONS``.
        progress: called after every batch as (epoch, epochs, batch, batches, metrics), counted
            from 1, metrics being means over the epoch so far; after the epoch's last batch once
            more, with the whole row of the history.
        state: to continue from. save: receives the state after every epoch, before ``progress``.
        tracker: records the training and changes nothing about it. Its content is part of the
            state, so that a continued training has the same track as an uninterrupted one. What
            it measures between epochs is not in the history's ``seconds``.

    Cost: ``plan.method.passes`` per update, and the validation. Raises ``NumericalError`` if the
    loss or the weights stop being finite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError("the model has no parameters that require gradients.")
    samples = Samples(data, parameters[0].device, parameters[0].dtype)
    if extra is not None:
        samples = Mixed(samples, Samples(extra, samples.device, samples.dtype))
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
    scaler = loss_scaler(plan.precision, samples.device)
    if scaler is not None and tracker is not None:
        raise UsageError(
            "a training in fp16 can't be tracked, since it leaves out updates whose gradients "
            "overflow: train in bf16 or full precision."
        )
    state = state or State()
    if state.epoch:
        _restore(state, model, optimiser, scaler)
    memory = {name: t.to(samples.device, copy=True) for name, t in state.memory.items()}
    check_tracked(state, tracked=tracker is not None)
    if tracker is not None:
        tracker.begin(
            model, samples.labels, samples.take, plan.epochs, plan.to_dict(), state.tracker or None
        )

    def validate(attack: Attack | None) -> float:
        assert validator is not None
        return validator.accuracy(attack)

    if plan.method.controller is not None and validator is None:
        raise UsageError(
            f"method '{plan.method.name}' decides by validation accuracy: give validation data."
        )
    if plan.stop_patience is not None and validator is None:
        raise UsageError("stop_patience needs validation data, whose accuracy it waits for.")
    with restored_flags(model):
        for epoch in range(state.epoch, plan.epochs):
            if plan.stops(state.epoch, state.best_epoch):
                break
            start = time.perf_counter()
            with computing(model, plan.precision, channels_last=plan.channels_last):
                row = _epoch(
                    model,
                    samples,
                    plan,
                    optimiser,
                    memory,
                    epoch,
                    augment,
                    progress,
                    tracker,
                    scaler,
                )
            published = _published(model, samples, plan, memory, epoch + 1)
            with exchanged(model, published):
                found = validator() if validator else {}
            row["val_accuracy"] = found.get("accuracy", math.nan)
            row["val_robust_accuracy"] = found.get("robust_accuracy", math.nan)
            row["constant_classifier"] = found.get("constant_classifier", math.nan)
            if plan.method.controller is not None:
                # It may exchange the weights: checkpoints hold those that were validated.
                published = published or _copied(model)
                plan.method.controller.after_epoch(model, memory, row, validate)
            if plan.method.budget is not None:
                kept = published or model.state_dict()
                snapshots.keep(plan.method.budget, kept, memory, epoch + 1, plan.epochs)
            row["seconds"] = time.perf_counter() - start
            if tracker is not None:
                tracker.end_epoch(memory)
            state = state.after(model, optimiser, memory, row, published, tracker, scaler)
            if save is not None:
                save(state)
            if progress is not None:
                batches = samples.batches(plan.batch_size)
                progress(epoch + 1, plan.epochs, batches, batches, row)
    if state.published:
        model.load_state_dict(state.published)
    return state


def _published(
    model: nn.Module, samples: Samples, plan: Plan, memory: dict[str, Tensor], epoch: int
) -> dict[str, Tensor] | None:
    """What checkpoints hold after ``epoch`` if not the weights themselves: their mean."""
    averaging = plan.method.averaging
    if averaging is None:
        return None
    averaging.update(model, memory, epoch)
    rows = torch.arange(len(samples)).split(plan.batch_size)
    # One sample has no variance.
    batches = (samples.take(part)[0] for part in rows if len(part) > 1)
    return averaging.published(model, memory, batches)


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in model.state_dict().items()}


def _epoch(
    model: nn.Module,
    samples: Samples,
    plan: Plan,
    optimiser: torch.optim.Optimizer,
    memory: dict[str, Tensor],
    epoch: int,
    augment: Augment | None,
    progress: Progress | None,
    tracker: Tracker | None,
    scaler: torch.amp.GradScaler | None,
) -> dict[str, float]:
    method, streams = plan.method, Streams(plan.seed, "train", epoch)
    batches = samples.batches(plan.batch_size)
    loss_sum, right, seen, lr = 0.0, 0, 0, 0.0
    model.train()
    with seeded(streams.derived_seed("torch"), samples.device):
        drawn = samples.shuffled(plan.batch_size, streams, augment)
        for i, (rows, x, y, view) in enumerate(drawn):
            now = epoch + (i + 0.5) / batches
            lr = plan.lr(now)
            for group in optimiser.param_groups:
                group["lr"] = lr
            for copies in range(1, method.views):
                x = torch.cat([x, view.another(streams.generator("view", copies))])
            rows, y = rows.repeat(method.views), y.repeat(method.views)
            for _ in range(method.replays):
                batch = Batch(
                    model,
                    x,
                    y,
                    method.perturbation,
                    streams,
                    rows,
                    now,
                    memory,
                    epochs=plan.epochs,
                    population=len(samples),
                    view=view,
                )
                loss = update(batch, plan, optimiser, tracker, scaler)
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
    if method.descent is not None:
        method.descent.finish(model, optimiser, memory)
    # A finite loss can still have had an infinite gradient, which the next loss would show.
    for name, p in model.state_dict().items():
        if p.is_floating_point() and not bool(p.isfinite().all()):
            raise _diverged(f"'{name}' is no longer finite, loss", loss, epoch, i, batches, lr)
    return row


def update(
    batch: Batch,
    plan: Plan,
    optimiser: torch.optim.Optimizer,
    tracker: Tracker | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> float:
    """One update of the weights; returns the loss before it. None if it isn't finite.

    Nor with a ``scaler`` if the gradients overflow, which its scale learns from.
    """
    method = plan.method
    weights, descent = method.weights, method.descent

    def scaled(batch: Batch) -> Tensor:
        loss = method.loss(batch)
        return loss if scaler is None else scaler.scale(loss)

    with nullcontext() if weights is None else weights.perturbed(batch, scaled):
        loss = method.loss(batch)
        value = float(loss.detach())
        moves = math.isfinite(value)
        if moves:
            optimiser.zero_grad(set_to_none=True)
            (loss if scaler is None else scaler.scale(loss)).backward()
            if method.perturbation is not None:
                method.perturbation.after(batch)
            moves = scaler is None or unscaled(scaler, optimiser)
        if moves:
            if tracker is not None:
                tracker.gradient()  # before it is clipped
            if plan.clip_norm is not None:
                nn.utils.clip_grad_norm_(batch.model.parameters(), plan.clip_norm)
            if descent is None:
                optimiser.step()
    if moves and descent is not None:
        descent.step(batch, optimiser)
    if math.isfinite(value) and tracker is not None:
        tracker.step(
            loss=value,
            x=batch.x,
            adversarial=batch.adversarial,
            logits=batch.adversarial_logits,
            y=batch.y,
            rows=batch.rows,
            clean_logits=batch.known_clean_logits,
            learning_rate=optimiser.param_groups[0]["lr"],
        )
    return value


def check_tracked(state: State, *, tracked: bool) -> None:
    """Refuse to go on with a tracker if the epochs before had none, or the other way round."""
    if state.epoch and tracked and not state.tracker:
        raise UsageError(
            f"the first {state.epoch} epochs of this training were not tracked: go on without a "
            "tracker, or start over."
        )
    if state.tracker and not tracked:
        raise UsageError(
            f"the first {state.epoch} epochs of this training were tracked: go on with the same "
            "tracker settings, or start over."
        )


def _diverged(
    what: str, loss: float, epoch: int, batch: int, batches: int, lr: float
) -> NumericalError:
    return NumericalError(
        f"{what} {loss:g} in epoch {epoch + 1}, batch {batch + 1} of {batches}, at lr {lr:g}: "
        "try a lower lr, a warm-up (warmup=5) or gradient clipping (clip_norm=1)."
    )


def _restore(
    state: State,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
) -> None:
    """Network and optimiser as they were after ``state.epoch``."""
    try:
        model.load_state_dict(state.weights)
        optimiser.load_state_dict(state.optimiser)
        if scaler is not None:
            scaler.load_state_dict(state.scaler)
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the saved state is not of this training or is damaged ({reason}): pass --overwrite "
            "(overwrite=True) to start over."
        ) from error
