from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from landscape.cli import options


@click.command()
@click.argument("file", type=click.Path())
@click.option("--out", type=click.Path(), help="Folder of the results. Default: sweeps/FILE.")
@click.option("--cache", type=click.Path(), help="Folder of finished work. Default: OUT/work.")
@click.option("--data-dir", type=click.Path(), help="Where data sets lie.")
@click.option("--jobs", type=click.IntRange(1), help="Processes at once. Default: one per core.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads of each. Default: one for digits, else torch's own.",
)
@click.option(
    "--slurm",
    metavar="KEY=VALUE,...",
    help="Submit the jobs to SLURM: partition=gpu,timeout_min=600,gpus_per_node=1.",
)
@click.option("--status", is_flag=True, help="How far the sweep is, cell by cell; does nothing.")
@click.option("--retry-failed", is_flag=True, help="Try again what has failed.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and what it costs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@options.verbosity
def sweep(file: str, **given: Any) -> int:
    """Train and measure a grid of methods, radii, seeds or any other options.

    FILE is TOML: [train] has options of all trainings, [grid] lists of values, every [[measure]] a
    diagnostic; or checkpoints = [...] in place of trainings. A command that was interrupted goes on
    where it stopped. Exit code 1 if a cell failed, 3 if a number is not to be trusted.
    """
    from landscape.cli.output import Say

    say = Say(**given)
    out = Path(given["out"] or Path("sweeps") / Path(file).stem)
    if given["status"]:
        return _status(say, out, given)
    from landscape.sweeps.plan import planned
    from landscape.sweeps.specification import read

    plan = planned(read(file), data_dir=given["data_dir"])
    for text in plan.remarks:
        say.remark(text)
    if given["dry_run"]:
        return _dry_run(say, plan, out, given)
    return _run(say, plan, out, given)


def _run(say: Any, plan: Any, out: Path, given: dict[str, Any]) -> int:
    import os

    from landscape.sweeps import table
    from landscape.sweeps.sweeping import cache_of, carry_out, outputs

    executor = None
    if given["slurm"] is not None:
        from landscape.running.cluster import slurm

        executor = slurm(given["slurm"], cache_of(out, given["cache"]).folder / "slurm")
    with say.works("sweep") as progress:
        found = carry_out(
            plan,
            out=out,
            cache=given["cache"],
            jobs=given["jobs"] or os.cpu_count() or 1,
            threads=given["threads"],
            executor=executor,
            retry_failed=given["retry_failed"],
            progress=progress,
        )
    for title, columns, rows in table.tables(found):
        say.table(title, columns, rows)
    say.json(found.to_dict())
    for cell, reason in zip(found.cell, found.reason, strict=True):
        if reason:
            say.warn(f"{cell} failed: {reason} (--retry-failed tries again)")
    for cell, doubt in zip(found.cell, found.doubt, strict=True):
        if doubt:
            say.warn(f"{cell}: {doubt}")
    say.files([path for path in outputs(out) if path.exists()])
    if not found.complete:
        return 1
    return 0 if found.trustworthy else 3


def _status(say: Any, out: Path, given: dict[str, Any]) -> int:
    from landscape.sweeps.status import status

    found = status(out)
    counts = ", ".join(
        f"{found.count(state)} {state}" for state in ("done", "running", "waiting", "failed")
    )
    at_work = f"at work: {found.holder}" if found.holder else "no sweep is at work"
    rows = [[cell.name, cell.state, cell.said] for cell in found.cells]
    say.table(f"{out}: {len(rows)} cells, {counts}; {at_work}", ["cell", "state", ""], rows)
    say.json(found.to_dict())
    return 0


def _dry_run(say: Any, plan: Any, out: Path, given: dict[str, Any]) -> int:
    from landscape.running.cost import planned
    from landscape.sweeps.sweeping import cache_of, default_threads

    threads = given["threads"] or default_threads(plan)
    found = planned(plan.works, cache_of(out, given["cache"]), threads=threads)
    say.table(
        f"{len(plan.cells)} cells: {len(found.runs)} trainings and {found.measurements} "
        f"measurements; {found.cached} of these are done",
        ["training", "network", "state", "epochs", "updates", "passes", "estimate"],
        [run.row for run in found.runs],
    )
    if not given["as_json"]:
        print(found.total)
    say.json({"cells": [cell.name for cell in plan.cells], **found.to_dict()})
    return 0
