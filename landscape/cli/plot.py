from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@click.option("--out", type=click.Path(), help="Stem of the pictures. Default: the first file's.")
@click.option("--html", is_flag=True, help="Surfaces also as a page with a picture to rotate.")
@click.option("--overwrite", is_flag=True, help="Replace existing pictures.")
@options.verbosity
def plot(files: tuple[str, ...], **given: Any) -> None:
    """Draw saved results; those of one kind are drawn together, on one scale."""
    from pathlib import Path

    from landscape.cli.output import Say, of_files
    from landscape.errors import UsageError
    from landscape.plotting import PICTURES, picture
    from landscape.plotting.page import save_page
    from landscape.plotting.style import save_figure
    from landscape.results import load_all

    say = Say(**given)
    by_kind: dict[str, list[tuple[str, Any]]] = {}
    stems = [Path(name).stem for name in files]
    for name, own in zip(files, stems, strict=True):
        if stems.count(own) > 1:  # track.h5 of several runs
            own = Path(name).resolve().parent.name
        for group, result in load_all(name).items():
            label = own if group == "/" else group.split("/")[0]
            by_kind.setdefault(result.kind, []).append((label, result))
    drawable = {kind: found for kind, found in by_kind.items() if kind in PICTURES}
    if not drawable:
        raise UsageError(f"nothing to draw: the files hold {', '.join(sorted(by_kind))}.")
    first = Path(files[0])
    stem = given["out"] or str(first.with_suffix(""))
    for kind, found in drawable.items():
        labels, results = [label for label, _ in found], [result for _, result in found]
        path = stem if len(drawable) == 1 else f"{stem}-{kind}"
        with of_files(files):
            figure = picture(results, labels if len(found) > 1 or kind == "surface" else [])
            written = save_figure(figure, path, overwrite=given["overwrite"])
            if given["html"] and kind == "surface":
                page = f"{path}.html"
                written.append(save_page(results, labels, page, overwrite=given["overwrite"]))
        say.files(written)
