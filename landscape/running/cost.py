"""What a plan would cost, before it is done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from landscape.running.cache import INTACT, Cache
from landscape.running.work import Run, Work, everything
from landscape.training import TrainConfig


@dataclass(frozen=True)
class PlannedRun:
    """One training of a plan.

    ``passes``: forward + backward passes over a batch per update. ``updates`` is None where the
    size of the training set is not known without the data. ``seconds``: estimated on this
    machine from one forward and one backward pass, None with unknown updates, 0 in the cache.
    """

    title: str
    digest: str
    network: str
    cached: bool
    epochs: int
    updates: int | None
    passes: str
    seconds: float | None
    config: dict[str, Any]

    @property
    def row(self) -> list[str]:
        return [
            self.title,
            self.network,
            "in the cache" if self.cached else "to do",
            str(self.epochs),
            "?" if self.updates is None else str(self.updates),
            self.passes,
            "–" if self.cached else duration(self.seconds),
        ]


@dataclass(frozen=True)
class Planned:
    """All that a plan needs."""

    runs: Sequence[PlannedRun]
    measurements: int
    cached: int

    @property
    def total(self) -> str:
        """The estimate of all trainings in one line."""
        open_ = [run.seconds for run in self.runs if not run.cached]
        known = [seconds for seconds in open_ if seconds is not None]
        more = f" and {len(open_) - len(known)} of unknown size" if len(known) < len(open_) else ""
        return (
            f"trainings to do: {len(open_)}, about {duration(sum(known))} one after the other "
            f"on this machine{more}; measurements not counted"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with every resolved configuration."""
        return {
            "runs": [asdict(run) for run in self.runs],
            "measurements": self.measurements,
            "cached": self.cached,
        }


# Training samples that are left beside the validation split.
_SAMPLES = {
    "digits": 1197,
    "digits32": 1197,
    "mnist": 55_000,
    "fashion-mnist": 55_000,
    "cifar10": 45_000,
    "cifar100": 45_000,
    "svhn": 68_257,
    "imagenette": 8_469,
    "tinyimagenet": 95_000,
}


def planned(works: Mapping[str, Work], cache: Cache, *, threads: int | None = None) -> Planned:
    """Everything that works rest on, and what of it is there already.

    ``threads``: of every process, ``None`` for torch's own.
    """
    whole = everything(works)
    there = {digest for digest, work in whole.items() if cache.state(work) == INTACT}
    speeds: dict[str, tuple[float, float]] = {}
    runs = []
    for digest, work in whole.items():
        if isinstance(work, Run):
            runs.append(_planned(work, digest, digest in there, threads, speeds))
    return Planned(runs, len(whole) - len(runs), len(there))


def _planned(
    run: Run,
    digest: str,
    cached: bool,
    threads: int | None,
    speeds: dict[str, tuple[float, float]],
) -> PlannedRun:
    config = run.config()
    updates, seconds = _updates(config), None
    forward, backward = config.plan.method.passes
    if cached:
        seconds = 0.0
    elif updates is not None:
        key = f"{config.model} {config.plan.batch_size}"
        if key not in speeds:
            speeds[key] = _speed(config, threads)
        seconds = updates * (forward * speeds[key][0] + backward * speeds[key][1])
    return PlannedRun(
        title=run.title,
        digest=digest,
        network=config.model.name,
        cached=cached,
        epochs=config.plan.epochs,
        updates=updates,
        passes=f"{forward:g} + {backward:g}",
        seconds=seconds,
        config=config.to_dict(),
    )


def _updates(config: TrainConfig) -> int | None:
    samples = config.n_examples or (config.chosen.size if config.chosen else None)
    if samples is None:
        samples = _SAMPLES.get(config.data)
    if samples is None:
        return None
    return config.plan.epochs * -(-samples // config.plan.batch_size)


def _speed(config: TrainConfig, threads: int | None) -> tuple[float, float]:
    """Seconds of one forward and of one backward pass over a batch, the best of three."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        # Fewer samples do where a batch would take long.
        size = min(config.plan.batch_size, 16)
        model = config.model.build(seed=0)
        x = torch.rand(size, *config.model.in_shape, requires_grad=True)
        found = []
        for _ in range(3):
            start = time.perf_counter()
            output = model(x)
            middle = time.perf_counter()
            output.sum().backward()
            found.append((middle - start, time.perf_counter() - middle))
    finally:
        torch.set_num_threads(before)
    times = config.plan.batch_size / size
    return min(f for f, _ in found) * times, min(b for _, b in found) * times


def duration(seconds: float | None) -> str:
    """Seconds in words; None is unknown."""
    if seconds is None:
        return "?"
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86400:.3g} days"
