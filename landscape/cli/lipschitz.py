from __future__ import annotations

from typing import Any

import click

from landscape.cli import options

# Rows of the table of layers; the files have them all.
_MOST_LAYERS = 60


@click.command()
@options.target(split="train", several=True)
@click.option(
    "--refine",
    type=click.Choice(["product", "fused", "seqlip"]),
    default="fused",
    show_default=True,
    help="product: every layer's norm alone; fused: neighbouring linear layers as one matrix; "
    "seqlip: pairs of layers around an activation too, at twice the cost or more.",
)
@click.option(
    "--tol",
    type=options.NUMBER,
    default=5e-3,
    show_default=True,
    help="Share by which a layer's certified bound may exceed the estimate of its norm.",
)
@click.option(
    "--lanczos-steps",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Most products per norm; about 150 are needed.",
)
@click.option(
    "--samples",
    type=click.IntRange(2),
    default=256,
    show_default=True,
    help="Data points whose Jacobians bound the constant from below.",
)
@click.option(
    "--pairs",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Random pairs of these points, for the same.",
)
@options.attack_options()
@options.seed
@options.output
def lipschitz(checkpoints: tuple[str, ...], **given: Any) -> int:
    """Lipschitz constant of the network: certified upper bound, sampled lower bound.

    liu2022 Table 6. In the l2 norms of input and outputs; with --attack the samples are
    adversarial. Several checkpoints go side by side into one table, file and picture. Exit code 3
    if a layer's norm has not converged: the bound still holds.
    """
    from functools import partial

    from landscape.cli import several
    from landscape.cli.output import Say, number
    from landscape.diagnostics import Lipschitz
    from landscape.diagnostics import lipschitz as measure
    from landscape.results import Estimate

    say = Say(**given)
    what = "lipschitz" + (f"-{given['attack']}" if given["attack"] else "")
    files = several.outputs(checkpoints, what, given)
    found: dict[str, Lipschitz] = {}
    chosen = {key: given[key] for key in ("refine", "tol", "samples", "pairs", "seed")}
    for name, (target, attack) in several.targets(say, checkpoints, given).items():
        objective = target.objective(attack)
        target.introduce(objective)
        if given["dry_run"]:
            step = partial(measure, objective, **chosen, steps=1)
            if not (step().certificate == "lanczos").any():
                return say.estimate(step, len(checkpoints), "networks", files)
            return say.estimate(step, 150 * len(checkpoints), "products with all layers", files)
        with say.progress("operations") as progress:
            found[name] = measure(
                objective, **chosen, steps=given["lanczos_steps"], progress=progress
            )
    written = several.save(say, files, found)
    say.table(
        f"l2 Lipschitz constant from input to outputs, {given['refine']} bound; samples "
        + ("clean" if given["attack"] is None else f"under {given['attack']}"),
        [
            "checkpoint",
            "upper bound",
            "uncertified",
            "lower bound",
            "‖J(x)‖ mean ± s.e.",
            "P(bound fails)",
        ],
        [
            [
                name,
                number(result.upper),
                number(result.estimate),
                number(result.lower),
                str(Estimate.of(result.jacobian)),
                f"{result.failure:.2g}",
            ]
            for name, result in found.items()
        ],
    )
    for name, result in found.items():
        _layers(say, name if len(found) > 1 else "", result)
    code = 0
    for name, result in found.items():
        if not result.trustworthy:
            loose = int((~result.converged).sum())
            say.warn(
                f"{name}: {loose} of {len(result.layer)} layers' norms have not converged within "
                "tol; the upper bound holds but is loose: raise --lanczos-steps or --tol."
            )
            code = 3
    say.files(written)
    return code


def _layers(say: Any, name: str, result: Any) -> None:
    from landscape.cli.output import number

    n = len(result.layer)
    more = f", the first {_MOST_LAYERS} of {n} (all are in the file)" if n > _MOST_LAYERS else ""
    say.table(
        f"\n{name + ': ' if name else ''}layer by layer{more}",
        ["layer", "kind", "entries in → out", "norm", "certified", "by", "converged", "bound here"],
        [
            [
                str(layer),
                str(kind),
                f"{a} → {b}",
                "–" if upper != upper else number(estimate),
                "–" if upper != upper else number(upper),
                str(by),
                "yes" if converged else "no",
                number(bound),
            ]
            for layer, kind, a, b, estimate, upper, by, converged, bound in list(
                zip(
                    result.layer,
                    result.operation,
                    result.inputs,
                    result.outputs,
                    result.slope_estimate,
                    result.slope_upper,
                    result.certificate,
                    result.converged,
                    result.bound,
                    strict=True,
                )
            )[:_MOST_LAYERS]
        ],
    )
