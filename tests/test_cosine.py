"""Cosines of perturbations against linear models, slow loops, and what must hold by symmetry."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import CASES, dense, joined
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import landscape as ls
from landscape.cli import run
from landscape.diagnostics import Axis
from landscape.errors import UsageError
from landscape.plotting import picture
from landscape.random import Streams

PGD = ls.attack("pgd-3", eps=0.1)


def make(name="mlp", attack=PGD, **kwargs):
    case = CASES[name]
    return ls.Objective(case.model(), case.data(), case.loss, attack=attack, **kwargs)


class Binary(nn.Module):
    """Logits (0, w·x): the loss is log(1 + exp(∓w·x))."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w.clone())

    def forward(self, x):
        z = x @ self.w
        return torch.stack([torch.zeros_like(z), z], 1)


def linear(attack, n=40, d=12, seed=0):
    """Inputs away from the box, so that perturbations are those without one."""
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(d, generator=g, dtype=torch.float64)
    x = 0.3 + 0.4 * torch.rand(n, d, generator=g, dtype=torch.float64)
    y = torch.randint(2, (n,), generator=g)
    return ls.Objective(Binary(w), (x, y), attack=attack, batch_size=7), w, x, y


def random_direction(objective, draw, seed=0):
    """As documented: normal numbers of the stream of the draw, of unit length."""
    streams = Streams(seed, "cosine").child("direction", draw)
    d = torch.cat([streams.normal(n, tuple(p.shape)).flatten() for n, p in params(objective)])
    return (d / d.norm()).to(objective.dtype)


def params(objective):
    return [(n, p) for n, p in objective.model.named_parameters() if p.requires_grad]


def moved(objective, v, step):
    model = copy.deepcopy(objective.model).eval()
    flat = [p for p in model.parameters() if p.requires_grad]
    pieces = (step * v).split([p.numel() for p in flat])
    with torch.no_grad():
        for p, piece in zip(flat, pieces, strict=True):
            p += piece.view(p.shape)
    return model.requires_grad_(False)


# -- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_linear_model(norm):
    """δ = ∓ε·s(w): sign(w) in L∞ and w/‖w‖ in L2, whatever the sample."""
    fgsm = ls.attack("fgsm", eps=0.1, norm=norm)
    objective, w, x, y = linear(fgsm)
    axis = Axis(0, 3, 7)
    found = ls.perturbation_cosine(objective, directions=["random"], a=axis, draws=3)
    for k in range(3):
        v = random_direction(objective, k)
        for j, a in enumerate(axis.coordinates()):
            ends = [w + a * v, w - a * v]
            steepest = [e.sign() if norm == "linf" else e / e.norm() for e in ends]
            cosine = float(steepest[0] @ steepest[1] / steepest[0].norm() / steepest[1].norm())
            assert_allclose(found.cosine[0, k, j], cosine, rtol=1e-9, atol=1e-12)
            for i, (end, s) in enumerate(zip(ends, steepest, strict=True)):
                sign = torch.where(y == 1, -1.0, 1.0).double()
                z = (x + 0.1 * sign[:, None] * s) @ end
                assert found.robust_error[0, k, i, j] == float(
                    ((z > 0).long() != y).mean(dtype=float)
                )
    assert_allclose(found.sample_std, 0, atol=1e-7)
    assert not found.zero_share.any()


def test_pgd_reaches_the_corner_of_a_linear_model():
    """Long PGD ends in the corner of the ball from any start, so starts no longer matter."""
    objective, w, _, _ = linear(ls.attack("pgd-20", eps=0.05))
    axis = Axis(0, 2, 3)
    for starts in ("same", "independent"):
        found = ls.perturbation_cosine(
            objective, directions=["random"], a=axis, draws=1, starts=starts
        )
        v = random_direction(objective, 0)
        for j, a in enumerate(axis.coordinates()):
            expected = float(((w + a * v).sign() * (w - a * v).sign()).mean())
            assert_allclose(found.cosine[0, 0, j], expected, rtol=1e-9, atol=1e-12)


