"""Algebra on parameter dictionaries against slow loops, and the random streams under it."""

from __future__ import annotations

import pytest
import torch
from cases import CASES, mlp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch import nn
from torch.testing import assert_close

from landscape import params as P
from landscape.directions import random as random_directions
from landscape.errors import UsageError
from landscape.random import Streams


@pytest.fixture
def weights():
    return P.trainable(CASES["conv, batchnorm, dropout"].model())


@pytest.fixture
def direction(weights):
    return P.random_like(weights, Streams(0))


def norm(values):
    return sum(float(v) ** 2 for v in values.flatten()) ** 0.5


@pytest.mark.parametrize("how", P.NORMALISATIONS)
@pytest.mark.parametrize("one_d", P.ONE_D)
def test_normalisation_against_slow_loops(weights, direction, how, one_d):
    found = P.normalise(direction, weights, how, one_d)
    assert list(found) == list(weights)
    for name, w in weights.items():
        d = direction[name]
        if w.ndim == 1 and one_d == "ignore":
            wanted = torch.zeros_like(d)
        elif w.ndim == 1 and one_d == "same":
            wanted = w
        elif how == "none":
            wanted = d
        elif how == "weight":
            wanted = d * w.abs()
        elif how == "layer" or w.ndim == 1:
            wanted = d * norm(w) / norm(d) if norm(w) else torch.zeros_like(d)
        else:
            wanted = torch.stack([d[i] * norm(w[i]) / norm(d[i]) for i in range(len(d))])
        assert_close(found[name], wanted, rtol=1e-10, atol=1e-14)
        assert found[name].data_ptr() not in (w.data_ptr(), d.data_ptr())


def test_default_normalisation_is_filters_with_one_d_ignored(weights, direction):
    found = P.normalise(direction, weights)
    filters = found["conv2.weight"].flatten(1).norm(dim=1)
    assert_close(filters, weights["conv2.weight"].flatten(1).norm(dim=1))
    assert float(found["bn1.weight"].abs().max()) == 0


def test_normalising_zero_filters_gives_zeros():
    w = {"w": torch.tensor([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]])}
    d = {"w": torch.tensor([[0.0, 2.0], [1.0, 1.0], [0.0, 0.0]])}
    expected = torch.tensor([[0.0, 5.0], [0.0, 0.0], [0.0, 0.0]])
    assert_close(P.normalise(d, w)["w"], expected)


def test_normalisation_errors(weights, direction):
    with pytest.raises(UsageError, match="unknown normalisation 'filters': did you mean 'filter'"):
        P.normalise(direction, weights, "filters")
    with pytest.raises(UsageError, match="unknown treatment of 1-D parameters 'drop'"):
        P.normalise(direction, weights, one_d="drop")
    del direction["bn1.bias"]
    with pytest.raises(UsageError, match=r"differ in their names: bn1\.bias"):
        P.normalise(direction, weights)


def test_flatten_round_trip_and_order(weights):
    vector = P.flatten(weights)
    assert vector.shape == (P.size(weights),)
    back = P.unflatten(vector, weights)
    for name, w in weights.items():
        assert torch.equal(back[name], w)
    assert torch.equal(vector[:27], weights["conv1.weight"].flatten())
    with pytest.raises(UsageError, match=r"expected a vector of 207 entries, got shape \(206,\)"):
        P.unflatten(vector[1:], weights)


def test_algebra(weights, direction):
    a, b = P.flatten(weights), P.flatten(direction)
    assert_allclose(P.dot(weights, direction), float(a @ b), rtol=1e-12)
    assert_allclose(P.norm(weights), float(a.norm()), rtol=1e-12)
    assert_close(P.flatten(P.axpy(0.3, direction, weights)), a + 0.3 * b)
    assert_close(P.flatten(P.scale(-2, weights)), -2 * a)
    assert float(P.flatten(P.zeros_like(weights)).abs().max()) == 0


def test_dot_accumulates_in_float64():
    values = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    exact = float((values.double() ** 2).sum())
    assert_allclose(P.dot({"a": values}, {"a": values}), exact, rtol=1e-13)
    for size in (1e-30, 1e30):
        assert_allclose(P.norm({"a": torch.full((4,), size)}), 2 * size, rtol=1e-6)


