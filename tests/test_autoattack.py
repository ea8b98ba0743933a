"""AutoAttack through our adapter, against direct calls of the authors' package."""

from __future__ import annotations

import logging
import re
import sys

import numpy as np
import pyautoattack
import pytest
import torch
from cases import CASES, joined, mlp
from test_contract import assert_untouched, awkward_model, snapshot
from torch import nn

import landscape as ls
from landscape import checkpoints, data, models
from landscape.attacks import Ball
from landscape.attacks.autoattack import PACKAGE, AutoAttack, square
from landscape.errors import DataError, UsageError


class Short(pyautoattack.AutoAttack):
    """The package with fewer steps and queries, for adapter and direct call alike."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for part in (self.apgd, self.apgd_targeted):
            part.n_iter = 6
            part.n_iter_2 = 2
        self.fab.n_iter = 4
        self.square.n_queries = 40


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(pyautoattack, "AutoAttack", Short)


def digits(n, name="digits-standard-seed0"):
    checkpoint = checkpoints.load(checkpoints.bundled()[name])
    model = checkpoint.into(models.ModelSpec.from_dict(checkpoint.model).build(seed=0)).eval()
    x, y = data.load("digits", "test").tensors()
    return model, x[:n], y[:n]


def direct(caplog, model, x, y, norm, eps, *, batch_size, version="standard", seed=0):
    """Who withstands it, and the accuracy after every member as the package logs it."""
    made = pyautoattack.AutoAttack(
        model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, seed=seed, version=version
    )
    with caplog.at_level(logging.DEBUG, "auto-attack"):
        _, predicted = made.run_standard_evaluation(x, y, batch_size=batch_size)
    lines = (re.match(r"robust accuracy after (\S+): ([\d.]+)%", m) for m in caplog.messages)
    return (predicted == y).numpy(), {m[1].lower(): float(m[2]) for m in lines if m}


@pytest.mark.parametrize(("version", "batch_size"), [("standard", 9), ("plus", 250)])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.06), ("l2", 0.4)])
def test_equals_a_direct_call(short, caplog, norm, eps, version, batch_size):
    model, x, y = digits(25)
    attack = AutoAttack(Ball(norm, eps), version, batch_size)
    found = ls.evaluate(ls.Objective(model, (x, y), batch_size=16, seed=3), {"autoattack": attack})
    robust, after = direct(
        caplog, model, x, y, norm, eps, batch_size=batch_size, version=version, seed=3
    )
    np.testing.assert_array_equal(found.outcome("autoattack"), robust)
    assert 0.1 < robust.mean() < 0.95
    stages = {key.split("/")[1]: 100 * v.mean() for key, v in found.stages().items()}
    assert list(stages) == list(after)
    np.testing.assert_allclose(list(stages.values()), list(after.values()), atol=0.005)


def test_equals_a_direct_call_of_the_full_standard_version(caplog):
    _, x, _ = digits(12)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    y = model(x).argmax(1)
    attack = AutoAttack(Ball("linf", 0.06))
    found = ls.evaluate(ls.Objective(model, (x, y)), {"autoattack": attack})
    robust, after = direct(caplog, model, x, y, "linf", 0.06, batch_size=250)
    np.testing.assert_array_equal(found.outcome("autoattack"), robust)
    assert 0 < robust.mean() < 1  # or the last members had nothing to do
    assert len(found.stage) == len(after) == 4
    assert found.accuracy[1] <= found.accuracy[0]
    assert np.isnan(found.loss[1])


def test_batches_of_the_data_change_nothing(short):
    model, x, y = digits(30)
    attack = {"a": AutoAttack(Ball("linf", 0.1), batch_size=11)}
    results = [
        ls.evaluate(ls.Objective(model, data_), attack)
        for data_ in ((x, y), list(zip(x.split([1, 20, 9]), y.split([1, 20, 9]), strict=True)))
    ]
    np.testing.assert_array_equal(results[0].stage_correct, results[1].stage_correct)
    # Losses of other batches differ by rounding.
    np.testing.assert_allclose(results[0].accuracy, results[1].accuracy, rtol=0)


def test_the_process_is_left_as_it_was(short, capfd):
    model = awkward_model()
    x, y = joined(CASES["conv, batchnorm, dropout"].data())
    before = snapshot(model)
    logger = logging.getLogger("auto-attack")
    state = logger.propagate, logger.level, list(logger.handlers)
    seeding = torch.random.manual_seed, torch.cuda.random.manual_seed

    def trace(*_):
        return None

    objective = ls.Objective(model, (x, y))
    outer = sys.gettrace()
    sys.settrace(trace)
    try:
        ls.evaluate(objective, {"a": AutoAttack(Ball("linf", 0.2))})
        assert sys.gettrace() is trace
    finally:
        sys.settrace(outer)
    assert_untouched(model, before)
    assert (logger.propagate, logger.level, list(logger.handlers)) == state
    assert (torch.random.manual_seed, torch.cuda.random.manual_seed) == seeding
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_leaves_the_process_as_it_was(short):
    model = awkward_model()
    x, y = joined(CASES["conv, batchnorm, dropout"].data())
    objective = ls.Objective(model, (x, y))
    before = snapshot(model)
    calls = []

    def stop(done, total):
        calls.append(done)
        if len(calls) > 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ls.evaluate(objective, {"a": AutoAttack(Ball("linf", 0.2))}, progress=stop)
    assert_untouched(model, before)
    assert torch.random.manual_seed.__module__ == "torch.random"


@pytest.mark.parametrize(
    ("classes", "norm", "shape", "version", "members"),
    [
        (10, "linf", (3, 8, 8), "standard", ["apgd-ce", "apgd-t", "fab-t", "square"]),
        (4, "l2", (1, 5, 5), "standard", ["apgd-ce", "apgd-t", "fab-t", "square"]),
        (4, "l2", (1, 4, 9), "standard", ["apgd-ce", "apgd-t", "fab-t"]),
        (3, "linf", (1, 6, 6), "standard", ["apgd-ce", "fab-t", "square"]),
        (3, "linf", (1, 6, 6), "plus", ["apgd-ce", "apgd-dlr", "fab", "square", "fab-t"]),
        (2, "linf", (6,), "standard", ["apgd-ce", "fab-t", "square"]),
        (2, "l2", (6,), "standard", ["apgd-ce", "fab-t"]),
        (2, "linf", (2, 3), "plus", ["apgd-ce", "fab", "square", "fab-t"]),
    ],
)
def test_members_that_can_run_do(short, classes, norm, shape, version, members):
    torch.manual_seed(0)
    size = int(np.prod(shape))
    model = nn.Sequential(nn.Flatten(), mlp(outputs=classes, inputs=size)).double()
    with torch.no_grad():  # boundaries through the middle of the inputs
        model[1][0].bias.copy_(-0.5 * model[1][0].weight.sum(1))
    x = torch.rand(9, *shape, dtype=torch.float64)
    y = model(x).argmax(1)
    attack = AutoAttack(Ball(norm, 0.3), version)
    found = ls.evaluate(ls.Objective(model, (x, y)), {"a": attack})
    assert [key.split("/")[1] for key in found.stage] == members
    assert found.accuracy[0] == 1
    assert found.accuracy[1] < 1
    right = found.stage_correct
    assert (right[1:] <= right[:-1]).all()


def test_two_classes_on_a_linear_network_are_decided_exactly(short):
    generator = torch.Generator().manual_seed(0)
    x = 0.3 + 0.4 * torch.rand(60, 7, generator=generator)
    model = nn.Linear(7, 2)
    with torch.no_grad():
        model.weight.copy_(torch.randn(2, 7, generator=generator))
        model.bias.copy_(-(model.weight @ torch.full((7,), 0.5)))
    y = model(x).argmax(1)
    w = model.weight[1] - model.weight[0]
    margin = (model(x)[:, 1] - model(x)[:, 0]).abs()
    for norm, dual in (("linf", w.abs().sum()), ("l2", w.norm())):
        found = ls.evaluate(ls.Objective(model, (x, y)), {"a": AutoAttack(Ball(norm, 0.1))})
        clear = (margin - 0.1 * dual).abs() > 1e-4
        expected = margin > 0.1 * dual
        np.testing.assert_array_equal(found.outcome("a")[clear], expected[clear].numpy())
        assert 0.05 < expected.float().mean() < 0.95


def test_examples_lie_in_ball_and_box(short):
    model, x, y = digits(20)
    for norm, eps in (("linf", 0.1), ("l2", 0.5)):
        attack = AutoAttack(Ball(norm, eps))
        for member in attack.members(10, x.shape[1:]):
            found, withstood = attack.run(model, x, y, member=member, classes=10, seed=0)
            assert float(found.min()) >= 0
            assert float(found.max()) <= 1
            assert float(attack.ball.distance(found - x).max()) <= eps + 1e-6
            np.testing.assert_array_equal(model(found).argmax(1) == y, withstood)


def test_zero_radius_is_the_clean_accuracy():
    model, x, y = digits(50)
    found = ls.evaluate(ls.Objective(model, (x, y)), {"a": AutoAttack(Ball("linf", 0.0))})
    np.testing.assert_array_equal(found.outcome("a"), found.outcome("clean"))
    assert len(found.stage) == 4


class Cast(nn.Module):
    """Inputs rounded by a cast: autograd finds no way back."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net((x * 16 + 0.5).int().to(x) / 16)


