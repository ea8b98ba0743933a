"""What `connect` works on: two checkpoints, or the curve file of an earlier run."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from landscape.cli.output import Outputs, Say
from landscape.cli.resume import Partial
from landscape.cli.setup import Target, key_values
from landscape.connectivity import (
    Connectivity,
    CurveCheckpoint,
    CurvePlan,
    CurveState,
    connect,
    extract,
    load_curve,
    profile,
)
from landscape.errors import CheckpointError, OutputError, UsageError
from landscape.files import check_writable, remove


class Job:
    """Networks, data and files of one command."""

    def __init__(self, say: Say, paths: tuple[str, ...], given: dict[str, Any]) -> None:
        self.say, self.given = say, given
        self.curve = load_curve(paths[0]) if len(paths) == 1 else None
        self.names = _names(paths)
        what = "along" if self.curve else f"connect-{self.names[1]}"
        attacked = f"-{given['attack']}" if given["attack"] else ""
        self.files = Outputs(paths[0], what + attacked, given)
        self.path = None if self.curve else Path(f"{self.files.stem}.pt")
        self.partial = Path(f"{self.files.stem}.partial.pt")
        self.points = Partial(self.files.path, resume=given["resume"], say=say)
        self.extracted = {t: Path(f"{self.files.stem}-t{t:g}.pt") for t in given["save_at"]}
        self._check_files(paths)
        first, second = self._targets(paths)
        self.target, self.models = first, (first.model, second.model)
        attack = first.attack(given["attack"])
        adversarial = attack is not None and given["loss"] != "clean"
        if given["loss"] == "adversarial" and attack is None:
            raise UsageError(
                "--loss adversarial needs an attack: add --attack pgd-10, for example."
            )
        if self.curve is not None:  # follow the loss that it was trained on
            adversarial = adversarial and self.curve.state.settings["attack"] is not None
        self.measuring: dict[str, Any] = {
            "test": second.data,
            "attack": attack,
            "adversarial": adversarial,
            "points": given["points"],
            "batch_size": given["batch_size"],
        }
        self.plan = _plan(given)

    def run(self, progress: Callable[[int, int], None] | None) -> Connectivity:
        """Train and measure, or measure a curve file."""
        self._unsaved: CurveCheckpoint | None = None
        with self.points:
            try:
                return self._run(progress)
            except BaseException:
                if self._unsaved is not None:
                    with contextlib.suppress(OutputError):  # what ended the work is what is said
                        self._unsaved.save(self.partial, overwrite=True)
                raise

    def _run(self, progress: Callable[[int, int], None] | None) -> Connectivity:
        if self.curve is not None:
            state = self.curve.state
            return profile(
                self.models[0],
                state.curve.to(self.models[0]),
                self.train,
                bn_batch_size=self._bn_batch_size,
                seed=self.given["seed"],
                epoch_loss=state.losses,
                resume=self.points.load(),
                save=self.points.save,
                progress=progress,
                **self.measuring,
            )
        self._last = time.monotonic()
        _, result = connect(
            *self.models,
            self.train,
            plan=self.plan,
            state=self._load(),
            save=self._save,
            measured=self.points.load(),
            save_measured=self.points.save,
            progress=progress,
            **self.measuring,
        )
        return result

    def trial(self) -> tuple[Callable[[], object], int, str]:
        """For --dry-run: a step, at most how many of them there are, and what they are."""
        few = {**self.measuring, "points": 3}
        thirds = math.ceil(self.given["points"] / 3)
        if self.curve is not None:
            curve = self.curve.curve.to(self.models[0])
            return lambda: profile(self.models[0], curve, self.train, **few), thirds, "triples"
        plan = dataclasses.replace(self.plan, epochs=1)
        step = lambda: connect(*self.models, self.train, plan=plan, **few)  # noqa: E731
        return step, max(self.plan.epochs, thirds), "epochs"

    def write(self, result: Connectivity, figure: Any) -> list[Path]:
        """The result, its picture, the curve and the networks on it."""
        overwrite = self.files.overwrite
        self.points.finished(result)
        written = self.files.save(result, figure)
        assert self.curve is not None
        if self.path is not None:
            written.append(self.curve.save(self.path, overwrite=overwrite))
        for t, path in self.extracted.items():
            made = extract(self.curve, self.models[0], t, self.train, self._bn_batch_size)
            written.append(made.save(path, overwrite=overwrite))
        self.points.discard()  # before the curve, which takes longer to make
        remove(self.partial)
        return written

    @property
    def _bn_batch_size(self) -> int:
        if self.curve is None:
            return self.plan.batch_size
        found: int = self.curve.state.settings["batch_size"]
        return found

    def _check_files(self, paths: tuple[str, ...]) -> None:
        written = [*([self.path] if self.path else []), *self.extracted.values()]
        for path in written:
            if any(path.resolve() == Path(given).resolve() for given in paths):
                raise UsageError(f"{path} is one of the inputs: choose another --out.")
            check_writable(path, overwrite=self.files.overwrite)
        self.files.paths += written

    def _targets(self, paths: tuple[str, ...]) -> tuple[Target, Target]:
        """The two ends with the held-out data; the training data become ``self.train``."""
        training = {**self.given, "split": "train", "n_examples": self.given["n_train"]}
        if self.curve is None:
            first = Target(self.say, paths[0], **training)
            second = Target(self.say, paths[1], **self.given)
            _check_alike(first, second)
        else:
            # Its first end as a checkpoint, because that is what a Target reads.
            with tempfile.TemporaryDirectory() as folder:
                path = str(self.curve.first().save(Path(folder) / Path(paths[0]).name))
                first = Target(self.say, path, **training)
                second = Target(self.say, path, **self.given)
        self.train = first.data
        first.data, first.split = second.data, second.split
        for target in (first, second) if self.curve is None else (first,):
            target.introduce(target.objective())
        return first, second

    def _load(self) -> CurveState | None:
        """What an interrupted run left."""
        if not self.given["resume"] or not self.partial.exists():
            return None
        try:
            found = load_curve(self.partial).state
        except CheckpointError as error:
            self.say.warn(f"{error} Starting over.")
            return None
        self.say.remark(f"going on from {self.partial}: {found.epoch} epochs are done")
        return dataclasses.replace(found, curve=found.curve.to(self.models[0]))

    def _save(self, state: CurveState) -> None:
        """Keep the curve: the trained one always, earlier ones every few seconds."""
        context = self.target.checkpoint
        own = {} if self.given["data"] else (context.data or {}).get("options", {})
        asked = key_values(self.given["data_options"], "--data-option")
        kept = CurveCheckpoint(
            state,
            context.state_dict,
            self.target.spec.to_dict(),
            {"name": self.target.data_name, "options": {**own, **asked}},
            context.method,
        )
        finished = state.epoch == self.plan.epochs
        if finished:
            self.curve = kept
        self._unsaved = kept
        if finished or time.monotonic() - self._last >= Partial.interval:
            kept.save(self.partial, overwrite=True)
            self._last, self._unsaved = time.monotonic(), None


def _names(paths: tuple[str, ...]) -> list[str]:
    """For titles: the files' names, with their folders' where they are the same."""
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names):
        names = [f"{Path(path).parent.name}-{Path(path).stem}" for path in paths]
    return names


def _plan(given: dict[str, Any]) -> CurvePlan:
    """The plan; options that were not given keep its own values."""
    plan = CurvePlan()
    asked = {
        "order": given["order"],
        "chain": given["chain"],
        "epochs": given["epochs"],
        "batch_size": given["train_batch_size"],
        "seed": given["seed"],
    }
    rates = {"lr": given["lr"], "weight_decay": given["weight_decay"]}
    optimiser = dataclasses.replace(plan.optimiser, **_some(rates))
    return dataclasses.replace(plan, optimiser=optimiser, **_some(asked))


def _some(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _check_alike(first: Target, second: Target) -> None:
    """Refuse two architectures, and two data sets unless one is asked for."""
    if first.spec != second.spec:
        one, other = first.spec.to_dict(), second.spec.to_dict()
        differing = [f"{key}: {one[key]} and {other[key]}" for key in one if one[key] != other[key]]
        raise UsageError(
            f"{first.path} and {second.path} are of different architectures "
            f"({'; '.join(differing)}): a curve joins weights of one."
        )
    if first.data_name != second.data_name:
        raise UsageError(
            f"{first.path} was trained on {first.data_name}, {second.path} on "
            f"{second.data_name}: say with --data whose loss is meant."
        )
