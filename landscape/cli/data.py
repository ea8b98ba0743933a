from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@click.argument("name", required=False)
@click.option("--data-dir", type=click.Path(), help="Where data sets lie.")
@click.option(
    "--data-option",
    "data_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of the download, for example size=160px.",
)
@options.verbosity
def data(name: str | None, **given: Any) -> None:
    """List the data sets and what is there, or download one by name."""
    from landscape import data as datasets
    from landscape.cli.output import Say
    from landscape.cli.setup import key_values

    say = Say(**given)
    if name is not None:
        chosen = key_values(given["data_options"], "--data-option")
        folder = datasets.download(name, given["data_dir"], **chosen)
        print(f"{name} is in {folder}")
        return
    present = {s.name: s for s in datasets.status(given["data_dir"])}
    rows = []
    for entry in datasets.DATASETS.values():
        state = present.get(entry.name)
        rows.append(
            [
                entry.name,
                "x".join(map(str, entry.in_shape)) if entry.in_shape else "any",
                str(entry.num_classes or "any"),
                ", ".join(entry.splits),
                "–" if state is None else "yes" if state.present else f"no ({state.size})",
                entry.description,
            ]
        )
    say.table(
        f"data sets in {datasets.data_folder(given['data_dir'])}",
        ["name", "shape", "classes", "splits", "present", "description"],
        rows,
    )
