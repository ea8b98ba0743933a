"""The calls that change files, numbered in the order in which a run makes them.

Installed in a forked run, it watches calls on paths in the run's folder and may let any of them
fail, or kill the process before it.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Called before each with (number from 1, name of the operation, path). What changes nothing (a
# folder that is there, a file without a name, a file that is gone) comes with half numbers.
Act = Callable[[float, str, str], None]

# Which operations fail on a full disk; all that change anything do on a read-only one.
NEED_SPACE = ("open", "mkdir", "write", "fsync", "link")


class Layer:
    """Counts operations on files in ``folder`` and calls ``act`` before each."""

    def __init__(self, folder: Path, act: Act) -> None:
        self.folder, self.act, self.count = os.path.realpath(folder), act, 0

    def __call__(self) -> None:
        """Install; there is no way back, the process is a run's own."""
        for name in ("link", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "chmod"):
            setattr(os, name, self._watched(name, getattr(os, name)))
        fsync, raw_open = os.fsync, os.open

        def watched_fsync(descriptor: int) -> None:
            self._before("fsync", os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        def watched_open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                self._before("open", path, changes=not os.path.isdir(path))
            return raw_open(path, flags, *args, **kwargs)

        os.fsync, os.open = watched_fsync, watched_open
        named, plain = tempfile.NamedTemporaryFile, io.open

        def watched_named(*args: Any, **kwargs: Any) -> Any:
            stream = named(*args, **kwargs)
            self._watch_writes(stream)
            return stream

        def watched_plain(path: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if isinstance(path, str | os.PathLike) and set(mode) & set("wxa+"):
                self._before("open", path)
            return plain(path, mode, *args, **kwargs)

        tempfile.NamedTemporaryFile = watched_named
        io.open = builtins.open = watched_plain

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, *args: Any, **kwargs: Any) -> Any:
            there = isinstance(path, int) or os.path.lexists(path)
            self._before(name, path, changes=there != (name == "mkdir"))
            return function(path, *args, **kwargs)

        return watched

    def _watch_writes(self, stream: Any) -> None:
        write = stream.write

        def watched(content: Any) -> int:
            try:
                self._before("write", stream.name)
            except OSError:
                write(memoryview(content)[: len(content) // 2])  # what still fits
                raise
            return write(content)

        stream.write = watched

    def _before(self, name: str, path: Any, *, changes: bool = True) -> None:
        whole = os.path.abspath(os.fspath(path)) if not isinstance(path, int) else ""
        if os.path.realpath(os.path.dirname(whole)).startswith(self.folder):
            self.count += changes
            self.act(self.count if changes else self.count + 0.5, name, whole)


def record(log: Path) -> Act:
    """Write the operations' names into a file, one per line."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def act(n: float, name: str, path: str) -> None:
        if n == int(n):
            os.write(descriptor, f"{name} {path}\n".encode())

    return act


def kill_at(number: int) -> Act:
    def act(n: float, name: str, path: str) -> None:
        if n == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return act


def full_from(number: int) -> Act:
    """The disk is full from this operation on; removing files still works."""

    def act(n: float, name: str, path: str) -> None:
        if n >= number and name in NEED_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    return act


def read_only_from(number: int) -> Act:
    """The file system is mounted read-only from this operation on."""

    def act(n: float, name: str, path: str) -> None:
        if n >= number:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    return act


def broken_at(number: int) -> Act:
    """This one operation fails with an input/output error."""

    def act(n: float, name: str, path: str) -> None:
        if n == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    return act
