"""Ratios of gradients and sharpness against quadratics, linear models and slow loops."""

from __future__ import annotations

import copy
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CASES, dense, joined
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import landscape as ls
from landscape.cli import run
from landscape.errors import NumericalError, UsageError
from landscape.plotting import picture
from landscape.random import Streams

STEPS = (0.05, 0.3, 2.0)
PGD = ls.attack("pgd-3", eps=0.1)


def make(name="mlp", attack=PGD, **kwargs):
    case = CASES[name]
    return ls.Objective(case.model(), case.data(), case.loss, attack=attack, **kwargs)


def measure(objective, **kwargs):
    return ls.local_smoothness(objective, **{"a": STEPS, "draws": 2, "ascent_steps": 3, **kwargs})


def random_direction(objective, draw, seed=0):
    """As documented: normal numbers of the draw's stream, of unit length."""
    streams = Streams(seed, "smoothness").child("draw", draw).child("direction", 0)
    named = [(n, p) for n, p in objective.model.named_parameters() if p.requires_grad]
    d = torch.cat([streams.normal(n, tuple(p.shape)).flatten() for n, p in named])
    return d / d.norm()


def moved(model, v, step):
    model = copy.deepcopy(model).eval()
    flat = [p for p in model.parameters() if p.requires_grad]
    pieces = (step * v).split([p.numel() for p in flat])
    with torch.no_grad():
        for p, piece in zip(flat, pieces, strict=True):
            p += piece.view(p.shape)
    return model


# -- quadratics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [None, PGD], ids=["clean", "pgd"])
def test_quadratic_loss(attack):
    """Linear regression: the ratio is ‖Hv‖ at every step, also with the inputs held."""
    case = CASES["linear regression"]
    objective = make("linear regression", attack)
    x, y = joined(case.data())
    found = measure(objective, directions=["random"])
    assert found.loss.tolist() == (["clean"] if attack is None else ["clean", "held", "renewed"])
    for k, seed in enumerate(found.attack_seed.tolist()):
        v = random_direction(objective, k)
        inputs = [x]
        if attack is not None:
            model = case.model().eval().requires_grad_(False)
            streams = Streams(seed, "attack")
            inputs.append(attack.perturb(model, x, y, streams=streams, loss=objective._loss))
        for i, held in enumerate(inputs):
            reference = dense(case.model(), held, y, case.loss)
            expected = float((reference.hessian @ v).norm())
            assert_allclose(found.ratio[i, 0, k], expected, rtol=1e-9)
            assert_allclose(found.centre_loss[i, k], reference.loss, rtol=1e-12)
            assert_allclose(found.gradient_norm[i, k], reference.gradient.norm(), rtol=1e-10)
    if attack is None:
        assert not found.input_move.any()
        assert not found.through_inputs.any()


def sphere_maximum(g, hessian, radius):
    """max g·d + dᵀHd/2 over ‖d‖ ≤ r, H positive semidefinite: (μI − H)d = g with ‖d‖ = r."""
    values, vectors = np.linalg.eigh(hessian)
    along = vectors.T @ g
    low, high = values[-1], values[-1] + np.linalg.norm(g) / radius + 1
    for _ in range(200):
        mu = (low + high) / 2
        longer = np.linalg.norm(along / (mu - values)) > radius
        low, high = (mu, high) if longer else (low, mu)
    d = along / (high - values)
    return along @ d + d @ (values * d) / 2


@pytest.mark.parametrize("radius", [0.1, 3.0])
def test_sharpness_of_a_quadratic(radius):
    case = CASES["linear regression"]
    x, y = joined(case.data())
    reference = dense(case.model(), x, y, case.loss)
    found = measure(make("linear regression", None), radius=radius, ascent_steps=60)
    rise = sphere_maximum(reference.gradient.numpy(), reference.hessian.numpy(), radius)
    assert_allclose(found.sharpness[0], rise / (1 + reference.loss), rtol=1e-8)


def test_sharpness_at_a_minimum_is_equation_74():
    case = CASES["linear regression"]
    x, y = joined(case.data())
    model = case.model()
    design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    best = torch.linalg.lstsq(design, y).solution[:, 0]
    with torch.no_grad():
        model[0].weight.copy_(best[None, :-1])
        model[0].bias.copy_(best[-1:])
    reference = dense(model, x, y, case.loss)
    top = float(torch.linalg.eigvalsh(reference.hessian)[-1])
    objective = ls.Objective(model, (x, y), case.loss)
    # Ascents from random directions; along the gradient, which is rounding, there is none.
    found = measure(objective, directions=["random"], draws=3, radius=0.5, ascent_steps=100)
    assert_allclose(found.sharpness[0, 1:], top * 0.25 / 2 / (1 + reference.loss), rtol=1e-6)


