"""How much adversarial perturbations change when the parameters move: their cosine similarity."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape import parallel
from landscape import params as P
from landscape.diagnostics.eigenvalues import Spectrum, spectrum
from landscape.diagnostics.surfaces import Axis
from landscape.directions import random
from landscape.errors import NumericalError, UsageError, unknown
from landscape.functional import Term
from landscape.objective import Objective
from landscape.params import Params
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Estimate, Result, array, scalar

KINDS = ("eigen", "random")
STARTS = ("same", "independent")


@dataclass(frozen=True, eq=False)
class Cosine(Result):
    """Mean cosine between the perturbations made at θ + a·v and at θ − a·v, ‖v‖ = 1.

    Draw k has attack seed ``attack_seed[k]`` and, for ``random``, a direction of its own; the
    eigenvector is the same for all. ``cosine`` is the mean over the samples that have a
    perturbation at both ends, ``sample_std`` the standard deviation over them and ``zero_share``
    the share of the others; with no such sample it is NaN. ``robust_error`` is the error on the
    perturbed samples at θ + end·a·v (None for regression). ``near`` tells where the robust
    accuracy, the mean over the draws, is at least ``floor`` at both ends: liu2020 draws nothing
    beyond.
    """

    kind: ClassVar[str] = "cosine"

    a: np.ndarray = array("a", units="weight", label="step a along the unit vector v")
    direction: np.ndarray = array("direction")
    end: np.ndarray = array("end", label="sign of the step")
    attack_seed: np.ndarray = array("draw")
    cosine: np.ndarray = array("direction", "draw", "a", label="cosine of the perturbations")
    sample_std: np.ndarray = array(
        "direction", "draw", "a", label="standard deviation of the cosine over samples"
    )
    zero_share: np.ndarray = array(
        "direction", "draw", "a", label="share of samples with a zero perturbation"
    )
    robust_error: np.ndarray | None = array(
        "direction", "draw", "end", "a", label="robust error", default=None
    )
    near: np.ndarray = array("direction", "a", label="robust accuracy above the floor")
    floor: float = scalar(label="least robust accuracy")
    starts: str = scalar(label="attack starts at the two ends")
    eigenvalue: float | None = scalar(
        units="loss / weight²", label="top eigenvalue of the Hessian", default=None
    )
    residual: float | None = scalar(
        units="loss / weight²", label="residual ‖Hv − λv‖", default=None
    )
    converged: bool = scalar(label="eigenvector converged")

    @property
    def trustworthy(self) -> bool:
        """Whether the eigenvector met its tolerance (true if none was asked for)."""
        return self.converged

    def mean(self, direction: str) -> list[Estimate]:
        """At every a, the mean of ``cosine`` over the draws, with its standard error."""
        return [Estimate.of(column) for column in self.cosine[self._index(direction)].T]

    def mean_error(self, direction: str) -> np.ndarray:
        """Robust error (end, a), the mean over the draws."""
        if self.robust_error is None:
            raise UsageError("there is no robust error: it needs a classifier.")
        return np.asarray(self.robust_error[self._index(direction)].mean(0))

    def _index(self, direction: str) -> int:
        if direction not in self.direction:
            raise unknown("direction", direction, [str(d) for d in self.direction])
        return list(self.direction).index(direction)

    def plot(self, ax: Any = None, **style: Any) -> Any:
        from landscape.plotting.cosine import draw

        return draw([self], ax=ax, **style)


def perturbation_cosine(
    objective: Objective,
    *,
    directions: Sequence[str] = KINDS,
    a: Axis | None = None,
    draws: int = 4,
    starts: str = "same",
    floor: float = 0.7,
    tol: float = 1e-3,
    seed: int = 0,
    resume: Cosine | None = None,
    save: Callable[[Cosine], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Cosine:
    """cos(δ(θ + av), δ(θ − av)) of the adversarial perturbations δ = x' − x, mean over samples.

    liu2020 §4.2, Figs. 3 and 10: where it falls quickly, the examples change abruptly with θ, and
    so does ∇L_ε. The perturbations are made by the objective's attack at both ends, whatever its
    ``refresh``. v has unit norm over all of θ, without normalisation per filter:

    - ``eigen``: the eigenvector of the largest eigenvalue of ∇²_θ ℓ(x + δ*; θ), the perturbation
      held at θ (sitawarin2021 eq. 9), oriented uphill: ⟨v, ∇L_ε⟩ ≥ 0;
    - ``random``: uniform on the sphere, another one for every draw.

    **Starts.** With ``same``, the default, both ends attack from the same random start, so that
    the cosine is 1 at a = 0, even in a, and shows the effect of θ alone. The paper doesn't say;
    its code makes the two sets of examples in separate, unseeded runs, so from ``independent``
    starts: the curve then begins below 1, by what two runs of the attack differ in at one θ. The
    first draw's starts at θ + av are those of the objective.

    Args:
        objective: with an attack; without one every perturbation is zero. ``refresh`` is unused.
        directions: among ``eigen`` and ``random``.
        a: steps along v, ``Axis(0, 0.5, 11)`` by default, in the units of the weights.
        draws: of attack seeds, and of random directions (the paper: 4).
        starts: ``same`` or ``independent``. floor: of the robust accuracy, for ``near``.
        tol: of the eigenvector, see ``spectrum``. seed: of directions and Lanczos' start; the
            attacks' seeds derive from the objective's own.
        resume: a partial result of the same settings, whose points are kept; the eigenvector is
            found again. save: called with the partial result after every point; NaN where it lacks.
        progress: called as (points done, points).

    Cost: two attacks of all the data per direction, draw and point; an eigenvector besides.
    When it lies: in L∞ every entry of δ is about ±ε, so the cosine counts flipped signs, also of
    pixels the loss hardly depends on. Where the gradient in x is zero, the perturbation is the
    random start, so with ``same`` the cosine is 1: compare with an attack that starts at zero,
    whose zeros are counted. A network far from robust has nothing left to lose: the error can't
    rise. Two networks are comparable at the same a only if their weights are of one size. An
    attack that does not draw random starts gives every draw of ``eigen`` the same numbers, and a
    standard error of zero.
    """
    check_choices(directions, KINDS, "direction")
    if draws < 1:
        raise UsageError(f"draws must be at least 1, got {draws}.")
    if starts not in STARTS:
        raise unknown("choice of starts", starts, STARTS)
    if not 0 <= floor <= 1:
        raise UsageError(f"floor is an accuracy in 0..1, got {floor:g}.")
    axis = a or Axis(0.0, 0.5, 11)
    seeds = attack_seeds(objective, draws)
    record = Record(
        "cosine",
        objective.describe(),
        seed,
        directions=list(directions),
        a=[axis.low, axis.high, axis.points],
        draws=draws,
        starts=starts,
        floor=floor,
        tol=tol,
        hessian_perturbation="fixed",
    )
    if resume is not None:
        record.check_same(resume.provenance)
    lines: dict[str, list[Params]] = {}
    top = None
    for kind in directions:
        if kind == "eigen":
            top, vector = _top_eigenvector(objective, tol, seed)
            lines[kind] = [vector] * draws
        else:
            lines[kind] = random_units(objective.params, draws, Streams(seed, "cosine"))
    classifies = objective.with_attack(None).value().accuracy is not None

    steps = axis.coordinates()
    shape = (len(directions), draws, len(steps))
    cosine, spread, zero = (np.full(shape, math.nan) for _ in range(3))
    errors = np.full((len(directions), draws, 2, len(steps)), math.nan)
    if resume is not None:
        cosine[:], spread[:], zero[:] = resume.cosine, resume.sample_std, resume.zero_share
        if resume.robust_error is not None:
            errors[:] = resume.robust_error
    earlier = resume.provenance.wall_time if resume else 0.0

    def found() -> Cosine:
        # Accuracy 7 of 10 is not below 0.7 for the rounding of 1 − 0.3.
        accurate = 1 - errors.mean(1) >= floor - 1e-12
        return Cosine(
            provenance=record.finish(earlier=earlier),
            a=steps,
            direction=np.array(list(directions)),
            end=np.array([1, -1]),
            attack_seed=np.array(seeds),
            cosine=cosine.copy(),
            sample_std=spread.copy(),
            zero_share=zero.copy(),
            robust_error=errors.copy() if classifies else None,
            near=accurate.all(1) if classifies else np.ones(shape[::2], bool),
            floor=float(floor),
            starts=starts,
            eigenvalue=float(top.eigenvalues[0]) if top else None,
            residual=float(top.residuals[0]) if top else None,
            converged=top.trustworthy if top else True,
        )

    def work(at: tuple[int, int, int]) -> list[list[float]]:
        i, k, j = at
        ends = [attacked(objective, s) for s in _end_seeds(objective, seeds[k], k, starts)]
        cosines, wrong = _compare(ends, float(steps[j]), lines[directions[i]][k], classifies)
        defined = cosines[np.isfinite(cosines)]
        centre = [float(defined.mean()), float(defined.std())] if len(defined) else [math.nan] * 2
        return [[*centre, 1 - len(defined) / len(cosines)], wrong.tolist()]

    def collect(at: tuple[int, int, int], measured: list[list[float]]) -> None:
        cosine[at], spread[at], zero[at] = measured[0]
        errors[at[0], at[1], :, at[2]] = measured[1]
        if save is not None:
            save(found())
        if progress is not None:
            progress(int(np.isfinite(zero).sum()), zero.size)

    # The share of zeros is a number wherever a point was measured.
    missing = [at for at in np.ndindex(*shape) if np.isnan(zero[at])]
    parallel.group().spread(missing, work, collect)
    return found()


# -- shared with smoothness -----------------------------------------------------------------------


def check_choices(chosen: Sequence[str], known: Sequence[str], what: str) -> None:
    """At least one, all known, none twice."""
    if isinstance(chosen, str) or not chosen:
        raise UsageError(f"give a list of {what}s, among {', '.join(known)}.")
    for name in chosen:
        if name not in known:
            raise unknown(what, name, known)
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"{what}s repeat: {', '.join(chosen)}.")


def unit(direction: Params) -> Params:
    """d/‖d‖, refused where there is none."""
    norm = P.norm(direction)
    if not (math.isfinite(norm) and norm > 0):
        raise NumericalError("the direction is zero or not finite: there is nowhere to move.")
    return P.scale(1 / norm, direction)


def random_units(params: Params, count: int, streams: Streams) -> list[Params]:
    """Uniform on the unit sphere of all of θ; direction i doesn't depend on ``count``."""
    # Of 1-D parameters too: "scale" with no normalisation leaves them as they are drawn.
    drawn = random(params, count, normalisation="none", one_d="scale", streams=streams)
    return [unit(d) for d in drawn]


