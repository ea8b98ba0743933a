"""The functions of ``analytic`` as modules, so that everything else here can be run on them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from landscape.attacks import Attack
from landscape.errors import UsageError, unknown
from landscape.losses import cross_entropy
from landscape.random import Streams

ACTIVATIONS = ("identity", "swish")


class Neuron(nn.Module):
    """Logits (0, a(θᵀx)) of inputs t = (x/span + 1)/2 in [0, 1], for attacks that live there.

    Its cross-entropy is log(1 + exp(−y·a(θᵀx))), y = 2·label − 1, in float64.

    Args: theta: (m,), the one parameter. span: inputs x lie in [−span, span].
        activation: ``identity`` (logistic regression) or ``swish`` (kanai2021 Fig. 2d–f).
    """

    def __init__(self, theta: np.ndarray, span: float = 1.0, activation: str = "identity") -> None:
        super().__init__()
        if not 0 < span < np.inf:
            raise UsageError(f"span must be a positive number, got {span}.")
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        self.theta = nn.Parameter(torch.as_tensor(theta, dtype=torch.float64).clone())
        self.span, self.activation = span, activation

    def unit(self, x: np.ndarray) -> Tensor:
        """t of the inputs x."""
        return (torch.as_tensor(x, dtype=torch.float64) / self.span + 1) / 2

    def unit_eps(self, eps: float) -> float:
        """A radius in the units of x as one in the units of t."""
        return eps / (2 * self.span)

    def forward(self, t: Tensor) -> Tensor:
        return self.logits(t, self.theta)

    def logits(self, t: Tensor, theta: Tensor) -> Tensor:
        """(B, 2), at one θ (m,) or at one for every sample (B, m)."""
        z = (self.span * (2 * t - 1) * theta).sum(-1)
        if self.activation == "swish":
            z = nn.functional.silu(z)
        return torch.stack([torch.zeros_like(z), z], -1)


def attacked(
    neuron: Neuron, theta: np.ndarray, x: np.ndarray, y: int, attack: Attack, *, seed: int = 0
) -> np.ndarray:
    """The loss of one sample at every θ (P, m), each under an attack of its own, shape (P,).

    One batch of P copies of the sample, every copy with its own parameters: a surface with
    refresh="each" for the price of one attack. The ball of ``attack`` is in units of t.
    """
    if y not in (-1, 1):
        raise UsageError(f"the label must be −1 or +1, got {y}.")
    points = torch.as_tensor(np.asarray(theta), dtype=torch.float64)
    copies = neuron.unit(x).expand(len(points), -1)
    labels = torch.full((len(points),), int(y > 0))

    def forward(t: Tensor) -> Tensor:
        return neuron.logits(t, points)

    found = attack.perturb(forward, copies, labels, streams=Streams(seed, "attack"))
    return cross_entropy(forward(found), labels).numpy()


class Quadratic(nn.Module):
    """½ (θ − c)ᵀA(θ − c) as the output (B, 1) for every sample, whatever the sample.

    With the loss ``own_output`` its landscape is that number and its Hessian is A.

    Args: theta: (m,). matrix: A, symmetric (m, m). centre: c (m,).
    """

    matrix: Tensor
    centre: Tensor

    def __init__(self, theta: np.ndarray, matrix: np.ndarray, centre: np.ndarray) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.as_tensor(theta, dtype=torch.float64).clone())
        self.register_buffer("matrix", torch.as_tensor(matrix, dtype=torch.float64))
        self.register_buffer("centre", torch.as_tensor(centre, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        step = self.theta - self.centre
        return (0.5 * step @ self.matrix @ step).expand(len(x), 1)


def own_output(output: Tensor, target: Tensor) -> Tensor:
    """The loss of a model that computes it: its single output, per sample."""
    return output[:, 0]
