"""The easiest, the hardest or random samples of a data set, equally many of every class."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landscape import params as P
from landscape.batches import Batches
from landscape.data import ImageData
from landscape.data.splits import extremes, order
from landscape.diagnostics import Difficulty, recorded_difficulty
from landscape.errors import DataError, UsageError, unknown
from landscape.results import load
from landscape.tracking import Track

KINDS = ("easiest", "random", "hardest")

_EXAMPLES = "easiest:1000@RUN, random:1000 or hardest:1000@RUN"


@dataclass(frozen=True)
class Subset:
    """Which samples: ``Subset.parse("easiest:1000@RUN")``; liu2022 §4.1 trains on these.

    Attributes:
        kind: in ``KINDS``. size: over all classes; the remainder of an uneven division goes to
            the lower ones.
        seed: of ``random``.
        source: where the difficulty comes from: the folder of a run with recorded losses
            (``--track-samples``), or the file of a ``Difficulty``.
        record: digest of that difficulty. data: digest of the data it is of.
    """

    kind: str
    size: int
    seed: int = 0
    source: str = ""
    record: str = ""
    data: str = ""

    @classmethod
    def parse(cls, text: str) -> Subset:
        """``KIND:SIZE@RUN``, for ``random`` ``random:SIZE`` or ``random:SIZE@SEED``.

        >>> Subset.parse("random:100@3")
        Subset(kind='random', size=100, seed=3, source='', record='', data='')
        """
        kind, colon, rest = text.partition(":")
        size, _, source = rest.partition("@")
        if kind not in KINDS:
            raise unknown("kind of subset", kind, KINDS)
        if not colon or not size.isdigit() or int(size) < 1:
            raise UsageError(f"subset '{text}': write {_EXAMPLES}.")
        if kind == "random":
            if source and not source.isdigit():
                raise UsageError(f"subset '{text}': after random:{size}@ comes a seed, not a run.")
            return cls(kind, int(size), seed=int(source or 0))
        if not source:
            raise UsageError(
                f"subset '{text}' needs a run that recorded the losses of the samples: write "
                f"{kind}:{size}@RUN, with RUN a folder from `landscape train ... --track-samples`."
            )
        found = of_run(source)
        digest = found.provenance.objective.get("data", {}).get("digest")
        if not digest:
            raise DataError(f"{source} doesn't tell which data its samples are: train it again.")
        record = P.digest({"d": torch.as_tensor(found.difficulty)})
        return cls(kind, int(size), source=source, record=record, data=digest)

    def __str__(self) -> str:
        """What ``parse`` reads."""
        return f"{self.kind}:{self.size}@{self.source or self.seed}"

    def describe(self) -> dict[str, Any]:
        """What a configuration records."""
        return dataclasses.asdict(self)

    def of(self, data: ImageData) -> ImageData:
        """Those samples of ``data``, in its order; refused if the run was on other data."""
        if not isinstance(data, ImageData):
            raise UsageError("a subset needs a data set by name, not one from a factory.")
        labels = data.labels.numpy()
        if self.kind == "random":
            scores = np.empty(len(data))
            scores[order(len(data), self.seed)] = -np.arange(len(data))
            return data.take(extremes(labels, scores, self.size))
        found = of_run(self.source)
        record = P.digest({"d": torch.as_tensor(found.difficulty)})
        if record != self.record:
            raise DataError(f"{self.source} has been trained again since this subset was chosen.")
        if len(labels) != len(found.labels) or self.data != digest(data):
            raise DataError(
                f"{self.source} ranks other samples than {data.name}/{data.split}: its "
                f"{len(found.labels)} (digest {self.data[:12]}), here {len(labels)} "
                f"(digest {digest(data)[:12]}). Choose a run on the same data."
            )
        sign = 1 if self.kind == "easiest" else -1
        return data.take(extremes(labels, sign * found.difficulty, self.size))


def digest(data: Any) -> str:
    """SHA-256 of all samples and labels, as an Objective's provenance has it: one pass."""
    cpu = torch.device("cpu")
    return Batches(data, device=cpu, dtype=torch.float32, keep_bytes=0).digest


def of_run(path: str | Path) -> Difficulty:
    """The difficulty that a run folder's recorded losses give, or that a file holds."""
    where = Path(path)
    if where.is_file():
        found = load(where)
        if isinstance(found, Difficulty):
            return found
        raise DataError(
            f"{where} holds a result of kind '{found.kind}': expected a run folder, or a file "
            "that `landscape difficulty` wrote."
        )
    if not where.is_dir():
        raise DataError(f"{where} does not exist: expected a run folder or a difficulty file.")
    track = recorded(where)
    if track is None:
        raise DataError(
            f"{where} has no recorded losses of its samples: train it with --track-samples, or "
            f"measure kept networks with `landscape difficulty {where}` and name its file."
        )
    return of_track(where, track)


def of_track(
    folder: Path, track: Track, *, groups: int = 10, by: Difficulty | None = None
) -> Difficulty:
    """The difficulty that the recorded losses of a run folder give."""
    history = load(folder / "history.h5").provenance
    return recorded_difficulty(
        track.sample_loss,
        track.labels,
        correct=track.sample_correct,
        epochs=track.epoch,
        groups=groups,
        by=by,
        objective={
            "data": history.objective["data"],
            "training": track.provenance.objective.get("training"),
            "inputs": "as the training saw them: augmented, perturbed, network in train mode",
        },
    )


def recorded(folder: Path) -> Track | None:
    """The track of a run folder, if it has losses of samples."""
    path = folder / "track.h5"
    track = load(path) if path.exists() else None
    if track is None or track.sample_loss is None or len(track.sample_loss) == 0:
        return None
    assert isinstance(track, Track)
    return track
