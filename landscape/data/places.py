"""Where data sets live on this machine, which of them are there, and how to get one."""

from __future__ import annotations

import http.client
import os
import sys
import tarfile
import zipfile
import zlib
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from landscape.data.table import DATASETS, entry_of
from landscape.errors import DataError, UsageError

_FAILURES = (
    OSError,  # with urllib's URLError
    RuntimeError,  # torchvision: a wrong MD5 sum, all mirrors failed
    EOFError,
    http.client.HTTPException,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


def data_folder(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """``data_dir``, else ``$LANDSCAPE_DATA``, else landscape/data in the user's cache folder."""
    if data_dir is not None:
        return Path(data_dir).expanduser()
    if chosen := os.environ.get("LANDSCAPE_DATA"):
        return Path(chosen).expanduser()
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "landscape" / "data"
    by_platform = {"darwin": "~/Library/Caches", "win32": os.environ.get("LOCALAPPDATA", "~")}
    cache = by_platform.get(sys.platform, "~/.cache")
    return Path(cache).expanduser() / "landscape" / "data"


class Status(NamedTuple):
    """One line of ``landscape data``: ``path`` is None for a set that comes with a package."""

    name: str
    present: bool
    path: Path | None
    size: str


def status(data_dir: str | os.PathLike[str] | None = None) -> list[Status]:
    """Which of the named sets are there. Looks for files only; ``load`` is what verifies them.

    ``folder`` is left out, being a layout rather than a data set.
    """
    root = data_folder(data_dir)
    lines = []
    for name, entry in DATASETS.items():
        if entry.remote is not None:
            paths = [root / relative for relative in entry.remote.look_for]
            found = next((path for path in paths if path.exists()), None)
            lines.append(Status(name, found is not None, found or paths[0], entry.download_size))
        elif name != "folder":
            lines.append(Status(name, True, None, entry.download_size))
    return lines


def download(name: str, data_dir: str | os.PathLike[str] | None = None, **options: Any) -> Path:
    """Fetch a data set into the data folder, unless it is there; returns the folder.

    Options: ``extra=True`` for svhn (its extra split, 1.3 GB), ``size`` for imagenette.
    """
    entry = entry_of(name)
    root = data_folder(data_dir)
    remote = entry.remote
    if remote is None:
        reason = "it comes with scikit-learn" if name != "folder" else "it names your own images"
        raise UsageError(f"{name} can't be downloaded: {reason}.")
    check_options(name, "download", options, remote.options)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(sys.stderr):  # older torchvision prints there; stdout is for results
            remote.fetch(root, **options)
    except _FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"couldn't download {name} ({reason}). Put {remote.files} from {remote.url} in "
            f"{root / remote.place} by hand, then run `landscape data {name}` again."
        ) from error
    return root


def check_options(name: str, what: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    """Refuse an option that ``name`` doesn't take, rather than ignore it."""
    for option in given:
        if option not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise UsageError(f"unknown {what} option '{option}' for {name}, which {takes}.")
