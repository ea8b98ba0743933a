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
@click.option(
    "--draws",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Random points around every input for the gradient alignment.",
)
@click.option(
    "--ascent-steps",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Of the searches for the linearity gap and the Lipschitz constant.",
)
@click.option(
    "--ascent-restarts",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Their random starts.",
)
@options.attack_options()
@options.seed
@options.output
def inputs(checkpoint: str, **given: Any) -> int:
    """Slope and curvature of the loss in the input, and how linear it is in a ball around it.

    IG and HS (li2023), gradient alignment, linearity gap (LLR) and local Lipschitz constant, per
    sample. The last three are of the ball of --eps and --norm, by default the training's, and are
    left out where there is no radius. li2023 averages over 2000 samples: --n-examples 2000. With
    --attack, all of it at the adversarial inputs. Exit code 3 if a value has not converged.
    """
    import math

    from landscape.cli.output import Outputs, Say, describe_loss
    from landscape.cli.setup import Target
    from landscape.diagnostics import LocalLinearity, local_linearity
    from landscape.diagnostics import inputs as measure
    from landscape.objective import Objective
    from landscape.plotting import linearity as drawing
    from landscape.plotting import picture

    say = Say(**given)
    parts = ["inputs", given["activation"], given["attack"]]
    files = Outputs(checkpoint, "-".join(p.replace(":", "-") for p in parts if p), given)
    target = Target(say, checkpoint, **given)
    if given["activation"]:
        _exchange(target, given)
    objective = target.objective(target.attack(given["attack"], ball_alone=True))
    ball = target.ball()
    target.introduce(objective)
    choices = {key: given[key] for key in ("top", "method", "n_check", "seed")}

    def around(objective: Objective, progress: Any = None) -> LocalLinearity | None:
        if ball is None or not ball.radius:
            return None
        return local_linearity(
            objective,
            ball,
            draws=given["draws"],
            steps=given["ascent_steps"],
            restarts=given["ascent_restarts"],
            seed=given["seed"],
            progress=progress,
        )

    if given["dry_run"]:
        term = next(objective.terms())
        one = Objective(target.model, [(term.x, term.y)])
        count = math.ceil(objective.batches.samples / len(term.x))
        return say.estimate(lambda: (measure(one, **choices), around(one)), count, "batches", files)
    with say.progress("samples") as progress:
        result = measure(
            objective, **choices, li2023_compatible=given["li2023_compatible"], progress=progress
        )
    with say.progress("samples") as progress:
        slopes = around(objective, progress)
    if slopes is None:
        written = files.save(result, picture([result]))
        say.json({**result.to_dict(), "linearity": None})
    else:
        page = drawing.below_inputs([result], [slopes])
        written = files.save({"/": result, "linearity": slopes}, page)
        say.json({**result.to_dict(), "linearity": slopes.to_dict()})
    say.table(
        f"input gradient and Hessian of the {describe_loss(result.provenance.objective)}, "
        f"{result.method}, {_checked(result)}"
        + (_about(slopes) if slopes else "\nno radius, so nothing of the ball: add --eps 8/255"),
        ["quantity", "mean ± s.e.", "5 %", "median", "95 %", "units"],
        _rows(result, slopes, given["top"]),
    )
    if not result.trustworthy:
        missing = int((~result.converged).sum())
        say.warn(
            f"the eigenvalues of {missing} of {len(result.converged)} samples have not converged "
            f"after {result.products} products: ask for fewer with --top, or use --method dense."
        )
    say.files(written)
    return 0 if result.trustworthy else 3


def _rows(result: Any, slopes: Any, top: int) -> list[list[str]]:
    import numpy as np

    def row(name: str, mean: Any, values: Any, units: str) -> list[str]:
        known = values[np.isfinite(values)]
        found = np.quantile(known, [0.05, 0.5, 0.95]) if len(known) else []
        quantiles = [f"{q:.4g}" for q in found] or ["–"] * 3
        return [name, str(mean) if len(known) else "–", *quantiles, units]

    rows = [
        row("IG, l1 norm", result.mean_ig_l1, result.ig_l1, "loss / input"),
        row("IG, l2 norm", result.mean_ig_l2, result.ig_l2, "loss / input"),
        row(f"HS, top {top} |λ| per sample", result.mean_hs, result.hs, "loss / input²"),
    ]
    if result.hs_li2023 is not None:
        name = f"HS as released by li2023: mean of top {top} pooled over batches of 100"
        rows.append([name, str(result.hs_li2023), "–", "–", "–", "loss / input², n batches"])
    if slopes is not None:
        over = {"linf": "‖δ‖∞", "l2": "‖δ‖₂"}[slopes.norm]
        alignment = slopes.sample_alignment()
        rows += [
            row("gradient alignment", slopes.mean_alignment, alignment, "cosine"),
            row("linearity gap (LLR), at least", slopes.mean_gap, slopes.gap, "loss"),
            row(
                f"local Lipschitz ‖Δf‖₁ / {over}, at least",
                slopes.mean_lipschitz,
                slopes.lipschitz,
                "output / input",
            ),
        ]
    return rows


def _about(slopes: Any) -> str:
    draws = len(slopes.alignment)
    said = f"\nball {slopes.norm}, ε = {slopes.eps:.4g}; gradient alignment of {draws} draw(s)"
    if slopes.undefined_share:
        share = 100 * slopes.undefined_share
        said += f", {share:.3g} % of the cosines undefined (zero gradient)"
    return said


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
    spec = ModelSpec.from_dict(target.checkpoint.model, trust=given["trust_checkpoint"])
    dual = dataclasses.replace(spec, options={**spec.options, "activation": given["activation"]})
    model = target.checkpoint.into(dual.build(seed=0))
    target.model = model.to(device(given["device"]), getattr(torch, given["dtype"])).eval()
    target.model_name = f"{spec.name} with {given['activation']}"
