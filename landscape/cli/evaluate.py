from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@options.target(split="test")
@options.attack_options(multiple=True)
@options.seed
@options.output
def evaluate(checkpoint: str, **given: Any) -> int:
    """Accuracy and loss, clean and under attack, with 95 % intervals."""
    from landscape.cli.output import Outputs, Say, percent
    from landscape.cli.setup import Target
    from landscape.diagnostics import evaluate as measure
    from landscape.plotting import picture

    say = Say(**given)
    files = Outputs(checkpoint, "evaluation", given)
    target = Target(say, checkpoint, **given)
    names = [name.strip() for name in given["attack"].split(",") if name.strip()]
    attacks = {name: target.attack(name) for name in names if name != "clean"}
    objective = target.objective()
    if given["dry_run"]:
        passes = 1 + sum(a.restarts * (3 * a.steps + 2) for a in attacks.values() if a)
        return say.estimate(objective.value, passes, "passes over the data", files)
    with say.progress("attacks") as progress:
        result = measure(objective, attacks, progress=progress)
    rows = []
    for i, name in enumerate(result.attack):
        attack = attacks.get(str(name))
        rows.append(
            [
                str(name),
                f"{attack.ball.norm} {attack.ball.radius:.4g}" if attack else "–",
                percent(result.accuracy[i], result.accuracy_low[i], result.accuracy_high[i]),
                f"{result.loss[i]:.4g} ± {result.loss_standard_error[i]:.2g}",
            ]
        )
    say.table(
        f"{target.path.name} on {target.data_name}/{target.split}, {result.samples} examples",
        ["attack", "ball", "accuracy % [95 % interval]", "loss ± s.e."],
        rows,
    )
    say.json(result.to_dict())
    if result.near_chance:
        say.warn("clean accuracy is near chance: weights, normalisation or data don't match.")
    say.files(files.save(result, picture([result])))
    return 0
