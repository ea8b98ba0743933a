"""Attacks against closed forms, slow references and the authors' code; ensembles of networks.

What every row of the table must do is in test_contract.py.
"""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CASES
from hypothesis import given, settings
from hypothesis import strategies as st
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from torch import nn
from torch.testing import assert_close

import landscape as ls
from landscape import checkpoints, data
from landscape.attacks import ATTACKS, NORMS, Attack, Ball
from landscape.attacks.apgd import checkpoints as revisions
from landscape.attacks.objectives import dlr, dlr_to, margin, margin_to, ranked
from landscape.cli import run as command
from landscape.errors import UsageError
from landscape.models import Ensemble, ModelSpec
from landscape.random import Streams
from landscape.training.network import frozen

ATTACK = pytest.mark.parametrize("name", ATTACKS)
NORM = pytest.mark.parametrize("norm", NORMS)


def few(name, eps=0.1, **fields):
    return ls.attack(name, eps=eps, **{"steps": None if ATTACKS[name].single else 4, **fields})


def product(x, w):
    """x @ w without a matrix product, whose rounding depends on the number of rows."""
    return (x[:, :, None] * w).sum(1)


def random_net(seed, hidden=8, classes=5, inputs=6):
    """A linear map, or a network with one hidden layer, of random scale; float64."""
    g = torch.Generator().manual_seed(seed)
    first = torch.randn(inputs, hidden, generator=g, dtype=torch.float64)
    second = torch.randn(hidden, classes, generator=g, dtype=torch.float64)
    scale = 10 ** torch.empty(()).uniform_(-1, 1, generator=g)
    if seed % 3 == 0:
        return lambda x: scale * product(x.flatten(1), first @ second)
    act = torch.tanh if seed % 3 == 1 else torch.relu
    return lambda x: product(act(scale * product(x.flatten(1), first)), second)


def samples(n, seed=0, shape=(6,), classes=5, low=0.0, high=1.0):
    g = torch.Generator().manual_seed(seed)
    x = low + (high - low) * torch.rand(n, *shape, generator=g, dtype=torch.float64)
    return x, torch.randint(classes, (n,), generator=g)


def bundled(name):
    found = checkpoints.load(checkpoints.bundled()[name])
    model = found.into(ModelSpec.from_dict(found.model).build(seed=0))
    return model.eval().requires_grad_(False)


# -- objectives -----------------------------------------------------------------------------------


def test_objectives_against_sorting_by_hand():
    g = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 6, generator=g, dtype=torch.float64)
    y = torch.randint(6, (50,), generator=g)
    target = (y + 1 + torch.randint(5, (50,), generator=g)) % 6
    expected = {f: [] for f in (margin, dlr, margin_to, dlr_to)}
    for z, i, t in zip(logits.tolist(), y.tolist(), target.tolist(), strict=True):
        down = sorted(z, reverse=True)
        other = max(v for j, v in enumerate(z) if j != i)
        expected[margin].append(other - z[i])
        expected[dlr].append((other - z[i]) / (down[0] - down[2]))
        expected[margin_to].append(z[t] - max(v for j, v in enumerate(z) if j != t))
        expected[dlr_to].append((z[t] - z[i]) / (down[0] - (down[2] + down[3]) / 2))
    for f in (margin, dlr):
        assert_close(f(logits, y, None), torch.tensor(expected[f], dtype=torch.float64))
    for f in (margin_to, dlr_to):
        assert_close(f(logits, y, target), torch.tensor(expected[f], dtype=torch.float64))
    assert_close(dlr(7 * logits + 3, y), dlr(logits, y))
    for rank in (1, 2, 5, -1, -5):
        for z, i, found in zip(logits.tolist(), y, ranked(logits, y, rank), strict=True):
            order = sorted((j for j in range(6) if j != i), key=lambda j: -z[j])
            assert found == order[rank - 1 if rank > 0 else rank]


def test_difference_of_logits_ratio_with_equal_logits_is_finite():
    z = torch.zeros(3, 4, requires_grad=True)
    for values in (
        dlr(z, torch.tensor([0, 1, 2])),
        dlr_to(z, torch.arange(3), torch.full((3,), 3)),
    ):
        assert_close(values, torch.zeros(3))
        (gradient,) = torch.autograd.grad(values.sum(), z)
        assert bool(gradient.isfinite().all())


# -- closed forms ---------------------------------------------------------------------------------


