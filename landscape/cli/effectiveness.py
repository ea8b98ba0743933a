from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


class Percentages(click.ParamType):
    """Percentages in 0..100, separated by commas, as fractions."""

    name = "p,p,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        if not value.strip():
            return ()
        found = options.NUMBERS.convert(value, param, ctx)
        for p in found:
            if not 0 <= p <= 100:
                self.fail(f"'{value}': percentages lie in 0..100.", param, ctx)
        return tuple(p / 100 for p in found)


@click.command()
@options.target(split="train", several=True)
@click.option(
    "--attack",
    default="fgsm,pgd-10",
    show_default=True,
    help="Attacks to assess, separated by commas.",
)
@click.option(
    "--reference",
    default="pgd-50",
    show_default=True,
    help="Stands in for the largest rise of the loss; more restarts: pgd-50x5.",
)
@click.option("--norm", type=click.Choice(["linf", "l2"]), help="Default: the training's.")
@click.option("--eps", type=options.NUMBER, help="Radius in [0, 1] units. Default: the training's.")
@click.option(
    "--scale",
    type=Percentages(),
    default="",
    help="Also perturbations of p % of their size, for example 0,25,50,75.",
)
@click.option(
    "--flip",
    type=Percentages(),
    default="",
    help="Also with p % of their signs flipped, for example 10,20,30,40,50.",
)
@click.option(
    "--threshold",
    type=options.NUMBER,
    default=1e-3,
    show_default=True,
    help="Samples that the reference raises by no more are left out of the mean of ratios.",
)
@options.seed
@options.output
def effectiveness(checkpoints: tuple[str, ...], **given: Any) -> int:
    """How much of a strong attack's rise in the loss other attacks reach (li2023 eq. 7).

    With the adversarial variance and the robust accuracy under each, and with --scale and --flip
    of weakened perturbations. li2023 takes 2000 training samples: --n-examples 2000. Several
    checkpoints go side by side into one table, file and picture. Exit code 3 if the reference
    raises the loss of no sample.
    """
    from functools import partial

    from landscape.cli import several
    from landscape.cli.output import Say
    from landscape.cli.setup import Target
    from landscape.diagnostics import Effectiveness
    from landscape.diagnostics import effectiveness as measure
    from landscape.errors import UsageError

    say = Say(**given)
    names = [name.strip() for name in given["attack"].split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"--attack '{given['attack']}': name each attack once, as fgsm,pgd-10.")
    # Steps and restarts are in the names, so that the reference has its own.
    given |= {"alpha": None, "steps": None, "restarts": None}
    files = several.outputs(checkpoints, "effectiveness", given)
    targets = {
        name: Target(say, path, **given) for name, path in several.distinct(checkpoints).items()
    }
    attacks: dict[str, dict[str, Any]] = {
        name: {attack: target.attack(attack) for attack in (given["reference"], *names)}
        for name, target in targets.items()
    }
    found: dict[str, Effectiveness] = {}
    for name, target in targets.items():
        objective = target.objective()
        target.introduce(objective)
        choices = {
            "scales": given["scale"],
            "flips": given["flip"],
            "threshold": given["threshold"],
            "reference_name": given["reference"],
            "seed": given["seed"],
        }
        assessed = {attack: attacks[name][attack] for attack in names}
        reference = attacks[name][given["reference"]]
        if given["dry_run"]:
            from landscape.objective import Objective

            term = next(objective.terms())
            one = Objective(target.model, [(term.x, term.y)])
            count = -(-objective.batches.samples // len(term.x)) * len(targets)
            step = partial(measure, one, assessed, reference, **choices)
            return say.estimate(step, count, "batches", files)
        with say.progress("samples") as progress:
            found[name] = measure(objective, assessed, reference, **choices, progress=progress)
    written = several.save(say, files, found)
    first = next(iter(attacks.values()))[given["reference"]]
    say.table(
        f"rise of the loss under attack ({first.ball.norm}, ε = {first.ball.radius:.4g}) against "
        f"{given['reference']}; the mean of ratios is of samples that it raises by more than "
        f"{given['threshold']:g}",
        *_rows(found),
    )
    if given["scale"] or given["flip"]:
        say.table("\nweakened perturbations: mean of ratios ± s.e.", *_weakened(found))
    for name, result in found.items():
        if result.lowered_share:
            say.warn(
                f"{name}: {given['reference']} lowered the loss of "
                f"{100 * result.lowered_share:.3g} % of the samples: a stronger reference is "
                "needed, for example pgd-50x5."
            )
    empty = [name for name, result in found.items() if not result.included.any()]
    for name in empty:
        say.warn(f"{name}: {given['reference']} raises no sample's loss above the threshold.")
    say.files(written)
    return 3 if empty else 0


def _rows(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row per checkpoint and attack, the reference last."""
    from landscape.cli.output import percent

    columns = [
        "attack",
        "robust accuracy %",
        "AV ± s.e.",
        "mean of ratios (eq. 7)",
        "ratio of means",
        "excluded %",
    ]
    rows = []
    for name, result in found.items():
        for attack in [*map(str, result.attack), None]:
            ratios = ["1 (reference)", "1 (reference)"]
            if attack is not None:
                estimates = result.mean_ratio(attack), result.ratio_of_means(attack)
                ratios = [str(e) if e.value == e.value else "–" for e in estimates]
            variance = result.reference_variance if attack is None else result.variance(attack)
            rows.append(
                [
                    *([name] if len(found) > 1 else []),
                    attack or result.reference,
                    percent(*result.accuracy(attack)),
                    str(variance),
                    *ratios,
                    f"{100 * result.excluded_share:.3g}",
                ]
            )
    return [*(["checkpoint"] if len(found) > 1 else []), *columns], rows


def _weakened(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row per weakening, a column per checkpoint and attack."""
    first = next(iter(found.values()))
    columns = ["size %", "signs flipped %"]
    columns += [
        f"{name} {attack}" if len(found) > 1 else str(attack)
        for name, result in found.items()
        for attack in result.attack
    ]
    rows = []
    for w, (scale, flip) in enumerate(zip(first.scale, first.flip, strict=True)):
        row = [f"{100 * scale:.4g}", f"{100 * flip:.4g}"]
        for result in found.values():
            for attack in map(str, result.attack):
                estimate = result.mean_ratio(attack, w)
                row.append(str(estimate) if estimate.value == estimate.value else "–")
        rows.append(row)
    return columns, rows
