"""Small networks as data, with the awkward ones, and a slow dense reference for each.

The reference calls the module itself (no functional call), in eval mode, on all the data at once,
and fills the Hessian row by row: nothing is shared with ``Objective``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Batches = list[tuple[Tensor, Tensor]]

# A batch of one, and a last batch that is neither the largest nor the smallest.
SIZES = (7, 5, 1, 4)


class ConvNet(nn.Module):
    """LeNet-like, with everything that behaves differently in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 4, 3)
        self.bn2 = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(torch.tanh(self.bn1(self.conv1(x))), 2)
        x = F.softplus(self.bn2(self.conv2(F.pad(x, (1, 0, 1, 0)))))
        return self.head(self.drop(x.flatten(1)))


class Tied(nn.Module):
    """One weight matrix in two places, once transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.second(torch.tanh(self.first(x))))
        return self.head(hidden @ self.first.weight.T)


class Attention(nn.Module):
    """Attention by the function whose fast ways have no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs, self.mix, self.head = nn.Linear(2, 8), nn.Linear(8, 24), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.mix(self.inputs(x.view(-1, 3, 2))).view(-1, 3, 3, 2, 4)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.head(mixed.permute(0, 2, 1, 3).flatten(2).mean(1))


class Unused(nn.Module):
    """A parameter before the others that takes no part in the output."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.randn(4, 2))
        self.net = mlp(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def mlp(*hidden: int, inputs: int = 6, outputs: int = 3, act: type = nn.Tanh) -> nn.Sequential:
    widths = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


def conv_net() -> nn.Module:
    net = ConvNet()
    for bn in (net.bn1, net.bn2):  # running statistics that matter
        nn.init.uniform_(bn.running_mean, -0.5, 0.5)
        nn.init.uniform_(bn.running_var, 0.5, 2.0)
        nn.init.uniform_(bn.weight, 0.5, 1.5)
    net.bn1.eval()  # mixed flags
    return net


def frozen() -> nn.Module:
    net = mlp(7, 5)
    net[0].requires_grad_(False)
    net[2].bias.requires_grad_(False)
    return net


@dataclass(frozen=True)
class Case:
    """A network, the shape of its inputs, its loss and what its targets are."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (6,)
    loss: str = "cross-entropy"
    outputs: int = 3

    def model(self) -> nn.Module:
        """Float64, in train mode as torch makes it; the same weights every time."""
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(3)
            return self.build().double()

    def data(self, sizes: tuple[int, ...] = SIZES) -> Batches:
        """Inputs in [0, 1]; the same samples whatever the batch sizes."""
        n = sum(sizes)
        g = torch.Generator().manual_seed(5)
        x = torch.rand(n, *self.shape, generator=g, dtype=torch.float64)
        if self.loss == "mse":
            y = torch.randn(n, self.outputs, generator=g, dtype=torch.float64)
        else:
            y = torch.randint(self.outputs, (n,), generator=g)
        return list(zip(x.split(sizes), y.split(sizes), strict=True))


CASES: dict[str, Case] = {
    "mlp": Case(lambda: mlp(8, 5)),
    "relu": Case(lambda: mlp(9, 6, act=nn.ReLU)),
    "conv, batchnorm, dropout": Case(conv_net, (1, 6, 6)),
    "tied": Case(Tied),
    "frozen": Case(frozen),
    "logistic": Case(lambda: mlp()),
    "unused": Case(Unused),
    "attention": Case(Attention),
    "regression": Case(lambda: mlp(6, outputs=2), loss="mse", outputs=2),
    "linear regression": Case(lambda: mlp(outputs=1), loss="mse", outputs=1),
}


def joined(batches: Batches) -> tuple[Tensor, Tensor]:
    """All samples in one batch."""
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


@dataclass(frozen=True)
class Dense:
    """L, ∇L and ∇²L of every trainable parameter, in the order of ``named_parameters``."""

    losses: Tensor
    accuracy: float | None
    gradient: Tensor
    hessian: Tensor

    @property
    def loss(self) -> float:
        return float(self.losses.mean())


def dense(model: nn.Module, x: Tensor, y: Tensor, loss: str = "cross-entropy") -> Dense:
    """The reference: one batch, the module itself in eval mode, the Hessian row by row."""
    model = copy.deepcopy(model).eval()
    leaves = [p for p in model.parameters() if p.requires_grad]
    with sdpa_kernel(SDPBackend.MATH):  # the only one with a second derivative
        output = model(x)
    if loss == "mse":
        losses = ((output - y.reshape(output.shape)) ** 2).flatten(1).sum(1)
    else:
        losses = -output.log_softmax(1)[torch.arange(len(y)), y]
    gradient = _flat(
        torch.autograd.grad(losses.mean(), leaves, create_graph=True, allow_unused=True), leaves
    )
    rows = []
    for g in gradient:
        if g.requires_grad:
            row = torch.autograd.grad(g, leaves, retain_graph=True, allow_unused=True)
            rows.append(_flat(row, leaves).detach())
        else:
            rows.append(torch.zeros_like(gradient))
    hits = None if loss == "mse" else float((output.argmax(1) == y).double().mean())
    return Dense(losses.detach(), hits, gradient.detach(), torch.stack(rows).detach())


def _flat(pieces: tuple[Tensor | None, ...], leaves: list[nn.Parameter]) -> Tensor:
    return torch.cat(
        [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for g, p in zip(pieces, leaves, strict=True)
        ]
    )
