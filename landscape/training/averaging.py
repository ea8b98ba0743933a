"""Stochastic weight averaging: what is kept of a training is the mean of its weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape import functional
from landscape.errors import UsageError

_KEY = "swa"
_COUNT = f"{_KEY}.count"


@dataclass(frozen=True)
class Averaging:
    """The mean of the weights after every epoch from ``start`` on (SWA, Izmailov et al. 2018).

    The training goes on from its own weights; validation and checkpoints are of the mean, with
    the statistics of BatchNorm re-estimated on the clean training data.

    Attributes:
        start: the first epoch, counted from 1, whose weights are averaged.
    """

    start: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.start, bool) or not isinstance(self.start, int) or self.start < 1:
            raise UsageError(f"start must be an epoch, counted from 1, got {self.start!r}.")

    def check(self, epochs: int) -> None:
        """Refuse a start that the run never comes to."""
        if self.start > epochs:
            raise UsageError(
                f"averaging starts in epoch {self.start}, the run has {epochs}: start earlier."
            )

    def update(self, model: nn.Module, memory: dict[str, Tensor], epoch: int) -> None:
        """Take the weights after ``epoch``, counted from 1, into the mean."""
        if epoch < self.start:
            return
        count = memory.setdefault(_COUNT, torch.zeros((), dtype=torch.int64))
        count += 1
        for name, p in model.named_parameters():
            mean = memory.setdefault(f"{_KEY}.{name}", torch.zeros_like(p, requires_grad=False))
            mean.lerp_(p.detach(), 1 / int(count))

    def published(
        self, model: nn.Module, memory: dict[str, Tensor], batches: Iterable[Tensor]
    ) -> dict[str, Tensor] | None:
        """The ``state_dict`` of the mean, or ``None`` before there is one.

        ``batches``: clean training inputs. Cost: a forward pass over them if there is BatchNorm.
        """
        if _COUNT not in memory:
            return None
        mean = {name: memory[f"{_KEY}.{name}"] for name, _ in model.named_parameters()}
        with functional.untouched(model):
            fresh = functional.reestimated(model, mean, batches)
        return {**model.state_dict(), **mean, **fresh}

    def describe(self) -> dict[str, Any]:
        return {"part": "swa", "start": self.start}