@NORM
@pytest.mark.parametrize("name", ["fgsm", "mi-fgsm-7", "pgd-100", "apgd-ce-100"])
def test_logistic_regression_is_attacked_optimally(name, norm):
    """max ℓ = log(1 + exp(−y w·x + ε‖w‖_q)) while the box isn't active."""
    x, y = samples(40, classes=2, low=0.3, high=0.7)
    w = Streams(1).normal("w", (6,))
    attack = ls.attack(name, eps=0.2, norm=norm, objective="cross-entropy")

    def logits(v):
        return torch.stack([torch.zeros(len(v), dtype=v.dtype), v @ w - 0.3], 1)

    found = attack.perturb(logits, x, y, streams=Streams(0))
    signed = (2 * y - 1) * (x @ w - 0.3)
    dual = w.abs().sum() if norm == "linf" else (w**2).sum().sqrt()
    best = F.softplus(-signed + 0.2 * dual)
    assert_close(F.cross_entropy(logits(found), y, reduction="none"), best, rtol=0, atol=1e-6)
    delta = -(2 * y - 1)[:, None] * 0.2 * (w.sign() if norm == "linf" else w / dual)
    assert_close(found, x + delta, rtol=0, atol=1e-6)


@NORM
def test_linear_classifiers_fall_exactly_where_they_can(norm):
    """A linear classifier errs inside the ball if z_j − z_y + ε‖w_j − w_y‖_q > 0 for some j."""
    x, _ = samples(300, low=0.35, high=0.65)
    w = Streams(2).normal("w", (6, 5))
    clean = x @ w
    y = clean.argmax(1)
    y[:20] = (y[:20] + 1) % 5  # misclassified without any attack
    eps = 0.08 if norm == "linf" else 0.16
    dual = torch.linalg.vector_norm(w[:, :, None] - w[:, None, :], 1 if norm == "linf" else 2, 0)
    gain = clean - clean.gather(1, y[:, None]) + eps * dual[y]
    room = gain.scatter(1, y[:, None], -math.inf).amax(1)
    clear = room.abs() > 0.02
    assert 60 < int((room > 0).sum()) < 240
    for name in ("apgd-ce-30", "apgd-dlr-30", "apgd-t-30", "pgd-30x2"):
        attack = ls.attack(name, eps=eps, norm=norm, keep="success")
        found = attack.perturb(lambda v: v @ w, x, y, streams=Streams(0))
        fooled = (found @ w).argmax(1) != y
        assert not bool((fooled & (room < 0)).any())
        if name.startswith("apgd-t"):
            assert torch.equal(fooled[clear], room[clear] > 0)


# -- slow references ------------------------------------------------------------------------------


