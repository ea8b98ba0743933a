"""Surfaces of functions known in closed form, on grids that are not square."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CASES
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import landscape as ls
from landscape import params as P
from landscape.attacks import Attack, Ball
from landscape.errors import NumericalError, UsageError

X, Y = ls.Axis(-1.0, 1.0, 41), ls.Axis(-0.5, 2.0, 21)
SMALL = {"x": ls.Axis(-1, 1, 5), "y": ls.Axis(0, 1, 3)}


def quadratic():
    """L(θ) = mean (x·θ − t)², with two directions along which its curvatures differ."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(11, 4, generator=generator, dtype=torch.float64)
    t = torch.randn(11, generator=generator, dtype=torch.float64)
    model = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.3, -1.0, 0.5, 2.0]]))
    batches = list(zip(x.split([5, 4, 2]), t.split([5, 4, 2]), strict=True))
    d1 = {"weight": torch.tensor([[1.0, 0.2, -0.4, 0.0]], dtype=torch.float64)}
    d2 = {"weight": torch.tensor([[0.0, -3.0, 0.1, 0.7]], dtype=torch.float64)}
    return ls.Objective(model, batches, "mse"), (d1, d2), (x, t)


def expected_loss(x, t, theta):
    return float(((x @ theta - t) ** 2).mean())


def test_quadratic_cell_by_cell_on_a_grid_that_is_not_square():
    objective, directions, (x, t) = quadratic()
    found = ls.surface(objective, directions, x=X, y=Y)
    assert found.loss.shape == found.done.shape == (21, 41)
    assert_allclose(found.x, np.linspace(-1, 1, 41), atol=1e-12)
    assert_allclose(found.y, np.linspace(-0.5, 2, 21), atol=1e-12)
    theta, (d1, d2) = objective.params["weight"][0], [d["weight"][0] for d in directions]
    for j, b in enumerate(np.linspace(-0.5, 2, 21)):
        for i, a in enumerate(np.linspace(-1, 1, 41)):
            assert_allclose(
                found.loss[j, i], expected_loss(x, t, theta + a * d1 + b * d2), rtol=1e-10
            )
    assert found.complete
    assert found.accuracy is None
    assert_allclose(found.direction_norms, [1.2**0.5, 9.5**0.5], rtol=1e-12)


def test_swapping_the_directions_transposes():
    objective, (d1, d2), _ = quadratic()
    a = ls.surface(objective, (d1, d2), **SMALL)
    b = ls.surface(objective, (d2, d1), x=SMALL["y"], y=SMALL["x"])
    assert_allclose(a.loss, b.loss.T, rtol=1e-12)
    with pytest.raises(UsageError, match="dimension 'y' has length 3 in y and 5 in loss"):
        dataclasses.replace(a, loss=a.loss.T)


def test_line():
    objective, (d1, _), (x, t) = quadratic()
    found = ls.surface(objective, [d1], x=ls.Axis(-2, 1, 7))
    assert found.loss.shape == (1, 7)
    assert found.y.tolist() == [0]
    theta = objective.params["weight"][0]
    for value, a in zip(found.loss[0], np.linspace(-2, 1, 7), strict=True):
        assert_allclose(value, expected_loss(x, t, theta + a * d1["weight"][0]), rtol=1e-10)


def test_random_line_is_the_middle_row_of_the_random_plane():
    case = CASES["mlp"]
    objective = ls.Objective(case.model(), case.data())
    line = ls.surface(objective, x=ls.Axis(-1, 1, 5), seed=4)
    plane = ls.surface(objective, x=ls.Axis(-1, 1, 5), y=ls.Axis(-1, 1, 3), seed=4)
    assert_array_equal(line.loss[0], plane.loss[1])
    assert len(line.direction_norms) == 1
    # Filter normalisation with biases left out: a step is as long as the weights.
    weights = {n: p for n, p in objective.params.items() if p.ndim > 1}
    assert_allclose(plane.direction_norms, P.norm(weights), rtol=1e-12)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_adversarial_logistic_cell_by_cell(norm, dual):
    generator = torch.Generator().manual_seed(1)
    x = 0.3 + 0.4 * torch.rand(9, 5, generator=generator, dtype=torch.float64)
    y = torch.arange(9) % 2
    model = nn.Linear(5, 2).double()
    eps = 0.1
    attack = ls.attack("fgsm", eps=eps, norm=norm)
    draw = ls.random.Streams(0)
    centre = P.trainable(model)
    d1, d2 = P.random_like(centre, draw.child(1)), P.random_like(centre, draw.child(2))
    each = ls.Objective(model, (x, y), attack=attack, refresh="each", batch_size=4)
    held = ls.Objective(model, (x, y), attack=attack, refresh="fixed", batch_size=4)
    surface = ls.surface(each, (d1, d2), **SMALL)
    fixed = ls.surface(held, (d1, d2), **SMALL)
    unit = {"linf": torch.sign, "l2": lambda v: v / v.norm()}[norm]
    sign = (2 * y - 1).double()
    w0 = centre["weight"][1] - centre["weight"][0]
    for j, b in enumerate(np.linspace(0, 1, 3)):
        for i, a in enumerate(np.linspace(-1, 1, 5)):
            weight = centre["weight"] + a * d1["weight"] + b * d2["weight"]
            bias = centre["bias"] + a * d1["bias"] + b * d2["bias"]
            w, c = weight[1] - weight[0], bias[1] - bias[0]
            margin = sign * (x @ w + c)
            worst = F.softplus(-(margin - eps * torch.linalg.vector_norm(w, dual))).mean()
            assert_allclose(surface.loss[j, i], float(worst), rtol=1e-10)
            wrong = float((margin <= eps * torch.linalg.vector_norm(w, dual)).double().mean())
            assert_allclose(surface.accuracy[j, i], 1 - wrong, atol=1e-12)
            moved = x - eps * sign[:, None] * unit(w0)
            kept = F.softplus(-sign * (moved @ w + c)).mean()
            assert_allclose(fixed.loss[j, i], float(kept), rtol=1e-10)
    assert np.abs(surface.loss - fixed.loss).max() > 1e-3
    assert surface.provenance.objective["perturbation"] == "each"
    assert fixed.provenance.objective["perturbation"] == "fixed"


