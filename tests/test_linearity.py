"""Gradient alignment, linearity gap and local Lipschitz constant: closed forms and slow loops."""

from __future__ import annotations

import copy
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CASES, joined, mlp
from numpy.testing import assert_allclose
from torch import nn

import landscape as ls
from landscape import checkpoints
from landscape.cli import run
from landscape.errors import NumericalError, UsageError
from landscape.plotting import linearity as drawing
from landscape.plotting import picture
from landscape.random import Streams

LINF, L2 = ls.Ball("linf", 0.1), ls.Ball("l2", 0.1)
BALL = pytest.mark.parametrize("ball", [LINF, L2], ids=["linf", "l2"])


def middle(n=12, d=6, seed=0):
    """Inputs further than the radius from the box."""
    g = torch.Generator().manual_seed(seed)
    x = 0.3 + 0.4 * torch.rand(n, d, generator=g, dtype=torch.float64)
    return x, torch.randint(2, (n,), generator=g)


def identity(d=6):
    net = nn.Linear(d, d).double()
    with torch.no_grad():
        net.weight.copy_(torch.eye(d))
        net.bias.zero_()
    return net


# -- closed forms ---------------------------------------------------------------------------------


@BALL
def test_a_linear_loss_is_linear(ball):
    w = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, -0.3], dtype=torch.float64)
    objective = ls.Objective(identity(), middle(), lambda output, y: output @ w, batch_size=5)
    found = ls.local_linearity(objective, ball, draws=3)
    assert found.alignment.shape == (3, 12)
    assert_allclose(found.alignment, 1, rtol=1e-12)
    assert_allclose(found.gap, 0, atol=1e-14)


@BALL
def test_logistic_regression_is_aligned_but_not_linear(ball):
    """∇ℓ = −σ(−m)·y·w is parallel everywhere; ℓ = softplus(−m), m falling by ε‖w‖ at most."""
    w = torch.tensor([0.5, -1.5, 2.0, 1.0, -1.0, 0.7], dtype=torch.float64)
    model = nn.Linear(6, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.stack([torch.zeros_like(w), w]))
        model.bias.zero_()
    x, y = middle(20)
    found = ls.local_linearity(ls.Objective(model, (x, y)), ball, steps=60)
    assert_allclose(found.alignment, 1, rtol=1e-12)
    assert found.undefined_share == 0
    # The gap is that of softplus, which is convex: largest at one of the two ends.
    m = (2 * y - 1) * (x @ w)
    t = 0.1 * float(w.abs().sum() if ball.norm == "linf" else w.norm())
    slope = -torch.sigmoid(-m)
    ends = [F.softplus(-(m + s)) - F.softplus(-m) - s * slope for s in (t, -t)]
    # Both ends are local maxima: each start climbs to one of them.
    reached = np.stack([np.isclose(found.gap, end, rtol=1e-6) for end in ends])
    assert reached.any(0).all()
    assert np.isclose(found.gap, torch.maximum(*ends), rtol=1e-6).mean() > 0.7
    # Outputs (0, w·x): ‖Δf‖₁ = |w·δ|.
    assert_allclose(found.lipschitz, t / 0.1, rtol=1e-9)


@BALL
def test_a_quadratic_loss_in_closed_form(ball):
    """ℓ = ½(x−c)ᵀA(x−c): gap = max ½δᵀAδ, and ∇ℓ = A(x−c)."""
    a = torch.tensor([3.0, 1.0, 0.5, 2.0, 0.1, 0.0], dtype=torch.float64)
    c = torch.full((6,), 0.2, dtype=torch.float64)

    def loss(output, y):
        return 0.5 * (a * (output - c) ** 2).sum(1)

    x, y = middle()
    objective = ls.Objective(identity(), (x, y), loss, batch_size=5)
    found = ls.local_linearity(objective, ball, draws=2, restarts=4, steps=80, seed=4)
    expected = 0.5 * 0.01 * float(a.sum() if ball.norm == "linf" else a.max())
    assert_allclose(found.gap.max(), expected, rtol=1e-6)
    assert (found.gap <= expected * (1 + 1e-9)).all()
    assert np.median(found.gap) > 0.99 * expected
    streams = Streams(4, "linearity")
    for k in range(2):
        eta = ball.sample(x, streams.child("alignment", k))
        cosine = F.cosine_similarity(a * (x - c), a * (x + eta - c), dim=1)
        assert_allclose(found.alignment[k], cosine, rtol=1e-12)
    assert found.mean_alignment == ls.Estimate.of(found.alignment.mean(0))
    assert found.mean_gap == ls.Estimate.of(found.gap)