def auto_pgd_reference(value_and_gradient, x, start, eps, norm, steps):
    """Algorithm 1 of Croce & Hein 2020 for one sample, in numpy: the best point and its value."""

    def project(z):
        delta = z - x
        if norm == "linf":
            delta = np.clip(delta, -eps, eps)
        elif np.linalg.norm(delta) > eps:
            delta = delta * eps / np.linalg.norm(delta)
        return np.clip(x + delta, 0, 1)

    def direction(g):
        return np.sign(g) if norm == "linf" else g / np.linalg.norm(g)

    p = [0.0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    w = sorted({math.ceil(round(v * steps, 9)) for v in p[1:]})
    eta, last = 2 * eps, 0
    f0, g0 = value_and_gradient(start)
    points = [start, project(start + eta * direction(g0))]
    values = [f0]
    best, f_max = start, f0
    f_checked, eta_checked = f0, eta
    rises = 0
    for k in range(1, steps + 1):
        f, g = value_and_gradient(points[k])
        rises += f > values[-1]
        values.append(f)
        if f > f_max:
            best, f_max = points[k], f
        if k == steps:
            break
        if k in w:
            few_rises = rises < 0.75 * (k - last)
            stuck = eta_checked == eta and f_checked == f_max
            eta_checked, f_checked = eta, f_max
            if few_rises or stuck:
                eta /= 2
                points[k], values[k] = best, f_max
                g = value_and_gradient(best)[1]
            last, rises = k, 0
        z = project(points[k] + eta * direction(g))
        ahead = points[k] + 0.75 * (z - points[k]) + 0.25 * (points[k] - points[k - 1])
        points.append(project(ahead))
    return best, f_max


@NORM
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_auto_pgd_is_its_algorithm(norm, steps):
    x, y = samples(12, seed=3)
    x[:4] = x[:4].round()  # in the corners of the box
    net = random_net(1)
    eps = 0.3
    attack = ls.attack(f"apgd-ce-{steps}", eps=eps, norm=norm, keep="objective")
    found = attack.perturb(net, x, y, streams=Streams(4))
    first = dataclasses.replace(attack, steps=0).perturb(net, x, y, streams=Streams(4))
    for i in range(len(x)):

        def value_and_gradient(v, i=i):
            leaf = torch.tensor(v)[None].requires_grad_()
            loss = F.cross_entropy(net(leaf), y[i : i + 1])
            return float(loss.detach()), torch.autograd.grad(loss, leaf)[0][0].numpy()

        best, value = auto_pgd_reference(
            value_and_gradient, x[i].numpy(), first[i].numpy(), eps, norm, steps
        )
        np.testing.assert_allclose(found[i], best, rtol=0, atol=1e-6)
        assert value == pytest.approx(float(F.cross_entropy(net(found[i : i + 1]), y[i : i + 1])))


def test_step_lengths_are_revised_where_the_paper_says():
    assert revisions(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert revisions(10) == [3, 5, 6, 7, 8, 9, 10]
    assert revisions(0) == [0]


@NORM
def test_momentum_sums_gradients_of_unit_l1_norm(norm):
    x, y = samples(5, seed=1)
    net = random_net(2)
    attack = ls.attack("mi-fgsm-6", eps=0.2, norm=norm, decay=0.7)
    found = attack.perturb(net, x, y, streams=Streams(0))
    for i in range(5):
        point, g = x[i : i + 1], torch.zeros(1, 6, dtype=torch.float64)
        for _ in range(6):
            leaf = point.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(net(leaf), y[i : i + 1]), leaf)
            g = 0.7 * g + gradient / gradient.abs().sum()
            step = g.sign() if norm == "linf" else g / g.norm()
            delta = point + 0.2 / 6 * step - x[i : i + 1]
            if norm == "linf":
                delta = delta.clamp(-0.2, 0.2)
            else:
                delta = delta * min(1.0, 0.2 / float(delta.norm()))
            point = (x[i : i + 1] + delta).clamp(0, 1)
        assert_close(found[i : i + 1], point, rtol=0, atol=1e-12)
    plain = ls.attack("mi-fgsm-6", eps=0.2, norm=norm, decay=0.0)
    pgd = ls.attack("pgd-6", eps=0.2, norm=norm, start="zero", step_size=0.2 / 6)
    assert torch.equal(*(a.perturb(net, x, y, streams=Streams(0)) for a in (plain, pgd)))


@NORM
def test_n_fgsm_steps_from_noise_without_projection(norm):
    x, y = samples(200, seed=2, low=0.45, high=0.55)
    net = random_net(1)
    attack = ls.attack("n-fgsm", eps=0.1, norm=norm)
    noisy = dataclasses.replace(attack, steps=0).perturb(net, x, y, streams=Streams(0))
    ball = Ball(norm, 0.2)
    assert float(ball.distance(noisy - x).max()) <= 0.2
    assert float(ball.distance(noisy - x).max()) > 0.15
    leaf = noisy.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(net(leaf), y), leaf)
    step = g.sign() if norm == "linf" else g / g.norm(dim=1, keepdim=True)
    found = attack.perturb(net, x, y, streams=Streams(0))
    assert_close(found, (noisy + 0.1 * step).clamp(0, 1), rtol=0, atol=1e-12)
    assert 0.2 < float(ball.distance(found - x).max()) <= attack.reach
    assert attack.reach == pytest.approx(0.3)


# -- the authors' code ----------------------------------------------------------------------------


def robust_by_the_authors(model, attack, x, y):
    """Which samples their implementation leaves correct, from the starts that ours draws."""
    kind = APGDAttack_targeted if attack.targets else APGDAttack
    loss = {} if attack.targets else {"loss": {"cross-entropy": "ce"}.get(attack.objective, "dlr")}
    norm = {"linf": "Linf", "l2": "L2"}[attack.ball.norm]
    theirs = kind(model, n_iter=attack.steps, norm=norm, eps=attack.ball.radius, **loss)
    theirs.init_hyperparam(x)
    output = model(x)
    robust = output.argmax(1) == y
    for rank in attack.targets or (None,):
        path = ("restart", 0) if rank is None else ("target", rank, "restart", 0)
        start = (x + attack.ball.sample(x, Streams(0).child(*path))).clamp(0, 1)
        left = robust.nonzero().squeeze(1)
        if rank is not None:
            theirs.y_target = output[left].sort(dim=1).indices[:, -1 - rank]
        _, robust[left], _, _ = theirs.attack_single_run(x[left], y[left], x_init=start[left])
    return robust


