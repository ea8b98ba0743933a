"""From a specification to the work that it comes to, cell by cell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from landscape.data import entry_of
from landscape.errors import UsageError, unknown
from landscape.running.work import Measure, Run, Work
from landscape.sweeps import given, measuring
from landscape.sweeps.measurement import Measurement
from landscape.sweeps.specification import Specification, Value
from landscape.sweeps.trainings import Unused, ball_of, check_used, training


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    Attributes:
        name: of its folder. values: by axis. run: its training, None for a checkpoint.
        works: its measurements by name. data: name of the data set.
    """

    name: str
    values: Mapping[str, Value]
    run: Run | None
    works: Mapping[str, Work]
    data: str


@dataclass(frozen=True)
class Plan:
    """All cells, the measurements that each has, and remarks on what was asked for."""

    axes: Sequence[str]
    cells: Sequence[Cell]
    measurements: Sequence[Measurement]
    remarks: Sequence[str]
    specification: Specification

    @property
    def works(self) -> dict[str, Work]:
        """All that is asked for, by cell and measurement."""
        found: dict[str, Work] = {}
        for cell in self.cells:
            if cell.run is not None:
                found[f"{cell.name}/training"] = cell.run
            found |= {f"{cell.name}/{name}": work for name, work in cell.works.items()}
        return found


def planned(specification: Specification, *, data_dir: str | None = None) -> Plan:
    """Resolve every cell; raises ``UsageError`` for the first option that can't be."""
    where = specification.source
    measurements = _measurements(specification)
    make = _of_checkpoints if specification.checkpoints else _of_trainings
    cells, unused = make(specification, measurements, data_dir)
    if not cells:
        raise UsageError(f"{where}: no cell is left.")
    axes = list(dict.fromkeys(axis for cell in cells for axis in cell.values))
    return Plan(axes, cells, measurements, _remarks(cells, unused), specification)


def _of_trainings(
    specification: Specification, measurements: Sequence[Measurement], data_dir: str | None
) -> tuple[list[Cell], Unused]:
    where, unused = specification.source, Unused()
    drafts = [
        (values, *training(specification, values, data_dir, unused))
        for values in specification.cells()
    ]
    check_used(specification, drafts, unused)
    cells = []
    names = _names([values for values, *_ in drafts])
    for name, (values, run, config) in zip(names, drafts, strict=True):
        ball = ball_of(specification, values, config)
        works = {}
        for m in measurements:
            _check_split(config.data, m, where)
            works[m.name] = Measure(measuring.of_run, (run,), m.settings(ball, where), m.name)
        cells.append(Cell(name, values, run, works, config.data))
    return cells, unused


def _of_checkpoints(
    specification: Specification, measurements: Sequence[Measurement], data_dir: str | None
) -> tuple[list[Cell], Unused]:
    where = specification.source
    drafts = [*given.given_cells(specification, data_dir)]
    cells = []
    names = _names([values for values, *_ in drafts])
    for name, (values, file, checkpoint) in zip(names, drafts, strict=True):
        own = {axis: values[axis].value for axis in specification.axes if axis in values}
        works, data = {}, (checkpoint.data or {})["name"]
        for table in specification.measure:
            m = Measurement.of({**own, **table}, where)
            _check_split(data, m, where)
            settings = m.settings(given.ball_of(checkpoint), where)
            called = f"{m.name}: {values['checkpoint'].text}"
            works[m.name] = Measure(measuring.of_file, (), {"given": file, **settings}, called)
        cells.append(Cell(name, values, None, works, data))
    return cells, Unused()


def _check_split(data: str, measurement: Measurement, where: str) -> None:
    if measurement.split is not None and ":" not in data:
        splits = entry_of(data).splits
        if measurement.split not in splits:
            raise unknown(f"split of {data} in {where}:", measurement.split, splits)


def _remarks(cells: Sequence[Cell], unused: Unused) -> list[str]:
    said = [
        f"{method} is trained without {name}, which it has no use for" for method, name in unused
    ]
    runs = {cell.run.digest for cell in cells if cell.run is not None}
    if 0 < len(runs) < len(cells):
        said.append(
            f"{len(cells)} cells are {len(runs)} trainings: cells that come to the same "
            "configuration share one"
        )
    return said


def _measurements(specification: Specification) -> list[Measurement]:
    found = []
    several = len(specification.measure) > 1
    for i, table in enumerate(specification.measure, 1):
        number = f" {i}" if several else ""
        found.append(Measurement.of(table, f"[[measure]]{number} of {specification.source}"))
    names = [m.name for m in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"{specification.source}: two measurements are called '{name}': give one of them "
                'another name = "...".'
            )
        if not re.fullmatch(r"[\w.+-]+", name) or name in ("training", "history"):
            raise UsageError(
                f"{specification.source}: '{name}' can't name a measurement: use letters, digits, "
                "- and _."
            )
    return found


def _names(cells: Sequence[Mapping[str, Value]]) -> Iterator[str]:
    """Names of the cells' folders: ``method=pgd,eps=2-255,seed=0``."""
    seen: set[str] = set()
    for values in cells:
        said = ",".join(f"{axis}={value.text}" for axis, value in values.items()) or "only"
        name = plain = re.sub(r"[^\w.+=,-]+", "-", said)[:120]
        count = 1
        while name in seen:
            count += 1
            name = f"{plain},{count}"
        seen.add(name)
        yield name
