"""Products through convolutions of data, against torch's own double backward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import landscape as ls
from landscape.convolutions import OfData

KINDS = {
    "1d, stride and dilation": (nn.Conv1d(3, 4, 3, stride=2, padding=1, dilation=2), (5, 3, 11)),
    "2d": (nn.Conv2d(3, 4, (3, 2), padding=(1, 0)), (5, 3, 6, 7)),
    "2d, no bias": (nn.Conv2d(3, 4, 3, bias=False), (5, 3, 6, 7)),
    "2d, groups": (nn.Conv2d(4, 6, 3, groups=2, stride=(2, 1)), (5, 4, 6, 7)),
    "2d, same": (nn.Conv2d(3, 4, 3, padding="same"), (5, 3, 6, 7)),
    "2d, reflected": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (5, 3, 6, 7)),
    "3d": (nn.Conv3d(2, 3, 2), (2, 2, 4, 5, 3)),
    "one sample without a batch": (nn.Conv2d(3, 4, 3), (3, 6, 7)),
}


def products(layer, x, inside):
    layer = layer.double()
    weights = list(layer.parameters())
    generator = torch.Generator().manual_seed(1)
    with OfData() if inside else torch.enable_grad():
        value = layer(x).pow(3).sum()
        gradient = torch.autograd.grad(value, weights, create_graph=True)
    v = [torch.randn(g.shape, generator=generator, dtype=torch.float64) for g in gradient]
    return value, *gradient, *torch.autograd.grad(gradient, weights, v)


@pytest.mark.parametrize("name", KINDS)
def test_values_gradients_and_products_are_torchs(name):
    layer, shape = KINDS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for found, expected in zip(products(layer, x, True), products(layer, x, False), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_frozen_parameters(frozen):
    layer = nn.Conv2d(2, 3, 2).double()
    getattr(layer, frozen).requires_grad_(False)
    part = [p for p in layer.parameters() if p.requires_grad]
    x = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    found = []
    for mode in (OfData(), torch.enable_grad()):
        with mode:
            value = layer(x).pow(3).sum()
            (gradient,) = torch.autograd.grad(value, part, create_graph=True)
        found.append(torch.autograd.grad(gradient.sum(), part)[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-13, atol=0)


def test_inputs_that_need_a_gradient_get_it():
    x = torch.randn(2, 1, 5, 5, requires_grad=True)
    with OfData():
        nn.Conv2d(1, 2, 3)(x).sum().backward()
    assert x.grad is not None


def test_a_product_makes_one_convolution_less():
    class Counting(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.count += "convolution" in str(function)
            return function(*args, **(kwargs or {}))

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(32, 3)
    ).double()
    x, y = torch.randn(6, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    operator = ls.Hessian(ls.Objective(model, [(x, y)]), product="graph")
    vector = torch.randn(operator.size, dtype=torch.float64)
    with Counting() as ours:
        found = operator @ vector
    weights = list(model.parameters())
    gradient = torch.autograd.grad(
        nn.functional.cross_entropy(model(x), y), weights, create_graph=True
    )
    v = [
        p.view_as(w)
        for p, w in zip(vector.split([w.numel() for w in weights]), weights, strict=True)
    ]
    with Counting() as theirs:
        expected = torch.autograd.grad(gradient, weights, v)
    assert ours.count < theirs.count
    np.testing.assert_allclose(
        found.numpy(), torch.cat([e.flatten() for e in expected]).numpy(), rtol=1e-10, atol=1e-14
    )
