"""Per-sample curvature against dense Hessians, closed forms and the paper's formulas."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from cases import CASES, dense, joined
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor, nn

import landscape as ls
from landscape.cli import run
from landscape.diagnostics import sample_hessians as H
from landscape.diagnostics import samples as S
from landscape.errors import NumericalError, UsageError
from landscape.plotting import picture
from landscape.plotting.samples import draw
from landscape.random import Streams


def make(name: str, sizes: tuple[int, ...] = (7, 5, 1, 4), **kwargs) -> ls.Objective:
    case = CASES[name]
    return ls.Objective(case.model(), case.data(sizes), case.loss, **kwargs)


@functools.cache
def references(name: str) -> list:
    """Dense ℓ_i, ∇ℓ_i and ∇²ℓ_i of every sample."""
    case = CASES[name]
    x, y = joined(case.data())
    return [dense(case.model(), x[i : i + 1], y[i : i + 1], case.loss) for i in range(len(x))]


class Quadratic(nn.Module):
    """Per-sample outputs that the loss below turns into ½ θᵀA_iθ + θᵀb_i."""

    def __init__(self, n: int = 5) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.theta = nn.Parameter(torch.randn(n, generator=g, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:  # x (B, n, n + 1): A_i beside b_i
        curved = torch.einsum("i,bij,j->b", self.theta, x[..., :-1], self.theta) / 2
        return (curved + x[..., -1] @ self.theta)[:, None]


def itself(output: Tensor, _: Tensor) -> Tensor:
    return output[:, 0]


def quadratic(n: int = 5, count: int = 6, *, parallel: bool = False):
    """The objective, A (count, n, n), ∇ℓ_i (count, n); parallel: all gradients in one direction."""
    g = torch.Generator().manual_seed(1)
    a = torch.randn(count, n, n, generator=g, dtype=torch.float64)
    a = a + a.mT
    model = Quadratic(n)
    theta = model.theta.detach()
    if parallel:
        common = torch.randn(n, generator=g, dtype=torch.float64)
        sizes = torch.rand(count, 1, generator=g, dtype=torch.float64) + 0.5
        b = sizes * common - a @ theta
    else:
        b = torch.randn(count, n, generator=g, dtype=torch.float64)
    x = torch.cat([a, b[..., None]], 2)
    return ls.Objective(model, (x, torch.zeros(count)), itself), a, a @ theta + b


# -- exact ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", ["vmap", "loop"])
def test_exact_eigenvalues_against_dense(name, way, monkeypatch):
    if way == "loop":
        monkeypatch.setattr(H, "MEMORY", 0)
    dense_ones = references(name)
    found = ls.sample_curvature(make(name), sub_batches=(1,), tol=1e-7)
    assert found.provenance.settings["product"] == way
    expected = np.array([float(torch.linalg.eigvalsh(d.hessian)[-1]) for d in dense_ones])
    assert_allclose(found.lambda_max, expected, rtol=1e-8, atol=1e-10)
    assert (np.abs(found.lambda_max - expected) <= found.residuals + 1e-12).all()
    assert found.converged.all()
    assert found.trustworthy
    assert_allclose(found.loss, [d.loss for d in dense_ones], rtol=1e-10)
    assert_allclose(found.gradient_norm, [float(d.gradient.norm()) for d in dense_ones], rtol=1e-9)
    assert_allclose(found.mean_lambda_max.value, expected.mean(), rtol=1e-8)
    error = expected.std(ddof=1) / len(expected) ** 0.5
    assert_allclose(found.mean_lambda_max.standard_error, error, rtol=1e-6)
    control = scipy.stats.spearmanr([d.loss for d in dense_ones], expected).statistic
    assert_allclose(found.spearman_loss.value, control)


def test_a_network_that_vmap_cannot_run_goes_one_by_one():
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = CASES["mlp"].model()

        def forward(self, x: Tensor) -> Tensor:
            scale = 2.0 if float(x.detach().sum()) < -1e9 else 1.0
            return scale * self.net(x)

    found = ls.sample_curvature(
        ls.Objective(Branching(), CASES["mlp"].data()), sub_batches=(1, 4), tol=1e-7
    )
    assert found.provenance.settings["product"] == "loop"
    usual = ls.sample_curvature(make("mlp"), sub_batches=(1, 4), tol=1e-7)
    for field in ("lambda_max", "lower", "upper", "spearman", "gradient_norm"):
        assert_allclose(getattr(found, field), getattr(usual, field), rtol=1e-6, atol=1e-8)


def test_perturbed_inputs_are_those_held():
    case = CASES["mlp"]
    o = make("mlp", attack=ls.attack("pgd-3", eps=0.2))
    perturbed = [(t.x, t.y) for t in o.terms()]
    found = ls.sample_curvature(o, sub_batches=(1,), tol=1e-7)
    again = ls.sample_curvature(ls.Objective(case.model(), perturbed), sub_batches=(1,), tol=1e-7)
    each = ls.sample_curvature(o.with_attack(o.attack, "each"), sub_batches=(1,), tol=1e-7)
    assert_allclose(found.lambda_max, again.lambda_max, rtol=1e-10)
    assert_allclose(found.lambda_max, each.lambda_max, rtol=1e-10)
    clean = ls.sample_curvature(make("mlp"), sub_batches=(1,), tol=1e-7)
    assert np.abs(clean.lambda_max / found.lambda_max - 1).max() > 0.01


def test_giving_up_is_flagged():
    found = ls.sample_curvature(make("mlp"), sub_batches=(1,), max_products=3)
    assert (found.products == 3).all()
    assert not found.converged.any()
    assert not found.trustworthy
    exact = [float(torch.linalg.eigvalsh(d.hessian)[-1]) for d in references("mlp")]
    assert (found.lambda_max <= np.array(exact) + 1e-12).all()


def test_negative_and_zero_hessians():
    x = torch.zeros(3, 4, 5, dtype=torch.float64)
    x[0, :, :4] = torch.diag(torch.tensor([-4.0, -3, -2, -1]))
    x[1, :, :4] = torch.eye(4)
    x[..., 4] = 1
    o = ls.Objective(Quadratic(4), (x, torch.zeros(3)), itself)
    found = ls.sample_curvature(o, sub_batches=(1,), tol=1e-9)
    assert_allclose(found.lambda_max, [-1, 1, 0], atol=1e-10)
    assert found.converged.all()
    assert found.products.tolist() == [4, 1, 1]


# -- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_corrected_scores_on_quadratics(size):
    o, a, gradients = quadratic()
    alpha = 0.1
    found = ls.sample_curvature(o, sub_batches=(size,), alpha=alpha, tol=1e-9)
    for i in range(6):
        mean = gradients[i // size * size : i // size * size + size].mean(0)
        norm = float(mean.norm())
        g = mean / norm
        curved = float(g @ a[i] @ g)
        slope, own = float(gradients[i] @ g), float(gradients[i].norm())
        assert_allclose(found.lower[0, i], curved, rtol=1e-9)
        expected = curved + 2 / (alpha * norm) * (slope + own)
        assert_allclose(found.upper[0, i], expected, rtol=1e-9)
        assert_allclose(found.lambda_max[i], float(torch.linalg.eigvalsh(a[i])[-1]), rtol=1e-8)
    assert (found.lower <= found.lambda_max + 1e-9).all()
    assert (found.lower <= found.upper + 1e-9).all()
    if size == 1:
        assert_allclose(found.upper[0] - found.lower[0], 4 / alpha, rtol=1e-8)


def test_parallel_gradients_need_no_slope_of_their_own():
    """g ∥ ∇ℓ_i: the slope is ‖∇ℓ_i‖, and the formula is the one with the norm in it."""
    o, a, gradients = quadratic(parallel=True)
    found = ls.sample_curvature(o, sub_batches=(1, 3), alpha=0.1)
    g = gradients[0] / gradients[0].norm()
    expected = torch.einsum("i,bij,j->b", g, a, g)
    assert_allclose(found.lower, np.stack([expected, expected]), rtol=1e-9)


@pytest.mark.parametrize("form", S.FORMS)
@pytest.mark.parametrize("size", [1, 4, 17])
@pytest.mark.parametrize("name", ["mlp", "conv, batchnorm, dropout", "tied", "frozen"])
def test_scores_against_the_formulas(name, size, form):
    """Losses at θ ± αg of the module itself, with gradients from the dense reference."""
    case, alpha = CASES[name], 0.05
    x, y = joined(case.data())
    gradients = torch.stack([d.gradient for d in references(name)])
    found = ls.sample_curvature(
        make(name), sub_batches=(size,), alpha=alpha, form=form, exact=False
    )
    model = case.model().eval()
    leaves = [p for p in model.parameters() if p.requires_grad]
    theta = [p.detach().clone() for p in leaves]

    def loss(i: int, move: Tensor) -> float:
        pieces = move.split([p.numel() for p in leaves])
        with torch.no_grad():
            for p, t, piece in zip(leaves, theta, pieces, strict=True):
                p.copy_(t + piece.view(t.shape))
            return float(-model(x[i : i + 1]).log_softmax(1)[0, y[i]])

    for i in range(0, 17, 3):
        mean = gradients[i // size * size : i // size * size + size].mean(0)
        norm = float(mean.norm())
        g, step = mean / norm, alpha * norm
        here, up, down = (loss(i, t * step * g) for t in (0, 1, -1))
        if form == "printed":  # eqs. 19 and 20, term by term
            lower = (1 / step) * max(up - step * norm, down + step * norm) - here
            upper = (1 / step) * (up + step * norm) - here
        else:
            slope = step * float(gradients[i] @ g)
            lower = (2 / step**2) * max(up - here - slope, down - here + slope)
            upper = (2 / step**2) * (up - here + step * float(gradients[i].norm()))
        assert_allclose(found.lower[0, i], lower, rtol=1e-7, atol=1e-7)
        assert_allclose(found.upper[0, i], upper, rtol=1e-7, atol=1e-7)


def test_small_steps_find_the_curvature_along_the_gradient():
    found = ls.sample_curvature(make("mlp"), sub_batches=(1, 4), alpha=1e-3)
    for i, d in enumerate(references("mlp")):
        g = d.gradient / d.gradient.norm()
        assert_allclose(found.lower[0, i], float(g @ d.hessian @ g), rtol=0.01, atol=0.01)
    assert (found.lower <= found.lambda_max + 0.01).all()


def test_samples_without_gradient_have_no_score():
    o, _, _ = quadratic()
    x = torch.cat([t.x for t in o.terms()])
    x[2] = 0
    found = ls.sample_curvature(
        ls.Objective(Quadratic(), (x, torch.zeros(6)), itself), sub_batches=(1, 6)
    )
    assert np.isnan(found.lower[0]).tolist() == [False, False, True, False, False, False]
    assert found.ranked.tolist() == [5, 6]
    assert found.lambda_max[2] == 0
    assert found.correlation("lower", 1).samples == 5
    json.dumps(found.to_dict(), allow_nan=False)


def test_rounding_drowns_scores_in_float32():
    case = CASES["mlp"]
    data = [(x.float(), y) for x, y in case.data()]
    coarse = ls.Objective(case.model().float(), data)
    found = ls.sample_curvature(coarse, sub_batches=(1, 4), alpha=1e-5, exact=False)
    assert (found.drowned > 10).all()
    printed = ls.sample_curvature(
        coarse, sub_batches=(1, 4), alpha=1e-5, exact=False, form="printed"
    )
    assert not printed.drowned.any()
    fine = ls.sample_curvature(make("mlp"), sub_batches=(1, 4), exact=False)
    assert not fine.drowned.any()


# -- correlations ---------------------------------------------------------------------------------


def test_spearman_against_scipy():
    rng = np.random.default_rng(0)
    a = rng.standard_normal(40).round(1)  # with ties
    b = a + rng.standard_normal(40)
    b[3] = np.nan
    use = np.arange(40) != 3
    found = S.spearman(b, a)
    rho = scipy.stats.spearmanr(a[use], b[use]).statistic
    assert found.samples == 39
    assert_allclose(found.value, rho)
    assert_allclose(found.standard_error, (1 - rho**2) * ((1 + rho**2 / 2) / 36) ** 0.5)
    assert S.spearman(a**3, a).value == pytest.approx(1)
    assert np.isnan(S.spearman(np.ones(9), np.arange(9.0)).value)
    assert S.spearman(np.arange(3.0), np.arange(3.0)).standard_error == np.inf


def test_spearmans_standard_error_is_that_of_repeated_samples():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(2000):
        a = rng.standard_normal(100)
        found.append(S.spearman(a + rng.standard_normal(100), a))
    spread = np.std([e.value for e in found])
    claimed = np.mean([e.standard_error for e in found])
    assert claimed == pytest.approx(spread, rel=0.1)


def test_correlations_by_name():
    found = ls.sample_curvature(make("mlp"), sub_batches=(1, 4))
    assert found.correlation("upper", 4).value == found.spearman[1, 1]
    assert found.correlation("lower", 1).standard_error == found.spearman_standard_error[0, 0]
    with pytest.raises(UsageError, match="unknown score 'lowest'"):
        found.correlation("lowest", 1)
    with pytest.raises(UsageError, match="unknown sub-batch size '8'"):
        found.correlation("lower", 8)
    without = ls.sample_curvature(make("mlp"), sub_batches=(1, 4), exact=False)
    assert without.lambda_max is without.spearman is without.mean_lambda_max is None
    assert without.trustworthy
    assert_array_equal(without.lower, found.lower)
    with pytest.raises(UsageError, match="no correlations without the exact"):
        without.correlation("lower", 1)


# -- batches, refusals, picture, command ----------------------------------------------------------


@pytest.mark.parametrize("sizes", [(17,), (3, 3, 11), (1,) * 17])
def test_batches_of_the_data_change_nothing(sizes):
    one = ls.sample_curvature(make("mlp"), sub_batches=(1, 4, 8))
    other = ls.sample_curvature(make("mlp", sizes), sub_batches=(1, 4, 8))
    for field in ("lambda_max", "residuals", "lower", "upper", "spearman", "loss"):
        assert_array_equal(getattr(one, field), getattr(other, field))


def test_chunks_change_nothing(monkeypatch):
    one = ls.sample_curvature(make("mlp"), sub_batches=(1, 8), tol=1e-8)
    monkeypatch.setattr(H, "CHUNK", 3)
    other = ls.sample_curvature(make("mlp"), sub_batches=(1, 8), tol=1e-8)
    for field in ("lambda_max", "lower", "upper", "spearman"):
        assert_allclose(getattr(one, field), getattr(other, field), rtol=1e-6, atol=1e-9)


def test_refusals():
    o = make("mlp")
    with pytest.raises(UsageError, match="at least one sub-batch size"):
        ls.sample_curvature(o, sub_batches=())
    with pytest.raises(UsageError, match=r"a sub-batch of 18 samples: sizes lie in 1\.\.17"):
        ls.sample_curvature(o, sub_batches=(1, 18))
    with pytest.raises(UsageError, match="a sub-batch of 0 samples"):
        ls.sample_curvature(o, sub_batches=(0,))
    with pytest.raises(UsageError, match="sub-batch sizes repeat: 4, 4"):
        ls.sample_curvature(o, sub_batches=(4, 4))
    for alpha in (0, -0.1, float("nan")):
        with pytest.raises(UsageError, match="alpha must be positive and finite"):
            ls.sample_curvature(o, sub_batches=(1,), alpha=alpha)
    with pytest.raises(UsageError, match="unknown form 'eq19'"):
        ls.sample_curvature(o, sub_batches=(1,), form="eq19")
    with pytest.raises(UsageError, match="tol must be positive"):
        ls.sample_curvature(o, sub_batches=(1,), tol=0)
    with pytest.raises(UsageError, match="max_products must be at least 1"):
        ls.sample_curvature(o, sub_batches=(1,), max_products=0)
    mean = ls.Objective(CASES["mlp"].model(), CASES["mlp"].data(), nn.CrossEntropyLoss())
    with pytest.raises(UsageError, match="needs a loss that returns one value per sample"):
        ls.sample_curvature(mean, sub_batches=(1,))


def test_overflow_is_refused_by_sample():
    o, _, _ = quadratic()
    x = torch.cat([t.x for t in o.terms()])
    x[3, :, :-1] *= 1e308
    broken = ls.Objective(Quadratic(), (x, torch.zeros(6)), itself)
    with pytest.raises(NumericalError, match="sample 3 is not finite"):
        H.top_eigenvalues(H.Samples(broken), tol=1e-3, streams=Streams(0))


def test_picture():
    import matplotlib.pyplot as plt

    found = ls.sample_curvature(make("mlp"), sub_batches=(1, 4), max_products=6)
    ax = found.plot(score="upper", sub_batches=[4])
    (text,) = [t.get_text() for t in ax.get_legend().get_texts()]
    rho = found.correlation("upper", 4)
    assert text == f"b = 4, ρ = {rho.value:.2f} ± {rho.standard_error:.2f}"
    drawn = np.concatenate([line.get_xdata() for line in ax.lines])
    assert_array_equal(np.sort(drawn), np.sort(found.lambda_max))
    assert ax.get_xscale() != "linear" or found.lambda_max.max() < 10 * found.lambda_max.min()
    plt.close(ax.figure)
    assert len(picture([found, found], ["a", "b"]).axes) == 4
    without = ls.sample_curvature(make("mlp"), sub_batches=(1, 4), exact=False)
    with pytest.raises(UsageError, match="no exact eigenvalues to draw"):
        draw(without)


def test_command(checkpoint: Path, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["samples", str(checkpoint), "--n-examples", "40", "--sub-batch", "1,8"]
    assert run([*command, "--dry-run"]) == 0
    assert "for each of 40 samples" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert run([*command, "--dtype", "float64"]) == 0
    out = capsys.readouterr().out
    saved = ls.load("tiny-samples.h5")
    assert str(saved.mean_lambda_max) in out
    assert "0 % not converged" in out
    for size in (1, 8):
        assert str(saved.correlation("lower", size)) in out
    assert Path("tiny-samples.png").stat().st_size > 1000
    assert run([*command, "--max-products", "1", "--form", "printed", "--out", "b.h5"]) == 3
    assert "40 of 40 eigenvalues have not converged after 1 products" in capsys.readouterr().err
    assert ls.load("b.h5").form == "printed"
    assert run([*command[:-1], "1,x"]) == 2
    assert "is not a list of sizes" in capsys.readouterr().err
    assert run([*command[:-1], "64", "--dry-run", "--out", "c.h5"]) == 2
    assert "sizes lie in 1..40" in capsys.readouterr().err
    assert run([*command, "--attack", "pgd-2", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["sub_batch"] == [1, 8]
    assert body["provenance"]["objective"]["attack"]["steps"] == 2
