from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@options.target(split="train")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--which",
    type=click.Choice(["largest", "smallest", "magnitude"]),
    default="largest",
    show_default=True,
    help="Algebraically largest or smallest, or largest in magnitude.",
)
@click.option(
    "--tol",
    type=options.NUMBER,
    default=1e-3,
    show_default=True,
    help="Converged when the residual is at most tol times the eigenvalue.",
)
@click.option(
    "--max-products", type=click.IntRange(1), help="Give up after so many Hessian-vector products."
)
@click.option("--vectors", is_flag=True, help="Save the eigenvectors too.")
@options.attack_options()
@options.seed
@options.output
def spectrum(checkpoint: str, **given: Any) -> int:
    """Top eigenvalues of the Hessian of the loss, each with its residual.

    With --attack, the Hessian of the adversarial loss with its perturbations held fixed. Exit code
    3 if a value has not converged.
    """
    import torch

    from landscape.cli.output import Outputs, Say, describe_loss, number
    from landscape.cli.setup import Target
    from landscape.diagnostics import spectrum as measure
    from landscape.operators import Hessian
    from landscape.plotting import picture

    say = Say(**given)
    what = "spectrum" + (f"-{given['attack']}" if given["attack"] else "")
    files = Outputs(checkpoint, what, given)
    target = Target(say, checkpoint, **given)
    attack = target.attack(given["attack"])
    objective = target.objective(attack)
    target.introduce(objective)
    if given["dry_run"]:
        operator = Hessian(objective)
        probe = torch.ones(operator.size, dtype=operator.dtype, device=operator.device)
        count = given["max_products"] or 20 * given["top"] + 100
        return say.estimate(lambda: operator @ probe, count, "Hessian-vector products", files)
    with say.progress("eigenvalues converged") as progress:
        result = measure(
            objective,
            given["top"],
            which=given["which"],
            tol=given["tol"],
            max_products=given["max_products"],
            keep_vectors=given["vectors"],
            seed=given["seed"],
            progress=progress,
        )
    studied = result.provenance.objective
    say.table(
        f"{given['which']} eigenvalues of the Hessian of the {describe_loss(studied)}, "
        f"{studied['model']['theta']} parameters, {result.products} products",
        ["index", "eigenvalue", "residual", "converged"],
        [
            [str(i + 1), number(value), f"{residual:.1e}", "yes" if ok else "NO"]
            for i, (value, residual, ok) in enumerate(
                zip(result.eigenvalues, result.residuals, result.converged, strict=True)
            )
        ],
    )
    say.json(result.to_dict())
    written = files.save(result, picture([result]))
    if not result.trustworthy:
        missing = int((~result.converged).sum())
        say.warn(
            f"{missing} of {given['top']} eigenvalues have not converged after {result.products} "
            "products: raise --max-products."
            if missing
            else "the search for missed repeated eigenvalues was cut short: raise --max-products."
        )
    say.files(written)
    return 0 if result.trustworthy else 3
