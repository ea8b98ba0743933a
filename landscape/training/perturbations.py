"""Parts that make the inputs a network is trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from landscape.attacks import Attack, attack
from landscape.errors import UsageError
from landscape.training.batch import Batch
from landscape.training.budget import Budget
from landscape.training.network import Forward, frozen


class Passes(NamedTuple):
    """Cost of an update: passes of one batch through the network."""

    forward: int
    backward: int

    def __add__(self, other: Passes) -> Passes:  # type: ignore[override]
        return Passes(self.forward + other.forward, self.backward + other.backward)


class Perturbation:
    """``batch -> x'`` in [0, 1], detached.

    Attributes:
        replays: updates in a row for every batch (Free-AT).
        remembers: whether a call leaves something for the sample's next one, so that there must be
            one call per update, and one view of a sample in it.
    """

    replays: int = 1
    remembers: ClassVar[bool] = False

    def __call__(self, batch: Batch) -> Tensor:
        raise NotImplementedError

    def after(self, batch: Batch) -> None:
        """Called when the gradients of the update are there, before the weights move."""

    def scheduled(self, budget: Budget) -> Perturbation:
        """The same with an ε that changes along the training."""
        raise UsageError(
            f"'{self.describe()['part']}' has no single eps that a schedule could change: leave "
            "pas out, or use a method whose attack has one radius, such as pgd."
        )

    def check(self, epochs: int) -> None:
        """Refuse settings that don't fit into a run of ``epochs``."""

    @property
    def passes(self) -> Passes:
        """Cost of one call."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Every setting, JSON-able."""
        raise NotImplementedError


class Controller(Protocol):
    """Decides between epochs, for curricula that are driven by validation (CAT18)."""

    def after_epoch(
        self,
        model: nn.Module,
        memory: dict[str, Tensor],
        row: Mapping[str, float],
        validate: Callable[[Attack | None], float],
    ) -> None:
        """``row``: of the history, so far. ``validate``: accuracy on validation data."""
        ...

    def describe(self) -> dict[str, Any]:
        """Every setting, JSON-able."""
        ...


@dataclass(frozen=True)
class Attacked(Perturbation):
    """x' found by an attack on the network as it is now, in the attack's ``mode``.

    Attributes:
        budget: how its ε changes along the training, ``None`` for not at all.
    """

    attack: Attack
    budget: Budget | None = None

    part: ClassVar[str] = "attack"

    def __call__(self, batch: Batch) -> Tensor:
        with frozen(batch.model, self.attack.mode) as forward:
            return self.perturbed(batch, forward, self.attack_at(batch))

    def perturbed(self, batch: Batch, forward: Forward, attack: Attack) -> Tensor:
        """x' from the network and the attack as they are at this time."""
        streams = batch.streams.child("attack")
        return attack.perturb(forward, batch.x, batch.y, streams=streams)

    def attack_at(self, batch: Batch) -> Attack:
        """The attack with the ε and the α of this time."""
        if self.budget is None:
            return self.attack
        return self.budget.of(self.attack, batch.time, batch.epochs)

    def scheduled(self, budget: Budget) -> Attacked:
        if budget.start_in_step and self.attack.start != "uniform":
            raise UsageError(
                f"pas.start_in_step is of uniform starts, this attack's is '{self.attack.start}'."
            )
        return dataclasses.replace(self, budget=budget)

    def check(self, epochs: int) -> None:
        if self.budget is not None:
            self.budget.check(epochs)

    @property
    def passes(self) -> Passes:
        return Passes(*self.attack.passes)

    def describe(self) -> dict[str, Any]:
        found = {"part": self.part, **self.attack.describe()}
        return found if self.budget is None else {**found, "budget": self.budget.describe()}


def from_noise(
    *,
    eps: float,
    norm: str,
    steps: int,
    alpha: float | None,
    noise: float,
    attack_mode: str,
    objective: str = "loss",
) -> Attacked:
    """PGD from Gaussian noise of standard deviation ``noise``, as in the code of TRADES.

    The noise is needed where KL is maximised: it and its gradient are zero at x itself.
    """
    return Attacked(
        attack(
            "pgd",
            eps=eps,
            norm=norm,
            steps=steps,
            step_size=alpha,
            start="gaussian",
            start_scale=noise,
            objective=objective,
            mode=attack_mode,
        )
    )
