"""Do the work of a plan: in order, each once, several at a time, here or on a cluster."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from landscape.errors import CheckpointError, DataError, LandscapeError
from landscape.running.cache import DAMAGED, INTACT, Cache
from landscape.running.memory import advice, ran_out
from landscape.running.work import Run, Work, everything

Progress = Callable[[int, int, str], None]


class Future(Protocol):
    """What executors give back: of a process pool or of submitit."""

    def done(self) -> bool: ...
    def result(self) -> Any: ...


class Executor(Protocol):
    def submit(self, function: Callable[..., Any], *args: Any) -> Future: ...


@dataclass
class Outcome:
    """What came of a plan: what failed and why, what was made anew, by digest."""

    failed: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """A training with the measurements of it alone, or one measurement: what one process does."""

    works: tuple[Work, ...]

    @property
    def needs(self) -> set[str]:
        own = {work.digest for work in self.works}
        return {need.digest for work in self.works for need in work.needs} - own


def missing(works: Mapping[str, Work], cache: Cache) -> tuple[dict[str, Work], Outcome]:
    """Of everything that ``works`` need, what is yet to be done, and the state of the rest.

    A training is left out if it is there, or if nothing that is missing needs it and it is not
    itself asked for.
    """
    asked = {work.digest for work in works.values()}
    whole, outcome = everything(works), Outcome()
    todo: dict[str, Work] = {}
    wanted = set(asked)
    for digest, work in reversed(whole.items()):  # those that need others come first
        if digest not in wanted:
            continue
        state = cache.state(work)
        if state == INTACT:
            outcome.cached.append(digest)
            continue
        if state == DAMAGED:
            outcome.damaged.append(digest)
        todo[digest] = work
        wanted |= {need.digest for need in work.needs}
    return dict(reversed(todo.items())), outcome


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


def execute(
    works: Mapping[str, Work],
    cache: Cache,
    *,
    jobs: int = 1,
    threads: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Do what is missing of ``works`` and of what they need; finished work is never repeated.

    Args:
        works: by any name. jobs: processes at once. threads: of each, ``None`` for torch's own.
        executor: does the jobs elsewhere, ``slurm``'s for example.
        progress: called as (works done, works in all, what was done).

    A job that fails doesn't stop the others, only what needs it; ``Outcome.failed`` says why.
    """
    todo, outcome = missing(works, cache)
    for digest in outcome.damaged:
        if progress is not None:
            progress(0, len(todo), f"{todo[digest].title}: cached file is damaged, made again")
    waiting = jobs_of(todo)
    if jobs == 1 and executor is None:
        _one_by_one(waiting, cache, threads, outcome, len(todo), progress)
    elif waiting:
        _at_once(waiting, cache, jobs, threads, executor, outcome, len(todo), progress)
    return outcome


def do(job: Job, folder: Path, threads: int | None) -> dict[str, str]:
    """One job in this process; the error of each work that failed, by digest."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    cache = Cache(folder)
    errors: dict[str, str] = {}
    for work in job.works:
        broken = [need.digest for need in work.needs if need.digest in errors]
        if broken:
            errors[work.digest] = _UNMET
            continue
        try:
            with cache.reserved(work):
                if cache.state(work) != INTACT:
                    _make(work, cache)
        except Exception as error:
            errors[work.digest] = _explain(work, error, cache)
    return errors


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
        trained = [cache.get(run) for run in work.runs]
        work.function(*trained, **work.settings).save(place, overwrite=True)
    cache.seal(work, time.perf_counter() - start)


def _train(run: Run, place: Path, cache: Cache) -> None:
    from landscape.training import train

    train(
        run.config(cache.place),
        place,
        keep_every=run.keep_every,
        data_dir=run.data_dir,
        track=run.track,
    )


def _explain(work: Work, error: BaseException, cache: Cache) -> str:
    if ran_out(error):
        return advice(work, cache)
    text = " ".join(str(error).split())
    return text if isinstance(error, LandscapeError) else f"{type(error).__name__}: {text}"


def _one_by_one(
    waiting: Sequence[Job],
    cache: Cache,
    threads: int | None,
    outcome: Outcome,
    total: int,
    progress: Progress | None,
) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        for job in _in_order(waiting):
            if job.needs & {*outcome.failed}:
                _note(job, _failing(job, _UNMET), outcome, total, progress)
            else:
                _note(job, do(job, cache.folder, threads), outcome, total, progress)
    finally:
        torch.set_num_threads(before)


def _at_once(
    waiting: list[Job],
    cache: Cache,
    jobs: int,
    threads: int | None,
    executor: Executor | None,
    outcome: Outcome,
    total: int,
    progress: Progress | None,
) -> None:
    local = executor is None
    pool: Any = _pool(jobs) if local else executor
    at_once = jobs if local else len(waiting)
    running: list[tuple[Job, Future]] = []
    pending = {work.digest for job in waiting for work in job.works}

    def end(job: Job, errors: Mapping[str, str]) -> None:
        pending.difference_update(work.digest for work in job.works)
        _note(job, errors, outcome, total, progress)

    try:
        while waiting or running:
            for job in [*waiting]:
                if job.needs & {*outcome.failed}:
                    waiting.remove(job)
                    end(job, _failing(job, _UNMET))
                elif not job.needs & pending and len(running) < at_once:
                    waiting.remove(job)
                    running.append((job, pool.submit(do, job, cache.folder, threads)))
            finished = [pair for pair in running if pair[1].done()]
            if not finished:
                time.sleep(0.05 if local else 1.0)
            for pair in finished:
                if pair not in running:
                    continue
                job, future = pair
                try:
                    errors = future.result()
                except BrokenProcessPool:
                    # Which of the jobs killed its process is not known unless there was only
                    # one: from now on there is.
                    pool = _pool(1)
                    if len(running) == 1:
                        end(job, _failing(job, _DIED))
                    else:
                        waiting[:0] = [other for other, _ in running]
                    at_once, running = 1, []
                    continue
                except Exception as error:  # the cluster's word on a job
                    text = " ".join(str(error).split())[:300]
                    errors = _failing(job, f"job failed: {text}")
                running.remove(pair)
                end(job, errors)
    finally:
        if local:
            pool.shutdown(wait=not running, cancel_futures=True)


_UNMET = "needs a training that failed"
_DIED = "its process was killed, as when memory runs out: fewer --jobs may help"


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Spawned processes have no copy of this one's threads, which forked ones may hang on.
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))


def _in_order(waiting: Sequence[Job]) -> list[Job]:
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


def _failing(job: Job, why: str) -> dict[str, str]:
    return dict.fromkeys((work.digest for work in job.works), why)


def _note(
    job: Job, errors: Mapping[str, str], outcome: Outcome, total: int, progress: Progress | None
) -> None:
    outcome.failed.update(errors)
    for work in job.works:
        if work.digest not in errors:
            outcome.done.append(work.digest)
        if progress is not None:
            done = len(outcome.done) + len(outcome.failed)
            said = f"failed: {errors[work.digest]}" if work.digest in errors else "done"
            progress(done, total, f"{work.title}: {said}")
