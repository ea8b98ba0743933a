"""Train, evaluate, save: a training by name, in a folder that survives interruption."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from landscape.checkpoints import Checkpoint
from landscape.data import augmentation
from landscape.data import load as load_data
from landscape.errors import OutputError, UsageError
from landscape.files import SAVE_SECONDS, check_writable, reserved
from landscape.provenance import Record
from landscape.random import Streams
from landscape.tracking import Track, Tracker, Tracking
from landscape.training import snapshots
from landscape.training.config import TrainConfig
from landscape.training.folder import check_track, clear, epoch_file, existing, write_state
from landscape.training.history import History
from landscape.training.loop import Progress, check_tracked, fit
from landscape.training.state import State
from landscape.training.subsets import digest
from landscape.training.validation import Validator


def train(
    config: TrainConfig,
    out_dir: str | Path,
    *,
    resume: bool = True,
    overwrite: bool = False,
    keep_every: int | None = None,
    data_dir: str | Path | None = None,
    progress: Progress | None = None,
    track: Tracking | None = None,
) -> Checkpoint:
    """Train, evaluate and save; returns the checkpoint of the best epoch.

    A run of the same configuration in ``out_dir`` is continued, or returned if finished; one of
    another configuration is refused. With ``overwrite`` it is deleted and started over. Files
    are written whole or not at all, after an epoch and at most every ``SAVE_SECONDS``, and on the
    way out if an exception ends the training: that costs the epoch at work, and a kill -9 also
    those of the last two seconds.

    Args:
        resume: whether to continue; without it an existing run is an ``OutputError``.
        keep_every: keep a checkpoint of the network before training and after every so many
            epochs, and the last, in ``out_dir/epochs`` (``epoch_files`` lists them).
        progress: see ``fit``.
        track: what to record along the training, into ``track.h5`` after every epoch; not part of
            what identifies a run, since it changes nothing about it.
    """
    if config.additional is not None and track is not None and track.samples:
        raise UsageError(
            "the losses of single samples are recorded by their place in the training data, which "
            "additional ones have none in: leave out --track-samples, or the extra data."
        )
    out = Path(out_dir)
    check_writable(out / "last.pt", overwrite=True)
    with reserved(out / "last.pt"):
        return _train(
            config,
            out,
            resume=resume,
            overwrite=overwrite,
            keep_every=keep_every,
            data_dir=data_dir,
            progress=progress,
            track=track,
        )


def _train(
    config: TrainConfig,
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
    keep_every: int | None,
    data_dir: str | Path | None,
    progress: Progress | None,
    track: Tracking | None,
) -> Checkpoint:
    """``train``, while no other process trains in the same folder."""
    state = existing(out, config, resume=resume, overwrite=overwrite)
    if isinstance(state, Checkpoint):
        if track is not None:
            check_track(out, track)
        return state
    if state is not None:  # before the data are read
        check_tracked(state, tracked=track is not None)
    device = config.resolved_device()
    parts = {
        split: load_data(
            config.data,
            split,
            data_dir=data_dir,
            n_examples=config.n_examples if split == "train" else None,
            **config.data_options,
        )
        for split in ("train", "val", "test")
    }
    extra = None if config.additional is None else config.additional.load(data_dir)
    data = config.to_dict()["data"]
    if config.chosen is not None:
        parts["train"] = config.chosen.of(parts["train"])
    if track is not None and track.samples:  # rows of the track are of these data
        data |= {"digest": digest(parts["train"]), "samples": len(parts["train"])}
    seed = Streams(config.plan.seed).derived_seed("model")
    model = config.model.build(seed=seed)
    if config.start is not None:
        config.start.into(model)
    model.to(device)
    record = Record(
        "train",
        {"model": config.model.to_dict(), "data": data},
        config.plan.seed,
        config=config.to_dict(),
    )
    tracker = None if track is None else Tracker(model, track)
    earlier = sum(state.columns["seconds"]) if state else 0.0

    best_there = state.best_epoch if state else 0
    last_save = time.monotonic()
    waiting: tuple[State, Track | None] | None = None

    def write(new: State, recorded: Track | None) -> None:
        nonlocal best_there, last_save, waiting
        waiting = None
        if new.best_epoch != best_there:
            names = ("val_accuracy", "val_robust_accuracy")
            there = {n: new.columns[n][new.best_epoch - 1] for n in names}
            metrics = {n: v for n, v in there.items() if not math.isnan(v)}
            best = _checkpoint(config, new, new.best_weights, new.best_epoch, metrics)
            best.save(out / "best.pt", overwrite=True)
            best_there = new.best_epoch
        if keeps(new):
            kept = _checkpoint(config, new, new.checkpoint, new.epoch, {})
            kept.save(epoch_file(out, new.epoch), overwrite=True)
        history = History.of(new.columns, new.best_epoch, record.finish(earlier=earlier))
        history.save(out / "history.h5", overwrite=True)
        if recorded is not None:
            recorded.save(out / "track.h5", overwrite=True)
        # Last, as this is what makes the epoch count.
        write_state(out, config, new)
        last_save = time.monotonic()

    def ends(new: State) -> bool:
        return new.epoch == config.plan.epochs or config.plan.stops(new.epoch, new.best_epoch)

    def keeps(new: State) -> bool:
        return bool(keep_every and (new.epoch % keep_every == 0 or ends(new)))

    def save(new: State) -> None:
        nonlocal waiting
        found = new, None if tracker is None else tracker.result()
        if ends(new) or keeps(new) or time.monotonic() - last_save >= SAVE_SECONDS:
            write(*found)
        else:
            waiting = found

    if state is None:  # with overwrite: only now, when the data and the network are there
        clear(out)
        if keep_every:
            weights = {name: t.detach().cpu() for name, t in model.state_dict().items()}
            _checkpoint(config, State(), weights, 0, {}).save(epoch_file(out, 0), overwrite=True)
    try:
        state = fit(
            model,
            parts["train"],
            config.plan,
            validation=parts["val"],
            extra=extra,
            augment=augmentation(config.augmentation),
            progress=progress,
            state=state,
            save=save,
            tracker=tracker,
        )
    except BaseException:
        if waiting is not None:
            with contextlib.suppress(OutputError):  # what ended the work is what is said
                write(*waiting)
        raise
    return _finish(out, config, state, model, parts)


def _finish(
    out: Path, config: TrainConfig, state: State, model: nn.Module, parts: dict[str, Any]
) -> Checkpoint:
    """Evaluate and write the checkpoints: the best and the last weights, and the ensemble."""
    measure = _evaluation(config, model, parts)
    kept = snapshots.members(state.memory)
    if kept:
        spec, weights = snapshots.ensemble(config.model, kept)
        together = spec.build(seed=0).to(next(model.parameters()).device)
        together.load_state_dict(weights)
        metrics = _evaluation(config, together, parts)()
        checkpoint = _checkpoint(config, state, weights, state.epoch, metrics)
        checkpoint = dataclasses.replace(checkpoint, model=spec.to_dict())
        checkpoint.save(out / "ensemble.pt", overwrite=True)
    saved = {}
    # final.pt comes last: together with best.pt it says that the run is finished.
    for name, weights, epoch in (
        ("best.pt", state.best_weights, state.best_epoch),
        ("final.pt", state.checkpoint, state.epoch),
    ):
        model.load_state_dict(weights)
        saved[name] = _checkpoint(config, state, weights, epoch, measure())
        saved[name].save(out / name, overwrite=True)
    return saved["best.pt"]


def _evaluation(
    config: TrainConfig, model: nn.Module, parts: dict[str, Any]
) -> Callable[[], dict[str, float]]:
    """Clean and robust accuracy of ``model`` on the held-out splits, whenever it is called."""
    validators = {
        split: Validator(
            model,
            parts[split],
            config.evaluation,
            seed=config.plan.seed,
            batch_size=max(256, config.plan.batch_size),
        )
        for split in ("val", "test")
    }

    def measure() -> dict[str, float]:
        metrics = {}
        for split, validator in validators.items():
            found = validator()
            metrics[f"{split}_accuracy"] = found["accuracy"]
            if config.evaluation is not None:
                metrics[f"{split}_robust_accuracy"] = found["robust_accuracy"]
        return metrics

    return measure


def _checkpoint(
    config: TrainConfig,
    state: State,
    weights: dict[str, Tensor],
    epoch: int,
    metrics: dict[str, float],
) -> Checkpoint:
    return Checkpoint(
        state_dict=weights,
        model=config.model.to_dict(),
        data=config.to_dict()["data"],
        method={
            "name": config.plan.method.name,
            "digest": config.digest,
            "config": config.to_dict(),
        },
        history=state.columns,
        metrics=metrics,
        epoch=epoch,
        seed=config.plan.seed,
    )
