from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from landscape.cli import options

if TYPE_CHECKING:
    from landscape.cli.output import Say
    from landscape.diagnostics import Difficulty


@click.command()
@options.target(split="train", several=True)
@click.option(
    "--losses",
    type=click.Choice(["auto", "recorded", "networks"]),
    default="auto",
    show_default=True,
    help="Losses that the training recorded, or those of its kept networks; auto: the first if "
    "there are any.",
)
@click.option("--groups", type=click.IntRange(2), default=10, show_default=True)
@click.option("--by", metavar="RUN", help="Make the groups by the difficulty of this run or file.")
@click.option(
    "--features/--no-features",
    default=True,
    show_default=True,
    help="Norms of the penultimate features, by a pass of every kept network.",
)
@click.option(
    "--show",
    type=click.IntRange(0, 10),
    default=4,
    show_default=True,
    help="Easiest and hardest images of every class on the sheet.",
)
@options.attack_options()
@options.seed
@options.output
def difficulty(checkpoints: tuple[str, ...], **given: Any) -> int:
    """How hard every training sample is: the rank of its loss, averaged over the epochs.

    CHECKPOINTS are run folders, or checkpoint files, those of one training taken together as its
    epochs. A folder has recorded losses if it was trained with --track-samples, and networks if
    with --keep-every. Several runs on the same data are compared by the distance of their ranks.

    Networks are attacked as they were trained, unless --attack says otherwise (--attack clean).
    liu2022, Sections 3 and 4.
    """
    import numpy as np

    from landscape.cli import several
    from landscape.cli.epochs import trainings
    from landscape.cli.output import Say
    from landscape.diagnostics import difficulty_agreement
    from landscape.files import check_writable
    from landscape.plotting import picture
    from landscape.plotting.difficulty import extremes, sheet
    from landscape.plotting.style import picture_paths, save_figure
    from landscape.training.subsets import of_run

    say = Say(**given)
    files = several.outputs(checkpoints, "difficulty", given)
    by = of_run(given["by"]) if given["by"] else None
    runs = trainings(say, checkpoints, given)
    first = next(iter(runs.values()))
    several_runs = len(runs) > 1
    stems = {n: f"{files.stem}-{n}-sheet" if several_runs else f"{files.stem}-sheet" for n in runs}
    if given["show"]:
        for path in (path for stem in stems.values() for path in picture_paths(stem)):
            check_writable(path, overwrite=given["overwrite"])
            files.paths.append(path)
    for run in runs.values():
        run.check(first, by)
        run.target.introduce(run.objective)
    if given["dry_run"]:
        count = sum(
            len(run.networks) for run in runs.values() if run.track is None or given["features"]
        )
        return say.estimate(first.objective.value, count, "passes over the data", files)
    found: dict[str, Any] = {}
    for name, run in runs.items():
        with say.progress("networks") as progress:
            found[name] = run.difficulty(given["groups"], by, given["features"], progress)
    results = dict(found) if several_runs else {"/": found[name]}
    if several_runs:
        results["agreement"] = difficulty_agreement(found)
    labels = list(found) if several_runs else []
    written = files.save(results, picture(list(found.values()), labels))
    for name, result in found.items() if given["show"] else ():
        images = runs[name].images(np.concatenate(extremes(result, given["show"])))
        if images is None:
            say.remark("no sheet: the samples are not images of 1 or 3 channels.")
            break
        fig = sheet(
            result,
            images,
            given["show"],
            classes=getattr(runs[name].target.data, "classes", ()),
            title=name if several_runs else "",
        )
        written += save_figure(fig, stems[name], overwrite=given["overwrite"])
    content = {name: result.to_dict() for name, result in results.items()}
    say.json(content if several_runs else content["/"])
    for name, result in found.items():
        before = "" if result is next(iter(found.values())) else "\n"
        _tell(say, before + name, result, runs[name].what)
    if several_runs:
        say.table(*_pairs(results["agreement"]))
    if by is None:
        say.remark(
            "groups are by the run's own losses and differ in them by construction: --by RUN "
            "takes another's."
        )
    say.files(written)
    return 0


def _tell(say: Say, name: str, result: Difficulty, what: str) -> None:
    """The table of groups, and what to be careful about."""
    title = f"{name}: {what}, {len(result.labels)} samples, {_span(result.epoch)}"
    both = result.loss_and_error
    if both is not None and both.value == both.value:  # NaN where no sample or every one is wrong
        title += f"; ranks by loss and by 0-1 error: Spearman {both}"
    columns = ["group", "samples", f"loss ± s.e., epoch {result.epoch[0]}"]
    tables = [(result.group_loss[0], result.group_loss_standard_error[0], 1.0)]
    last = result.epoch[-1]
    if len(result.epoch) > 1:
        columns.append(f"epoch {last}")
        tables.append((result.group_loss[-1], result.group_loss_standard_error[-1], 1.0))
    if result.group_error is not None and result.group_error_standard_error is not None:
        columns.append(f"0-1 error ± s.e. (%), epoch {last}")
        tables.append((result.group_error[-1], result.group_error_standard_error[-1], 100.0))
    if result.group_feature_norm is not None:
        assert result.feature_epoch is not None
        assert result.group_feature_norm_standard_error is not None
        for k in sorted({0, len(result.feature_epoch) - 1}):
            columns.append(f"‖h(x)‖₂ ± s.e., epoch {result.feature_epoch[k]}")
            error = result.group_feature_norm_standard_error[k]
            tables.append((result.group_feature_norm[k], error, 1.0))
    names = [f"G{g}" for g in result.group]
    names[0], names[-1] = f"{names[0]} hardest", f"{names[-1]} easiest"
    rows = [
        [names[g], str(size), *(_cell(mean[g], se[g], scale, size) for mean, se, scale in tables)]
        for g, size in enumerate(result.group_size)
    ]
    say.table(title, columns, rows)
    if len(result.epoch) == 1:
        say.remark(f"{name.strip()}: one epoch alone, so that d ranks its noise too.")


def _span(epochs: Any) -> str:
    if len(epochs) == 1:
        return f"epoch {epochs[0]}"
    return f"{len(epochs)} epochs, {epochs[0]} to {epochs[-1]}"


def _cell(mean: float, error: float, scale: float, size: int) -> str:
    if mean != mean:
        return "–"
    if scale == 100 and mean in (0, 1):  # no spread to take a standard error from
        return f"{mean * size:.0f} of {size}"
    return f"{scale * mean:.4g} ± " + (f"{scale * error:.2g}" if error == error else "?")


def _pairs(agreement: Any) -> tuple[str, list[str], list[list[str]]]:
    from itertools import combinations

    from landscape.results import Estimate

    n = len(agreement.run)
    rows = []
    for i, j in combinations(range(n), 2):
        cells = []
        for name in ("distance", "spearman"):
            value = getattr(agreement, name)[i, j]
            error = getattr(agreement, f"{name}_standard_error")[i, j]
            cells.append(str(Estimate(float(value), float(error), agreement.samples)))
        rows.append([str(agreement.run[i]), str(agreement.run[j]), *cells])
    return (
        "\nagreement of the ranks (unrelated: D = 1/3, ρ = 0); standard errors are over samples",
        ["run", "other", "D-distance ± s.e.", "Spearman ρ ± s.e."],
        rows,
    )
