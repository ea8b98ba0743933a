"""The loss along one or two directions in parameter space."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape import parallel
from landscape import params as P
from landscape.directions import Directions, make
from landscape.errors import NumericalError, UsageError
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

    With ``draws`` > 0 row j is instead the line L(θ + x·d_j) along its own random direction.
    NaN where a point was not computed (``done`` is false) or the loss is not finite (``done``).
    ``clean_loss`` and ``clean_accuracy`` are those without the attack, where they were asked for.
    """

    kind: ClassVar[str] = "surface"

    x: np.ndarray = array("x", label="step along direction 1")
    y: np.ndarray = array("y", label="step along direction 2")
    loss: np.ndarray = array("y", "x", label="loss")
    accuracy: np.ndarray | None = array("y", "x", label="accuracy", default=None)
    clean_loss: np.ndarray | None = array("y", "x", label="clean loss", default=None)
    clean_accuracy: np.ndarray | None = array("y", "x", label="clean accuracy", default=None)
    sample_loss: np.ndarray | None = array("y", "x", "sample", label="loss", default=None)
    done: np.ndarray = array("y", "x")
    draws: int = scalar(label="random directions, a row each", default=0)
    centre_loss: float = scalar(label="loss at the model's own parameters")
    centre_error: float | None = scalar(label="|grid centre − centre loss|", default=None)
    directions: str = scalar(label="kind of directions")
    direction_norms: np.ndarray = array("direction", label="‖d‖₂")
    direction_cosine: float | None = scalar(label="cosine between d₁ and d₂", default=None)
    mark: np.ndarray | None = array("mark", label="other networks", default=None)
    mark_x: np.ndarray | None = array("mark", default=None)
    mark_y: np.ndarray | None = array("mark", default=None)
    path_x: np.ndarray | None = array("step", label="path of the training", default=None)
    path_y: np.ndarray | None = array("step", default=None)
    explained_variance: np.ndarray | None = array(
        "direction", label="share of the path's variance", default=None
    )

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
    directions: str | Directions | Sequence[Params] = "random",
    *,
    x: Axis | None = None,
    y: Axis | None = None,
    normalisation: str = "filter",
    one_d: str = "ignore",
    orthogonal: bool = False,
    others: Mapping[str, Params] | None = None,
    draws: int = 0,
    clean: bool = False,
    per_sample: bool = False,
    in_place: bool = False,
    seed: int = 0,
    resume: Surface | None = None,
    save: Callable[[Surface], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Surface:
    """The loss on a grid θ + x·d₁ + y·d₂ around the model, or on a line θ + x·d₁.

    Args:
        objective: what is evaluated. Its ``refresh`` decides whether adversarial examples are made
            again at every point (``each``: L_ε itself) or held from the centre (``fixed``).
        directions: a kind from ``DIRECTIONS``, ``Directions``, or one or two vectors of one's own.
        x, y: the grid. ``y=None`` with a kind, or one direction, draws a line. By default
            ``Axis()``; between networks from −0.5 to 1.5; around a training's path.
        normalisation, one_d, orthogonal: of random directions, see ``directions.make``.
        others: for ``between`` and ``trajectory``, the parameters of other networks by name.
        draws: lines along so many random directions, for their mean and scatter.
        clean: also the clean loss and accuracy at every point, if there is an attack.
        per_sample: also keep the loss of every sample (points × samples numbers).
        in_place: for models that fill the accelerator: the parameters themselves are moved, and put
            back exactly, from copies of them and of the directions in the computer's memory. The
            same numbers; without it there are four more vectors of the size of θ beside the model.
        seed: of the random directions. Another seed is another plane: compare several.
        resume: a partial surface of the same settings, whose finished points are kept.
        save: called with the partial surface after every row (every point of a line).
        progress: called as (points done, points).

    Cost: one forward pass over the data per point, plus the attack's under ``each``, plus one for
    ``clean``. When it lies: two directions out of millions show a slice; scales compare between
    networks only with normalised directions; BatchNorm keeps its running statistics, which are
    wrong far from the model, above all between two networks, unless the objective has
    ``batchnorm="reestimate"``.
    """
    theta = objective.params
    if in_place:
        theta = {name: p.to("cpu", copy=True) for name, p in theta.items()}
    found = _directions(
        objective,
        directions,
        1 if y is None else 2,
        draws,
        seed,
        theta,
        normalisation=normalisation,
        one_d=one_d,
        orthogonal=orthogonal,
        others=others,
    )
    if in_place:
        moved = [{name: t.cpu() for name, t in d.items()} for d in found.vectors]
        found = dataclasses.replace(found, vectors=tuple(moved))
    vectors = found.vectors
    if draws:
        if y is not None:
            raise UsageError("draws are of lines: leave out y.")
    elif len(vectors) not in (1, 2) or (len(vectors) == 1 and y is not None):
        raise UsageError(f"got {len(vectors)} directions: give one for a line, two for a plane.")
    norms = np.array([P.norm(d) for d in vectors])
    usable = np.isfinite(norms) & (norms > 0)
    if not usable.all():
        raise UsageError(
            f"direction {int(np.argmin(usable)) + 1} is zero or not finite: nothing would move."
        )
    x = x or default_axis(found, 0)
    if len(vectors) == 2 and not draws:
        y = y or default_axis(found, 1)
    record = Record(
        "surface",
        objective.describe(),
        seed,
        directions=found.kind,
        # Of the directions themselves: those of a file were drawn by other settings.
        normalisation=found.made.get("normalisation"),
        one_d=found.made.get("one_d"),
        orthogonal=found.made.get("orthogonal"),
        direction_digests=[P.digest(d) for d in vectors],
        x=[x.low, x.high, x.points],
        y=[y.low, y.high, y.points] if y else None,
        draws=draws,
        clean=clean,
        per_sample=per_sample,
    )
    centre = objective.value()
    if not math.isfinite(centre.loss):
        raise NumericalError(
            f"the loss at the model's own parameters is {centre.loss}: there is no landscape to "
            "draw around it."
        )
    rows = np.arange(draws, dtype=float) if draws else y.coordinates() if y else np.zeros(1)
    grid = _Grid(x.coordinates(), rows, draws, centre, resume, record)
    unperturbed = objective.with_attack(None) if clean and objective.attack else None

    def partial() -> Surface:
        return grid.surface(record, found, norms)

    def measure(at: Params | None) -> dict[str, Any]:
        value = objective.value(at)
        point: dict[str, Any] = {"loss": value.loss, "accuracy": value.accuracy}
        if per_sample:
            point["sample_loss"] = objective.per_sample(at)[0].cpu()
        if unperturbed is not None:
            value = unperturbed.value(at)
            point |= {"clean_loss": value.loss, "clean_accuracy": value.accuracy}
        return point

    @functools.lru_cache(1)
    def row(j: int) -> Params:
        return objective.params if y is None else P.axpy(grid.y[j], vectors[1], objective.params)

    def work(at: tuple[int, int]) -> dict[str, Any]:
        j, i = at
        along = vectors[j if draws else 0]
        if not in_place:
            return measure(P.axpy(grid.x[i], along, row(j)))
        steps = [(float(grid.x[i]), along)]
        if y is not None:
            steps.insert(0, (float(grid.y[j]), vectors[1]))
        with objective.moved(theta, steps):
            return measure(None)

    def collect(at: tuple[int, int], point: dict[str, Any]) -> None:
        grid.put(*at, point)
        if progress is not None:
            progress(int(grid.done.sum()), grid.done.size)
        if save is not None and (y is None or grid.done[at[0]].all()):
            save(partial())

    missing = [(int(j), int(i)) for j, i in np.argwhere(~grid.done)]
    parallel.group().spread(missing, work, collect)
    return partial()


def _directions(
    objective: Objective,
    directions: str | Directions | Sequence[Params],
    count: int,
    draws: int,
    seed: int,
    theta: Params,
    **options: Any,
) -> Directions:
    if draws < 0 or draws == 1:
        raise UsageError(f"draws must be at least 2, for a scatter, got {draws}.")
    if draws and directions != "random":
        raise UsageError("draws are of random directions: leave out the kind of directions.")
    if isinstance(directions, str):
        streams = Streams(seed, "surface")
        count = draws or count
        return make(directions, objective, count, theta=theta, streams=streams, **options)
    if isinstance(directions, Directions):
        return directions.like(theta)
    return Directions("given", tuple(directions))


def default_axis(directions: Directions, axis: int) -> Axis:
    """The range of an axis that shows all that is marked, with room around it."""
    if directions.kind == "between":
        low = min(0.0, *(at[axis] for at in directions.marks.values()))
        high = max(1.0, *(at[axis] for at in directions.marks.values()))
        return Axis(low - 0.5, high + 0.5)
    if directions.path:
        values = [at[axis] for at in directions.path]
        room = 0.2 * (max(values) - min(values)) or 1.0
        return Axis(min(values) - room, max(values) + room)
    return Axis()


class _Grid:
    """The arrays being filled."""

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        draws: int,
        centre: Value,
        resume: Surface | None,
        record: Record,
    ) -> None:
        self.x, self.y, self.draws, self.centre = x, y, draws, centre
        self.arrays: dict[str, np.ndarray] = {}
        self.done = np.zeros((len(y), len(x)), dtype=bool)
        self.earlier = 0.0
        if resume is not None:
            record.check_same(resume.provenance)
            self.done = resume.done.copy()
            for name in _MEASURED:
                values = getattr(resume, name)
                if values is not None:
                    self.arrays[name] = values.copy()
            self.earlier = resume.provenance.wall_time

    def put(self, j: int, i: int, point: dict[str, Any]) -> None:
        for name, value in point.items():
            if value is None:
                continue
            value = np.asarray(value, dtype=float)
            if name not in self.arrays:
                self.arrays[name] = np.full((*self.done.shape, *value.shape), np.nan)
            self.arrays[name][j, i] = np.where(np.isfinite(value), value, np.nan)
        self.done[j, i] = True

    def surface(self, record: Record, directions: Directions, norms: np.ndarray) -> Surface:
        at_zero = self.done & (self.x[None, :] == 0)
        if not self.draws:
            at_zero &= self.y[:, None] == 0
        error = None
        if at_zero.any():
            error = float(np.abs(self.arrays["loss"][at_zero] - self.centre.loss).max())
        cosine = None
        if len(norms) == 2 and not self.draws:
            cosine = P.dot(*directions.vectors) / float(norms.prod())
        marks, path = directions.marks, np.array(directions.path).reshape(-1, 2)
        return Surface(
            provenance=record.finish(earlier=self.earlier),
            x=self.x,
            y=self.y,
            **{name: values.copy() for name, values in self.arrays.items()},
            done=self.done.copy(),
            draws=self.draws,
            centre_loss=self.centre.loss,
            centre_error=error,
            directions=directions.kind,
            direction_norms=norms,
            direction_cosine=cosine,
            mark=np.array(list(marks)) if marks else None,
            mark_x=np.array([at[0] for at in marks.values()]) if marks else None,
            mark_y=np.array([at[1] for at in marks.values()]) if marks else None,
            path_x=path[:, 0] if len(path) else None,
            path_y=path[:, 1] if len(path) else None,
            explained_variance=np.array(directions.explained) if directions.explained else None,
        )


_MEASURED = ("loss", "accuracy", "clean_loss", "clean_accuracy", "sample_loss")