@BALL
@pytest.mark.parametrize("outputs", [1, 4])
def test_lipschitz_constant_of_a_linear_map_is_its_operator_norm(ball, outputs):
    g = torch.Generator().manual_seed(outputs)
    w = torch.randn(outputs, 6, generator=g, dtype=torch.float64)
    model = nn.Linear(6, outputs).double()
    with torch.no_grad():
        model.weight.copy_(w)
    x, _ = middle(30)
    objective = ls.Objective(model, (x, torch.zeros(30, outputs, dtype=torch.float64)), "mse")
    found = ls.local_linearity(objective, ball, draws=1, restarts=3, steps=40)
    # ‖Wδ‖₁ is convex, so largest at a corner of the ball; in l2 it is max over signs ‖Wᵀs‖₂.
    if ball.norm == "linf":
        corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6)), dtype=torch.float64)
        norm = float((corners @ w.T).abs().sum(1).max())
    else:
        signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=outputs)))
        norm = float((signs.double() @ w).norm(dim=1).max())
    assert (found.lipschitz <= norm * (1 + 1e-9)).all()
    assert_allclose(np.median(found.lipschitz), norm, rtol=1e-6)


# -- slow loop ------------------------------------------------------------------------------------


def ascent(model, loss, x, y, start, ball, climbed, wanted):
    """One sample, one start: sign or normalised steps of ε/4, projected and clipped by hand."""
    v, best = (x + start).clamp(0, 1), 0.0
    for step in range(11):
        v = v.detach().requires_grad_()
        value = climbed(v)
        best = max(best, float(wanted(v).detach()))
        if step == 10:
            return best
        (g,) = torch.autograd.grad(value, v)
        move = g.sign() if ball.norm == "linf" else g / g.norm() if g.norm() > 0 else 0 * g
        delta = v.detach() + ball.radius / 4 * move - x
        if ball.norm == "linf":
            delta = delta.clamp(-ball.radius, ball.radius)
        elif delta.norm() > ball.radius:
            delta = delta * ball.radius / delta.norm()
        v = (x + delta).clamp(0, 1)
    raise AssertionError


LOOPS = [("conv, batchnorm, dropout", LINF), ("tied", L2), ("frozen", LINF), ("regression", L2)]


@pytest.mark.parametrize(("name", "ball"), LOOPS)
def test_against_a_loop_over_samples(name, ball):
    case = CASES[name]
    sizes = (3, 1, 2)
    objective = ls.Objective(case.model(), case.data(sizes), case.loss)
    found = ls.local_linearity(objective, ball, draws=1, steps=10, restarts=2, seed=2)
    model = copy.deepcopy(case.model()).eval().requires_grad_(False)
    x, y = joined(case.data(sizes))

    def loss(v, i):
        output = model(v[None])
        if case.loss == "mse":
            return ((output - y[i : i + 1]) ** 2).sum()
        return F.cross_entropy(output, y[i : i + 1])

    def gradient(v, i):
        v = v.detach().requires_grad_()
        return torch.autograd.grad(loss(v, i), v)[0]

    streams = Streams(2, "linearity")
    eta = ball.sample(x, streams.child("alignment", 0))
    starts = {
        what: [ball.sample(x, streams.child(what).child("restart", r)) for r in range(2)]
        for what in ("gap", "slope")
    }
    for i in range(len(x)):
        g = gradient(x[i], i)
        there = gradient(x[i] + eta[i], i)
        cosine = float((g * there).sum() / g.norm() / there.norm())
        assert_allclose(found.alignment[0, i], cosine, rtol=1e-9)
        base, output = float(loss(x[i], i)), model(x[i][None])

        def gap(v, i=i, g=g, base=base):
            return (loss(v, i) - base - ((v - x[i]) * g).sum()).abs()

        def rise(v, output=output):
            return (model(v[None]) - output).abs().sum()

        def slope(v, i=i, rise=rise):
            d = v - x[i]
            return rise(v) / (d.abs().max() if ball.norm == "linf" else d.norm())

        best = max(ascent(model, loss, x[i], y[i], s[i], ball, gap, gap) for s in starts["gap"])
        assert_allclose(found.gap[i], best, rtol=1e-6)
        best = max(
            ascent(model, loss, x[i], y[i], s[i], ball, rise, slope) for s in starts["slope"]
        )
        assert_allclose(found.lipschitz[i], best, rtol=1e-6)


