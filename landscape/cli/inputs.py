from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@options.target(split="train")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--activation",
    metavar="NAME[:NUMBER]",
    help="Same weights, other activation: softplus:10 gives the dual network of li2023.",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "exact", "dense", "lanczos"]),
    default="auto",
    show_default=True,
    help="How Hessians are found; auto takes the exact form where it is verified.",
)
@click.option(
    "--n-check",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Samples on which the exact form is compared with the true Hessian.",
)
@click.option(
    "--li2023-compatible",
    is_flag=True,
    help="Also the number of li2023's code, pooled over batches of 100.",
)
@options.attack_options()
@options.seed
@options.output
def inputs(checkpoint: str, **given: Any) -> int:
    """Slope (IG) and curvature (HS) of the loss in the input, per sample.

    li2023 averages over 2000 samples: --n-examples 2000. With --attack, at the adversarial inputs.
    Exit code 3 if a value has not converged.
    """
    import math

    from landscape.cli.output import Outputs, Say, describe_loss
    from landscape.cli.setup import Target
    from landscape.diagnostics import inputs as measure
    from landscape.objective import Objective
    from landscape.plotting import picture

    say = Say(**given)
    parts = ["inputs", given["activation"], given["attack"]]
    files = Outputs(checkpoint, "-".join(p.replace(":", "-") for p in parts if p), given)
    target = Target(say, checkpoint, **given)
    if given["activation"]:
        _exchange(target, given)
    objective = target.objective(target.attack(given["attack"]))
    target.introduce(objective)
    choices = {key: given[key] for key in ("top", "method", "n_check", "seed")}
    if given["dry_run"]:
        term = next(objective.terms())
        one = Objective(target.model, [(term.x, term.y)])
        count = math.ceil(objective.batches.samples / len(term.x))
        return say.estimate(lambda: measure(one, **choices), count, "batches", files)
    with say.progress("samples") as progress:
        result = measure(
            objective, **choices, li2023_compatible=given["li2023_compatible"], progress=progress
        )
    rows = [
        ["IG, l1 norm", str(result.mean_ig_l1), "loss / input"],
        ["IG, l2 norm", str(result.mean_ig_l2), "loss / input"],
        [f"HS, top {given['top']} |λ| per sample", str(result.mean_hs), "loss / input²"],
    ]
    if result.hs_li2023 is not None:
        name = f"HS as released by li2023: mean of top {given['top']} pooled over batches of 100"
        rows.append([name, str(result.hs_li2023), "loss / input², n batches"])
    say.table(
        f"input gradient and Hessian of the {describe_loss(result.provenance.objective)}, "
        f"{result.method}, {_checked(result)}",
        ["quantity", "mean ± s.e.", "units"],
        rows,
    )
    say.json(result.to_dict())
    written = files.save(result, picture([result]))
    if not result.trustworthy:
        missing = int((~result.converged).sum())
        say.warn(
            f"the eigenvalues of {missing} of {len(result.converged)} samples have not converged "
            f"after {result.products} products: ask for fewer with --top, or use --method dense."
        )
    say.files(written)
    return 0 if result.trustworthy else 3


def _checked(result: Any) -> str:
    if result.disagreement is None:
        return "exact form not tried"
    return (
        f"exact form compared on {result.checked} samples: "
        f"largest disagreement {result.disagreement:.1e}"
    )


def _exchange(target: Any, given: dict[str, Any]) -> None:
    """The checkpoint's weights in its architecture with another activation."""
    import dataclasses

    import torch

    from landscape.cli.setup import device
    from landscape.errors import UsageError
    from landscape.models import ModelSpec

    if target.checkpoint.model is None or given["model"]:
        raise UsageError(
            "--activation rebuilds the architecture that a checkpoint of `landscape train` "
            "describes: it needs such a file, and no --model."
        )
    spec = ModelSpec.from_dict(target.checkpoint.model)
    dual = dataclasses.replace(spec, options={**spec.options, "activation": given["activation"]})
    model = target.checkpoint.into(dual.build(seed=0))
    target.model = model.to(device(given["device"]), getattr(torch, given["dtype"])).eval()
    target.model_name = f"{spec.name} with {given['activation']}"
