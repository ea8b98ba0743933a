"""Regularisers: identities, plain loops, costs, and that every one of them trains."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose
from test_training import CLASSES, batchnorm, counted, data, mlp, plan, same, trained
from torch import Tensor, nn

from landscape.attacks import Ball
from landscape.errors import UsageError
from landscape.random import Streams
from landscape.training import ADDITIONS, fit, method
from landscape.training.batch import Batch
from landscape.training.consistency import LogitConsistency
from landscape.training.distances import DISTANCES, js, top
from landscape.training.input_gradients import cosines, input_gradient
from landscape.training.outer_losses import Regulariser
from landscape.training.perturbations import Passes

REGULARISERS = [name for name, entry in ADDITIONS.items() if entry.field == "regularisers"]
EPS = {"eps": 0.1}


def term(
    part: Regulariser, model: nn.Module, x: Tensor, y: Tensor, perturb: Any = None, **fields: Any
) -> Tensor:
    """The value of a regulariser on one batch."""
    n = len(x)
    values = {"streams": Streams(0), "rows": torch.arange(n), "time": 0.0, "memory": {}, **fields}
    return part(Batch(model, x, y, perturb, population=n, **values))


def part(name: str, **options: Any) -> Regulariser:
    """The regulariser of an addition's name."""
    return method(f"standard+{name}", **{name: options}).regularisers[0]


# -- distances ------------------------------------------------------------------------------------


