"""Locks on files that end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Who only looks at a lock holds it for an instant: try again for so many seconds.
_PATIENCE = 0.5


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[str | None]:
    """Hold the lock ``path``; yields None, or without ``wait`` who holds it instead.

    Where a file system has no locks, nothing is locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        if not _take(stream, wait):
            yield _note(stream) or "another process"
            return
        stream.truncate(0)
        since = datetime.datetime.now().isoformat(" ", timespec="seconds")
        stream.write(f"process {os.getpid()} on {socket.gethostname()}, since {since}")
        stream.flush()
        try:
            yield None
        finally:
            stream.truncate(0)


def holder(path: Path) -> str | None:
    """Who holds the lock, if anybody does: process, machine and time."""
    try:
        stream = path.open()
    except OSError:
        return None
    with stream:
        try:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
        except BlockingIOError:
            return _note(stream) or "another process"
        except OSError:
            pass
        return _note(stream) or None  # no locks here: the note alone says so


def _take(stream: Any, wait: bool) -> bool:
    """Lock an open file; whether nobody else has it."""
    end = time.monotonic() + _PATIENCE
    with contextlib.suppress(OSError):  # a file system without locks
        while fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    return False
                time.sleep(0.02)
    return True


def _note(stream: Any) -> str:
    stream.seek(0)
    return str(stream.read()).strip()