# -- what must hold -------------------------------------------------------------------------------


def make(name="mlp", **kwargs):
    case = CASES[name]
    return ls.Objective(case.model(), case.data(), case.loss, **kwargs)


def test_more_search_never_finds_less():
    objective = make("conv, batchnorm, dropout")
    short, long, wide = (
        ls.local_linearity(objective, LINF, steps=s, restarts=r)
        for s, r in ((10, 1), (20, 1), (20, 3))
    )
    for name in ("gap", "lipschitz"):
        values = [getattr(f, name) for f in (short, long, wide)]
        assert (values[1] >= values[0]).all()
        assert (values[2] >= values[1]).all()
        assert (values[2] > values[0]).any()


def test_searches_stay_in_ball_and_box():
    class Watching(nn.Linear):
        def forward(self, x):
            if x.requires_grad and len(x) == 17:
                seen.append(x.detach().clone())
            return super().forward(x)

    seen: list[torch.Tensor] = []
    x = torch.rand(17, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).round()
    objective = ls.Objective(Watching(6, 3).double(), (x, torch.arange(17) % 3))
    ls.local_linearity(objective, LINF, draws=1, steps=4)
    outside = [v for v in seen if v.min() < 0 or v.max() > 1]
    assert len(outside) == 1  # the random point of the alignment alone
    assert max(float((v - x).abs().max()) for v in seen) <= 0.1 + 1e-12


def test_zero_gradients_are_left_out_and_counted():
    """Where both ReLUs are off, the loss is constant: no gradient, no cosine, no gap."""
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        for layer, weight, bias in ((0, [[1.0]], [-0.5]), (2, [[1.0], [-1.0]], [0.0, 0.0])):
            model[layer].weight.copy_(torch.tensor(weight))
            model[layer].bias.copy_(torch.tensor(bias))
    x = torch.tensor([[0.1], [0.2], [0.8], [0.9]], dtype=torch.float64)
    objective = ls.Objective(model, (x, torch.tensor([0, 1, 0, 1])))
    found = ls.local_linearity(objective, LINF, draws=2)
    assert np.isnan(found.alignment[:, :2]).all()
    assert_allclose(np.abs(found.alignment[:, 2:]), 1)
    assert found.undefined_share == 0.5
    assert found.mean_alignment.samples == 2
    assert_allclose(found.gap[:2], 0, atol=1e-15)
    assert (found.lipschitz[:2] == 0).all()
    assert_allclose(found.lipschitz[2:], 2)
    nowhere = ls.local_linearity(ls.Objective(model, (x[:2], torch.tensor([0, 1]))), LINF)
    assert math.isnan(nowhere.mean_alignment.value)
    assert nowhere.mean_alignment.samples == 0
    assert nowhere.undefined_share == 1
    picture([found, nowhere], ["a", "b"])


def test_tiny_gradients_have_an_alignment():
    objective = ls.Objective(identity(), middle(), lambda output, y: 1e-200 * output.sum(1))
    assert_allclose(ls.local_linearity(objective, LINF, draws=1).alignment, 1)


