from __future__ import annotations

from pathlib import Path
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
    "precision",
    "channels_last",
    "stop_patience",
    "augmentation",
    "n_examples",
    "subset",
    "initial",
    "seed",
    "device",
)


# What --track alone records: nothing but the minibatches.
_MINIBATCHES = "batches"


class Milestones(click.ParamType):
    name = "epoch,epoch"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        try:
            return tuple(float(v) for v in value.split(","))
        except ValueError:
            self.fail(f"'{value}' is not a list of epochs: write 100,150.", param, ctx)


class Seeds(click.ParamType):
    name = "seed,seed"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        try:
            seeds = tuple(int(v) for v in value.split(","))
        except ValueError:
            seeds = ()
        if not seeds or len(set(seeds)) < len(seeds):
            self.fail(f"'{value}' are no seeds: write 0,1,2, each once.", param, ctx)
        return seeds


class Windows(click.ParamType):
    name = "first:end,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[tuple[float, ...], ...]:
        try:
            pairs = tuple(tuple(float(v) for v in part.split(":")) for part in value.split(","))
        except ValueError:
            pairs = ()
        if not pairs or any(len(pair) != 2 for pair in pairs):
            self.fail(f"'{value}' are no windows of epochs: write 0:2,50:52.", param, ctx)
        return pairs


