"""CAT20: radii of their own and labels as soft as the radius is large."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.attacks import Attack, attack
from landscape.attacks.objectives import margin
from landscape.errors import UsageError
from landscape.losses import cross_entropy
from landscape.training.batch import Batch
from landscape.training.instance_adaptive import own_radii
from landscape.training.network import Forward, frozen
from landscape.training.perturbations import Passes, Perturbation

RADII, TARGETS = "cat20.eps", "cat20.targets"
_CLASSES = "cat20.classes"


@dataclass(frozen=True)
class Customised(Perturbation):
    """CAT20: an ε_i that grows until the sample fails, with labels as soft as ε_i is large.

    For every sample of a batch (Cheng et al. 2020, customised adversarial training):
    ỹ = (1 − c ε_i) y + c ε_i Dirichlet(1, …, 1); ε_i ← min(ε_i + η, ε); x' by PGD from x on
    the cross-entropy with ỹ, radius ε_i; if x' is misclassified ε_i ← ε_i − η, the value of
    before; ỹ anew with the ε_i there is now and the same Dirichlet draw, for ``SoftTargets``.
    ε_i starts at 0, c ε_i is at most 1.

    ``sitawarin2021`` finds that it hides gradients: next to no robustness against AutoAttack.

    Attributes:
        eta: η. smoothing: c. inverted: grow where misclassified, as version 2 of the authors'
            code does.
    """

    remembers: ClassVar[bool] = True
    attack: Attack
    eta: float = 0.005
    smoothing: float = 10.0
    inverted: bool = False

    part: ClassVar[str] = "attack with customised radii"

    def __post_init__(self) -> None:
        if not 0 <= self.eta < math.inf:
            raise UsageError(f"eta must be a finite number of at least 0, got {self.eta}.")
        if not 0 <= self.smoothing < math.inf:
            raise UsageError(f"the smoothing must be at least 0, got {self.smoothing}.")

    def __call__(self, batch: Batch) -> Tensor:
        kept = own_radii(batch, RADII, 0.0)
        rows = batch.rows.to(kept.device)
        before = kept[rows]
        radii = (before + self.eta).clamp_max(self.attack.ball.radius)
        streams = batch.streams.child("attack")
        with frozen(batch.model, self.attack.mode) as forward:
            classes = _classes(batch, forward)
            # Uniform on the simplex: exponential variables over their sum.
            draw = -torch.log1p(-streams.uniform("dirichlet", (len(rows), classes)))
            draw = (draw / draw.sum(1, keepdim=True)).to(batch.x)
            labels = F.one_hot(batch.y, classes).to(draw)
            target = self._soft(before, labels, draw)
            found = self.attack.perturb(forward, batch.x, target, streams=streams, radius=radii)
            with torch.no_grad():
                wrong = forward(found).argmax(1) != batch.y
        kept[rows] = torch.where(wrong ^ self.inverted, before, radii)
        batch.shared[TARGETS] = self._soft(kept[rows], labels, draw)
        return found

    def _soft(self, radii: Tensor, labels: Tensor, draw: Tensor) -> Tensor:
        share = (self.smoothing * radii).clamp_max(1)[:, None]
        return (1 - share) * labels + share * draw

    @property
    def passes(self) -> Passes:
        return Passes(*self.attack.passes) + Passes(1, 0)

    def describe(self) -> dict[str, Any]:
        own = {"eta": self.eta, "smoothing": self.smoothing, "inverted": self.inverted}
        return {"part": self.part, **self.attack.describe(), **own}


def _classes(batch: Batch, forward: Forward) -> int:
    """How many outputs there are. Cost: a pass of one sample, once in a training."""
    if _CLASSES not in batch.memory:
        with torch.no_grad():
            batch.memory[_CLASSES] = torch.tensor(forward(batch.x[:1]).shape[1])
    return int(batch.memory[_CLASSES])


@dataclass(frozen=True)
class SoftTargets:
    """(1/B) Σ_i CE(f(x'_i), ỹ_i) + max(max_{j≠y} z_j − z_y, −κ), ỹ from ``Customised``.

    Attributes:
        kappa: κ of the margin of the logits z = f(x') (Carlini & Wagner); ``None`` for
            cross-entropy alone.
    """

    kappa: float | None = None

    def __post_init__(self) -> None:
        if self.kappa is not None and not 0 <= self.kappa < math.inf:
            raise UsageError(f"kappa must be a finite number of at least 0, got {self.kappa}.")

    def __call__(self, batch: Batch) -> Tensor:
        loss = cross_entropy(batch.adversarial_logits, batch.shared[TARGETS])
        if self.kappa is not None:
            loss = loss + margin(batch.adversarial_logits, batch.y).clamp_min(-self.kappa)
        return loss.mean()

    def passes(self, *, perturbed: bool) -> Passes:
        return Passes(1, 1)

    def describe(self) -> dict[str, Any]:
        return {"part": "soft targets", "kappa": self.kappa}


def cat20(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    alpha: float | None = None,
    eta: float = 0.005,
    smoothing: float = 10.0,
    kappa: float | None = None,
    inverted: bool = False,
    attack_mode: str = "eval",
) -> tuple[Customised, SoftTargets]:
    """CAT20; ``eps``: the largest radius. The paper's margin has ``kappa`` = 10."""
    found = attack(
        "pgd", eps=eps, norm=norm, steps=steps, step_size=alpha, start="zero", mode=attack_mode
    )
    return Customised(found, eta=eta, smoothing=smoothing, inverted=inverted), SoftTargets(kappa)
