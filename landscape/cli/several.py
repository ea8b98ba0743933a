"""Several checkpoints in one table, file and picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from landscape.errors import UsageError


def distinct(paths: Sequence[str]) -> dict[str, str]:
    """Paths by the names of their files, or of folder and file where those repeat.

    >>> distinct(["runs/a/best.pt", "runs/b/best.pt"])
    {'a-best': 'runs/a/best.pt', 'b-best': 'runs/b/best.pt'}
    """
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names):  # best.pt of several runs
        names = [f"{Path(path).parent.name}-{Path(path).stem}" for path in paths]
    if len(set(names)) < len(names):
        raise UsageError("two checkpoints have the same name and folder: rename one.")
    return dict(zip(names, paths, strict=True))
