from __future__ import annotations

from typing import Any

import click

from landscape.cli import options

# Options that are about the training of a curve; a curve file has its own.
_TRAINING = ("order", "chain", "epochs", "lr", "weight_decay", "train_batch_size", "loss")


@click.command()
@options.target(split="test", several=True, function=False)
@click.option("--order", type=click.IntRange(1), help="n: the curve has n−1 points to train.  [2]")
@click.option(
    "--chain/--bezier", default=None, help="A polygonal chain of n pieces, or a Bezier curve."
)
@click.option(
    "--loss",
    type=click.Choice(["clean", "adversarial"]),
    help="What is trained and measured on the training data. Default: adversarial with --attack.",
)
@click.option("--epochs", type=click.IntRange(1), help="Of the curve's training.  [100]")
@click.option("--lr", type=options.NUMBER, help="Learning rate, cosine to 0.  [0.1]")
@click.option("--weight-decay", type=options.NUMBER, help="Of the point on the curve.  [5e-4]")
@click.option(
    "--train-batch-size",
    type=click.IntRange(2),
    help="Of the training, and of BatchNorm's re-estimation.  [128]",
)
@click.option("--n-train", type=int, help="Use a balanced subset of the training data.")
@click.option(
    "--points",
    type=click.IntRange(3),
    default=31,
    show_default=True,
    help="Number of t, ends included.",
)
@click.option(
    "--save-at",
    type=options.NUMBER,
    multiple=True,
    metavar="T",
    help="Write the network at t as a checkpoint. Repeatable.",
)
@options.attack_options()
@options.seed
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Go on from an interrupted run of the same settings.",
)
@options.output
def connect(checkpoints: tuple[str, ...], **given: Any) -> int:
    """A curve of low loss between two checkpoints, and how high the loss is along it.

    Give two checkpoints of one architecture, or a curve file that this command wrote, to measure
    it again. Writes the curve (.pt), the losses and errors along it (.h5) and a picture.
    """
    from landscape.cli.curves import Job
    from landscape.cli.output import Say, describe_loss
    from landscape.plotting import picture

    _check_usage(checkpoints, given)
    say = Say(**given)
    job = Job(say, checkpoints, given)
    if given["dry_run"]:
        return say.estimate(*job.trial(), job.files)
    with say.progress("batches and points") as progress:
        result = job.run(progress)
    say.table(
        f"{result.curve} between {' and '.join(job.names)}: "
        f"{describe_loss(result.provenance.objective)}, {len(result.t)} points",
        ["along the", *map(str, result.path)],
        _rows(result),
    )
    say.json(result.to_dict())
    say.files(job.write(result, picture([result], [job.files.stem.name])))
    if not result.better:
        say.warn(
            "the curve's barrier exceeds the straight line's: train it longer (--epochs), or with "
            "another --lr or --order."
        )
        return 3
    return 0


def _check_usage(paths: tuple[str, ...], given: dict[str, Any]) -> None:
    for t in given["save_at"]:
        if not 0 <= t <= 1:
            raise click.UsageError(f"--save-at {t:g}: t lies in [0, 1]")
    if len(paths) > 2:
        raise click.UsageError(
            f"got {len(paths)} files: give two checkpoints to connect, or one curve file"
        )
    for name in _TRAINING if len(paths) == 1 else ():
        if given[name] is not None:
            raise click.UsageError(
                f"--{name.replace('_', '-')} trains a curve and needs two checkpoints; a curve "
                "file alone is measured as it is"
            )


def _rows(result: Any) -> list[list[str]]:
    """Curve and straight line side by side."""
    from landscape.cli.output import number, percent
    from landscape.diagnostics.evaluation import wilson

    def pair(values: Any) -> list[str]:
        return [number(float(v)) for v in values]

    n = result.test_samples
    rows = [
        ["loss at the ends", *[" and ".join(pair(row[[0, -1]])) for row in result.train_loss]],
        ["highest loss", *pair(result.highest_loss)],
        ["at t", *pair(result.highest_t)],
        ["barrier: highest − the higher end", *pair(result.barrier)],
        ["barrier over the line between the ends' losses", *pair(result.barrier_linear)],
    ]
    for name, errors in (
        ("highest test error in % [95 %]", result.test_error),
        ("highest robust test error in % [95 %]", result.robust_test_error),
    ):
        if errors is not None:
            highest = [float(row.max()) for row in errors]
            rows.append([name, *[percent(e, *wilson(round(e * n), n)) for e in highest]])
    rows.append(["arc length", *pair(result.length)])
    rows.append(["seconds", f"{result.provenance.wall_time:.1f}", "–"])
    if result.ratio is not None:
        rows.append(["barrier, share of the straight line's", f"{100 * result.ratio:.3g} %", "–"])
    return rows
