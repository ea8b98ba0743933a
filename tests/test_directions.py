"""Kinds of directions against their definitions, and surfaces along them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import CASES, dense, joined
from numpy.testing import assert_allclose
from torch.testing import assert_close

import landscape as ls
from landscape import params as P
from landscape.directions import DIRECTIONS, Directions, make
from landscape.errors import CheckpointError, UsageError
from landscape.random import Streams

AWKWARD = ["mlp", "conv, batchnorm, dropout", "tied", "frozen"]


def objective(name="mlp", **options):
    case = CASES[name]
    return ls.Objective(case.model(), case.data(), **{"loss": case.loss, **options})


def shifted(o, seed, size=0.3):
    """Another network near θ."""
    return P.axpy(size, P.random_like(o.params, Streams(seed)), o.params)


def kind(name, o, count=2, seed=0, **options):
    return make(name, o, count, streams=Streams(seed), **options)


@pytest.mark.parametrize("name", [n for n in AWKWARD if n in CASES])
def test_eigenvectors(name):
    o = objective(name)
    found = kind("eigen", o)
    matrix = dense(CASES[name].model(), *joined(CASES[name].data())).hessian
    values = np.linalg.eigvalsh(matrix.numpy())[::-1]
    for value, vector in zip(values, found.vectors, strict=False):
        v = P.flatten(vector)
        assert_close(float(v.norm()), 1.0)
        assert_allclose(float(v @ matrix @ v), value, rtol=1e-3)
        assert float(v @ P.flatten(o.gradient())) >= 0


def test_gradient_is_steepest():
    o = objective()
    first, second = kind("gradient", o).vectors
    assert_allclose(P.norm(first), 1)
    assert_allclose(P.norm(second), 1)
    assert abs(P.dot(first, second)) < 1e-12
    step = 1e-6
    rise = (o.value(P.axpy(step, first, o.params)).loss - o.value().loss) / step
    assert_allclose(rise, P.norm(o.gradient()), rtol=1e-4)


def test_adversarial_direction_is_awps():
    o = objective("conv, batchnorm, dropout")
    first, second = kind("adversarial", o).vectors
    slope = o.gradient()
    for name, w in o.params.items():
        expected = slope[name] * (w.norm() / slope[name].norm()) if w.ndim > 1 else 0 * w
        assert_close(first[name], expected)
    assert_allclose(P.norm(second), P.norm(first))
    assert abs(P.dot(first, second)) < 1e-10 * P.norm(first) ** 2


def test_orthogonalised_random_directions_keep_their_length():
    o = objective()
    plain, turned = kind("random", o), kind("random", o, orthogonal=True)
    assert abs(P.dot(*turned.vectors)) < 1e-12
    assert_allclose(P.norm(turned.vectors[1]), P.norm(plain.vectors[1]))
    assert abs(P.dot(*plain.vectors)) > 1e-6


def test_between_passes_through_the_networks():
    o = objective()
    b, c = shifted(o, 1), shifted(o, 2)
    found = kind("between", o, others={"b": b, "c": c})
    assert found.marks["b"] == (1, 0)
    for name, other in (("b", b), ("c", c)):
        x, y = found.marks[name]
        there = P.axpy(y, found.vectors[1], P.axpy(x, found.vectors[0], o.params))
        for key in o.params:
            assert_close(there[key], other[key])
    assert abs(P.dot(*found.vectors)) < 1e-10
    assert_allclose(*map(P.norm, found.vectors))
    surface = ls.surface(o, "between", others={"b": b}, x=ls.Axis(0, 1, 3))
    assert_allclose(surface.loss[0, -1], o.value(b).loss, rtol=1e-10)
    assert_allclose(surface.loss[0, 0], o.value().loss, rtol=1e-12)
    assert surface.mark.tolist() == ["b"]


def test_trajectory_is_the_svd_of_the_path():
    o = objective()
    others = {str(i): shifted(o, i, 0.1 + i) for i in range(4)}
    found = kind("trajectory", o, others=others)
    rows = torch.stack([P.flatten(other) - P.flatten(o.params) for other in others.values()])
    _, s, vt = torch.linalg.svd(rows, full_matrices=False)
    for i, vector in enumerate(found.vectors):
        v = P.flatten(vector)
        assert_close(abs(float(v @ vt[i])), 1.0)
    assert_allclose(found.explained, (s[:2] ** 2 / (s**2).sum()).numpy())
    expected = rows @ torch.stack([P.flatten(v) for v in found.vectors]).T
    assert_allclose(found.path[:-1], expected.numpy(), atol=1e-10)
    assert found.path[-1] == (0, 0)
    surface = ls.surface(o, "trajectory", others=others, y=ls.Axis(-1, 1, 3))
    assert surface.x[0] < surface.path_x.min() < surface.path_x.max() < surface.x[-1]


@pytest.mark.parametrize("name", [k for k, v in DIRECTIONS.items() if not v.others])
def test_saved_directions_are_the_same_for_another_model(name, tmp_path):
    o = objective()
    found = kind(name, o)
    found.save(tmp_path / "d.pt")
    again = Directions.load(tmp_path / "d.pt").like(o.params)
    assert again.kind == name
    for a, b in zip(found.vectors, again.vectors, strict=True):
        assert P.digest(a) == P.digest(b)
    x, y = ls.Axis(-1, 1, 3), ls.Axis(-1, 1, 5)
    one, two = ls.surface(o, found, x=x, y=y), ls.surface(o, again, x=x, y=y)
    assert_allclose(one.loss, two.loss, rtol=0)


def test_refusals(tmp_path):
    o = objective()
    b = shifted(o, 1)
    with pytest.raises(UsageError, match=r"directions 'between' need one or two checkpoints"):
        kind("between", o)
    with pytest.raises(UsageError, match="1 other network"):
        kind("between", o, others={"b": b})
    with pytest.raises(UsageError, match="b has the same parameters"):
        kind("between", o, 1, others={"b": dict(o.params)})
    with pytest.raises(UsageError, match="the three networks lie on a line"):
        kind("between", o, others={"b": b, "c": P.axpy(0.5, P.axpy(-1, o.params, b), o.params)})
    with pytest.raises(UsageError, match="c is of another architecture: its"):
        kind("between", o, 1, others={"c": {}})
    with pytest.raises(UsageError, match="at least 2 checkpoints besides the last, got 1"):
        kind("trajectory", o, others={"b": b})
    with pytest.raises(UsageError, match="the checkpoints of the training are all the same"):
        kind("trajectory", o, others={"b": dict(o.params), "c": dict(o.params)})
    with pytest.raises(UsageError, match="moved along a line"):
        kind("trajectory", o, others={"b": b, "c": P.axpy(1, P.axpy(-1, o.params, b), b)})
    with pytest.raises(UsageError, match="the directions are of another architecture"):
        Directions("given", ({"odd": torch.ones(1)},)).like(o.params)
    torch.save({"x": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="holds no directions"):
        Directions.load(tmp_path / "other.pt")


def test_draws_are_the_lines_of_their_directions():
    o = objective()
    x = ls.Axis(-1, 1, 5)
    found = ls.surface(o, x=x, draws=3, seed=2)
    assert found.loss.shape == (3, 5)
    assert found.draws == 3
    vectors = make("random", o, 3, streams=Streams(2, "surface")).vectors
    for row, vector in zip(found.loss, vectors, strict=True):
        assert_allclose(row, ls.surface(o, [vector], x=x).loss[0], rtol=1e-12)
    with pytest.raises(UsageError, match="draws must be at least 2"):
        ls.surface(o, draws=1)
    with pytest.raises(UsageError, match="draws are of lines"):
        ls.surface(o, draws=2, y=x)
    with pytest.raises(UsageError, match="draws are of random directions"):
        ls.surface(o, "eigen", draws=2)


def test_clean_and_per_sample_losses_in_the_same_pass():
    attack = ls.attack("fgsm", eps=0.1)
    o = objective(attack=attack, refresh="each")
    x = ls.Axis(-1, 1, 3)
    found = ls.surface(o, x=x, clean=True, per_sample=True)
    assert_allclose(found.clean_loss, ls.surface(objective(), x=x).loss, rtol=1e-12)
    assert_allclose(found.sample_loss.mean(-1), found.loss, rtol=1e-10)
    assert found.sample_loss.shape == (1, 3, o.batches.samples)
    assert (found.loss >= found.clean_loss).all()
