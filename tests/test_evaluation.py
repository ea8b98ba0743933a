"""The robustness table: rows, intervals, paired differences, resuming, the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest
from test_autoattack import Short, digits
from torch import nn

import landscape as ls
from landscape import checkpoints
from landscape.attacks import Ball
from landscape.attacks.autoattack import AutoAttack
from landscape.cli import run
from landscape.diagnostics.evaluation import wilson
from landscape.diagnostics.pairing import WORST, paired_interval
from landscape.errors import NumericalError, UsageError

PGD, STANDARD = (checkpoints.bundled()[f"digits-{k}-seed0"] for k in ("pgd", "standard"))


@pytest.fixture
def short(monkeypatch):
    import pyautoattack

    monkeypatch.setattr(pyautoattack, "AutoAttack", Short)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def attacks(eps=0.1, norm="linf"):
    return {
        "fgsm": ls.attack("fgsm", eps=eps, norm=norm),
        "pgd-3": ls.attack("pgd-3", eps=eps, norm=norm),
        "autoattack": AutoAttack(Ball(norm, eps)),
    }


# -- rows -----------------------------------------------------------------------------------------


def test_worst_of_all_is_right_under_every_attack(short):
    model, x, y = digits(40)
    objective = ls.Objective(model, (x, y))
    found = ls.evaluate(objective, attacks())
    outcomes = [
        objective.with_attack(a).per_sample()[1] for a in (None, *list(attacks().values())[:2])
    ]
    right = torch.stack(outcomes).all(0).numpy() & found.outcome("autoattack")
    assert found.worst == right.mean()
    assert found.worst_low < found.worst < found.worst_high
    assert found.worst <= found.accuracy.min()


def test_attacks_that_leave_their_ball_are_no_part_of_the_worst_case():
    model, x, y = digits(60)
    objective = ls.Objective(model, (x, y))
    named = {name: ls.attack(name, eps=0.1) for name in ("fgsm", "n-fgsm")}
    found = ls.evaluate(objective, named)
    assert found.within.tolist() == [True, True, False]
    assert found.outcome("n-fgsm").mean() < found.worst == found.outcome("fgsm").mean()
    np.testing.assert_array_equal(found.outcome_together(), found.outcome("fgsm"))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_zero_radius_changes_nothing(short, norm):
    model, x, y = digits(30)
    found = ls.evaluate(ls.Objective(model, (x, y)), attacks(0.0, norm))
    assert (found.correct == found.correct[0]).all()


def test_two_classes():
    torch.manual_seed(0)
    model = nn.Linear(6, 2).double()
    x = torch.rand(50, 6, dtype=torch.float64)
    y = model(x).argmax(1)
    found = ls.evaluate(ls.Objective(model, (x, y)), {"fgsm": ls.attack("fgsm", eps=0.05)})
    w, margins = model.weight[1] - model.weight[0], model(x)[:, 1] - model(x)[:, 0]
    box = torch.where((margins > 0)[:, None], x, 1 - x)  # how far each pixel can go, towards −w⁺
    down = torch.where(w > 0, box, 1 - box).minimum(torch.tensor(0.05, dtype=x.dtype))
    expected = margins.abs() > (w.abs() * down).sum(1)
    np.testing.assert_array_equal(found.outcome("fgsm"), expected.numpy())


def test_outputs_that_are_not_logits():
    model, x, y = digits(10)

    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, x):
            return self.net(x), 0

    with pytest.raises(UsageError, match="the model returned a tuple: say which tensor"):
        ls.Objective(Pair(), (x, y))
    soft = ls.Objective(nn.Sequential(model, nn.Softmax(1)), (x, y))
    with pytest.warns(UserWarning, match="look like probabilities"):
        ls.evaluate(soft, {"pgd-2": ls.attack("pgd-2", eps=0.01)})


class Overflowing(nn.Module):
    """NaN outputs for inputs whose mean exceeds a limit."""

    def __init__(self, net, limit):
        super().__init__()
        self.net, self.limit = net, limit

    def forward(self, x):
        out = self.net(x)
        return torch.where(x.flatten(1).mean(1, keepdim=True) > self.limit, torch.nan, out)


def test_nan_is_refused_when_clean_and_wrong_when_attacked():
    model, x, y = digits(20)
    y = torch.zeros_like(y)  # what argmax makes of NaN
    mean = x.flatten(1).mean(1)
    half = float(mean.median())
    count = int((mean > half).sum())
    with pytest.raises(NumericalError, match=f"loss of {count} of 20 clean samples is NaN"):
        ls.evaluate(ls.Objective(Overflowing(model, half), (x, y)))
    noise = ls.attack("pgd-0", eps=0.5)  # a random start, which raises the mean of dark images
    found = ls.evaluate(ls.Objective(Overflowing(model, float(mean.max())), (x, y)), {"a": noise})
    moved = ls.Objective(model, (x, y)).with_attack(noise)
    points = torch.cat([term.x for term in moved.terms()])
    nan = points.flatten(1).mean(1) > float(mean.max())
    assert nan.any()
    assert not found.outcome("a")[nan.numpy()].any()
    assert np.isnan(found.loss[1])


# -- interrupted ----------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 2, 3, 4, 6])
def test_an_interrupted_evaluation_goes_on(short, after, tmp_path):
    model, x, y = digits(25)
    whole = ls.evaluate(ls.Objective(model, (x, y)), attacks())
    saved = []

    def save(result):
        saved.append(result.save(tmp_path / f"{len(saved)}.h5"))
        if len(saved) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ls.evaluate(ls.Objective(model, (x, y)), attacks(), save=save)
    partial = ls.load(saved[-1])
    assert len(partial.attack) + len(partial.stages()) == after
    seen = []
    again = ls.evaluate(
        ls.Objective(model, (x, y)), attacks(), resume=partial, save=lambda r: seen.append(r)
    )
    assert len(seen) == 8 - after
    for field in whole.fields():
        np.testing.assert_array_equal(getattr(again, field.name), getattr(whole, field.name))
    with pytest.raises(UsageError, match=r"made with other settings \(settings.attacks differ\)"):
        ls.evaluate(ls.Objective(model, (x, y)), attacks(0.2), resume=partial)


# -- paired differences ---------------------------------------------------------------------------


def test_paired_interval_covers():
    rng = np.random.default_rng(0)
    for n, p, q in ((300, 0.1, 0.05), (40, 0.05, 0.05), (300, 0.4, 0.0)):
        cells = rng.multinomial(n, [p, q, 1 - p - q], size=2000)
        bounds = np.array([paired_interval(int(b), int(c), n) for b, c, _ in cells])
        covered = ((bounds[:, 0] <= p - q) & (p - q <= bounds[:, 1])).mean()
        assert 0.935 < covered < 0.99, (n, p, q, covered)


def test_differences_against_a_slow_count():
    found = {}
    for name in ("digits-pgd-seed0", "digits-standard-seed0"):
        model, x, y = digits(100, name)
        found[name] = ls.evaluate(ls.Objective(model, (x, y)), {"fgsm": ls.attack("fgsm", eps=0.1)})
    diffs = ls.differences(found)
    assert diffs.first == "digits-pgd-seed0"
    assert diffs.attack.tolist() == ["clean", "fgsm", WORST]
    a, b = (e.outcome("fgsm") for e in found.values())
    gained = sum(1 for p, q in zip(a, b, strict=True) if q and not p)
    lost = sum(1 for p, q in zip(a, b, strict=True) if p and not q)
    assert (diffs.gained[0, 1], diffs.lost[0, 1]) == (gained, lost)
    np.testing.assert_allclose(diffs.difference[0, 1], b.mean() - a.mean(), rtol=1e-12)
    n = gained + lost  # two-sided: all outcomes no likelier than this one
    likely = binom.pmf(np.arange(n + 1), n, 0.5)
    expected = likely[likely <= likely[gained] * (1 + 1e-7)].sum()
    np.testing.assert_allclose(diffs.p_value[0, 1], expected, rtol=1e-9)
    assert diffs.low[0, 1] < diffs.difference[0, 1] < diffs.high[0, 1] < 0


def test_differences_need_the_same_samples_and_attacks(tmp_path):
    model, x, y = digits(20)

    def of(n, eps):
        return ls.evaluate(ls.Objective(model, (x[:n], y[:n])), {"a": ls.attack("fgsm", eps=eps)})

    with pytest.raises(UsageError, match="b was evaluated on other samples than a"):
        ls.differences({"a": of(20, 0.1), "b": of(19, 0.1)})
    with pytest.raises(UsageError, match="a has other settings for c than for b"):
        ls.differences({"b": of(20, 0.1), "c": of(20, 0.2)})
    with pytest.raises(UsageError, match="needs two evaluations"):
        ls.differences({"a": of(20, 0.1)})
    same = ls.differences({"a": of(20, 0.1), "b": of(20, 0.1)})
    assert (same.p_value == 1).all()
    assert ls.load(same.save(tmp_path / "d.h5")) == same


# -- command --------------------------------------------------------------------------------------


def test_command_with_autoattack(short, here, capsys):
    command = ["evaluate", str(STANDARD), "--attack", "clean,fgsm,pgd-3,autoattack"]
    command += ["--n-examples", "60", "--out", "a.h5"]
    assert run(command) == 0
    out = capsys.readouterr().out
    for said in ("after apgd-ce", "after square", "worst of all", "checks for gradient masking"):
        assert said in out
    found = ls.load("a.h5")
    assert found.attack.tolist() == ["clean", "fgsm", "pgd-3", "autoattack"]
    assert ls.load("a.h5", "masking").samples == 60
    assert Path("a.png").exists()
    assert not list(Path().glob("*.partial.h5"))
    assert run(["plot", "a.h5", "--out", "again"]) == 0
    assert {p.name for p in Path().glob("again*.png")} == {
        *["again-evaluation.png", "again-masking.png"]
    }


def test_command_compares(here, capsys):
    command = ["evaluate", str(PGD), "--compare", str(STANDARD), "--attack", "fgsm,pgd-3"]
    assert run([*command, "--n-examples", "60", "--no-masking"]) == 0
    out = capsys.readouterr().out
    assert "accuracy minus that of digits-pgd-seed0, paired on the same 60 samples" in out
    assert "gradient masking" not in out
    diffs = ls.load("compared-evaluation.h5", "differences")
    assert diffs.network.tolist() == ["digits-standard-seed0"]
    command = ["evaluate", str(PGD), str(STANDARD), "--attack", "fgsm", "--n-examples", "60"]
    assert run([*command, "--json", "--out", "two.h5"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert set(content) == {"digits-pgd-seed0", "digits-standard-seed0", "differences"}
    assert content["digits-pgd-seed0"]["masking"]["samples"] == 60


def test_command_goes_on_after_an_interrupt(here, capsys, monkeypatch):
    from landscape.cli.resume import Partial
    from landscape.objective import Objective

    monkeypatch.setattr(Partial, "interval", 0.0)
    command = ["evaluate", str(PGD), str(STANDARD), "--attack", "fgsm,pgd-3", "--n-examples", "60"]
    command += ["--no-masking"]
    per_sample, calls = Objective.per_sample, []

    def failing(self, *args):
        calls.append(1)
        if len(calls) == 5:  # the second attack of the second checkpoint
            raise KeyboardInterrupt
        return per_sample(self, *args)

    monkeypatch.setattr(Objective, "per_sample", failing)
    assert run(command) == 130
    names = [p.name for p in sorted(Path().iterdir())]
    assert names == [
        f"compared-evaluation-digits-{k}-seed0.partial.h5" for k in ("pgd", "standard")
    ]
    assert run(command) == 0
    assert len(calls) == 7  # of 6 the interrupted one was made twice
    assert "going on from" in capsys.readouterr().err
    assert not list(Path().glob("*.partial.h5"))


def test_masked_gradients_end_with_code_3(here, capsys, monkeypatch):
    state = checkpoints.load(STANDARD)
    for name, tensor in state.state_dict.items():
        if "head" in name or tensor is list(state.state_dict.values())[-1]:
            tensor.mul_(1e4)
    last = list(state.state_dict)[-2:]
    assert last[0].endswith("weight")
    state.state_dict[last[0]].mul_(1e4)
    state.save(here / "masked.pt")
    assert run(["evaluate", "masked.pt", "--attack", "pgd-3", "--n-examples", "80"]) == 3
    err = capsys.readouterr().err
    assert "masked, zero gradient: " in err
    assert "gradients look masked" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["PGD", "--attack", "autoatack"], "did you mean 'autoattack'"),
        (["PGD", "--attack", "autoattack", "--eps", "8"], "eps = 8 exceeds 1"),
        (["PGD", "PGD", "--attack", "fgsm"], "is given twice"),
        (["PGD", "--attack", " ,"], "names no attack: write --attack clean"),
        (["PGD", "--data", "digits32"], "takes inputs of shape (1, 8, 8) in 10 classes, digits32"),
        (["PGD", "--masking-examples", "0"], "masking-examples"),
        ([], "Missing argument"),
    ],
)
def test_nonsense_is_one_line(here, capsys, arguments, said):
    assert run(["evaluate", *[str(PGD) if a == "PGD" else a for a in arguments]]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not list(Path().iterdir())


def test_dry_run_counts_autoattack(here, capsys):
    assert run(["evaluate", str(PGD), "--attack", "autoattack", "--dry-run"]) == 0
    assert "up to 7860 passes over the data" in capsys.readouterr().out
    assert not list(Path().iterdir())


# -- drawing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [10, 25, 100, 300, 10_000])
@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_intervals_hold_the_share_and_are_scipys(n, share):
    k = int(share * n)
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1  # exactly, or there are no error bars to draw
    expected = binomtest(k, n).proportion_ci(method="wilson")
    np.testing.assert_allclose([low, high], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_is_drawn(right):
    logits = 1 - torch.eye(2) if not right else torch.eye(2)
    y = torch.arange(10) % 2
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    model[0].weight.data = logits
    found = ls.evaluate(ls.Objective(model, (torch.eye(2)[y], y)))
    assert found.accuracy.tolist() == [float(right)]
    assert found.plot().get_ylabel() == "accuracy (%)"


def test_drawing_leaves_gaps_and_shows_all_together():
    from landscape.plotting import picture

    model, x, y = digits(20)
    objective = ls.Objective(model, (x, y))
    fgsm, pgd = ls.attack("fgsm", eps=0.1), ls.attack("pgd-2", eps=0.1)
    one, two = ls.evaluate(objective, {"fgsm": fgsm, "pgd-2": pgd}), ls.evaluate(objective)
    ax = picture([one, two], ["one", "two"]).axes[0]
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert names == ["clean", "fgsm", "pgd-2", WORST]
    points = [bars.lines[0].get_xydata() for bars in ax.containers]
    np.testing.assert_allclose(points[0][:, 1], 100 * np.append(one.accuracy, one.worst))
    np.testing.assert_allclose(points[1][:, 1], 100 * np.array([two.accuracy[0], two.worst]))
    assert one.plot().get_ylabel() == "accuracy (%)"
