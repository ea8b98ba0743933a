"""The loss along one or two directions in parameter space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape import params as P
from landscape.directions import DIRECTIONS
from landscape.errors import NumericalError, UsageError, unknown
from landscape.objective import Objective, Value
from landscape.params import Params
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Result, array, scalar


@dataclass(frozen=True)
class Axis:
    """``points`` equally spaced coefficients from ``low`` to ``high``, both included."""

    low: float = -1.0
    high: float = 1.0
    points: int = 51

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise UsageError(f"the range of an axis must be finite, got {self.low}:{self.high}.")
        if not self.low < self.high:
            raise UsageError(
                f"the range of an axis must grow, got {self.low:g}:{self.high:g}: "
                "write the smaller limit first."
            )
        if self.points < 2:
            raise UsageError(f"an axis needs at least 2 points, got {self.points}.")

    def coordinates(self) -> np.ndarray:
        """The coefficients; 0 is exact wherever the grid holds it up to rounding."""
        values = np.linspace(self.low, self.high, self.points)
        values[np.abs(values) < 1e-12 * (self.high - self.low)] = 0.0
        return values


@dataclass(frozen=True, eq=False)
class Surface(Result):
    """L(θ + x·d₁ + y·d₂), rows along y; a curve along one direction has the single row y = 0.

    NaN where a point was not computed (``done`` is false) or the loss is not finite (``done``).
    """

    kind: ClassVar[str] = "surface"

    x: np.ndarray = array("x", label="step along direction 1")
    y: np.ndarray = array("y", label="step along direction 2")
    loss: np.ndarray = array("y", "x", label="loss")
    accuracy: np.ndarray | None = array("y", "x", default=None)
    done: np.ndarray = array("y", "x")
    centre_loss: float = scalar(label="loss at the model's own parameters")
    centre_error: float | None = scalar(label="|grid centre − centre loss|", default=None)
    directions: str = scalar(label="kind of directions")
    direction_norms: np.ndarray = array("direction", label="‖d‖₂")

    @property
    def loss_label(self) -> str:
        """Which loss was drawn, for axes and colour bars."""
        objective = self.provenance.objective
        if objective["attack"] is None:
            return "loss"
        held = objective["perturbation"] == "fixed"
        return "adversarial loss, " + ("perturbation held" if held else "re-attacked")

    @property
    def complete(self) -> bool:
        """Whether every grid point was evaluated."""
        return bool(self.done.all())

    @property
    def consistent(self) -> bool:
        """Whether the grid's centre, if it holds one, equals the evaluated loss."""
        return self.centre_error is None or self.centre_error <= 1e-5 * max(
            1.0, abs(self.centre_loss)
        )

    def plot(self, ax: Any = None, **style: Any) -> Any:
        from landscape.plotting.surface import draw

        return draw(self, ax=ax, **style)