def test_top_eigenvector_is_that_of_the_dense_adversarial_hessian():
    fgsm = ls.attack("fgsm", eps=0.1, norm="l2")
    objective, w, x, y = linear(fgsm)
    sign = torch.where(y == 1, -1.0, 1.0).double()
    held = dense(objective.model, x + 0.1 * sign[:, None] * w / w.norm(), y)
    values, vectors = torch.linalg.eigh(held.hessian)
    v = vectors[:, -1] * (held.gradient @ vectors[:, -1]).sign()
    axis = Axis(0, 2, 3)
    found = ls.perturbation_cosine(objective, directions=["eigen"], a=axis, draws=1, tol=1e-9)
    assert_allclose(found.eigenvalue, float(values[-1]), rtol=1e-8)
    assert found.residual < 1e-8
    assert found.trustworthy
    for j, a in enumerate(axis.coordinates()):
        expected = torch.cosine_similarity(w + a * v, w - a * v, dim=0)
        assert_allclose(found.cosine[0, 0, j], float(expected), rtol=1e-6)
        # Oriented uphill: the error at +a is that of w + a·v.
        shifted = w + a * v
        z = (x + 0.1 * sign[:, None] * shifted / shifted.norm()) @ shifted
        assert found.robust_error[0, 0, 0, j] == float(((z > 0).long() != y).mean(dtype=float))


# -- slow loop ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conv, batchnorm, dropout", "tied", "frozen", "regression"])
@pytest.mark.parametrize("starts", ["same", "independent"])
def test_against_a_loop_over_copies_of_the_model(name, starts):
    objective = make(name, seed=4)
    axis = Axis(0, 0.5, 2)
    found = ls.perturbation_cosine(
        objective, directions=["random"], a=axis, draws=2, starts=starts, seed=6
    )
    assert found.attack_seed[0] == 4
    x, y = joined(CASES[name].data())
    for k, seed in enumerate(found.attack_seed.tolist()):
        v = random_direction(objective, k, seed=6)
        for j, a in enumerate(axis.coordinates()):
            deltas = []
            for end, step in enumerate((a, -a)):
                other = end == 1 and starts == "independent"
                own = Streams(4, "draws").derived_seed("other end", k) if other else seed
                model, streams = moved(objective, v, step), Streams(own, "attack")
                loss = objective._loss
                adversarial = PGD.perturb(model, x, y, streams=streams, loss=loss)
                deltas.append((adversarial - x).flatten(1))
                if name == "regression":
                    assert found.robust_error is None
                else:
                    wrong = (model(adversarial).argmax(1) != y).double().mean()
                    assert found.robust_error[0, k, end, j] == float(wrong)
            each = [float(p @ q / p.norm() / q.norm()) for p, q in zip(*deltas, strict=True)]
            assert_allclose(found.cosine[0, k, j], np.mean(each), rtol=1e-9)
            assert_allclose(found.sample_std[0, k, j], np.std(each), rtol=1e-6, atol=1e-9)


# -- what must hold -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exactly_one_at_zero_and_even_in_a(dtype):
    case = CASES["conv, batchnorm, dropout"]
    data = [(x.to(dtype), y) for x, y in case.data()]
    objective = ls.Objective(case.model().to(dtype), data, attack=PGD)
    found = ls.perturbation_cosine(objective, a=Axis(-0.6, 0.6, 5), draws=2)
    assert found.a[2] == 0
    assert_array_equal(found.cosine[..., 2], 1.0)
    assert_array_equal(found.sample_std[..., 2], 0.0)
    assert_array_equal(found.cosine, found.cosine[..., ::-1])
    assert_array_equal(found.robust_error, found.robust_error[:, :, ::-1, ::-1])
    assert (np.abs(found.cosine) <= 1 + 1e-12).all()
    assert (found.cosine[..., 0] < 1).all()


