"""Lipschitz bounds against dense matrices, brute force, closed forms and sampled slopes."""

from __future__ import annotations

import functools
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CASES
from numpy.testing import assert_allclose
from torch import nn

import landscape as ls
from landscape import models
from landscape.cli import run
from landscape.diagnostics import composition
from landscape.diagnostics.composition import REFINEMENTS, compose
from landscape.diagnostics.slopes import elementwise, overlap
from landscape.errors import NumericalError, UsageError
from landscape.linalg import norms
from landscape.linalg.norms import spectral_norm, vertex_norm
from landscape.plotting import picture
from landscape.random import Streams

CHECKPOINTS = sorted((Path(__file__).parent.parent / "checkpoints").glob("*.pt"))
CONV = CASES["conv, batchnorm, dropout"]


class Matrix:
    """A dense matrix as a LinearMap."""

    device = torch.device("cpu")

    def __init__(self, matrix):
        self.matrix = matrix
        self.outputs, self.inputs = matrix.shape

    def __call__(self, vectors):
        return vectors @ self.matrix.T

    def adjoint(self, vectors):
        return vectors @ self.matrix


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_singular_values(values, shape=(60, 45)):
    u, _, v = torch.linalg.svd(randn(*shape), full_matrices=False)
    return u @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ v


MATRICES = {
    "wide": randn(20, 90),
    "tall": randn(90, 20),
    "crowded top": with_singular_values(np.linspace(1, 3, 45) ** 0.2),
    "outlier": with_singular_values([50.0, *np.linspace(1, 2, 44)]),
    "repeated": with_singular_values([3.0, 3.0, 3.0, *[1.0] * 42]),
    "low rank": with_singular_values([2.0, 1.0, *[0.0] * 43]),
    "orthogonal": torch.linalg.qr(randn(40, 40)).Q,
    "zero": torch.zeros(30, 40, dtype=torch.float64),
    "one": torch.full((1, 1), -2.0, dtype=torch.float64),
}


@pytest.mark.parametrize("name", MATRICES)
def test_norms_lie_between_estimate_and_bound(name):
    a = MATRICES[name]
    exact = float(torch.linalg.matrix_norm(a, 2))
    dense = spectral_norm(Matrix(a), streams=Streams(0))
    assert_allclose([dense.estimate, dense.upper], exact, rtol=1e-8, atol=1e-12)
    assert dense.converged
    assert dense.certificate == "dense"
    for steps in (1, 2, 5, 20, 1000):
        found = spectral_norm(Matrix(a), steps=steps, streams=Streams(1), dense=0)
        assert found.certificate == "lanczos"
        assert found.estimate <= exact * (1 + 1e-9)
        assert found.upper >= exact
        assert found.products <= min(steps, *a.shape)
        assert not found.converged or found.upper <= 1.006 * exact


@pytest.mark.parametrize("tol", [0.05, 0.005])
def test_steps_follow_from_the_tolerance(tol):
    a = with_singular_values(np.linspace(1, 3, 400), shape=(500, 400))
    found = spectral_norm(Matrix(a), tol=tol, streams=Streams(0), dense=0)
    assert found.converged
    assert 3 <= found.upper <= 3 * (1 + tol) * (1 + 1e-8)
    wide = math.acosh(math.sqrt(800 / math.pi) / norms.FAILURE)
    # The k of cosh(wide / (2k − 1)) = 1 + tol, to first order in tol.
    assert abs(found.products - wide / math.sqrt(8 * tol)) <= 0.02 * found.products + 1
    few = spectral_norm(Matrix(a), tol=tol, steps=8, streams=Streams(0), dense=0)
    assert not few.converged
    assert few.upper > 1.5 * 3
    assert few.products == 8


def test_the_bound_fails_no_more_often_than_it_says(monkeypatch):
    """On a spectrum that fails often: one eigenvalue just above a crowd, few steps."""
    a = torch.diag(torch.tensor([1.0, *np.linspace(0, 0.7**4, 300) ** 0.25], dtype=torch.float64))
    for failure in (0.05, 0.3):
        monkeypatch.setattr(norms, "FAILURE", failure)
        found = [
            spectral_norm(Matrix(a), steps=3, streams=Streams(s), dense=0).upper for s in range(300)
        ]
        share = np.mean(np.array(found) < 1)
        # And the bound isn't idle: a start of b² ≤ 1/cosh² is all that is lost.
        assert share <= failure + 3 * math.sqrt(failure * (1 - failure) / 300)
    assert share > 0.02