def test_axpy_of_part_of_the_parameters(weights, direction):
    part = {"head.weight": direction["head.weight"]}
    moved = P.axpy(2.0, part, weights)
    assert moved["conv1.weight"] is weights["conv1.weight"]
    assert_close(moved["head.weight"], weights["head.weight"] + 2 * part["head.weight"])
    with pytest.raises(UsageError, match="the direction has entries the point lacks: nothing"):
        P.axpy(1.0, {"nothing": torch.zeros(1)}, weights)
    with pytest.raises(UsageError, match=r"shape of 'head.bias': \(1,\) and \(3,\)"):
        P.axpy(1.0, {"head.bias": torch.zeros(1)}, weights)


def test_trainable_parameters_once_each():
    tied = P.trainable(CASES["tied"].model())
    assert list(tied) == ["first.weight", "first.bias", "second.bias", "head.weight", "head.bias"]
    assert list(P.trainable(CASES["frozen"].model())) == ["2.weight", "4.weight", "4.bias"]
    model = mlp(4)
    shared = P.trainable(model)
    assert shared["0.weight"].data_ptr() == model[0].weight.data_ptr()
    assert not shared["0.weight"].requires_grad


def test_select(weights):
    assert list(P.select(weights, "conv?.weight")) == ["conv1.weight", "conv2.weight"]
    assert list(P.select(weights, ["head.*", "bn1.bias"])) == [
        "bn1.bias",
        "head.weight",
        "head.bias",
    ]
    with pytest.raises(UsageError, match=r"unknown parameter pattern 'haed\.\*'.*Known: bn1.bias"):
        P.select(weights, ["head.*", "haed.*"])


def test_digest_sees_names_shapes_types_and_bits():
    a = {"a": torch.arange(6.0)}
    flipped = torch.arange(6.0)
    flipped[5] = 5.0000005  # the next float32
    others = [
        a,
        {"b": torch.arange(6.0)},
        {"a": torch.arange(6.0).reshape(2, 3)},
        {"a": torch.arange(6.0).double()},
        {"a": flipped},
    ]
    assert len({P.digest(x) for x in others}) == len(others)
    strided = {"a": torch.stack([torch.arange(6.0)] * 2, 1)[:, 0]}
    assert P.digest(strided) == P.digest(a)
    assert len(P.digest({"a": torch.ones(3, dtype=torch.bfloat16), "n": torch.tensor(3)})) == 64


# -- streams --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    kind=st.sampled_from(["uniform", "normal"]),
    width=st.integers(1, 5),
)
def test_draws_do_not_depend_on_how_they_are_split(sizes, kind, width):
    whole = getattr(Streams(3), kind)("a", (sum(sizes), width))
    split = Streams(3)
    pieces = [getattr(split, kind)("a", (size, width)) for size in sizes]
    assert torch.equal(torch.cat(pieces), whole)


def test_streams_are_independent_by_name_and_seed():
    draws = {
        key: tuple(streams.uniform("x", (4,)).tolist())
        for key, streams in {
            "root": Streams(0),
            "seed": Streams(1),
            "child": Streams(0).child("a"),
            "grandchild": Streams(0).child("a", 1),
            "path": Streams(0, "b"),
        }.items()
    }
    assert len(set(draws.values())) == len(draws)
    a = Streams(0)
    a.child("other").uniform("x", (100,))
    a.uniform("y", (100,))
    assert tuple(a.uniform("x", (4,)).tolist()) == draws["root"]
    assert tuple(a.uniform("x", (4,)).tolist()) != draws["root"]


def test_streams_leave_the_global_state_alone():
    before = torch.get_rng_state()
    Streams(0).normal("a", (50,))
    assert torch.equal(torch.get_rng_state(), before)


def test_normal_numbers_are_normal():
    draws = Streams(0).normal("a", (20_000,))
    assert bool(draws.isfinite().all())
    moments = [float((draws**k).mean()) for k in (1, 2, 3, 4)]
    assert_allclose(moments, [0, 1, 0, 3], atol=0.15)
    assert_allclose(moments[:2], [0, 1], atol=0.03)
    below = float((draws < 1.0).double().mean())
    assert_allclose(below, 0.8413, atol=0.01)


def test_random_directions_are_the_same_in_every_precision():
    model = nn.Linear(5, 4)
    single = P.random_like(P.trainable(model), Streams(0))
    double = P.random_like(P.trainable(model.double()), Streams(0))
    for name, d in double.items():
        assert torch.equal(d.float(), single[name])


def test_directions_do_not_depend_on_their_count(weights):
    one = random_directions(weights, 1, streams=Streams(0))
    two = random_directions(weights, 2, streams=Streams(0))
    assert torch.equal(P.flatten(one[0]), P.flatten(two[0]))
    cosine = P.dot(two[0], two[1]) / P.norm(two[0]) / P.norm(two[1])
    assert abs(cosine) < 0.5
