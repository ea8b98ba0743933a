"""Effectiveness of attacks against linear models, slow loops on copies, and resampling."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CASES, joined
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import landscape as ls
from landscape.cli import run
from landscape.diagnostics.evaluation import wilson
from landscape.errors import UsageError
from landscape.plotting import picture
from landscape.plotting.effectiveness import draw_weakened
from landscape.random import Streams

FGSM, PGD = ls.attack("fgsm", eps=0.1), ls.attack("pgd-3", eps=0.1)
STRONG = ls.attack("pgd-20", eps=0.1)


class Binary(nn.Module):
    """Logits (0, w·x): the loss is log(1 + exp(∓w·x)). Refuses inputs outside the box."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w.clone())

    def forward(self, x):
        assert x.min() >= 0
        assert x.max() <= 1
        z = x.flatten(1) @ self.w
        return torch.stack([torch.zeros_like(z), z], 1)


def linear(low=0.3, high=0.7, n=40, d=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(d, generator=g, dtype=torch.float64)
    x = low + (high - low) * torch.rand(n, d, generator=g, dtype=torch.float64)
    y = torch.randint(2, (n,), generator=g)
    return ls.Objective(Binary(w), (x, y), batch_size=7), w, x, (2 * y - 1).double()


# -- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_linear_model_in_closed_form(norm):
    """δ* = −ε·y·s(w): the margin falls by ε‖w‖ of the dual norm, and by s·ε‖w‖ if scaled."""
    objective, w, x, sign = linear()
    fgsm = ls.attack("fgsm", eps=0.1, norm=norm)
    strong = ls.attack("pgd-50", eps=0.1, norm=norm)
    scales = (0.0, 0.25, 0.5)
    found = ls.effectiveness(objective, {"fgsm": fgsm}, strong, scales=scales, threshold=0.0)
    margin = sign * (x @ w)
    dual = float(w.abs().sum() if norm == "linf" else w.norm())
    clean = F.softplus(-margin)
    full = F.softplus(0.1 * dual - margin) - clean
    assert_allclose(found.clean_loss, clean, rtol=1e-12)
    assert_allclose(found.reference_loss, clean + full, rtol=1e-9)
    assert_allclose(found.mean_ratio("fgsm").value, 1, rtol=1e-8)
    assert_array_equal(found.scale[found.curve("scale")], [0, 0.25, 0.5, 1])
    for w_, scale in enumerate((1.0, *scales)):
        rise = F.softplus(scale * 0.1 * dual - margin) - clean
        assert_allclose(found.ratios("fgsm", w_), rise / full, rtol=1e-7, atol=1e-12)
        expected = ls.Estimate.of(rise)
        assert_allclose(found.variance("fgsm", w_).value, expected.value, rtol=1e-7, atol=1e-12)
        hits = (scale * 0.1 * dual < margin).numpy()
        assert found.accuracy("fgsm", w_) == (hits.mean(), *wilson(hits.sum(), 40))
    assert found.mean_ratio("fgsm", 1).value == 0  # nothing is left of the perturbation


def test_flips_are_a_rounded_share_drawn_once_per_sample():
    objective, w, x, sign = linear()
    flips = (0.1, 0.3, 0.5, 1.0)
    attacks = {"fgsm": FGSM, "pgd-20": STRONG}
    found = ls.effectiveness(objective, attacks, STRONG, flips=flips, threshold=0, seed=3)
    order = Streams(3, "effectiveness").uniform("flip", (40, 12)).argsort(1).argsort(1)
    delta = -0.1 * sign[:, None] * w.sign()
    clean = F.softplus(-sign * (x @ w))
    for k, share in enumerate(flips, start=1):
        flipped = torch.where(order < round(share * 12), -delta, delta)
        assert int((flipped != delta).sum(1).unique()) == round(share * 12)
        rise = F.softplus(-sign * ((x + flipped) @ w)) - clean
        for name in attacks:
            assert_allclose(found.variance(name, k).value, float(rise.mean()), rtol=1e-6)
    assert found.mean_ratio("fgsm", 4).value < 0  # all signs flipped: the loss falls
    assert_array_equal(found.flip[found.curve("flip")], [0, 0.1, 0.3, 0.5, 1])


def test_weakened_perturbations_stay_in_the_box():
    """The network refuses what lies outside; at the box flipping shortens a perturbation."""
    objective, _, x, _ = linear(0.0, 1.0)
    assert ((x < 0.1) | (x > 0.9)).any()
    found = ls.effectiveness(objective, {"fgsm": FGSM}, STRONG, scales=(0.5,), flips=(0.5, 1.0))
    assert np.isfinite(found.loss).all()


# -- slow loop ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conv, batchnorm, dropout", "tied", "frozen", "regression"])
def test_against_a_loop_over_samples(name):
    case = CASES[name]
    objective = ls.Objective(case.model(), case.data(), case.loss, seed=4)
    reference = ls.attack("pgd-5", eps=0.1)
    found = ls.effectiveness(
        objective, {"fgsm": FGSM, "pgd-3": PGD}, reference, scales=(0.5,), threshold=0.01
    )
    model = copy.deepcopy(case.model()).eval().requires_grad_(False)
    x, y = joined(case.data())

    def loss(inputs):
        output = model(inputs)
        if case.loss == "mse":
            return ((output - y) ** 2).sum(1), None
        return F.cross_entropy(output, y, reduction="none"), (output.argmax(1) == y).numpy()

    clean = loss(x)[0]
    made = {
        key: a.perturb(model, x, y, streams=Streams(4, "attack"), loss=objective._loss)
        for key, a in {"star": reference, "fgsm": FGSM, "pgd-3": PGD}.items()
    }
    star, star_hits = loss(made["star"])
    assert_allclose(found.reference_loss, star, rtol=1e-9)
    keep = [i for i in range(len(x)) if star[i] - clean[i] > 0.01]
    assert_array_equal(np.flatnonzero(found.included), keep)
    assert_allclose(found.excluded_share, 1 - len(keep) / len(x), atol=1e-12)
    for key in ("fgsm", "pgd-3"):
        for w, scale in enumerate((1.0, 0.5)):
            values, hits = loss(x + scale * (made[key] - x))
            ratios = [float((values[i] - clean[i]) / (star[i] - clean[i])) for i in keep]
            expected = np.mean(ratios), np.std(ratios, ddof=1) / math.sqrt(len(keep)), len(keep)
            got = found.mean_ratio(key, w)
            assert_allclose((got.value, got.standard_error, got.samples), expected, rtol=1e-8)
            rise, most = values - clean, star - clean
            assert_allclose(
                found.ratio_of_means(key, w).value, float(rise.sum() / most.sum()), rtol=1e-8
            )
            if case.loss == "mse":
                with pytest.raises(UsageError, match="no accuracy: it needs a classifier"):
                    found.accuracy(key, w)
            else:
                assert found.accuracy(key, w)[0] == hits.mean()
                assert found.accuracy()[0] == star_hits.mean()


# -- what must hold -------------------------------------------------------------------------------


def make(name="mlp", **kwargs):
    case = CASES[name]
    return ls.Objective(case.model(), case.data(), case.loss, **kwargs)


def test_the_reference_against_itself_is_exactly_one():
    found = ls.effectiveness(make(), {"same": PGD}, PGD, threshold=0.0)
    assert (found.ratios("same") == 1).all()
    for estimate in (found.mean_ratio("same"), found.ratio_of_means("same")):
        assert (estimate.value, estimate.standard_error) == (1, 0)
    assert found.variance("same") == found.reference_variance


def test_more_than_one_stays_as_found():
    found = ls.effectiveness(make(), {"strong": STRONG}, ls.attack("fgsm", eps=0.02))
    assert found.mean_ratio("strong").value > 2
    assert found.ratio_of_means("strong").value > 2


def test_threshold_and_what_is_left_out():
    found = ls.effectiveness(make(), {"fgsm": FGSM}, STRONG, threshold=100.0)
    assert found.excluded_share == 1
    assert math.isnan(found.mean_ratio("fgsm").value)
    assert found.mean_ratio("fgsm").samples == 0
    assert found.ratio_of_means("fgsm").samples == 17  # needs no threshold
    picture([found])
    # A reference that lowers the loss: its samples are counted, and left out at any threshold.
    descent = ls.attack("fgsm", eps=0.1, objective="margin")

    def inverted(output, y):
        return -F.cross_entropy(output, y, reduction="none")

    case = CASES["mlp"]
    objective = ls.Objective(case.model(), case.data(), inverted)
    lowered = ls.effectiveness(objective, {"fgsm": FGSM}, descent, threshold=0)
    assert lowered.lowered_share == 1
    assert lowered.excluded_share == 1


def test_no_rise_at_all():
    zero = ls.attack("pgd-3", eps=0.0)
    found = ls.effectiveness(make(), {"zero": zero}, zero)
    assert found.excluded_share == 1
    assert found.lowered_share == 0
    assert math.isnan(found.ratio_of_means("zero").value)


def test_delta_method_against_the_bootstrap():
    objective, _, _, _ = linear(n=300, seed=2)
    found = ls.effectiveness(objective, {"half": ls.attack("fgsm", eps=0.05)}, STRONG)
    a = found.loss[0, 0] - found.clean_loss
    b = found.reference_loss - found.clean_loss
    which = np.random.default_rng(0).integers(0, 300, (4000, 300))
    spread = (a[which].sum(1) / b[which].sum(1)).std()
    assert_allclose(found.ratio_of_means("half").standard_error, spread, rtol=0.08)


def test_its_own_attack_is_not_used():
    plain, attacked = make(), make(attack=STRONG)
    one, two = (ls.effectiveness(o, {"fgsm": FGSM}, PGD) for o in (plain, attacked))
    assert_array_equal(one.loss, two.loss)
    assert_array_equal(one.reference_loss, two.reference_loss)


def test_refusals():
    objective = make()
    with pytest.raises(UsageError, match="give at least one attack"):
        ls.effectiveness(objective, {}, PGD)
    with pytest.raises(UsageError, match="'fgsm' must be an Attack, got str"):
        ls.effectiveness(objective, {"fgsm": "fgsm"}, PGD)
    with pytest.raises(UsageError, match="'reference' must be an Attack, got NoneType"):
        ls.effectiveness(objective, {"fgsm": FGSM}, None)
    with pytest.raises(UsageError, match=r"threshold must be a finite number of at least 0.*nan"):
        ls.effectiveness(objective, {"fgsm": FGSM}, PGD, threshold=math.nan)
    with pytest.raises(UsageError, match=r"scale 25: give fractions in 0\.\.1"):
        ls.effectiveness(objective, {"fgsm": FGSM}, PGD, scales=(25,))
    with pytest.raises(UsageError, match=r"flip -0\.1: give fractions"):
        ls.effectiveness(objective, {"fgsm": FGSM}, PGD, flips=(-0.1,))
    case = CASES["mlp"]
    mean = ls.Objective(case.model(), case.data(), F.cross_entropy)
    with pytest.raises(UsageError, match="effectiveness needs a loss that returns one value per"):
        ls.effectiveness(mean, {"fgsm": FGSM}, PGD)
    found = ls.effectiveness(objective, {"fgsm": FGSM}, PGD)
    with pytest.raises(UsageError, match="unknown attack 'fgms': did you mean 'fgsm'"):
        found.mean_ratio("fgms")
    with pytest.raises(UsageError, match="unknown weakening 'size'"):
        found.curve("size")


# -- pictures and the command ---------------------------------------------------------------------


def test_pictures():
    found = ls.effectiveness(
        make(), {"fgsm": FGSM, "pgd": PGD}, STRONG, scales=(0.5,), flips=(0.5,), threshold=0.0
    )
    plain = ls.effectiveness(make(), {"fgsm": FGSM}, STRONG)
    assert [ax.get_visible() for ax in picture([plain]).axes] == [True, True]
    assert [ax.get_visible() for ax in picture([found, plain], ["a", "b"]).axes] == [True] * 4
    ax = draw_weakened([found], "scale")
    (x, y), _ = (line.get_data() for line in ax.lines[:2])
    assert_allclose(x, [50, 100])
    assert_allclose(y, [found.mean_ratio("fgsm", 1).value, found.mean_ratio("fgsm").value])
    assert ax.get_xlabel() == "size of the perturbation (%)"
    assert found.plot().get_ylabel() == "effectiveness against reference"


BUNDLED = Path(__file__).parent.parent / "checkpoints"


def test_command_on_two_checkpoints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    paths = [str(BUNDLED / f"digits-{name}-seed0.pt") for name in ("pgd", "standard")]
    arguments = ["effectiveness", *paths, "--n-examples", "60", "--reference", "pgd-10"]
    arguments += ["--attack", "fgsm,pgd-10"]
    assert run([*arguments, "--dry-run"]) == 0
    assert list(tmp_path.iterdir()) == []
    capsys.readouterr()
    assert run([*arguments, "--scale", "0,50", "--flip", "20"]) == 0
    out, err = capsys.readouterr()
    assert err.count("clean accuracy") == 2
    saved = ls.load_all("compared-effectiveness.h5")
    assert set(saved) == {"digits-pgd-seed0", "digits-standard-seed0"}
    for result in saved.values():
        assert result.provenance.settings["reference"]["steps"] == 10
        assert result.mean_ratio("pgd-10").value == 1
        for text in (result.mean_ratio("fgsm"), result.ratio_of_means("fgsm")):
            assert str(text) in out
        assert str(result.mean_ratio("fgsm", 2)) in out
    assert Path("compared-effectiveness.png").exists()
    assert run([*arguments[:2], "--n-examples", "20", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["reference"] == "pgd-50"
    assert body["attack"] == ["fgsm", "pgd-10"]
    assert len(body["clean_loss"]) == 20


def test_command_refusals_and_exit_code(tmp_path, monkeypatch, capsys, checkpoint):
    monkeypatch.chdir(tmp_path)
    arguments = ["effectiveness", str(checkpoint), "--n-examples", "20"]
    for extra, said in (
        (["--attack", "fgsm,fgsm"], "name each attack once"),
        (["--attack", "fgsm,pdg-3"], "unknown attack 'pdg'"),
        (["--flip", "120"], "percentages lie in 0..100"),
        (["--scale", "half"], "'half' is not a number"),
        (["--steps", "3"], "No such option"),
    ):
        assert run([*arguments, *extra]) == 2
        assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert run([*arguments, "--eps", "0"]) == 3
    assert "raises no sample's loss above the threshold" in capsys.readouterr().err
    assert Path("tiny-effectiveness.h5").exists()
