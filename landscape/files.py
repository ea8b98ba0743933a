"""Whole files or none: every output is written beside its final name and renamed when complete."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from landscape import parallel
from landscape.errors import OutputError


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
        raise _explain(path, error) from error
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
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _explain(path, error) from error
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
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        ) as stream:
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
        raise _explain(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


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


def _explain(path: Path, error: OSError) -> OutputError:
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
