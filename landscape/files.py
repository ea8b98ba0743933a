"""Whole files or none: every output is written beside its final name and renamed when complete.

Beside ``NAME`` there may be, for as long as a process works on it, ``.NAME.lock`` and
``.NAME.????????.tmp``. Both are locked (``flock``), so what a killed process left is told from what
is in use: the next process that reserves or writes ``NAME`` removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from landscape import parallel
from landscape.errors import OutputError

_SUFFIX = ".tmp"

# Seconds of work that a kill -9 may cost: unfinished results are saved no more often.
SAVE_SECONDS = float(os.environ.get("LANDSCAPE_SAVE_SECONDS", "2"))


def check_writable(path: str | Path, *, overwrite: bool = False) -> Path:
    """Fail before long work rather than after it.

    Raises ``OutputError`` if ``path`` exists and ``overwrite`` is false, or if its folder can't
    be created or written.
    """
    path = Path(path)
    if not parallel.group().first:
        return path
    try:
        folder, exists = path.is_dir(), path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be searched
        raise explained(path, error) from error
    if folder:
        raise OutputError(f"{path} is a folder: give a file name.")
    if exists and not overwrite:
        raise OutputError(
            f"{path} exists: pass --overwrite (overwrite=True) to replace it, or another --out."
        )
    try:
        if path.parent.exists() and not path.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(path.parent))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Where it has a name for a moment, one that is swept away if this process is killed.
        with tempfile.TemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX):
            pass
    except OSError as error:
        raise explained(path, error) from error
    return path


def write_atomic(path: str | Path, content: bytes | memoryview, *, overwrite: bool = False) -> Path:
    """Write ``content`` under a temporary name, flush it to disk, then rename it to ``path``.

    On any failure (disk full, read-only folder, interrupt) nothing is left under either name
    and an existing ``path`` keeps its old content.
    """
    path = Path(path)
    if not parallel.group().first:  # what all processes know is written by one
        return path
    check_writable(path, overwrite=overwrite)
    temporary = None
    with contextlib.ExitStack() as held:
        try:
            _sweep(path)
            with _temporary(path, held) as stream:
                temporary = Path(stream.name)
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            # NamedTemporaryFile makes private files; results get the user's ordinary permissions.
            os.chmod(temporary, 0o666 & ~_umask())
            if overwrite:
                os.replace(temporary, path)
            else:
                _rename_new(temporary, path)
        except OSError as error:
            raise explained(path, error) from error
        finally:
            if temporary is not None:
                with contextlib.suppress(OSError):  # the error itself is what should be said
                    temporary.unlink(missing_ok=True)
    return path


def remove(path: str | Path) -> None:
    """Delete ``path`` if it is there, and what killed processes left beside it."""
    path = Path(path)
    if not parallel.group().first:
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise explained(path, error) from error
    _sweep(path)


@contextlib.contextmanager
def reserved(path: str | Path, *, wait: bool = False) -> Iterator[None]:
    """No other process reserves ``path`` meanwhile; a killed one's reservation is void.

    Raises ``OutputError`` if another process has it, or waits for that one to end. Where files
    can't be locked (Windows, some network file systems) nothing is reserved.
    """
    path = Path(path)
    if not parallel.group().first:
        yield
        return
    lock = path.with_name(f".{path.name}.lock")
    while True:
        try:
            stream = lock.open("w")
        except OSError as error:
            raise explained(path, error) from error
        try:
            if not _locked(stream.fileno(), wait=wait):
                raise OutputError(
                    f"another process is writing {path}: wait for its end, or choose another --out."
                )
            if os.fstat(stream.fileno()).st_nlink:
                break
            stream.close()  # its owner removed it meanwhile
        except BaseException:
            stream.close()
            raise
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.unlink(missing_ok=True)
        stream.close()


def _temporary(path: Path, held: contextlib.ExitStack) -> Any:
    """A new temporary file for ``path``, locked until ``held`` closes."""
    while True:
        stream = tempfile.NamedTemporaryFile(  # noqa: SIM115
            dir=path.parent, prefix=f".{path.name}.", suffix=_SUFFIX, delete=False
        )
        try:
            # The lock outlives the stream, which has to be closed before it is renamed on Windows.
            descriptor = os.dup(stream.fileno())
            held.callback(os.close, descriptor)
            _locked(descriptor, wait=True)
            if os.fstat(descriptor).st_nlink:
                return stream
        except BaseException:
            os.unlink(stream.name)
            raise
        stream.close()  # swept away by another process before it was locked


def _sweep(path: Path) -> None:
    """Remove temporary files for ``path`` whose writers are dead."""
    pattern = re.compile(re.escape(f".{path.name}.") + "[a-z0-9_]{8}" + re.escape(_SUFFIX))
    with contextlib.suppress(OSError):  # a folder that may not be listed, or is gone
        for name in filter(pattern.fullmatch, os.listdir(path.parent)):
            with contextlib.suppress(OSError), (path.parent / name).open("rb+") as stream:
                if _locked(stream.fileno(), wait=False, unless_sure=False):
                    os.unlink(path.parent / name)


def _locked(descriptor: int, *, wait: bool, unless_sure: bool = True) -> bool:
    """Lock an open file; ``unless_sure`` where files can't be locked."""
    try:
        import fcntl
    except ImportError:  # Windows
        return unless_sure
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without
        return unless_sure
    return True


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename without replacing, even if another process created ``path`` meanwhile."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # file systems without hard links
        if path.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(path)) from None
        os.replace(temporary, path)


def _umask() -> int:
    # It can only be read by setting it; a file that another thread makes meanwhile is private.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def explained(path: str | Path, error: OSError) -> OutputError:
    """What the system's error means for a file that was to be written, and what to do."""
    reasons = {
        errno.ENOSPC: "the disk is full: free some space or choose another --out.",
        errno.EDQUOT: "the disk quota is used up: free some space or choose another --out.",
        errno.EROFS: "the file system is read-only: choose another --out.",
        errno.EACCES: "no permission to write there: choose another --out.",
        errno.EPERM: "no permission to write there: choose another --out.",
        errno.ENOTDIR: "part of that path is a file, not a folder: choose another --out.",
        errno.EEXIST: "it exists: pass --overwrite (overwrite=True) to replace it.",
    }
    reason = reasons.get(error.errno or 0, f"{error.strerror or error}.")
    return OutputError(f"can't write {path}: {reason}")
