"""The numbers of a sweep: a row for every cell, a column for every headline number."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape.errors import UsageError
from landscape.provenance import Record
from landscape.reporting.headlines import BOUND, MEAN, SHARE, Headline, Maker
from landscape.reporting.numbers import NUMBERS
from landscape.results import Estimate, Result, array, scalar
from landscape.sweeps.plan import Cell, Plan

_INTERVAL = ("95 % low", "95 % high")
_NO_INTERVAL = (math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class Sweep(Result):
    """Numbers of all cells: ``value[cell, number]`` ± ``error[cell, number]``, NaN for none.

    ``kind_of_error`` says what ± is: a standard error over ``samples`` samples or probes of this
    one network, or a bound. ``low`` and ``high`` are Wilson's 95 % interval of a share, NaN for
    other numbers. ``setting`` has the cell's values as written, ``setting_value`` those that are
    numbers. ``reason`` says why a cell has failed, ``doubt`` why its numbers are not to be trusted;
    both are empty if all is well.
    """

    kind: ClassVar[str] = "sweep"

    axis: np.ndarray = array("axis")
    cell: np.ndarray = array("cell")
    number: np.ndarray = array("number")
    measurement: np.ndarray = array("number")
    units: np.ndarray = array("number")
    setting: np.ndarray = array("cell", "axis", label="value of the cell, as written")
    setting_value: np.ndarray = array("cell", "axis", label="value of the cell, if a number")
    value: np.ndarray = array("cell", "number")
    error: np.ndarray = array("cell", "number", label="±")
    kind_of_error: np.ndarray = array("cell", "number", label="what ± is")
    low: np.ndarray = array("cell", "number", label="lower end of the 95 % interval")
    high: np.ndarray = array("cell", "number", label="upper end of the 95 % interval")
    samples: np.ndarray = array("cell", "number")
    training: np.ndarray = array("cell", label="digest of the training")
    reason: np.ndarray = array("cell", label="why it failed")
    doubt: np.ndarray = array("cell", label="why not to trust it")
    title: str = scalar(default="")

    @property
    def complete(self) -> bool:
        """Whether every cell was trained and measured."""
        return not any(map(str, self.reason))

    @property
    def trustworthy(self) -> bool:
        """Whether nothing that was measured is in doubt."""
        return not any(map(str, self.doubt))

    def groups(self) -> dict[tuple[str, ...], list[int]]:
        """Cells that differ in their seed alone, by their settings on ``group_axes``."""
        columns = [list(self.axis).index(axis) for axis in self.group_axes]
        found: dict[tuple[str, ...], list[int]] = {}
        for i in range(len(self.cell)):
            found.setdefault(tuple(str(self.setting[i, k]) for k in columns), []).append(i)
        return found

    @property
    def group_axes(self) -> list[str]:
        """The axes that are averaged at their every value: all but the seed, and but the name
        of a checkpoint where the checkpoints tell their seeds."""
        axes = list(map(str, self.axis))
        left = {"seed"}
        if {"checkpoint", "method", "seed"} <= {*axes}:
            left.add("checkpoint")
        return [axis for axis in axes if axis not in left]

    def over_seeds(self) -> dict[tuple[str, ...], list[Estimate]]:
        """Mean of every number over the seeds, with the standard error of that mean.

        s/√n over the n seeds that were measured; infinite for one seed. A number that is not finite
        makes the mean so: a seed that diverged is not left out.
        """
        found = {}
        for settings, rows in self.groups().items():
            columns = (self.value[self.measured(rows, j), j] for j in range(len(self.number)))
            with np.errstate(invalid="ignore"):
                found[settings] = [
                    Estimate.of(c) if len(c) else Estimate(math.nan, math.inf, 0) for c in columns
                ]
        return found

    def measured(self, rows: Sequence[int], number: int) -> list[int]:
        """Those of the cells that have a number, finite or not."""
        return [i for i in rows if str(self.kind_of_error[i, number])]

    def csv(self) -> str:
        """Comma-separated, a row for every cell: settings, then per number its value, ±, what
        that is, and n, of shares the 95 % interval; last the training, why the cell failed, and
        doubts."""
        stream = io.StringIO()
        out = csv.writer(stream, lineterminator="\n")
        heads = list(map(str, self.axis))
        share = np.isfinite(self.low).any(0)
        for j, (name, units) in enumerate(zip(self.number, self.units, strict=True)):
            heads += [f"{name} ({units})" if units else str(name)]
            heads += [f"{name}: {what}" for what in ("±", "± is", "n", *_INTERVAL[: 2 * share[j]])]
        out.writerow([*heads, "training", "failed", "doubt"])
        for i in range(len(self.cell)):
            row = [
                f"{value:.12g}" if math.isfinite(value) else str(text)
                for value, text in zip(self.setting_value[i], self.setting[i], strict=True)
            ]
            for j in range(len(self.number)):
                row += [_number(self.value[i, j]), _number(self.error[i, j])]
                there = bool(self.kind_of_error[i, j])
                row += [str(self.kind_of_error[i, j]), str(self.samples[i, j]) if there else ""]
                row += [_number(end[i, j]) for end in (self.low, self.high)][: 2 * share[j]]
            out.writerow([*row, str(self.training[i]), str(self.reason[i]), str(self.doubt[i])])
        return stream.getvalue()

    def plot(self, ax: Any = None) -> Any:
        """The first number against the axis; ``landscape.plotting.picture`` draws all."""
        from landscape.plotting.sweep import draw

        return draw(self, 0, ax=ax)


def gathered(
    plan: Plan,
    found: Mapping[str, Mapping[str, Result]],
    reasons: Mapping[str, str],
    *,
    threads: int | None,
) -> Sweep:
    """The table of a plan, from the results by cell and measurement, and why cells failed."""
    if not plan.cells:
        raise UsageError("a sweep without cells has no table.")
    record = Record("sweep", {}, None, digest=plan.specification.digest, threads=threads)
    diagnostics = {m.name: m.diagnostic for m in plan.measurements}
    numbers: dict[tuple[str, str], dict[str, Headline]] = {}
    doubts: dict[str, str] = {}
    for cell in plan.cells:
        said = []
        for name, result in found[cell.name].items():
            for h in NUMBERS[diagnostics[name]](Maker(name, result), result):
                numbers.setdefault((name, h.name), {})[cell.name] = h
            said += [f"{name}: {text}" for text in _doubts(result)]
        doubts[cell.name] = "; ".join(said)
    order = list(diagnostics)
    keys = sorted(numbers, key=lambda key: order.index(key[0]))

    def column(of: Callable[[Headline], Any], missing: Any) -> np.ndarray:
        rows = [
            [of(numbers[k][c.name]) if c.name in numbers[k] else missing for k in keys]
            for c in plan.cells
        ]
        return np.array(rows).reshape(len(plan.cells), len(keys))

    return Sweep(
        provenance=record.finish(),
        axis=np.array(plan.axes, dtype=str),
        cell=np.array([cell.name for cell in plan.cells], dtype=str),
        number=np.array([f"{name}: {what}" for name, what in keys], dtype=str),
        measurement=np.array([name for name, _ in keys], dtype=str),
        units=np.array([next(iter(numbers[k].values())).units for k in keys], dtype=str),
        setting=_settings(plan, lambda v: v.text, "", str),
        setting_value=_settings(plan, lambda v: _float(v.value), math.nan, float),
        value=column(lambda h: h.value, math.nan).astype(float),
        error=column(lambda h: h.error, math.nan).astype(float),
        # A share's own error is a standard error, too; its interval stands apart.
        kind_of_error=column(lambda h: MEAN if h.kind == SHARE else h.kind, "").astype(str),
        low=column(lambda h: (h.interval() or _NO_INTERVAL)[0], math.nan).astype(float),
        high=column(lambda h: (h.interval() or _NO_INTERVAL)[1], math.nan).astype(float),
        samples=column(lambda h: h.n, 0).astype(np.int64),
        training=np.array([_training(cell) for cell in plan.cells], dtype=str),
        reason=np.array([reasons.get(cell.name, "") for cell in plan.cells], dtype=str),
        doubt=np.array([doubts[cell.name] for cell in plan.cells], dtype=str),
        title=plan.specification.source,
    )


def _settings(plan: Plan, of: Any, missing: Any, kind: Any) -> np.ndarray:
    rows = [
        [of(cell.values[axis]) if axis in cell.values else missing for axis in plan.axes]
        for cell in plan.cells
    ]
    return np.array(rows, dtype=kind).reshape(len(plan.cells), len(plan.axes))


def _training(cell: Cell) -> str:
    return cell.run.digest[:16] if cell.run is not None else ""


def _doubts(result: Any) -> list[str]:
    said = []
    if getattr(result, "near_chance", False):
        said.append("clean accuracy is near chance")
    if not getattr(result, "trustworthy", True):
        said.append("not everything has converged")
    if not getattr(result, "consistent", True):
        said.append("the grid's centre is not the model's loss")
    return said


def _float(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else math.nan


def _number(value: float) -> str:
    return f"{value:.8g}" if math.isfinite(value) else ""


def estimate(found: Estimate, units: str) -> str:
    """``12.3 ± 0.4``, of a share in per cent."""
    if not found.samples:
        return "–"
    factor = 100.0 if units == "fraction" else 1.0
    scaled = Estimate(factor * found.value, factor * found.standard_error, found.samples)
    return str(scaled)


def tables(found: Sweep) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, columns and rows for every measurement: the mean of every number ± its standard
    error over the seeds (n of them), or of a single network the error of its own."""
    means, groups = found.over_seeds(), found.groups()
    seeds = max(len(rows) for rows in groups.values())
    what = (
        "mean ± standard error over n seeds"
        if seeds > 1
        else "of single networks: ± standard error, (±) bound, [ ] 95 % interval"
    )
    made = []
    for name in dict.fromkeys(map(str, found.measurement)):
        columns = [j for j, m in enumerate(found.measurement) if m == name]
        heads = [*found.group_axes]
        for j in columns:
            units = "%" if found.units[j] == "fraction" else str(found.units[j])
            short = str(found.number[j]).partition(": ")[2]
            heads.append(f"{short} ({units})" if units else short)
        rows = []
        for settings, of in means.items():
            cells = [_cell(found, groups[settings], j, of[j]) for j in columns]
            rows.append([*(s or "–" for s in settings), *cells])
        made.append((f"\n{name}: {what}", heads, rows))
    return made


def _cell(found: Sweep, rows: Sequence[int], j: int, mean: Estimate) -> str:
    if len(rows) > 1 or not mean.samples:
        return estimate(mean, str(found.units[j]))
    i = rows[0]
    value, error = float(found.value[i, j]), float(found.error[i, j])
    if math.isfinite(found.low[i, j]):
        low, high = 100 * found.low[i, j], 100 * found.high[i, j]
        return f"{100 * value:.2f} [{low:.2f}, {high:.2f}]"
    kind = str(found.kind_of_error[i, j])
    if kind == MEAN:
        return estimate(Estimate(value, error, 1), str(found.units[j])).partition(" (n")[0]
    return f"{value:.6g} (±{error:.1g})" if kind == BOUND else f"{value:.6g}"
