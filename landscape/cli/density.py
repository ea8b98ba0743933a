from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@options.target(split="train")
@click.option(
    "--probes",
    type=click.IntRange(2),
    default=10,
    show_default=True,
    help="Random vectors; the standard errors are over them.",
)
@click.option(
    "--steps",
    "lanczos_steps",
    type=click.IntRange(1),
    default=80,
    show_default=True,
    help="Lanczos steps per probe, one Hessian-vector product each.",
)
@click.option(
    "--sigma",
    type=options.NUMBER,
    help="Width of the Gaussian kernel. Default: 1 % of the range of the eigenvalues.",
)
@click.option(
    "--probe",
    "kind",
    type=click.Choice(["rademacher", "gaussian"]),
    default="rademacher",
    show_default=True,
    help="Distribution of the random vectors.",
)
@options.attack_options()
@options.seed
@options.output
def density(checkpoint: str, **given: Any) -> int:
    """Spectral density of the Hessian of the loss, with its scatter over random probes.

    With --attack, the Hessian of the adversarial loss with its perturbations held fixed; the
    attack's steps are said in its name (pgd-10).
    """
    import torch

    from landscape.cli.output import Outputs, Say, describe_loss, number
    from landscape.cli.setup import Target
    from landscape.diagnostics import density as measure
    from landscape.operators import Hessian
    from landscape.plotting import picture

    say = Say(**given)
    what = "density" + (f"-{given['attack']}" if given["attack"] else "")
    files = Outputs(checkpoint, what, given)
    target = Target(say, checkpoint, **given, steps=None)
    attack = target.attack(given["attack"])
    objective = target.objective(attack)
    target.introduce(objective)
    if given["dry_run"]:
        operator = Hessian(objective)
        probe = torch.ones(operator.size, dtype=operator.dtype, device=operator.device)
        count = given["probes"] * min(given["lanczos_steps"], operator.size)
        return say.estimate(lambda: operator @ probe, count, "Hessian-vector products", files)
    with say.progress("products") as progress:
        result = measure(
            objective,
            given["probes"],
            given["lanczos_steps"],
            sigma=given["sigma"],
            kind=given["kind"],
            seed=given["seed"],
            progress=progress,
        )
    say.table(
        f"spectral density of the Hessian of the {describe_loss(result.provenance.objective)}, "
        f"{result.parameters} parameters, {result.products} products",
        ["quantity", "value"],
        [
            ["smallest node", number(result.smallest)],
            ["largest node", number(result.largest)],
            ["kernel width σ", number(result.sigma)],
            ["trace ± s.e.", str(result.trace)],
            ["Frobenius norm ± s.e.", str(result.frobenius)],
            ["(tr H)² / ‖H‖_F² ± s.e.", str(result.effective_rank)],
            ["tr H / ‖H‖₂ ± s.e.", str(result.intrinsic_dimension)],
        ],
    )
    say.json(result.to_dict())
    say.files(files.save(result, picture([result])))
    return 0


# --steps are Lanczos's here; those of an attack are in its name.
density.params = [parameter for parameter in density.params if parameter.name != "steps"]
