"""Steps of one length, with or without momentum: FGSM, PGD, MI-FGSM, N-FGSM."""

from __future__ import annotations

import torch
from torch import Tensor

from landscape.attacks.ball import flat
from landscape.attacks.problem import Problem, StepMask, Visit, spread


def ascend(
    problem: Problem,
    points: Tensor,
    *,
    steps: int,
    step_size: float | Tensor,
    decay: float = 0.0,
    step_mask: StepMask | None = None,
    skip_held: bool = False,
    visit: Visit | None = None,
) -> Tensor:
    """x_{k+1} = clip(x + Π(x_k + α·s(g_k) − x)) from ``points``; the last point, detached.

    g_k is the gradient, or with ``decay`` μ > 0 the sum g_k = μ g_{k−1} + ∇_k / ‖∇_k‖₁ of
    gradients of unit l1 norm (Dong et al. 2018, eq. 6). ``step_size`` may be one per sample.
    ``visit`` sees all points, and samples that it doesn't let go on are left out. Cost: a forward
    pass and an input gradient per step, with ``skip_held`` of the samples only that the step before
    has moved; and another forward pass for ``visit`` to see the last point.
    """
    momentum = torch.zeros_like(points) if decay else None
    alpha = spread(step_size, points) if torch.is_tensor(step_size) else step_size
    mask: Tensor | None = None
    for k in range(steps):
        if mask is None or not skip_held or bool(mask.all()):
            logits, values, gradient = problem.gradient(points)
        elif bool(mask.any()):
            parts = problem.take(mask).gradient(points[mask])
            for whole, part in zip((logits, values, gradient), parts, strict=True):
                whole[mask] = part
        if visit is not None:
            going = visit(points, logits, values)
            if going is not None:
                problem, points = problem.take(going), points[going]
                logits, gradient = logits[going], gradient[going]
                momentum = None if momentum is None else momentum[going]
                alpha = alpha[going] if torch.is_tensor(alpha) else alpha
                if not len(points):
                    return points
        direction = gradient
        if momentum is not None:
            direction = momentum = decay * momentum + _unit(gradient)
        moved = problem.place(points + alpha * problem.ball.steepest(direction))
        if step_mask is not None:
            mask = step_mask(k, points, logits, gradient)
            moved = torch.where(spread(mask, points), moved, points)
        points = moved
    if visit is not None:
        visit(points, *problem.look(points))
    return points


def _unit(gradient: Tensor) -> Tensor:
    """Every sample's gradient over its l1 norm; a zero gradient stays zero."""
    tiny = torch.finfo(gradient.dtype).tiny
    rows = flat(gradient)
    # Scaled by the largest entry first: the sum of many tiny ones may underflow.
    largest = rows.abs().amax(1, keepdim=True)
    scaled = torch.where(largest > 0, rows / largest.clamp_min(tiny), 0.0)
    return (scaled / scaled.abs().sum(1, keepdim=True).clamp_min(tiny)).reshape(gradient.shape)
