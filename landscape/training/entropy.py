"""EntropySGD: descend the local entropy, by a walk of several updates around the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.training.batch import Batch
from landscape.training.schedules import check_within

_KEY = "entropy"
_COUNT = f"{_KEY}.steps"


@dataclass(frozen=True)
class EntropySGD:
    """Descend −F(θ) = −log ∫ exp(−L(θ') − γ/2 ‖θ − θ'‖²) dθ' (Chaudhari et al. 2017; kanai2021).

    Each of L updates takes a minibatch of its own at θ', which starts at θ:

        θ' ← θ' − η' (∇L(θ') − γ (θ − θ')) + √η' ε z, z ~ N(0, I)
        θ̄ ← (1 − α) θ̄ + α θ'

    (kanai2021 Algorithm 1 prints the gradient's sign wrong.) Then θ takes the plan's optimiser
    step along −∇F = γ (θ − θ̄), with its learning rate η, momentum and weight decay. The second
    order divides that by the diagonal of −∇²F: the gradient is γ h (θ − θ̄), h_j = 1 / (γ − γ² σ_j),
    σ_j the variance of θ'_j under the same running average; where that is not positive, h_j = 1/γ.

    An epoch's end ends a walk early, so that a checkpoint holds θ. η' follows the schedule of η.

    Attributes:
        steps: L. scope: γ. noise: ε. inner_lr: η' / η. average: α.
        second_order: h in place of 1. kanai2021's name for it is second order EntropySGD.
        scaled: whether γ is in the gradient, as in the papers; without it the gradient is
            θ − θ̄, as in the code of both papers' authors. Without effect on the second order.
        start, until: epochs from and before which it is used; plain steps otherwise.
    """

    steps: int = 20
    scope: float = 0.03
    noise: float = 1e-4
    inner_lr: float = 1.0
    average: float = 0.75
    second_order: bool = False
    scaled: bool = True
    start: float = 0
    until: float = math.inf

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 0:
            raise UsageError(f"steps must be a whole number of at least 0, got {self.steps!r}.")
        for name in ("noise", "inner_lr", "start"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(
                    f"{name} must be a finite number of at least 0, got {getattr(self, name)}."
                )
        if not 0 < self.scope < math.inf:
            raise UsageError(f"scope must be a finite number above 0, got {self.scope}.")
        if not 0 < self.average <= 1:
            raise UsageError(f"average must lie in (0, 1], got {self.average}.")
        if self.until <= self.start:
            raise UsageError(f"until {self.until:g} must come after start {self.start:g}.")

    def check(self, epochs: int) -> None:
        """Refuse a start that a run of ``epochs`` never comes to."""
        check_within(f"{self.describe()['part']}.start", self.start, epochs)

    def active(self, time: float) -> bool:
        """Whether updates at a time in epochs belong to a walk."""
        return self.steps > 0 and self.start <= time < self.until

    def step(self, batch: Batch, optimiser: torch.optim.Optimizer) -> None:
        """The update for a batch whose gradients are in ``.grad``."""
        memory = batch.memory
        if not self.active(batch.time):
            self.finish(batch.model, optimiser, memory)  # a walk that the switch has cut
            optimiser.step()
            return
        walkers = dict(_trained(batch.model))
        if _COUNT not in memory:
            memory[_COUNT] = torch.zeros((), dtype=torch.int64)
            for name, p in walkers.items():
                memory[f"{_KEY}.theta.{name}"] = p.detach().clone()
                # Of θ' − θ, so that the variance doesn't cancel.
                memory[f"{_KEY}.mean.{name}"] = torch.zeros_like(p)
                if self.second_order:
                    memory[f"{_KEY}.square.{name}"] = torch.zeros_like(p)
        lr = self.inner_lr * optimiser.param_groups[0]["lr"]
        with torch.no_grad():
            for name, p in walkers.items():
                centre = memory[f"{_KEY}.theta.{name}"]
                drift = (p.grad if p.grad is not None else 0) + self.scope * (p - centre)
                p.sub_(lr * drift)
                if self.noise:
                    z = batch.streams.normal("langevin", tuple(p.shape)).to(p)
                    p.add_(math.sqrt(lr) * self.noise * z)
                away = p - centre
                memory[f"{_KEY}.mean.{name}"].lerp_(away, self.average)
                if self.second_order:
                    memory[f"{_KEY}.square.{name}"].lerp_(away**2, self.average)
        memory[_COUNT] += 1
        if int(memory[_COUNT]) >= self.steps:
            self.finish(batch.model, optimiser, memory)

    def finish(
        self, model: nn.Module, optimiser: torch.optim.Optimizer, memory: dict[str, Tensor]
    ) -> None:
        """End the walk, if there is one: θ comes back and takes its step."""
        if _COUNT not in memory:
            return
        kept: dict[str, Tensor | None] = {}
        for name, p in _trained(model):
            mean = memory[f"{_KEY}.mean.{name}"]
            gradient = -mean  # θ − θ̄
            if self.second_order:
                variance = memory[f"{_KEY}.square.{name}"] - mean**2
                curvature = self.scope - self.scope**2 * variance
                gradient = gradient * torch.where(curvature > 0, self.scope / curvature, 1.0)
            elif self.scaled:
                gradient = self.scope * gradient
            kept[name] = p.grad
            with torch.no_grad():
                p.copy_(memory[f"{_KEY}.theta.{name}"])
            p.grad = gradient
        optimiser.step()
        for name, p in _trained(model):
            p.grad = kept[name]
        for key in [key for key in memory if key.startswith(f"{_KEY}.")]:
            del memory[key]

    def describe(self) -> dict[str, Any]:
        return {
            "part": "entropysgd2" if self.second_order else "entropysgd",
            "steps": self.steps,
            "scope": self.scope,
            "noise": self.noise,
            "inner_lr": self.inner_lr,
            "average": self.average,
            "scaled": self.scaled,
            "start": self.start,
            "until": None if math.isinf(self.until) else self.until,
        }


def _trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]
