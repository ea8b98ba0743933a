"""Optimisers as data."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from landscape.errors import UsageError, unknown

OPTIMISERS = ("sgd", "adam")


@dataclass(frozen=True)
class Optimiser:
    """SGD or Adam.

    Attributes:
        optimiser: ``sgd`` or ``adam``.
        lr: learning rate, which the schedule multiplies.
        momentum: of SGD; β₁ of Adam, whose β₂ is 0.999.
        nesterov: SGD only.
        weight_decay: λ of λθ, added to the gradient (not decoupled) of every parameter.
    """

    optimiser: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.optimiser not in OPTIMISERS:
            raise unknown("optimiser", self.optimiser, OPTIMISERS)
        if not 0 <= self.lr < math.inf:
            raise UsageError(f"lr must be a finite number of at least 0, got {self.lr}.")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum must lie in [0, 1), got {self.momentum}.")
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(
                f"weight_decay must be a finite number of at least 0, got {self.weight_decay}."
            )
        if self.nesterov and (self.optimiser != "sgd" or self.momentum == 0):
            raise UsageError("nesterov needs optimiser 'sgd' with a momentum above 0.")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        if self.optimiser == "adam":
            return torch.optim.Adam(
                parameters,
                lr=self.lr,
                betas=(self.momentum, 0.999),
                weight_decay=self.weight_decay,
            )
        return torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )
