"""Auto-PGD: steps whose length follows from the progress made (Croce & Hein 2020, Algorithm 1)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.attacks.problem import Problem, StepMask, Visit, spread

# Share of a step taken towards its end, the rest goes as the step before (the paper's α).
MOMENTUM = 0.75
# Share of steps that must have raised the objective for the step length to stay (ρ).
RISING = 0.75


def checkpoints(steps: int) -> list[int]:
    """The steps ⌈p_j·steps⌉ at which lengths are revised: p = .22, .41, .57, .70, .80, .87, …

    p_0 = 0, p_1 = .22, p_{j+1} = p_j + max(p_j − p_{j−1} − .03, .06).

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    found, before, share = [], 0, 22  # in hundredths, which are exact
    while share < 100:
        found.append(-(-share * steps // 100))
        before, share = share, share + max(share - before - 3, 6)
    return sorted(set(found))


@dataclass
class _State:
    """Per sample, so that samples can be left out: where it is and how it came there."""

    points: Tensor
    before: Tensor
    step: Tensor
    best: Tensor
    best_gradient: Tensor
    best_value: Tensor
    last_value: Tensor
    rises: Tensor
    checked_value: Tensor
    halved: Tensor

    @classmethod
    def at(cls, points: Tensor, step_size: float) -> _State:
        n = len(points)
        low = torch.full((n,), float("-inf"), dtype=points.dtype, device=points.device)
        none = torch.zeros(n, dtype=torch.bool, device=points.device)
        return cls(
            points=points,
            before=points,
            step=torch.full_like(low, step_size),
            best=points,
            best_gradient=torch.zeros_like(points),
            best_value=low,
            last_value=-low,  # so that arriving at the start is no rise
            rises=torch.zeros_like(low),
            checked_value=low,
            halved=none,
        )

    def take(self, rows: Tensor) -> _State:
        fields = {f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)}
        return _State(**fields)


def ascend(
    problem: Problem,
    points: Tensor,
    *,
    steps: int,
    step_size: float,
    step_mask: StepMask | None = None,
    visit: Visit,
) -> Tensor:
    """Projected steepest ascent with momentum and one step length η per sample; the last point.

    z = P(x_k + η s(∇)), x_{k+1} = P(x_k + .75 (z − x_k) + .25 (x_k − x_{k−1})), with P the
    projection onto ball and box. At ``checkpoints`` a sample whose objective rose in fewer than
    3/4 of the steps since the last one, or whose best objective and η are both as they were
    there, halves η and goes on from its best point. ``visit`` sees all points, and samples
    that it doesn't let go on are left out. Cost: as PGD with ``visit``.
    """
    s = _State.at(points, step_size)
    revisions = checkpoints(steps)
    since = 0
    for k in range(steps):
        logits, values, gradient = problem.gradient(s.points)
        values = torch.where(values.isnan(), float("-inf"), values).to(s.best_value)
        going = visit(s.points, logits, values)
        if going is not None:
            problem, s = problem.take(going), s.take(going)
            logits, values, gradient = logits[going], values[going], gradient[going]
            if not len(s.points):
                return s.points
        better = values > s.best_value
        s.best = torch.where(spread(better, s.best), s.points, s.best)
        s.best_gradient = torch.where(spread(better, s.best), gradient, s.best_gradient)
        s.best_value = torch.where(better, values, s.best_value)
        s.rises = s.rises + (values > s.last_value)
        s.last_value = values
        if k == 0:
            s.checked_value = s.best_value
            s.best_gradient = gradient
        if k in revisions:
            gradient = _revise(s, gradient, k - since)
            since = k
        kept = MOMENTUM if k else 1.0
        ahead = problem.place(s.points + spread(s.step, points) * problem.ball.steepest(gradient))
        moved = problem.place(
            s.points + kept * (ahead - s.points) + (1 - kept) * (s.points - s.before)
        )
        if step_mask is not None:
            mask = step_mask(k, s.points, logits, gradient)
            moved = torch.where(spread(mask, moved), moved, s.points)
        s.before, s.points = s.points, moved
    visit(s.points, *problem.look(s.points))
    return s.points


def _revise(s: _State, gradient: Tensor, steps: int) -> Tensor:
    """Halve the steps of samples without enough progress; the gradient where they go on."""
    halve = (s.rises < RISING * steps) | (~s.halved & (s.best_value <= s.checked_value))
    s.step = torch.where(halve, s.step / 2, s.step)
    s.points = torch.where(spread(halve, s.best), s.best, s.points)
    s.last_value = torch.where(halve, s.best_value, s.last_value)
    s.rises = torch.zeros_like(s.rises)
    s.checked_value, s.halved = s.best_value, halve
    return torch.where(spread(halve, gradient), s.best_gradient, gradient)
