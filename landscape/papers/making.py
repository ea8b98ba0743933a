"""From figures to files: plan all, do what is missing once, draw each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape.files import reserved
from landscape.papers.figures import Figure
from landscape.papers.report import Files, make
from landscape.papers.scale import Scale
from landscape.running.cache import Cache
from landscape.running.data import check_data
from landscape.running.runner import Executor, Progress, execute, missing
from landscape.running.work import everything


@dataclass(frozen=True)
class Made:
    """What came of one figure: its report and files, or why there are none."""

    figure: Figure
    report: dict[str, Any] | None
    paths: Sequence[Path] = ()
    failed: Sequence[str] = ()
    kept: bool = False  # was there already


def make_figures(
    figures: Sequence[Figure],
    scale: Scale | str = "digits",
    *,
    out: str | Path = "figures",
    cache: str | Path = "runs/figures",
    jobs: int = 1,
    executor: Executor | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Made]:
    """Make figures and tables at a scale; what is in the cache is not made again.

    Args:
        figures: ``chosen(["liu2020/fig2"])``. out: their files go to ``out/SCALE/PAPER``.
        cache: folder of the trainings and measurements. jobs: processes at once.
        executor: submits the jobs elsewhere, ``cluster.slurm`` for example.
        overwrite: draw figures anew that are there. Without it, those that are up to date are
            kept, and others are refused before any work.
        progress: see ``runner.execute``.

    A failing training doesn't stop other figures: see ``Made.failed``. Raises ``DataError`` if a
    data set is missing, before any training.
    """
    scale = Scale(scale) if isinstance(scale, str) else scale
    store = Cache(cache)
    plans = {figure.name: dict(figure.plan(scale)) for figure in figures}
    files = {figure.name: Files(figure, scale, Path(out)) for figure in figures}
    kept: dict[str, dict[str, Any]] = {}
    for name, plan in plans.items():
        report = None if overwrite else files[name].current(plan)
        if report is not None:
            kept[name] = report
        else:
            files[name].check(overwrite=overwrite)
    works = {
        f"{name}/{key}": work
        for name, plan in plans.items()
        if name not in kept
        for key, work in plan.items()
    }
    check_data(missing(works, store)[0])
    outcome = execute(
        works, store, jobs=jobs, threads=scale.threads, executor=executor, progress=progress
    )
    made = []
    for figure in figures:
        name = figure.name
        if name in kept:
            made.append(Made(figure, kept[name], files[name].paths, kept=True))
            continue
        whole = everything(plans[name])
        failed = [f"{whole[d].title}: {why}" for d, why in outcome.failed.items() if d in whole]
        if failed:
            made.append(Made(figure, None, failed=failed))
            continue
        with reserved(files[name].path("json"), wait=True):
            # Unless another command has drawn it meanwhile.
            drawn = None if overwrite else files[name].current(plans[name])
            again = overwrite or files[name].unfinished
            report = drawn or make(files[name], plans[name], store, overwrite=again)
        made.append(Made(figure, report, files[name].paths, kept=drawn is not None))
    return made
