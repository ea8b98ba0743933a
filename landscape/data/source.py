"""What a loader hands back, and the two ways in which it can fail.

Loaders know files, not data-set names or commands: they raise ``Missing`` or ``Damaged``, and
``landscape.data.load`` adds which data set it was and what to do, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from landscape.data.images import Store
from landscape.errors import LandscapeError


@dataclass(frozen=True)
class Source:
    """One underlying file (or folder) in its own order, before splits and subsets."""

    images: Store
    labels: Tensor  # int64 [N]
    classes: tuple[str, ...]
    first: int = 0  # position in the file of the first example


class Missing(Exception):
    """Nothing at ``looked_for``, a path relative to the data folder."""

    def __init__(self, looked_for: str) -> None:
        super().__init__(looked_for)
        self.looked_for = looked_for


class Damaged(Exception):
    """``path`` is there, but isn't what it should be."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Turn whatever a foreign parser raises on a damaged file into ``Damaged``."""
    try:
        yield
    except (Missing, Damaged, LandscapeError, MemoryError):
        raise
    except Exception as error:  # parsers of four formats share no base class of errors
        lines = str(error).strip().splitlines()
        raise Damaged(path, lines[0] if lines else type(error).__name__) from error
