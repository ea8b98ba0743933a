"""stdout and stderr of a command whose reader may go: a pipe to `head`, a terminal that closes."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

# What writing gives when nobody can read it any more: a pipe, a terminal.
_GONE = (errno.EPIPE, errno.EIO)


class _Outlet(io.RawIOBase):
    """A descriptor that takes everything; what can't be delivered to a gone reader is dropped.

    The work goes on, because its results are files.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, content: Any) -> int:
        try:
            return os.write(self._descriptor, content)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            return len(content)


def keep_talking() -> None:
    """Let no loss of stdout or stderr end this process, nor a character that they can't show."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        try:
            descriptor = stream.fileno()
        except (AttributeError, OSError, ValueError):  # closed (>&-), or not a file
            if stream is None:
                setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
            continue
        stream.flush()
        setattr(sys, name, _text(descriptor, stream))


def _text(descriptor: int, like: TextIO) -> TextIO:
    outlet = io.BufferedWriter(_Outlet(descriptor))
    return io.TextIOWrapper(
        outlet, encoding=like.encoding, errors="replace", line_buffering=bool(like.line_buffering)
    )
