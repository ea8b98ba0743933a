"""What a sweep is asked for: a TOML file or a mapping, checked for its form."""

from __future__ import annotations

import hashlib
import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape.errors import DataError, UsageError, unknown
from landscape.models import imports
from landscape.sweeps.values import flat, parsed, written

KEYS = ("train", "grid", "exclude", "checkpoints", "measure")

# Of a sweep that names no measurement.
_DEFAULT = {"diagnostic": "evaluate"}

# More than this is a slip of the hand.
_MOST_CELLS = 100_000


@dataclass(frozen=True)
class Value:
    """One value of an axis, and how it was written: ``2/255``."""

    value: Any
    text: str


@dataclass(frozen=True)
class Specification:
    """A sweep as it was asked for.

    Attributes:
        train: options of every training. grids: axes by name, each grid the product of its own.
        exclude: cells to leave out, by some of their values. checkpoints: instead of trainings.
        measure: a table for every measurement. source: where it was read from.
    """

    train: Mapping[str, Any]
    grids: Sequence[Mapping[str, Sequence[Value]]]
    exclude: Sequence[Mapping[str, Any]]
    checkpoints: Sequence[str]
    measure: Sequence[Mapping[str, Any]]
    source: str
    digest: str

    @property
    def axes(self) -> list[str]:
        """Names of all axes, in the order they were written."""
        return list(dict.fromkeys(name for grid in self.grids for name in grid))

    def cells(self) -> Iterator[dict[str, Value]]:
        """Every cell of every grid, each once, without those that are excluded."""
        seen = set()
        for grid in self.grids:
            for values in itertools.product(*grid.values()):
                cell = dict(zip(grid, values, strict=True))
                key = frozenset((name, repr(v.value)) for name, v in cell.items())
                if key in seen or any(_matches(cell, row) for row in self.exclude):
                    continue
                seen.add(key)
                yield cell


def read(source: str | Path | Mapping[str, Any]) -> Specification:
    """The specification in a TOML file, or given as a mapping of the same form.

    Raises ``UsageError`` for what is no TOML, with its line, and for whatever has another form
    than expected; ``DataError`` for a file that can't be read.
    """
    if isinstance(source, Mapping):
        return _checked(dict(source), "sweep")
    try:
        content = tomllib.loads(Path(source).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is not TOML: {error}.") from error
    except RecursionError as error:
        raise UsageError(f"{source} is nested too deeply for a sweep.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is not TOML: it is no UTF-8 text.") from error
    except OSError as error:
        raise DataError(f"can't read {source}: {error.strerror}.") from error
    _check_names(content, str(source))
    return _checked(content, str(source))


def _check_names(content: Mapping[str, Any], source: str) -> None:
    """A file may not cause an import; a mapping is the caller's own and may."""
    grids = content.get("grid", {})
    for part in (content.get("train"), *(grids if isinstance(grids, list) else [grids])):
        for key in ("model", "data", "extra"):
            values = part.get(key) if isinstance(part, Mapping) else None
            for value in values if isinstance(values, list) else [values]:
                name = value.get("data") if isinstance(value, Mapping) else value
                if isinstance(name, str) and imports(name):
                    raise UsageError(
                        f"{source} names '{name}', and a file may not cause an import: sweep it "
                        "from Python, which takes a mapping of the same form."
                    )


def _checked(content: dict[str, Any], source: str) -> Specification:
    try:
        return _resolved(content, source)
    except RecursionError as error:
        raise UsageError(f"{source} is nested too deeply for a sweep.") from error
    except UsageError as error:
        if str(error).startswith(source):
            raise
        raise UsageError(f"{source}: {error}") from error


def _resolved(content: dict[str, Any], source: str) -> Specification:
    for key in content:
        if key not in KEYS:
            raise unknown("part", key, KEYS)
    train = parsed(_table(content.get("train", {}), source, "[train]"))
    grids = content.get("grid", {})
    grids = grids if isinstance(grids, list) else [grids]
    axes = [_axes(_table(grid, source, "[grid]"), source) for grid in grids] or [{}]
    exclude = _tables(content.get("exclude", []), source, "exclude")
    measure = _tables(content.get("measure", [_DEFAULT]), source, "measure")
    checkpoints = content.get("checkpoints", [])
    if not isinstance(checkpoints, list) or not all(isinstance(c, str) for c in checkpoints):
        raise UsageError(f"{source}: checkpoints must be a list of files, in quotes.")
    if checkpoints and train:
        raise UsageError(
            f"{source}: checkpoints are not trained, so [train] has no use: leave one of them out."
        )
    known = {name for grid in axes for name in grid}
    excluded = [flat(parsed(row)) for row in exclude]
    for row in excluded:
        for name in row:
            if name not in known:
                if not known:
                    raise UsageError(f"{source}: [[exclude]] needs a [grid] to leave cells out of.")
                raise unknown("axis in [[exclude]]", name, known)
    count = sum(_size(grid) for grid in axes)
    if count > _MOST_CELLS:
        raise UsageError(f"{source} asks for {count} cells, more than {_MOST_CELLS}.")
    try:
        text = json.dumps(content, sort_keys=True)
    except TypeError as error:
        raise UsageError(f"{source} holds a value that is no number, text or list: {error}.") from (
            error
        )
    return Specification(
        train,
        axes,
        excluded,
        checkpoints,
        measure,
        source,
        hashlib.sha256(text.encode()).hexdigest(),
    )


def _size(grid: Mapping[str, Sequence[Value]]) -> int:
    count = 1
    for values in grid.values():
        count *= len(values)
    return count


def _axes(grid: Mapping[str, Any], source: str) -> dict[str, list[Value]]:
    found: dict[str, list[Value]] = {}
    for name, values in flat(grid).items():
        if not isinstance(values, list):
            raise UsageError(
                f"{source}: [grid] {name} must be a list of values; a single one for all cells "
                "belongs to [train]."
            )
        if not values:
            raise UsageError(f"{source}: [grid] {name} has no value.")
        found[name] = [Value(parsed(value), written(value)) for value in values]
        seen: list[Any] = []
        for value in found[name]:
            if any(value.value == other and type(value.value) is type(other) for other in seen):
                raise UsageError(f"{source}: [grid] {name} has {value.text} twice.")
            seen.append(value.value)
    return found


def _matches(cell: Mapping[str, Value], row: Mapping[str, Any]) -> bool:
    return all(
        name in cell and cell[name].value in (v if isinstance(v, tuple) else (v,))
        for name, v in row.items()
    )


def _table(value: Any, source: str, what: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{source}: {what} must be a table of options, got {written(value)}.")
    return dict(value)


def _tables(value: Any, source: str, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or (not value and what == "measure"):
        raise UsageError(f"{source}: write every {what} as a table of its own, [[{what}]].")
    return [_table(row, source, f"[[{what}]]") for row in value]