def test_corners_of_the_activation_cube():
    a, b = randn(5, 7), randn(4, 5, seed=1)
    for low, high in ((0.0, 1.0), (0.1, 1.0), (-0.1, 1.1)):
        slow = max(
            float(
                torch.linalg.matrix_norm(
                    b @ torch.diag(torch.tensor(c, dtype=torch.float64)) @ a, 2
                )
            )
            for c in itertools.product((low, high), repeat=5)
        )
        assert_allclose(vertex_norm(Matrix(b), Matrix(a), low, high), slow, rtol=1e-8)
        inside = torch.rand(200, 5, generator=torch.Generator().manual_seed(2))
        for sigma in low + (high - low) * inside.double():
            assert torch.linalg.matrix_norm(b @ torch.diag(sigma) @ a, 2) <= slow + 1e-9
    assert vertex_norm(Matrix(b), Matrix(a), 0, 1, most=4) is None


# -- one layer ------------------------------------------------------------------------------------


def bound(model, x, refine="fused", **kwargs):
    model = model.double().eval()
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return compose(model, state, x, refine=refine, streams=Streams(0), **kwargs)


def seeded(build):
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(1)
        model = build().double()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for p in (module.running_var, *module.parameters()):
                    nn.init.uniform_(p, 0.3, 2.0)
                nn.init.normal_(module.running_mean)
        return model.eval()


class Lambda(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


WEIGHT = randn(6, 2)
SCALE = torch.tensor([1.0, -3.0, 2.0]).view(3, 1, 1)

AFFINE = {
    "convolution": lambda: nn.Conv2d(3, 4, 3, padding=1),
    "no padding": lambda: nn.Conv2d(3, 4, 3),
    "stride, groups": lambda: nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3),
    "dilation": lambda: nn.Conv2d(3, 2, (2, 3), dilation=2, padding=(0, 2)),
    "transposed": lambda: nn.ConvTranspose2d(3, 2, 3, stride=2, output_padding=1),
    "circular": lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"),
    "reflected": lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
    "conv and batchnorm": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
    "batchnorm, no affine": lambda: nn.BatchNorm2d(3, affine=False),
    "batchnorm first": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)),
    "average pooling": lambda: nn.AvgPool2d(3, 2, padding=1),
    "adaptive pooling": lambda: nn.AdaptiveAvgPool2d((2, 3)),
    "global mean": lambda: Lambda(lambda x: x.mean((2, 3)) - 0.5),
    "upsampling": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "flatten, linear": lambda: nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(90, 5)),
    "linear on the last axis": lambda: nn.Linear(6, 4),
    "pad with ones": lambda: Lambda(lambda x: F.pad(x, (1, 2, 0, 1), value=1.0)),
    "normalisation": lambda: models.Normalize((0.1, 0.2, 0.3), (0.5, 0.2, 0.9), (3, 5, 6)),
    "scaled by a constant": lambda: Lambda(lambda x: 1 - x * SCALE.to(x) / 2),
    "itself twice": lambda: Lambda(lambda x: torch.add(x, x.flip(2), alpha=-2) + x),
    "side by side": lambda: Lambda(lambda x: torch.cat([x, 2 * x, torch.ones_like(x)], 1)),
    "chunks": lambda: Lambda(lambda x: x.chunk(3, 1)[2] - x.chunk(3, 1)[0]),
    "broadcast": lambda: Lambda(lambda x: x.mean() + torch.ones(1, 5, dtype=x.dtype)),
    "weighted sum": lambda: Lambda(lambda x: torch.einsum("bchw,wk->bchk", x, WEIGHT)),
    "identity": nn.Identity,
}


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("dense", [norms.DENSE, 0], ids=["dense", "lanczos"])
def test_affine_layers_have_the_norm_of_their_jacobian(name, dense, monkeypatch):
    monkeypatch.setattr(composition, "spectral_norm", functools.partial(spectral_norm, dense=dense))
    model = seeded(AFFINE[name])
    x = randn(1, 3, 5, 6)
    jacobian = torch.func.jacrev(lambda v: model(v).flatten())(x).flatten(1).detach()
    exact = float(torch.linalg.matrix_norm(jacobian, 2))
    found = bound(model, x)
    assert found.estimate <= exact * (1 + 1e-8)
    if dense or name == "identity":
        assert_allclose([found.upper, found.estimate], exact, rtol=1e-7)
    else:
        assert exact <= found.upper <= 1.01 * exact
    assert all(part.kind == "linear" for part in found.parts)


