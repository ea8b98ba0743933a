from __future__ import annotations

from typing import Any

import click

from landscape.cli.measuring import measuring


@click.command()
@measuring
def report(checkpoints: tuple[str, ...], **given: Any) -> int:
    """Every diagnostic that fits into a time budget, of one or several checkpoints side by side.

    Writes one HDF5 file and one HTML page that needs no network. Without --attack, PGD-20 where
    a radius is known. Finished sections are saved as they come. Sections that don't fit are made
    cheaper or left out, which is said. Exit code 1 if a section failed, 3 if a number is not to
    be trusted.
    """
    from pathlib import Path

    from landscape.cli import measuring as shared
    from landscape.cli.output import Say, claim
    from landscape.files import check_writable
    from landscape.reporting import words

    say = Say(**given)
    stem = Path(checkpoints[0]).stem if len(checkpoints) == 1 else "compared"
    path = Path(given["out"] or f"{stem}-report.h5")
    path = path if path.suffix == ".h5" else path.with_suffix(".h5")
    files = [path, path.with_suffix(".html")]
    overwrite = claim(path, given)
    for file in files:
        check_writable(file, overwrite=overwrite)
    gathered = shared.gather(say, checkpoints, given)
    if given["dry_run"]:
        return shared.dry_run(say, gathered, files)
    found, partial = shared.measure(say, gathered, path, given["resume"])
    written = [found.save(path, overwrite=overwrite)]
    written.append(found.html(files[1], overwrite=overwrite))
    partial.discard()
    say.json(found.to_dict())
    say.table(words.UNCERTAINTY, ["quantity", *found.networks, "n"], words.rows(found))
    if found.comparison is not None:
        say.table(words.about_comparison(found.comparison), *words.comparison(found.comparison))
    code = shared.conclude(say, found)
    say.files(written)
    return code