def test_adversarial_inputs_are_the_centres():
    attack = ls.attack("pgd-3", eps=0.2)
    objective = make(attack=attack)
    moved = torch.cat([t.x for t in objective.terms()])
    held = ls.Objective(CASES["mlp"].model(), (moved, joined(CASES["mlp"].data())[1]))
    one, two = ls.local_linearity(objective), ls.local_linearity(held, attack.ball)
    assert one.eps == 0.2
    for name in ("alignment", "gap", "lipschitz"):
        assert_allclose(getattr(one, name), getattr(two, name), rtol=1e-9, err_msg=name)


def test_refusals():
    objective = make()
    with pytest.raises(UsageError, match="the neighbourhood needs a radius: give a ball"):
        ls.local_linearity(objective)
    with pytest.raises(UsageError, match="the ball has radius 0"):
        ls.local_linearity(objective, ls.Ball("linf", 0))
    for name, least in (("draws", 1), ("restarts", 1), ("steps", 0)):
        with pytest.raises(UsageError, match=f"{name} must be at least {least}, got {least - 1}"):
            ls.local_linearity(objective, LINF, **{name: least - 1})
    case = CASES["mlp"]
    with pytest.raises(UsageError, match="local linearity needs a loss that returns one value"):
        ls.local_linearity(ls.Objective(case.model(), case.data(), F.cross_entropy), LINF)
    broken = mlp().double()
    with torch.no_grad():
        broken[0].weight.fill_(1e308)
    with pytest.raises(NumericalError, match="input gradients of batch 0 are not finite"):
        ls.local_linearity(ls.Objective(broken, case.data()), LINF)


def test_pictures():
    found = ls.local_linearity(make(), LINF, steps=2)
    assert len(picture([found]).axes) == 3
    slopes = ls.inputs(make(), 3)
    assert len(drawing.below_inputs([slopes], [found]).axes) == 7
    assert found.plot().get_ylabel() == "samples"


BUNDLED = Path(__file__).parent.parent / "checkpoints" / "digits-pgd-seed0.pt"


def test_command_prints_both_parts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["inputs", str(BUNDLED), "--n-examples", "30", "--ascent-steps", "4"]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    saved = ls.load_all("digits-pgd-seed0-inputs.h5")
    slopes, linearity = saved["/"], saved["linearity"]
    assert (linearity.norm, linearity.eps) == ("linf", 0.1)  # the training's
    for estimate in (
        slopes.mean_ig_l1,
        slopes.mean_hs,
        linearity.mean_alignment,
        linearity.mean_gap,
        linearity.mean_lipschitz,
    ):
        assert str(estimate) in out
    assert f"{np.median(slopes.ig_l1):.4g}" in out
    assert run([*arguments, "--eps", "8/255", "--norm", "l2", "--json", "--out", "other"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["kind"] == "inputs"
    assert body["linearity"]["eps"] == 8 / 255
    assert body["linearity"]["norm"] == "l2"
    # Both kinds of one file are drawn again.
    assert run(["plot", "other.h5", "--overwrite"]) == 0
    assert {p.name for p in tmp_path.glob("other-*.png")} == {
        "other-inputs.png",
        "other-linearity.png",
    }


def test_command_without_a_radius(tmp_path, monkeypatch, capsys, checkpoint):
    monkeypatch.chdir(tmp_path)
    plain = checkpoints.load(checkpoint)
    bare = tmp_path / "bare.pt"
    torch.save(plain.state_dict, bare)
    arguments = ["inputs", str(bare), "--model", "logistic", "--data", "digits"]
    arguments += ["--n-examples", "20"]
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert "no radius, so nothing of the ball: add --eps 8/255" in out
    assert "gradient alignment" not in out
    assert set(ls.load_all("bare-inputs.h5")) == {"/"}
    assert run([*arguments, "--eps", "0.1", "--overwrite"]) == 0
    assert "gradient alignment" in capsys.readouterr().out
    assert run([*arguments, "--steps", "3", "--overwrite"]) == 2
    assert "--steps needs an attack" in capsys.readouterr().err
    assert run([*arguments, "--attack", "fgsm", "--overwrite"]) == 2
    assert "--attack fgsm needs a radius" in capsys.readouterr().err