def attack_seeds(objective: Objective, draws: int) -> list[int]:
    """The objective's own seed, and others derived from it."""
    others = Streams(objective.seed, "draws")
    return [objective.seed, *(others.derived_seed(k) for k in range(1, draws))]


def attacked(objective: Objective, seed: int, refresh: str = "each") -> Objective:
    """The same function with its attack's random starts drawn from another seed."""
    return objective.with_attack(objective.attack, refresh, seed=seed)


# -- inside ---------------------------------------------------------------------------------------


def _top_eigenvector(objective: Objective, tol: float, seed: int) -> tuple[Spectrum, Params]:
    held = objective.with_attack(objective.attack, "fixed")
    top = spectrum(held, 1, tol=tol, keep_vectors=True, seed=seed)
    assert top.eigenvectors is not None
    vector = torch.as_tensor(top.eigenvectors[:, 0]).to(objective.device, objective.dtype)
    v = unit(P.unflatten(vector, objective.params))
    return top, P.scale(-1.0, v) if P.dot(v, held.gradient()) < 0 else v


def _end_seeds(objective: Objective, seed: int, draw: int, starts: str) -> tuple[int, int]:
    if starts == "same":
        return seed, seed
    return seed, Streams(objective.seed, "draws").derived_seed("other end", draw)


