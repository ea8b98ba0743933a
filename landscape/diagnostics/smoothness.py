"""How smooth the adversarial loss is: local Lipschitz constants of its gradient, ε-sharpness."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape import params as P
from landscape.diagnostics.cosines import (
    attack_seeds,
    attacked,
    check_choices,
    random_units,
    unit,
)
from landscape.directions import make
from landscape.errors import NumericalError, UsageError
from landscape.objective import Objective
from landscape.params import Params
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Estimate, Result, array, scalar

KINDS = ("gradient", "adversarial", "random")
LOSSES = ("clean", "held", "renewed")


@dataclass(frozen=True, eq=False)
class Smoothness(Result):
    """‖∇L(θ + av) − ∇L(θ)‖/a of three losses, with how far the adversarial inputs moved.

    ``loss`` names them: ``clean``; ``held``, the inputs x'(θ) of the centre kept at every point;
    ``renewed``, the attack made again at every point: L_ε itself. Without an attack ``clean`` is
    the only one, and no input moves. Draw k has attack seed ``attack_seed[k]`` and, for
    ``random``, a direction of its own.

    ``through_inputs`` is the part of the renewed ratio that comes from the inputs' move alone,
    ‖∇L(θ + av; x'(θ + av)) − ∇L(θ + av; x'(θ))‖/a, so that renewed ≤ held + through_inputs.
    ``input_move`` is the mean over samples of ‖x'(θ + av) − x'(θ)‖₂. ``sharpness[l, k]`` is the
    largest (L(θ') − L(θ))/(1 + L(θ)) that the k-th ascent met within ``radius``; NaN or infinite
    where it met a loss that is.
    """

    kind: ClassVar[str] = "smoothness"

    a: np.ndarray = array("a", units="weight", label="step a along the unit vector v")
    loss: np.ndarray = array("loss")
    direction: np.ndarray = array("direction")
    attack_seed: np.ndarray = array("draw")
    ratio: np.ndarray = array(
        "loss", "direction", "draw", "a", units="loss / weight²", label="‖∇L(θ + av) − ∇L(θ)‖ / a"
    )
    rounding: np.ndarray = array(
        "loss", "draw", "a", units="loss / weight²", label="rounding error of the ratio"
    )
    through_inputs: np.ndarray = array(
        "direction", "draw", "a", units="loss / weight²", label="ratio due to the inputs' move"
    )
    input_move: np.ndarray = array(
        "direction", "draw", "a", units="input", label="mean ‖x′(θ + av) − x′(θ)‖₂"
    )
    centre_loss: np.ndarray = array("loss", "draw", units="loss", label="L(θ)")
    gradient_norm: np.ndarray = array("loss", "draw", units="loss / weight", label="‖∇L(θ)‖")
    radius: float = scalar(units="weight", label="radius of the ball of the sharpness")
    sharpness: np.ndarray = array("loss", "draw", label="(max L − L(θ)) / (1 + L(θ))")

    @property
    def drowned(self) -> np.ndarray:
        """Ratios (loss, direction, draw, a) that are no larger than their rounding error."""
        return np.asarray(self.ratio <= self.rounding[:, None])

    def mean(self, loss: str, direction: str) -> list[Estimate]:
        """At every a, the mean ratio over the draws, with its standard error."""
        ratios = self.ratio[self._index("loss", loss), self._index("direction", direction)]
        return [Estimate.of(column) for column in ratios.T]

    def mean_move(self, direction: str) -> list[Estimate]:
        """At every a, the mean of ``input_move`` over the draws, with its standard error."""
        moves = self.input_move[self._index("direction", direction)]
        return [Estimate.of(column) for column in moves.T]

    def _index(self, dimension: str, name: str) -> int:
        names = [str(n) for n in getattr(self, dimension)]
        check_choices([name], names, dimension)
        return names.index(name)

    def plot(self, ax: Any = None, **style: Any) -> Any:
        from landscape.plotting.smoothness import draw

        return draw(self, ax=ax, **style)


def local_smoothness(
    objective: Objective,
    *,
    directions: Sequence[str] = ("gradient", "random"),
    a: Sequence[float] | None = None,
    draws: int = 4,
    radius: float = 0.1,
    ascent_steps: int = 10,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Smoothness:
    """Local Lipschitz constants ‖∇L(θ + av) − ∇L(θ)‖/a, ‖v‖ = 1, of the clean and the
    adversarial loss, and the ε-sharpness of each.

    liu2020 Prop. 2 bounds ‖∇L_ε(θ₁) − ∇L_ε(θ₂)‖ by L_θθ‖θ₁ − θ₂‖ + 2ε·L_θx: the second term does
    not shrink with the step, and divided by a it grows as 1/a. kanai2021 Lemma 1 has (C_θθ +
    C·C_θx)‖θ₁ − θ₂‖ instead where x'(θ) is C-Lipschitz: the ratio then stays finite. So a renewed
    curve that rises as a → 0, while ``held`` levels off at ‖Hv‖, is the mark of inputs that jump.
    Every ratio is a lower bound of the Lipschitz constant, and ``input_move``/a one of C. All
    points attack from the same random starts, so that x'(θ) is a function of θ.

    Directions, all of unit norm over θ: ``gradient``, ∇L_ε/‖∇L_ε‖ at θ, uphill; ``adversarial``,
    the ascent direction of adversarial weight perturbation (``directions.DIRECTIONS``); ``random``,
    uniform on the sphere without normalisation per filter, another one for every draw.

    **ε-sharpness** (kanai2021 eq. 73, after Keskar et al. 2017): max over ‖θ' − θ‖ ≤ ``radius`` of
    (L(θ') − L(θ))/(1 + L(θ)). The maximum is sought by θ' ← θ + radius·∇L(θ')/‖∇L(θ')‖, which
    for a quadratic at its minimum is power iteration: it then tends to λ_max·radius²/(2(1 + L)),
    the paper's eq. 74. Elsewhere that equation leaves out the slope, which is first order in the
    radius. The best point met counts, θ itself included, so the value is a lower bound of the
    maximum. Ascent 0 starts along the gradient, the others along random directions.

    Args:
        objective: with an attack; without one there is the clean loss alone. ``refresh`` is unused.
        directions: among ``gradient``, ``adversarial`` and ``random``.
        a: positive steps, growing; by default 7 from 0.01 to 1, evenly spaced in the logarithm.
        draws: of attack seeds, random directions and ascents. radius: of the ball of eq. 73.
        ascent_steps: of every ascent.
        seed: of the random directions; the attacks' seeds derive from the objective's own.
        progress: called as (gradients of L_ε done, all).

    Cost: per direction, draw and point the gradient of all three losses and one attack; per draw
    ``ascent_steps`` + 1 times the same for the sharpness.
    When it lies: the difference of gradients drowns in rounding at small steps; ``rounding`` is
    its size for a smooth loss, roughly (the dtype's resolution times ‖∇L(θ)‖ + ratio·‖θ‖, over
    a). Near it, measure in float64. A kink or a sign within rounding of θ flips in one dtype and
    not in another, and that is more. ReLU networks jump by themselves: their clean loss isn't
    smooth either. In L∞ a sign step moves an input by 2ε·√(entries that flip), however small the
    gradient there.
    """
    check_choices(directions, KINDS, "direction")
    steps = check_steps(a)
    for name, count in (("draws", draws), ("ascent_steps", ascent_steps)):
        if count < 1:
            raise UsageError(f"{name} must be at least 1, got {count}.")
    if not (radius > 0 and math.isfinite(radius)):
        raise UsageError(f"radius must be positive and finite, got {radius}.")
    objective = objective.shared()
    seeds = attack_seeds(objective, draws)
    names = LOSSES if objective.attack else LOSSES[:1]
    record = Record(
        "smoothness",
        objective.describe(),
        seed,
        directions=list(directions),
        a=steps,
        draws=draws,
        radius=radius,
        ascent_steps=ascent_steps,
    )
    streams = Streams(seed, "smoothness")
    starts = random_units(objective.params, draws, streams.child("ascent"))

    shape = (len(directions), draws, len(steps))
    ratio = np.full((len(names), *shape), math.nan)
    through, move = np.zeros(shape), np.zeros(shape)
    losses, norms, sharpness = (np.full((len(names), draws), math.nan) for _ in range(3))
    total, done = draws * (len(directions) * len(steps) + ascent_steps), 0

    def report() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    for k in range(draws):
        family = _family(objective, seeds[k])
        centre = _look(family)
        losses[:, k] = centre.losses
        norms[:, k] = torch.linalg.vector_norm(centre.gradients, dim=1).cpu().numpy()
        _check_centre(centre, names)
        for i, kind in enumerate(directions):
            v = _direction(kind, family[-1], streams.child("draw", k))
            for j, step in enumerate(steps):
                there = _look(family, P.axpy(step, v, objective.params))
                change = there.gradients - centre.gradients
                ratio[:, i, k, j] = torch.linalg.vector_norm(change, dim=1).cpu().numpy() / step
                if len(names) > 1:
                    jump = torch.linalg.vector_norm(there.gradients[2] - there.gradients[1])
                    through[i, k, j], move[i, k, j] = float(jump) / step, there.move
                report()
        sharpness[:, k] = _sharpness(
            family, centre, None if k == 0 else starts[k], radius, ascent_steps, report
        )
    resolution = torch.finfo(objective.dtype).eps / np.array(steps)
    size = P.norm(objective.params)
    return Smoothness(
        provenance=record.finish(),
        a=np.array(steps),
        loss=np.array(names),
        direction=np.array(list(directions)),
        attack_seed=np.array(seeds),
        ratio=ratio,
        # Of the gradients' sums, and of θ + av, which is off by a share of θ.
        rounding=resolution * (norms[..., None] + size * ratio.mean(1)),
        through_inputs=through,
        input_move=move,
        centre_loss=losses,
        gradient_norm=norms,
        radius=float(radius),
        sharpness=sharpness,
    )


def check_steps(a: Sequence[float] | None) -> list[float]:
    """Positive, finite and growing; the default where none are given."""
    steps = [float(s) for s in (np.geomspace(0.01, 1, 7) if a is None else a)]
    if not steps:
        raise UsageError("give at least one step, for example a=(0.01, 0.1, 1).")
    if not all(math.isfinite(s) and s > 0 for s in steps):
        raise UsageError("steps must be positive and finite: the ratio divides by them.")
    if any(later <= step for step, later in pairwise(steps)):
        raise UsageError("steps must grow: write the smaller ones first.")
    return steps


# -- inside ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """At one point: ∇L (losses, n) in float64, L (losses,), and the mean move of the inputs."""

    gradients: Tensor
    losses: np.ndarray
    move: float


def _family(objective: Objective, seed: int) -> list[Objective]:
    """The clean loss and, with an attack, the held and the renewed one."""
    family = [objective.with_attack(None)]
    if objective.attack is not None:
        family += [attacked(objective, seed, refresh) for refresh in ("fixed", "each")]
    return family


def _direction(kind: str, objective: Objective, streams: Streams) -> Params:
    if kind == "random":
        return random_units(objective.params, 1, streams)[0]
    return unit(make(kind, objective, 1, streams=streams).vectors[0])


def _look(family: Sequence[Objective], at: Params | None = None) -> _Look:
    """All losses in one pass, batch by batch."""
    first = family[0]
    gradients = torch.zeros(len(family), P.size(first.params), dtype=torch.float64)
    gradients = gradients.to(first.device)
    losses = torch.zeros(len(family), dtype=torch.float64, device=first.device)
    move = torch.zeros(1, dtype=torch.float64, device=first.device)
    for terms in zip(*(objective.terms(at) for objective in family), strict=True):
        for i, term in enumerate(terms):
            gradients[i] += P.flatten(dict(zip(term.names, term.gradient(), strict=True)))
            with torch.no_grad():
                losses[i] += term(term.theta)
        if len(terms) > 1:
            change = (terms[2].x.double() - terms[1].x.double()).flatten(1)
            move += torch.linalg.vector_norm(change, dim=1).sum()
    for found in (gradients, losses, move):
        first.own.sum(found)
    return _Look(gradients, losses.cpu().numpy(), float(move) / first.batches.samples)


def _check_centre(centre: _Look, names: Sequence[str]) -> None:
    for name, loss, gradient in zip(names, centre.losses, centre.gradients, strict=True):
        if not (math.isfinite(loss) and bool(gradient.isfinite().all())):
            raise NumericalError(
                f"the {name} loss or its gradient is not finite at the model's own parameters: "
                "there is nothing to compare with."
            )


def _sharpness(
    family: Sequence[Objective],
    centre: _Look,
    start: Params | None,
    radius: float,
    steps: int,
    report: Callable[[], None],
) -> np.ndarray:
    """Eq. 73 of every loss by one ascent each, started along ``start`` or the loss's gradient."""
    theta, best = family[0].params, np.zeros(len(family))
    first = centre.gradients if start is None else P.flatten(start).expand_as(centre.gradients)
    direction = list(first)
    for _ in range(steps):
        for i, objective in enumerate(family):
            length = torch.linalg.vector_norm(direction[i])
            if not (bool(length.isfinite()) and length > 0):
                continue  # a flat place: the best so far stands
            d = P.unflatten((direction[i] * (radius / length)).to(objective.dtype), theta)
            there = _look([objective], P.axpy(1.0, d, theta))
            direction[i] = there.gradients[0]
            best[i] = np.maximum(best[i], there.losses[0] - centre.losses[i])  # NaN stays
        report()
    return best / (1 + centre.losses)