def test_no_gradients_at_all_leave_the_work_to_square(short):
    model, x, y = digits(30)
    objective = ls.Objective(Cast(model), (x, y))
    found = ls.evaluate(objective, {"a": AutoAttack(Ball("linf", 0.2))})
    after = {key.split("/")[1]: right.mean() for key, right in found.stages().items()}
    assert after["square"] < after["fab-t"] - 0.1
    with pytest.raises(UsageError, match=r"no gradient in its inputs.*AutoAttack can"):
        ls.evaluate(objective, {"pgd": ls.attack("pgd-2", eps=0.3)})


def test_probabilities_are_warned_of(short):
    model, x, y = digits(10)
    objective = ls.Objective(nn.Sequential(model, nn.Softmax(1)), (x, y))
    with pytest.warns(UserWarning, match="the output is a probability distribution"):
        ls.evaluate(objective, {"a": AutoAttack(Ball("linf", 0.01))})


def test_provenance_names_package_version_and_seed(short):
    model, x, y = digits(5)
    attack = AutoAttack(Ball("l2", 0.1), "plus", 100)
    p = ls.evaluate(ls.Objective(model, (x, y), seed=7), {"a": attack}).provenance
    said = p.settings["attacks"]["a"]
    assert said["package"] == f"{PACKAGE} {pyautoattack.__version__}"
    assert (said["norm"], said["eps"], said["autoattack"], said["batch_size"]) == (
        *("l2", 0.1, "plus", 100),
    )
    assert p.seed == 7


