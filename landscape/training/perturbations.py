"""Parts that make the inputs a network is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from landscape.attacks import Attack
from landscape.training.batch import Batch
from landscape.training.network import frozen


class Passes(NamedTuple):
    """Cost of an update: passes of one batch through the network."""

    forward: int
    backward: int


class Perturbation(Protocol):
    """``batch -> x'``, detached, in [0, 1]."""

    def __call__(self, batch: Batch) -> Tensor: ...

    @property
    def passes(self) -> Passes: ...

    def describe(self) -> dict[str, Any]:
        """Every setting, JSON-able."""
        ...


@dataclass(frozen=True)
class Attacked:
    """x' found by an attack on the network as it is now, in the attack's ``mode``."""

    attack: Attack

    def __call__(self, batch: Batch) -> Tensor:
        with frozen(batch.model, self.attack.mode) as forward:
            streams = batch.streams.child("attack")
            return self.attack.perturb(forward, batch.x, batch.y, streams=streams)

    @property
    def passes(self) -> Passes:
        """One of each per step; KL needs f(x), and restarts are compared by another forward."""
        attack = self.attack
        steps = attack.restarts * attack.steps
        compared = attack.restarts if attack.restarts > 1 else 0
        return Passes(steps + compared + (attack.objective == "kl"), steps)

    def describe(self) -> dict[str, Any]:
        return {"part": "attack", **self.attack.describe()}
