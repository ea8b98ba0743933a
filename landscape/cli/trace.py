from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@options.target(split="train")
@click.option(
    "--samples",
    type=click.IntRange(2),
    default=200,
    show_default=True,
    help="Most Hessian-vector products; with hutchinson, random probes.",
)
@click.option(
    "--method",
    type=click.Choice(["hutchinson", "hutchpp", "xtrace"]),
    default="hutchinson",
    show_default=True,
    help="hutchpp and xtrace need fewer products where few eigenvalues make up the trace.",
)
@click.option(
    "--tol", type=options.NUMBER, help="Stop once the standard error is below tol times the trace."
)
@options.attack_options()
@options.seed
@options.output
def trace(checkpoint: str, **given: Any) -> int:
    """Trace of the Hessian of the loss, with its standard error.

    Exit code 3 if the standard error exceeds --tol in the end.
    """
    import torch

    from landscape.cli.output import Outputs, Say, describe_loss
    from landscape.cli.setup import Target
    from landscape.diagnostics import trace as measure
    from landscape.operators import Hessian
    from landscape.plotting import picture

    say = Say(**given)
    what = "trace" + (f"-{given['attack']}" if given["attack"] else "")
    files = Outputs(checkpoint, what, given)
    target = Target(say, checkpoint, **given)
    attack = target.attack(given["attack"])
    objective = target.objective(attack)
    target.introduce(objective)
    if given["dry_run"]:
        operator = Hessian(objective)
        probe = torch.ones(operator.size, dtype=operator.dtype, device=operator.device)
        count = given["samples"]
        return say.estimate(lambda: operator @ probe, count, "Hessian-vector products", files)
    with say.progress("products") as progress:
        result = measure(
            objective,
            given["samples"],
            method=given["method"],
            tol=given["tol"],
            seed=given["seed"],
            progress=progress,
        )
    columns, values = ["trace ± standard error"], [str(result.trace)]
    if result.frobenius is not None:
        columns.append("Frobenius norm ± standard error")
        values.append(str(result.frobenius))
    say.table(
        f"trace of the Hessian of the {describe_loss(result.provenance.objective)}, "
        f"{given['method']}, {result.products} products",
        columns,
        [values],
    )
    say.json(result.to_dict())
    say.files(files.save(result, picture([result])))
    estimate = result.trace
    if given["tol"] and estimate.standard_error > given["tol"] * abs(estimate.value):
        say.warn(
            f"the standard error exceeds tol after {result.products} products: raise --samples."
        )
        return 3
    return 0
