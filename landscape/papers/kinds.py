"""Two kinds of result for what a paper's figure shows and no diagnostic returns as such."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape.provenance import Provenance, Record
from landscape.results import Result, array, scalar


@dataclass(frozen=True, eq=False)
class Sheet(Result):
    """A table of numbers: ``value[row, column]`` ± ``error[row, column]``, NaN for none.

    ``what`` says what ± is: "standard deviation over 3 seeds", "95 % interval", ...
    """

    kind: ClassVar[str] = "sheet"

    row: np.ndarray = array("row")
    column: np.ndarray = array("column")
    units: np.ndarray = array("column", label="units of the column")
    value: np.ndarray = array("row", "column")
    error: np.ndarray = array("row", "column", label="±")
    what: str = scalar(label="what ± is", default="")

    def at(self, row: str, column: str) -> float:
        """One number, by the names of its row and column."""
        return float(self.value[list(self.row).index(row), list(self.column).index(column)])

    def csv(self) -> str:
        """Comma-separated: a column of names, then per column its values and, if any, its ±."""
        stream = io.StringIO()
        out = csv.writer(stream, lineterminator="\n")
        with_error = [bool(np.isfinite(self.error[:, j]).any()) for j in range(len(self.column))]
        heads = [""]
        for name, units, has in zip(self.column, self.units, with_error, strict=True):
            heads.append(f"{name} ({units})" if units else str(name))
            heads += [f"± {name}"] if has else []
        out.writerow(heads)
        for i, name in enumerate(self.row):
            cells: list[Any] = [name]
            for j, has in enumerate(with_error):
                cells.append(_cell(self.value[i, j]))
                cells += [_cell(self.error[i, j])] if has else []
            out.writerow(cells)
        return stream.getvalue()


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.8g}"


def sheet(
    rows: Mapping[str, Sequence[Any]],
    columns: Sequence[str],
    units: Sequence[str] | str = "",
    what: str = "",
    *,
    provenance: Provenance | None = None,
) -> Sheet:
    """A ``Sheet`` from rows by name, whose cells are numbers, ``(value, error)`` pairs or None."""
    values = np.full((len(rows), len(columns)), np.nan)
    errors = np.full_like(values, np.nan)
    for i, (name, cells) in enumerate(rows.items()):
        if len(cells) != len(columns):
            raise ValueError(f"row '{name}' has {len(cells)} cells, the table {len(columns)}.")
        for j, cell in enumerate(cells):
            if isinstance(cell, tuple):
                values[i, j], errors[i, j] = cell
            elif cell is not None:
                values[i, j] = cell
    return Sheet(
        provenance=provenance or Record("sheet", {}, None).finish(),
        row=np.array(list(rows), dtype=str),
        column=np.array(list(columns), dtype=str),
        units=np.array([units] * len(columns) if isinstance(units, str) else units, dtype=str),
        value=values,
        error=errors,
        what=what,
    )


@dataclass(frozen=True, eq=False)
class Curves(Result):
    """Curves over one abscissa: ``y[curve, point]`` ± ``error[curve, point]``, NaN for none."""

    kind: ClassVar[str] = "curves"

    x: np.ndarray = array("x")
    curve: np.ndarray = array("curve")
    y: np.ndarray = array("curve", "x")
    error: np.ndarray = array("curve", "x", label="±")
    x_label: str = scalar(default="")
    y_label: str = scalar(default="")
    what: str = scalar(label="what ± is", default="")

    def of(self, curve: str) -> np.ndarray:
        """The values of one curve."""
        return np.asarray(self.y[list(self.curve).index(curve)])


def curves(
    x: Any,
    named: Mapping[str, Any],
    *,
    x_label: str = "",
    y_label: str = "",
    errors: Mapping[str, Any] | None = None,
    what: str = "",
    provenance: Provenance | None = None,
) -> Curves:
    """``Curves`` from values by name."""
    x = np.asarray(x, dtype=np.float64)
    none = np.full(len(x), np.nan)
    return Curves(
        provenance=provenance or Record("curves", {}, None).finish(),
        x=x,
        curve=np.array(list(named), dtype=str),
        y=np.array([np.asarray(y, dtype=np.float64) for y in named.values()]).reshape(-1, len(x)),
        error=np.array([np.asarray((errors or {}).get(n, none)) for n in named]).reshape(
            -1, len(x)
        ),
        x_label=x_label,
        y_label=y_label,
        what=what,
    )
