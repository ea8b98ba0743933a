"""Lean double backward of convolutions and BatchNorm, against torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import landscape as ls
from landscape.double_backward import Lean

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


def norm(kind, *args, **kwargs):
    """A BatchNorm in eval mode with statistics and weights of its own."""
    layer = kind(*args, **kwargs)
    generator = torch.Generator().manual_seed(2)
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return layer.eval()


KINDS |= {
    "norm 1d": (norm(nn.BatchNorm1d, 3), (5, 3)),
    "norm 1d of sequences": (norm(nn.BatchNorm1d, 3), (5, 3, 4)),
    "norm 2d": (norm(nn.BatchNorm2d, 3, eps=0.1), (5, 3, 2, 4)),
    "norm 3d": (norm(nn.BatchNorm3d, 2), (2, 2, 3, 2, 3)),
    "norm without weights": (norm(nn.BatchNorm2d, 3, affine=False), (5, 3, 2, 4)),
    "norm by the batch": (norm(nn.BatchNorm2d, 3, track_running_stats=False), (5, 3, 2, 4)),
}


def products(layer, x, inside):
    """Value, gradient, and a Hessian-vector product, of all that needs a gradient."""
    layer = layer.double()
    wrt = [t for t in (*layer.parameters(), x) if t.requires_grad]
    generator = torch.Generator().manual_seed(1)
    with Lean() if inside else torch.enable_grad():
        value = layer(x.sin()).pow(3).sum()
        gradient = torch.autograd.grad(value, wrt, create_graph=True)
    v = [torch.randn(g.shape, generator=generator, dtype=torch.float64) for g in gradient]
    return value, *gradient, *torch.autograd.grad(gradient, wrt, v, materialize_grads=True)


@pytest.mark.parametrize("of_input", [False, True], ids=["of data", "of activations"])
@pytest.mark.parametrize("name", KINDS)
def test_values_gradients_and_products_are_torchs(name, of_input):
    layer, shape = KINDS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_(of_input or not list(layer.parameters()))
    for found, expected in zip(products(layer, x, True), products(layer, x, False), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("which", ["weight", "bias", "x"])
@pytest.mark.parametrize("name", [n for n in KINDS if "without" not in n and "no bias" not in n])
def test_each_part_of_the_product_alone(name, which):
    """⟨v, ∇_a⟩ differentiated by b, for one a and everything as b: what is masked out is right."""
    layer, shape = KINDS[name]
    layer = layer.double()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_()
    wrt = [layer.weight, layer.bias, x]
    found = []
    for mode in (Lean(), torch.enable_grad()):
        with mode:
            value = layer(x.sin()).pow(3).sum()
            a = x if which == "x" else getattr(layer, which)
            (slope,) = torch.autograd.grad(value, a, create_graph=True)
        found.append(torch.autograd.grad(slope.pow(2).sum(), wrt, materialize_grads=True))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["2d", "2d, groups", "norm 2d"])
def test_third_derivatives(name):
    layer, shape = KINDS[name]
    layer = layer.double()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wrt = [*layer.parameters(), x.requires_grad_()]
    found = []
    for mode in (Lean(), torch.enable_grad()):
        with mode:
            value = layer(x.sin()).pow(3).sum()
            for _ in range(2):
                slopes = torch.autograd.grad(value, wrt, create_graph=True)
                value = sum(s.pow(2).sum() for s in slopes)
        found.append(torch.autograd.grad(value, wrt))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("kind", [lambda: nn.Conv2d(2, 3, 2), lambda: norm(nn.BatchNorm2d, 2)])
def test_frozen_parameters(kind, frozen):
    layer = kind().double()
    getattr(layer, frozen).requires_grad_(False)
    part = [p for p in layer.parameters() if p.requires_grad]
    x = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    found = []
    for mode in (Lean(), torch.enable_grad()):
        with mode:
            value = layer(x).pow(3).sum()
            (gradient,) = torch.autograd.grad(value, part, create_graph=True)
        found.append(torch.autograd.grad(gradient.sum(), part)[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-13, atol=0)


def test_inputs_that_need_a_gradient_get_it():
    x = torch.randn(2, 1, 5, 5, requires_grad=True)
    with Lean():
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
