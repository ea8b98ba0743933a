"""Trainings given by run folders or checkpoint files: their networks and losses by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landscape import checkpoints
from landscape.attacks import Attack, Ball
from landscape.cli.output import ProgressBar, Say, describe_loss
from landscape.cli.setup import Target
from landscape.cli.several import distinct
from landscape.diagnostics import Difficulty, difficulty
from landscape.diagnostics.difficulties import check_same_data
from landscape.errors import DataError, UsageError
from landscape.objective import Objective
from landscape.tracking import Track
from landscape.training import epoch_files
from landscape.training.folder import EPOCHS
from landscape.training.subsets import Subset, of_track, recorded


def trainings(say: Say, paths: Sequence[str], given: Mapping[str, Any]) -> dict[str, Training]:
    """By name, a folder each; checkpoint files of one training make up one together."""
    folders = [path for path in paths if Path(path).is_dir()]
    files: dict[str, list[str]] = {}
    for path in paths:
        if path not in folders:
            loaded = checkpoints.load(path, trust=given["trust_checkpoint"])
            files.setdefault(loaded.method.get("digest", ""), []).append(path)
    if folders and files:
        raise UsageError("give run folders or checkpoint files, not both.")
    if files and given["losses"] == "recorded":
        raise UsageError(
            "checkpoint files hold no recorded losses: give the run folder, or leave out --losses."
        )
    groups = list(files.values())
    for group in groups:
        twice = {path for path in group if group.count(path) > 1}
        if twice:
            raise UsageError(f"{twice.pop()} is given twice: name every epoch's file once.")
    found = {name: _of_folder(say, Path(path), given) for name, path in distinct(folders).items()}
    for name, first in distinct([group[0] for group in groups]).items():
        group = next(g for g in groups if g[0] == first)
        found[name] = Training(say, [Path(path) for path in group], given)
    return found


def _of_folder(say: Say, folder: Path, given: Mapping[str, Any]) -> Training:
    track = recorded(folder) if given["losses"] != "networks" else None
    kept = [p for p in epoch_files(folder) if int(p.stem)] if (folder / EPOCHS).is_dir() else []
    if track is None:
        if given["losses"] == "recorded":
            lacks, remedy = "recorded losses of its samples", "--track-samples"
        elif given["losses"] == "networks":
            lacks, remedy = "networks along the training", "--keep-every 1"
        else:
            lacks = "recorded losses of its samples and no networks along the training"
            remedy = "--track-samples, or --keep-every 1"
        if given["losses"] == "recorded" or not kept:
            raise UsageError(f"{folder} has no {lacks}: train with {remedy}.")
        return Training(say, kept, given, folder)
    last = [p for p in (folder / "final.pt", folder / "best.pt") if p.exists()]
    if not kept and not last:
        raise UsageError(f"{folder} holds no checkpoint: is the first epoch finished?")
    return Training(say, kept or last[:1], given, folder, track)


class Training:
    """Networks along a training on its data, under its attack, and losses that it recorded."""

    def __init__(
        self,
        say: Say,
        networks: Sequence[Path],
        given: Mapping[str, Any],
        folder: Path | None = None,
        track: Track | None = None,
    ) -> None:
        self.folder, self.track, self._trust = folder, track, given["trust_checkpoint"]
        numbers: list[int | None] = []
        for path in networks:  # one at a time in memory
            checkpoint = checkpoints.load(path, trust=self._trust)
            numbers.append(checkpoint.epoch)
        known = [n for n in numbers if n is not None]
        if len(set(known)) == len(numbers):
            ordered = sorted(zip(known, networks, strict=True))
        else:  # bare weights, or one epoch twice: as they are given
            ordered = list(enumerate(networks, 1))
        self.epochs = [number for number, _ in ordered]
        self.networks = [path for _, path in ordered]
        config = checkpoint.method.get("config") or {}
        options = dict(given)
        if given["split"] == "train" and given["n_examples"] is None and given["subset"] is None:
            options["n_examples"] = config.get("n_examples")
            if "subset" in config:
                options["subset"] = str(Subset(**config["subset"]))
        # With the seed that trainings choose their examples by.
        self.target = Target(say, str(self.networks[-1]), **{**options, "seed": 0})
        self.target.seed = given["seed"]
        self.attack = _attack(self.target, config, given["attack"])
        self.objective = self.target.objective(self.attack, refresh="each")

    @property
    def what(self) -> str:
        """Which losses, in words."""
        if self.track is not None:
            return "losses as recorded by the training"
        return f"{describe_loss(self.objective.describe())} of {len(self.networks)} network(s)"

    def check(self, first: Training, by: Difficulty | None) -> None:
        """Refuse what is of other data, before any work."""
        mine = self.objective.batches.digest
        if self.track is not None:
            assert self.folder is not None
            of = of_track(self.folder, self.track).provenance.objective["data"]
            if self.target.split != "train" or of.get("digest") != mine:
                raise DataError(
                    f"{self.folder} recorded the losses of other samples than the "
                    f"{self.objective.batches.samples} of {self.target.data_name}/"
                    f"{self.target.split} at hand: leave out --data, --split, --n-examples and "
                    "--subset, or add --losses networks."
                )
        if mine != first.objective.batches.digest:
            raise DataError(
                f"{self.target.path} was trained on other data than {first.target.path}: d ranks "
                "within one set."
            )
        if by is not None:
            check_same_data(by, self._labels(), mine)

    def difficulty(
        self, groups: int, by: Difficulty | None, features: bool, progress: ProgressBar
    ) -> Difficulty:
        """Of the recorded losses if there are any, with feature norms of the networks."""
        if self.track is None:
            return self._of_networks(groups, by, features, progress)
        assert self.folder is not None
        found = of_track(self.folder, self.track, groups=groups, by=by)
        if not features:
            return found
        grouped = found if by is None else by
        return found.with_features(self._of_networks(groups, grouped, True, progress))

    def images(self, rows: np.ndarray) -> np.ndarray | None:
        """The samples at ``rows`` if they are images of one or three channels."""
        found: np.ndarray | None = None
        start = 0
        for x, _ in self.objective.batches:
            if x.ndim != 4 or x.shape[1] not in (1, 3):
                return None
            if found is None:
                found = np.empty((len(rows), *x.shape[1:]), dtype=np.float32)
            here = (rows >= start) & (rows < start + len(x))
            found[here] = x.cpu().numpy()[rows[here] - start]
            start += len(x)
        return found

    def _of_networks(
        self, groups: int, by: Difficulty | None, features: bool, progress: ProgressBar
    ) -> Difficulty:
        return difficulty(
            self._each(),
            epochs=self.epochs,
            groups=groups,
            by=by,
            features=features,
            progress=progress,
        )

    def _each(self) -> Iterator[Objective]:
        """The one objective, with the weights of every network in turn."""
        for path in self.networks:
            checkpoints.load(path, trust=self._trust).into(self.target.model)
            yield self.objective

    def _labels(self) -> np.ndarray:
        return np.concatenate([y.cpu().numpy() for _, y in self.objective.batches])


def _attack(target: Target, config: Mapping[str, Any], name: str | None) -> Attack | None:
    """The one asked for, ``clean`` for none; by default what the training perturbed with."""
    if name is not None and name != "clean":
        return target.attack(name)
    target.attack(None)  # --eps and the like would have no effect
    part = (config.get("method") or {}).get("perturbation")
    if name == "clean" or part is None:
        return None
    if part.get("part") != "attack":
        raise UsageError(
            f"{target.path}: its training's perturbation ({part.get('part')}) can't be repeated on "
            "a network alone: name one, --attack pgd-10 or --attack clean."
        )
    fields = {key: v for key, v in part.items() if key not in ("part", "norm", "eps")}
    if "targets" in fields:
        fields["targets"] = tuple(fields["targets"])
    return Attack(Ball(part["norm"], part["eps"]), **fields)
