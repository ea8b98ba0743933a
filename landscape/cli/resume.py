"""The unfinished result of an interrupted command, kept beside its final name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from landscape import parallel
from landscape.cli.output import Say
from landscape.errors import DataError, OutputError
from landscape.files import SAVE_SECONDS, remove
from landscape.results import Result, load, save_all


class Partial:
    """``NAME.partial.h5`` next to ``NAME.h5``; saved every LANDSCAPE_SAVE_SECONDS (2).

    As a context it also saves when an interruption or an error ends the work inside.
    """

    interval = SAVE_SECONDS

    def __init__(
        self, path: Path, *, resume: bool, say: Say, read: Callable[[Path], Any] = load
    ) -> None:
        self.path = path.with_suffix(".partial.h5")
        self.resume, self.say, self.read = resume, say, read
        self._last = time.monotonic()
        self._unsaved: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._unsaved is not None:
            with contextlib.suppress(OutputError):  # what ended the work is what is said
                self.keep(self._unsaved)

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
        """Save now: what took long must not be lost. Results by name go into one file."""
        if isinstance(result, Mapping):
            save_all(self.path, result, overwrite=True)
        else:
            result.save(self.path, overwrite=True)
        self._last, self._unsaved = time.monotonic(), None

    def save(self, result: Result) -> None:
        self._unsaved = result
        if time.monotonic() - self._last >= self.interval:
            self.keep(result)

    def finished(self, result: Any) -> None:
        """Until ``discard``, what an interruption leaves of the outputs is not the whole."""
        if self._unsaved is not None or not self.path.exists():
            self.keep(result)

    def discard(self) -> None:
        """The work is in its own file: after that has been written."""
        self._unsaved = None
        remove(self.path)