@pytest.mark.parametrize("refresh", ["fixed", "each"])
@pytest.mark.parametrize("shape", ["line", "plane"])
def test_resumed_equals_uninterrupted_bit_for_bit(refresh, shape, tmp_path):
    case = CASES["conv, batchnorm, dropout"]
    grid = SMALL if shape == "plane" else {"x": SMALL["x"]}

    def objective():
        attack = ls.attack("pgd-2", eps=0.1)
        return ls.Objective(case.model(), case.data(), attack=attack, refresh=refresh)

    whole = ls.surface(objective(), **grid)
    saved = []

    def stop(partial):
        saved.append(partial.save(tmp_path / f"{len(saved)}.h5"))
        if len(saved) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ls.surface(objective(), **grid, save=stop)
    partial = ls.load(saved[-1])
    assert int(partial.done.sum()) == (10 if shape == "plane" else 2)
    assert not partial.complete
    assert_array_equal(np.isnan(partial.loss), ~partial.done)

    evaluated = []
    resumed = ls.surface(
        objective(), **grid, resume=partial, progress=lambda d, t: evaluated.append((d, t))
    )
    total = whole.done.size
    assert evaluated == [(d, total) for d in range(int(partial.done.sum()) + 1, total + 1)]
    for field in whole.fields():
        assert_array_equal(getattr(resumed, field.name), getattr(whole, field.name))
    assert resumed.provenance.settings == whole.provenance.settings
    assert resumed.provenance.wall_time >= partial.provenance.wall_time
    again = ls.surface(objective(), **grid, resume=resumed, progress=evaluated.append)
    assert_array_equal(again.loss, whole.loss)
    assert len(evaluated) == total - int(partial.done.sum())


def test_resuming_with_other_settings_is_refused():
    case = CASES["mlp"]

    def start(resume=None, attack=None, data=None, **changes):
        objective = ls.Objective(case.model(), data or case.data(), attack=attack)
        return ls.surface(objective, **{**SMALL, **changes}, resume=resume)

    partial = start()
    other = {
        r"settings\.x differ": {"x": ls.Axis(-1, 1, 6)},
        r"settings\.y differ": {"y": ls.Axis(0, 1.5, 3)},
        r"direction_digests, settings\.normalisation differ": {"normalisation": "layer"},
        r"direction_digests, settings\.one_d differ": {"one_d": "same"},
        r"direction_digests, seed differ": {"seed": 1},
        r"objective\.attack, .*objective\.perturbation": {"attack": ls.attack("fgsm", eps=0.1)},
        r"objective\.data differ": {"data": case.data((7, 5, 1, 3))},
    }
    for message, changes in other.items():
        with pytest.raises(UsageError, match=message):
            start(partial, **changes)
    assert_array_equal(start(partial).loss, partial.loss)


@pytest.mark.filterwarnings("ignore:overflow")
def test_overflow_is_recorded_as_nan_and_done(tmp_path):
    model = nn.Linear(2, 1, bias=False)
    data = (torch.ones(4, 2), torch.zeros(4))
    direction = {"weight": torch.full((1, 2), 1e25)}
    found = ls.surface(ls.Objective(model, data, "mse"), [direction], x=ls.Axis(-1, 1, 3))
    assert np.isnan(found.loss[0]).tolist() == [True, False, True]
    assert found.done.all()
    assert found.complete
    assert found.loss[0, 1] == found.centre_loss
    assert ls.load(found.save(tmp_path / "s.h5")) == found


