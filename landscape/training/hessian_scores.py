"""H-SAT: in the attack, steps move the samples of smallest curvature in the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from landscape.attacks import Attack, attack
from landscape.attacks.problem import StepMask
from landscape.errors import UsageError, unknown
from landscape.losses import cross_entropy
from landscape.training.batch import Batch
from landscape.training.curricula import STEPS, Difficulty
from landscape.training.network import Forward
from landscape.training.outer_losses import CrossEntropy
from landscape.training.perturbations import Attacked, Passes

BOUNDS = ("lower", "upper")


@dataclass(frozen=True)
class HessianFraction(Attacked):
    """H-SAT: a step moves the fraction λ of the batch with the smallest Hessian scores.

    The score bounds the largest eigenvalue of the Hessian in the weights of a sample's own loss
    ℓ_i, by its values at θ ± αg with g = ∇L / ‖∇L‖ and α = ``distance`` ‖∇L‖, where ∇L is the
    gradient of the mean loss over the sample's ``group`` of the batch (``scores``). λ = 1 is PGD
    and costs as much; λ = 0 leaves the clean inputs, without the random start (sitawarin2021
    App. B.3, C).

    Cost of a step at 0 < λ < 1 beside PGD's: two forward passes for the lower bound, one for the
    upper, which is +50 % of a step as the paper states. The gradients in x and θ come from one
    backward pass. So over a training whose λ is 1 after 30 % of its epochs the lower bound costs
    27 % more than PGD (10 steps).

    Attributes:
        difficulty: λ. group: samples whose mean gradient gives the direction, at most.
        bound: ``lower`` or ``upper``. printed: score by eqs. 19 and 20 as printed.
    """

    difficulty: Difficulty = Difficulty("constant", 1.0)
    group: int = 32
    distance: float = 0.01
    bound: str = "lower"
    printed: bool = False

    part: ClassVar[str] = "attack on the samples of small Hessian scores"
    precisions: ClassVar[tuple[str, ...]] = ("full",)  # scores are second differences of losses

    def __post_init__(self) -> None:
        if self.attack.mode != "eval":
            raise UsageError(
                f"Hessian scores are of samples one by one, which batch statistics are not: "
                f"mode='{self.attack.mode}' of the attack must be 'eval'."
            )
        if self.difficulty.start < 0:
            raise UsageError(
                f"the fraction of the batch must start in [0, 1], got {self.difficulty.start}."
            )
        if isinstance(self.group, bool) or not isinstance(self.group, int) or self.group < 1:
            raise UsageError(f"the group must be at least 1 sample, got {self.group!r}.")
        if not 0 < self.distance < math.inf:
            raise UsageError(f"distance must be a finite number above 0, got {self.distance}.")
        if self.bound not in BOUNDS:
            raise unknown("bound of the Hessian score", self.bound, BOUNDS)

    def perturbed(self, batch: Batch, forward: Forward, attack: Attack) -> Tensor:
        share = self.difficulty.at(batch.time, batch.epochs)
        if share <= 0:
            return batch.x
        if share >= 1:
            return super().perturbed(batch, forward, attack)
        probe = _Probe(batch.model, self.group)
        return attack.perturb(
            probe.forward,
            batch.x,
            batch.y,
            streams=batch.streams.child("attack"),
            step_mask=self._mask(probe, batch.y, round(share * len(batch.x))),
        )

    def _mask(self, probe: _Probe, y: Tensor, count: int) -> StepMask:
        def smallest(k: int, x: Tensor, logits: Tensor, gradient: Tensor) -> Tensor:
            found = [
                self._scores(probe, x[rows], y[rows], logits[rows], g)
                for rows, g in zip(probe.groups(len(x)), probe.gradients, strict=True)
            ]
            # A score that isn't finite counts as the largest.
            order = torch.cat(found).nan_to_num(math.inf, math.inf).argsort(stable=True)
            mask = torch.zeros(len(x), dtype=torch.bool, device=x.device)
            mask[order[:count]] = True
            return mask

        return smallest

    def _scores(
        self, probe: _Probe, x: Tensor, y: Tensor, logits: Tensor, gradient: list[Tensor]
    ) -> Tensor:
        slope = torch.stack([g.norm() for g in gradient]).norm()
        if not slope > 0:  # flat: no direction, and nothing that says it bends
            return torch.zeros(len(x), dtype=x.dtype, device=x.device)
        alpha = self.distance * slope
        here = cross_entropy(logits, y)
        ahead = cross_entropy(probe.at(x, gradient, self.distance), y)
        if self.bound == "upper":
            return upper(here, ahead, alpha, slope, printed=self.printed)
        behind = cross_entropy(probe.at(x, gradient, -self.distance), y)
        return lower(here, ahead, behind, alpha, slope, printed=self.printed)

    @property
    def passes(self) -> Passes:
        more = self.attack.steps * (2 if self.bound == "lower" else 1)
        return super().passes + Passes(more, 0)

    def check(self, epochs: int) -> None:
        super().check(epochs)
        self.difficulty.check(epochs)

    def describe(self) -> dict[str, Any]:
        return {
            **super().describe(),
            "difficulty": self.difficulty.describe(),
            "group": self.group,
            "distance": self.distance,
            "bound": self.bound,
            "printed": self.printed,
        }


def lower(
    here: Tensor,
    ahead: Tensor,
    behind: Tensor,
    alpha: Tensor,
    slope: Tensor,
    *,
    printed: bool = False,
) -> Tensor:
    """A lower bound of λ_max of the Hessian from losses at θ, θ + αg and θ − αg, g = ∇/‖∇‖.

    (2/α²) max{ℓ(θ + αg) − ℓ − α‖∇‖, ℓ(θ − αg) − ℓ + α‖∇‖}, on a quadratic gᵀHg. In print
    (sitawarin2021, eq. 19) it is (1/α) max{ℓ(θ + αg) − α‖∇‖, ℓ(θ − αg) + α‖∇‖} − ℓ, which has
    the wrong scale and keeps a multiple of ℓ; ``printed`` gives that. ``slope`` is ‖∇‖. Where ∇
    is not that of the sample itself, what it lacks of the sample's slope is part of the value.
    """
    if printed:
        return torch.maximum(ahead - alpha * slope, behind + alpha * slope) / alpha - here
    higher = torch.maximum(ahead - here - alpha * slope, behind - here + alpha * slope)
    return 2 / alpha**2 * higher


def upper(
    here: Tensor, ahead: Tensor, alpha: Tensor, slope: Tensor, *, printed: bool = False
) -> Tensor:
    """(2/α²)(ℓ(θ + αg) − ℓ + α‖∇‖), or (1/α)(ℓ(θ + αg) + α‖∇‖) − ℓ as printed (eq. 20).

    On a quadratic gᵀHg + 4‖∇‖/α: the term of first order is not taken off but added, so it is
    large, and within a group its order is that of the growth of the loss along g.
    """
    if printed:
        return (ahead + alpha * slope) / alpha - here
    return 2 / alpha**2 * (ahead - here + alpha * slope)


class _Probe:
    """The network as a function of its inputs that keeps its gradients in the weights as well."""

    def __init__(self, model: nn.Module, group: int) -> None:
        self.model, self.group = model, group
        self.parameters = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
        self.rest = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
        # Whatever the network writes goes into copies.
        self.rest.update({n: b.clone() for n, b in model.named_buffers()})
        self.gradients: list[list[Tensor]] = []

    def groups(self, samples: int) -> Iterator[slice]:
        for start in range(0, samples, self.group):
            yield slice(start, min(start + self.group, samples))

    def forward(self, x: Tensor) -> Tensor:
        """Logits; backward leaves the gradient of every group's mean loss in ``gradients``."""
        logits: Tensor = _Both.apply(x, self)
        return logits

    def call(self, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
        state = {**self.rest, **parameters}
        logits: Tensor = torch.func.functional_call(self.model, state, (x,))
        return logits

    def at(self, x: Tensor, gradient: list[Tensor], distance: float) -> Tensor:
        """Logits at θ + distance · gradient."""
        moved = zip(self.parameters.items(), gradient, strict=True)
        with torch.no_grad():
            return self.call(x, {name: p + distance * g for (name, p), g in moved})


class _Both(torch.autograd.Function):
    """f(x) whose one backward pass finds the gradients in x and in the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, probe: _Probe) -> Tensor:
        ctx.probe, ctx.graphs = probe, []
        for rows in probe.groups(len(x)):
            leaf = x[rows].detach().requires_grad_()
            weights = {n: p.detach().requires_grad_() for n, p in probe.parameters.items()}
            with torch.enable_grad():
                logits = probe.call(leaf, weights)
            ctx.graphs.append((logits, leaf, list(weights.values())))
        return torch.cat([logits.detach() for logits, *_ in ctx.graphs])

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None]:
        (gradient,) = outputs
        in_x, ctx.probe.gradients = [], []
        sizes = [len(leaf) for _, leaf, _ in ctx.graphs]
        for (logits, leaf, weights), g in zip(ctx.graphs, gradient.split(sizes), strict=True):
            # Zero where the loss doesn't depend on a weight.
            first, *others = torch.autograd.grad(
                logits, [leaf, *weights], g, materialize_grads=True
            )
            in_x.append(first)
            # The attack's objective is the sum over samples, the direction that of the mean.
            ctx.probe.gradients.append([other / len(leaf) for other in others])
        ctx.graphs = []
        return torch.cat(in_x), None


def h_sat(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    alpha: float | None = None,
    difficulty: str = "linear",
    difficulty_from: float | None = None,
    difficulty_at: tuple[float, ...] = (),
    group: int = 32,
    bound: str = "lower",
    printed: bool = False,
) -> tuple[HessianFraction, CrossEntropy]:
    """H-SAT; λ from .8 to 1 over the first 30 % of the run, or from 0 in steps at .4, .6, .8."""
    found = attack("pgd", eps=eps, norm=norm, steps=steps, step_size=alpha, mode="eval")
    if difficulty_from is None:
        difficulty_from = 0.8 if difficulty == "linear" else 0.0
    shares = {"step": STEPS, "linear": (0.0, 0.3)}.get(difficulty, ())
    schedule = Difficulty(difficulty, difficulty_from, difficulty_at, shares)
    part = HessianFraction(found, difficulty=schedule, group=group, bound=bound, printed=printed)
    return part, CrossEntropy()