@pytest.mark.parametrize("name", ["apgd-ce-20", "apgd-dlr-20", "apgd-t-5"])
@pytest.mark.parametrize(
    ("network", "norm", "eps"),
    [("digits-standard-seed0", "linf", 0.1), ("digits-pgd-seed0", "l2", 0.6)],
)
def test_auto_pgd_agrees_with_the_authors(name, network, norm, eps):
    model = bundled(network)
    parts = [data.load("digits", split).tensors() for split in ("train", "val", "test")]
    x, y = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    attack = ls.attack(name, eps=eps, norm=norm, early_stop=True)
    found = attack.perturb(model, x, y, streams=Streams(0))
    robust = (model(found).argmax(1) == y).double().mean()
    expected = robust_by_the_authors(model, attack, x, y).double().mean()
    assert 0.2 < float(expected) < 0.9
    assert abs(float(robust - expected)) <= 0.005


# -- invariants over many cases -------------------------------------------------------------------

CASES_EACH, EXAMPLES = 45, 15


def test_the_invariants_are_checked_on_ten_thousand_cases():
    assert len(ATTACKS) * len(NORMS) * CASES_EACH * EXAMPLES >= 10_000


@ATTACK
@NORM
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 2**31), eps=st.floats(1e-3, 1.0), corners=st.booleans())
def test_invariants(name, norm, seed, eps, corners):
    x, y = samples(CASES_EACH, seed, shape=(2, 3))
    x = x.round() if corners else x
    net = random_net(seed)
    attack = few(name, eps, norm=norm)
    ball = attack.ball

    def run(attack, size=CASES_EACH):
        streams, pieces = Streams(seed), zip(x.split(size), y.split(size), strict=True)
        return torch.cat([attack.perturb(net, a, b, streams=streams) for a, b in pieces])

    def score(attack, points):
        """What the attack maximises, misclassified points first if it keeps those."""
        logits = net(points)
        values = dlr(logits, y) if attack.objective == "dlr" else None
        if values is None:
            values = F.cross_entropy(logits, y, reduction="none")
        return (logits.argmax(1) != y).double() * 1e6 * (attack.keep == "success") + values

    found = run(attack)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert float(ball.distance(found - x).max()) <= attack.reach * (1 + 1e-9)
    pieces = run(attack, 7)
    if attack.objective == "dlr":
        # Where y has the third largest logit the ratio is 1 and its gradient is rounding noise.
        assert torch.equal(net(pieces).argmax(1) == y, net(found).argmax(1) == y)
    else:
        assert_close(pieces, found, rtol=0, atol=1e-6)
    if name == "apgd-t":  # whose objectives are those of several targets
        attack = dataclasses.replace(attack, targets=())
        found = run(attack)
    if attack.step_rule == "auto":
        start = run(dataclasses.replace(attack, steps=0))
        assert bool((score(attack, found) >= score(attack, start) - 1e-9).all())
    kept = [
        run(dataclasses.replace(attack, keep="success", restarts=restarts)) for restarts in (1, 2)
    ]
    one, two = (score(dataclasses.replace(attack, keep="success"), points) for points in kept)
    assert bool((two >= one - 1e-9).all())
    # Stopping early changes what the successes are, not where there are any.
    stopped = run(dataclasses.replace(attack, keep="success", restarts=2, early_stop=True))
    assert torch.equal(net(stopped).argmax(1) == y, net(kept[1]).argmax(1) == y)


# -- what is kept ---------------------------------------------------------------------------------


