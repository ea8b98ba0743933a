from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


class Sizes(click.ParamType):
    """Whole numbers from 1, separated by commas."""

    name = "b,b,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            self.fail(f"'{value}' is not a list of sizes: write 1,8,32.", param, ctx)
        return tuple(int(part) for part in parts)


@click.command()
@options.target(split="train")
@click.option(
    "--sub-batch",
    type=Sizes(),
    help="Sizes of the sub-batches whose gradient is the direction of the scores. "
    "Default: those of 1,8,32,128 that the samples allow.",
)
@click.option(
    "--step",
    type=options.NUMBER,
    default=0.01,
    show_default=True,
    help="Length of the scores' step, as a share of the gradient's norm.",
)
@click.option(
    "--form",
    type=click.Choice(["corrected", "printed"]),
    default="corrected",
    show_default=True,
    help="Scores that are right on a quadratic, or the paper's eqs. 19 and 20 as printed.",
)
@click.option(
    "--tol",
    type=options.NUMBER,
    default=1e-3,
    show_default=True,
    help="Converged when the residual is at most tol times the eigenvalue.",
)
@click.option(
    "--max-products",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Give up on a sample after so many Hessian-vector products.",
)
@options.attack_options()
@options.seed
@options.output
def samples(checkpoint: str, **given: Any) -> int:
    """Largest Hessian eigenvalue of every sample's loss, and how well cheap scores rank it.

    With --attack, at the adversarial examples, held fixed. The scores are those of sitawarin2021
    (H-SAT). Exit code 3 if an eigenvalue has not converged.
    """
    from landscape.cli.output import Outputs, Say, describe_loss
    from landscape.cli.setup import Target
    from landscape.diagnostics.sample_hessians import Samples, top_eigenvalues
    from landscape.diagnostics.samples import check_sizes, sample_curvature
    from landscape.plotting import picture
    from landscape.random import Streams

    say = Say(**given)
    what = "samples" + (f"-{given['attack']}" if given["attack"] else "")
    files = Outputs(checkpoint, what, given)
    target = Target(say, checkpoint, **given)
    objective = target.objective(target.attack(given["attack"]))
    n = objective.batches.samples
    sizes = given["sub_batch"] or tuple(b for b in (1, 8, 32, 128) if b <= n)
    check_sizes(sizes, n)
    target.introduce(objective)
    if given["dry_run"]:
        prepared, streams = Samples(objective), Streams(given["seed"], "dry run")
        return say.estimate(
            lambda: top_eigenvalues(prepared, tol=given["tol"], limit=1, streams=streams),
            given["max_products"],
            f"Hessian-vector products for each of {n} samples,",
            files,
        )
    with say.progress("samples, over all passes") as progress:
        result = sample_curvature(
            objective,
            sub_batches=sizes,
            alpha=given["step"],
            form=given["form"],
            tol=given["tol"],
            max_products=given["max_products"],
            seed=given["seed"],
            progress=progress,
        )
    studied = result.provenance.objective
    assert result.converged is not None
    count, missing = len(result.converged), int((~result.converged).sum())
    say.table(
        f"per-sample Hessians of the {describe_loss(studied)}, {studied['model']['theta']} "
        f"parameters: mean λ_max {result.mean_lambda_max}, "
        f"{100 * missing / count:.3g} % not converged\n"
        f"Spearman correlation of the {given['form']} scores with λ_max; of the loss alone: "
        f"{result.spearman_loss}",
        ["sub-batch", "lower", "upper"],
        [
            [str(b), *(_plain(result.correlation(score, int(b))) for score in ("lower", "upper"))]
            for b in result.sub_batch
        ],
    )
    say.json(result.to_dict())
    written = files.save(result, picture([result]))
    unranked = count - int(result.ranked.min())
    if unranked:
        say.warn(f"up to {unranked} samples have no gradient to step along, and no score.")
    drowned = int(result.drowned.max())
    if drowned:
        say.warn(
            f"up to {drowned} of {count} scores are no larger than their rounding error"
            + (": add --dtype float64." if given["dtype"] == "float32" else ": raise --step.")
        )
    if missing:
        say.warn(
            f"{missing} of {count} eigenvalues have not converged after "
            f"{given['max_products']} products: raise --max-products."
        )
    say.files(written)
    return 0 if result.trustworthy else 3


def _plain(estimate: Any) -> str:
    return str(estimate) if estimate.value == estimate.value else f"– (n = {estimate.samples})"
