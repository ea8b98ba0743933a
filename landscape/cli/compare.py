from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from landscape.cli.measuring import measuring


@click.command()
@measuring
def compare(checkpoints: tuple[str, ...], **given: Any) -> int:
    """Which numbers of networks differ by more than their uncertainty, against the first.

    Takes checkpoints, which are measured as in `report`, or files that `report` has written; those
    may be of different data. The differences are paired where the samples are the same, and
    corrected for their number (Holm).
    """
    from landscape.cli import measuring as shared
    from landscape.cli.output import Say, claim, of_files
    from landscape.errors import UsageError
    from landscape.files import check_writable
    from landscape.reporting import SECTIONS, words
    from landscape.reporting import compare as compared

    say = Say(**given)
    saved = [_is_report(path) for path in checkpoints]
    if any(saved) and not all(saved):
        raise UsageError("give checkpoints or files of `landscape report`, not both.")
    out = Path(given["out"]) if given["out"] else None
    if not any(saved) and len(checkpoints) < 2:
        raise UsageError("a comparison needs two checkpoints: landscape compare A.pt B.pt.")
    if not any(saved):
        out = out or Path("compared-numbers.h5")
    if out is not None:
        out = out if out.suffix == ".h5" else out.with_suffix(".h5")
        overwrite = claim(out, given)
        check_writable(out, overwrite=overwrite)
    code, partial = 0, None
    if any(saved):
        from landscape.cli.several import distinct
        from landscape.reporting import Report

        with of_files(checkpoints):
            reports = {name: Report.load(path) for name, path in distinct(checkpoints).items()}
            found = compared(*reports.values(), names=tuple(reports))
        written = [found.save(out, overwrite=overwrite)] if out else []
    else:
        assert out is not None
        gathered = shared.gather(say, checkpoints, given)
        if gathered.options["sections"] is None:
            gathered.options["sections"] = [k for k, s in SECTIONS.items() if s.numbered]
        if given["dry_run"]:
            return shared.dry_run(say, gathered, [out])
        measured, partial = shared.measure(say, gathered, out, given["resume"])
        found = compared(measured)
        written = [measured.save(out, overwrite=overwrite)]
        partial.discard()
        code = shared.conclude(say, measured)
    say.json(found.to_dict())
    say.table(words.about_comparison(found), *words.comparison(found))
    say.files(written)
    return code


def _is_report(path: str) -> bool:
    import h5py

    from landscape.errors import DataError

    if not Path(path).exists():
        raise DataError(f"{path} does not exist.")
    return Path(path).is_file() and bool(h5py.is_hdf5(path))