def test_product_takes_every_layer_alone():
    model = seeded(AFFINE["conv and batchnorm"])
    x = randn(1, 3, 5, 6)
    conv = bound(nn.Sequential(model[0]), x).upper
    bn = model[1]
    scale = float((bn.weight / (bn.running_var + bn.eps).sqrt()).abs().max().detach())
    found = bound(model, x, refine="product")
    assert_allclose(found.upper, conv * scale, rtol=1e-7)
    assert [part.name for part in found.parts] == ["0", "1"]
    fused = bound(model, x)
    assert [part.name for part in fused.parts] == ["0 + 1"]
    assert fused.upper < found.upper


# -- nonlinear operations -------------------------------------------------------------------------

ACTIVATIONS = {
    "relu": F.relu,
    "leaky": lambda x: F.leaky_relu(x, 0.3),
    "steep leaky": lambda x: F.leaky_relu(x, -2.5),
    "prelu": lambda x: F.prelu(x, torch.tensor([-1.5, 0.2], dtype=x.dtype)),
    "elu": lambda x: F.elu(x, 2.0),
    "selu": F.selu,
    "celu": lambda x: F.celu(x, 2.0),
    "relu6": F.relu6,
    "clamp": lambda x: x.clamp(-1, 1),
    "threshold": lambda x: F.threshold(x, 0.5, 0.5),
    "softplus": lambda x: F.softplus(x, beta=3),
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "logsigmoid": F.logsigmoid,
    "atan": torch.atan,
    "erf": torch.erf,
    "sine": torch.sin,
    "cosine": torch.cos,
    "abs": torch.abs,
    "at least": lambda x: torch.maximum(x, torch.tensor(0.3, dtype=x.dtype)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_of_activations(name):
    f = ACTIVATIONS[name]
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    x = torch.stack([grid, grid], 1).requires_grad_()  # two channels, for prelu
    (slope,) = torch.autograd.grad(f(x).sum(), x)
    steepest = float(slope.abs().max())
    found = bound(Lambda(f), torch.zeros(1, 2, dtype=torch.float64)).upper
    assert steepest - 1e-9 <= found <= steepest * (1 + 1e-5) + 1e-6


def test_intervals_of_slopes_hold_and_are_tight():
    aten = {"leaky": ("leaky_relu", [0.3]), "gelu tanh": ("gelu", []), "elu": ("elu", [2.0])}
    for name in ("relu", "leaky", "elu", "silu", "gelu", "mish", "hardswish", "tanh", "sigmoid"):
        x = torch.linspace(-30, 30, 60_001, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(ACTIVATIONS[name](x).sum(), x)
        op, arguments = aten.get(name, (name, []))
        low, high = elementwise(op, [None, *arguments], {})
        assert low <= float(slope.min()) <= low + 1e-5
        assert high - 1e-5 <= float(slope.max()) <= high


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "expected"),
    [(2, 2, 0, 1, 1), (3, 1, 1, 1, 3), (3, 2, 1, 1, 2), (2, 3, 0, 1, 1), (3, 2, 2, 2, 3)],
)
def test_overlapping_max_pooling(kernel, stride, padding, dilation, expected):
    """A spike moves the maximum of every window that holds it: the bound is attained."""
    pool = nn.MaxPool2d(kernel, stride, padding if padding <= kernel // 2 else 1, dilation)
    n = 12
    x = torch.zeros(1, 1, n, n, dtype=torch.float64)
    found = bound(pool, x).upper
    worst = 0.0
    for i, j in itertools.product(range(n), repeat=2):
        spike = x.clone()
        spike[0, 0, i, j] = 1.0
        worst = max(worst, float((pool(spike) - pool(x)).norm()))
    assert_allclose(found, worst, rtol=1e-12)
    assert_allclose(found, expected, rtol=1e-12)
    size = pool(x).shape[-1]
    assert overlap(n, size, kernel, stride, pool.padding, dilation) == expected


@pytest.mark.parametrize("size", [(2, 3), (5, 4), 1])
def test_adaptive_max_pooling(size):
    pool = nn.AdaptiveMaxPool2d(size)
    x = torch.zeros(1, 2, 7, 8, dtype=torch.float64)
    worst = 0.0
    for i, j in itertools.product(range(7), range(8)):
        spike = x.clone()
        spike[0, 0, i, j] = 1.0
        worst = max(worst, float((pool(spike) - pool(x)).norm()))
    assert_allclose(bound(pool, x).upper, worst, rtol=1e-12)


def test_other_joint_operations():
    assert_allclose(bound(nn.MaxPool1d(3, 1), randn(1, 2, 9)).upper, math.sqrt(3))
    assert_allclose(bound(nn.MaxPool3d(2, 1), randn(1, 2, 4, 4, 4)).upper, math.sqrt(8))
    assert bound(nn.AdaptiveMaxPool1d(3), randn(1, 2, 9)).upper == 1
    x = randn(1, 4, 3)
    assert bound(Lambda(lambda v: v.amax(1)), x).upper == 1
    assert bound(Lambda(lambda v: v.max(1).values), x).upper == 1
    assert bound(Lambda(lambda v: v.softmax(1)), x).upper == 0.5
    assert_allclose(bound(Lambda(lambda v: v.log_softmax(1)), x).upper, 2)
    # 1/2 and √K are approached: two equal probabilities, one certain class.
    p = torch.tensor([0.0, 0, -99, -99], dtype=torch.float64)
    assert_allclose(torch.linalg.matrix_norm(torch.func.jacrev(lambda v: v.softmax(0))(p), 2), 0.5)
    p = torch.tensor([99.0, 0, 0, 0], dtype=torch.float64)
    j = torch.func.jacrev(lambda v: v.log_softmax(0))(p)
    assert_allclose(torch.linalg.matrix_norm(j, 2), 2)


# -- branches -------------------------------------------------------------------------------------

A, B, C = randn(6, 6), randn(6, 6, seed=1), randn(6, 6, seed=2)


def norm(matrix):
    return float(torch.linalg.matrix_norm(matrix, 2))


def h(x, m=A):
    return torch.relu(x @ m.T)


BRANCHES = {
    "residual": (lambda x: x + h(x) @ B.T, 1 + norm(A) * norm(B)),
    "subtracted": (lambda x: x @ C.T - h(x), norm(C) + norm(A)),
    "alpha": (lambda x: torch.add(h(x), x @ C.T, alpha=-3), norm(A) + 3 * norm(C)),
    "linear branches": (lambda x: x @ A.T + x @ B.T, norm(A + B)),
    "cancelling": (lambda x: x - x, 0.0),
    "two blocks": (lambda x: (lambda z: z + h(z, B))(x + h(x)), (1 + norm(A)) * (1 + norm(B))),
    "of the block's input": (lambda x: h(x) @ C.T + h(h(x), B), norm(A) * (norm(C) + norm(B))),
    "side by side": (lambda x: torch.cat([h(x), x], 1), math.hypot(norm(A), 1)),
    "stacked": (lambda x: torch.stack([h(x), h(x, B)]), math.hypot(norm(A), norm(B))),
    "maximum": (lambda x: torch.maximum(h(x), x @ B.T), math.hypot(norm(A), norm(B))),
    "a repeated branch": (lambda x: h(x) + x.sum(), norm(A) + 6),
    "a repeated maximum": (
        lambda x: torch.maximum(x.sum(), torch.ones(1, 6, dtype=x.dtype)),
        6.0,
    ),
    "in place": (lambda x: F.relu_(x @ A.T).add_(x), norm(A) + 1),
    "constant": (lambda x: torch.ones_like(x) @ A.T, 0.0),
    "unused": (lambda x: (x * x, h(x))[1], norm(A)),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_branches(name):
    f, expected = BRANCHES[name]
    assert_allclose(bound(Lambda(f), randn(1, 6)).upper, expected, rtol=1e-7, atol=1e-12)


def test_mutations_are_followed():
    """y is changed after it was made: what reads it later reads the new value."""

    def f(x):
        y = x @ A.T
        y.mul_(5)
        z = y[:, :3]
        z.mul_(2)
        return y

    exact = torch.func.jacrev(lambda v: (v @ A.T) * torch.tensor([10.0] * 3 + [5.0] * 3))(
        randn(1, 6)
    )
    found = bound(Lambda(f), randn(1, 6)).upper
    assert_allclose(found, torch.linalg.matrix_norm(exact.view(6, 6), 2), rtol=1e-7)


# -- whole networks -------------------------------------------------------------------------------


def steepest(model, shape, pairs, scale):
    """The largest slope of random pairs, near and far, some of them outside the box."""
    x = scale * randn(pairs, *shape, seed=3)
    apart = 10 ** (randn(pairs, seed=4) - 1).view(-1, *[1] * len(shape))
    y = x + apart * randn(pairs, *shape, seed=5)
    with torch.no_grad():
        change = (model(x) - model(y)).flatten(1).norm(dim=1)
    return float((change / (x - y).flatten(1).norm(dim=1)).max())


# Attention has no global constant, which is said (below).
@pytest.mark.parametrize("name", [name for name in CASES if name != "attention"])
def test_bounds_exceed_sampled_slopes(name):
    case = CASES[name]
    model = case.model().eval()
    x = torch.zeros(1, *case.shape, dtype=torch.float64)
    product, fused, refined = (bound(model, x, refine=r).upper for r in REFINEMENTS)
    assert product >= fused * (1 - 1e-8) >= refined * (1 - 2e-8)
    for scale in (0.3, 3.0):
        assert steepest(model, case.shape, 10_000, scale) <= refined


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda p: p.stem)
def test_bounds_exceed_10_000_pairs_of_every_bundled_network(path):
    checkpoint = ls.load_checkpoint(path)
    spec = models.ModelSpec.from_dict(checkpoint.model)
    model = checkpoint.into(spec.build(seed=0)).double().eval()
    x = torch.zeros(1, *spec.in_shape, dtype=torch.float64)
    refined = bound(model, x, refine="seqlip").upper
    assert steepest(model, spec.in_shape, 10_000, 0.5) <= refined
    from landscape import data

    images = data.load(checkpoint.data["name"], "test")
    objective = ls.Objective(model, images)
    found = ls.lipschitz(objective, pairs=10_000, samples=100)
    assert len(found.ratio) == 10_000
    assert 0 < np.nanmax(found.ratio) <= found.lower <= refined <= found.upper
    assert found.estimate <= found.upper


@pytest.mark.parametrize("name", ["resnet18-1", "preact-resnet18-1", "wrn-10-1", "vgg-1"])
def test_residual_networks(name):
    model = models.build(
        name, in_shape=(3, 32, 32), num_classes=4, normalize=(0.5, 0.25), seed=0, activation="silu"
    )
    model = seeded(lambda: model)
    x = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    found = bound(model, x, tol=0.1)
    assert steepest(model, (3, 32, 32), 20, 0.5) <= found.upper
    assert all(n.converged for n in found.norms)
    meetings = sum(part.kind == "branches meet" for part in found.parts)
    assert meetings == {"resnet18-1": 8, "preact-resnet18-1": 8, "wrn-10-1": 3, "vgg-1": 0}[name]


def test_basic_block_by_hand():
    """L·(lip(conv1∘bn1)·lip(conv2∘bn2) + lip(shortcut)), every factor from a dense matrix."""
    from landscape.models.resnet import BasicBlock

    block = seeded(lambda: BasicBlock(3, 4, 2, "relu"))
    x = randn(1, 3, 6, 6)

    def dense(f, shape):
        x = torch.zeros(shape, dtype=torch.float64)
        j = torch.func.jacrev(lambda v: f(v).flatten())(x).detach()
        return float(torch.linalg.matrix_norm(j.flatten(1), 2))

    first = dense(lambda v: block.bn1(block.conv1(v)), (1, 3, 6, 6))
    second = dense(lambda v: block.bn2(block.conv2(v)), (1, 4, 3, 3))
    shortcut = dense(block.shortcut, (1, 3, 6, 6))
    assert_allclose(bound(block, x).upper, first * second + shortcut, rtol=1e-7)


# -- seqlip ---------------------------------------------------------------------------------------


def patterns(matrices, samples=3000):
    """The largest ‖W_K D … D W_1‖ over random 0/1 diagonals: a lower bound of any valid bound."""
    g = torch.Generator().manual_seed(0)
    best = 0.0
    for _ in range(samples):
        m = matrices[0]
        for w in matrices[1:]:
            m = w @ (torch.randint(2, (len(m), 1), generator=g).double() * m)
        best = max(best, float(torch.linalg.matrix_norm(m, 2)))
    return best


def averaged(matrices):
    """Combettes & Pesquet 2020, Thm. 4.2: the sum over all ways to cut the chain."""
    k = len(matrices)
    total = 0.0
    for cuts in itertools.product((False, True), repeat=k - 1):
        pieces, product = [], matrices[0]
        for cut, w in zip(cuts, matrices[1:], strict=True):
            if cut:
                pieces.append(product)
                product = w
            else:
                product = w @ product
        pieces.append(product)
        total += math.prod(float(torch.linalg.matrix_norm(p, 2)) for p in pieces)
    return total / 2 ** (k - 1)


def chain(*widths):
    layers = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    model = seeded(lambda: nn.Sequential(*layers[:-1]))
    return model, [m.weight.detach() for m in model if isinstance(m, nn.Linear)]


def test_seqlip_of_a_small_pair_is_the_maximum_over_activations():
    model, (w1, w2) = chain(7, 6, 5)
    brute = max(
        float(torch.linalg.matrix_norm(w2 @ torch.diag(torch.tensor(s).double()) @ w1, 2))
        for s in itertools.product((0.0, 1.0), repeat=6)
    )
    found = bound(model, randn(1, 7), refine="seqlip")
    assert_allclose(found.upper, brute, rtol=1e-8)
    assert found.upper < bound(model, randn(1, 7)).upper


@pytest.mark.parametrize("widths", [(20, 30, 10), (20, 30, 25, 10), (20, 30, 25, 40, 3)])
def test_seqlip_of_wide_chains_is_the_averaged_bound_or_better(widths):
    model, weights = chain(*widths)
    x = randn(1, widths[0])
    found = bound(model, x, refine="seqlip").upper
    assert patterns(weights) <= found <= averaged(weights) * (1 + 1e-7)
    assert found < 0.9 * bound(model, x).upper
    if len(widths) == 3:
        w1, w2 = weights
        expected = (norm(w2 @ w1) + norm(w1) * norm(w2)) / 2
        assert_allclose(found, expected, rtol=1e-7)


@pytest.mark.parametrize("act", [nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.SiLU, nn.GELU, nn.Sigmoid])
def test_seqlip_with_other_activations(act):
    with_small = seeded(
        lambda: nn.Sequential(
            nn.Linear(8, 20), act(), nn.Linear(20, 9), act(), nn.Linear(9, 4), act()
        )
    )
    x = randn(1, 8)
    fused = bound(with_small, x).upper
    found = bound(with_small, x, refine="seqlip").upper
    assert steepest(with_small, (8,), 5000, 2.0) <= found <= fused


# -- what can't be bounded ------------------------------------------------------------------------


class Flow(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Attention(nn.Module):
    def forward(self, x):
        return (x @ x.mT).softmax(-1) @ x


REFUSED = {
    "layer norm": (nn.LayerNorm(6), "'native_layer_norm' .*with weight, bias.* own deviation"),
    "group norm": (nn.GroupNorm(2, 4), "'native_group_norm'.* own deviation"),
    "instance norm": (nn.InstanceNorm1d(4), "BatchNorm by the batch's statistics"),
    "batch statistics": (
        nn.Sequential(nn.Conv1d(4, 3, 1), nn.BatchNorm1d(3, track_running_stats=False)),
        "batch_norm' .*after 0.*: BatchNorm by the batch's statistics",
    ),
    "gate": (Lambda(lambda x: x * x.sigmoid()), "'mul' .*write x \\* sigmoid.* as silu"),
    "square": (Lambda(lambda x: x**2), "'pow'"),
    "exponential": (Lambda(torch.exp), "'exp' .*without a rule"),
    "step": (Lambda(lambda x: F.threshold(x, 0.0, 1.0)), "'threshold'"),
    "early softplus": (nn.Softplus(threshold=1), "'softplus'"),
    "attention": (Attention(), "a product of two functions of the input"),
    "dropout that stays on": (Lambda(lambda x: F.dropout(x, 0.5, True)), "random numbers|dropout"),
    "noise": (Lambda(lambda x: x * torch.rand_like(x)), "draws random numbers"),
    "bits": (Lambda(lambda x: x.view(torch.int64).double()), "no Lipschitz bound for"),
    "fused attention": (
        Lambda(lambda x: F.scaled_dot_product_attention(x, x, x)),
        "attention.*a product of two functions of the input",
    ),
    "division": (Lambda(lambda x: 1 / x), "'reciprocal'|'div'"),
    "rounding": (Lambda(lambda x: x.long().float() + x), "'_to_copy'"),
    "positions": (Lambda(lambda x: x.max(1).indices + x[:, 0]), "no Lipschitz bound for"),
    "control flow": (Flow(), "looks at the values of its input"),
    "python numbers": (Lambda(lambda x: x * float(x.sum())), "looks at the values of its input"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_bound_is_refused_by_name(name):
    model, message = REFUSED[name]
    with pytest.raises(UsageError, match=message):
        bound(model, randn(1, 4, 6))


def test_model_that_fails_is_refused():
    with pytest.raises(UsageError, match=r"can't be followed symbolically.*RuntimeError"):
        bound(nn.Linear(3, 2), randn(1, 6))


def test_refused_arguments():
    objective = ls.Objective(CONV.model(), CONV.data())
    for options, message in (
        ({"refine": "fuse"}, "unknown refinement 'fuse': did you mean 'fused'"),
        ({"tol": 0}, "tol is a share between 0 and 1, got 0"),
        ({"steps": 0}, "at least 1 Lanczos step, got 0"),
        ({"samples": 1}, "at least 2 samples, got 1"),
        ({"pairs": 0}, "pairs must be at least 1, got 0"),
    ):
        with pytest.raises(UsageError, match=message):
            ls.lipschitz(objective, **options)
    with pytest.raises(UsageError, match="the data have 1"):
        ls.lipschitz(ls.Objective(CONV.model(), CONV.data((1,))))
    tokens = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(6, 2))
    words = (torch.arange(8).view(4, 2), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(UsageError, match="whole numbers"):
        ls.lipschitz(ls.Objective(tokens, words))
    model = CASES["relu"].model()
    with torch.no_grad():
        model[0].weight.mul_(1e200)
        model[2].weight.mul_(1e200)
    with pytest.raises(NumericalError, match="squared norm of a layer is not finite"):
        ls.lipschitz(ls.Objective(model, CASES["relu"].data()))


# -- the diagnostic -------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [None, ls.attack("pgd-3", eps=0.1)])
def test_lower_bounds_against_a_slow_loop(attack):
    model = CONV.model()
    objective = ls.Objective(model, CONV.data(), attack=attack)
    found = ls.lipschitz(objective, samples=9, pairs=50, seed=2)
    assert len(found.sample) == len(set(found.sample.tolist())) == 9
    x = torch.cat([term.x for term in objective.terms()])[found.sample]
    net = CONV.model().eval().requires_grad_(False)
    for i, one in enumerate(x):
        j = torch.func.jacrev(lambda v: net(v[None])[0])(one).flatten(1)
        assert_allclose(found.jacobian[i], torch.linalg.matrix_norm(j, 2), rtol=1e-10)
    slopes = {
        float((net(a[None]) - net(b[None])).norm() / (a - b).norm())
        for a, b in itertools.permutations(x, 2)
    }
    known = np.array(sorted(slopes))
    nearest = np.abs(known[:, None] - found.ratio).min(0)
    assert nearest.max() < 1e-12
    assert len(set(np.round(found.ratio, 12))) > 20
    assert found.lower == max(found.jacobian.max(), found.ratio.max())
    value = objective.value()
    assert found.accuracy == value.accuracy
    assert_allclose(found.loss, value.loss)
    assert found.failure == 0
    assert found.trustworthy


@pytest.mark.parametrize("refine", ["product", "fused"])
def test_frozen_layers_are_layers_as_others(refine):
    case = CASES["conv, batchnorm, dropout"]
    free = ls.lipschitz(ls.Objective(case.model(), case.data()), refine=refine, samples=2, pairs=2)
    model = case.model()
    *frozen, _ = (m for m in model.modules() if next(m.parameters(recurse=False), None) is not None)
    for module in frozen:
        module.requires_grad_(False)
    found = ls.lipschitz(ls.Objective(model, case.data()), refine=refine, samples=2, pairs=2)
    assert found.layer.tolist() == free.layer.tolist()
    assert_allclose(found.slope_upper, free.slope_upper)
    assert_allclose(found.upper, free.upper)


def test_the_same_input_twice_has_no_slope():
    x = CONV.data()[0][0][:1].repeat(3, 1, 1, 1)
    found = ls.lipschitz(ls.Objective(CONV.model(), (x, torch.zeros(3).long())), pairs=10)
    assert np.isnan(found.ratio).all()
    assert found.lower == found.jacobian.max()


def test_reestimated_statistics_are_used():
    frozen_norm = ls.Objective(CONV.model(), CONV.data((8, 9)))
    fresh = ls.Objective(CONV.model(), CONV.data((8, 9)), batchnorm="reestimate")
    a, b = ls.lipschitz(frozen_norm), ls.lipschitz(fresh)
    assert not math.isclose(a.upper, b.upper, rel_tol=1e-3)
    assert b.lower <= b.upper


def test_regression_has_no_accuracy():
    case = CASES["regression"]
    found = ls.lipschitz(ls.Objective(case.model(), case.data(), "mse"), pairs=30)
    assert found.accuracy is None
    assert found.lower <= found.upper


def test_large_layers_go_by_lanczos_and_say_when_they_have_not_converged(tmp_path):
    convolution = nn.Conv2d(6, 6, 3, padding=1)
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(),
            convolution,
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(1176, 3),
        )
    )
    data = (randn(4, 1, 14, 14).sigmoid(), torch.zeros(4).long())
    exact = norm(model[5].weight.detach())
    for layer, shape in ((model[0], (1, 14, 14)), (convolution, (6, 14, 14))):
        eye = torch.eye(math.prod(shape), dtype=torch.float64)
        with torch.no_grad():
            rows = (layer(eye.view(-1, *shape)) - layer.bias.view(-1, 1, 1)).flatten(1)
            exact *= math.sqrt(float(torch.linalg.eigvalsh(rows.T @ rows)[-1]))
    full = ls.lipschitz(ls.Objective(model, data))
    assert full.certificate.tolist() == ["dense", "lanczos", "dense"]
    assert exact <= full.upper <= 1.006 * exact
    assert full.failure == norms.FAILURE
    assert full.trustworthy
    few = ls.lipschitz(ls.Objective(model, data), steps=6)
    assert exact <= few.upper
    assert few.converged.tolist() == [True, False, True]
    assert not few.trustworthy
    assert not ls.load(few.save(tmp_path / "few.h5")).trustworthy
    picture([full, few], ["full", "few"])


# -- command line ---------------------------------------------------------------------------------

STANDARD, PGD = (
    str(next(p for p in CHECKPOINTS if kind in p.stem)) for kind in ("standard", "pgd")
)
QUICK = ["--n-examples", "40", "--samples", "8", "--pairs", "30", "-q"]


def test_command(tmp_path, capsys):
    out = str(tmp_path / "a.h5")
    assert run(["lipschitz", STANDARD, PGD, *QUICK, "--out", out]) == 0
    text = capsys.readouterr().out
    assert "upper bound" in text
    assert "fc1" in text
    assert {p.suffix for p in tmp_path.iterdir()} == {".h5", ".png", ".pdf"}
    found = ls.load_all(out)
    assert all(r.lower <= r.upper for r in found.values())
    assert run(["plot", out, "--overwrite"]) == 0
    capsys.readouterr()
    options = ["--json", "--refine", "seqlip", "--attack", "fgsm", "--eps", "0.1"]
    assert run(["lipschitz", STANDARD, *QUICK, *options, "--out", str(tmp_path / "b.h5")]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["refine"] == "seqlip"
    assert body["upper"] < max(r.upper for r in found.values())
    assert body["provenance"]["objective"]["attack"]["eps"] == 0.1
    assert run(["lipschitz", STANDARD, *QUICK, "--out", out]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run(["lipschitz", STANDARD, *QUICK, "--tol", "2", "--overwrite", "--out", out]) == 2
    assert "tol is a share between 0 and 1, got 2" in capsys.readouterr().err


def test_exit_code_of_an_unconverged_norm(tmp_path, capsys, monkeypatch):
    by_lanczos = functools.partial(spectral_norm, dense=0)
    monkeypatch.setattr(composition, "spectral_norm", by_lanczos)
    out = ["--out", str(tmp_path / "a.h5"), "--lanczos-steps", "5"]
    assert run(["lipschitz", STANDARD, *QUICK, *out]) == 3
    assert "4 of 4 layers' norms have not converged" in capsys.readouterr().err


def test_dry_run_writes_nothing(tmp_path, capsys, monkeypatch):
    out = ["--out", str(tmp_path / "a.h5"), "--dry-run"]
    assert run(["lipschitz", STANDARD, *QUICK, *out]) == 0
    assert "up to 1 networks" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    by_lanczos = functools.partial(spectral_norm, dense=0)
    monkeypatch.setattr(composition, "spectral_norm", by_lanczos)
    assert run(["lipschitz", STANDARD, *QUICK, *out]) == 0
    assert "up to 150 products" in capsys.readouterr().out
