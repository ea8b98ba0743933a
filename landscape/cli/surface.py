from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from landscape.cli import options


@click.command()
@options.target(split="train")
@click.option(
    "--directions",
    default="random",
    show_default=True,
    help="random, eigen, gradient, adversarial, between, trajectory, or a file of directions.",
)
@click.option(
    "--to",
    "others",
    multiple=True,
    type=click.Path(),
    help="With --directions between: another checkpoint; twice for a plane.",
)
@click.option("--save-directions", type=click.Path(), help="File for --directions of other models.")
@click.option("--orthogonal", is_flag=True, help="Make random direction 2 orthogonal to 1.")
@click.option(
    "--draws",
    type=click.IntRange(2),
    default=None,
    help="Lines along so many random directions: their mean and scatter.",
)
@click.option("--clean", is_flag=True, help="With --attack: the clean loss too, at every point.")
@click.option("--html", is_flag=True, help="Also a page with the surface to rotate.")
@click.option("--per-sample", is_flag=True, help="Save the loss of every sample too.")
@click.option(
    "--in-place",
    is_flag=True,
    help="For models that fill the accelerator: move the parameters themselves, and put them back.",
)
@click.option(
    "--grid",
    type=options.GRID,
    help="Points: 41x21 for a plane, 51 for a line. Default: 41x41, lines 51.",
)
@click.option(
    "--range",
    "x_range",
    type=options.RANGE,
    help="Range of the steps along direction 1 (and 2). Default: -1:1, or around what is marked.",
)
@click.option("--y-range", type=options.RANGE, help="Range along direction 2, if another.")
@click.option(
    "--normalisation",
    default="filter",
    show_default=True,
    type=click.Choice(["filter", "layer", "weight", "none"]),
)
@click.option(
    "--one-d",
    default="ignore",
    show_default=True,
    type=click.Choice(["ignore", "scale", "same"]),
    help="Biases and normalisation parameters: leave, scale or move along themselves.",
)
@click.option(
    "--perturbation",
    type=click.Choice(["each", "fixed"]),
    default="each",
    show_default=True,
    help="With --attack: attack at every point, or once at the centre.",
)
@click.option(
    "--batchnorm",
    type=click.Choice(["eval", "reestimate"]),
    default="eval",
    show_default=True,
    help="reestimate: new running statistics at every point, as between networks is needed.",
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
def surface(checkpoint: str, **given: Any) -> int:
    """The loss around the model, along one or two directions.

    CHECKPOINT is a file, or with --directions trajectory the folder of a run that was trained with
    --keep-every. Finished rows are saved as they come; the same command goes on after an
    interruption.
    """
    import numpy as np

    from landscape.cli.output import Outputs, Say, describe_loss, number
    from landscape.cli.resume import Partial
    from landscape.cli.setup import Target
    from landscape.diagnostics import surface as measure
    from landscape.directions import DIRECTIONS
    from landscape.errors import UsageError
    from landscape.plotting import picture
    from landscape.plotting.page import check_page, save_page

    say = Say(**given)
    kind = given["directions"]
    what = "surface" + (f"-{kind}" if kind in DIRECTIONS and kind != "random" else "")
    what += f"-{given['attack']}" if given["attack"] else ""
    files = Outputs(checkpoint, what, given)
    if given["draws"] and (kind != "random" or given["save_directions"]):
        raise UsageError("--draws are of random directions: leave out what is said of directions.")
    page = files.stem.with_suffix(".html")
    if given["html"]:  # before the work
        check_page(page, overwrite=files.overwrite)
        files.paths.append(page)
    path, others = _networks(checkpoint, given)
    target = Target(say, path, **given)
    attack = target.attack(given["attack"])
    objective = target.objective(attack, refresh=given["perturbation"])
    target.introduce(objective, beside=1 if given["in_place"] else 3 + (given["draws"] or 2))
    directions, x, y = _plane(objective, others, given)
    if given["dry_run"]:
        points = x.points * (y.points if y else given["draws"] or 1)
        return say.estimate(objective.value, points, "grid points", files)
    if given["save_directions"]:
        directions.save(given["save_directions"], overwrite=files.overwrite)
    partial = Partial(files.path, resume=given["resume"], say=say)
    with partial, say.progress("grid points") as progress:
        result = measure(
            objective,
            "random" if given["draws"] else directions,
            x=x,
            y=y,
            normalisation=given["normalisation"],
            one_d=given["one_d"],
            draws=given["draws"] or 0,
            clean=given["clean"],
            per_sample=given["per_sample"],
            in_place=given["in_place"],
            seed=given["seed"],
            resume=partial.load(),
            save=partial.save,
            progress=progress,
        )
    finite = result.loss[np.isfinite(result.loss)]
    say.table(
        f"{describe_loss(result.provenance.objective)} along {len(result.direction_norms)} "
        f"{result.directions} direction(s), {len(result.x)} x {len(result.y)} points",
        ["quantity", "value"],
        [
            ["loss at the model", number(result.centre_loss)],
            ["lowest on the grid", number(finite.min()) if len(finite) else "–"],
            ["highest on the grid", number(finite.max()) if len(finite) else "–"],
            ["points not finite", f"{result.loss.size - len(finite)} of {result.loss.size}"],
            [
                "grid centre − loss at the model",
                "not on the grid" if result.centre_error is None else f"{result.centre_error:.1e}",
            ],
            ["‖direction‖₂", ", ".join(number(n) for n in result.direction_norms[:3])],
            *_about_directions(result),
            ["seconds", f"{result.provenance.wall_time:.1f}"],
        ],
    )
    say.json(result.to_dict())
    partial.finished(result)
    written = files.save(result, picture([result], [target.path.stem]))
    if given["html"]:
        written.append(save_page([result], [target.path.stem], page, overwrite=files.overwrite))
    partial.discard()
    if given["save_directions"]:
        written.append(Path(given["save_directions"]))
    say.files(written)
    if not result.consistent:
        say.warn("the grid's centre differs from the evaluated loss: don't trust this surface.")
        return 3
    return 0


def _networks(checkpoint: str, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The checkpoint in the centre, and the parameters of the others by name."""
    from landscape import checkpoints
    from landscape.cli.several import distinct
    from landscape.errors import UsageError
    from landscape.training import epoch_files

    kind = given["directions"]
    if given["others"] and kind != "between":
        raise UsageError("--to names networks for --directions between.")
    if kind == "between":
        if not given["others"]:
            raise UsageError("--directions between needs another checkpoint: add --to B.pt.")
        paths = distinct([checkpoint, *given["others"]])
        others = dict(list(paths.items())[1:])
    elif kind == "trajectory":
        if not Path(checkpoint).is_dir():
            raise UsageError(
                "--directions trajectory needs the folder of a run that was trained with "
                f"--keep-every, not {checkpoint}."
            )
        found = [str(path) for path in epoch_files(checkpoint)]
        checkpoint, others = found[-1], {Path(path).stem: path for path in found[:-1]}
    else:
        others = {}
    trust = given["trust_checkpoint"]
    states = {name: checkpoints.load(p, trust=trust).state_dict for name, p in others.items()}
    return checkpoint, states


def _plane(objective: Any, others: dict[str, Any], given: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Directions and axes."""
    from landscape.diagnostics import Axis
    from landscape.diagnostics.surfaces import default_axis
    from landscape.directions import DIRECTIONS, Directions, make
    from landscape.errors import UsageError
    from landscape.random import Streams

    kind, grid = given["directions"], given["grid"]
    saved = Directions.load(kind) if kind not in DIRECTIONS and Path(kind).exists() else None
    if saved is not None:
        count = len(saved.vectors)
    else:
        count = len(grid) if grid else 1 if given["draws"] or len(others) == 1 else 2
        if given["draws"] and count == 2:
            raise UsageError("--draws are of lines: write --grid 51.")
    grid = grid or ((51,) if count == 1 else (41, 41))
    if len(grid) != count:
        raise UsageError(f"{kind} holds {count} direction(s): write --grid 51 or --grid 41x21.")
    directions = saved
    if directions is None:
        directions = make(
            kind,
            objective,
            count,
            normalisation=given["normalisation"],
            one_d=given["one_d"],
            orthogonal=given["orthogonal"],
            others=others,
            theta={n: p.cpu() for n, p in objective.params.items()} if given["in_place"] else None,
            streams=Streams(given["seed"], "surface"),
        )
    axes = []
    for i, low_high in enumerate((given["x_range"], given["y_range"] or given["x_range"])[:count]):
        usual = default_axis(directions, i)
        low, high = low_high or (usual.low, usual.high)
        axes.append(Axis(low, high, grid[i]))
    return directions, axes[0], axes[1] if count == 2 else None


def _about_directions(result: Any) -> list[list[str]]:
    """What else there is to say of the directions."""
    from landscape.cli.output import number

    rows = []
    if result.direction_cosine is not None:
        rows.append(["cosine between the directions", f"{result.direction_cosine:.1e}"])
    if result.explained_variance is not None:
        shares = ", ".join(f"{100 * v:.1f} %" for v in result.explained_variance)
        rows.append(["path's variance along them", shares])
    if result.mark is not None:
        for name, x, y in zip(result.mark, result.mark_x, result.mark_y, strict=True):
            rows.append([f"{name} at", f"({number(x)}, {number(y)})"])
    return rows
