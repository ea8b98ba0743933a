"""Input gradients and input Hessians against dense per-sample derivatives and closed forms."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CASES, conv_net, joined, mlp
from numpy.testing import assert_allclose
from torch import nn

import landscape as ls
from landscape.cli import run
from landscape.diagnostics import input_hessians
from landscape.errors import NumericalError, UsageError
from landscape.plotting import picture

SIZES = (7, 5, 1, 4)


def relu_conv():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(36, 5),
    )
    nn.init.uniform_(net[1].running_mean, -0.5, 0.5)
    nn.init.uniform_(net[1].running_var, 0.5, 2.0)
    return net


NETS = {
    "relu mlp": (lambda: mlp(16, 12, inputs=8, act=nn.ReLU), (8,), "exact"),
    "relu conv, batchnorm, dropout, max-pool": (relu_conv, (1, 6, 6), "exact"),
    "softmax regression": (lambda: mlp(inputs=8), (8,), "exact"),
    "two classes": (lambda: mlp(9, inputs=8, outputs=2, act=nn.ReLU), (8,), "exact"),
    "softplus mlp": (lambda: mlp(16, 12, inputs=8, act=nn.Softplus), (8,), "dense"),
    "smooth conv, batchnorm, dropout": (conv_net, (1, 6, 6), "dense"),
    "softplus mlp, large": (lambda: mlp(16, inputs=120, act=nn.Softplus), (120,), "lanczos"),
}
NET = pytest.mark.parametrize("name", NETS)


def make(name, n=17, seed=3):
    build, shape, method = NETS[name]
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        model = build().double()
    g = torch.Generator().manual_seed(5)
    x = torch.rand(n, *shape, generator=g, dtype=torch.float64)
    with torch.no_grad():
        classes = copy.deepcopy(model).eval()(x).shape[1]
    return model, x, torch.randint(classes, (n,), generator=g), method


def batches(x, y, sizes=SIZES):
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def oracle(model, x, y, loss=F.cross_entropy):
    """IG vectors and Hessians, one sample at a time, by torch.func on the module itself."""
    model = copy.deepcopy(model).eval().requires_grad_(False)
    gradients, hessians = [], []
    for one, label in zip(x, y, strict=True):

        def value(v, one=one, label=label):
            return loss(model(v.reshape(1, *one.shape)), label[None])

        flat = one.flatten()
        gradients.append(torch.func.grad(value)(flat))
        hessians.append(torch.func.hessian(value)(flat))
    return torch.stack(gradients), torch.stack(hessians)


def largest(hessians, top):
    values = np.linalg.eigvalsh(hessians.numpy())
    order = np.argsort(-np.abs(values), axis=1)[:, :top]
    return np.take_along_axis(values, order, 1)


@NET
def test_every_route_against_a_dense_oracle(name):
    model, x, y, method = make(name)
    gradients, hessians = oracle(model, x, y)
    found = ls.inputs(ls.Objective(model, batches(x, y)), 6)
    assert found.method == method
    assert found.trustworthy
    assert_allclose(found.ig_l1, gradients.abs().sum(1), rtol=1e-10)
    assert_allclose(found.ig_l2, gradients.norm(dim=1), rtol=1e-10)
    expected = largest(hessians, 6)
    scale = np.abs(expected).max(1, keepdims=True)
    assert (np.abs(found.eigenvalues - expected) <= found.residuals + 1e-9 * scale).all()
    assert_allclose(found.eigenvalues[:, 0], expected[:, 0], rtol=1e-5)
    assert_allclose(found.hs, np.abs(found.eigenvalues).sum(1))
    assert found.mean_hs == ls.Estimate.of(found.hs)
    assert found.mean_ig_l1 == ls.Estimate.of(found.ig_l1)
    assert found.mean_hs.samples == len(x)
    assert found.checked == 4
    assert (found.disagreement < 1e-9) == (method == "exact")


@NET
@pytest.mark.parametrize("route", ["dense", "lanczos"])
def test_routes_that_assume_nothing_agree_with_the_oracle(name, route):
    model, x, y, _ = make(name)
    expected = largest(oracle(model, x, y)[1], 4)
    found = ls.inputs(ls.Objective(model, batches(x, y)), 4, method=route)
    assert found.method == route
    assert found.disagreement is None
    assert found.trustworthy
    scale = np.abs(expected).max(1, keepdims=True)
    assert (np.abs(found.eigenvalues - expected) <= found.residuals + 1e-9 * scale).all()


@NET
def test_rebatching_changes_nothing(name):
    model, x, y, _ = make(name)
    a, b = (
        ls.inputs(ls.Objective(model, batches(x, y, sizes)), 5) for sizes in (SIZES, (1, 2, 14))
    )
    for field in ("ig_l1", "ig_l2", "hs", "eigenvalues"):
        assert_allclose(getattr(a, field), getattr(b, field), rtol=1e-8, atol=1e-12, err_msg=field)
    assert a.method == b.method
    assert a.checked == b.checked


def test_parts_of_a_batch_change_nothing(monkeypatch):
    model, x, y, _ = make("softplus mlp, large")
    whole = ls.inputs(ls.Objective(model, (x, y)), 5)
    monkeypatch.setattr(input_hessians, "MEMORY", 600_000)
    assert_allclose(ls.inputs(ls.Objective(model, (x, y)), 5).eigenvalues, whole.eigenvalues)


def test_softmax_regression_in_closed_form():
    model, x, y, _ = make("softmax regression")
    weight, bias = model[0].weight.detach(), model[0].bias.detach()
    p = (x @ weight.T + bias).softmax(1)
    found = ls.inputs(ls.Objective(model, (x, y)), 8)
    hessians = weight.T @ (torch.diag_embed(p) - p[:, :, None] * p[:, None]) @ weight
    assert_allclose(found.eigenvalues, largest(hessians, 8), atol=1e-12)
    gradients = (p - F.one_hot(y, 3)) @ weight
    assert_allclose(found.ig_l1, gradients.abs().sum(1), rtol=1e-12)
    assert (found.eigenvalues[:, 2:] == 0).all()  # rank C − 1


def test_logistic_regression_in_closed_form():
    w = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64)
    model = nn.Linear(3, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.stack([torch.zeros(3, dtype=torch.float64), w]))
        model.bias.zero_()
    x = torch.rand(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(9) % 2
    p = torch.sigmoid(x @ w)
    found = ls.inputs(ls.Objective(model, (x, y)), 3)
    assert_allclose(found.ig_l1, (p - y).abs() * w.abs().sum(), rtol=1e-12)
    assert_allclose(found.hs, p * (1 - p) * w.square().sum(), rtol=1e-12)


def test_confident_samples_keep_their_digits():
    model = mlp(inputs=4, outputs=3).float()
    x, y = torch.rand(5, 4), torch.zeros(5, dtype=torch.long)
    with torch.no_grad():
        model[0].bias.copy_(torch.tensor([24.0, 0.0, 1.0]))
    expected = largest(oracle(copy.deepcopy(model).double(), x.double(), y)[1], 3)
    found = ls.inputs(ls.Objective(model, (x, y)), 3)
    assert found.method == "exact"
    assert found.hs.max() < 1e-8  # 1 − p is far below the resolution of float32
    assert_allclose(found.eigenvalues[:, 0], expected[:, 0], rtol=1e-4)


def test_lanczos_where_the_chain_ends_early():
    """Rank 2 of 120: the Krylov space is exhausted after three steps."""
    model = mlp(inputs=120).double()
    x = torch.rand(6, 120, dtype=torch.float64)
    y = torch.zeros(6, dtype=torch.long)
    o = ls.Objective(model, (x, y))
    exact, iterated = ls.inputs(o, 5), ls.inputs(o, 5, method="lanczos")
    assert iterated.trustworthy
    assert_allclose(iterated.eigenvalues, exact.eigenvalues, atol=1e-12)


def test_a_constant_network_has_no_slope_and_no_curvature():
    model = mlp(inputs=120).double()
    nn.init.zeros_(model[0].weight)
    x, y = torch.rand(4, 120, dtype=torch.float64), torch.zeros(4, dtype=torch.long)
    found = ls.inputs(ls.Objective(model, (x, y)), 3)
    assert found.disagreement == float("inf")
    assert found.method == "lanczos"
    assert found.hs.max() == found.ig_l1.max() == 0
    picture([found])


def test_unconverged_values_are_flagged(monkeypatch):
    model, x, y, _ = make("softplus mlp, large")
    monkeypatch.setattr(input_hessians, "_limit", lambda size, top: top)
    found = ls.inputs(ls.Objective(model, (x, y)), 3)
    assert not found.trustworthy
    assert not found.converged.all()
    true = largest(oracle(model, x, y)[1], 120)
    for ritz, residual, values in zip(found.eigenvalues, found.residuals, true, strict=True):
        assert (np.abs(values[:, None] - ritz).min(0) <= residual + 1e-12).all()


def test_regression_takes_a_route_that_assumes_no_cross_entropy():
    case = CASES["regression"]
    x, y = joined(case.data())
    found = ls.inputs(ls.Objective(case.model(), case.data(), "mse"), 3)
    hessians = oracle(case.model(), x, y, lambda z, t: ((z - t) ** 2).sum())[1]
    assert found.method == "dense"
    assert_allclose(found.eigenvalues, largest(hessians, 3), rtol=1e-9)
    # One output: the form does not apply, and nothing is compared.
    case = CASES["linear regression"]
    found = ls.inputs(ls.Objective(case.model(), case.data(), "mse"), 3)
    weight = case.model()[0].weight.detach()
    assert (found.method, found.checked, found.disagreement) == ("dense", 0, None)
    assert_allclose(found.hs, 2 * float(weight.square().sum()), rtol=1e-10)


def test_a_piecewise_linear_network_under_another_loss_is_not_exact():
    model, x, y, _ = make("relu mlp")

    def focal(output, target):
        nll = F.cross_entropy(output, target, reduction="none")
        return (1 - torch.exp(-nll)) ** 2 * nll

    found = ls.inputs(ls.Objective(model, (x, y), focal), 4)
    assert found.method == "dense"
    hessians = oracle(model, x, y, lambda z, t: focal(z, t).sum())[1]
    assert_allclose(found.eigenvalues, largest(hessians, 4), atol=1e-12)


def test_li2023_against_the_hessian_of_the_batch_mean():
    model, x, y, _ = make("relu mlp", n=230)
    model.eval()
    means = []
    for start in (0, 100):  # the incomplete last batch is left out
        part, labels = x[start : start + 100], y[start : start + 100]
        mean = torch.func.hessian(lambda v, t=labels: F.cross_entropy(model(v), t))(part)
        values = np.linalg.eigvalsh(mean.reshape(part.numel(), -1).detach().numpy())
        means.append(np.sort(np.abs(values))[-5:].mean())
    found = ls.inputs(ls.Objective(model, (x, y), batch_size=37), 5, li2023_compatible=True)
    assert_allclose(found.hs_li2023.value, np.mean(means), rtol=1e-9)
    assert found.hs_li2023.samples == 2
    assert ls.inputs(ls.Objective(model, (x, y)), 5).hs_li2023 is None


def test_adversarial_inputs_are_the_ones_measured():
    model, x, y, _ = make("relu mlp")
    attack = ls.attack("pgd-3", eps=0.2)
    o = ls.Objective(model, batches(x, y), attack=attack)
    moved = torch.cat([t.x for t in o.terms()])
    assert (moved - x).abs().max() > 0.1
    gradients, hessians = oracle(model, moved, y)
    found = ls.inputs(o, 3)
    assert_allclose(found.ig_l1, gradients.abs().sum(1), rtol=1e-10)
    assert_allclose(found.eigenvalues, largest(hessians, 3), atol=1e-10)
    assert found.provenance.objective["attack"]["eps"] == 0.2


def test_running_mean_against_prefixes():
    model, x, y, _ = make("relu mlp")
    found = ls.inputs(ls.Objective(model, (x, y)), 3)
    n, mean, error = found.running_hs()
    assert np.isnan(error[0])
    for m in (2, 5, 17):
        prefix = ls.Estimate.of(found.hs[:m])
        assert n[m - 1] == m
        assert_allclose([mean[m - 1], error[m - 1]], [prefix.value, prefix.standard_error])


def test_refusals():
    model, x, y, _ = make("softplus mlp")
    o = ls.Objective(model, (x, y))
    with pytest.raises(UsageError, match="asked for 9 eigenvalues, but an input has 8 entries"):
        ls.inputs(o, 9)
    with pytest.raises(UsageError, match="asked for 0 eigenvalues: ask for at least 1"):
        ls.inputs(o, 0)
    with pytest.raises(UsageError, match="n_check must be at least 1, got 0"):
        ls.inputs(o, 2, n_check=0)
    with pytest.raises(UsageError, match="unknown method 'exat': did you mean 'exact'"):
        ls.inputs(o, 2, method="exat")
    with pytest.raises(UsageError, match=r"disagrees with the true Hessian by .* on 4 samples"):
        ls.inputs(o, 2, method="exact")
    with pytest.raises(UsageError, match="batches of 100 samples, the data have 17"):
        ls.inputs(o, 2, li2023_compatible=True)
    case = CASES["linear regression"]
    with pytest.raises(UsageError, match=r"exact form is of classifiers.*not \(1, 1\)"):
        ls.inputs(ls.Objective(case.model(), case.data(), "mse"), 2, method="exact")
    model = model.float()
    with torch.no_grad():
        model[-1].weight.fill_(3e38)
    with pytest.raises(NumericalError, match="input derivatives of batch 0 are not finite"):
        ls.inputs(ls.Objective(model, (x.float(), y)), 2, method="dense")


def test_pictures_of_one_and_of_two(tmp_path):
    model, x, y, _ = make("relu mlp")
    found = ls.inputs(ls.Objective(model, (x, y)), 5)
    assert len(picture([found]).axes) == 4
    legend = picture([found, found], ["a", "b"]).axes[3].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["a", "b"]
    assert found.plot().get_xlabel() == "samples used"


BUNDLED = Path(__file__).parent.parent / "checkpoints" / "digits-pgd-seed0.pt"


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["inputs", str(BUNDLED), "--n-examples", "100", "--top", "12"]
    assert run([*arguments, "--dry-run"]) == 0
    assert "up to 1 batches" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert run([*arguments, "--li2023-compatible"]) == 0
    out = capsys.readouterr().out
    saved = ls.load("digits-pgd-seed0-inputs.h5")
    for estimate in (saved.mean_ig_l1, saved.mean_hs, saved.hs_li2023):
        assert str(estimate) in out
    assert "exact, exact form compared on 4 samples: largest disagreement" in out
    assert run([*arguments, "--activation", "softplus:10", "--json"]) == 0
    dual = json.loads(capsys.readouterr().out)
    assert dual["method"] == "dense"
    assert dual["disagreement"] > 1e-3
    assert dual["mean_hs"]["value"] != saved.mean_hs.value
    assert Path("digits-pgd-seed0-inputs-softplus-10.png").exists()


def test_command_refusals_and_exit_code(tmp_path, monkeypatch, capsys, checkpoint):
    monkeypatch.chdir(tmp_path)
    assert run(["inputs", str(checkpoint), "--activation", "softplus"]) == 2
    assert "takes no option 'activation'" in capsys.readouterr().err
    bare = tmp_path / "bare.pt"
    torch.save(ls.load_checkpoint(checkpoint).state_dict, bare)
    arguments = ["inputs", str(bare), "--model", "logistic", "--data", "digits"]
    assert run([*arguments, "--activation", "softplus"]) == 2
    assert "--activation rebuilds the architecture" in capsys.readouterr().err
    monkeypatch.setattr(input_hessians, "_limit", lambda size, top: top)
    arguments = ["inputs", str(BUNDLED), "--n-examples", "20", "--top", "3"]
    assert run([*arguments, "--method", "lanczos"]) == 3
    assert "have not converged after 3 products" in capsys.readouterr().err
    assert Path("digits-pgd-seed0-inputs.h5").exists()
