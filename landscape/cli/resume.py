"""The unfinished result of an interrupted command, kept beside its final name."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from landscape import parallel
from landscape.cli.output import Say
from landscape.errors import DataError
from landscape.results import Result, load


class Partial:
    """``NAME.partial.h5`` next to ``NAME.h5``; saved every LANDSCAPE_SAVE_SECONDS (2)."""

    interval = float(os.environ.get("LANDSCAPE_SAVE_SECONDS", "2"))

    def __init__(
        self, path: Path, *, resume: bool, say: Say, read: Callable[[Path], Any] = load
    ) -> None:
        self.path = path.with_suffix(".partial.h5")
        self.resume, self.say, self.read = resume, say, read
        self._last = time.monotonic()

    def load(self) -> Any:
        """What an earlier run left, or ``None``."""
        return parallel.group().ask_first(self._load)

    def _load(self) -> Any:
        if not self.resume or not self.path.exists():
            return None
        try:
            found = self.read(self.path)
        except DataError as error:
            self.say.warn(f"{error} Starting over.")
            return None
        self.say.remark(f"going on from {self.path}")
        return found

    def keep(self, result: Any) -> None:
        """Save now: what took long must not be lost."""
        result.save(self.path, overwrite=True)
        self._last = time.monotonic()

    def save(self, result: Result) -> None:
        if time.monotonic() - self._last >= self.interval:
            self.keep(result)

    def discard(self) -> None:
        if parallel.group().first:
            self.path.unlink(missing_ok=True)
