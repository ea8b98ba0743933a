"""How to train, whatever the network and the data."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from landscape.attacks import Attack
from landscape.errors import UsageError, unknown
from landscape.training.methods import Method
from landscape.training.optimisers import Optimiser
from landscape.training.precision import PRECISIONS, check_precision
from landscape.training.schedules import Schedule


@dataclass(frozen=True)
class Plan:
    """Everything about a training but its network and data; wrong values are refused here.

    Attributes:
        method: from ``landscape.training.method``.
        batch_size: the last batch of an epoch may be smaller.
        clip_norm: gradients whose L2 norm is larger are scaled down to it; ``None`` for never.
        validation_attack: the best epoch is the one of highest validation accuracy under this
            attack, or of highest clean accuracy if ``None``; the earlier one of equals.
        precision: in which the network computes while training: ``full``, ``bf16`` or ``fp16``.
        channels_last: whether images and weights of convolutions lie so in memory meanwhile.
        stop_patience: stop when validation accuracy has not been higher for so many epochs;
            ``None`` for never.
        seed: of shuffling, augmentation, attacks and Dropout.
    """

    method: Method
    epochs: int
    batch_size: int = 128
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    clip_norm: float | None = None
    validation_attack: Attack | None = None
    precision: str = "full"
    channels_last: bool = False
    stop_patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.method, Method):
            raise UsageError(
                "method must be a Method, for example landscape.training.method('pgd', eps=8/255); "
                f"got {self.method!r}."
            )
        for name in ("epochs", "batch_size", "stop_patience"):
            value = getattr(self, name)
            if value is None and name == "stop_patience":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise UsageError(f"clip_norm must be a finite number above 0, got {self.clip_norm}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise UsageError(f"seed must be a whole number, got {self.seed!r}.")
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        check_precision(self.method.name, self.method.parts, self.precision)
        self.schedule.check(self.epochs)
        for part in self.method.parts:
            check = getattr(part, "check", None)
            if check is not None:
                check(self.epochs)

    def stops(self, epoch: int, best: int) -> bool:
        """Whether the training ends after ``epoch`` epochs, ``best`` being the best of them."""
        return self.stop_patience is not None and epoch - best >= self.stop_patience

    def lr(self, t: float) -> float:
        """Learning rate at time ``t``, in epochs."""
        return self.optimiser.lr * self.schedule.at(t, self.epochs)

    def to_dict(self) -> dict[str, Any]:
        """The resolved configuration, JSON-able."""
        attack = self.validation_attack
        # Only if on: without them a run has the same digest as ever.
        chosen: dict[str, Any] = {}
        if self.precision != "full":
            chosen["precision"] = self.precision
        if self.channels_last:
            chosen["channels_last"] = True
        if self.stop_patience is not None:
            chosen["stop_patience"] = self.stop_patience
        return {
            "method": self.method.to_dict(),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "optimiser": dataclasses.asdict(self.optimiser),
            "schedule": self.schedule.describe(),
            "clip_norm": self.clip_norm,
            "validation_attack": attack.describe() if attack else None,
            **chosen,
            "seed": self.seed,
        }