def surface(
    objective: Objective,
    directions: str | Sequence[Params] = "random",
    *,
    x: Axis | None = None,
    y: Axis | None = None,
    normalisation: str = "filter",
    one_d: str = "ignore",
    seed: int = 0,
    resume: Surface | None = None,
    save: Callable[[Surface], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Surface:
    """The loss on a grid θ + x·d₁ + y·d₂ around the model, or on a line θ + x·d₁.

    Args:
        objective: what is evaluated. Its ``refresh`` decides whether adversarial examples are made
            again at every point (``each``: L_ε itself) or held from the centre (``fixed``).
        directions: a kind from ``DIRECTIONS``, or one or two directions of one's own.
        x, y: the grid, ``Axis()`` by default. ``y=None`` with a kind, or one direction, draws
            a line.
        normalisation, one_d: of random directions, see ``params.normalise``.
        seed: of the random directions. Another seed is another plane: compare several.
        resume: a partial surface of the same settings, whose finished points are kept.
        save: called with the partial surface after every row (every point of a line).
        progress: called as (points done, points).

    Cost: one forward pass over the data per point, plus the attack's under ``each``. When it lies:
    two directions out of millions show a slice; scales compare between networks only with
    normalised directions; BatchNorm keeps its running statistics.
    """
    x = x or Axis()
    kind = directions if isinstance(directions, str) else "given"
    if isinstance(directions, str):
        if directions not in DIRECTIONS:
            raise unknown("kind of directions", directions, DIRECTIONS)
        directions = DIRECTIONS[directions](
            objective.params,
            2 if y else 1,
            normalisation=normalisation,
            one_d=one_d,
            streams=Streams(seed, "surface"),
        )
    elif len(directions) == 2:
        y = y or Axis()
    if len(directions) not in (1, 2) or (len(directions) == 1 and y is not None):
        raise UsageError(f"got {len(directions)} directions: give one for a line, two for a plane.")
    norms = np.array([P.norm(d) for d in directions])
    usable = np.isfinite(norms) & (norms > 0)
    if not usable.all():
        raise UsageError(
            f"direction {int(np.argmin(usable)) + 1} is zero or not finite: nothing would move."
        )
    record = Record(
        "surface",
        objective.describe(),
        seed,
        directions=kind,
        normalisation=normalisation if kind == "random" else None,
        one_d=one_d if kind == "random" else None,
        direction_digests=[P.digest(d) for d in directions],
        x=[x.low, x.high, x.points],
        y=[y.low, y.high, y.points] if y else None,
    )
    centre = objective.value()
    if not math.isfinite(centre.loss):
        raise NumericalError(
            f"the loss at the model's own parameters is {centre.loss}: there is no landscape to "
            "draw around it."
        )
    grid = _Grid(x.coordinates(), y.coordinates() if y else np.zeros(1), centre, resume, record)

    def partial() -> Surface:
        return grid.surface(record, kind, norms)

    total = grid.done.size
    for j, y_j in enumerate(grid.y):
        if grid.done[j].all():
            continue
        row = P.axpy(float(y_j), directions[1], objective.params) if y else objective.params
        for i, x_i in enumerate(grid.x):
            if grid.done[j, i]:
                continue
            grid.put(j, i, objective.value(P.axpy(float(x_i), directions[0], row)))
            if progress is not None:
                progress(int(grid.done.sum()), total)
            if save is not None and y is None:
                save(partial())
        if save is not None and y is not None:
            save(partial())
    return partial()


class _Grid:
    """The arrays being filled."""

    def __init__(
        self, x: np.ndarray, y: np.ndarray, centre: Value, resume: Surface | None, record: Record
    ) -> None:
        self.x, self.y, self.centre = x, y, centre
        self.loss = np.full((len(y), len(x)), np.nan)
        self.accuracy = None if centre.accuracy is None else np.full_like(self.loss, np.nan)
        self.done = np.zeros(self.loss.shape, dtype=bool)
        self.earlier = 0.0
        if resume is not None:
            record.check_same(resume.provenance)
            self.loss, self.done = resume.loss.copy(), resume.done.copy()
            if resume.accuracy is not None:
                self.accuracy = resume.accuracy.copy()
            self.earlier = resume.provenance.wall_time

    def put(self, j: int, i: int, value: Value) -> None:
        self.loss[j, i] = value.loss if math.isfinite(value.loss) else np.nan
        if self.accuracy is not None and value.accuracy is not None:
            self.accuracy[j, i] = value.accuracy
        self.done[j, i] = True

    def surface(self, record: Record, kind: str, norms: np.ndarray) -> Surface:
        at_zero = np.argwhere(self.done & (self.y[:, None] == 0) & (self.x[None, :] == 0))
        error = None
        if len(at_zero):
            error = abs(float(self.loss[tuple(at_zero[0])]) - self.centre.loss)
        return Surface(
            provenance=record.finish(earlier=self.earlier),
            x=self.x,
            y=self.y,
            loss=self.loss.copy(),
            accuracy=None if self.accuracy is None else self.accuracy.copy(),
            done=self.done.copy(),
            centre_loss=self.centre.loss,
            centre_error=error,
            directions=kind,
            direction_norms=norms,
        )