@click.command()
@click.argument("method")
@click.option("--data", help="Data set: see `data`. Default: the recipe's, or digits.")
@click.option("--data-dir", type=click.Path(), help="Where data sets lie.")
@click.option("--model", help="Architecture: see `models`. Default: the recipe's.")
@click.option("--recipe", help="Defaults: a data set, or as in a paper: liu2020/cifar10-vgg.")
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
@click.option(
    "--precision",
    type=click.Choice(["full", "bf16", "fp16"]),
    help="What the network computes in while training. Default: full.",
)
@click.option(
    "--channels-last",
    is_flag=True,
    default=None,
    help="Store images and convolutions so while training: faster on GPUs in half precision.",
)
@click.option(
    "--patience",
    "stop_patience",
    type=click.IntRange(1),
    metavar="N",
    help="Stop when validation accuracy has not been higher for N epochs.",
)
@click.option("--augmentation", help="none, crop-flip, shift or sat. Default: the data set's.")
@click.option("--n-examples", type=int, help="Train on a balanced subset.")
@options.subset
@click.option("--extra", metavar="DATA", help="Take half of every batch from this data set, too.")
@click.option("--extra-split", metavar="SPLIT", help="Which of its splits. Default: train.")
@click.option(
    "--extra-examples", type=click.IntRange(1), metavar="N", help="A balanced subset of it."
)
@click.option(
    "--from", "initial", metavar="CKPT", help="Start from the weights of this checkpoint."
)
@click.option("--eps", type=options.NUMBER, help="Radius of the attack, in [0, 1] units.")
@click.option("--norm", type=click.Choice(["linf", "l2"]))
@click.option(
    "--eps-schedule",
    type=click.Choice(["constant", "linear", "cosine"]),
    help="Raise eps along the training: short for METHOD+pas --set pas.schedule=...",
)
@click.option("--alpha", type=options.NUMBER, help="Step size of the attack.")
@click.option("--steps", type=click.IntRange(0), help="Steps of the attack.")
@click.option("--beta", type=options.NUMBER, help="Weight of the KL term of trades.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="OPTION=VALUE",
    help="Any option of the method or of an addition: --set awp.gamma=0.005.",
)
@click.option("--device", default="auto", show_default=True)
@options.seed
@click.option(
    "--seeds", type=Seeds(), help="A run for each of these seeds, with mean and scatter: 0,1,2."
)
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
@click.option(
    "--track",
    metavar="NAME,NAME",
    help="Record the training in track.h5: batches (gradient norm, error, distance, noise of every "
    "minibatch), and after every epoch any of evaluate, gradient, inputs, spectrum, trace, "
    "effectiveness. The weights end the same as without.",
)
@click.option(
    "--track-every",
    type=click.IntRange(1),
    metavar="N",
    help="Measure after every N epochs. Default: 1.",
)
@click.option(
    "--track-examples",
    type=click.IntRange(1),
    metavar="N",
    help="Training examples to measure on. Default: 512.",
)
@click.option("--track-attack", metavar="NAME", help="Measure under this attack: pgd-10.")
@click.option(
    "--track-batches", type=click.IntRange(1), metavar="N", help="Record every Nth minibatch."
)
@click.option(
    "--track-noise",
    type=click.IntRange(3),
    metavar="N",
    help="Estimate the gradient noise from N minibatches at a time. Default: 20.",
)
@click.option(
    "--track-windows", type=Windows(), help="Record minibatches in these epochs alone: 0:2,50:52."
)
@click.option(
    "--track-samples", is_flag=True, help="Record every training sample's loss at every epoch."
)
@click.option("--dry-run", is_flag=True, help="Print the resolved configuration, train nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@options.verbosity
def train(method: str, **given: Any) -> None:
    """Train a network and save the best and the last checkpoint.

    METHOD is a row of `landscape methods`, with additions if wanted: pgd, trades+awp+swa. A run
    that was interrupted goes on where it stopped.
    """
    import json

    from landscape.cli.output import Say

    say = Say(**given)
    # All of them before the first is trained.
    plans = [
        _planned(method, {**given, "seed": seed}) for seed in given["seeds"] or [given["seed"]]
    ]
    method = plans[0][0].plan.method.name
    if given["dry_run"]:
        config, track = plans[0]
        tracked = {"track": track.describe()} if track else {}
        print(json.dumps({**config.to_dict(), **tracked}, indent=1))
        return
    found, written = [], []
    for config, track in plans:
        best, paths = _trained(say, method, config, track, _folder(config, method, given), given)
        content = {
            "method": method,
            "seed": config.plan.seed,
            "epoch": best.epoch,
            "digest": best.digest,
            "metrics": best.metrics,
            "config": config.to_dict(),
        }
        found.append(content)
        written += paths
    if given["seeds"]:
        say.table(*_over_seeds(method, found))
    say.json({"runs": found} if given["seeds"] else found[0])
    say.files(written)


def _planned(method: str, given: dict[str, Any]) -> tuple[Any, Any]:
    """The configuration of a run, and its ``Tracking`` if any."""
    from landscape.training import default_config

    settings = _settings(given["settings"])
    if given["eps_schedule"] is not None:
        method = _scheduled(method, given["eps_schedule"], settings)
    config = default_config(
        given["data"],
        given["model"],
        method,
        recipe=given["recipe"],
        extra=_extra(given),
        **{
            **{key: given[key] for key in (*_METHOD, *_PLAN) if given[key] is not None},
            **settings,
        },
    )
    return config, _tracking(config, given)


def _scheduled(method: str, schedule: str, settings: dict[str, Any]) -> str:
    """The method with the addition ``pas``, whose schedule goes into ``settings``."""
    own = settings.setdefault("pas", {})
    if own.setdefault("schedule", schedule) != schedule:
        raise click.UsageError(
            f"--eps-schedule {schedule} and --set pas.schedule={own['schedule']} contradict each "
            "other: give one of them."
        )
    return method if "pas" in method.split("+")[1:] else f"{method}+pas"


def _extra(given: dict[str, Any]) -> Any:
    """The additional data, if any."""
    from landscape.training import Extra

    if given["extra"] is None:
        for name in ("extra_split", "extra_examples"):
            if given[name] is not None:
                option = "--" + name.replace("_", "-")
                raise click.UsageError(f"{option} needs --extra, the data set it is of.")
        return None
    return Extra(given["extra"], given["extra_split"] or "train", given["extra_examples"])


def _folder(config: Any, method: str, given: dict[str, Any]) -> Path:
    seed = f"seed{config.plan.seed}"
    if given["out"] is None:
        return Path(f"runs/{config.data}-{method}-{seed}")
    return Path(given["out"]) / seed if given["seeds"] else Path(given["out"])


def _trained(
    say: Any, method: str, config: Any, track: Any, out: Path, given: dict[str, Any]
) -> tuple[Any, list[Path]]:
    """Train one run and say what came of it; the best checkpoint, and the files."""
    from landscape.cli.output import of_files
    from landscape.plotting import picture
    from landscape.plotting.style import save_figure
    from landscape.results import load
    from landscape.training import train as run

    with say.training() as progress:
        best = run(
            config,
            out,
            resume=given["resume"],
            overwrite=given["overwrite"],
            keep_every=given["keep_every"],
            data_dir=given["data_dir"],
            progress=progress,
            track=track,
        )
    seed = f", seed {config.plan.seed}" if given["seeds"] else ""
    say.table(
        f"{method} on {config.data}{seed}: best epoch {best.epoch}",
        ["metric", "value"],
        [[name.replace("_", " "), f"{value:.4f}"] for name, value in best.metrics.items()],
    )
    written = [out / "best.pt", out / "final.pt", out / "history.h5"]
    with of_files([str(out / "history.h5")]):
        history = load(out / "history.h5")
        if len(history.epoch) < config.plan.epochs:
            say.remark(
                f"stopped after epoch {len(history.epoch)} of {config.plan.epochs}: validation "
                f"accuracy was highest after {best.epoch}."
            )
        if history.constant_classifier[-1]:
            say.warn("the network predicts one class for every input: lower lr or eps, or warm up.")
        written += save_figure(picture([history]), out / "history", overwrite=True)
    if track:
        with of_files([str(out / "track.h5")]):
            tracked = load(out / "track.h5")
            if tracked.diagnostic is not None:
                say.table(*_tracked(tracked))
            figure = picture([tracked])
            written += [out / "track.h5", *save_figure(figure, out / "track", overwrite=True)]
    return best, written


def _over_seeds(method: str, found: list[dict[str, Any]]) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows: mean and scatter of every metric over the seeds."""
    import statistics

    rows = []
    for name in found[0]["metrics"]:
        values = [run["metrics"][name] for run in found]
        scatter = f"{statistics.stdev(values):.4f}" if len(values) > 1 else "–"
        extremes = f"{min(values):.4f} to {max(values):.4f}"
        rows.append([name.replace("_", " "), f"{statistics.mean(values):.4f}", scatter, extremes])
    title = f"\n{method}, {len(found)} seeds"
    return title, ["metric", "mean", "standard deviation", "range"], rows


def _tracked(track: Any) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows: every diagnostic before and after the training, with its error."""
    first, last = track.measured_epoch[0], track.measured_epoch[-1]
    rows = []
    for name, kind in zip(track.diagnostic, track.error_kind, strict=True):
        values, errors = track.measured(str(name))
        shown = [f"{values[k]:.4g}" + f" ± {errors[k]:.2g}" * bool(kind) for k in (0, -1)]
        rows.append([str(name).replace("_", " "), *shown, str(kind)])
    what = f"\ntracked on {track.provenance.settings['examples']} training examples at most"
    return what, ["diagnostic", f"epoch {first}", f"epoch {last}", "± is"], rows


def _tracking(config: Any, given: dict[str, Any]) -> Any:
    """The ``Tracking`` that the --track options ask for, if any."""
    from landscape import attacks
    from landscape.errors import UsageError, unknown
    from landscape.tracking import TRACKED, Tracking

    options = {name: given[name] for name in given if name.startswith("track_")}
    if given["track"] is None and not given["track_samples"]:
        for name, value in options.items():
            if value:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} needs --track: add --track batches, for example.")
        return None
    names = [_MINIBATCHES] if given["track"] is None else given["track"].split(",")
    for name in names:
        if name not in (_MINIBATCHES, *TRACKED):
            raise unknown("what to track", name, [_MINIBATCHES, *TRACKED])
    epochs = config.plan.epochs
    for first, end in given["track_windows"] or ():
        if first >= epochs:
            raise UsageError(
                f"--track-windows {first:g}:{end:g} lies outside the run of {epochs} epochs."
            )
    attack = None
    if given["track_attack"]:
        ball = config.evaluation.ball  # of --eps and --norm, or the recipe's
        attack = attacks.attack(given["track_attack"], eps=ball.radius, norm=ball.norm)
    chosen = {
        "every": given["track_batches"],
        "windows": given["track_windows"],
        "noise": given["track_noise"],
        "measure_every": given["track_every"],
        "examples": given["track_examples"],
    }
    return Tracking(
        samples=given["track_samples"],
        diagnostics=tuple(name for name in names if name != _MINIBATCHES),
        attack=attack,
        seed=given["seed"],
        **{name: value for name, value in chosen.items() if value is not None},
    )


def _settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """``steps=7`` as an option of the method, ``awp.gamma=0.005`` as one of an addition."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        part, dot, option = key.replace("-", "_").rpartition(".")
        if not sign or not option or (dot and not part):
            raise click.UsageError(f"--set {pair}: write OPTION=VALUE or ADDITION.OPTION=VALUE.")
        values = [_value(piece) for piece in text.split(",")]
        chosen = values[0] if len(values) == 1 else tuple(values)
        if dot:
            found.setdefault(part.replace("_", "-"), {})[option] = chosen
        else:
            found[option] = chosen
    return found


def _value(text: str) -> Any:
    """A whole number, a number, a fraction, true or false, or the text itself."""
    if text in ("true", "false"):
        return text == "true"
    if text.lstrip("-").isdigit():
        return int(text)
    try:
        above, _, below = text.partition("/")
        return float(above) / float(below) if below else float(above)
    except (ValueError, ZeroDivisionError):
        return text
