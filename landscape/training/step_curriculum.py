"""CAT18: more and more PGD steps, each stage from the best weights of the one before."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from landscape.attacks import Attack, Ball
from landscape.errors import UsageError
from landscape.training.batch import Batch
from landscape.training.network import frozen
from landscape.training.outer_losses import CrossEntropy
from landscape.training.perturbations import Passes, Perturbation

# Steps of the stage, its highest validation accuracy, and epochs without a higher one.
STAGE = "cat18.stage"
_BEST = "cat18.best."


@dataclass(frozen=True)
class Slices(Perturbation):
    """The batch in k + 1 slices, attacked with 0, 1, …, k steps (Cai et al. 2018, batch mixing).

    k is that of the stage (``Stages``). j steps are of size (2 ε / j) u, u drawn for each attack
    from U(1, 10 / j), from a uniform start; the slice of no steps is clean. So k = 0 is standard
    training, and the cost is k/2 passes of the batch.

    Attributes:
        attack: its ``steps`` are the last stage's k.
    """

    attack: Attack

    part: ClassVar[str] = "attacks of 0 to k steps on slices"

    def __call__(self, batch: Batch) -> Tensor:
        last = stage(batch.memory)[0]
        found = []
        streams = batch.streams.child("attack")
        with frozen(batch.model, self.attack.mode) as forward:
            for steps, rows in enumerate(torch.arange(len(batch.x)).tensor_split(int(last) + 1)):
                x, y = batch.x[rows], batch.y[rows]
                if steps and len(rows):
                    u = 1 + float(streams.uniform("step", (1,))) * (10 / steps - 1)
                    size = 2 * self.attack.ball.radius / steps * u
                    attack = dataclasses.replace(self.attack, steps=steps, step_size=size)
                    x = attack.perturb(forward, x, y, streams=streams.child("steps", steps))
                found.append(x)
        return torch.cat(found)

    @property
    def passes(self) -> Passes:
        """In the last stage, rounded up."""
        half = math.ceil(self.attack.steps / 2)
        return Passes(half, half)

    def describe(self) -> dict[str, Any]:
        described = self.attack.describe()
        del described["step_size"]
        return {"part": self.part, **described}


@dataclass(frozen=True)
class Quantised(Attack):
    """An attack whose examples are quantised (``quantise``) before the network sees them."""

    levels: int = 16

    def perturb(self, *args: Any, **kwargs: Any) -> Tensor:
        return quantise(super().perturb(*args, **kwargs), self.levels)


def quantise(x: Tensor, levels: int = 16) -> Tensor:
    """q(x) = Σ_{i=1}^{n−1} 1[x ≥ i/n] / (n − 1) for n levels: x in [0, 1] as one of n values."""
    return (x * levels).floor().clamp(0, levels - 1) / (levels - 1)


@dataclass(frozen=True)
class Stages:
    """Goes on to k + 1 steps when accuracy under k steps no longer rises (Cai et al. 2018).

    After every epoch validation accuracy is measured under k steps of 2 ε / k, on quantised
    examples. When it has not been higher for ``patience`` epochs and the training accuracy is
    above ``accuracy``, the network goes back to its best weights of this stage and the next
    begins; the optimiser keeps its momentum. Cost: k + 1 passes over the validation data.

    Attributes:
        attack: its ``steps`` are the last stage's k.
    """

    attack: Attack
    patience: int = 10
    accuracy: float = 0.9

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise UsageError(f"patience must be at least 1 epoch, got {self.patience}.")
        if not 0 <= self.accuracy <= 1:
            raise UsageError(f"the accuracy of a stage must lie in [0, 1], got {self.accuracy}.")

    def validation(self, steps: int) -> Quantised:
        """The attack that judges the stage of so many steps."""
        ball = self.attack.ball
        start = "uniform" if steps else "zero"
        return Quantised(ball, steps, 2 * ball.radius / max(1, steps), start)

    def after_epoch(
        self,
        model: nn.Module,
        memory: dict[str, Tensor],
        row: Mapping[str, float],
        validate: Callable[[Attack | None], float],
    ) -> None:
        now = stage(memory)
        steps, best, waited = now.tolist()
        found = validate(self.validation(int(steps)))
        if found > best:
            for name, value in model.state_dict().items():
                memory[_BEST + name] = value.detach().clone()
            now[1:] = now.new_tensor([found, 0])
            return
        now[2] += 1
        learned = row["train_accuracy"] > self.accuracy
        if steps < self.attack.steps and waited + 1 >= self.patience and learned:
            model.load_state_dict({name: memory[_BEST + name] for name in model.state_dict()})
            now.copy_(_first(int(steps) + 1))

    def describe(self) -> dict[str, Any]:
        own = {"patience": self.patience, "accuracy": self.accuracy}
        return {"part": "stages", **own, "validation": self.validation(1).describe()}


def stage(memory: dict[str, Tensor]) -> Tensor:
    """Steps of the stage there is, its best accuracy and how long ago that was."""
    return memory.setdefault(STAGE, _first(0))


def _first(steps: int) -> Tensor:
    return torch.tensor([steps, -math.inf, 0], dtype=torch.float64)


def cat18(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    patience: int = 10,
    stage_accuracy: float = 0.9,
    attack_mode: str = "train",
) -> tuple[Slices, CrossEntropy, dict[str, Any]]:
    """CAT18; ``steps``: of the last stage."""
    attack = Attack(Ball(norm, eps), steps, 2 * eps / max(1, steps), mode=attack_mode)
    stages = Stages(attack, patience=patience, accuracy=stage_accuracy)
    return Slices(attack), CrossEntropy(), {"controller": stages}
