"""Loss and error along a curve, beside the straight line."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import nn

from landscape import parallel
from landscape import params as P
from landscape.attacks import Attack
from landscape.connectivity.batchnorm import reestimate, running
from landscape.connectivity.curves import Curve
from landscape.errors import UsageError
from landscape.functional import untouched
from landscape.losses import Loss
from landscape.objective import Objective, Value
from landscape.params import Params
from landscape.provenance import Record
from landscape.results import Result, array, scalar
from landscape.training.samples import Samples

LINE = "straight line"


@dataclass(frozen=True, eq=False)
class Connectivity(Result):
    """Loss and error at points t of a trained curve B and of the straight line.

    With L the training loss and A, B the ends (Garipov et al. 2018; Draxler et al. 2018):

    - ``barrier``: max_t L(B(t)) − max(L(A), L(B)), at least 0 as the ends are among the t;
    - ``barrier_linear``: max_t [L(B(t)) − (1−t) L(A) − t L(B)], over the interpolation of the
      two losses, which differs where the ends do.
    """

    kind: ClassVar[str] = "connectivity"

    path: np.ndarray = array("path")
    t: np.ndarray = array("t", label="position t along the path")
    train_loss: np.ndarray = array("path", "t", units="nats", label="training loss")
    train_error: np.ndarray | None = array("path", "t", units="fraction", default=None)
    test_error: np.ndarray | None = array("path", "t", units="fraction", default=None)
    robust_test_error: np.ndarray | None = array("path", "t", units="fraction", default=None)
    barrier: np.ndarray = array("path", units="nats")
    barrier_linear: np.ndarray = array("path", units="nats")
    highest_loss: np.ndarray = array("path", units="nats")
    highest_t: np.ndarray = array("path")
    length: np.ndarray = array("path", label="arc length in parameter space")
    epoch_loss: np.ndarray = array("epoch", units="nats", label="mean loss at random t")
    curve: str = scalar(label="kind of curve")
    order: int = scalar()
    test_samples: int = scalar()

    @property
    def ratio(self) -> float | None:
        """Barrier of the curve over that of the straight line; ``None`` where that one is 0."""
        line, curve = float(self.barrier[-1]), float(self.barrier[0])
        return curve / line if line > 0 else None

    @property
    def better(self) -> bool:
        """Whether the curve's barrier is at most the straight line's, or negligible: at most 1 %
        of the higher end's loss."""
        end = float(self.train_loss[0, [0, -1]].max())
        return bool(self.barrier[0] <= max(self.barrier[-1], 0.01 * end))

    @property
    def loss_label(self) -> str:
        """Which training loss was followed, for axes."""
        adversarial = self.provenance.objective["attack"] is not None
        return "adversarial training loss (nats)" if adversarial else "training loss (nats)"

    def plot(self, ax: Any = None) -> Any:
        from landscape.plotting.connectivity import draw_losses

        return draw_losses([self], ax=ax)


