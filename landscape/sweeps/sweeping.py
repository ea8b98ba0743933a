"""Do a sweep: plan it, have the work done, gather the numbers."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscape.errors import DataError, OutputError
from landscape.files import check_writable, write_atomic
from landscape.plotting import picture
from landscape.plotting.style import save_figure
from landscape.results import Result
from landscape.running.cache import Cache
from landscape.running.data import check_data
from landscape.running.locks import locked
from landscape.running.runner import Executor, Outcome, Progress, execute, missing
from landscape.running.work import Run, everything
from landscape.sweeps.plan import Cell, Plan, planned
from landscape.sweeps.specification import read
from landscape.sweeps.status import FILE, LOCK, Noted, read_plan, write_plan
from landscape.sweeps.table import Sweep, gathered

# What there is of a training, under its name in the cell's folder.
_OF_RUN = ("best.pt", "final.pt", "history.h5")


def sweep(
    specification: str | Path | Mapping[str, Any],
    *,
    out: str | Path,
    cache: str | Path | None = None,
    jobs: int = 1,
    threads: int | None = None,
    executor: Executor | None = None,
    retry_failed: bool = False,
    data_dir: str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Train a network for every cell of a grid, measure each in the same ways, gather the numbers.

    A specification has ``[train]``, options of all trainings as of ``default_config``; ``[grid]``,
    a list of values for every axis; any number of ``[[measure]]``, each a row of ``DIAGNOSTICS``
    with its arguments and what it is measured on. ``checkpoints``, a list of files, stand in place
    of trainings. See the guide on clusters for all of it.

    Args:
        specification: a TOML file, or a mapping of the same form.
        out: folder of the results: ``table.csv``, ``sweep.h5``, a picture, and ``cells/``, which
            has the checkpoint and the measurements of every cell.
        cache: folder of the finished work, ``out/work`` by default; several may share one.
        jobs: processes at once. threads: of each; by default one for digits, else torch's own.
        executor: does the jobs elsewhere, ``running.cluster.slurm`` for example.
        retry_failed: try again what failed in an earlier run, which is otherwise kept as failed.
        progress: called as (works done, works in all, what was done).

    What is finished is never done again; a training that was interrupted goes on from its last
    epoch. A cell that fails costs no other. Raises ``UsageError`` for whatever the specification
    asks for that there is not, before any work, and ``OutputError`` if another process is at work
    in the folder.
    """
    plan = planned(read(specification), data_dir=data_dir)
    return carry_out(
        plan,
        out=out,
        cache=cache,
        jobs=jobs,
        threads=threads,
        executor=executor,
        retry_failed=retry_failed,
        progress=progress,
    )


def carry_out(
    plan: Plan,
    *,
    out: str | Path,
    cache: str | Path | None = None,
    jobs: int = 1,
    threads: int | None = None,
    executor: Executor | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Sweep:
    """``sweep`` of what is planned already."""
    folder = Path(out)
    store = cache_of(folder, cache)
    threads = threads or default_threads(plan)
    _check_folder(folder)
    with locked(folder / LOCK, wait=False) as other:
        if other is not None:
            raise OutputError(
                f"a sweep is at work in {folder} ({other}): wait for it, see --status, or choose "
                "another --out."
            )
        works = plan.works
        check_data(missing(works, store)[0])
        try:
            earlier = read_plan(folder)
        except DataError:  # damaged; it is written anew
            earlier = None
        _note(folder, plan, store)
        outcome = execute(
            works,
            store,
            jobs=jobs,
            threads=threads,
            executor=executor,
            retry_failed=retry_failed,
            progress=progress,
        )
        found = _gather(plan, store, outcome, threads)
        _write(folder, plan, store, outcome, found, earlier)
    return found


def cache_of(folder: Path, cache: str | Path | None) -> Cache:
    """The cache of a sweep's folder."""
    return Cache(folder / "work" if cache is None else cache)


def default_threads(plan: Plan) -> int | None:
    """One per process where networks are small: it is faster, and numbers don't depend on it."""
    return 1 if all(cell.data in ("digits", "digits32") for cell in plan.cells) else None


def outputs(folder: Path) -> list[Path]:
    """The files that gather a whole sweep."""
    return [folder / name for name in ("table.csv", "sweep.h5", "sweep.png", "sweep.pdf")]


def _check_folder(folder: Path) -> None:
    if folder.is_dir() and not (folder / FILE).exists() and any(folder.iterdir()):
        # Besides, what a process left that was killed while it wrote the plan.
        own = (LOCK, "work")
        names = [p.name for p in folder.iterdir()]
        left = [n for n in names if n not in own and not n.startswith(f".{FILE}.")]
        if left:
            raise OutputError(
                f"{folder} holds other files ({left[0]}): choose an empty folder, or a new one."
            )
    check_writable(folder / FILE, overwrite=True)


def _note(folder: Path, plan: Plan, store: Cache) -> None:
    works = {
        digest: Noted(
            digest,
            work.is_folder,
            work.title,
            tuple(need.digest for need in work.needs),
            work.config().plan.epochs if isinstance(work, Run) else None,
        )
        for digest, work in everything(plan.works).items()
    }
    cells = {
        cell.name: {
            "settings": {axis: value.text for axis, value in cell.values.items()},
            "works": {name: work.digest for name, work in _works(cell).items()},
        }
        for cell in plan.cells
    }
    write_plan(folder, cells, works, store)


def _works(cell: Cell) -> dict[str, Any]:
    return {**({"training": cell.run} if cell.run is not None else {}), **cell.works}


def _gather(plan: Plan, store: Cache, outcome: Outcome, threads: int | None) -> Sweep:
    found: dict[str, dict[str, Result]] = {}
    reasons: dict[str, str] = {}
    for cell in plan.cells:
        found[cell.name] = {}
        for name, work in _works(cell).items():
            if work.digest in outcome.failed:
                reasons.setdefault(cell.name, f"{name}: {outcome.failed[work.digest]}")
            elif not isinstance(work, Run):
                result = store.get(work)
                assert isinstance(result, Result)
                found[cell.name][name] = result
    return gathered(plan, found, reasons, threads=threads)


def _write(
    folder: Path,
    plan: Plan,
    store: Cache,
    outcome: Outcome,
    found: Sweep,
    earlier: Mapping[str, Any] | None,
) -> None:
    _forget(folder, plan, earlier)
    for cell in plan.cells:
        place = folder / "cells" / cell.name
        place.mkdir(parents=True, exist_ok=True)
        for name, work in _works(cell).items():
            if work.digest in outcome.failed:
                continue
            if isinstance(work, Run):
                for file in _OF_RUN:
                    _link(store.place(work) / file, place / file)
            else:
                _link(store.place(work), place / f"{name}.h5")
    write_atomic(folder / "table.csv", found.csv().encode(), overwrite=True)
    found.save(folder / "sweep.h5", overwrite=True)
    if len(found.number):
        save_figure(picture([found]), folder / "sweep", overwrite=True)


def _forget(folder: Path, plan: Plan, earlier: Mapping[str, Any] | None) -> None:
    """Remove what an earlier plan put into the folders of its cells."""
    for name, cell in (earlier or {}).get("cells", {}).items():
        place = folder / "cells" / Path(name).name
        for file in (*_OF_RUN, *(f"{work}.h5" for work in cell.get("works", {}))):
            (place / Path(file).name).unlink(missing_ok=True)
        if name not in {c.name for c in plan.cells}:
            with contextlib.suppress(OSError):  # it holds something else
                place.rmdir()


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where a file system can't."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
