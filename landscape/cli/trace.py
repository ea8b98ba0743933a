from __future__ import annotations

from typing import Any

import click

from landscape.cli import options

# Rows of the table of layers; the files have them all.
_MOST_LAYERS = 12


@click.command()
@options.target(split="train", several=True)
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
    help="hutchpp and xtrace need fewer products where few eigenvalues make up the trace; "
    "hutchinson also gives the Frobenius norm and every layer's share.",
)
@click.option(
    "--tol", type=options.NUMBER, help="Stop once the standard error is below tol times the trace."
)
@options.memory
@options.attack_options()
@options.seed
@options.output
def trace(checkpoints: tuple[str, ...], **given: Any) -> int:
    """Trace of the Hessian of the loss, in all and layer by layer, with standard errors.

    Several checkpoints go side by side into one table, file and picture. Exit code 3 if a
    standard error exceeds --tol in the end.
    """
    from functools import partial

    import torch

    from landscape.cli import several
    from landscape.cli.output import Say, describe_loss
    from landscape.diagnostics import Trace
    from landscape.diagnostics import trace as measure
    from landscape.operators import Hessian

    say = Say(**given)
    what = "trace" + (f"-{given['attack']}" if given["attack"] else "")
    files = several.outputs(checkpoints, what, given)
    found: dict[str, Trace] = {}
    for name, (target, attack) in several.targets(say, checkpoints, given).items():
        objective = target.objective(attack)
        # Sixteen columns at a time; the sharper methods keep all of theirs.
        vectors = 48 if given["method"] == "hutchinson" else 48 + 2 * given["samples"]
        target.introduce(objective, beside=vectors, memory=given["memory"])
        if given["dry_run"]:
            operator = Hessian(objective, memory=given["memory"])
            probe = torch.ones(operator.size, dtype=operator.dtype, device=operator.device)
            count = given["samples"] * len(checkpoints)
            step = partial(operator.__matmul__, probe)
            return say.estimate(step, count, "Hessian-vector products", files)
        with say.progress("products") as progress:
            found[name] = measure(
                objective,
                given["samples"],
                method=given["method"],
                tol=given["tol"],
                memory=given["memory"],
                seed=given["seed"],
                progress=progress,
            )
    written = several.save(say, files, found)
    first = next(iter(found.values()))
    title = (
        f"trace of the Hessian of the {describe_loss(first.provenance.objective)}, "
        f"{given['method']}, {' + '.join(str(r.products) for r in found.values())} products"
    )
    say.table(title, *_totals(found))
    if first.layer is not None:
        say.table(*_layers(found))
    code = _verdict(say, found, given["tol"])
    say.files(written)
    return code


def _totals(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    columns = ["trace ± standard error"]
    rows = [[str(result.trace)] for result in found.values()]
    if next(iter(found.values())).frobenius is not None:
        columns += ["Frobenius norm ± standard error", "(tr H)² / ‖H‖_F² ± standard error"]
        for row, result in zip(rows, found.values(), strict=True):
            row += [str(result.frobenius), str(result.effective_rank)]
    if len(found) > 1:
        columns = ["checkpoint", *columns]
        rows = [[name, *row] for name, row in zip(found, rows, strict=True)]
    return columns, rows


def _layers(found: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows: a parameter, its size, and its trace in every checkpoint."""
    from landscape.plotting.trace import largest_layers

    names = largest_layers(list(found.values()))
    shown = names[:_MOST_LAYERS]
    title = "\ntrace of every parameter's block of the Hessian" + (
        f", the largest {len(shown)} of {len(names)} (all are in the file)"
        if len(shown) < len(names)
        else ""
    )
    sizes = {
        str(name): int(size)
        for result in found.values()
        for name, size in zip(result.layer, result.layer_size, strict=True)
    }
    layers = {name: result.layers() for name, result in found.items()}
    columns = ["parameter", "entries"]
    for name in found:
        columns.append(f"{name} trace ± s.e." if len(found) > 1 else "trace ± standard error")
    rows = [
        [layer, str(sizes[layer]), *(str(of.get(layer, "–")) for of in layers.values())]
        for layer in shown
    ]
    return title, columns, rows


def _verdict(say: Any, found: dict[str, Any], tol: float | None) -> int:
    """The exit code, with a warning for every estimate that is not as sharp as asked for."""
    code = 0
    for name, result in found.items():
        estimate = result.trace
        if tol and estimate.standard_error > tol * abs(estimate.value):
            say.warn(
                f"{name}: the standard error exceeds tol after {result.products} products: "
                "raise --samples."
            )
            code = 3
    return code
