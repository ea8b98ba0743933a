"""How far a sweep is, from what lies in its folder; without torch, so it answers at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from landscape.errors import DataError
from landscape.files import write_atomic
from landscape.running.cache import Cache
from landscape.running.locks import holder

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"

FILE, LOCK = "sweep.json", "sweep.lock"
FORMAT, VERSION = "landscape-sweep", 1


@dataclass(frozen=True)
class Noted:
    """A work as the folder's file names it."""

    digest: str
    is_folder: bool
    title: str
    needs: tuple[str, ...] = ()
    epochs: int | None = None


@dataclass(frozen=True)
class CellStatus:
    """One cell: its settings as written, its state, and what there is to say about it."""

    name: str
    settings: Mapping[str, str]
    state: str
    said: str


@dataclass(frozen=True)
class Status:
    """A sweep: all its cells, who is at work, and whether the plan is that of the file now."""

    cells: list[CellStatus]
    holder: str | None

    def count(self, state: str) -> int:
        return sum(cell.state == state for cell in self.cells)

    def to_dict(self) -> dict[str, Any]:
        return {
            "at_work": self.holder,
            **{state: self.count(state) for state in (WAITING, RUNNING, DONE, FAILED)},
            "cells": [
                {"cell": c.name, "settings": dict(c.settings), "state": c.state, "said": c.said}
                for c in self.cells
            ],
        }


def write_plan(
    folder: Path, cells: Mapping[str, Any], works: Mapping[str, Noted], cache: Cache
) -> Path:
    """Note the plan of a sweep in its folder: ``cells`` by name, with settings and digests."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "cache": str(cache.folder),
        "cells": cells,
        "works": {
            digest: {
                "folder": work.is_folder,
                "title": work.title,
                "needs": work.needs,
                "epochs": work.epochs,
            }
            for digest, work in works.items()
        },
    }
    return write_atomic(folder / FILE, json.dumps(content, indent=1).encode(), overwrite=True)


def read_plan(folder: Path) -> dict[str, Any] | None:
    """What ``write_plan`` noted, None where it never did."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text())
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise DataError(f"{path} is not the plan of a sweep that this landscape reads.")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} can't be read: run the sweep again to write it anew.") from error
    return dict(content)


def status(folder: str | Path) -> Status:
    """The state of every cell, while the sweep runs or after it was killed.

    Raises ``DataError`` if no sweep was ever started in the folder.
    """
    folder = Path(folder)
    plan = read_plan(folder)
    if plan is None:
        raise DataError(f"no sweep has been started in {folder}.")
    cache = Cache(plan["cache"])
    try:
        works = {
            digest: Noted(digest, w["folder"], w["title"], tuple(w["needs"]), w["epochs"])
            for digest, w in plan["works"].items()
        }
        states = {digest: _state(work, cache) for digest, work in works.items()}
        cells = [
            CellStatus(name, cell["settings"], *_together(cell["works"], works, states))
            for name, cell in plan["cells"].items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / FILE} is damaged: run the sweep again to write it.") from error
    return Status(cells, holder(folder / LOCK))


def _state(work: Noted, cache: Cache) -> tuple[str, str]:
    if cache.sealed(work):
        return DONE, ""
    by = cache.holder(work)
    if by is not None:
        return RUNNING, "; ".join(filter(None, [work.title, _progress(work, cache), by]))
    reason = cache.failure(work)
    if reason is not None:
        return FAILED, f"{work.title}: {reason}"
    return WAITING, _progress(work, cache)


def _together(
    names: Mapping[str, str], works: Mapping[str, Noted], states: Mapping[str, tuple[str, str]]
) -> tuple[str, str]:
    """The state of a cell from those of its works, and of what they need unless they are done."""
    own = [*names.values()]
    needed = [need for d in own if states[d][0] != DONE for need in works[d].needs]
    found = [states[digest] for digest in dict.fromkeys([*needed, *own])]
    for state in (RUNNING, FAILED):
        for one, said in found:
            if one == state:
                return state, said
    waiting = [said for one, said in found if one == WAITING]
    if not waiting:
        return DONE, ""
    done = sum(states[digest][0] == DONE for digest in own)
    parts = f"{done} of {len(own)} works done" if done else ""
    return WAITING, "; ".join(filter(None, [parts, *waiting[:1]]))


def _progress(work: Noted, cache: Cache) -> str:
    """How many epochs of a training are done."""
    try:
        with h5py.File(cache.place(work) / "history.h5", "r") as file:
            return f"epoch {len(file['epoch'])} of {work.epochs}"
    except (OSError, KeyError, TypeError):
        return ""