# -- linear classifiers ---------------------------------------------------------------------------


class Binary(nn.Module):
    """Logits (0, w·x): the loss is log(1 + exp(∓w·x))."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w.clone())

    def forward(self, x):
        z = x @ self.w
        return torch.stack([torch.zeros_like(z), z], 1)


def linear(norm, d=12, n=40, eps=0.1):
    g = torch.Generator().manual_seed(0)
    w = torch.randn(d, generator=g, dtype=torch.float64)
    x = 0.3 + 0.4 * torch.rand(n, d, generator=g, dtype=torch.float64)
    y = torch.randint(2, (n,), generator=g)
    attack = ls.attack("fgsm", eps=eps, norm=norm)
    return ls.Objective(Binary(w), (x, y), attack=attack, batch_size=9), w, x, y


def worst(w, x, y, norm, eps=0.1):
    """max_δ of the loss in closed form: log(1 + exp(−s·w·x + ε‖w‖_q))."""
    s = torch.where(y == 1, 1.0, -1.0).double()
    dual = w.abs().sum() if norm == "linf" else w.norm()
    return F.softplus(-s * (x @ w) + eps * dual).mean()


def slope(f, w):
    w = w.clone().requires_grad_()
    return torch.autograd.grad(f(w), w)[0]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_linear_classifier(norm):
    objective, w, x, y = linear(norm)
    s = torch.where(y == 1, 1.0, -1.0).double()

    def steepest(w):
        return w.sign() if norm == "linf" else w / w.norm()

    def held(at):
        return lambda w: F.softplus(-s * ((x - 0.1 * s[:, None] * steepest(at)) @ w)).mean()

    losses = [
        lambda w: F.softplus(-s * (x @ w)).mean(),
        held(w),
        lambda w: worst(w, x, y, norm),
    ]
    found = measure(objective)
    uphill = slope(losses[2], w)
    for k in range(2):
        assert_allclose(found.centre_loss[:, k], [float(f(w)) for f in losses], rtol=1e-10)
        for i, v in enumerate((uphill / uphill.norm(), random_direction(objective, k))):
            for j, a in enumerate(STEPS):
                there = w + a * v
                for m, f in enumerate(losses):
                    expected = float((slope(f, there) - slope(f, w)).norm()) / a
                    assert_allclose(found.ratio[m, i, k, j], expected, rtol=1e-8, atol=1e-12)
                jump = slope(losses[2], there) - slope(losses[1], there)
                expected = float(jump.norm()) / a
                assert_allclose(found.through_inputs[i, k, j], expected, rtol=1e-8, atol=1e-12)
                expected = 0.1 * float((steepest(there) - steepest(w)).norm())
                assert_allclose(found.input_move[i, k, j], expected, rtol=1e-7, atol=1e-12)


def test_kanai_lemma_2():
    """In L2 inputs move by at most ε/min‖θ‖ times the step, so the ratio stays bounded."""
    objective, w, _, _ = linear("l2")
    tiny = measure(objective, a=(1e-6, 1e-4, 1e-2), draws=3)
    shortest = float(w.norm()) - 1e-2
    assert (tiny.input_move <= 0.1 / shortest * tiny.a).all()
    assert_allclose(tiny.ratio[2][..., 0], tiny.ratio[2][..., 1], rtol=1e-2)


def test_kanai_lemma_3():
    """In L∞ an input jumps where a sign changes, and the ratio grows as 1/a there."""
    _, w, x, y = linear("linf")
    w[0] = -1e-9
    objective = ls.Objective(Binary(w), (x, y), attack=ls.attack("fgsm", eps=0.1))
    steps = (1e-4, 1e-3, 1e-2)
    found = measure(objective, a=steps, draws=8, directions=["random"])
    crosses = np.array([float(random_direction(objective, k)[0]) > 0 for k in range(8)])
    assert 0 < crosses.sum() < 8
    assert_allclose(found.input_move[0, crosses], 0.2, rtol=1e-7)
    assert_array_equal(found.input_move[0, ~crosses], 0)
    ratio = found.ratio[2, 0]
    assert (ratio[crosses, 0] > 5 * ratio[crosses, 1]).all()
    assert (ratio[crosses, 1] > 5 * ratio[crosses, 2]).all()
    assert_allclose(ratio[~crosses, 0], ratio[~crosses, 1], rtol=1e-2)
    # Prop. 2 of liu2020: L_θθ‖θ₁ − θ₂‖ + 2ε·L_θx, here by the triangle inequality.
    assert (ratio <= found.ratio[1, 0] + found.through_inputs[0] + 1e-12).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_sharpness_against_the_whole_ball(norm):
    objective, w, x, y = linear(norm, d=2)
    found = measure(objective, radius=0.7, ascent_steps=20, draws=3)
    angle = np.linspace(0, 2 * np.pi, 721)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    centre = float(worst(w, x, y, norm))
    ball = [r * p for r in (0.35, 0.7) for p in circle]
    highest = max(float(worst(w + torch.as_tensor(p), x, y, norm)) for p in ball)
    best = found.sharpness[2].max()
    assert_allclose(best, (highest - centre) / (1 + centre), rtol=1e-4)


# -- slow loop ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conv, batchnorm, dropout", "tied", "frozen", "unused"])
def test_against_a_loop_over_copies_of_the_model(name):
    objective = make(name, seed=4)
    found = measure(objective, directions=["random"], a=(0.1, 1.0), seed=6)
    x, y = joined(CASES[name].data())

    def at(model, seed):
        frozen = copy.deepcopy(model).requires_grad_(False)
        return PGD.perturb(frozen, x, y, streams=Streams(seed, "attack"))

    for k, seed in enumerate(found.attack_seed.tolist()):
        centre = moved(objective.model, random_direction(objective, k, 6), 0.0)
        held = at(centre, seed)
        for j, a in enumerate(found.a):
            there = moved(objective.model, random_direction(objective, k, 6), a)
            renewed = at(there, seed)
            for i, (first, second) in enumerate(((x, x), (held, held), (held, renewed))):
                change = dense_gradient(there, second, y) - dense_gradient(centre, first, y)
                assert_allclose(found.ratio[i, 0, k, j], float(change.norm()) / a, rtol=1e-8)
            move = (renewed - held).flatten(1).norm(dim=1).mean()
            assert_allclose(found.input_move[0, k, j], float(move), rtol=1e-8)


def dense_gradient(model, x, y):
    leaves = [p for p in model.parameters() if p.requires_grad]
    loss = F.cross_entropy(model(x), y)
    found = torch.autograd.grad(loss, leaves, materialize_grads=True, allow_unused=True)
    return torch.cat([g.flatten() for g in found])


def test_adversarial_direction_is_awp():
    objective = make("mlp", None)
    found = measure(objective, directions=["adversarial"], a=(0.5,))
    v = []
    for p, g in zip(objective.params.values(), objective.gradient().values(), strict=True):
        v.append((g * p.norm() / g.norm() if p.ndim > 1 else 0 * g).flatten())
    v = torch.cat(v)
    change = dense_gradient(moved(objective.model, v / v.norm(), 0.5), *joined(CASES["mlp"].data()))
    before = dense_gradient(objective.model.eval(), *joined(CASES["mlp"].data()))
    assert_allclose(found.ratio[0, 0, 0, 0], float((change - before).norm()) / 0.5, rtol=1e-8)


# -- what must hold -------------------------------------------------------------------------------


def test_renewed_is_at_most_held_and_the_move():
    found = measure(make("conv, batchnorm, dropout"))
    assert (found.ratio[2] <= found.ratio[1] + found.through_inputs + 1e-12).all()
    assert (found.sharpness >= 0).all()
    assert (found.input_move > 0).all()


def test_refresh_does_not_matter_and_draws_come_in_order():
    one, two = (measure(make(refresh=r)) for r in ("fixed", "each"))
    assert_array_equal(one.ratio, two.ratio)
    assert_array_equal(one.sharpness, two.sharpness)
    more = measure(make(), draws=3)
    assert_array_equal(more.ratio[:, :, :2], one.ratio)
    assert_array_equal(more.sharpness[:, :2], one.sharpness)


def test_rounding_is_told():
    case = CASES["mlp"]
    steps = (1e-7, 1e-2, 1.0)
    data = [(x.float(), y) for x, y in case.data()]
    single = measure(ls.Objective(case.model().float(), data), a=steps)
    double = measure(make("mlp", None), a=steps)
    assert single.drowned[..., 0].all()
    assert not single.drowned[..., 1:].any()
    assert not double.drowned.any()
    error = np.abs(single.ratio - double.ratio)
    assert (error <= single.rounding[:, None]).all()


def test_means_over_the_draws():
    found = measure(make(), draws=3)
    for i, loss in enumerate(found.loss):
        values = found.ratio[i, 1]
        assert_allclose([e.value for e in found.mean(loss, "random")], values.mean(0))
        error = values.std(0, ddof=1) / 3**0.5
        assert_allclose([e.standard_error for e in found.mean(loss, "random")], error)
    assert_allclose([e.value for e in found.mean_move("random")], found.input_move[1].mean(0))
    with pytest.raises(UsageError, match="unknown loss 'dirty'"):
        found.mean("dirty", "random")
    with pytest.raises(UsageError, match="unknown direction 'eigen'"):
        found.mean_move("eigen")


def test_refusals():
    with pytest.raises(UsageError, match="unknown direction 'eigen'"):
        measure(make(), directions=["eigen"])
    with pytest.raises(UsageError, match="at least one step"):
        measure(make(), a=())
    for steps in ((0.0, 1.0), (-1.0, 1.0), (0.1, math.inf), (math.nan,)):
        with pytest.raises(UsageError, match="steps must be positive and finite"):
            measure(make(), a=steps)
    for steps in ((1.0, 0.5), (0.5, 0.5)):
        with pytest.raises(UsageError, match="steps must grow"):
            measure(make(), a=steps)
    for name in ("draws", "ascent_steps"):
        with pytest.raises(UsageError, match=f"{name} must be at least 1, got 0"):
            measure(make(), **{name: 0})
    for radius in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="radius must be positive and finite"):
            measure(make(), radius=radius)
    flat = ls.Objective(Binary(torch.zeros(3, dtype=torch.float64)), flat_data())
    with pytest.raises(UsageError, match="the gradient is zero"):
        measure(flat, directions=["gradient"])
    assert not measure(flat, directions=["random"]).sharpness[:, 0].any()
    with pytest.raises(NumericalError, match="the clean loss or its gradient is not finite"):
        measure(ls.Objective(Binary(torch.full((3,), 1e308, dtype=torch.float64)), flat_data(1.0)))


def flat_data(value=0.0):
    x = torch.full((4, 3), value, dtype=torch.float64)
    return x, torch.tensor([0, 1, 0, 1])


# -- picture and command --------------------------------------------------------------------------


def test_picture():
    import matplotlib.pyplot as plt

    found = measure(make())
    ax = found.plot(direction="random")
    drawn = [line.get_ydata() for line in ax.lines]
    for loss in found.loss:
        mean = [e.value for e in found.mean(loss, "random")]
        assert any(np.array_equal(y, mean) for y in drawn)
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert names == ["clean loss", "perturbation held", "attack renewed"]
    plt.close(ax.figure)
    every = measure(make(), directions=["gradient", "adversarial", "random"])
    assert len(picture([every, found], ["one", "two"]).axes) == 8
    clean = measure(make(attack=None), draws=1)
    assert len(picture([clean]).axes) == 2
    # Nothing moves, and no zero breaks the logarithmic axis.
    still = measure(make(attack=ls.attack("fgsm", eps=0)))
    fig = picture([still])
    assert "no input moved" in [t.get_text() for t in fig.axes[2].texts]
    fig.savefig(io.BytesIO())


def test_command(checkpoint: Path, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["smoothness", str(checkpoint), "--n-examples", "30", "--points", "3"]
    command += ["--draws", "2", "--attack", "pgd-2"]
    assert run([*command, "--dry-run"]) == 0
    assert "up to 32 gradients of the loss" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert run([*command]) == 0
    out = capsys.readouterr().out
    saved = ls.load("tiny-smoothness-pgd-2.h5")
    for loss in saved.loss:
        for direction in ("gradient", "random"):
            for estimate in saved.mean(loss, direction):
                assert str(estimate) in out
    assert Path("tiny-smoothness-pgd-2.png").stat().st_size > 1000
    assert run([*command, "--range", "1e-7:1e-6", "--out", "tiny.h5", "--json"]) == 0
    said = capsys.readouterr()
    assert "no larger than their rounding error: add --dtype float64" in said.err
    body = json.loads(said.out)
    assert np.shape(body["ratio"]) == (3, 2, 2, 3)
    far = [*command[:-2], "--directions", "adversarial", "--out", "clean.h5"]
    assert run([*far, "--range", "1:2e38", "--radius", "2e38"]) == 0
    said = capsys.readouterr().err
    assert "ratios are not finite: lower --range" in said
    assert "the loss is not finite everywhere within 2e+38: lower --radius" in said
    assert ls.load("clean.h5").loss.tolist() == ["clean"]


def test_command_refuses(checkpoint: Path, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for extra, said in (
        (["--directions", "eigen"], "'eigen' is none of gradient, adversarial, random"),
        (["--range", "1"], "--range -1:1: steps are positive"),
        (["--range", "1:0.1"], "the smaller limit comes first"),
        (["--points", "1"], "1 is not in the range x>=2"),
        (["--radius", "0"], "radius must be positive and finite"),
        (["--eps", "0.1"], "--eps needs an attack"),
    ):
        assert run(["smoothness", str(checkpoint), "--n-examples", "20", *extra]) == 2
        assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
