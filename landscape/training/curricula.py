"""Curricula inside the attack: a sample's steps end when it has become difficult enough."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from landscape.attacks import Attack, Ball, attack
from landscape.attacks.ball import flat
from landscape.attacks.problem import StepMask
from landscape.errors import UsageError, unknown
from landscape.losses import cross_entropy
from landscape.training.batch import Batch
from landscape.training.network import Forward
from landscape.training.outer_losses import CrossEntropy
from landscape.training.perturbations import Attacked, Passes


@dataclass(frozen=True)
class Difficulty:
    """The difficulty λ at time t of a run: from ``start`` up to 1 (sitawarin2021 App. A).

    ======== ==================================================================
    constant ``start``
    step     start + (1 − start) · (milestones ≤ t) / (all milestones)
    linear   start + (1 − start) · clip((t − a) / (b − a), 0, 1), milestones (a, b)
    ======== ==================================================================

    Attributes:
        milestones: in epochs. shares: those of a run that gives none, in parts of its epochs.
    """

    schedule: str
    start: float
    milestones: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if self.schedule not in DIFFICULTIES:
            raise unknown("schedule of the difficulty", self.schedule, DIFFICULTIES)
        if not -1 <= self.start <= 1:
            raise UsageError(f"the difficulty must start in [-1, 1], got {self.start}.")
        if self.schedule == "constant" and self.milestones:
            raise UsageError("a constant difficulty takes no milestones.")
        if self.schedule == "linear" and len(self.milestones) not in (0, 2):
            raise UsageError(
                "a linear difficulty needs two milestones, the epochs where it begins and ends to "
                f"rise; got {len(self.milestones)}."
            )
        if any(a >= b for a, b in itertools.pairwise(self.milestones)):
            raise UsageError(f"milestones must increase, got {list(self.milestones)}.")

    def check(self, epochs: int) -> None:
        """Refuse milestones outside a run of ``epochs``: λ would never come to 1."""
        for milestone in self.milestones:
            if not 0 <= milestone < epochs:
                raise UsageError(
                    f"milestone {milestone:g} of the difficulty lies outside the run of {epochs} "
                    "epochs: change the milestones or the number of epochs."
                )

    def at(self, t: float, epochs: float) -> float:
        """λ at time ``t``, in epochs."""
        points = self.milestones or tuple(share * epochs for share in self.shares)
        return self.start + (1 - self.start) * DIFFICULTIES[self.schedule](t, points)

    def describe(self) -> dict[str, Any]:
        return {
            "schedule": self.schedule,
            "start": self.start,
            "milestones": list(self.milestones),
            "shares": list(self.shares),
        }


def _step(t: float, points: tuple[float, ...]) -> float:
    return sum(point <= t for point in points) / len(points)


def _linear(t: float, points: tuple[float, ...]) -> float:
    begin, end = points
    return min(1.0, max(0.0, (t - begin) / (end - begin)))


DIFFICULTIES: dict[str, Callable[[float, tuple[float, ...]], float]] = {
    "constant": lambda t, points: 0.0,
    "step": _step,
    "linear": _linear,
}

# In parts of the run: epochs 40, 60 and 80 of 100 on CIFAR-10 with PreAct-ResNet-20.
STEPS = (0.4, 0.6, 0.8)


class Masked(Attacked):
    """An attack whose steps move only some of the samples.

    In eval mode a sample that was held is not computed again until it moves, so its passes are
    saved. With batch statistics every sample belongs to the others' outputs: all are computed,
    and held samples only stay where they are.
    """

    def mask(self, batch: Batch, attack: Attack) -> StepMask | None:
        """Which samples a step moves; ``None``: all."""
        raise NotImplementedError

    def perturbed(self, batch: Batch, forward: Forward, attack: Attack) -> Tensor:
        return attack.perturb(
            forward,
            batch.x,
            batch.y,
            streams=batch.streams.child("attack"),
            step_mask=self.mask(batch, attack),
            skip_held=attack.mode == "eval",
        )


@dataclass(frozen=True)
class ProbabilityGap(Masked):
    """P-SAT: a step moves the samples with ψ = max_{j≠y} p_j − p_y ≤ λ (sitawarin2021, eq. 12).

    ψ in [−1, 1] is above 0 for misclassified samples; λ = 1 is PGD. From a uniform start. In print
    Algorithm 1 projects around the current x and takes the gradient itself for the step;
    here, as its text says, around the clean x and its sign.
    """

    difficulty: Difficulty = Difficulty("constant", 1.0)

    part: ClassVar[str] = "attack while the probability gap is small"

    def mask(self, batch: Batch, attack: Attack) -> StepMask | None:
        level = self.difficulty.at(batch.time, batch.epochs)
        if level >= 1:
            return None
        return lambda k, x, logits, gradient: probability_gap(logits, batch.y) <= level

    def check(self, epochs: int) -> None:
        super().check(epochs)
        self.difficulty.check(epochs)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "difficulty": self.difficulty.describe()}


def probability_gap(logits: Tensor, y: Tensor) -> Tensor:
    """ψ = max_{j≠y} p_j − p_y, p = softmax of the logits, shape (B,)."""
    p = logits.softmax(1)
    own = p.gather(1, y[:, None]).squeeze(1)
    return p.scatter(1, y[:, None], 0.0).amax(1) - own


@dataclass(frozen=True)
class Convergence(Masked):
    """DAT: after the first step a step moves the samples with FOSC > c_t (Wang et al. 2019).

    FOSC = ε ‖∇ℓ‖_* − ⟨x_k − x, ∇ℓ⟩ with ∇ℓ the gradient of the sample's own loss at x_k: 0 where
    ℓ is the highest of the ball to first order. c_t = max(c (1 − t/T'), 0) falls along
    the training, so that examples become stronger.

    Attributes:
        threshold: c, at the beginning. until: T' in epochs, where c_t is 0; ``None``: 5/6 of the
            run (100 of the authors' 120 epochs).
        from_start: measure the displacement from the random start, as the authors' code does.
    """

    threshold: float = 0.5
    until: float | None = None
    from_start: bool = False

    part: ClassVar[str] = "attack until it has converged"

    def __post_init__(self) -> None:
        if not self.threshold >= 0:
            raise UsageError(f"the threshold of FOSC must be at least 0, got {self.threshold}.")
        if self.until is not None and not 0 < self.until < math.inf:
            raise UsageError(f"until must be a number of epochs above 0, got {self.until}.")

    def mask(self, batch: Batch, attack: Attack) -> StepMask | None:
        level, origin, ball = self.at(batch.time, batch.epochs), batch.x, attack.ball

        def going(k: int, x: Tensor, logits: Tensor, gradient: Tensor) -> Tensor:
            nonlocal origin
            if k == 0:
                origin = x if self.from_start else origin
                return torch.ones(len(x), dtype=torch.bool, device=x.device)
            return fosc(ball, x - origin, gradient) > level

        return going

    def at(self, t: float, epochs: float) -> float:
        """c_t at time ``t`` in epochs."""
        until = epochs * 5 / 6 if self.until is None else self.until
        return self.threshold * (1 - t / until) if t < until else 0.0

    def describe(self) -> dict[str, Any]:
        own = {"threshold": self.threshold, "until": self.until, "from_start": self.from_start}
        return {**super().describe(), **own}


@dataclass(frozen=True)
class WeighedByItself:
    """(1/B) Σ_i sg(ℓ_i) ℓ_i with ℓ the cross-entropy on x'; its plain mean in the first epoch.

    What the authors' code of DAT minimises, though the paper doesn't say so; sg: held fixed.
    """

    def __call__(self, batch: Batch) -> Tensor:
        losses = cross_entropy(batch.adversarial_logits, batch.y)
        return (losses if batch.time < 1 else losses.detach() * losses).mean()

    def passes(self, *, perturbed: bool) -> Passes:
        return Passes(1, 1)

    def describe(self) -> dict[str, Any]:
        return {"part": "cross-entropy weighed by itself"}


def fosc(ball: Ball, displacement: Tensor, gradient: Tensor) -> Tensor:
    """ε ‖∇‖_* − ⟨δ, ∇⟩, the first-order stationarity of every sample, shape (B,).

    In nats, for gradients of per-sample losses: at least 0 in the ball, 0 where no point of it
    is higher to first order, ε ‖∇‖_* at δ = 0. ‖·‖_* is l1 for L∞ balls and l2 for L2 balls.
    """
    rows = flat(gradient)
    dual = rows.abs().sum(1) if ball.norm == "linf" else torch.linalg.vector_norm(rows, dim=1)
    return ball.radius * dual - (flat(displacement) * rows).sum(1)


def p_sat(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    alpha: float | None = None,
    difficulty: str = "step",
    difficulty_from: float = 0.0,
    difficulty_at: tuple[float, ...] = (),
    attack_mode: str = "eval",
) -> tuple[ProbabilityGap, CrossEntropy]:
    """P-SAT; ``difficulty_at``: the milestones of λ, by default .4, .6, .8 or .3, .7 of the run."""
    found = attack("pgd", eps=eps, norm=norm, steps=steps, step_size=alpha, mode=attack_mode)
    shares = {"step": STEPS, "linear": (0.3, 0.7)}.get(difficulty, ())
    schedule = Difficulty(difficulty, difficulty_from, difficulty_at, shares)
    return ProbabilityGap(found, difficulty=schedule), CrossEntropy()


def dat(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    alpha: float | None = None,
    fosc: float = 0.5,
    fosc_until: float | None = None,
    fosc_from_start: bool = False,
    own_weights: bool = False,
    attack_mode: str = "eval",
) -> tuple[Convergence, CrossEntropy | WeighedByItself]:
    """DAT; ``fosc``: the threshold at the beginning, which is 0 from epoch ``fosc_until`` on.

    ``own_weights``: weigh samples by their loss, as the authors' code does (``WeighedByItself``).
    """
    found = attack("pgd", eps=eps, norm=norm, steps=steps, step_size=alpha, mode=attack_mode)
    part = Convergence(found, threshold=fosc, until=fosc_until, from_start=fosc_from_start)
    return part, WeighedByItself() if own_weights else CrossEntropy()