def test_a_misclassified_point_is_kept_over_a_correct_one_of_higher_loss():
    wrong, unsure = torch.tensor([0.45, 0.5, 0.05]).log(), torch.tensor([0.34, 0.33, 0.33]).log()

    def net(x):
        return torch.where(x[:, :1] < 0.5, unsure, wrong) + 0 * x

    x, y = torch.full((6, 1), 0.5), torch.zeros(6, dtype=torch.long)
    attack = ls.attack("pgd-0x30", eps=0.1, objective="cross-entropy")
    by_loss = attack.perturb(net, x, y, streams=Streams(0))
    assert bool((by_loss < 0.5).all())
    attack = ls.attack("pgd-0x30", eps=0.1, objective="cross-entropy", keep="success")
    by_success = attack.perturb(net, x, y, streams=Streams(0))
    assert bool((by_success >= 0.5).all())


@ATTACK
def test_early_stopping_saves_passes(name):
    x, y = samples(60, seed=5)
    net, seen = random_net(3), []

    def counted(v):
        seen.append(len(v))
        return net(v)

    def cost(**fields):
        seen.clear()
        attack = few(name, 0.2, restarts=2, keep="success", **fields)
        return attack, attack.perturb(counted, x, y, streams=Streams(0))

    attack, slow = cost()
    everything = sum(seen)
    assert everything == 60 * (attack.passes[0] if name != "apgd-t" else 1 + 2 * 4 * 5)
    _, fast = cost(early_stop=True)
    right = int((net(x).argmax(1) == y).sum())
    assert seen[0] == 60
    assert sum(seen[1:]) <= right / 60 * everything
    assert max(seen[1:]) <= right
    assert torch.equal(net(slow).argmax(1) == y, net(fast).argmax(1) == y)
    assert torch.equal(fast[net(x).argmax(1) != y], x[net(x).argmax(1) != y])
    # Nothing is left to attack where every sample is misclassified.
    seen.clear()
    wrong = (net(x).argmax(1) + 1) % 5
    alone = few(name, 0.2, keep="success", early_stop=True)
    assert torch.equal(alone.perturb(counted, x, wrong, streams=Streams(0)), x)
    assert seen == [60]


