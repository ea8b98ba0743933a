"""What every diagnostic and every attack must do, driven by the tables that name them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray
from cases import CASES, joined
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

import landscape as ls
from landscape.attacks import ATTACKS, NORMS, Attack, Ball
from landscape.diagnostics import DIAGNOSTICS
from landscape.errors import DataError, NumericalError, OutputError, UsageError
from landscape.random import Streams

NET = CASES["conv, batchnorm, dropout"]
DIAGNOSTIC = pytest.mark.parametrize("name", DIAGNOSTICS)

# What depends on rounding and not on the answer: how far an iteration got, and how fast.
UNCOMPARED = {"residuals", "products", "centre_error"}


def run(name, objective, **changes):
    entry = DIAGNOSTICS[name]
    return entry.function(objective, **{**entry.quick, **changes})


def make(data=None, **kwargs):
    kwargs = {"attack": ls.attack("pgd-2", eps=0.1), "refresh": "each", **kwargs}
    return ls.Objective(NET.model(), NET.data() if data is None else data, NET.loss, **kwargs)


def snapshot(model):
    """All that a diagnostic must leave alone."""
    return {
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "identities": [id(p) for p in [*model.parameters(), *model.buffers()]],
        "versions": [p._version for p in [*model.parameters(), *model.buffers()]],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "grad ids": [id(p.grad) for p in model.parameters()],
        "flags": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "torch": torch.get_rng_state(),
        "numpy": repr(np.random.get_state(legacy=False)),  # noqa: NPY002
        "python": random.getstate(),
        "grad enabled": torch.is_grad_enabled(),
    }


def assert_untouched(model, before):
    after = snapshot(model)
    for name, tensor in before.pop("state").items():
        assert torch.equal(after["state"][name], tensor), name
    for now, then in zip(after["grads"], before.pop("grads"), strict=True):
        assert (now is None) == (then is None)
        assert now is None or torch.equal(now, then)
    assert torch.equal(after["torch"], before.pop("torch"))
    for key, value in before.items():
        assert after[key] == value, key


def awkward_model():
    """Train mode, mixed flags, one frozen parameter, gradients set on some."""
    model = NET.model().train()
    model.bn2.eval()
    model.conv1.bias.requires_grad_(False)
    for p in list(model.parameters())[:4]:
        p.grad = torch.full_like(p, 7.0)
    return model


# -- diagnostics ----------------------------------------------------------------------------------


@DIAGNOSTIC
def test_batching_leaves_the_answer_unchanged(name):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(165, *NET.shape, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (165,), generator=generator)
    a, b = (run(name, make((x, y), batch_size=size)) for size in (128, 37))
    for field in a.fields():
        if field.name in UNCOMPARED:
            continue
        one, two = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, ls.Estimate):
            one, two = dataclasses.astuple(one), dataclasses.astuple(two)
        if isinstance(one, str) or one is None:
            assert one == two, field.name
        elif np.asarray(one).dtype.kind in "fc":
            assert_allclose(one, two, rtol=1e-7, atol=1e-9, err_msg=field.name)
        else:
            np.testing.assert_array_equal(one, two, err_msg=field.name)
    assert a.provenance.objective == b.provenance.objective


@DIAGNOSTIC
@pytest.mark.parametrize("refresh", ["fixed", "each"])
def test_the_model_is_left_as_it_was(name, refresh):
    model = awkward_model()
    x, y = joined(NET.data())
    loader = DataLoader(TensorDataset(x, y), batch_size=6)
    random.seed(1)
    np.random.seed(2)  # noqa: NPY002
    torch.manual_seed(3)
    before = snapshot(model)
    objective = ls.Objective(model, loader, attack=ls.attack("pgd-2", eps=0.1), refresh=refresh)
    run(name, objective)
    assert_untouched(model, before)


@DIAGNOSTIC
def test_the_model_is_left_as_it_was_by_a_failure(name):
    class Failing(nn.Module):
        calls = 0

        def forward(self, output, target):
            self.calls += 1
            if self.calls > 4:
                torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
                raise KeyboardInterrupt
            return F.cross_entropy(output, target, reduction="none")

    model = awkward_model()
    before = snapshot(model)
    objective = ls.Objective(model, NET.data(), Failing())
    with pytest.raises(KeyboardInterrupt):  # in the last batch of the first pass, or later
        run(name, objective)
    assert_untouched(model, before)


def test_buffers_written_in_eval_mode_are_restored():
    class Counting(nn.Linear):
        def __init__(self):
            super().__init__(6, 3)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    model = Counting().double()
    before = snapshot(model)
    objective = ls.Objective(model, CASES["mlp"].data())
    objective.hvp(objective.params)
    objective.value()
    assert_untouched(model, before)


@DIAGNOSTIC
def test_same_seed_same_numbers(name):
    a, b = run(name, make()), run(name, make())
    for field in a.fields():
        one, two = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, two)
        else:
            assert one == two, field.name
    if "seed" in inspect.signature(DIAGNOSTICS[name].function).parameters:
        c = run(name, make(), seed=1)
        assert c.provenance.seed == 1
        assert any(
            np.any(np.asarray(getattr(a, f.name)) != np.asarray(getattr(c, f.name)))
            for f in a.fields()
        )


@DIAGNOSTIC
def test_results_survive_storage(name, tmp_path):
    result = run(name, make())
    assert isinstance(result, DIAGNOSTICS[name].result)
    path = result.save(tmp_path / "result.h5")
    assert ls.load(path) == result
    for field in result.fields():
        assert type(getattr(ls.load(path), field.name)) is type(getattr(result, field.name))
    with pytest.raises(OutputError, match=r"exists: pass --overwrite"):
        result.save(path)
    other = dataclasses.replace(
        result, provenance=dataclasses.replace(result.provenance, diagnostic="other")
    )
    other.save(path, overwrite=True)
    assert ls.load(path) == other != result
    assert [p.name for p in tmp_path.iterdir()] == ["result.h5"]


@DIAGNOSTIC
@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_results_open_in_xarray(name, engine, tmp_path):
    result = run(name, make())
    path = result.save(tmp_path / "result.h5")
    with xarray.open_dataset(path, engine=engine) as dataset:
        for field in result.fields():
            value = getattr(result, field.name)
            if value is None:
                continue
            found = dataset[field.name]
            assert found.dims == field.metadata["dims"], field.name
            assert found.attrs.get("units", "") == field.metadata["units"]
            assert found.attrs.get("long_name", "") == field.metadata["label"]
            if isinstance(value, ls.Estimate):
                value = value.value
            np.testing.assert_array_equal(found.values, value)
        declared = {d for f in result.fields() for d in f.metadata["dims"]}
        assert set(dataset.sizes) <= declared


@DIAGNOSTIC
def test_results_are_json(name):
    result = run(name, make())
    body = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert {f.name for f in result.fields()} < set(body)
    assert body["schema_version"] == 1
    assert body["provenance"]["diagnostic"] == name
    attack = body["provenance"]["objective"]["attack"]
    assert attack["eps"] == 0.1
    assert body["provenance"]["objective"]["perturbation"] == "each"


@DIAGNOSTIC
def test_unknown_options_are_refused(name):
    with pytest.raises(TypeError, match="no_such_option"):
        run(name, make(), no_such_option=1)


@DIAGNOSTIC
def test_provenance_tells_settings_and_functions_apart(name):
    def identity(result):
        p = result.provenance
        return json.dumps([p.settings, p.objective, p.seed], sort_keys=True)

    moved = copy.deepcopy(NET.model())
    with torch.no_grad():
        moved.head.bias[0] += 1e-12
    short = NET.data((7, 5, 1, 3))
    runs = [
        run(name, make()),
        run(name, make(refresh="fixed")),
        run(name, make(attack=ls.attack("pgd-2", eps=0.1, norm="l2"))),
        run(name, make(attack=ls.attack("pgd-2", eps=0.11))),
        run(name, make(attack=None)),
        run(name, make(seed=1)),
        run(name, make(short)),
        run(name, ls.Objective(moved, NET.data())),
        run(name, make(params="head.*")),
    ]
    assert len({identity(r) for r in runs}) == len(runs)


@DIAGNOSTIC
def test_progress_reaches_its_total(name):
    seen = []
    run(name, make(), progress=lambda done, total: seen.append((done, total)))
    assert seen
    assert seen[-1][0] == seen[-1][1] > 0


def test_refused_names_and_sizes():
    o = make()
    with pytest.raises(UsageError, match="unknown end of the spectrum 'top'"):
        ls.spectrum(o, 2, which="top")
    with pytest.raises(UsageError, match="asked for 208 eigenvalues, but θ has 207"):
        ls.spectrum(o, 208)
    with pytest.raises(UsageError, match="at least 2 samples, got 1"):
        ls.trace(o, 1)
    with pytest.raises(UsageError, match="accuracy needs a classifier"):
        ls.evaluate(ls.Objective(CASES["regression"].model(), CASES["regression"].data(), "mse"))


def test_numpy_numbers_are_stored(tmp_path):
    result = ls.spectrum(make(attack=None), np.int64(2), seed=np.int64(3))
    assert ls.load(result.save(tmp_path / "a.h5")) == result
    json.dumps(result.to_dict(), allow_nan=False)


def test_trace_and_evaluation_against_dense(tmp_path):
    from cases import dense

    x, y = joined(NET.data())
    reference = dense(NET.model(), x, y)
    o = make(attack=None)
    found = ls.trace(o, 400)
    assert found.estimates.shape == (400,)
    error = abs(found.trace.value - float(reference.hessian.trace()))
    assert error <= 5 * found.trace.standard_error

    table = ls.evaluate(o, {"strong": ls.attack("pgd-5", eps=0.2)})
    assert table.attack.tolist() == ["clean", "strong"]
    assert_allclose(table.loss[0], reference.loss, rtol=1e-10)
    error = float(reference.losses.std()) / len(x) ** 0.5
    assert_allclose(table.loss_standard_error[0], error, rtol=1e-10)
    assert table.accuracy[0] == reference.accuracy
    assert table.loss[1] > table.loss[0]
    assert_allclose(table.correct.mean(1), table.accuracy, rtol=1e-12)
    assert (table.accuracy_low < table.accuracy).all()
    assert (table.accuracy < table.accuracy_high).all()
    # Wilson's interval is where |p̂ − p| = z √(p(1 − p)/n).
    for bound in (table.accuracy_low[0], table.accuracy_high[0]):
        z = abs(table.accuracy[0] - bound) / (bound * (1 - bound) / 17) ** 0.5
        assert_allclose(z, 1.96, atol=1e-3)


# -- attacks --------------------------------------------------------------------------------------

ATTACK = pytest.mark.parametrize("name", ATTACKS)
UNTARGETED = pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"apgd-t"}))
NORM = pytest.mark.parametrize("norm", NORMS)


def few(name, **fields):
    """The attack with as many steps as a test needs."""
    return ls.attack(name, **{"steps": None if ATTACKS[name].single else 4, **fields})


def smooth_net(seed=0):
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(2 * 3, 7, generator=generator, dtype=torch.float64)
    second = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    return lambda x: torch.tanh(x.flatten(1) @ first) @ second


def distance(norm, delta):
    flat = delta.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else (flat**2).sum(1).sqrt()


inputs = st.tuples(st.integers(1, 5), st.integers(0, 2**31), st.booleans()).map(
    lambda t: _inputs(*t)
)


def _inputs(n, seed, corners):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 2, 3, generator=generator, dtype=torch.float64)
    if corners:  # where the box is active
        x = x.round()
    return x, torch.randint(3, (n,), generator=generator)


@ATTACK
@NORM
@settings(deadline=None, max_examples=25)
@given(
    data=inputs,
    eps=st.floats(0, 1),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    objective=st.sampled_from(["loss", "cross-entropy", "margin", "kl"]),
)
def test_attacks_stay_in_ball_and_box(name, norm, data, eps, seed, dtype, objective):
    x, y = data
    x = x.to(dtype)
    net = smooth_net()
    if name == "apgd-t" and objective == "kl":
        return  # refused: KL to the clean prediction has no target
    attack = few(name, eps=eps, norm=norm, objective=objective)
    original = x.clone()
    found = attack.perturb(lambda v: net(v.double()), x, y, streams=Streams(seed))
    assert torch.equal(x, original)
    assert not found.requires_grad
    assert found.dtype == dtype
    assert found.shape == x.shape
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert attack.reach == pytest.approx(3 * eps if name == "n-fgsm" else eps)
    assert float(distance(norm, found - x).max()) <= attack.reach + 1e-6


@UNTARGETED
@NORM
@settings(deadline=None, max_examples=15)
@given(data=inputs, eps=st.floats(0.01, 0.5), seed=st.integers(0, 99))
def test_more_restarts_never_lower_the_loss(name, norm, data, eps, seed):
    x, y = data
    net = smooth_net()
    losses = []
    for restarts in (1, 2, 4):
        asked = {"restarts": restarts, "objective": "loss", "keep": "objective"}
        attack = few(name, eps=eps, norm=norm, **asked)
        found = attack.perturb(net, x, y, streams=Streams(seed))
        losses.append(F.cross_entropy(net(found), y, reduction="none"))
        assert float(distance(norm, found - x).max()) <= attack.reach + 1e-6
    assert bool((losses[1] >= losses[0]).all())
    assert bool((losses[2] >= losses[1]).all())


@ATTACK
@NORM
def test_zero_radius_changes_nothing(name, norm):
    x, y = _inputs(5, 0, False)
    attack = few(name, eps=0, norm=norm)
    assert torch.equal(attack.perturb(smooth_net(), x, y, streams=Streams(0)), x)


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"n-fgsm"}))  # which isn't projected
@NORM
def test_radius_per_sample(name, norm):
    x, y = _inputs(5, 1, False)
    x = 0.4 + 0.2 * x
    radius = torch.tensor([0.0, 0.01, 0.05, 0.1, 0.2], dtype=torch.float64)
    attack = few(name, eps=0.1, norm=norm, step_size=0.2)
    found = attack.perturb(smooth_net(), x, y, streams=Streams(0), radius=radius)
    moved = distance(norm, found - x)
    assert bool((moved <= radius + 1e-9).all())
    for i in range(5):  # each sample as if alone, from a zero start
        alone = dataclasses.replace(attack, start="zero", ball=Ball(norm, float(radius[i])))
        together = dataclasses.replace(attack, start="zero")
        one = alone.perturb(smooth_net(), x[i : i + 1], y[i : i + 1], streams=Streams(0))
        all_ = together.perturb(smooth_net(), x, y, streams=Streams(0), radius=radius)
        assert_close(all_[i : i + 1], one, rtol=1e-10, atol=1e-12)


@ATTACK
@NORM
def test_step_mask_holds_samples_where_they_are(name, norm):
    x, y = _inputs(5, 2, False)
    keep = torch.tensor([True, False, True, False, True])
    seen = []

    def mask(k, adversarial, logits, gradient):
        seen.append(k)
        assert logits.shape == (5, 5)
        assert gradient.shape == adversarial.shape == x.shape
        return keep

    attack = few(name, eps=0.1, norm=norm)
    free = attack.perturb(smooth_net(), x, y, streams=Streams(0))
    start = dataclasses.replace(attack, steps=0).perturb(smooth_net(), x, y, streams=Streams(0))
    found = attack.perturb(smooth_net(), x, y, streams=Streams(0), step_mask=mask)
    runs = 4 if name == "apgd-t" else 1  # of 5 classes
    assert seen == list(range(attack.steps)) * runs
    assert torch.equal(found[keep], free[keep])
    assert torch.equal(found[~keep], start[~keep])
    assert not torch.equal(free[~keep], start[~keep])


@ATTACK
@NORM
def test_no_gradient_no_movement(name, norm):
    x, y = _inputs(4, 3, False)
    attack = few(name, eps=0.1, norm=norm, start="zero")

    def flat(v):
        return torch.zeros(4, 5, dtype=v.dtype) * v.flatten(1)[:, :1]

    assert torch.equal(attack.perturb(flat, x, y, streams=Streams(0)), x)

    def exploding(v):  # infinite loss and NaN gradient
        return v.flatten(1)[:, :5] * torch.tensor(float("inf"), dtype=v.dtype)

    assert torch.equal(attack.perturb(exploding, x, y, streams=Streams(0)), x)


@NORM
def test_tiny_gradients_still_move(norm):
    x = torch.full((2, 3), 0.5)
    y = torch.tensor([0, 1])
    attack = ls.attack("fgsm", eps=0.1, norm=norm)
    found = attack.perturb(lambda v: v[:, :2] * 1e-30, x, y, streams=Streams(0))
    assert_close(distance(norm, found - x), torch.full((2,), 0.1))


# Steps that reach the optimum. One step of FGSM-R from a random start can't always reach the far
# side of the ball, N-FGSM leaves the ball, and the difference of logits ratio needs more classes
# (tests/test_attacks.py has those).
OPTIMAL = {"fgsm": (1, 1), "mi-fgsm": (10, 10), "pgd": (10, 50), "apgd-ce": (10, 50)}
EXCUSED = {"fgsm-r", "n-fgsm", "apgd-dlr", "apgd-t"}


@pytest.mark.parametrize("name", OPTIMAL)
@NORM
@pytest.mark.parametrize("objective", ["loss", "margin"])
def test_linear_models_are_attacked_optimally(name, norm, objective):
    generator = torch.Generator().manual_seed(0)
    x = 0.4 + 0.2 * torch.rand(8, 2, 5, generator=generator, dtype=torch.float64)
    w = torch.randn(10, 2, generator=generator, dtype=torch.float64)
    y = torch.arange(8) % 2
    eps = 0.07
    steps = OPTIMAL[name][NORMS.index(norm)]
    attack = ls.attack(name, eps=eps, norm=norm, objective=objective, steps=steps)
    found = attack.perturb(lambda v: v.flatten(1) @ w, x, y, streams=Streams(1))
    d = w[:, 1] - w[:, 0]
    margin = (2 * y - 1) * (x.flatten(1) @ d)
    dual = d.abs().sum() if norm == "linf" else (d**2).sum().sqrt()
    losses = F.cross_entropy(found.flatten(1) @ w, y, reduction="none")
    assert_close(losses, F.softplus(-(margin - eps * dual)), rtol=1e-6, atol=1e-9)


def test_every_attack_is_either_optimal_on_linear_models_or_excused():
    assert set(OPTIMAL) | EXCUSED == set(ATTACKS)


def test_gradients_through_a_model_with_trainable_parameters_do_not_accumulate():
    model = awkward_model()
    x, y = joined(NET.data())
    model.eval()
    before = snapshot(model)
    ls.attack("pgd-3x2", eps=0.1).perturb(model, x, y, streams=Streams(0))
    assert_untouched(model, before)


RADII = st.just(0.0) | st.floats(1e-9, 2)


@NORM
@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 999), radius=RADII, size=st.floats(0, 10))
def test_ball(norm, seed, radius, size):
    radius = min(radius, 1) if norm == "linf" else radius
    ball = Ball(norm, radius)
    delta = size * Streams(seed).normal("d", (4, 2, 3))
    projected = ball.project(delta)
    assert float(ball.distance(projected).max()) <= radius * (1 + 1e-12)
    assert_close(ball.project(projected), projected, rtol=1e-12, atol=0)
    inside = ball.distance(delta) <= radius
    assert torch.equal(projected[inside], delta[inside])
    assert_close(ball.distance(delta), distance(norm, delta))
    # The projection is nearer than any other point of the ball.
    other = ball.sample(delta, Streams(seed))
    assert float(ball.distance(other).max()) <= radius * (1 + 1e-12)
    nearer = (projected - delta).flatten(1).norm(dim=1)
    assert bool((nearer <= (other - delta).flatten(1).norm(dim=1) + 1e-9).all())
    # The steepest direction is at least as steep as any point of the unit ball.
    unit = Ball(norm, 1.0)
    steepest = unit.steepest(delta)
    rise = (steepest * delta).flatten(1).sum(1)
    other_rise = (unit.sample(delta, Streams(seed, "u")) * delta).flatten(1).sum(1)
    assert bool((rise >= other_rise - 1e-300).all())  # the products of tiny numbers are rounded


@NORM
def test_samples_are_uniform_in_the_ball(norm):
    ball = Ball(norm, 0.5)
    found = ball.sample(torch.zeros(20_000, 3, dtype=torch.float64), Streams(0))
    share = (ball.distance(found) / 0.5) ** 3  # uniform on [0, 1] for a uniform ball in 3-D
    assert_allclose(np.quantile(share, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.015)
    assert_allclose(found.mean(0), 0, atol=0.01)


def test_attack_refusals():
    ball = Ball("linf", 0.1)
    with pytest.raises(UsageError, match=r"unknown attack 'pdg.*': did you mean 'pgd'"):
        ls.attack("pdg-10", eps=0.1)
    with pytest.raises(UsageError, match="unknown attack option 'step'"):
        ls.attack("pgd-10", eps=0.1, step=3)
    with pytest.raises(UsageError, match="fgsm has one step; write 'pgd-5'"):
        ls.attack("fgsm-5", eps=0.1)
    with pytest.raises(UsageError, match=r"eps = 8 exceeds 1.* 8/255"):
        ls.attack("pgd-10", eps=8)
    with pytest.raises(UsageError, match=r"at least 0, got -0\.1"):
        ls.attack("pgd-10", eps=-0.1)
    with pytest.raises(UsageError, match="eps must be a finite"):
        ls.attack("pgd-10", eps=float("nan"))
    with pytest.raises(UsageError, match="unknown norm 'l1'"):
        ls.attack("pgd-10", eps=0.1, norm="l1")
    with pytest.raises(UsageError, match="steps must be a whole number of at least 0, got -1"):
        Attack(ball, steps=-1, step_size=0.1)
    with pytest.raises(UsageError, match="restarts must be a whole number of at least 1, got 0"):
        Attack(ball, steps=1, step_size=0.1, restarts=0)
    with pytest.raises(UsageError, match=r"steps must be a whole number of at least 0, got 2\.5"):
        ls.attack("pgd-10", eps=0.1, steps=2.5)
    with pytest.raises(UsageError, match="alpha must be a finite number >= 0"):
        Attack(ball, steps=1, step_size=-0.1)
    with pytest.raises(UsageError, match="unknown start 'random'"):
        Attack(ball, steps=1, step_size=0.1, start="random")
    with pytest.raises(UsageError, match="unknown attack objective 'ce'"):
        Attack(ball, steps=1, step_size=0.1, objective="ce")
    with pytest.raises(UsageError, match="unknown attack mode 'test'"):
        Attack(ball, steps=1, step_size=0.1, mode="test")
    x = torch.full((1, 3), float("nan"))
    with pytest.raises(DataError, match=r"inputs lie in \[nan, nan\]"):
        ls.attack("fgsm", eps=0.1).perturb(
            lambda v: v, x, torch.zeros(1).long(), streams=Streams(0)
        )


def test_table_of_attacks():
    assert ls.attack("pgd-20x3", eps=0.1).restarts == 3
    assert ls.attack("pgd-20", eps=0.1).step_size == 0.025
    assert ls.attack("pgd-20", eps=0.1, step_size=0.01).step_size == 0.01
    assert ls.attack("pgd", eps=0.1).steps == 10
    assert ls.attack("fgsm-r", eps=0.1).step_size == 0.125
    assert ls.attack("fgsm-r", eps=0.1).start == "uniform"
    assert ls.attack("fgsm", eps=0.1).start == "zero"


def test_spectrum_of_a_network_that_overflows_is_refused():
    model = NET.model().float()
    with torch.no_grad():
        model.head.weight.fill_(3e38)
    with pytest.raises(NumericalError, match="batch 0 is not finite"):
        ls.spectrum(ls.Objective(model, [(x.float(), y) for x, y in NET.data()]), 2)
