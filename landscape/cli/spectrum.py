from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
@click.option(
    "--per-layer",
    is_flag=True,
    help="Spectra of the diagonal blocks of the Hessian, one per layer.",
)
@click.option(
    "--against",
    type=click.Choice(["epoch", "eps"]),
    help="Draw the checkpoints against the epoch or the radius that they were trained for.",
)
@options.attack_options()
@click.option(
    "--sweep-eps",
    type=options.NUMBERS,
    metavar="E,E,...",
    help="With --attack: measure under each of these radii; 0 is the clean loss.",
)
@options.memory
@click.option(
    "--basis",
    type=click.Choice(["device", "host"]),
    default="device",
    show_default=True,
    help="host: keep Lanczos vectors off the accelerator, in up to --memory more.",
)
@options.seed
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Of several spectra, keep those that an interrupted run of the same settings finished.",
)
@options.output
def spectrum(checkpoints: tuple[str, ...], **given: Any) -> int:
    """Top eigenvalues of the Hessian of the loss, each with its residual.

    With --attack, the Hessian of the adversarial loss with its perturbations held fixed. Several
    checkpoints go side by side into one table, file and picture; the folder of a run that was
    trained with --keep-every becomes a curve over its epochs. Exit code 3 if a value has not
    converged.
    """
    from functools import partial

    import torch

    from landscape.cli.output import Outputs, Say, describe_loss
    from landscape.cli.resume import Partial
    from landscape.diagnostics import Spectrum
    from landscape.diagnostics import spectrum as measure
    from landscape.operators import Hessian
    from landscape.plotting import picture
    from landscape.results import load_all

    say = Say(**given)
    files_of = _files(checkpoints)
    what = "spectrum" + (f"-{given['attack']}" if given["attack"] else "")
    what += "-sweep" * bool(given["sweep_eps"]) + "-layers" * given["per_layer"]
    files = Outputs(checkpoints[0] if len(checkpoints) == 1 else "compared.pt", what, given)
    found: dict[str, Spectrum] = {}
    before: Spectrum | None = None
    partial_file = Partial(files.path, resume=given["resume"], say=say, read=load_all)
    earlier = partial_file.load() or {}
    for point in _points(say, files_of, given):
        if given["dry_run"]:
            operator = Hessian(point.objective, memory=given["memory"])
            probe = torch.ones(operator.size, dtype=operator.dtype, device=operator.device)
            count = given["max_products"] or 20 * given["top"] + 100
            step = partial(operator.__matmul__, probe)
            return say.estimate(step, count, "Hessian-vector products, for each spectrum", files)
        with say.progress(f"{point.name}: eigenvalues converged") as progress:
            result = measure(
                point.objective,
                min(given["top"], point.size) if point.block else given["top"],
                which=given["which"],
                tol=given["tol"],
                max_products=given["max_products"],
                keep_vectors=True,
                engine=given["engine"],
                normaliser=point.normaliser(),
                memory=given["memory"],
                basis=given["basis"],
                # The epoch before is a good start.
                start=before if point.follows and given["engine"] == "lanczos" else None,
                resume=earlier.get(point.name),
                seed=given["seed"],
                progress=progress,
            )
        before = result
        found[point.name] = dataclasses.replace(
            result,
            eigenvectors=result.eigenvectors if given["vectors"] else None,
            block=point.block,
            series=point.series,
            against=point.against,
            position=point.position,
        )
        if point.name not in earlier:
            starts_next = bool(files_of[point.file][1])  # of a run, which needs the vectors
            last = result if starts_next else found[point.name]
            partial_file.keep({**found, point.name: last})
    one = next(iter(found.values()))
    products = [f"{r.products}" for r in found.values()]
    loss = describe_loss(one.provenance.objective)
    if given["sweep_eps"]:
        loss = f"loss under {given['attack']} of growing radius, perturbation held fixed"
    say.table(
        f"{given['which']} eigenvalues of the Hessian of the {loss}, by {one.method}: "
        f"{', '.join(products)} products",
        # Blocks can be smaller than --top, so that their columns would differ in length.
        *(_table(found) if len(found) <= _SIDE_BY_SIDE and not one.block else _long_table(found)),
    )
    if len(found) == 1:
        say.json(one.to_dict())
        written = files.save(one, picture([one]))
    else:
        say.json({name: result.to_dict() for name, result in found.items()})
        written = files.save(found, picture(list(found.values()), list(found)))
    partial_file.discard()
    for name, result in found.items():
        _warn(say, name, result)
    say.files(written)
    return 0 if all(result.trustworthy for result in found.values()) else 3


# Spectra that fit side by side into a table.
_SIDE_BY_SIDE = 3


@dataclass
class Point:
    """One spectrum to measure, and where it belongs in the picture."""

    name: str
    file: str  # its key in ``_files``
    target: Any
    objective: Any
    normalised: bool
    series: str = ""
    against: str = ""
    position: float | None = None
    block: str = ""
    follows: bool = False  # the point before it is the same network a little earlier

    @property
    def size(self) -> int:
        return sum(p.numel() for p in self.objective.params.values())

    def normaliser(self) -> Any:
        return self.target.random_loss(self.objective) if self.normalised else None


