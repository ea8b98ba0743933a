"""Jobs: what one process does of a plan."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from landscape.errors import CheckpointError, DataError, LandscapeError
from landscape.running.cache import DAMAGED, INTACT, Cache
from landscape.running.memory import advice, ran_out
from landscape.running.work import Measure, Run, Work

UNMET = "needs a training that failed"


@dataclass(frozen=True)
class Job:
    """A training with the measurements of it alone, or one measurement: what one process does."""

    works: tuple[Work, ...]

    @property
    def needs(self) -> set[str]:
        own = {work.digest for work in self.works}
        return {need.digest for work in self.works for need in work.needs} - own

    def failing(self, why: str) -> dict[str, str]:
        """All of its works, failed for one reason."""
        return dict.fromkeys((work.digest for work in self.works), why)


def jobs_of(todo: Mapping[str, Work]) -> list[Job]:
    """The work as jobs: what measures a single run goes with its training."""
    own: dict[str, list[Work]] = {d: [w] for d, w in todo.items() if isinstance(w, Run)}
    alone: list[Work] = []
    for work in todo.values():
        if isinstance(work, Run):
            continue
        if len(work.needs) == 1 and work.needs[0].digest in own:
            own[work.needs[0].digest].append(work)
        else:
            alone.append(work)
    return [Job(tuple(works)) for works in own.values()] + [Job((work,)) for work in alone]


def in_order(waiting: Iterable[Job]) -> list[Job]:
    """Jobs after those that they need."""
    left, done = list(waiting), set[str]()
    own = {work.digest for job in left for work in job.works}
    found: list[Job] = []
    while left:
        ready = [job for job in left if not (job.needs & own) - done]
        assert ready, "jobs wait for each other"
        for job in ready:
            left.remove(job)
            found.append(job)
            done |= {work.digest for work in job.works}
    return found


def do(job: Job, folder: Path, threads: int | None) -> dict[str, str]:
    """One job in this process; the error of each work that failed, by digest.

    What is finished is kept at once, and so is why something failed: whoever asked for the job
    may be gone by then.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    cache = Cache(folder)
    errors: dict[str, str] = {}
    for work in job.works:
        broken = [need.digest for need in work.needs if need.digest in errors]
        if broken:
            errors[work.digest] = UNMET
            continue
        try:
            with cache.reserved(work):
                if cache.state(work) != INTACT:
                    _make(work, cache)
        except Exception as error:
            errors[work.digest] = explain(work, error, cache)
            with contextlib.suppress(OSError):  # a full disk may be what failed
                cache.fail(work, errors[work.digest])
    return errors


def explain(work: Work, error: BaseException, cache: Cache) -> str:
    """Why the work failed, in one line."""
    if ran_out(error):
        return advice(work, cache)
    text = " ".join(str(error).split())
    return text if isinstance(error, LandscapeError) else f"{type(error).__name__}: {text}"


def _make(work: Work, cache: Cache) -> None:
    start = time.perf_counter()
    if cache.state(work) == DAMAGED:
        cache.discard(work)
    place = cache.place(work)
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(work, Run):
        try:
            _train(work, place, cache)
        except (CheckpointError, DataError):
            if not place.exists():
                raise
            cache.discard(work)  # an unfinished run that can't be read
            _train(work, place, cache)
    else:
        _measure(work, place, [cache.get(run) for run in work.runs])
    cache.seal(work, time.perf_counter() - start)


def _measure(work: Measure, place: Path, trained: Sequence[object]) -> None:
    partial, unfinished = {}, place.with_suffix(".partial.h5")
    if "partial" in inspect.signature(work.function).parameters:
        partial = {"partial": unfinished}
    work.function(*trained, **work.settings, **partial).save(place, overwrite=True)
    unfinished.unlink(missing_ok=True)


def _train(run: Run, place: Path, cache: Cache) -> None:
    from landscape.training import train

    train(
        run.config(cache.place),
        place,
        keep_every=run.keep_every,
        data_dir=run.data_dir,
        track=run.track,
    )
