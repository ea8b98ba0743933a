from __future__ import annotations

from typing import Any

import click

from landscape.cli import options

# Rows of the table of layers; the files have them all.
_MOST_LAYERS = 60


@click.command()
@options.target(split="train", several=True)
@click.option(
    "--tol",
    type=options.NUMBER,
    default=0.0,
    show_default=True,
    help="Largest |activation| that counts as zero; smooth activations need one above 0.",
)
@options.attack_options()
@options.seed
@options.output
def neurons(checkpoints: tuple[str, ...], **given: Any) -> int:
    """Dead neurons: units that are zero on all the data, layer by layer, and constant outputs.

    liu2020 §4.1. With --attack, on the adversarial inputs. Several checkpoints go side by side into
    one table, file and picture.
    """
    from landscape.cli import several
    from landscape.cli.output import Say, describe_loss
    from landscape.diagnostics import Neurons
    from landscape.diagnostics import neurons as measure

    say = Say(**given)
    what = "neurons" + (f"-{given['attack']}" if given["attack"] else "")
    files = several.outputs(checkpoints, what, given)
    found: dict[str, Neurons] = {}
    for name, (target, attack) in several.targets(say, checkpoints, given).items():
        objective = target.objective(attack)
        target.introduce(objective)
        if given["dry_run"]:
            return say.estimate(objective.value, len(checkpoints), "passes over the data", files)
        with say.progress("batches") as progress:
            found[name] = measure(objective, tol=given["tol"], progress=progress)
    written = several.save(say, files, found)
    first = next(iter(found.values()))
    say.table(
        f"dead means |a| ≤ {given['tol']:g} on all {first.samples} samples, inputs of the "
        f"{describe_loss(first.provenance.objective)}; such a unit is active on at most "
        f"{100 * first.activation_bound:.2g} % of inputs (95 % confidence)",
        *_totals(found),
    )
    for name, result in found.items():
        _layers(say, name if len(found) > 1 else "", result)
    for name, result in found.items():
        _warn(say, name, result)
    say.files(written)
    return 0


def _totals(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    columns = ["checkpoint", "dead units", "dead layers", "classes predicted", "loss", "log C"]
    rows = [
        [
            name,
            _of(result.dead_units.sum(), result.units.sum()),
            str(int(result.dead_layer.sum())),
            "–" if result.predictions is None else str(result.predictions),
            f"{result.loss:.4g}",
            "–" if result.chance_loss is None else f"{result.chance_loss:.4g}",
        ]
        for name, result in found.items()
    ]
    return columns, rows


def _layers(say: Any, name: str, result: Any) -> None:
    n = len(result.layer)
    more = f", the first {_MOST_LAYERS} of {n} (all are in the file)" if n > _MOST_LAYERS else ""
    rows = [
        [
            str(result.layer[i]),
            str(result.operation[i]),
            str(result.follows[i]),
            _of(result.dead_units[i], result.units[i]),
            _of(result.dead_positions[i], result.positions[i]),
            f"{100 * result.zero_share[i]:.2f} ± {100 * result.zero_share_standard_error[i]:.2g}",
        ]
        for i in range(min(n, _MOST_LAYERS))
    ]
    say.table(
        f"\n{name + ': ' if name else ''}activation by activation{more}",
        ["layer", "function", "after", "dead units", "dead positions", "zeros (%) ± s.e."],
        rows,
    )


def _of(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)"


def _warn(say: Any, name: str, result: Any) -> None:
    dead = [str(layer) for layer in result.layer[result.dead_layer.astype(bool)]]
    if dead:
        say.warn(f"{name}: every unit is dead in {', '.join(dead)}.")
    if result.constant_output:
        say.warn(f"{name}: the outputs do not depend on the input: a constant function.")
    elif result.constant_prediction:
        say.warn(f"{name}: all {result.samples} samples are given the same class.")
    if (result.constant_output or result.constant_prediction) and result.chance_loss is not None:
        say.warn(
            f"{name}: its loss is {result.loss:.4g}; a constant classifier on balanced classes "
            f"reaches log C = {result.chance_loss:.4g} at best."
        )
