"""How linear loss and network are in a ball around every input."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape.attacks import Attack, Ball, attack
from landscape.errors import NumericalError, UsageError
from landscape.functional import Term, untouched
from landscape.objective import Objective
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Estimate, Result, array, scalar


@dataclass(frozen=True, eq=False)
class LocalLinearity(Result):
    """Gradient alignment, linearity gap and local Lipschitz constant of every sample.

    ``alignment[k, i]`` is the cosine of draw k at sample i, NaN where one of its two gradients is
    zero; ``undefined_share`` is the share of those. ``mean_alignment`` is the mean over the
    samples of their means over the draws; samples without any are left out of it.
    """

    kind: ClassVar[str] = "linearity"

    alignment: np.ndarray = array("draw", "sample", label="gradient alignment")
    gap: np.ndarray = array("sample", units="loss", label="linearity gap")
    lipschitz: np.ndarray = array(
        "sample", units="output / input", label="local Lipschitz constant"
    )
    mean_alignment: Estimate = scalar(label="mean gradient alignment")
    mean_gap: Estimate = scalar(units="loss", label="mean linearity gap")
    mean_lipschitz: Estimate = scalar(units="output / input", label="mean local Lipschitz constant")
    undefined_share: float = scalar(
        units="fraction", label="share of cosines undefined for a zero gradient"
    )
    norm: str = scalar(label="norm of the ball")
    eps: float = scalar(units="input", label="radius of the ball")

    def sample_alignment(self) -> np.ndarray:
        """Mean over the draws (N,), NaN for a sample without any."""
        return _mean_over_draws(self.alignment)

    def plot(self, ax: Any = None) -> Any:
        from landscape.plotting.linearity import draw_alignment

        return draw_alignment([self], ax=ax)


def local_linearity(
    objective: Objective,
    ball: Ball | None = None,
    *,
    draws: int = 5,
    steps: int = 20,
    restarts: int = 3,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LocalLinearity:
    """Three measures of how far the neighbourhood of an input is from linear, per sample.

    With g = ∇_x ℓ(x), at the inputs of the objective (with an attack the adversarial ones, held):

    - gradient alignment (li2023 A.5; GradAlign, Andriushchenko and Flammarion 2020):
      cos(g, ∇_x ℓ(x + η)), η uniform in the ball, so U(±ε) per entry in L∞. x + η may leave
      [0, 1], as in the definition;
    - linearity gap (LLR, Qin et al. 2019): max_δ |ℓ(x + δ) − ℓ(x) − δᵀg|;
    - local Lipschitz constant of the outputs (Yang et al. 2020): max_δ ‖f(x + δ) − f(x)‖₁ / ‖δ‖,
      ‖δ‖ in the ball's norm, f the network's outputs (logits, not probabilities).

    Both maxima are over the ball and the box [0, 1], and are found by projected steepest ascent
    from uniform starts (PGD); what is given is the largest value at any point on the way, so a
    lower bound of the maximum.

    Args:
        objective: gives network, inputs and loss, one value per sample.
        ball: norm and radius; by default that of the objective's attack.
        draws: of η. steps, restarts: of both ascents.
        seed: of η and the starts. progress: called as (samples done, samples).

    Cost: 1 + ``draws`` input gradients and twice ``restarts`` · (``steps`` + 1) passes. When it
    lies: ascent may stop short, so a small gap or constant of a network with masked gradients
    says little (raise ``restarts``). The alignment is 1 for a confident two-class linear model
    however steep it is, and the cosine of two gradients that are nearly zero is as loud as any.
    """
    if ball is None:
        if objective.attack is None:
            raise UsageError(
                "the neighbourhood needs a radius: give a ball, for example "
                "Ball('linf', 8/255), or an objective with an attack."
            )
        ball = objective.attack.ball
    if not ball.radius > 0:
        raise UsageError("the ball has radius 0: there is no neighbourhood to look at.")
    for name, value, least in (("draws", draws, 1), ("steps", steps, 0), ("restarts", restarts, 1)):
        if value < least:
            raise UsageError(f"{name} must be at least {least}, got {value}.")
    record = Record(
        "linearity",
        objective.describe(),
        seed,
        norm=ball.norm,
        eps=ball.radius,
        draws=draws,
        steps=steps,
        restarts=restarts,
    )
    ascent = attack("pgd", eps=ball.radius, norm=ball.norm, steps=steps, restarts=restarts)
    streams = Streams(seed, "linearity")
    shared, done = objective.shared(), 0
    for x in shared.own.before():  # random numbers of the samples that are others'
        for k in range(draws):
            ball.sample(x, streams.child("alignment", k))
        for name in ("gap", "slope"):
            ascent.skip(x, streams.child(name), objective.outputs)
    pieces: list[tuple[Tensor, Tensor, Tensor]] = []
    for index, term in enumerate(shared.terms(), shared.own.first_batch):
        if not term.x.is_floating_point():
            raise UsageError("inputs are whole numbers (tokens?): the loss has no gradient there.")
        look = _Neighbourhood(term, index)
        rows = [
            look.alignment(ball.sample(term.x, streams.child("alignment", k))) for k in range(draws)
        ]
        gaps = look.largest(look.gap, ascent, streams.child("gap"))
        slopes = look.largest(partial(look.slope, ball=ball), ascent, streams.child("slope"))
        pieces.append((torch.stack(rows), gaps, slopes))
        done += len(term.x)
        if progress is not None:
            progress(done, shared.own.samples)
    # Samples first, as processes have them.
    columns = (torch.cat([t.movedim(-1, 0) for t in c]) for c in zip(*pieces, strict=True))
    alignment, gap, lipschitz = (shared.own.join(c).movedim(0, -1).cpu().numpy() for c in columns)
    each = _mean_over_draws(alignment)
    known = each[np.isfinite(each)]
    return LocalLinearity(
        provenance=record.finish(),
        alignment=alignment,
        gap=gap,
        lipschitz=lipschitz,
        mean_alignment=Estimate.of(known) if len(known) else Estimate(math.nan, math.inf, 0),
        mean_gap=Estimate.of(gap),
        mean_lipschitz=Estimate.of(lipschitz),
        undefined_share=float(np.isnan(alignment).mean()),
        norm=ball.norm,
        eps=float(ball.radius),
    )


class _Neighbourhood:
    """One batch: loss, outputs and gradient at its inputs, and functions of points around them."""

    def __init__(self, term: Term, batch: int) -> None:
        self.term, self.x = term, term.x
        self.gradient = _gradient(term, term.x)
        with torch.no_grad():
            self.output = self._network(term.x)
            self.loss = _losses(term, self.output)
        for tensor in (self.gradient, self.output, self.loss):
            if not bool(tensor.isfinite().all()):
                raise NumericalError(
                    f"outputs or input gradients of batch {batch} are not finite: check that "
                    "batch's inputs, or measure in float64 (--dtype float64)."
                )

    def alignment(self, eta: Tensor) -> Tensor:
        """cos(∇ℓ(x), ∇ℓ(x + η)) in float64, NaN where one of the two is zero."""
        a = self.gradient.double().flatten(1)
        b = _gradient(self.term, self.x + eta).double().flatten(1)
        # Of unit vectors: squares of tiny gradients would underflow.
        a, b = (v / v.abs().amax(1, keepdim=True) for v in (a, b))
        squares = (a * a).sum(1) * (b * b).sum(1)
        return (a * b).sum(1) / squares.sqrt()

    def gap(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """|ℓ(v) − ℓ(x) − (v − x)ᵀ∇ℓ(x)|, to be climbed and wanted."""
        linear = ((v - self.x) * self.gradient).flatten(1).sum(1)
        gap = (_losses(self.term, self._network(v)) - self.loss - linear).abs()
        return gap, gap

    def slope(self, v: Tensor, ball: Ball) -> tuple[Tensor, Tensor]:
        """‖f(v) − f(x)‖₁ to be climbed, and wanted its ratio to ‖v − x‖, zero at x itself.

        Climbing the ratio would drive the entries that make up ‖v − x‖∞ inwards at every step,
        and so away from the corner where the ratio of a linear map is largest.
        """
        rise = (self._network(v) - self.output).reshape(len(v), -1).abs().sum(1)
        distance = ball.distance(v - self.x).detach()
        return rise, torch.where(distance > 0, rise / distance, 0 * rise)

    def largest(
        self,
        function: Callable[[Tensor], tuple[Tensor, Tensor]],
        ascent: Attack,
        streams: Streams,
    ) -> Tensor:
        """The largest of the second value at the points that an ascent of the first comes to."""
        best = torch.zeros(len(self.x), dtype=torch.float64, device=self.x.device)

        def seen(v: Tensor) -> Tensor:
            climbed, wanted = function(v)
            torch.fmax(best, wanted.detach().double(), out=best)  # NaN is never larger
            return climbed

        # The ascent takes the function for its network, and what that returns for the loss.
        last = ascent.perturb(
            seen, self.x, self.term.y, streams=streams, loss=lambda values, _: values
        )
        with torch.no_grad():
            seen(last)
        return best

    def _network(self, v: Tensor) -> Tensor:
        return replace(self.term, x=v).network(self.term.theta)


def _losses(term: Term, output: Tensor) -> Tensor:
    with untouched(term.model):
        losses = term.loss(output, term.y)
    if losses.ndim == 0:
        raise UsageError(
            "local linearity needs a loss that returns one value per sample: use reduction='none'."
        )
    return losses


def _gradient(term: Term, x: Tensor) -> Tensor:
    """∇_x ℓ_i per sample (samples don't mix in eval mode)."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        total = _losses(term, replace(term, x=leaf).network(term.theta)).sum()
        if not total.requires_grad:
            return torch.zeros_like(leaf)
        (found,) = torch.autograd.grad(total, leaf, materialize_grads=True)
    return found


def _mean_over_draws(alignment: np.ndarray) -> np.ndarray:
    there = np.isfinite(alignment)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, alignment, 0).sum(0) / there.sum(0))
