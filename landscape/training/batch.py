"""One training batch as the parts of a method see it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor, nn

from landscape.random import Streams
from landscape.training.samples import View


@dataclass(eq=False)
class Batch:
    """Inputs, clean and adversarial, and the outputs on both, computed when a part asks for them.

    Attributes:
        model: the network, in train mode.
        x: inputs in [0, 1], (B, ...), augmented. y: classes, (B,).
        perturb: makes the adversarial inputs, ``None`` for none.
        adversarial: x', detached; x itself without a perturbation.
        streams: random numbers of this epoch.
        rows: position of every sample in the training data, (B,), on the CPU.
        time: epochs done, at the middle of this update: 2.5 is half-way through the third.
        memory: tensors that parts keep from one update to the next; saved with the training.
        epochs: of the whole run.
        population: samples of the training data, N: what ``rows`` count into.
        view: how x was augmented, ``None`` if unknown.
        shared: what one part leaves for another within this update.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    perturb: Callable[[Batch], Tensor] | None
    streams: Streams
    rows: Tensor
    time: float
    memory: dict[str, Tensor]
    epochs: int = 1
    population: int = 0
    view: View | None = None
    shared: dict[str, Tensor] = field(default_factory=dict)
    adversarial: Tensor = field(init=False)

    def __post_init__(self) -> None:
        # At once: an attack in train mode moves BatchNorm before the outputs below do.
        self.adversarial = self.x if self.perturb is None else self.perturb(self)

    @cached_property
    def clean_logits(self) -> Tensor:
        """f(x), with a graph."""
        return self.model(self.x)

    @property
    def known_clean_logits(self) -> Tensor | None:
        """f(x) if a part has asked for it besides f(x'), else None."""
        return None if self.perturb is None else self.__dict__.get("clean_logits")

    def again(self) -> Batch:
        """The same inputs, clean and adversarial, with outputs to be computed anew."""
        other = copy.copy(self)
        for name in ("clean_logits", "adversarial_logits"):
            other.__dict__.pop(name, None)
        return other

    @cached_property
    def adversarial_logits(self) -> Tensor:
        """f(x'), with a graph."""
        return self.clean_logits if self.perturb is None else self.model(self.adversarial)