def test_independent_starts_begin_below_one():
    short = ls.attack("pgd-2", eps=0.1, step_size=0.02)
    found = ls.perturbation_cosine(
        make(attack=short), directions=["random"], a=Axis(0, 0.1, 2), draws=2, starts="independent"
    )
    assert (found.cosine[..., 0] < 0.9).all()


def test_refresh_does_not_matter():
    one, two = (ls.perturbation_cosine(make(refresh=r), draws=1) for r in ("fixed", "each"))
    assert_array_equal(one.cosine, two.cosine)
    assert_array_equal(one.robust_error, two.robust_error)


class HalfDead(nn.Module):
    """Loss that depends on x only where its first entry exceeds a half."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, -0.5, 0.25], dtype=torch.float64))

    def forward(self, x):
        z = torch.where(x[:, 0] > 0.5, x @ self.w, 0 * self.w.sum())
        return torch.stack([torch.zeros_like(z), z], 1)


def test_zero_perturbations_are_left_out_and_counted():
    x = torch.tensor([[0.9, 0.4, 0.5], [0.1, 0.4, 0.5], [0.8, 0.3, 0.2], [0.2, 0.6, 0.3]])
    y = torch.tensor([0, 1, 1, 0])
    objective = ls.Objective(
        HalfDead(), (x.double(), y), attack=ls.attack("fgsm", eps=0.05), batch_size=3
    )
    found = ls.perturbation_cosine(objective, directions=["random"], a=Axis(0, 0.1, 2), draws=2)
    assert_array_equal(found.zero_share, 0.5)
    assert_array_equal(found.cosine[..., 0], 1.0)
    assert np.isfinite(found.cosine).all()


def test_without_an_attack_nothing_is_defined():
    found = ls.perturbation_cosine(make(attack=None), a=Axis(0, 1, 2), draws=1)
    assert np.isnan(found.cosine).all()
    assert np.isnan(found.sample_std).all()
    assert_array_equal(found.zero_share, 1.0)
    clean = make(attack=None).value().accuracy
    assert_allclose(1 - found.robust_error[..., 0], clean)
    assert math.isnan(found.mean("eigen")[0].value)
    assert picture([found]).axes


def test_near_follows_the_floor():
    objective, *_ = linear(ls.attack("fgsm", eps=0.01))
    accuracy = objective.value().accuracy
    for floor in (0.0, accuracy, 1.0):
        found = ls.perturbation_cosine(objective, a=Axis(0, 5, 3), draws=2, floor=floor)
        reached = (1 - found.robust_error.mean(1)).min(1) >= floor - 1e-12
        assert_array_equal(found.near, reached)
        assert found.near[:, 0].all() == (floor <= accuracy)


def test_means_over_the_draws():
    found = ls.perturbation_cosine(make(), a=Axis(0, 1, 3), draws=3)
    for i, direction in enumerate(("eigen", "random")):
        values = found.cosine[i]
        assert_allclose([e.value for e in found.mean(direction)], values.mean(0))
        error = values.std(0, ddof=1) / 3**0.5
        assert_allclose([e.standard_error for e in found.mean(direction)], error, atol=1e-15)
        assert_allclose(found.mean_error(direction), found.robust_error[i].mean(0))
    with pytest.raises(UsageError, match="unknown direction 'top'"):
        found.mean("top")
    # Draws come one after the other: more of them leave the first ones as they are.
    fewer = ls.perturbation_cosine(make(), a=Axis(0, 1, 3), draws=2)
    assert_array_equal(fewer.cosine, found.cosine[:, :2])


def test_refusals():
    for directions in ([], "eigen", ()):
        with pytest.raises(UsageError, match="give a list of directions, among eigen, random"):
            ls.perturbation_cosine(make(), directions=directions)
    with pytest.raises(UsageError, match="unknown direction 'top'"):
        ls.perturbation_cosine(make(), directions=["top"])
    with pytest.raises(UsageError, match="directions repeat: eigen, eigen"):
        ls.perturbation_cosine(make(), directions=["eigen", "eigen"])
    with pytest.raises(UsageError, match="draws must be at least 1, got 0"):
        ls.perturbation_cosine(make(), draws=0)
    with pytest.raises(UsageError, match="unknown choice of starts 'other'"):
        ls.perturbation_cosine(make(), starts="other")
    for floor in (-0.1, 70, math.nan):
        with pytest.raises(UsageError, match=r"floor is an accuracy in 0\.\.1"):
            ls.perturbation_cosine(make(), floor=floor)
    regression = ls.perturbation_cosine(
        make("regression"), directions=["random"], a=Axis(0, 1, 2), draws=1
    )
    with pytest.raises(UsageError, match="there is no robust error"):
        regression.mean_error("random")
    assert regression.near.all()
    assert picture([regression]).axes


# -- picture and command --------------------------------------------------------------------------


def test_picture():
    import matplotlib.pyplot as plt

    found = ls.perturbation_cosine(make(), a=Axis(0, 2, 4), draws=2, floor=0.0)
    ax = found.plot()
    drawn = [line.get_ydata() for line in ax.lines]
    for direction in ("eigen", "random"):
        mean = [e.value for e in found.mean(direction)]
        assert any(np.array_equal(y, mean) for y in drawn)
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["eigen", "random"]
    plt.close(ax.figure)
    far = ls.perturbation_cosine(make(), a=Axis(0, 2, 4), draws=2, floor=1.0)
    left, right = picture([found, far], ["one", "two"]).axes
    labels = [t.get_text() for t in left.get_legend().get_texts()]
    assert labels[:2] == ["one, eigen", "one, random"]
    assert labels[-1] == "robust accuracy below 100 %"
    assert right.get_ylabel() == "robust error (%)"


def test_command(checkpoint: Path, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["cosine", str(checkpoint), "--n-examples", "30", "--points", "3", "--draws", "2"]
    assert run([*command, "--dry-run"]) == 0
    assert "up to 24 attacks of all the data" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert run([*command, "--floor", "1"]) == 0
    said = capsys.readouterr()
    saved = ls.load("tiny-cosine-pgd-10.h5")
    for direction in ("eigen", "random"):
        for estimate in saved.mean(direction):
            assert str(estimate) in said.out
    assert "below the floor of 100 %" in said.err
    assert Path("tiny-cosine-pgd-10.png").stat().st_size > 1000
    assert run(["plot", "tiny-cosine-pgd-10.h5", "--out", "again"]) == 0
    capsys.readouterr()
    assert run([*command, "--attack", "fgsm", "--directions", "random", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["direction"] == ["random"]
    assert body["eigenvalue"] is None
    assert np.shape(body["cosine"]) == (1, 2, 3)
    assert body["provenance"]["objective"]["attack"]["steps"] == 1
    assert run([*command, "--eps", "0", "--out", "zero.h5"]) == 0
    said = capsys.readouterr()
    assert "12 of 12 points have no sample with a perturbation" in said.err
    assert "nan" not in said.out


def test_command_refuses(checkpoint: Path, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for extra, said in (
        (["--directions", "top"], "'top' is none of eigen, random"),
        (["--directions", "eigen,eigen"], "names one of them twice"),
        (["--floor", "70"], "--floor is an accuracy in 0..1, got 70"),
        (["--range", "1:0"], "the range of an axis must grow"),
        (["--range", "x"], "is not a range"),
        (["--points", "1"], "1 is not in the range x>=2"),
        (["--attack", "none"], "unknown attack 'none'"),
    ):
        assert run(["cosine", str(checkpoint), *extra]) == 2
        assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
