from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@options.target(split="test", several=True)
@click.option(
    "--n", type=click.IntRange(1, 20), default=8, show_default=True, help="Images, drawn by --seed."
)
@options.attack_options()
@options.seed
@options.output
def examples(checkpoints: tuple[str, ...], **given: Any) -> int:
    """Adversarial examples: a sheet of clean images, perturbations and what they become.

    The attack is pgd-20 by default. Several checkpoints add rows for the same images; the file
    keeps the arrays.
    """
    from functools import partial

    from landscape.cli import several
    from landscape.cli.output import Say
    from landscape.diagnostics import Examples, adversarial_examples
    from landscape.plotting.sheets import as_images

    say = Say(**given)
    given["attack"] = given["attack"] or "pgd-20"
    files = several.outputs(checkpoints, f"examples-{given['attack']}", given)
    found: dict[str, Examples] = {}
    for name, (target, attack) in several.targets(say, checkpoints, given).items():
        objective = target.objective(attack)
        as_images(next(iter(objective.batches))[0].cpu())
        target.introduce(objective)
        if given["dry_run"]:
            return say.estimate(
                partial(adversarial_examples, objective, 1, seed=given["seed"]),
                given["n"] * len(checkpoints),
                "attacks on one image",
                files,
            )
        found[name] = adversarial_examples(objective, given["n"], seed=given["seed"])
    written = several.save(say, files, found)
    several_rows = len(found) > 1
    for name, result in found.items():
        ball = result.provenance.objective["attack"]
        wrong = int((result.adversarial_prediction != result.labels).sum())
        say.table(
            ("" if name == next(iter(found)) else "\n")
            + (f"{name}: " if several_rows else "")
            + f"{given['attack']} ({ball['norm']}, ε = {ball['eps']:.4g}, {ball['steps']} steps) "
            f"on {len(result.labels)} images; {wrong} of them wrong under attack",
            ["sample", "label", "clean", "confidence", "adversarial", "confidence"],
            [
                [str(i), str(y), str(a), f"{p:.4f}", str(b), f"{q:.4f}"]
                for i, y, a, p, b, q in zip(
                    result.index,
                    result.labels,
                    result.clean_prediction,
                    result.clean_confidence,
                    result.adversarial_prediction,
                    result.adversarial_confidence,
                    strict=True,
                )
            ],
        )
    say.files(written)
    return 0
