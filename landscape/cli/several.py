"""Several checkpoints in one table, file and picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landscape.errors import UsageError

if TYPE_CHECKING:
    from landscape.attacks import Attack
    from landscape.cli.output import Outputs, Say
    from landscape.cli.resume import Partial
    from landscape.cli.setup import Target
    from landscape.results import Result


def distinct(paths: Sequence[str]) -> dict[str, str]:
    """Paths by the names of their files, or of folder and file where those repeat.

    >>> distinct(["runs/a/best.pt", "runs/b/best.pt"])
    {'a-best': 'runs/a/best.pt', 'b-best': 'runs/b/best.pt'}
    """
    names = [Path(path).stem for path in paths]
    twice = [path for path in dict.fromkeys(paths) if paths.count(path) > 1]
    if twice:
        raise UsageError(f"{twice[0]} is given twice: name every file once.")
    if len(set(names)) < len(names):  # best.pt of several runs
        names = [f"{Path(path).parent.name}-{Path(path).stem}" for path in paths]
    if len(set(names)) < len(names):
        raise UsageError("two checkpoints have the same name and folder: rename one.")
    return dict(zip(names, paths, strict=True))


def outputs(paths: Sequence[str], what: str, given: Mapping[str, Any]) -> Outputs:
    """The files of the command, named by the checkpoint if there is but one."""
    from landscape.cli.output import Outputs

    return Outputs(paths[0] if len(paths) == 1 else "compared.pt", what, given)


def targets(
    say: Say, paths: Sequence[str], given: Mapping[str, Any]
) -> dict[str, tuple[Target, Attack | None]]:
    """Every checkpoint and its attack, by name: what can't be used is refused before any work."""
    from landscape.cli.setup import Target

    made = {name: Target(say, path, **given) for name, path in distinct(paths).items()}
    return {name: (target, target.attack(given["attack"])) for name, target in made.items()}


def partial(files: Outputs, name: str, count: int, resume: bool, say: Say) -> Partial:
    """The unfinished result of one of so many checkpoints."""
    from landscape.cli.resume import Partial

    path = files.path
    if count > 1:
        path = path.with_name(f"{path.stem}-{name}{path.suffix}")
    return Partial(path, resume=resume, say=say)


def save(say: Say, files: Outputs, found: Mapping[str, Result]) -> list[Path]:
    """File, picture and JSON: of one result as it is, of several by name.

    Before anything is printed: a reader that has gone (head) must not lose the work.
    """
    from landscape.plotting import picture

    if len(found) == 1:
        (result,) = found.values()
        written = files.save(result, picture([result]))
        say.json(result.to_dict())
    else:
        written = files.save(found, picture(list(found.values()), list(found)))
        say.json({name: result.to_dict() for name, result in found.items()})
    return written