def _compare(
    ends: Sequence[Objective], step: float, v: Params, classifies: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines (N,), NaN where a perturbation is zero, and the error at θ + step·v, θ − step·v."""
    plus, minus = ends
    cosines: list[Tensor] = []
    wrong = np.zeros(2)
    for (x, y), *pair in _batches(plus, minus, step, v):
        deltas = [(term.x.double() - x.double()).flatten(1) for term in pair]
        cosines.append(_cosine(*deltas))
        if classifies:
            wrong += [_wrong(term, y) for term in pair]
    n = plus.batches.samples
    return torch.cat(cosines).cpu().numpy(), wrong / n if classifies else np.full(2, math.nan)


def _batches(
    plus: Objective, minus: Objective, step: float, v: Params
) -> Iterator[tuple[tuple[Tensor, Tensor], Term, Term]]:
    """Batch by batch, so that no more than one batch of examples is held."""
    return zip(
        plus.batches,
        plus.terms(P.axpy(step, v, plus.params)),
        minus.terms(P.axpy(-step, v, minus.params)),
        strict=True,
    )


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    # One root of the product, not a product of roots: equal vectors give exactly 1.
    squares = (a * a).sum(1) * (b * b).sum(1)
    return torch.where(squares > 0, (a * b).sum(1) / squares.sqrt(), math.nan)


def _wrong(term: Term, y: Tensor) -> int:
    with torch.no_grad():
        output = term.network(term.theta)
    return int((output.argmax(1) != y).sum())
