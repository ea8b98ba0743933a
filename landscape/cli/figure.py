from __future__ import annotations

import os
from typing import Any

import click

from landscape.cli import options
from landscape.cli.train import Seeds


@click.command()
@click.argument("names", nargs=-1, metavar="[PAPER/NAME]...")
@click.option("--list", "listing", is_flag=True, help="Every figure and table there is.")
@click.option(
    "--scale",
    default="digits",
    show_default=True,
    help="digits (offline, minutes), mnist, or paper (the paper's own data, networks, epochs).",
)
@click.option("--seeds", type=Seeds(), help="Instead of the figure's own: 0,1,2.")
@click.option("--batch-size", type=click.IntRange(1), help="Instead of the recipes'.")
@click.option("--device", help="auto, cpu, cuda or cuda:N. Default: auto.")
@click.option("--data-dir", type=click.Path(), help="Where data sets lie.")
@click.option(
    "--jobs", type=click.IntRange(1), help="Trainings at once. Default: one per CPU core."
)
@click.option(
    "--slurm",
    metavar="KEY=VALUE,...",
    help="Submit the trainings to SLURM: partition=gpu,timeout_min=600,gpus_per_node=1.",
)
@click.option("--out", default="figures", show_default=True, type=click.Path())
@click.option(
    "--cache",
    default="runs/figures",
    show_default=True,
    type=click.Path(),
    help="Trainings and measurements, shared by all figures.",
)
@click.option("--overwrite", is_flag=True, help="Draw figures anew that are there.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained and what it costs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@options.verbosity
def figure(names: tuple[str, ...], **given: Any) -> int:
    """Make figures and tables of the papers, with their claims checked.

    NAME is PAPER/FIGURE, for example liu2020/fig2 or li2023/table1; liu2020/all, or all. The work
    is kept in --cache and shared: what is finished is never done again, and an interrupted command
    goes on.
    """
    from landscape.cli.output import Say
    from landscape.papers import Scale, chosen, figures, make_figures

    say = Say(**given)
    if given["listing"]:
        _list(say, figures())
        return 0
    if not names:
        raise click.UsageError("name a figure, for example liu2020/fig2; --list shows all.")
    wanted = chosen(names)
    scale = Scale(
        given["scale"], given["seeds"], given["batch_size"], given["device"], given["data_dir"]
    )
    if given["dry_run"]:
        return _dry_run(say, wanted, scale, given)
    executor = None
    if given["slurm"] is not None:
        from pathlib import Path

        from landscape.running.cluster import slurm

        executor = slurm(given["slurm"], Path(given["cache"]) / "slurm")
    with say.works("figures") as progress:
        made = make_figures(
            wanted,
            scale,
            out=given["out"],
            cache=given["cache"],
            jobs=given["jobs"] or os.cpu_count() or 1,
            executor=executor,
            overwrite=given["overwrite"],
            progress=progress,
        )
    for one in made:
        if one.report is not None:
            _report(say, one)
        for reason in one.failed:
            say.warn(f"{one.figure.name}: {reason}")
    say.json({"figures": [one.report for one in made if one.report is not None]})
    say.files([path for one in made for path in one.paths])
    return 1 if any(one.failed for one in made) else 0


def _list(say: Any, known: Any) -> None:
    rows = [[figure.name, figure.title, str(len(figure.claims))] for figure in known.values()]
    say.table("", ["figure", "shows", "claims"], rows)
    say.json({"figures": {figure.name: figure.title for figure in known.values()}})


def _report(say: Any, made: Any) -> None:
    report = made.report
    kept = ", up to date" if made.kept else ""
    title = f"\n{report['figure']} at scale {report['scale']}{kept}: {report['title']}"
    rows = [
        [c["outcome"], c["claim"], c["numbers"], f"{c['samples']} {c['of']}"]
        for c in report["claims"]
    ]
    say.table(title, ["outcome", "claim", "numbers", "from"], rows)


def _dry_run(say: Any, wanted: Any, scale: Any, given: Any) -> int:
    from landscape.papers import Cache
    from landscape.running.cost import planned

    works = {f"{f.name}/{name}": work for f in wanted for name, work in f.plan(scale).items()}
    plan = planned(works, Cache(given["cache"]), threads=scale.threads)
    say.table(
        f"{len(plan.runs)} trainings and {plan.measurements} measurements; "
        f"{plan.cached} of these are in the cache",
        ["training", "network", "state", "epochs", "updates", "passes", "estimate"],
        [run.row for run in plan.runs],
    )
    if not given["as_json"]:
        print(plan.total)
    for figure in wanted:
        if scale.name == "paper" and figure.needs:
            say.remark(f"{figure.name} needs {figure.needs}")
    say.json(plan.to_dict())
    return 0
