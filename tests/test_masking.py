"""Checks for gradient masking, on networks masked on purpose and on networks that are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import CASES
from scipy.stats import beta, binom
from test_autoattack import Cast, digits, short  # noqa: F401
from torch import nn

import landscape as ls
from landscape.attacks import Ball
from landscape.attacks.autoattack import AutoAttack
from landscape.diagnostics.gradient_masking import CHECKS, _bound, _verdict
from landscape.errors import UsageError

PGD = ls.attack("pgd-20", eps=0.1)


class Scaled(nn.Module):
    """Softmax saturates, so cross-entropy has no gradient."""

    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x):
        return self.factor * self.net(x)


class Rounded(nn.Module):
    def __init__(self, net, levels=16):
        super().__init__()
        self.net, self.levels = net, levels

    def forward(self, x):
        return self.net((x * self.levels).round() / self.levels)


class Shattered(nn.Module):
    """A fine ripple on the input, whose slope hides that of the network."""

    def __init__(self, net, amplitude=0.02, frequency=2000.0):
        super().__init__()
        self.net, self.amplitude, self.frequency = net, amplitude, frequency

    def forward(self, x):
        return self.net(x + self.amplitude * torch.sin(self.frequency * x))


class Dip(nn.Module):
    """Two classes; right after a step of ε either way, wrong half way there: FGSM overfitted."""

    def __init__(self, eps):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        t = (x.flatten(1).mean(1) - 0.5).abs() / self.eps
        inside = 0.2 + torch.cos(2 * torch.pi * t)
        margin = torch.where(t < 1, inside, 1.2 - 2 * (t - 1)) * self.scale
        return torch.stack([margin, torch.zeros_like(margin)], 1)


def checked(model, x, y, attack=PGD, **kwargs):
    found = ls.masking(ls.Objective(model, (x, y)), attack, queries=300, **kwargs)
    return found, dict(zip(found.check.tolist(), found.verdict.tolist(), strict=True))


@pytest.mark.parametrize(
    ("mask", "caught"),
    [
        (lambda net: Scaled(net, 1e3), {"zero gradient", "black box", "other loss", "whole box"}),
        (lambda net: Scaled(net, 1e6), {"zero gradient", "black box", "other loss", "whole box"}),
        (Rounded, {"zero gradient", "black box", "radius raises loss", "whole box"}),
        (Cast, {"zero gradient", "black box", "radius raises loss", "whole box"}),
        (Shattered, {"black box", "radius raises loss", "whole box"}),
        (lambda net: Shattered(net, 0.05, 200.0), {"black box", "one step"}),
    ],
    ids=["logits x 1e3", "logits x 1e6", "rounded", "cast", "shattered", "misleading"],
)
def test_masked_networks_are_caught(mask, caught):
    model, x, y = digits(300)
    found, verdicts = checked(mask(model), x, y)
    assert found.withstood > 0.9 * found.right  # which PGD would have us believe
    assert {name for name, verdict in verdicts.items() if verdict == "suspicious"} == caught
    assert found.suspicious
    assert len(found.warnings()) == len(caught)
    i = list(found.check).index("black box")
    said = next(text for text in found.warnings() if text.startswith("black box: "))
    assert f"{found.found[i]} of {found.among[i]} samples that withstand the attack" in said


@pytest.mark.parametrize("name", ["digits-pgd-seed0", "digits-pgd-seed1", "digits-standard-seed0"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.5)])
def test_ordinary_networks_pass(name, norm, eps):
    found, verdicts = checked(*digits(300, name), ls.attack("pgd-20", eps=eps, norm=norm))
    assert set(verdicts.values()) == {"passed"}, found.warnings()
    assert found.samples == 256
    assert not found.warnings()


@pytest.mark.parametrize("name", ["digits-pgd-seed0", "digits-standard-seed0"])
def test_broken_networks_leave_nothing_to_ask(name):
    found, verdicts = checked(*digits(300, name), ls.attack("pgd-20", eps=0.3))
    assert found.withstood == 0
    assert verdicts["black box"] == verdicts["zero gradient"] == "not applicable"
    assert np.isnan(found.bound).sum() == 7
    assert not found.suspicious


def test_overfitting_to_one_step_is_not_masking_of_many():
    generator = torch.Generator().manual_seed(0)
    x = 0.5 + 0.002 * (torch.rand(100, 1, 6, 6, generator=generator) - 0.5)
    y = torch.zeros(100, dtype=torch.int64)
    y[::4] = 1  # some that are wrong from the start, so that chance is below 1
    objective = ls.Objective(Dip(0.1), (x, y))
    table = ls.evaluate(objective, {"fgsm": ls.attack("fgsm", eps=0.1), "pgd-20": PGD})
    assert table.accuracy.tolist() == [0.75, 0.75, 0.0]
    found = ls.masking(objective, PGD, table=table, queries=50)
    assert not found.suspicious, found.warnings()


def test_zero_gradients_are_counted_one_by_one():
    class Part(nn.Module):  # no gradient for those with a dark first pixel
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            dark = (x[:, :1, :1, :1] < 0.5).to(x)
            return self.net(x * (1 - dark) + x.detach() * dark)

    model, x, y = digits(100)
    x = x.clone()
    x[:, 0, 0, 0] = (torch.arange(100) % 3 == 0).to(x)
    found, verdicts = checked(Part(model), x, y, ls.attack("pgd-20", eps=0.01))
    right = model(x).argmax(1) == y
    assert found.right == int(right.sum())
    assert abs(found.found[0] - int((right & (torch.arange(100) % 3 != 0)).sum())) <= 3
    assert verdicts["zero gradient"] == "suspicious"


def test_bounds_are_exact():
    for k, n in ((1, 5), (9, 200), (50, 50), (3, 1000)):
        bound = _bound(k, n)
        # At the bound k or more of n have a probability of exactly 1 %.
        np.testing.assert_allclose(binom.sf(k - 1, n, bound), 0.01, rtol=1e-6)
    assert _bound(0, 10) == 0
    assert np.isnan(_bound(0, 0))
    assert _bound(9, 200) < CHECKS["black box"].tolerance < _bound(10, 200)


def test_examples_are_balanced_and_the_first():
    model, x, y = digits(300)
    found, _ = checked(model, x, y, ls.attack("pgd-2", eps=0.1), examples=37)
    assert found.samples == 37
    rows = []
    for turn in range(5):  # the slow way: one of every class, then the next of every class
        for label in range(10):
            rows.append(np.flatnonzero(y.numpy() == label)[turn])
    rows = sorted(rows[:37])
    assert found.right == int((model(x[rows]).argmax(1) == y[rows]).sum())


def test_the_table_adds_checks(short):  # noqa: F811
    model, x, y = digits(60)
    objective = ls.Objective(model, (x, y))
    attacks = {
        "fgsm": ls.attack("fgsm", eps=0.1),
        "n-fgsm": ls.attack("n-fgsm", eps=0.1),
        "pgd-5": ls.attack("pgd-5", eps=0.1),
        "autoattack": AutoAttack(Ball("linf", 0.1)),
    }
    table = ls.evaluate(objective, attacks)
    found = ls.masking(objective, PGD, table=table, queries=10)
    counts = {
        str(name): (k, n) for name, k, n in zip(found.check, found.found, found.among, strict=True)
    }
    fgsm, pgd, auto = (table.outcome(a) for a in ("fgsm", "pgd-5", "autoattack"))
    assert counts["one step in the table"] == (int((pgd & ~fgsm).sum()), int((pgd != fgsm).sum()))
    assert counts["AutoAttack"] == (int((pgd & ~auto).sum()), int(pgd.sum()))
    stages = table.stages()
    before, after = stages["autoattack/fab-t"], stages["autoattack/square"]
    assert counts["Square in AutoAttack"] == (int((before & ~after).sum()), int(before.sum()))
    assert not found.suspicious


def test_a_table_in_which_gradient_attacks_failed_is_caught(short):  # noqa: F811
    model, x, y = digits(60)
    objective = ls.Objective(Scaled(model, 1e4), (x, y))
    table = ls.evaluate(objective, {"pgd-5": PGD, "autoattack": AutoAttack(Ball("linf", 0.1))})
    found = ls.masking(objective, PGD, table=table, queries=10, examples=20)
    verdicts = dict(zip(found.check.tolist(), found.verdict.tolist(), strict=True))
    assert verdicts["AutoAttack"] == "suspicious"


def test_vectors_and_l2_have_no_black_box():
    case = CASES["mlp"]
    objective = ls.Objective(case.model(), case.data())
    found = ls.masking(objective, ls.attack("pgd-3", eps=0.2, norm="l2"), queries=5)
    i = list(found.check).index("black box")
    assert found.verdict[i] == "not applicable"
    assert found.among[i] == 0


def test_what_too_few_samples_could_never_show_has_not_passed():
    tolerance = 0.5
    for n in (1, 6, 7, 50):
        could = beta.ppf(0.01, n, 1) > tolerance  # the bound where all n speak for masking
        assert (_verdict(n, n, tolerance) == "suspicious") == could
        assert _verdict(0, n, tolerance) == ("passed" if could else "too few samples")
    found, verdicts = checked(*digits(3, "digits-pgd-seed0"))
    assert verdicts["one step"] in ("too few samples", "not applicable")
    assert "passed" in verdicts.values()
    assert not found.suspicious
    assert found.plot().get_xlabel() == "share that speaks for masking"


def test_drawing():
    from landscape.plotting import picture

    model, x, y = digits(40)
    found, _ = checked(Scaled(model, 1e3), x, y)
    ax = found.plot()
    assert ax.get_xlabel() == "share that speaks for masking"
    assert len(ax.get_yticklabels()) == len(found.check)
    figure = picture([found, found, found], ["a", "b", "c"])
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c"]


def test_refusals():
    model, x, y = digits(10)
    objective = ls.Objective(model, (x, y))
    with pytest.raises(UsageError, match="several gradient steps"):
        ls.masking(objective, ls.attack("fgsm", eps=0.1))
    with pytest.raises(UsageError, match="several gradient steps"):
        ls.masking(objective, AutoAttack(Ball("linf", 0.1)))
    with pytest.raises(UsageError, match="at least 1, got 0, 5"):
        ls.masking(objective, PGD, examples=0, queries=5)
    case = CASES["regression"]
    with pytest.raises(UsageError, match="masking needs a classifier"):
        ls.masking(ls.Objective(case.model(), case.data(), "mse"), PGD)
