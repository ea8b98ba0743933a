"""The measurements of a sweep, as functions that another process finds by name."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from landscape import checkpoints
from landscape import data as datasets
from landscape.attacks import Ball
from landscape.checkpoints import Checkpoint
from landscape.diagnostics import DIAGNOSTICS
from landscape.errors import CheckpointError, DataError, UsageError
from landscape.files import SAVE_SECONDS
from landscape.models import ModelSpec, imports
from landscape.objective import Objective
from landscape.results import Result, load
from landscape.running.trained import Trained
from landscape.running.work import Given
from landscape.sweeps.measurement import arguments, named


def of_run(run: Trained, *, partial: Path, **settings: Any) -> Result:
    """Measure a network that was trained here; ``settings`` as ``Measurement.settings``."""
    model = run.model(settings["checkpoint"])
    data = run.data(settings["split"], settings["n_examples"])
    return _measure(model, data, settings, partial)


def of_file(*, given: Given, partial: Path, **settings: Any) -> Result:
    """Measure the network in a checkpoint, on the data that it was trained on."""
    checkpoint = read(given)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    spec = ModelSpec.from_dict(checkpoint.model or {})
    model = checkpoint.into(spec.build(seed=0)).to(device).eval()
    trained_on = checkpoint.data or {}
    data = datasets.load(
        trained_on["name"],
        settings["split"],
        data_dir=given.data_dir,
        n_examples=settings["n_examples"],
        **trained_on.get("options", {}),
    )
    return _measure(model, data, settings, partial)


def read(given: Given) -> Checkpoint:
    """The checkpoint, if it is still the one that was given, and one of landscape's own."""
    if digest(given.path) != given.digest:
        raise CheckpointError(f"{given.path} has changed since the sweep was planned.")
    found = checkpoints.load(given.path)
    if found.model is None or found.data is None:
        raise CheckpointError(
            f"{given.path} does not say which network and data it is of: a sweep takes checkpoints "
            "of `landscape train`."
        )
    if imports(str(found.model.get("name"))) or ":" in str(found.data.get("name")):
        raise CheckpointError(
            f"{given.path} names code of your own as its network or data, and a file may not cause "
            "an import: measure it by the commands, with --model and --data."
        )
    return found


def digest(path: str | Path) -> str:
    """SHA-256 of a checkpoint's file."""
    try:
        with checkpoints.find(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}.") from error


def _measure(
    model: torch.nn.Module, data: Any, settings: Mapping[str, Any], partial: Path
) -> Result:
    function = DIAGNOSTICS[settings["diagnostic"]].function
    attack = None
    if settings["attack"] is not None:
        attack = named(settings["attack"], Ball(**settings["ball"]))
    objective = Objective(
        model.to(getattr(torch, settings["dtype"])),
        data,
        attack=attack,
        refresh=settings["refresh"],
        seed=settings["seed"],
        batch_size=settings["batch_size"],
    )
    keywords = arguments(settings)
    if "save" not in inspect.signature(function).parameters:
        return function(objective, **keywords)
    save = _saving(partial)
    try:
        return function(objective, **keywords, resume=_unfinished(partial), save=save)
    except UsageError:
        if not partial.exists():
            raise
        partial.unlink()  # it may be of other software: then it is not gone on from
        return function(objective, **keywords, save=save)


def _unfinished(path: Path) -> Any:
    """What an interrupted measurement left, if it can be read."""
    try:
        return load(path) if path.exists() else None
    except DataError:
        return None


def _saving(path: Path) -> Callable[[Result], None]:
    last = time.monotonic()

    def save(result: Result) -> None:
        nonlocal last
        if time.monotonic() - last >= SAVE_SECONDS:
            result.save(path, overwrite=True)
            last = time.monotonic()

    return save
