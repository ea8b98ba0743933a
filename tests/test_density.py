"""Stochastic Lanczos quadrature against matrices whose spectrum is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from cases import CASES, dense, joined
from numpy.testing import assert_allclose

import landscape as ls
from landscape.cli import run
from landscape.errors import NumericalError, UsageError
from landscape.linalg import Dense, Quadrature, quadrature, smooth
from landscape.plotting import picture
from landscape.plotting.density import draw
from landscape.random import Streams


def with_spectrum(values, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    n = len(values)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    matrix = (q * torch.tensor(values, dtype=torch.float64)) @ q.T
    return ((matrix + matrix.T) / 2).to(dtype)


BULK = [*np.linspace(-1, 1, 190).tolist(), 4.0, 3.0]


def first_probe(n, kind="rademacher", seed=0):
    """The first probe as the documentation defines it, drawn apart from the code under test."""
    streams = Streams(seed)
    if kind == "gaussian":
        z = streams.normal("probe", (n,))
        return z / z.norm()
    return (2.0 * (streams.uniform("probe", (n,)) < 0.5) - 1.0).double() / math.sqrt(n)


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
@pytest.mark.parametrize("steps", [1, 2, 5, 9])
def test_gauss_quadrature_is_exact_up_to_its_degree(kind, steps):
    matrix = with_spectrum(BULK)
    rule = quadrature(Dense(matrix), probes=2, steps=steps, kind=kind, streams=Streams(0))
    assert rule.nodes.shape == rule.weights.shape == (2, steps)
    z = first_probe(len(BULK), kind)
    power = z.clone()
    for k in range(2 * steps + 1):
        moment = float(torch.dot(z, power))
        found = rule.moments(k)[0]
        if k < 2 * steps:
            assert_allclose(found, moment, rtol=1e-12, atol=1e-13, err_msg=f"degree {k}")
        else:  # the degree that the rule can't do: it must miss, or the test says nothing
            assert abs(found - moment) > 1e-11 * abs(moment)
        power = matrix @ power


@pytest.mark.parametrize(("dtype", "slack"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_nodes_lie_within_the_spectrum_and_its_ends_are_found(dtype, slack):
    rule = quadrature(
        Dense(with_spectrum(BULK, dtype=dtype)), probes=4, steps=40, streams=Streams(1)
    )
    assert -1 - slack <= rule.smallest <= -0.95
    assert_allclose(rule.largest, 4, rtol=1e-5)
    assert (np.diff(rule.nodes, axis=1) >= 0).all()
    assert (rule.weights >= 0).all()
    assert_allclose(rule.weights.sum(1), 1, rtol=1e-12)
    assert rule.products == 160


def test_precisions_agree():
    a, b = (
        quadrature(Dense(with_spectrum(BULK, dtype=d)), probes=3, steps=30, streams=Streams(0))
        for d in (torch.float32, torch.float64)
    )
    one, two = (smooth(rule, sigma=0.1, grid=np.linspace(-2, 5, 200)) for rule in (a, b))
    assert_allclose(one.mean, two.mean, atol=1e-4)


def test_moments_are_those_of_the_matrix_within_their_error():
    matrix = with_spectrum(BULK)
    rule = quadrature(Dense(matrix), probes=200, steps=3, streams=Streams(2))
    n = len(matrix)
    for power, exact in ((1, matrix.trace() / n), (2, (matrix**2).sum() / n)):
        estimate = rule.moment(power)
        assert estimate.samples == 200
        assert 0 < estimate.standard_error < 0.1
        assert abs(estimate.value - float(exact)) <= 5 * estimate.standard_error


@pytest.mark.parametrize("sigma", [None, 0.02, 0.5])
def test_density_integrates_to_one(sigma):
    rule = quadrature(Dense(with_spectrum(BULK)), probes=3, steps=30, streams=Streams(0))
    found = smooth(rule, sigma=sigma)
    assert found.sigma == (sigma or 0.01 * (rule.largest - rule.smallest))
    assert np.diff(found.grid).max() < found.sigma
    assert found.densities.shape == (3, len(found.grid))
    for density in [*found.densities, found.mean]:
        assert_allclose(np.trapezoid(density, found.grid), 1, atol=1e-8)
    # Smoothing keeps the mean, and adds σ² to the second moment.
    first = np.trapezoid(found.mean * found.grid, found.grid)
    second = np.trapezoid(found.mean * found.grid**2, found.grid)
    assert_allclose(first, rule.moments(1).mean(), atol=1e-6)
    assert_allclose(second, rule.moments(2).mean() + found.sigma**2, atol=1e-6)
    assert_allclose(found.mean, found.densities.mean(0))
    assert_allclose(found.standard_error, found.densities.std(0, ddof=1) / math.sqrt(3))


def test_density_is_that_of_the_dense_spectrum():
    values = np.array(BULK)
    rule = quadrature(Dense(with_spectrum(BULK)), probes=60, steps=60, streams=Streams(3))
    found = smooth(rule, sigma=0.15)
    exact = np.exp(-0.5 * ((found.grid[:, None] - values) / 0.15) ** 2).mean(1)
    exact /= 0.15 * math.sqrt(2 * math.pi)
    missed = np.abs(found.mean - exact)
    assert (missed <= 5 * found.standard_error + 1e-4).all()
    assert np.trapezoid(missed, found.grid) < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("values", "distinct"),
    [([2.0] * 30, [2.0]), ([0.0] * 30, [0.0]), ([5.0, 5.0, 1.0] + [0.0] * 60, [0.0, 1.0, 5.0])],
    ids=["identity", "zero", "rank deficient"],
)
def test_breakdown(values, distinct, dtype):
    matrix = (
        with_spectrum(values, dtype=dtype)
        if len(distinct) > 1
        else torch.diag(torch.tensor(values, dtype=dtype))
    )
    rule = quadrature(Dense(matrix), probes=3, steps=20, streams=Streams(0))
    assert rule.nodes.shape == (3, 20)
    tiny = 1e-9 if dtype == torch.float64 else 1e-4
    streams = Streams(0)
    for nodes, weights in zip(rule.nodes, rule.weights, strict=True):
        # Rounding may go on into another copy of an eigenvalue, which takes a part of its weight.
        z = 2.0 * (streams.uniform("probe", (len(values),)) < 0.5) - 1
        z /= math.sqrt(len(values))
        near = np.abs(nodes[:, None] - distinct) < 1e-5
        assert near[weights > tiny].any(1).all()
        lam, u = np.linalg.eigh(matrix.double().numpy())
        shares = (np.abs(lam[:, None] - distinct) < 1e-5).T @ (u.T @ z.numpy()) ** 2
        assert_allclose(weights @ near, shares, atol=tiny)
    if len(distinct) == 1:
        assert rule.products == 3
        assert (rule.weights[:, 1:] == 0).all()
    found = smooth(rule)
    assert_allclose(np.trapezoid(found.mean, found.grid), 1, atol=1e-8)


def test_more_steps_than_rows():
    rule = quadrature(Dense(with_spectrum([3.0, 1.0, -2.0])), probes=2, steps=9, streams=Streams(0))
    assert rule.nodes.shape == (2, 3)
    assert_allclose(rule.nodes, [[-2, 1, 3]] * 2, atol=1e-12)


def test_one_probe_has_no_error():
    rule = quadrature(Dense(with_spectrum(BULK)), probes=1, steps=5, streams=Streams(0))
    assert np.isinf(smooth(rule).standard_error).all()
    assert math.isinf(rule.moment(1).standard_error)


def test_density_refusals():
    operator, streams = Dense(torch.eye(4)), Streams(0)
    with pytest.raises(UsageError, match="at least 1 probe, got 0"):
        quadrature(operator, probes=0, streams=streams)
    with pytest.raises(UsageError, match="at least 1 Lanczos step, got 0"):
        quadrature(operator, steps=0, streams=streams)
    with pytest.raises(UsageError, match="unknown kind of probe 'gauss'"):
        quadrature(operator, kind="gauss", streams=streams)
    with pytest.raises(NumericalError, match=r"not finite \(step 1\)"):
        quadrature(Dense(torch.full((3, 3), math.nan)), streams=streams)
    rule = Quadrature(np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]]), 2, 2)
    for sigma in (0, -1, math.nan, math.inf):
        with pytest.raises(UsageError, match="kernel width must be positive"):
            smooth(rule, sigma=sigma)
    with pytest.raises(UsageError, match=r"1e-09 needs 4e\+09 grid points .* at least 4e-06"):
        smooth(rule, sigma=1e-9)
    with pytest.raises(UsageError, match=r"widest gap, 0\.25, is not below the kernel width 0\.1"):
        smooth(rule, sigma=0.1, grid=np.linspace(-1, 2, 13))
    with pytest.raises(UsageError, match="at least 2 increasing points"):
        smooth(rule, sigma=0.1, grid=np.array([1.0, 0.0]))


# -- the diagnostic -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def objective():
    case = CASES["mlp"]
    return ls.Objective(case.model(), case.data(), case.loss)


def test_density_of_a_network_is_that_of_its_dense_hessian(objective):
    case = CASES["mlp"]
    hessian = dense(case.model(), *joined(case.data())).hessian
    values = torch.linalg.eigvalsh(hessian).numpy()
    found = ls.density(objective, probes=20, steps=24)
    n = len(values)
    assert found.parameters == n
    assert found.products <= 480
    assert values[0] - 1e-9 <= found.smallest
    assert_allclose(found.largest, values[-1], rtol=1e-8)
    for estimate, exact in (
        (found.trace, values.sum()),
        (found.frobenius, np.sqrt((values**2).sum())),
        (found.effective_rank, values.sum() ** 2 / (values**2).sum()),
        (found.intrinsic_dimension, values.sum() / np.abs(values).max()),
    ):
        assert abs(estimate.value - exact) <= 5 * estimate.standard_error
        assert estimate.samples == 20
    kernel = np.exp(-0.5 * ((found.eigenvalue_grid[:, None] - values) / found.sigma) ** 2)
    exact = kernel.mean(1) / (found.sigma * math.sqrt(2 * math.pi))
    assert np.trapezoid(np.abs(found.density - exact), found.eigenvalue_grid) < 0.15


def test_density_settings_are_kept(objective):
    found = ls.density(objective, 2, 4, sigma=0.25, kind="gaussian", seed=3)
    assert found.sigma == 0.25
    assert found.nodes.shape == (2, 4)
    assert found.provenance.settings["kind"] == "gaussian"
    assert found.provenance.settings["steps"] == 4
    with pytest.raises(UsageError, match="at least 1 probe"):
        ls.density(objective, 0)


def test_density_pictures(objective):
    results = [ls.density(objective, 3, 8), ls.density(objective, 1, 8, seed=1)]
    figure = picture(results, ["a", "b"])
    linear, log = figure.axes
    assert (linear.get_yscale(), log.get_yscale()) == ("linear", "log")
    assert [text.get_text() for text in linear.get_legend().get_texts()] == ["a", "b"]
    found = results[0]
    assert_allclose(linear.lines[0].get_ydata(), found.density)
    # The foot of the logarithmic panel is below the peak of one eigenvalue.
    single = 1 / (found.parameters * found.sigma * math.sqrt(2 * math.pi))
    assert 0 < log.get_ylim()[0] < single < log.get_ylim()[1]
    ax = draw([found], ax=linear.figure.add_subplot(), outliers=[[0.1, 0.2]])
    assert_allclose(ax.lines[-1].get_xdata(), [0.1, 0.2])


def test_density_command(tmp_path, monkeypatch, capsys):
    from landscape import checkpoints

    path = str(checkpoints.bundled()["digits-standard-seed0"])
    monkeypatch.chdir(tmp_path)
    small = ["--probes", "2", "--steps", "3", "--n-examples", "40"]
    assert run(["density", path, *small, "--dry-run"]) == 0
    assert "up to 6 Hessian-vector products" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert run(["density", path, *small, "--attack", "pgd-2"]) == 0
    out = capsys.readouterr().out
    stem = "digits-standard-seed0-density-pgd-2"
    assert "Frobenius norm" in out
    assert out.splitlines()[-1] == f"wrote {stem}.pdf"
    saved = ls.load(f"{stem}.h5")
    assert saved.nodes.shape == (2, 3)
    assert saved.provenance.objective["attack"]["steps"] == 2
    assert run(["density", path, *small, "--attack", "pgd-2"]) == 1
    assert "exists: pass --overwrite" in capsys.readouterr().err
    assert run(["density", path, "--probes", "1"]) == 2
