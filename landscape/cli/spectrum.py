from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@options.target(split="train", several=True)
@click.option("--top", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--which",
    type=click.Choice(["largest", "smallest", "magnitude"]),
    default="largest",
    show_default=True,
    help="Algebraically largest or smallest, or largest in magnitude.",
)
@click.option(
    "--tol",
    type=options.NUMBER,
    default=1e-3,
    show_default=True,
    help="Converged when the residual is at most tol times the eigenvalue.",
)
@click.option(
    "--max-products", type=click.IntRange(1), help="Give up after so many Hessian-vector products."
)
@click.option("--vectors", is_flag=True, help="Save the eigenvectors too.")
@click.option(
    "--engine",
    type=click.Choice(["lanczos", "pyhessian"]),
    default="lanczos",
    show_default=True,
    help="pyhessian runs PyHessian's power iteration, for comparison with the literature.",
)
@click.option(
    "--normalise",
    type=click.Choice(["random-init"]),
    help="Also divide by the mean loss of 10 random initialisations (liu2020).",
)
@options.attack_options()
@options.seed
@options.output
def spectrum(checkpoints: tuple[str, ...], **given: Any) -> int:
    """Top eigenvalues of the Hessian of the loss, each with its residual.

    With --attack, the Hessian of the adversarial loss with its perturbations held fixed. Several
    checkpoints go side by side into one table, file and picture. Exit code 3 if a value has not
    converged.
    """
    from functools import partial
    from pathlib import Path

    import torch

    from landscape.cli.output import Outputs, Say, describe_loss
    from landscape.cli.setup import Target
    from landscape.diagnostics import Spectrum
    from landscape.diagnostics import spectrum as measure
    from landscape.errors import UsageError
    from landscape.operators import Hessian
    from landscape.plotting import picture

    say = Say(**given)
    names = [Path(c).stem for c in checkpoints]
    if len(set(names)) < len(names):  # best.pt of several runs
        names = [f"{Path(c).parent.name}-{Path(c).stem}" for c in checkpoints]
    if len(set(names)) < len(names):
        raise UsageError("two checkpoints have the same name and folder: rename one.")
    what = "spectrum" + (f"-{given['attack']}" if given["attack"] else "")
    files = Outputs(checkpoints[0] if len(names) == 1 else "compared.pt", what, given)
    found: dict[str, Spectrum] = {}
    for name, path in zip(names, checkpoints, strict=True):
        target = Target(say, path, **given)
        objective = target.objective(target.attack(given["attack"]))
        target.introduce(objective)
        if given["dry_run"]:
            operator = Hessian(objective)
            probe = torch.ones(operator.size, dtype=operator.dtype, device=operator.device)
            count = given["max_products"] or 20 * given["top"] + 100
            step = partial(operator.__matmul__, probe)
            return say.estimate(step, count, "Hessian-vector products", files)
        with say.progress("eigenvalues converged") as progress:
            found[name] = measure(
                objective,
                given["top"],
                which=given["which"],
                tol=given["tol"],
                max_products=given["max_products"],
                keep_vectors=given["vectors"],
                engine=given["engine"],
                normaliser=target.random_loss(objective) if given["normalise"] else None,
                seed=given["seed"],
                progress=progress,
            )
    first = next(iter(found.values()))
    say.table(
        f"{given['which']} eigenvalues of the Hessian of the "
        f"{describe_loss(first.provenance.objective)}, by {first.method}: "
        + ", ".join(f"{r.products} products" for r in found.values()),
        *_table(found),
    )
    if len(found) == 1:
        say.json(first.to_dict())
        written = files.save(first, picture([first]))
    else:
        say.json({name: result.to_dict() for name, result in found.items()})
        written = files.save(found, picture(list(found.values()), names))
    for name, result in found.items():
        _warn(say, name, result, given["top"])
    say.files(written)
    return 0 if all(result.trustworthy for result in found.values()) else 3


def _table(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: per checkpoint eigenvalue, residual, flag, and value over random loss."""
    from landscape.cli.output import number

    columns = ["index"]
    rows = [[str(i + 1)] for i in range(len(next(iter(found.values())).eigenvalues))]
    for name, result in found.items():
        label = f"{name} " if len(found) > 1 else ""
        columns += [f"{label}eigenvalue", "residual", "converged"]
        if result.normaliser is not None:
            columns.append(f"/ ({result.normaliser})")
        for i, row in enumerate(rows):
            value = float(result.eigenvalues[i])
            row += [number(value), f"{result.residuals[i]:.1e}"]
            row.append("yes" if result.converged[i] else "NO")
            if result.normaliser is not None:
                row.append(number(value / result.normaliser.value))
    return columns, rows


def _warn(say: Any, name: str, result: Any, top: int) -> None:
    missing = int((~result.converged).sum())
    if missing and result.provenance.settings["engine"] == "pyhessian":
        say.warn(
            f"{name}: {missing} of {top} of PyHessian's values are further from eigenvectors than "
            "--tol allows; the default engine converges."
        )
    elif missing:
        say.warn(
            f"{name}: {missing} of {top} eigenvalues have not converged after {result.products} "
            "products: raise --max-products."
        )
    elif not result.complete:
        say.warn(f"{name}: the search for missed repeated eigenvalues was cut short.")
