"""Lean double backward of convolutions and BatchNorm, against torch's own."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import landscape as ls
from landscape import double_backward
from landscape import params as P
from landscape.double_backward import Lean
from landscape.errors import UsageError
from landscape.operators import PRODUCTS

KINDS = {
    "1d, stride and dilation": (nn.Conv1d(3, 4, 3, stride=2, padding=1, dilation=2), (5, 3, 11)),
    "2d": (nn.Conv2d(3, 4, (3, 2), padding=(1, 0)), (5, 3, 6, 7)),
    "2d, no bias": (nn.Conv2d(3, 4, 3, bias=False), (5, 3, 6, 7)),
    "2d, groups": (nn.Conv2d(4, 6, 3, groups=2, stride=(2, 1)), (5, 4, 6, 7)),
    "2d, same": (nn.Conv2d(3, 4, 3, padding="same"), (5, 3, 6, 7)),
    "2d, reflected": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (5, 3, 6, 7)),
    "2d, kernel larger than its image": (nn.Conv2d(2, 3, (3, 5), padding=2), (5, 2, 4, 4)),
    "2d, groups, on a small image": (nn.Conv2d(4, 6, 5, padding=2, groups=2), (5, 4, 3, 7)),
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


LINEAR = {
    "linear": (nn.Linear(4, 3), (5, 4)),
    "linear of sequences": (nn.Linear(4, 3), (5, 2, 4)),
    "linear, no bias": (nn.Linear(4, 3, bias=False), (5, 4)),
    "linear of one sample": (nn.Linear(4, 3), (4,)),
}


def products(layer, x, mode):
    """Value, gradient, and a Hessian-vector product, of all that needs a gradient."""
    layer = layer.double()
    wrt = [t for t in (*layer.parameters(), x) if t.requires_grad]
    generator = torch.Generator().manual_seed(1)
    with mode:
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
    pairs = zip(products(layer, x, Lean()), products(layer, x, torch.enable_grad()), strict=True)
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("frozen", [None, "weight", "bias"])
@pytest.mark.parametrize("of_input", [False, True], ids=["of data", "of activations"])
@pytest.mark.parametrize("name", KINDS | LINEAR)
def test_products_of_gradients_that_nobody_reads(name, of_input, frozen, monkeypatch):
    monkeypatch.setattr(double_backward, "_LARGE", 1)
    layer, shape = (KINDS | LINEAR)[name]
    layer = copy.deepcopy(layer).double()
    if frozen and getattr(layer, frozen, None) is not None:
        getattr(layer, frozen).requires_grad_(False)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_(of_input or not [p for p in layer.parameters() if p.requires_grad])
    both = [products(layer, x, mode) for mode in (Lean(unread=True), torch.enable_grad())]
    half = len(both[0]) // 2 + 1
    for found, expected in zip(both[0][half:], both[1][half:], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


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


class Counting(TorchDispatchMode):
    """Of convolutions: what is made of them, a gradient of a weight counted as one too."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        if "convolution_backward" in name:
            self.count += sum(args[-1][:2])
        elif "convolution" in name:
            self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("way", ["graph", "double-backward"])
def test_a_product_makes_fewer_convolutions(way):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(32, 3)
    ).double()
    x, y = torch.randn(6, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    operator = ls.Hessian(ls.Objective(model, [(x, y)]), product=way)
    vector = torch.randn(operator.size, dtype=torch.float64)
    with Counting() as ours:
        found = operator @ vector
    weights = list(model.parameters())
    v = [
        p.view_as(w)
        for p, w in zip(vector.split([w.numel() for w in weights]), weights, strict=True)
    ]
    loss = nn.functional.cross_entropy(model(x), y)
    gradient = torch.autograd.grad(loss, weights, create_graph=True)
    expected = torch.autograd.grad(gradient, weights, v)
    # Of the second layer six, as many as a product has terms: v along data and weights, forth
    # (2), back to the layer before (2) and to the weights (2). Of the first, which has no layer
    # before, two. Made anew, the gradient without those of the weights: two forth and one back.
    assert ours.count == {"graph": 8, "double-backward": 11}[way]
    np.testing.assert_allclose(
        found.numpy(), torch.cat([e.flatten() for e in expected]).numpy(), rtol=1e-10, atol=1e-14
    )


class Shared(nn.Module):
    """One weight in two layers, and one that is computed from others."""

    def __init__(self, weight_norm):
        super().__init__()
        self.first = nn.Conv2d(2, 2, 3, padding=1)
        self.normalised = weight_norm(nn.Conv2d(2, 3, 3))

    def forward(self, x):
        return self.normalised(torch.tanh(self.first(torch.tanh(self.first(x))))).flatten(1)


NORMS = {
    "parametrisation": nn.utils.parametrizations.weight_norm,
    "of the other dimension": partial(nn.utils.parametrizations.weight_norm, dim=1),
    "of all": partial(nn.utils.parametrizations.weight_norm, dim=None),
    "hook": nn.utils.weight_norm,
    "spectral": nn.utils.parametrizations.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("way", PRODUCTS)
@pytest.mark.parametrize("name", NORMS)
def test_weights_that_are_computed_from_others(name, way):
    """Against differences: torch's own second derivatives of weight normalisation are wrong.

    A weight's gradient is left out where nobody reads it, but not where it is passed on.
    """
    torch.manual_seed(0)
    model = Shared(NORMS[name]).double()
    x, y = torch.randn(5, 2, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 4])
    objective = ls.Objective(model, [(x, y)])
    fused = name in ("parametrisation", "of all", "hook")
    if fused and way in ("linearised", "forward-over-reverse"):  # torch has no rule for it
        with pytest.raises(UsageError, match=f"{way} does not work for this network: Trying to"):
            ls.Hessian(objective, product=way)
        return
    operator = ls.Hessian(objective, product=way)
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(operator.size, generator=generator, dtype=torch.float64)
    step = P.unflatten(1e-6 * v, objective.params)
    there, back = (objective.gradient(P.axpy(s, step, objective.params)) for s in (1.0, -1.0))
    expected = P.flatten(P.axpy(-1.0, back, there)) / 2e-6
    torch.testing.assert_close(operator @ v, expected, rtol=1e-5, atol=1e-8)
