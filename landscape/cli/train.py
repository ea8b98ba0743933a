from __future__ import annotations

from typing import Any

import click

from landscape.cli import options

# Options that go to default_config under their own names; None keeps the recipe's value.
_METHOD = ("eps", "norm", "alpha", "steps", "beta")
_PLAN = (
    "epochs",
    "batch_size",
    "optimiser",
    "lr",
    "momentum",
    "weight_decay",
    "schedule",
    "milestones",
    "warmup",
    "clip_norm",
    "augmentation",
    "n_examples",
    "seed",
    "device",
)


class Milestones(click.ParamType):
    name = "epoch,epoch"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        try:
            return tuple(float(v) for v in value.split(","))
        except ValueError:
            self.fail(f"'{value}' is not a list of epochs: write 100,150.", param, ctx)


@click.command()
@click.argument("method")
@click.option("--data", default="digits", show_default=True, help="Data set: see `data`.")
@click.option("--data-dir", type=click.Path(), help="Where data sets lie.")
@click.option("--model", help="Architecture: see `models`. Default: the recipe's.")
@click.option("--recipe", help="Data set whose hyperparameters are the defaults.")
@click.option("--epochs", type=click.IntRange(1))
@click.option("--batch-size", type=click.IntRange(1))
@click.option("--optimiser", type=click.Choice(["sgd", "adam"]))
@click.option("--lr", type=options.NUMBER, help="Learning rate.")
@click.option("--momentum", type=options.NUMBER)
@click.option("--weight-decay", type=options.NUMBER)
@click.option("--schedule", help="Of the learning rate: constant, step, cosine, cyclic, ...")
@click.option("--milestones", type=Milestones(), help="Epochs of the step schedule: 100,150.")
@click.option("--warmup", type=options.NUMBER, help="Epochs of linear rise of the learning rate.")
@click.option("--clip-norm", type=options.NUMBER, help="Largest norm of a gradient.")
@click.option("--augmentation", help="none, crop-flip, shift or sat. Default: the data set's.")
@click.option("--n-examples", type=int, help="Train on a balanced subset.")
@click.option("--eps", type=options.NUMBER, help="Radius of the attack, in [0, 1] units.")
@click.option("--norm", type=click.Choice(["linf", "l2"]))
@click.option("--alpha", type=options.NUMBER, help="Step size of the attack.")
@click.option("--steps", type=click.IntRange(0), help="Steps of the attack.")
@click.option("--beta", type=options.NUMBER, help="Weight of the KL term of trades.")
@click.option("--device", default="auto", show_default=True)
@options.seed
@click.option("--out", type=click.Path(), help="Run folder. Default: runs/DATA-METHOD-seedN.")
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Go on with the run in the folder.",
)
@click.option("--overwrite", is_flag=True, help="Delete the run in the folder first.")
@click.option(
    "--keep-every",
    type=click.IntRange(1),
    metavar="N",
    help="Keep checkpoints along the training, every N epochs.",
)
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration, train nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@options.verbosity
def train(method: str, **given: Any) -> None:
    """Train a network and save the best and the last checkpoint.

    METHOD is a row of `landscape methods`. A run that was interrupted goes on where it stopped.
    """
    import json
    from pathlib import Path

    from landscape.cli.output import Say
    from landscape.plotting import picture
    from landscape.plotting.style import save_figure
    from landscape.results import load
    from landscape.training import default_config
    from landscape.training import train as run

    say = Say(**given)
    config = default_config(
        given["data"],
        given["model"],
        method,
        recipe=given["recipe"],
        **{key: given[key] for key in (*_METHOD, *_PLAN)},
    )
    if given["dry_run"]:
        print(json.dumps(config.to_dict(), indent=1))
        return
    out = Path(given["out"] or f"runs/{given['data']}-{method}-seed{given['seed']}")
    with say.training() as progress:
        best = run(
            config,
            out,
            resume=given["resume"],
            overwrite=given["overwrite"],
            keep_every=given["keep_every"],
            data_dir=given["data_dir"],
            progress=progress,
        )
    say.table(
        f"{method} on {given['data']}: best epoch {best.epoch}",
        ["metric", "value"],
        [[name.replace("_", " "), f"{value:.4f}"] for name, value in best.metrics.items()],
    )
    say.json(
        {
            "method": method,
            "epoch": best.epoch,
            "digest": best.digest,
            "metrics": best.metrics,
            "config": config.to_dict(),
        }
    )
    history = load(out / "history.h5")
    if history.constant_classifier[-1]:
        say.warn("the network predicts one class for every input: lower lr or eps, or warm up.")
    pictures = save_figure(picture([history]), out / "history", overwrite=True)
    say.files([out / "best.pt", out / "final.pt", out / "history.h5", *pictures])