def test_no_surface_around_a_loss_that_is_not_finite():
    model = nn.Linear(2, 1, bias=False)
    data = (torch.full((4, 2), 1e30), torch.zeros(4))
    with pytest.raises(NumericalError, match="loss at the model's own parameters is inf"):
        ls.surface(ls.Objective(model, data, "mse"))


def test_centre_check():
    objective, directions, (x, t) = quadratic()
    found = ls.surface(objective, directions, x=ls.Axis(-0.3, 0.6, 10), y=ls.Axis(-1, 1, 3))
    assert 0.0 in found.x  # exactly, although linspace gives 5e-17
    assert found.centre_error == 0
    assert found.consistent
    assert_allclose(
        found.centre_loss, expected_loss(x, t, objective.params["weight"][0]), rtol=1e-12
    )
    off = ls.surface(objective, directions, x=ls.Axis(0.1, 1, 3), y=ls.Axis(-1, 1, 3))
    assert off.centre_error is None
    assert off.consistent
    assert not dataclasses.replace(found, centre_error=0.1).consistent


def test_directions_that_cannot_be_drawn():
    objective, (d1, d2), _ = quadratic()
    zero = P.zeros_like(d1)
    with pytest.raises(UsageError, match="direction 2 is zero or not finite"):
        ls.surface(objective, (d1, zero), **SMALL)
    with pytest.raises(UsageError, match="direction 1 is zero or not finite"):
        ls.surface(objective, [{"weight": d1["weight"] * float("nan")}])
    with pytest.raises(UsageError, match="direction 2 is zero or not finite"):
        ls.surface(objective, (d1, {"weight": torch.full((1, 4), float("inf"))}), **SMALL)
    with pytest.raises(UsageError, match="got 3 directions: give one for a line"):
        ls.surface(objective, (d1, d2, d1), **SMALL)
    with pytest.raises(UsageError, match="got 1 directions"):
        ls.surface(objective, [d1], **SMALL)
    with pytest.raises(UsageError, match="got 0 directions"):
        ls.surface(objective, [])
    with pytest.raises(UsageError, match="unknown kind of directions 'randm'"):
        ls.surface(objective, "randm")
    with pytest.raises(UsageError, match=r"shape of 'weight': \(1, 1\) and \(1, 4\)"):
        ls.surface(objective, [{"weight": torch.ones(1, 1, dtype=torch.float64)}])
    with pytest.raises(UsageError, match="entries the point lacks: bias"):
        ls.surface(objective, [{**d1, "bias": torch.ones(1)}])


def test_axes():
    assert ls.Axis(0, 1, 2).coordinates().tolist() == [0, 1]
    assert ls.Axis().points == 51
    with pytest.raises(UsageError, match=r"must grow, got 1:-1: write the smaller limit first"):
        ls.Axis(1, -1)
    with pytest.raises(UsageError, match="must grow, got 1:1"):
        ls.Axis(1, 1)
    with pytest.raises(UsageError, match="at least 2 points, got 1"):
        ls.Axis(-1, 1, 1)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match="range of an axis must be finite"):
            ls.Axis(-1, bad)


@pytest.mark.parametrize(
    "attack", [None, Attack(Ball("linf", 0.2), steps=2, step_size=0.1)], ids=["clean", "pgd"]
)
@pytest.mark.parametrize("refresh", ["fixed", "each"])
@pytest.mark.parametrize("name", ["conv, batchnorm, dropout", "tied", "frozen"])
def test_in_place_gives_the_same_numbers_and_the_same_model(name, refresh, attack):
    case = CASES[name]
    model = case.model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    options = {
        "x": ls.Axis(-1, 1, 5),
        "y": ls.Axis(-1, 0.5, 4),
        "clean": attack is not None,
        "per_sample": True,
    }
    o = ls.Objective(model, case.data(), case.loss, attack, refresh)
    moved = ls.surface(o, in_place=True, **options)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(p.grad is None for p in model.parameters())
    plain = ls.surface(
        ls.Objective(case.model(), case.data(), case.loss, attack, refresh), **options
    )
    for field in ("loss", "accuracy", "clean_loss", "sample_loss"):
        np.testing.assert_array_equal(getattr(moved, field), getattr(plain, field))
    assert moved.centre_loss == plain.centre_loss


def test_in_place_puts_back_after_an_error():
    case = CASES["mlp"]
    model = case.model()
    before = {k: v.clone() for k, v in model.state_dict().items()}

    def stop(done, total):
        raise KeyboardInterrupt

    o = ls.Objective(model, case.data())
    theta = {k: p.clone() for k, p in o.params.items()}
    with o.moved(theta, [(2.0, theta)]):
        torch.testing.assert_close(
            dict(model.named_parameters()), {k: 3 * p for k, p in theta.items()}
        )
    with pytest.raises(KeyboardInterrupt):
        ls.surface(o, in_place=True, x=ls.Axis(-1, 1, 3), progress=stop)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