@ATTACK
@pytest.mark.parametrize("restarts", [1, 3])
def test_cost_is_what_is_said(name, restarts):
    forwards, backwards = [], []

    class Counting(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            backwards.append(1)
            return g

    net = random_net(1, classes=12)

    def counted(x):
        forwards.append(1)
        return net(Counting.apply(x))

    x, y = samples(8)
    attack = few(name, restarts=restarts)
    attack.perturb(counted, x, y, streams=Streams(0))
    assert (len(forwards), len(backwards)) == attack.passes


# -- targets --------------------------------------------------------------------------------------


@NORM
@pytest.mark.parametrize("objective", ["loss", "cross-entropy", "margin", "dlr"])
@pytest.mark.parametrize("rule", ["pgd-20", "apgd-ce-20"])
def test_targeted_attacks_reach_their_class(norm, objective, rule):
    x, y = samples(40, seed=6)
    net = random_net(1)
    target = (y + 2) % 5
    attack = ls.attack(rule, eps=0.9, norm=norm, objective=objective, keep="success")
    found = attack.perturb(net, x, y, streams=Streams(0), target=target)
    clean, reached = ((net(v).argmax(1) == target).double().mean() for v in (x, found))
    assert float(clean) < 0.5
    assert float(reached) > float(clean) + 0.3
    free = attack.perturb(net, x, y, streams=Streams(0))
    assert float((net(free).argmax(1) == target).double().mean()) < float(reached)


def test_targets_by_rank():
    x, y = samples(30, seed=7)
    net = random_net(1)
    for rank in (1, 3, -1):
        by_rank = ls.attack("pgd-5", eps=0.2, targets=[rank])
        by_class = ls.attack("pgd-5", eps=0.2, start="zero")
        found = dataclasses.replace(by_rank, start="zero").perturb(net, x, y, streams=Streams(0))
        target = ranked(net(x), y, rank)
        assert_close(found, by_class.perturb(net, x, y, streams=Streams(0), target=target))
    # Of several targets the highest targeted objective is kept.
    attack = ls.attack("pgd-5", eps=0.2, targets=(1, 2, 3, 4), objective="margin", start="zero")
    found = attack.perturb(net, x, y, streams=Streams(0))
    values = []
    for rank in attack.targets:
        target = ranked(net(x), y, rank)
        one = dataclasses.replace(attack, targets=())
        point = one.perturb(net, x, y, streams=Streams(0), target=target)
        values.append(margin_to(net(point), y, target))
    best = torch.stack(values).amax(0)
    classes = net(found)
    reached = torch.stack([margin_to(classes, y, ranked(net(x), y, r)) for r in attack.targets])
    assert_close(reached.amax(0), best)


def test_fewer_classes_mean_fewer_targets():
    x, y = samples(6, classes=4)
    attack = few("apgd-t", eps=0.2)
    assert attack.targets == tuple(range(1, 10))
    net, calls = random_net(1, classes=4), []
    attack.perturb(lambda v: (calls.append(1), net(v))[1], x, y, streams=Streams(0))
    assert len(calls) == 1 + 3 * 5
    two = random_net(1, classes=2)
    with pytest.raises(UsageError, match="targeted dlr needs at least 4 classes, the model has 2"):
        attack.perturb(two, x, y % 2, streams=Streams(0))
    with pytest.raises(UsageError, match="dlr needs at least 3 classes, the model has 2"):
        few("apgd-dlr").perturb(two, x, y % 2, streams=Streams(0))
    with pytest.raises(UsageError, match=r"no class of rank 2, -2 besides .* has 2 classes"):
        ls.attack("pgd-2", eps=0.1, targets=(2, -2)).perturb(two, x, y % 2, streams=Streams(0))


def test_refused_targets():
    x, y = samples(4)
    net, attack = random_net(1), ls.attack("pgd-2", eps=0.1)

    def run(target, attack=attack, **kwargs):
        attack.perturb(net, x, y, streams=Streams(0), target=target, **kwargs)

    with pytest.raises(UsageError, match="target is the label itself for 4 of 4"):
        run(y)
    with pytest.raises(UsageError, match="classes from 5 to 5, but the model has 5 outputs"):
        run(torch.full((4,), 5))
    with pytest.raises(UsageError, match=r"shape \(4,\) of integers; got shape \(3,\)"):
        run(y[:3])
    with pytest.raises(UsageError, match=r"got shape \(4,\) of float32"):
        run(torch.zeros(4))
    with pytest.raises(UsageError, match="'kl' has no target: use cross-entropy, margin, dlr"):
        run((y + 1) % 5, ls.attack("pgd-2", eps=0.1, objective="kl"))
    with pytest.raises(UsageError, match="'kl' has no target"):
        ls.attack("apgd-t", eps=0.1, objective="kl")
    with pytest.raises(UsageError, match="exclude"):
        run((y + 1) % 5, few("apgd-t"))
    with pytest.raises(UsageError, match=r"targets=\(0,\): expected ranks"):
        ls.attack("pgd-2", eps=0.1, targets=(0,))


# -- odd inputs, models and settings --------------------------------------------------------------


def test_refused_settings():
    with pytest.raises(UsageError, match=r"mi-fgsm.*unknown attack|unknown attack 'mi-fsgm'"):
        ls.attack("mi-fsgm", eps=0.1)
    with pytest.raises(UsageError, match="n-fgsm has one step; write 'pgd-3'"):
        ls.attack("n-fgsm-3", eps=0.1)
    with pytest.raises(UsageError, match="unknown step rule 'adaptive'"):
        ls.attack("pgd-3", eps=0.1, step_rule="adaptive")
    with pytest.raises(UsageError, match="unknown point to keep 'best'"):
        ls.attack("pgd-3", eps=0.1, keep="best")
    with pytest.raises(UsageError, match="decay must be a finite number >= 0, got -1"):
        ls.attack("pgd-3", eps=0.1, decay=-1)
    with pytest.raises(UsageError, match="the rule 'auto' has its own momentum"):
        ls.attack("apgd-ce-3", eps=0.1, decay=1.0)
    for fields in ({}, {"keep": "success", "mode": "train"}):
        with pytest.raises(UsageError, match="early_stop needs keep='success' and mode='eval'"):
            ls.attack("pgd-3", eps=0.1, early_stop=True, **fields)
    with pytest.raises(UsageError, match="early_stop leaves samples out"):
        few("apgd-ce", early_stop=True).perturb(
            random_net(1), *samples(3), streams=Streams(0), step_mask=lambda *_: None
        )


@ATTACK
def test_odd_models(name):
    x, y = samples(30)
    net = random_net(1)
    attack = few(name)
    with pytest.raises(UsageError, match="the model returned a tuple: wrap it"):
        attack.perturb(lambda v: (net(v), 0), x, y, streams=Streams(0))
    with pytest.warns(UserWarning, match="look like probabilities.*Leave out its softmax"):
        attack.perturb(lambda v: net(v).softmax(1), x, y, streams=Streams(0))
    if attack.keep == "success":
        with pytest.raises(UsageError, match=r"needs logits of shape \(B, classes\).*\(30, 5, 1"):
            attack.perturb(lambda v: net(v)[..., None], x, y, streams=Streams(0))
        with pytest.raises(
            UsageError, match=r"one class per sample.*got float64 of shape \(30, 5\)"
        ):
            attack.perturb(net, x, net(x).softmax(1), streams=Streams(0))


@ATTACK
@NORM
def test_one_sample_of_nan_leaves_the_others_alone(name, norm):
    x, y = samples(9)
    net = random_net(1)
    attack = few(name, norm=norm, start="zero")

    def holed(v):
        return net(v).index_fill(0, torch.tensor([4]), math.nan)

    found = attack.perturb(holed, x, y, streams=Streams(0))
    others = [i for i in range(9) if i != 4]
    assert torch.equal(found[4], x[4])
    assert_close(found[others], attack.perturb(net, x, y, streams=Streams(0))[others])
    assert not torch.equal(found[others], x[others])


@ATTACK
@NORM
def test_inputs_of_any_shape(name, norm):
    attack = few(name, norm=norm)
    w = Streams(0).normal("w", (1, 5))
    x, y = samples(20, shape=())
    found = attack.perturb(lambda v: torch.sin(20 * v[:, None] @ w), x, y, streams=Streams(0))
    assert found.shape == (20,)
    assert float((found - x).abs().max()) <= attack.reach + 1e-12
    assert not torch.equal(found, x)
    empty = attack.perturb(random_net(1), *samples(0), streams=Streams(0))
    assert empty.shape == (0, 6)
    x, y = samples(3, shape=(1, 2, 3, 1))
    assert attack.perturb(random_net(1), x, y, streams=Streams(0)).shape == x.shape


@ATTACK
def test_no_steps_leave_the_start(name):
    x, y = samples(10)
    attack = dataclasses.replace(few(name), steps=0)
    found = attack.perturb(random_net(1), x, y, streams=Streams(0))
    assert float((found - x).abs().max()) <= attack.reach
    zero = dataclasses.replace(attack, start="zero")
    assert torch.equal(zero.perturb(random_net(1), x, y, streams=Streams(0)), x)


def test_a_batch_mean_loss_is_enough_only_where_nothing_is_compared():
    x, y = samples(10)
    net = random_net(1)
    run = {"streams": Streams(0), "loss": F.cross_entropy}
    one = ls.attack("mi-fgsm-3", eps=0.1).perturb(net, x, y, **run)
    assert_close(one, ls.attack("mi-fgsm-3", eps=0.1).perturb(net, x, y, streams=Streams(0)))
    for attack in (ls.attack("pgd-3x2", eps=0.1), few("apgd-ce", objective="loss")):
        with pytest.raises(UsageError, match="one value per sample: use reduction='none'"):
            attack.perturb(net, x, y, **run)


def test_only_the_gradient_of_the_inputs_is_computed():
    asked = []

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x, weight)
            return x @ weight

        @staticmethod
        def backward(ctx, g):
            _, weight = ctx.saved_tensors
            asked.append(ctx.needs_input_grad)
            return g @ weight.T, None

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(Streams(0).normal("w", (6, 5)))

        def forward(self, x):
            return Product.apply(x, self.weight)

    model, (x, y) = Net(), samples(12)
    for name in ATTACKS:
        for refresh in ("fixed", "each"):
            objective = ls.Objective(model, (x, y), attack=few(name), refresh=refresh)
            objective.value()
    assert set(asked) == {(True, False)}
    asked.clear()
    with frozen(model, "eval") as forward:  # as attacks in training see the network
        few("pgd").perturb(forward, x, y, streams=Streams(0))
    assert set(asked) == {(True, False)}


