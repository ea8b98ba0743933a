from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from landscape.cli import options


@click.command()
@options.target(split="train", several=True)
@click.option(
    "--probes",
    type=click.IntRange(2),
    default=10,
    show_default=True,
    help="Random vectors; the standard errors are over them.",
)
@click.option(
    "--steps",
    "lanczos_steps",
    type=click.IntRange(1),
    default=80,
    show_default=True,
    help="Lanczos steps per probe, one Hessian-vector product each.",
)
@click.option(
    "--sigma",
    type=options.NUMBER,
    help="Width of the Gaussian kernel. Default: 1 % of the range of the eigenvalues.",
)
@click.option(
    "--probe",
    "kind",
    type=click.Choice(["rademacher", "gaussian"]),
    default="rademacher",
    show_default=True,
    help="Distribution of the random vectors.",
)
@click.option(
    "--outliers",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Eigenvalues of largest magnitude to find one by one and mark; 0 for none.",
)
@options.memory
@options.attack_options()
@options.seed
@options.output
def density(checkpoints: tuple[str, ...], **given: Any) -> int:
    """Spectral density of the Hessian of the loss, and its outermost eigenvalues.

    Several checkpoints go into one table, file and picture, with one kernel width so that heights
    compare. With --attack, the Hessian of the adversarial loss with its perturbations held fixed;
    the attack's steps are said in its name (pgd-10). Exit code 3 if an outlier has not converged.
    """
    from functools import partial

    import torch

    from landscape.cli import several
    from landscape.cli.output import Say, describe_loss
    from landscape.diagnostics import Density
    from landscape.diagnostics import density as measure
    from landscape.diagnostics.densities import with_common_width
    from landscape.operators import Hessian

    say = Say(**given)
    what = "density" + (f"-{given['attack']}" if given["attack"] else "")
    files = several.outputs(checkpoints, what, given)
    found: dict[str, Density] = {}
    targets = several.targets(say, checkpoints, {**given, "steps": None})
    for name, (target, attack) in targets.items():
        objective = target.objective(attack)
        # Beside what products keep.
        vectors = max(given["lanczos_steps"], 4 * given["outliers"] + 20)
        target.introduce(objective, beside=vectors, memory=given["memory"])
        if given["dry_run"]:
            operator = Hessian(objective, memory=given["memory"])
            probe = torch.ones(operator.size, dtype=operator.dtype, device=operator.device)
            count = given["probes"] * min(given["lanczos_steps"], operator.size)
            if given["outliers"]:
                count += 20 * given["outliers"] + 100
            step = partial(operator.__matmul__, probe)
            return say.estimate(step, count * len(checkpoints), "Hessian-vector products", files)
        with say.progress("products") as progress:
            found[name] = measure(
                objective,
                given["probes"],
                given["lanczos_steps"],
                sigma=given["sigma"],
                kind=given["kind"],
                outliers=given["outliers"],
                memory=given["memory"],
                seed=given["seed"],
                progress=progress,
            )
    if len(found) > 1 and given["sigma"] is None:
        found = dict(zip(found, with_common_width(list(found.values())), strict=True))
    written = several.save(say, files, found)
    first = next(iter(found.values()))
    say.table(
        f"spectral density of the Hessian of the {describe_loss(first.provenance.objective)}",
        *_quantities(found),
    )
    if first.outliers is not None:
        say.table("\neigenvalues of largest magnitude", *_outliers(found))
    code = _verdict(say, found)
    say.files(written)
    return code


def _quantities(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: a quantity, and its value of every checkpoint."""
    from landscape.cli.output import number

    results = list(found.values())
    alike = len(results) > 1 and len({result.sigma for result in results}) == 1
    rows: list[tuple[str, Callable[[Any], str]]] = [
        ("smallest eigenvalue", lambda r: _end(r, r.smallest)),
        ("largest eigenvalue", lambda r: _end(r, r.largest)),
        ("kernel width σ" + alike * ", the same for all", lambda r: number(r.sigma)),
        ("trace ± s.e.", lambda r: str(r.trace)),
        ("Frobenius norm ± s.e.", lambda r: str(r.frobenius)),
        ("(tr H)² / ‖H‖_F² ± s.e.", lambda r: str(r.effective_rank)),
        ("tr H / ‖H‖₂ ± s.e.", lambda r: str(r.intrinsic_dimension)),
        ("parameters", lambda r: str(r.parameters)),
        ("Hessian-vector products", lambda r: str(r.products)),
    ]
    if results[0].outliers is not None:
        rows.insert(2, ("spectral norm ‖H‖₂", lambda r: _end(r, r.spectral_norm)))
    columns = ["quantity", *(found if len(found) > 1 else ["value"])]
    return columns, [[quantity, *map(value, results)] for quantity, value in rows]


def _end(result: Any, value: float) -> str:
    """An eigenvalue with its residual, or with the remark that it is a node of the quadrature."""
    from landscape.cli.output import number

    if result.outliers is not None:
        for outlier, residual in zip(result.outliers, result.outlier_residuals, strict=True):
            if abs(outlier) == abs(value):
                return f"{number(value)} (residual {residual:.1e})"
    return f"{number(value)} (a node)"


def _outliers(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows: per checkpoint eigenvalue, residual and flag."""
    from landscape.cli.output import number

    most = max(len(result.outliers) for result in found.values())
    columns, rows = ["index"], [[str(i + 1)] for i in range(most)]
    for name, result in found.items():
        columns += [
            f"{name} eigenvalue" if len(found) > 1 else "eigenvalue",
            "residual",
            "converged",
        ]
        for i, row in enumerate(rows):
            if i >= len(result.outliers):
                row += ["–"] * 3
                continue
            row += [number(float(result.outliers[i])), f"{result.outlier_residuals[i]:.1e}"]
            row.append("yes" if result.outlier_converged[i] else "NO")
    return columns, rows


def _verdict(say: Any, found: dict[str, Any]) -> int:
    """The exit code, with a warning for every checkpoint whose outliers can't be trusted."""
    for name, result in found.items():
        if result.trustworthy:
            continue
        missing = int((~result.outlier_converged).sum())
        say.warn(
            f"{name}: {missing} of {len(result.outliers)} outliers have not converged: ask for "
            "fewer with --outliers, or use `landscape spectrum --which magnitude`."
            if missing
            else f"{name}: the search for missed repeated outliers was cut short."
        )
    return 0 if all(result.trustworthy for result in found.values()) else 3


# --steps are Lanczos's here; those of an attack are in its name.
density.params = [parameter for parameter in density.params if parameter.name != "steps"]
