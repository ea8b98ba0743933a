from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


class Names(click.ParamType):
    """Some of the known names, separated by commas."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.name = ",".join(known)

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in value.split(","))
        for name in names:
            if name not in self.known:
                self.fail(f"'{name}' is none of {', '.join(self.known)}.", param, ctx)
        if len(set(names)) < len(names):
            self.fail(f"'{value}' names one of them twice.", param, ctx)
        return names


@click.command()
@options.target(split="train")
@click.option(
    "--directions",
    type=Names("eigen", "random"),
    default="eigen,random",
    show_default=True,
    help="Top eigenvector of the adversarial Hessian, random unit vectors, or both.",
)
@click.option(
    "--range",
    "a_range",
    type=options.RANGE,
    default="0:0.5",
    show_default=True,
    help="Steps a along the unit vector; the curve is even in a.",
)
@click.option("--points", type=click.IntRange(2), default=11, show_default=True)
@click.option(
    "--draws",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Seeds of the attack, each with a random direction of its own.",
)
@click.option(
    "--starts",
    type=click.Choice(["same", "independent"]),
    default="same",
    show_default=True,
    help="Random starts at the two ends; the paper's code draws them independently.",
)
@click.option(
    "--floor",
    type=options.NUMBER,
    default=0.7,
    show_default=True,
    help="Grey where the robust accuracy is lower.",
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
def cosine(checkpoint: str, **given: Any) -> int:
    """Cosine between adversarial perturbations made at θ + av and at θ − av.

    liu2020, Figs. 3 and 10, with the robust error at both ends. The attack is pgd-10 by default.
    Exit code 3 if the eigenvector has not converged.
    """
    import numpy as np

    from landscape.cli.output import Outputs, Say, describe_loss
    from landscape.cli.resume import Partial
    from landscape.cli.setup import Target
    from landscape.diagnostics import Axis, perturbation_cosine
    from landscape.errors import UsageError
    from landscape.plotting import picture

    low, high = given["a_range"]
    axis = Axis(low, high, given["points"])
    if not 0 <= given["floor"] <= 1:
        raise UsageError(f"--floor is an accuracy in 0..1, got {given['floor']:g}.")
    say = Say(**given)
    name = given["attack"] or "pgd-10"
    files = Outputs(checkpoint, f"cosine-{name}", given)
    target = Target(say, checkpoint, **given)
    objective = target.objective(target.attack(name), refresh="each")
    target.introduce(objective, beside=3 + given["draws"])
    directions = given["directions"]
    if given["dry_run"]:
        count = 2 * len(directions) * given["draws"] * given["points"]
        return say.estimate(objective.value, count, "attacks of all the data", files)
    partial = Partial(files.path, resume=given["resume"], say=say)
    with partial, say.progress("points") as progress:
        result = perturbation_cosine(
            objective,
            directions=directions,
            a=axis,
            draws=given["draws"],
            starts=given["starts"],
            floor=given["floor"],
            seed=given["seed"],
            resume=partial.load(),
            save=partial.save,
            progress=progress,
        )
    columns = ["a"]
    cells: list[list[str]] = []
    for i, direction in enumerate(directions):
        columns += [f"{direction}: cosine", "robust error (%) at +a", "at -a"]
        cells.append([str(e) if e.value == e.value else "–" for e in result.mean(direction)])
        cells += [[f"{100 * e:.1f}" for e in end] for end in result.mean_error(direction)]
        if result.zero_share.any():
            columns.append("zero δ (%)")
            cells.append([f"{100 * z:.3g}" for z in result.zero_share[i].mean(0)])
    found = "" if result.eigenvalue is None else f"; λ_max {result.eigenvalue:.4g}"
    say.table(
        f"perturbations at θ + av and θ − av, {describe_loss(result.provenance.objective)}; "
        f"{given['draws']} draw(s), {given['starts']} starts at both ends{found}",
        columns,
        [[f"{a:.4g}", *row] for a, *row in zip(result.a, *cells, strict=True)],
    )
    say.json(result.to_dict())
    partial.finished(result)
    written = files.save(result, picture([result], [target.path.stem]))
    partial.discard()
    undefined = int(np.isnan(result.cosine).sum())
    if undefined:
        say.warn(f"{undefined} of {result.cosine.size} points have no sample with a perturbation.")
    if not result.near[:, np.abs(result.a).argmin()].all():
        say.warn(
            f"the robust accuracy is below the floor of {100 * given['floor']:g} % even at the "
            "smallest step: the network is not robust to this attack."
        )
    if not result.converged:
        say.warn(f"the eigenvector has not converged: residual {result.residual:.2g}.")
    say.files(written)
    return 0 if result.trustworthy else 3