# -- records and the command line -----------------------------------------------------------------


def test_plain_attacks_are_described_as_before():
    """Digests of training configurations are made of it."""
    assert ls.attack("pgd-20", eps=0.1).describe() == {
        "norm": "linf",
        "eps": 0.1,
        "steps": 20,
        "step_size": 0.025,
        "start": "uniform",
        "start_scale": 1.0,
        "objective": "loss",
        "restarts": 1,
        "mode": "eval",
        "project": True,
    }


@ATTACK
def test_descriptions_are_json_and_rebuild_the_attack(name):
    attack = few(name, norm="l2", restarts=2)
    described = json.loads(json.dumps(attack.describe()))
    ball = Ball(described.pop("norm"), described.pop("eps"))
    assert Attack(ball=ball, **described) == attack
    assert hash(attack) == hash(few(name, norm="l2", restarts=2))


def test_table_rows():
    assert ls.attack("apgd-ce", eps=0.1).steps == 100
    apgd = ls.attack("apgd-t-20x3", eps=0.1)
    assert (apgd.steps, apgd.restarts, apgd.step_size) == (20, 3, 0.2)
    assert (apgd.objective, apgd.targets, apgd.keep) == ("dlr", tuple(range(1, 10)), "success")
    assert ls.attack("mi-fgsm-10", eps=0.1).step_size == pytest.approx(0.01)
    noisy = ls.attack("n-fgsm", eps=0.1)
    assert (noisy.start_scale, noisy.step_size, noisy.project) == (2.0, 0.1, False)


