"""Finished work on disk, by what it is: nothing is done twice, nothing damaged is used.

    CACHE/runs/DIGEST/        the folder of a training
    CACHE/measured/DIGEST.h5  the result of a measurement
    CACHE/failed/DIGEST.json  why work could not be done, until it is
    CACHE/locks/DIGEST.lock   locked while a process does the work, with a note of which

Beside each of the first two lies its seal, a JSON file with the digest of every file, written last:
work without a seal is unfinished, work that differs from its seal is damaged. Both are done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from landscape.files import write_atomic
from landscape.results import Result, load
from landscape.running.locks import holder, locked
from landscape.running.work import Run, Work

if TYPE_CHECKING:
    from landscape.running.trained import Trained

MISSING, DAMAGED, INTACT = "missing", "damaged", "intact"


class Kept(Protocol):
    """What is enough of a work to find what there is of it."""

    @property
    def digest(self) -> str: ...
    @property
    def is_folder(self) -> bool: ...


class Cache:
    """A folder of finished work, which any number of plans and processes may share."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()

    def place(self, work: Kept) -> Path:
        """The folder of a run, or the file of a measurement."""
        name = work.digest[:16]
        if work.is_folder:
            return self.folder / "runs" / name
        return self.folder / "measured" / f"{name}.h5"

    def sealed(self, work: Kept) -> bool:
        """Whether the work was finished; what has happened to its files since is not looked at."""
        return self._seal(work).exists()

    def state(self, work: Kept) -> str:
        """``missing`` (or unfinished), ``damaged`` or ``intact``; reads every file of it."""
        try:
            seal = json.loads(self._seal(work).read_text())
            files, _ = dict(seal["files"]), float(seal["seconds"])
        except FileNotFoundError:
            return MISSING
        except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
            return DAMAGED
        needed = {"best.pt", "final.pt"} if isinstance(work, Run) else {self.place(work).name}
        root = self._root(work)
        same = all(_digest(root / name) == digest for name, digest in files.items())
        sealed = needed <= set(files) and seal.get("digest") == work.digest
        return INTACT if same and sealed else DAMAGED

    def seal(self, work: Work, seconds: float) -> None:
        """Declare the work finished."""
        root = self._root(work)
        content = {
            "digest": work.digest,
            "what": work.describe(),
            "title": work.title,
            "seconds": round(seconds, 3),
            "files": {str(p.relative_to(root)): _digest(p) for p in self._files(work)},
        }
        text = json.dumps(content, indent=1).encode()
        write_atomic(self._seal(work), text, overwrite=True)
        self._failure(work).unlink(missing_ok=True)

    def fail(self, work: Work, reason: str) -> None:
        """Remember why the work could not be done."""
        content = {"digest": work.digest, "title": work.title, "reason": reason}
        write_atomic(self._failure(work), json.dumps(content, indent=1).encode(), overwrite=True)

    def failure(self, work: Kept) -> str | None:
        """Why the work failed when it was last tried, if it did."""
        try:
            return str(json.loads(self._failure(work).read_text())["reason"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            return "it failed earlier; the note of why is damaged"

    def seconds(self, work: Work) -> float:
        """What finished work took."""
        return float(json.loads(self._seal(work).read_text())["seconds"])

    def get(self, work: Work) -> Trained | Result:
        """Finished work, ready to use."""
        place = self.place(work)
        if isinstance(work, Run):
            from landscape.running.trained import Trained

            return Trained(work, place)
        found: Result = load(place)
        return found

    def discard(self, work: Kept) -> None:
        """Delete what there is of a work."""
        self._seal(work).unlink(missing_ok=True)
        place = self.place(work)
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)

    def reserved(self, work: Kept) -> contextlib.AbstractContextManager[Any]:
        """No other process does the same work meanwhile; a killed one's reservation is void."""
        return locked(self._lock(work))

    def holder(self, work: Kept) -> str | None:
        """Which process has reserved the work, if any."""
        return holder(self._lock(work))

    def _lock(self, work: Kept) -> Path:
        return self.folder / "locks" / f"{work.digest[:16]}.lock"

    def _failure(self, work: Kept) -> Path:
        return self.folder / "failed" / f"{work.digest[:16]}.json"

    def _seal(self, work: Kept) -> Path:
        return self.place(work).with_suffix(".json")

    def _root(self, work: Kept) -> Path:
        place = self.place(work)
        return place if work.is_folder else place.parent

    def _files(self, work: Kept) -> list[Path]:
        place = self.place(work)
        if not work.is_folder:
            return [place]
        # last.pt serves to go on with an unfinished run alone.
        return sorted(p for p in place.rglob("*") if p.is_file() and p.name != "last.pt")


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):  # a name that no file can have
        return None
