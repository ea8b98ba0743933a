from __future__ import annotations

from typing import Any

import click

from landscape.cli import options
from landscape.cli.cosine import Names


@click.command()
@options.target(split="train")
@click.option(
    "--directions",
    type=Names("gradient", "adversarial", "random"),
    default="gradient,random",
    show_default=True,
    help="Unit vectors: the gradient of the adversarial loss, AWP's ascent, random ones.",
)
@click.option(
    "--range",
    "a_range",
    type=options.RANGE,
    default="0.01:1",
    show_default=True,
    help="Steps a along the unit vector, evenly spaced in the logarithm.",
)
@click.option("--points", type=click.IntRange(2), default=7, show_default=True)
@click.option(
    "--draws",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Seeds of the attack, each with a random direction and an ascent of its own.",
)
@click.option(
    "--radius",
    type=options.NUMBER,
    default=0.1,
    show_default=True,
    help="Of the ball of the ε-sharpness, in the units of the weights.",
)
@options.attack_options()
@options.seed
@options.output
def smoothness(checkpoint: str, **given: Any) -> int:
    """Local Lipschitz constants of the gradient, clean and adversarial, and the ε-sharpness.

    liu2020 Prop. 2, kanai2021 Lemma 1 and eq. 73. Without --attack, of the clean loss alone.
    """
    import numpy as np

    from landscape.cli.output import Outputs, Say, describe_loss, number
    from landscape.cli.setup import Target
    from landscape.diagnostics import local_smoothness
    from landscape.errors import UsageError
    from landscape.plotting import picture
    from landscape.results import Estimate

    low, high = given["a_range"]
    if not 0 < low < high < np.inf:
        raise UsageError(
            f"--range {low:g}:{high:g}: steps are positive and the smaller limit comes first, "
            "for example 0.01:1."
        )
    say = Say(**given)
    what = "smoothness" + (f"-{given['attack']}" if given["attack"] else "")
    files = Outputs(checkpoint, what, given)
    target = Target(say, checkpoint, **given)
    objective = target.objective(target.attack(given["attack"]), refresh="each")
    target.introduce(objective, beside=12 + given["draws"])
    directions = given["directions"]
    if given["dry_run"]:
        count = given["draws"] * (len(directions) * given["points"] + 10)
        return say.estimate(objective.gradient, count, "gradients of the loss", files)
    with say.progress("gradients") as progress:
        result = local_smoothness(
            objective,
            directions=directions,
            a=np.geomspace(low, high, given["points"]).tolist(),
            draws=given["draws"],
            radius=given["radius"],
            seed=given["seed"],
            progress=progress,
        )
    adversarial = len(result.loss) > 1
    for direction in directions:
        columns = ["a", *map(str, result.loss)]
        cells = [[str(e) for e in result.mean(str(loss), direction)] for loss in result.loss]
        if adversarial:
            columns.append("inputs moved by")
            cells.append([str(e) for e in result.mean_move(direction)])
        say.table(
            f"‖∇L(θ + av) − ∇L(θ)‖ / a along {direction}, "
            f"{describe_loss(result.provenance.objective)}, {given['draws']} draw(s)",
            columns,
            [[number(a), *row] for a, *row in zip(result.a, *cells, strict=True)],
        )
    say.table(
        f"ε-sharpness (max L − L(θ)) / (1 + L(θ)) within {given['radius']:g}, "
        f"the largest of {given['draws']} ascent(s)",
        ["loss", "sharpness", "least ascent", "L(θ)", "‖∇L(θ)‖"],
        [
            [
                str(loss),
                number(found.max()),
                number(found.min()),
                str(Estimate.of(values)),
                str(Estimate.of(slopes)),
            ]
            for loss, found, values, slopes in zip(
                result.loss,
                result.sharpness,
                result.centre_loss,
                result.gradient_norm,
                strict=True,
            )
        ],
    )
    say.json(result.to_dict())
    written = files.save(result, picture([result], [target.path.stem]))
    lost = int((~np.isfinite(result.ratio)).sum())
    if lost:
        say.warn(f"{lost} of {result.ratio.size} ratios are not finite: lower --range.")
    if not np.isfinite(result.sharpness).all():
        say.warn(f"the loss is not finite everywhere within {given['radius']:g}: lower --radius.")
    drowned = int(result.drowned.sum())
    if drowned:
        say.warn(
            f"{drowned} of {result.ratio.size} ratios are no larger than their rounding error"
            + (": add --dtype float64." if given["dtype"] == "float32" else ": raise --range.")
        )
    say.files(written)
    return 0
