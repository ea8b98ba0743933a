"""Do the work of a plan: in order, each once, several at a time, here or on a cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from landscape.running.cache import DAMAGED, INTACT, Cache
from landscape.running.jobs import UNMET, Job, do, in_order, jobs_of
from landscape.running.work import Work, everything

Progress = Callable[[int, int, str], None]

DIED = "its process was killed twice, as when memory runs out: fewer --jobs may help"


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


def execute(
    works: Mapping[str, Work],
    cache: Cache,
    *,
    jobs: int = 1,
    threads: int | None = None,
    executor: Executor | None = None,
    retry_failed: bool = True,
    progress: Progress | None = None,
) -> Outcome:
    """Do what is missing of ``works`` and of what they need; finished work is never repeated.

    Args:
        works: by any name. jobs: processes at once. threads: of each, ``None`` for torch's own.
        executor: does the jobs elsewhere, ``slurm``'s for example.
        retry_failed: whether to try again what failed earlier; without it that has failed.
        progress: called as (works done, works in all, what was done).

    A job that fails doesn't stop the others, only what needs it; ``Outcome.failed`` says why. One
    whose process is killed is tried once more, from its last checkpoint.
    """
    todo, outcome = missing(works, cache)
    if not retry_failed:
        for digest, work in [*todo.items()]:
            reason = cache.failure(work)
            if reason is not None:
                outcome.failed[digest] = reason
                del todo[digest]
    for digest in outcome.damaged:
        if progress is not None and digest in todo:
            progress(0, len(todo), f"{todo[digest].title}: cached file is damaged, made again")
    plan = _Plan(todo, cache, threads, outcome, progress)
    if jobs == 1 and executor is None:
        plan.one_by_one()
    elif plan.waiting:
        plan.at_once(jobs, executor)
    return outcome


class _Plan:
    """The jobs that wait, and what came of the others."""

    def __init__(
        self,
        todo: Mapping[str, Work],
        cache: Cache,
        threads: int | None,
        outcome: Outcome,
        progress: Progress | None,
    ) -> None:
        self.waiting = jobs_of(todo)
        self._cache, self._threads = cache, threads
        self._outcome, self._progress = outcome, progress
        self._ended, self._total = 0, len(todo)

    def one_by_one(self) -> None:
        """All jobs in this process."""
        import torch

        before = torch.get_num_threads()
        try:
            for job in in_order(self.waiting):
                if not self._unmet(job):
                    self._end(job, do(job, self._cache.folder, self._threads))
        finally:
            torch.set_num_threads(before)

    def at_once(self, jobs: int, executor: Executor | None) -> None:
        """Several jobs at a time in other processes."""
        local, waiting = executor is None, self.waiting
        others = {*multiprocessing.active_children()}
        pool: Any = _pool(jobs) if local else executor
        at_once = jobs if local else len(waiting)
        running: list[tuple[Job, Future]] = []
        pending = {work.digest for job in waiting for work in job.works}
        deaths: Counter[Job] = Counter()

        def end(job: Job, errors: Mapping[str, str]) -> None:
            pending.difference_update(work.digest for work in job.works)
            self._end(job, errors)

        def died(job: Job, why: str) -> None:
            """Its process ended without a word: try once more, then it is the job's fault."""
            deaths[job] += 1
            if deaths[job] == 1:
                waiting.insert(0, job)
                return
            left = [work for work in job.works if self._cache.state(work) != INTACT]
            for work in left:
                self._cache.fail(work, why)
            end(job, {work.digest: why for work in left})

        try:
            while waiting or running:
                for job in [*waiting]:
                    if self._unmet(job):
                        waiting.remove(job)
                        pending.difference_update(work.digest for work in job.works)
                    elif not job.needs & pending and len(running) < at_once:
                        waiting.remove(job)
                        args = (job, self._cache.folder, self._threads)
                        running.append((job, pool.submit(do, *args)))
                finished = [pair for pair in running if pair[1].done()]
                if not finished:
                    time.sleep(0.05 if local else 1.0)
                for pair in finished:
                    if pair not in running:
                        continue
                    job, future = pair
                    running.remove(pair)
                    try:
                        errors = future.result()
                    except BrokenProcessPool:
                        # Which of the jobs killed its process is not known unless there was only
                        # one: from now on there is.
                        pool = _pool(1)
                        if running:
                            waiting[:0] = [job, *(other for other, _ in running)]
                        else:
                            died(job, DIED)
                        at_once, running = 1, []
                    except Exception as error:  # the cluster's word on a job
                        text = " ".join(str(error).split())[:300]
                        died(job, f"job failed: {text}")
                    else:
                        end(job, errors)
        finally:
            if local:
                if running:  # interrupted: what they have saved is kept
                    for child in {*multiprocessing.active_children()} - others:
                        child.terminate()
                pool.shutdown(wait=not running, cancel_futures=True)

    def _unmet(self, job: Job) -> bool:
        """Whether it needs what has failed; then it has failed, too."""
        unmet = bool(job.needs & {*self._outcome.failed})
        if unmet:
            self._end(job, job.failing(UNMET))
        return unmet

    def _end(self, job: Job, errors: Mapping[str, str]) -> None:
        self._outcome.failed.update(errors)
        for work in job.works:
            if work.digest not in errors:
                self._outcome.done.append(work.digest)
            self._ended += 1
            if self._progress is not None:
                said = f"failed: {errors[work.digest]}" if work.digest in errors else "done"
                self._progress(self._ended, self._total, f"{work.title}: {said}")


def _pool(jobs: int) -> ProcessPoolExecutor:
    # Spawned processes have no copy of this one's threads, which forked ones may hang on.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this process when the one that asked for its work does, even by kill -9.

    Left alone it would go on with its job and then wait for another one forever.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