def _files(checkpoints: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name to (path, run folder or nothing); a run folder stands for its checkpoints."""
    from pathlib import Path

    from landscape.cli.several import distinct
    from landscape.training import epoch_files

    found: dict[str, tuple[str, str]] = {}
    for name, path in distinct(checkpoints).items():
        if Path(path).is_dir():
            run = Path(path).resolve().name
            found |= {f"{run}-{f.stem}": (str(f), run) for f in epoch_files(path)}
        else:
            found[name] = (path, "")
    return found


def _points(say: Any, files: dict[str, tuple[str, str]], given: dict[str, Any]) -> Iterator[Point]:
    from landscape.cli.setup import Target
    from landscape.errors import UsageError

    sweep = given["sweep_eps"]
    if sweep and not given["attack"]:
        raise UsageError("--sweep-eps needs an attack: add --attack pgd-10, for example.")
    if sweep and (given["against"] or given["per_layer"]):
        raise UsageError("--sweep-eps is an axis of its own: leave out --against and --per-layer.")
    previous = ""
    for name, (path, run) in files.items():
        target = Target(say, path, **given)
        against = "epoch" if run else given["against"] or ""
        point = Point(name, name, target, None, bool(given["normalise"]), run or name)
        if against and not given["per_layer"]:
            point.against = _AXES[against]
            point.position = _position(target.checkpoint, against, name)
            point.series = run or target.checkpoint.method.get("name", "")
            point.follows = bool(run) and run == previous
        previous = run
        if sweep:
            for eps in sweep:
                attack = target.attack(given["attack"], eps=eps) if eps else None
                objective = target.objective(attack)
                if eps == sweep[0]:
                    target.introduce(
                        objective, vectors=5 * given["top"] + 30, memory=given["memory"]
                    )
                point = replace(point, against="attack radius ε", position=eps, objective=objective)
                yield replace(point, name=f"{name}-eps{eps:g}", series=name)
            continue
        objective = target.objective(target.attack(given["attack"]))
        target.introduce(objective, vectors=5 * given["top"] + 30, memory=given["memory"])
        if not given["per_layer"]:
            yield replace(point, objective=objective)
            continue
        for layer, patterns in _layers(objective.params).items():
            part = target.objective(objective.attack, params=patterns)
            yield replace(point, name=f"{name}-{layer}", objective=part, block=layer)


_AXES = {"epoch": "epoch", "eps": "radius ε of the training"}


def _position(checkpoint: Any, against: str, name: str) -> float:
    """Where a checkpoint lies on an axis, from what its training recorded."""
    from landscape.errors import UsageError

    if against == "epoch" and checkpoint.epoch is not None:
        return float(checkpoint.epoch)
    config = checkpoint.method.get("config")
    if against == "eps" and config and "method" in config:
        return float((config["method"]["perturbation"] or {}).get("eps", 0.0))
    raise UsageError(f"{name} does not say its {_AXES[against]}: leave out --against {against}.")


def _layers(names: Iterable[str]) -> dict[str, list[str]]:
    """The parameters of every module, by its name."""
    layers: dict[str, list[str]] = {}
    for name in names:
        layers.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return layers


def _long_table(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A row per spectrum: its outermost and innermost eigenvalue."""
    from landscape.cli.output import number

    k = max(len(result.eigenvalues) for result in found.values())
    columns = ["spectrum", "λ1", "residual", f"λ{k}" if k > 1 else "", "residual", "converged"]
    rows = []
    for name, result in found.items():
        row = [name, number(float(result.eigenvalues[0])), f"{result.residuals[0]:.1e}"]
        last = len(result.eigenvalues) == k and k > 1
        row.append(number(float(result.eigenvalues[-1])) if last else "–")
        row.append(f"{result.residuals[-1]:.1e}" if last else "–")
        row.append(
            "yes"
            if result.converged.all()
            else f"{int(result.converged.sum())} of {len(result.converged)}"
        )
        if result.normaliser is not None:
            row.append(number(float(result.eigenvalues[0]) / result.normaliser.value))
        rows.append(row)
    if len(rows[0]) > len(columns):
        columns.append("λ1 / random loss")
    return columns, rows


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


def _warn(say: Any, name: str, result: Any) -> None:
    missing, top = int((~result.converged).sum()), len(result.converged)
    limit = result.provenance.settings.get("max_products") or 20 * top + 100
    if missing and result.provenance.settings["engine"] == "pyhessian":
        say.warn(
            f"{name}: {missing} of {top} of PyHessian's values are further from eigenvectors than "
            "--tol allows; the default engine converges."
        )
    elif missing and result.products < limit:
        say.warn(
            f"{name}: the rounding errors of {missing} of {top} eigenvalues exceed --tol: measure "
            "with --dtype float64, or allow a larger --tol."
        )
    elif missing:
        say.warn(
            f"{name}: {missing} of {top} eigenvalues have not converged after {result.products} "
            "products: raise --max-products."
        )
    elif not result.complete:
        say.warn(f"{name}: the search for missed repeated eigenvalues was cut short.")
