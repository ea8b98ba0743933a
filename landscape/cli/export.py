from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@click.argument("file", type=click.Path())
@click.option(
    "--to",
    "form",
    type=click.Choice(["goldstein", "vts", "landscape", "tensorboard"]),
    required=True,
    help="goldstein: HDF5 of tomgoldstein/loss-landscape; vts: ParaView; landscape: back again; "
    "tensorboard: event file of a training's track.h5.",
)
@click.option(
    "--out",
    type=click.Path(),
    help="Default: FILE-goldstein.h5, FILE.vts, FILE-landscape.h5 or the folder FILE-tensorboard.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@options.verbosity
def export(file: str, **given: Any) -> None:
    """Surfaces to and from the formats of other programs, tracks to TensorBoard."""
    from pathlib import Path

    from landscape import exchange
    from landscape.cli.output import Say, of_files
    from landscape.errors import UsageError
    from landscape.results import load

    form, stem = given["form"], Path(file).with_suffix("")
    ending = ".vts" if form == "vts" else f"-{form}" + ".h5" * (form != "tensorboard")
    out = Path(given["out"] or f"{stem}{ending}")
    overwrite = given["overwrite"]
    if form == "landscape":
        with of_files([file]):
            surface = exchange.read_goldstein(file)
        written = surface.save(out, overwrite=overwrite)
    else:
        result: Any = load(file)
        kind = "track" if form == "tensorboard" else "surface"
        if result.kind != kind:
            raise UsageError(f"{file} holds a {result.kind}: --to {form} takes a {kind}.")
        write: Any = {
            "goldstein": exchange.write_goldstein,
            "vts": exchange.write_vts,
            "tensorboard": exchange.write_tensorboard,
        }[form]
        with of_files([file]):
            written = write(result, out, overwrite=overwrite)
    Say(**given).files([written])