def test_progress_rises_to_its_total(short):
    model, x, y = digits(20)
    seen = []
    ls.evaluate(
        ls.Objective(model, (x, y)),
        {"a": AutoAttack(Ball("linf", 0.05)), "pgd-2": ls.attack("pgd-2", eps=0.05)},
        progress=lambda done, total: seen.append((done, total)),
    )
    done = [d for d, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1] == {t for _, t in seen}.pop()
    assert len(seen) > 100


def test_square_alone_matches_the_package():
    model, x, y = digits(30)
    found = square(model, x, y, Ball("linf", 0.1), queries=60, seed=5)
    search = pyautoattack.square.SquareAttack(model, "Linf", n_queries=60, eps=0.1, seed=5)
    with torch.no_grad():
        assert torch.equal(found, search.perturb(x, y))
    assert square(model, x.flatten(1), y, Ball("l2", 0.1), queries=5, seed=0) is None


def test_refusals():
    model, x, y = digits(5)
    with pytest.raises(UsageError, match="unknown version of AutoAttack 'standart'"):
        AutoAttack(Ball("linf", 0.1), "standart")
    with pytest.raises(UsageError, match="batch_size must be at least 1"):
        AutoAttack(Ball("linf", 0.1), batch_size=0)
    with pytest.raises(UsageError, match="attack must be an Attack"):
        ls.Objective(model, (x, y), attack=AutoAttack(Ball("linf", 0.1)))
    with pytest.raises(DataError, match=r"inputs lie in \[0, 2\]"):
        ls.evaluate(ls.Objective(model, (2 * x, y)), {"a": AutoAttack(Ball("linf", 0.1))})
