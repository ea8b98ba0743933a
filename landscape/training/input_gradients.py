"""Regularisers of the loss's gradient with respect to the input, differentiated twice.

All are means over samples of the gradient g(x_i) = ∇_{x_i} Σ_j ℓ_j of the *sum* of losses, ℓ the
cross-entropy: that of each sample's own loss, unless BatchNorm in train mode ties the samples of a
batch together. li2023's strengths belong to gradients of the batch mean of B = 100 samples: for
squared norms divide them by B (IGR 1200 → 12).

The network is in train mode: each gradient's forward pass has a Dropout mask of its own and moves
the running statistics of BatchNorm. With ReLU g is piecewise constant but for the softmax, and what
is differentiated is its value within the pieces (li2023 A.2).

A backward pass through g is counted as one, though it is twice the work of an ordinary one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landscape.attacks.ball import flat
from landscape.losses import cross_entropy
from landscape.training.batch import Batch
from landscape.training.consistency import check_weight
from landscape.training.outer_losses import Regulariser
from landscape.training.perturbations import Passes

# A gradient of the loss itself, unscaled, soon lies below what fp16 can hold.
TWICE = ("full", "bf16")


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, *, graph: bool) -> tuple[Tensor, Tensor]:
    """Σ_j ℓ_j's gradient with respect to x, in the shape of x, and the losses ℓ, (B,).

    ``graph``: whether both can be differentiated further. Cost: a forward and a backward pass.
    """
    leaf = x.detach().requires_grad_()
    losses = cross_entropy(model(leaf), y)
    (gradient,) = torch.autograd.grad(losses.sum(), leaf, create_graph=graph)
    return gradient, losses if graph else losses.detach()


@dataclass(frozen=True)
class GradientPenalty(Regulariser):
    """β (1/B) Σ_i ‖g(x_i)‖₂² (IGR, Ross & Doshi-Velez 2018; li2023 eq. 10 with standard training).

    Attributes:
        weight: β. li2023 Table 1: 12 with FGSM-N, 10 with PGD-10.
    """

    precisions = TWICE

    weight: float = 10.0

    def __post_init__(self) -> None:
        check_weight("weight", self.weight)

    def __call__(self, batch: Batch) -> Tensor:
        gradient, _ = input_gradient(batch.model, batch.x, batch.y, graph=True)
        return self.weight * flat(gradient).pow(2).sum(1).mean()

    @property
    def passes(self) -> Passes:
        return Passes(1, 2)

    def describe(self) -> dict[str, Any]:
        return {"part": "igr", "weight": self.weight}


@dataclass(frozen=True)
class CurvaturePenalty(Regulariser):
    """λ (1/B) Σ_i ‖g(x_i + z_i) − g(x_i)‖₂² (CURE, Moosavi-Dezfooli et al. 2019).

    z = h s/‖s‖₂, s = sign g(x), not differentiated; x + z may leave [0, 1], as in the authors'
    code, which does all this in eval mode and takes the norm without the square.

    Attributes:
        weight: λ. li2023 Table 1: 15 with FGSM-N and PGD-10.
        h: length of z. unit: whether s is divided by its norm. li2023 found h s with h = ε better.
        squared: whether the norm is squared, as in the paper.
    """

    precisions = TWICE

    weight: float = 4.0
    h: float = 1.5
    unit: bool = True
    squared: bool = True

    def __post_init__(self) -> None:
        check_weight("weight", self.weight)
        check_weight("h", self.h)

    def __call__(self, batch: Batch) -> Tensor:
        here, _ = input_gradient(batch.model, batch.x, batch.y, graph=True)
        z = flat(here.detach().sign())
        if self.unit:
            z = z / torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp_min(1)
        there = batch.x + self.h * z.reshape(batch.x.shape)
        gradient, _ = input_gradient(batch.model, there, batch.y, graph=True)
        values = flat(gradient - here).pow(2).sum(1)
        if not self.squared:  # the root has no derivative at 0, where nothing is to be penalised
            values = torch.where(values > 0, values, 1.0).sqrt() * (values > 0)
        return self.weight * values.mean()

    @property
    def passes(self) -> Passes:
        return Passes(2, 4)

    def describe(self) -> dict[str, Any]:
        return {"part": "cure", **dataclasses.asdict(self)}


@dataclass(frozen=True)
class GradientAlignment(Regulariser):
    """λ (1 − mean_i cos(g(x_i), g(x_i + u_i))), u uniform in ±ε (GradAlign, Andriushchenko 2020).

    Samples of which either gradient is zero are left out of the mean, as in the authors' code;
    g(x) is not differentiated, as there with FGSM.

    Attributes:
        eps: ε. weight: λ; the authors' for FGSM is .2 at 8/255, li2023's 7 (FGSM-N), 6 (PGD-10).
        detach: whether g(x) is held fixed; otherwise the cost is another backward pass.
    """

    precisions = TWICE

    eps: float
    weight: float = 0.2
    detach: bool = True

    def __post_init__(self) -> None:
        check_weight("eps", self.eps)
        check_weight("weight", self.weight)

    def __call__(self, batch: Batch) -> Tensor:
        if _OFFSET not in batch.shared:
            u = batch.streams.uniform("gradalign", tuple(batch.x.shape)).mul_(2).sub_(1)
            batch.shared[_OFFSET] = (self.eps * u).to(batch.x)
        here, _ = input_gradient(batch.model, batch.x, batch.y, graph=not self.detach)
        neighbour = batch.x + batch.shared[_OFFSET]
        there, _ = input_gradient(batch.model, neighbour, batch.y, graph=True)
        a, b = flat(here), flat(there)
        kept = (a != 0).any(1) & (b != 0).any(1)
        if not bool(kept.any()):
            return b.sum() * 0
        return self.weight * (1 - cosines(a[kept], b[kept]).mean())

    @property
    def passes(self) -> Passes:
        return Passes(2, 3 if self.detach else 4)

    def describe(self) -> dict[str, Any]:
        return {"part": "gradalign", **dataclasses.asdict(self)}


_OFFSET = "gradalign.offset"


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of every row of a with that of b, neither of them zero."""
    # Scaled first: squares of a confident network's tiny gradients underflow.
    a, b = (v / v.detach().abs().amax(1, keepdim=True) for v in (a, b))
    norms = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return (a * b).sum(1) / norms