def slow_distances(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Table 3's distances by loops over samples and classes."""
    n, classes = a.shape
    p, q = (np.exp(v) / np.exp(v).sum(1, keepdims=True) for v in (b, a))
    found = dict.fromkeys(("l1", "l2", "kl", "js"), 0.0)
    gaps = []
    for i in range(n):
        for j in range(classes):
            gap = abs(a[i, j] - b[i, j])
            gaps.append(gap)
            middle = (p[i, j] + q[i, j]) / 2
            found["l1"] += gap / n
            found["l2"] += gap**2 / n
            found["kl"] += p[i, j] * math.log(p[i, j] / q[i, j]) / n
            found["js"] += 0.5 * p[i, j] * math.log(p[i, j] / middle) / n
            found["js"] += 0.5 * q[i, j] * math.log(q[i, j] / middle) / n
    found["nuclear"] = np.sqrt(np.linalg.eigvalsh((a - b) @ (a - b).T)).sum() / n
    found["top"] = sum(sorted(gaps)[-(n * classes // 10) :]) / n
    return found


def test_distances_agree_with_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (3 * torch.randn(7, 10, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = slow_distances(a.numpy(), b.numpy())
    assert set(expected) == set(DISTANCES)
    for name, distance in DISTANCES.items():
        assert_allclose(float(distance(a, b)), expected[name], rtol=1e-10, err_msg=name)
        assert abs(float(distance(a, a))) < 1e-14


def test_identities_of_distances() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    assert_allclose(float(top(a, b, 1.0)), float(DISTANCES["l1"](a, b)), rtol=1e-14)
    assert_allclose(float(js(a, b)), float(js(b, a)), rtol=1e-12)
    # Distributions without a common class: the largest JS there is.
    far = 1e4 * F.one_hot(torch.arange(4)).double()
    assert_allclose(float(js(far, far.roll(1, 0))), math.log(2), rtol=1e-12)
    # Shares are of B C: 3 of 10 numbers, 1 at least.
    gaps = torch.arange(1.0, 11.0).reshape(1, 10)
    assert float(top(gaps, torch.zeros(1, 10), 0.3)) == 27
    assert float(top(gaps, torch.zeros(1, 10), 0.01)) == 10


# -- identities -----------------------------------------------------------------------------------


class LinearLoss(nn.Module):
    """Logits whose cross-entropy with class 0 is ⟨w, x⟩ + b: linear in x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.1, 0.5, 24, dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        loss = x.flatten(1) @ self.weight + self.bias
        return torch.stack([-loss, torch.log(-torch.expm1(-loss))], 1)


def test_penalties_of_curvature_vanish_where_the_loss_is_linear() -> None:
    model, x = LinearLoss(), data()[0].double()
    y = torch.zeros(len(x), dtype=torch.int64)
    assert float(term(part("gradalign", eps=0.1), model, x, y).detach()) == pytest.approx(
        0, abs=1e-12
    )
    for unit in (True, False):
        curvature = part("cure", h=0.05, unit=unit)
        assert float(term(curvature, model, x, y).detach()) == pytest.approx(0, abs=1e-20)
    # All that is left of LLR is the slope along δ.
    linear = part("llr", eps=0.1, weight=3.0, slope=0.5, steps=2)
    batch = Batch(model, x, y, None, Streams(0), torch.arange(len(x)), 0.0, {})
    value = float(linear(batch).detach())
    slopes = batch.shared["llr.delta"].flatten(1) @ model.weight.detach()
    assert value == pytest.approx(1.5 * float(slopes.abs().mean()), rel=1e-9)
    assert float(batch.shared["llr.delta"].abs().max()) <= 0.1


def test_igr_of_logistic_regression() -> None:
    """‖∇ℓ‖² = ‖w‖² (1 − p_y)² for logits (0, ⟨w, x⟩)."""
    x, y = data()[0].double().flatten(1), data()[1] % 2
    w = torch.linspace(-1, 1, 24, dtype=torch.float64)
    model = nn.Linear(24, 2, bias=False).double()
    model.weight = nn.Parameter(torch.stack([torch.zeros_like(w), w]))
    p = torch.sigmoid((2 * y - 1) * (x @ w))
    expected = 0.7 * (w @ w) * (1 - p).pow(2).mean()
    found = term(part("igr", weight=0.7), model, x, y)
    torch.testing.assert_close(found.detach(), expected)
    # And its gradient with respect to w, by hand.
    (gradient,) = torch.autograd.grad(found, model.weight)
    moved = w.clone().requires_grad_()
    q = torch.sigmoid((2 * y - 1) * (x @ moved))
    (by_hand,) = torch.autograd.grad(0.7 * (moved @ moved) * (1 - q).pow(2).mean(), moved)
    # The penalty depends on the difference of the two rows alone.
    torch.testing.assert_close(gradient[1], -gradient[0])
    torch.testing.assert_close(gradient[1], by_hand)


def test_llr_finds_a_point_where_the_tangent_is_worse_than_at_its_start() -> None:
    model, (x, y) = mlp().double(), data()
    x = x.double()
    gaps = []
    for steps in (0, 2, 8):
        finder = part("llr", eps=0.2, steps=steps, alpha=0.1, slope=0.0, weight=1.0)
        gaps.append(float(term(finder, model, x, y).detach()))
    assert gaps[0] < gaps[1] <= gaps[2] * 1.001
    assert gaps[0] > 0


def test_advlc() -> None:
    base = trained(plan(method("pgd", eps=0.1, steps=2)))
    none = method("pgd+advlc", eps=0.1, steps=2, advlc={"weight": 0.0})
    same(trained(plan(none)), base, rtol=1e-6, atol=1e-7)
    # Nothing to penalise where x' = x.
    same(trained(plan(method("standard+advlc"))), trained(plan()))
    whole = method("pgd+advlc", eps=0.1, steps=2, advlc={"share": 1.0})
    l1 = method("pgd+advlc", eps=0.1, steps=2, advlc={"distance": "l1"})
    same(trained(plan(whole)), trained(plan(l1)), rtol=1e-5, atol=1e-6)
    assert not torch.equal(trained(plan(l1))[1].weight, base[1].weight)
    ramp = LogitConsistency(weight=0.15, ramp=10)
    assert [round(ramp.strength(t), 4) for t in (0.0, 0.9, 4.2, 9.5, 20)] == [
        0.015,
        0.015,
        0.075,
        0.15,
        0.15,
    ]


def test_equal_views_are_consistent() -> None:
    """No augmentation and no random start: both views are one image."""
    model = mlp()
    seen: list[Tensor] = []
    penalty = part("consistency")
    x, y = data()
    value = term(penalty, model, torch.cat([x, x]), y.repeat(2))
    assert float(value.detach()) == 0
    other = term(penalty, model, torch.cat([x, 1 - x]), y.repeat(2))
    assert 0 < float(other.detach()) < math.log(2)
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))

    def darken(x: Tensor, generator: torch.Generator) -> Tensor:
        return x * torch.rand(len(x), 1, 1, 1, generator=generator)

    fit(model, (x, y), plan("standard+consistency", epochs=1), augment=darken)
    # The first call looks at the outputs of two samples; then there are batches of 8, 8, 6.
    assert [len(batch) for batch in seen[1:]] == [16, 16, 12]
    first, second = seen[1].chunk(2)
    assert not torch.equal(first, second)
    ratio = second / first  # of the same images: one number per sample
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio))


def test_less_clean_without_alpha_is_the_method_itself() -> None:
    none = method("fgsm-r+less-clean", eps=0.1, **{"less-clean": {"alpha": 0.0}})
    base = method("fgsm-r", eps=0.1)
    same(trained(plan(none)), trained(plan(base)), rtol=1e-6, atol=1e-7)


def test_less_clean_on_clean_inputs_leaves_a_part_of_the_loss() -> None:
    model, (x, y) = mlp(), data()
    value = term(part("less-clean", alpha=0.25), model, x, y)
    torch.testing.assert_close(value, -0.25 * F.cross_entropy(model(x), y))


def test_the_clean_loss_is_taken_off_gradually() -> None:
    """A quarter, two, three and four quarters of α in the epochs of a ramp of 4."""
    model, (x, y) = mlp(), data()
    clean = float(F.cross_entropy(model(x), y).detach())
    ramp = part("less-clean", alpha=0.5, ramp=4)
    found = [float(term(ramp, model, x, y, time=t).detach()) for t in (0.0, 1.7, 2.0, 3.9, 9.0)]
    assert_allclose(found, [-0.5 * s * clean for s in (0.25, 0.5, 0.75, 1, 1)], rtol=1e-6)
    assert ramp.describe() == {"part": "less-clean", "alpha": 0.5, "ramp": 4}
    assert "ramp" not in part("less-clean").describe()  # digests of other runs stay


def test_cosines_of_tiny_gradients() -> None:
    a = torch.tensor([[3e-30, 4e-30], [1e30, 0.0]])
    b = torch.tensor([[4e-30, 3e-30], [1e30, 1e30]])
    torch.testing.assert_close(cosines(a, b), torch.tensor([0.96, math.sqrt(0.5)]))


def test_gradalign_leaves_out_zero_gradients() -> None:
    """A network whose first half of the images is too dark for its ReLU."""

    class Dark(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp().double()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(F.relu(x - 0.5) ** 2)

    x, y = data()[0].double(), data()[1]
    x[:11] *= 0.1
    model, aligned = Dark(), part("gradalign", eps=0.01)
    u = 0.01 * (2 * Streams(0).uniform("gradalign", tuple(x.shape)) - 1)
    a, _ = input_gradient(model, x, y, graph=False)
    b, _ = input_gradient(model, x + u, y, graph=False)
    assert not a[:11].any()
    cos = F.cosine_similarity(a[11:].flatten(1), b[11:].flatten(1))
    value = float(term(aligned, model, x, y).detach())
    assert value == pytest.approx(0.2 * (1 - float(cos.mean())), rel=1e-9)
    # And if all are zero there is nothing to align, but a graph.
    none = term(aligned, model, 0.1 * x, y)
    assert float(none.detach()) == 0
    none.backward()


# -- slow, obvious references ---------------------------------------------------------------------


def gradient_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """∇_x CE(f(x), y) of one sample, differentiable."""
    x = x.detach().requires_grad_()
    loss = F.cross_entropy(model(x[None]), y[None])
    return torch.autograd.grad(loss, x, create_graph=True)[0]


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x[None]), y[None])


def slow_igr(model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
    squares = [gradient_of(model, a, b).pow(2).sum() for a, b in zip(x, y, strict=True)]
    return 0.5 * sum(squares) / len(x)


def slow_cure(model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
    total = 0
    for a, b in zip(x, y, strict=True):
        g = gradient_of(model, a, b)
        z = g.detach().sign() / g.detach().sign().norm()
        total = total + (gradient_of(model, a + 0.3 * z, b) - g).pow(2).sum()
    return 2.0 * total / len(x)


def slow_gradalign(model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
    u = 0.1 * (2 * streams.uniform("gradalign", tuple(x.shape)) - 1)
    total = 0
    for a, b, v in zip(x, y, u, strict=True):
        g, h = gradient_of(model, a, b).detach().flatten(), gradient_of(model, a + v, b).flatten()
        total = total + 1 - (g @ h) / (g.norm() * h.norm())
    return 0.4 * total / len(x)


def slow_llr(model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
    starts = Ball("linf", 0.1).sample(x, streams.child("llr"))
    total = 0
    for a, b, start in zip(x, y, starts, strict=True):
        g, here = gradient_of(model, a, b).detach(), loss_of(model, a, b).detach()
        delta = (a + start).clamp(0, 1) - a
        for _ in range(3):
            delta = delta.detach().requires_grad_()
            gap = (loss_of(model, a + delta, b) - here - (delta * g).sum()).abs()
            (step,) = torch.autograd.grad(gap, delta)
            delta = (delta.detach() + 0.05 * step.sign()).clamp(-0.1, 0.1)
            delta = (a + delta).clamp(0, 1) - a
        slope = (delta * gradient_of(model, a, b)).sum()
        gap = (loss_of(model, a + delta, b) - loss_of(model, a, b) - slope).abs()
        total = total + gap + 0.3 * slope.abs()
    return 2.0 * total / len(x)


SLOW = {
    "igr": (slow_igr, {"weight": 0.5}),
    "cure": (slow_cure, {"weight": 2.0, "h": 0.3}),
    "gradalign": (slow_gradalign, {"weight": 0.4, "eps": 0.1}),
    "llr": (slow_llr, {"eps": 0.1, "alpha": 0.05, "steps": 3}),
}
UPDATES = 20


def ordered(x: Tensor, y: Tensor, epoch: int) -> tuple[Tensor, Tensor, Streams]:
    """The whole data as one batch in the order of an epoch, and its random numbers."""
    streams = Streams(0, "train", epoch)
    order = torch.randperm(len(x), generator=streams.generator("shuffle"))
    return x[order], y[order], streams


def descend(model: nn.Module, objective: Any, x: Tensor, y: Tensor) -> None:
    """SGD on the whole data with momentum and weight decay, by hand."""
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for epoch in range(UPDATES):
        loss = objective(model, *ordered(x, y, epoch))
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, g, v in zip(model.parameters(), gradients, velocity, strict=True):
                v.mul_(0.9).add_(g + 1e-3 * p)
                p.sub_(0.1 * v)


@pytest.mark.parametrize("name", SLOW)
def test_20_updates_agree_with_loops_over_samples(name: str) -> None:
    slow, options = SLOW[name]
    x, y = data(9)
    x = x.double()
    fast, other = mlp().double(), mlp().double()
    p = plan(method(f"standard+{name}", **{name: options}), epochs=UPDATES, batch_size=len(x))
    fit(fast, (x, y), p)
    descend(other, lambda m, x, y, streams: F.cross_entropy(m(x), y) + slow(m, x, y, streams), x, y)
    same(fast, other, rtol=1e-6, atol=1e-8)
    without = trained(replace(p, method=method("standard")), lambda: mlp().double())
    assert float((without[1].weight - fast[1].weight).detach().abs().max()) > 1e-3


def steps(model: nn.Module, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
    """Two steps of .05 in a ball of .1 around x, all by hand."""
    adv = (x + start).clamp(0, 1)
    for _ in range(2):
        adv = adv.detach().requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(model(adv), y), adv)
        adv = adv.detach() + 0.05 * g.sign()
        adv = torch.min(torch.max(adv, x - 0.1), x + 0.1).clamp(0, 1)
    return adv.detach()


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum(1).mean()


def slow_logitalign(model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
    stream = streams.child("attack").child("restart", 0)
    adv = steps(model, x, y, Ball("linf", 0.1).sample(x, stream))
    u = 0.2 * (2 * streams.uniform("logitalign", tuple(x.shape)) - 1)
    noisy = (x + u).clamp(0, 1)
    other = steps(model, noisy, y, Ball("linf", 0.1).sample(x, stream))
    p, q = model(other).softmax(1), model(adv).softmax(1)
    return F.cross_entropy(model(adv), y) + 5 * kl_divergence(p, q)


def slow_advlc(model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
    stream = streams.child("attack").child("restart", 0)
    adv = steps(model, x, y, Ball("linf", 0.1).sample(x, stream))
    gaps = (model(adv) - model(x)).abs().flatten().sort().values
    return F.cross_entropy(model(adv), y) + 0.4 * gaps[-(len(gaps) // 10) :].sum() / len(x)


def slow_consistency(model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
    stream = streams.child("attack").child("restart", 0)
    x, y = torch.cat([x, x]), torch.cat([y, y])  # without an augmentation
    adv = steps(model, x, y, Ball("linf", 0.1).sample(x, stream))
    p, q = (model(adv) / 0.5).softmax(1).chunk(2)
    middle = (p + q) / 2
    both = kl_divergence(p, middle) + kl_divergence(q, middle)
    return F.cross_entropy(model(adv), y) + 3 * both / 2


def slow_less_clean(model: nn.Module, x: Tensor, y: Tensor, streams: Streams) -> Tensor:
    stream = streams.child("attack").child("restart", 0)
    adv = steps(model, x, y, Ball("linf", 0.1).sample(x, stream))
    return F.cross_entropy(model(adv), y) - 0.3 * F.cross_entropy(model(x), y)


SLOW_WITH_PGD = {
    "logitalign": (slow_logitalign, {"weight": 5.0}),
    "advlc": (slow_advlc, {}),
    "consistency": (slow_consistency, {"weight": 3.0}),
    "less-clean": (slow_less_clean, {"alpha": 0.3}),
}


@pytest.mark.parametrize("name", SLOW_WITH_PGD)
def test_20_updates_under_attack_agree_with_a_plain_loop(name: str) -> None:
    slow, options = SLOW_WITH_PGD[name]
    x, y = data(12)
    x = x.double()
    fast, other = mlp().double(), mlp().double()
    m = method(f"pgd+{name}", eps=0.1, steps=2, alpha=0.05, **{name: options})
    fit(fast, (x, y), plan(m, epochs=UPDATES, batch_size=len(x)))
    descend(other, slow, x, y)
    same(fast, other, rtol=1e-6, atol=1e-8)


def test_every_regulariser_has_a_slow_reference() -> None:
    assert set(REGULARISERS) <= {*SLOW, *SLOW_WITH_PGD}


# -- costs ----------------------------------------------------------------------------------------

PGD = {"eps": 0.1, "steps": 3}  # 4 + 4
COSTS = {
    "pgd+advlc": (PGD, Passes(5, 5)),
    "trades+advlc": (PGD, Passes(6, 5)),  # f(x) is there already
    "standard+advlc": ({}, Passes(1, 1)),
    "pgd+igr": (PGD, Passes(5, 6)),
    "pgd+less-clean": (PGD, Passes(5, 5)),
    "pgd+advlc+less-clean": (PGD, Passes(5, 5)),
    "pgd+gradalign": (PGD, Passes(6, 7)),
    "pgd+cure": (PGD, Passes(6, 8)),
    "pgd+llr": ({**PGD, "llr": {"steps": 5}}, Passes(12, 13)),
    "pgd+logitalign": (PGD, Passes(8, 8)),
    "pgd+consistency": (PGD, Passes(4, 4)),
    # The search and the second attack are made once, all else twice.
    "pgd+awp+logitalign": (PGD, Passes(10, 10)),
    "pgd+awp+llr": ({**PGD, "llr": {"steps": 5}}, Passes(15, 17)),
    "pgd+awp+gradalign": (PGD, Passes(9, 11)),
}


@pytest.mark.parametrize("name", COSTS)
def test_an_update_costs_the_stated_passes(name: str) -> None:
    options, expected = COSTS[name]
    m = method(name, **options)
    assert m.passes == expected
    assert counted(m) == expected


def test_every_regulariser_has_a_cost_case_and_states_it() -> None:
    stated = {name: ADDITIONS[name].cost for name in REGULARISERS}
    assert {f"pgd+{name}" for name in stated} <= set(COSTS)
    assert stated.pop("consistency") == "everything on two views"
    assert stated.pop("logitalign") == "+ 1 + 1, the perturbation twice"
    for name, cost in stated.items():  # as "+ K+3 + K+4", K = 5 steps
        forward, backward = (
            sum(5 if term == "K" else int(term) for term in side.split("+"))
            for side in cost.removeprefix("+ ").split(" + ")
        )
        assert Passes(4, 4) + Passes(forward, backward) == COSTS[f"pgd+{name}"][1]
    undetached = method("pgd+gradalign", **PGD, gradalign={"detach": False})
    assert undetached.passes == counted(undetached) == Passes(6, 8)


def test_weight_perturbation_sees_the_same_neighbours() -> None:
    """Else AWP would go up one function and down another."""
    x, y = data()
    for name in ("gradalign", "llr", "logitalign"):
        m = method(f"pgd+{name}", **PGD)
        model = mlp().double()
        n = len(x)
        batch = Batch(
            model, x.double(), y, m.perturbation, Streams(0), torch.arange(n), 0.0, {}, population=n
        )
        first = m.loss(batch)
        assert torch.equal(m.loss(batch.again()), first)


# -- training -------------------------------------------------------------------------------------


def odd() -> nn.Module:
    """BatchNorm, Dropout, a frozen and a tied parameter."""
    model = batchnorm()
    model[1].weight.requires_grad_(False)
    layers = [nn.Linear(CLASSES, CLASSES, bias=False) for _ in range(2)]
    layers[1].weight = layers[0].weight
    nn.init.eye_(layers[0].weight)
    return model.extend([nn.Tanh(), *layers])


# Strengths for these small networks; the papers' are for CIFAR-10.
MILD = {"igr": {"weight": 0.1}, "logitalign": {"weight": 1.0}}


@pytest.mark.parametrize("name", REGULARISERS)
def test_networks_with_batchnorm_dropout_frozen_and_tied_parameters(name: str) -> None:
    m = method(f"pgd+{name}", **PGD, **{name: MILD.get(name, {})})
    model, before = odd(), odd()
    p = plan(m, epochs=3)
    whole = fit(model, data(), p)
    assert all(math.isfinite(v) for v in whole.columns["train_loss"])
    assert torch.equal(model[1].weight, before[1].weight)
    assert model[7].weight is model[8].weight
    assert not torch.equal(model[0].weight, before[0].weight)
    # Continued from half-way it is the same, bit for bit.
    half, again = odd(), odd()
    state = fit(half, data(), replace(p, epochs=2))
    fit(again, data(), p, state=state)
    same(again, model)


@pytest.mark.parametrize("name", REGULARISERS)
def test_every_regulariser_leaves_the_network_able_to_learn(name: str) -> None:
    m = method(f"pgd+{name}", eps=0.05, steps=1, **{name: MILD.get(name, {})})
    state = fit(mlp(), data(66), plan(m, epochs=15), validation=data(30, seed=1))
    assert state.columns["val_accuracy"][-1] > 0.9


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("igr", {"weight": 0.3}),
        ("cure", {"weight": 3.0, "h": 0.3}),
        ("cure", {"weight": 30.0, "h": 0.05, "unit": False, "squared": False}),
        ("gradalign", {"weight": 3.0, "eps": 0.2}),
        ("llr", {"weight": 3.0, "eps": 0.1}),
        ("logitalign", {"weight": 30.0, "eps": 0.1}),
        *(("advlc", {"distance": distance, "weight": 10.0}) for distance in DISTANCES),
    ],
)
def test_what_is_penalised_gets_smaller(name: str, options: dict[str, Any]) -> None:
    x, y = data(66)
    base = "standard" if name not in ("logitalign", "advlc") else "pgd"
    attack = {} if base == "standard" else {"eps": 0.1, "steps": 1}
    values = []
    for weight in (0.0, options["weight"]):
        m = method(f"{base}+{name}", **attack, **{name: {**options, "weight": weight}})
        model = mlp()
        fit(model, (x, y), plan(m, epochs=15))
        one = replace(m.regularisers[0], weight=1.0)
        values.append(float(term(one, model, x, y, m.perturbation).detach()))
    assert values[1] < 0.9 * values[0], values


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pgd+advlc", {"advlc": {"distance": "l3"}}, "unknown distance 'l3'"),
        ("pgd+advlc", {"advlc": {"share": 0.0}}, r"share must lie in \(0, 1\]"),
        ("pgd+igr", {"igr": {"weight": -1.0}}, "weight must be a finite number of at least 0"),
        ("pgd+cure", {"cure": {"h": math.nan}}, "h must be a finite number of at least 0"),
        ("pgd+less-clean", {"less-clean": {"alpha": 1.5}}, r"alpha must lie in \[0, 1\]"),
        ("pgd+llr", {"llr": {"steps": 1.5}}, "steps must be a whole number"),
        ("pgd+llr", {"llr": {"attack_mode": "evil"}}, "unknown attack mode 'evil'"),
        ("pgd+consistency", {"consistency": {"temperature": 0.0}}, "temperature must be"),
        ("pgd+igr", {"igr": {"eps": 0.1}}, "addition 'igr' takes no option 'eps'"),
        ("standard+gradalign", {}, "addition 'gradalign' needs eps"),
        ("atta+consistency", {}, "can't be combined with 'cached attack'"),
        ("atta+logitalign", {}, "one memory per sample"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    given = {} if name.startswith("standard") else EPS
    with pytest.raises(UsageError, match=message):
        method(name, **given, **options)


def test_a_ramp_beyond_the_run_is_refused() -> None:
    with pytest.raises(UsageError, match="rises over 5 epochs, the run has 2"):
        plan(method("pgd+advlc", **EPS, advlc={"ramp": 5}))
    with pytest.raises(UsageError, match="less-clean rises over 5 epochs, the run has 2"):
        plan(method("pgd+less-clean", **EPS, **{"less-clean": {"ramp": 5}}))


def test_additions_take_the_ball_of_the_attack() -> None:
    m = method("pgd+llr+gradalign", eps=0.3, norm="l2", gradalign={"eps": 0.1})
    llr, gradalign = m.to_dict()["regularisers"]
    assert (llr["eps"], llr["norm"], gradalign["eps"]) == (0.3, "l2", 0.1)
