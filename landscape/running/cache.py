"""Finished work on disk, by what it is: nothing is done twice, nothing damaged is used.

    CACHE/runs/DIGEST/        the folder of a training
    CACHE/measured/DIGEST.h5  the result of a measurement

Beside each lies its seal, a JSON file with the digest of every file, written last: work without a
seal is unfinished, work that differs from its seal is damaged. Both are done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from landscape.files import write_atomic
from landscape.results import Result, load
from landscape.running.trained import Trained
from landscape.running.work import Run, Work

MISSING, DAMAGED, INTACT = "missing", "damaged", "intact"


class Cache:
    """A folder of finished work, which any number of plans and processes may share."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()

    def place(self, work: Work) -> Path:
        """The folder of a run, or the file of a measurement."""
        name = work.digest[:16]
        if isinstance(work, Run):
            return self.folder / "runs" / name
        return self.folder / "measured" / f"{name}.h5"

    def state(self, work: Work) -> str:
        """``missing`` (or unfinished), ``damaged`` or ``intact``; reads every file of it."""
        try:
            seal = json.loads(self._seal(work).read_text())
            files = dict(seal["files"])
        except FileNotFoundError:
            return MISSING
        except (ValueError, KeyError, TypeError):
            return DAMAGED
        root = self._root(work)
        same = all(_digest(root / name) == digest for name, digest in files.items())
        return INTACT if same and seal.get("digest") == work.digest else DAMAGED

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

    def seconds(self, work: Work) -> float:
        """What finished work took."""
        return float(json.loads(self._seal(work).read_text())["seconds"])

    def get(self, work: Work) -> Trained | Result:
        """Finished work, ready to use."""
        place = self.place(work)
        if isinstance(work, Run):
            return Trained(work, place)
        found: Result = load(place)
        return found

    def discard(self, work: Work) -> None:
        """Delete what there is of a work."""
        self._seal(work).unlink(missing_ok=True)
        place = self.place(work)
        if place.is_dir():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)

    @contextlib.contextmanager
    def reserved(self, work: Work) -> Iterator[None]:
        """No other process does the same work meanwhile; a killed one's reservation is void."""
        path = self.folder / "locks" / f"{work.digest[:16]}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as stream:
            with contextlib.suppress(ImportError, OSError):  # Windows, or a file system without
                import fcntl

                fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _seal(self, work: Work) -> Path:
        return self.place(work).with_suffix(".json")

    def _root(self, work: Work) -> Path:
        place = self.place(work)
        return place if isinstance(work, Run) else place.parent

    def _files(self, work: Work) -> list[Path]:
        place = self.place(work)
        if not isinstance(work, Run):
            return [place]
        # last.pt serves to go on with an unfinished run alone.
        return sorted(p for p in place.rglob("*") if p.is_file() and p.name != "last.pt")


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return None