def profile(
    model: nn.Module,
    curve: Curve,
    train: Any,
    test: Any = None,
    *,
    attack: Attack | None = None,
    adversarial: bool | None = None,
    loss: str | Loss = "cross-entropy",
    points: int = 31,
    bn_batch_size: int = 128,
    batch_size: int = 256,
    seed: int = 0,
    epoch_loss: Sequence[float] = (),
    resume: Connectivity | None = None,
    save: Callable[[Connectivity], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Connectivity:
    """Training loss and test error at ``points`` equally spaced t, both ends included.

    At every t of both paths, ends included, BatchNorm's statistics are estimated again on the
    training data (``reestimate``); the rest is in eval mode. The model, which gives all but the
    curve's parameters, is left untouched.

    Args:
        test: held-out data, for the errors. attack: for the robust test error, and for the
            training loss if ``adversarial`` (by default: if there is an attack); made again at
            every t from the same starts.
        bn_batch_size: of BatchNorm's re-estimation. batch_size: of the evaluation.
        epoch_loss: of the curve's training, to be kept in the result.
        resume: a partial result of the same settings, whose finite points are kept.
        save: called with the partial result after every point; what is missing is NaN.

    Cost per t and path: a forward pass over the training data each for BatchNorm and the loss,
    one over the test data, and the attack's. When it lies: the maximum over t is one over the
    grid, so narrow peaks are missed: compare another ``points``.
    """
    with untouched(model):
        probe = Probe(
            model,
            train,
            test,
            attack=attack,
            adversarial=adversarial,
            loss=loss,
            bn_batch_size=bn_batch_size,
            batch_size=batch_size,
            seed=seed,
        )
        digest = P.digest({"points": curve.points})
        record = Record("profile", probe.describe(), seed, points=points, curve=digest)
        return measure(
            probe,
            curve,
            points,
            record,
            epoch_loss=epoch_loss,
            resume=resume,
            save=save,
            progress=progress,
        )


def measure(
    probe: Probe,
    curve: Curve,
    points: int,
    record: Record,
    *,
    earlier: float = 0.0,
    epoch_loss: Sequence[float] = (),
    resume: Connectivity | None = None,
    save: Callable[[Connectivity], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Connectivity:
    """``profile`` with all made ready; ``earlier`` seconds were spent in interrupted runs."""
    check_points(points)
    paths = {"curve": curve, LINE: curve.line()}
    t = np.linspace(0, 1, points)
    grids = {name: np.full((len(paths), points), np.nan) for name in Measured.names()}
    lengths = np.array([path.length() for path in paths.values()])
    if resume is not None:
        record.check_same(resume.provenance)
    # Points of another curve, trained again because its file was damaged, don't count.
    if resume is not None and np.array_equal(resume.length, lengths):
        # A curve that was trained before has its seconds in the partial result, too.
        earlier = max(earlier, resume.provenance.wall_time)
        for name, grid in grids.items():
            known = getattr(resume, name)
            if known is not None:
                grid[:] = known

    def found() -> Connectivity:
        losses = grids["train_loss"].copy()
        first, last = losses[:, :1], losses[:, -1:]
        highest = losses.max(1)
        return Connectivity(
            provenance=record.finish(earlier=earlier),
            path=np.array(list(paths)),
            t=t,
            train_loss=losses,
            **{
                name: None if np.isnan(grid).all() else grid.copy()
                for name, grid in grids.items()
                if name != "train_loss"
            },
            barrier=highest - np.maximum(first, last)[:, 0],
            barrier_linear=(losses - (1 - t) * first - t * last).max(1),
            highest_loss=highest,
            highest_t=t[losses.argmax(1)],
            length=lengths,
            epoch_loss=np.array(epoch_loss, dtype=np.float64),
            curve=curve.kind,
            order=curve.order,
            test_samples=probe.test_samples,
        )

    names = list(paths)
    missing = [
        (j, i)
        for j in range(len(names))
        for i in range(points)
        if np.isnan(grids["train_loss"][j, i])
    ]

    def work(place: tuple[int, int]) -> dict[str, float]:
        return dataclasses.asdict(probe.at(paths[names[place[0]]].at(float(t[place[1]]))))

    def collect(place: tuple[int, int], measured: dict[str, float]) -> None:
        for name, grid in grids.items():
            grid[place] = measured[name]
        done.append(place)
        if save is not None:
            save(found())
        if progress is not None:
            progress(len(paths) * points - len(missing) + len(done), len(paths) * points)

    done: list[tuple[int, int]] = []
    parallel.group().spread(missing, work, collect)
    return found()


def check_points(points: int) -> None:
    """Refuse fewer than both ends and a middle."""
    if points < 3:
        raise UsageError(f"points must be at least 3, both ends and a middle, got {points}.")


@dataclass(frozen=True)
class Measured:
    """One point of a path; NaN for what was not asked for."""

    train_loss: float
    train_error: float = math.nan
    test_error: float = math.nan
    robust_test_error: float = math.nan

    @classmethod
    def names(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]


class Probe:
    """The network at any parameters: ``scratch`` is a copy whose buffers may be written."""

    def __init__(
        self,
        model: nn.Module,
        train: Any,
        test: Any,
        *,
        attack: Attack | None,
        adversarial: bool | None,
        loss: str | Loss,
        bn_batch_size: int,
        batch_size: int,
        seed: int,
    ) -> None:
        adversarial = attack is not None if adversarial is None else adversarial
        if adversarial and attack is None:
            raise UsageError(
                "the adversarial loss needs an attack, for example attack('pgd-10', eps=8/255)."
            )
        scratch = copy.deepcopy(model)

        def objective(data: Any, how: Attack | None) -> Objective:
            return Objective(scratch, data, loss, how, "each", seed=seed, batch_size=batch_size)

        self.scratch, self.bn_batch_size = scratch, bn_batch_size
        self.train = objective(train, attack if adversarial else None)
        self.test = None if test is None else objective(test, None)
        self.robust = None
        if self.test is not None and attack is not None:
            self.robust = self.test.with_attack(attack)
        self.samples = Samples(train, self.train.device, self.train.dtype)

    @property
    def test_samples(self) -> int:
        return 0 if self.test is None else self.test.batches.samples

    def at(self, params: Params) -> Measured:
        reestimate(self.scratch, params, self.samples, self.bn_batch_size)
        train = self.train.value(params)
        return Measured(
            train.loss,
            _error(train),
            math.nan if self.test is None else _error(self.test.value(params)),
            math.nan if self.robust is None else _error(self.robust.value(params)),
        )

    def describe(self) -> dict[str, Any]:
        """For the provenance: the objective of the training loss, and the rest of what matters."""
        found = self.train.describe()
        found["model"]["batchnorm"] = (
            f"re-estimated at every t, batches of {self.bn_batch_size}"
            if running(self.scratch)
            else "none"
        )
        found["test"] = None
        if self.test is not None:
            found["test"] = self.test.describe()["data"]
        found["test_attack"] = None if self.robust is None else self.robust.describe()["attack"]
        return found


def _error(value: Value) -> float:
    return math.nan if value.accuracy is None else 1 - value.accuracy