def test_evaluate_takes_every_name(checkpoint, capsys):
    names = "clean,fgsm,n-fgsm,mi-fgsm-10,apgd-ce-20,apgd-dlr-20,apgd-t-20"
    given = ["--attack", names, "--json", "-q", "--n-examples", "60", "--out"]
    assert command(["evaluate", str(checkpoint), *given, str(checkpoint.parent / "e.h5")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["attack"] == names.split(",")
    robust = dict(zip(found["attack"], found["accuracy"], strict=True))
    assert robust["apgd-t-20"] <= robust["fgsm"] < robust["clean"]


# -- ensembles ------------------------------------------------------------------------------------


def test_ensemble_is_the_mean_of_probabilities():
    first, second = (ModelSpec("mlp", (6,), 5).build(seed=s).double().eval() for s in (0, 1))
    x, y = samples(20)
    model = Ensemble([first, second])
    mean = (first(x).softmax(1) + second(x).softmax(1)) / 2
    assert_close(model(x), mean.log())
    objective = ls.Objective(model, (x, y), attack=few("pgd", 0.2), refresh="each")
    found = few("pgd", 0.2).perturb(
        lambda v: ((first(v).softmax(1) + second(v).softmax(1)) / 2).log(),
        x,
        y,
        streams=Streams(0, "attack"),
    )
    mean = (first(found).softmax(1) + second(found).softmax(1)) / 2
    assert objective.value().loss == pytest.approx(F.nll_loss(mean.log(), y).item(), rel=1e-9)
    assert len(list(model.parameters())) == 2 * len(list(first.parameters()))


@pytest.mark.parametrize("case", ["mlp", "conv, batchnorm, dropout", "tied"])
def test_ensemble_of_one_is_its_member(case):
    case = CASES[case]
    model, batches = case.model(), case.data()
    (x, y), attack = batches[0], few("pgd", 0.2)
    one, alone = (ls.Objective(m, batches, attack=attack) for m in (Ensemble([model]), model))
    assert one.value().loss == pytest.approx(alone.value().loss, rel=1e-10)
    assert one.value().accuracy == alone.value().accuracy
    for a, b in zip(one.gradient().values(), alone.gradient().values(), strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-12)
    model.eval()
    for name in ATTACKS if model(x).shape[1] > 3 else ("fgsm", "pgd", "apgd-dlr"):
        for m in (Ensemble([model]), Ensemble([model, model])):
            both = [few(name).perturb(f, x, y, streams=Streams(0)) for f in (m.eval(), model)]
            assert_close(*both, rtol=0, atol=1e-9)
    assert_close(ls.trace(one, 4).trace.value, ls.trace(alone, 4).trace.value, rtol=1e-8, atol=1e-8)


def test_refused_ensembles():
    member = ModelSpec("mlp", (6,), 5).build(seed=0)
    with pytest.raises(UsageError, match="at least one network"):
        Ensemble([])
    with pytest.raises(UsageError, match=r"expected networks \(nn.Module\), got str"):
        Ensemble([member, "checkpoint.pt"])
    other = ModelSpec("mlp", (6,), 4).build(seed=0)
    with pytest.raises(UsageError, match=r"of one shape, got \(2, 4\), \(2, 5\)"):
        Ensemble([member, other])(torch.rand(2, 6))
    assert len(Ensemble(member).members) == 1
