from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@options.target(split="train")
@click.option("--directions", default="random", show_default=True, help="Kind of directions.")
@click.option(
    "--grid",
    type=options.GRID,
    default="41x41",
    show_default=True,
    help="Points: 41x21 for a plane, 51 for a line.",
)
@click.option(
    "--range",
    "x_range",
    type=options.RANGE,
    default="-1:1",
    show_default=True,
    help="Range of the steps along direction 1 (and 2).",
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

    Finished rows are saved as they come; the same command goes on after an interruption.
    """
    import numpy as np

    from landscape.cli.output import Outputs, Say, describe_loss, number
    from landscape.cli.resume import Partial
    from landscape.cli.setup import Target
    from landscape.diagnostics import Axis
    from landscape.diagnostics import surface as measure
    from landscape.plotting import picture

    grid, low_high = given["grid"], given["x_range"]
    x = Axis(low_high[0], low_high[1], grid[0])
    low_high = given["y_range"] or low_high
    y = Axis(low_high[0], low_high[1], grid[1]) if len(grid) == 2 else None
    say = Say(**given)
    what = "surface" + (f"-{given['attack']}" if given["attack"] else "")
    files = Outputs(checkpoint, what, given)
    target = Target(say, checkpoint, **given)
    attack = target.attack(given["attack"])
    objective = target.objective(attack, refresh=given["perturbation"])
    target.introduce(objective)
    if given["dry_run"]:
        points = grid[0] * (grid[1] if len(grid) == 2 else 1)
        return say.estimate(objective.value, points, "grid points", files)
    partial = Partial(files.path, resume=given["resume"], say=say)
    with say.progress("grid points") as progress:
        result = measure(
            objective,
            given["directions"],
            x=x,
            y=y,
            normalisation=given["normalisation"],
            one_d=given["one_d"],
            seed=given["seed"],
            resume=partial.load(),
            save=partial.save,
            progress=progress,
        )
    finite = result.loss[np.isfinite(result.loss)]
    say.table(
        f"{describe_loss(result.provenance.objective)} along {len(result.direction_norms)} "
        f"{given['directions']} direction(s), {len(result.x)} x {len(result.y)} points",
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
            ["‖direction‖₂", ", ".join(number(n) for n in result.direction_norms)],
            ["seconds", f"{result.provenance.wall_time:.1f}"],
        ],
    )
    say.json(result.to_dict())
    written = files.save(result, picture([result], [target.path.stem]))
    partial.discard()
    say.files(written)
    if not result.consistent:
        say.warn("the grid's centre differs from the evaluated loss: don't trust this surface.")
        return 3
    return 0
