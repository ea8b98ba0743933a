"""Checkpoints in place of trainings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from landscape import checkpoints
from landscape.attacks import Ball
from landscape.checkpoints import Checkpoint
from landscape.errors import UsageError, unknown
from landscape.running.work import Given
from landscape.sweeps import measuring
from landscape.sweeps.specification import Specification, Value
from landscape.sweeps.values import written
from landscape.training.config import identity

# Axes of a grid over checkpoints: what a measurement may have instead of its own.
AXES = ("eps", "norm", "seed", "split", "n_examples", "attack")


def given_cells(
    specification: Specification, data_dir: str | None
) -> Iterator[tuple[dict[str, Value], Given, Checkpoint]]:
    """Values, file and content for every checkpoint and cell of the grid."""
    where = specification.source
    for name in specification.axes:
        if name not in AXES:
            raise unknown(f"axis of checkpoints in {where}:", name, AXES)
    for table in specification.measure:
        if "checkpoint" in table:
            raise UsageError(f"{where}: [[measure]] has no checkpoint but those of the list.")
    files: dict[str, Given] = {}
    for path, label in _labels(specification.checkpoints).items():
        found = checkpoints.find(path).absolute()
        files[label] = Given(str(found), measuring.digest(found), data_dir)
    read = {label: measuring.read(given) for label, given in files.items()}
    seeds = "seed" not in specification.axes and _are_seeds([*read.values()])
    for label, given in files.items():
        about = {"checkpoint": Value(label, label)}
        if seeds:
            method, seed = read[label].method["name"], read[label].seed
            about |= {"method": Value(method, method), "seed": Value(seed, written(seed))}
        for cell in specification.cells():
            yield {**about, **cell}, given, read[label]


def ball_of(checkpoint: Checkpoint) -> Ball | None:
    """That the network was judged by after its training, if it says so."""
    trained = (checkpoint.method.get("config") or {}).get("evaluation") or {}
    return Ball(trained["norm"], trained["eps"]) if "eps" in trained else None


def _are_seeds(found: Sequence[Checkpoint]) -> bool:
    """Whether checkpoints of one method differ in their seed alone, each seed once: only then may
    their numbers be averaged."""
    configs: dict[str, str] = {}
    seen = set()
    for checkpoint in found:
        method, config = checkpoint.method.get("name"), checkpoint.method.get("config")
        if method is None or config is None or checkpoint.seed is None:
            return False
        rest = {k: v for k, v in identity(config).items() if k != "seed"}
        text = json.dumps(rest, sort_keys=True)
        if configs.setdefault(method, text) != text or (method, checkpoint.seed) in seen:
            return False
        seen.add((method, checkpoint.seed))
    return True


def _labels(paths: Sequence[str]) -> dict[str, str]:
    """Short names of checkpoints that tell them apart."""
    for short in (lambda p: p.stem, lambda p: f"{p.parent.name}-{p.stem}", str):
        names = [short(Path(path)) for path in paths]
        if len({*names}) == len(names):
            return dict(zip(paths, names, strict=True))
    raise UsageError("a checkpoint is given twice: name every file once.")
