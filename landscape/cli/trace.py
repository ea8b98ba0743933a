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
    help="Most random probes, one Hessian-vector product each.",
)
@click.option(
    "--tol", type=options.NUMBER, help="Stop once the standard error is below tol times the trace."
)
@options.attack_options()
@options.seed
@options.output
def trace(checkpoint: str, **given: Any) -> int:
    """Trace of the Hessian of the loss, with its standard error (Hutchinson)."""
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
    with say.progress("probes") as progress:
        result = measure(
            objective, given["samples"], tol=given["tol"], seed=given["seed"], progress=progress
        )
    say.table(
        f"trace of the Hessian of the {describe_loss(result.provenance.objective)}",
        ["trace ± standard error"],
        [[str(result.trace)]],
    )
    say.json(result.to_dict())
    say.files(files.save(result, picture([result])))
    estimate = result.trace
    if given["tol"] and estimate.standard_error > given["tol"] * abs(estimate.value):
        say.warn(
            f"the standard error exceeds tol after {estimate.samples} probes: raise --samples."
        )
        return 3
    return 0
