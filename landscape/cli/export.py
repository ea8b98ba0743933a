from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@click.argument("file", type=click.Path())
@click.option(
    "--to",
    "form",
    type=click.Choice(["goldstein", "vts", "landscape"]),
    required=True,
    help="goldstein: HDF5 of tomgoldstein/loss-landscape; vts: ParaView; landscape: back again.",
)
@click.option(
    "--out", type=click.Path(), help="Default: FILE-goldstein.h5, FILE.vts or FILE-landscape.h5."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@options.verbosity
def export(file: str, **given: Any) -> None:
    """Surfaces to and from the formats of other programs."""
    from pathlib import Path

    from landscape import exchange
    from landscape.cli.output import Say
    from landscape.errors import UsageError
    from landscape.results import load

    form, stem = given["form"], Path(file).with_suffix("")
    ending = {"vts": ".vts", "goldstein": "-goldstein.h5", "landscape": "-landscape.h5"}[form]
    out = Path(given["out"] or f"{stem}{ending}")
    overwrite = given["overwrite"]
    if form == "landscape":
        written = exchange.read_goldstein(file).save(out, overwrite=overwrite)
    else:
        surface: Any = load(file)
        if surface.kind != "surface":
            raise UsageError(f"{file} holds a {surface.kind}: only surfaces are exported.")
        write = exchange.write_vts if form == "vts" else exchange.write_goldstein
        written = write(surface, out, overwrite=overwrite)
    Say(**given).files([written])
