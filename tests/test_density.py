"""Stochastic Lanczos quadrature against matrices whose spectrum is known."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from cases import CASES, dense, joined
from numpy.testing import assert_allclose

import landscape as ls
from landscape import checkpoints
from landscape.cli import run
from landscape.diagnostics import densities
from landscape.diagnostics.densities import with_common_width
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
    assert 480 < found.products <= 480 + 60  # quadrature and outliers
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


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", ["mlp", "tied", "frozen", "unused"])
def test_outliers_against_the_dense_hessian(name, sign):
    """Of the loss and of its negative, so that either end has some."""
    case = CASES[name]
    values = sign * np.linalg.eigvalsh(dense(case.model(), *joined(case.data())).hessian.numpy())

    def loss(output, target):
        return sign * torch.nn.functional.cross_entropy(output, target, reduction="none")

    seen = []
    found = ls.density(
        ls.Objective(case.model(), case.data(), loss),
        3,
        6,
        outliers=5,
        progress=lambda done, total: seen.append((done, total)),
    )
    expected = values[np.argsort(-np.abs(values))[:5]]
    assert (np.abs(found.outliers - expected) <= found.outlier_residuals + 1e-12).all()
    assert_allclose(found.outliers, expected, rtol=1e-5)
    assert (found.outlier_residuals <= 1e-3 * np.abs(expected)).all()
    assert found.outlier_converged.all()
    assert found.trustworthy
    assert found.spectral_norm == abs(found.outliers[0])
    assert_allclose(found.intrinsic_dimension.value, found.trace.value / np.abs(values).max())
    assert_allclose(found.largest if sign > 0 else found.smallest, expected[0], rtol=1e-7)
    assert values.min() - 1e-5 <= found.smallest <= found.nodes.min() + 1e-5
    assert values.max() + 1e-5 >= found.largest >= found.nodes.max() - 1e-5
    assert found.products > 18  # those of the quadrature and of the outliers
    assert {total for _, total in seen} == {18 + 5}
    assert seen[-1] == (23, 23)


def test_products_of_outliers_are_counted(objective, monkeypatch):
    made = []

    class Counting(densities.Hessian):
        def __matmul__(self, vector):
            made.append(1)
            return super().__matmul__(vector)

    monkeypatch.setattr(densities, "Hessian", Counting)
    assert ls.density(objective, 2, 4).products == len(made) > 8
    made.clear()
    assert ls.density(objective, 2, 4, outliers=0).products == len(made) == 8


def test_as_many_outliers_as_there_are_and_none(objective):
    case = CASES["mlp"]
    bias = ls.Objective(case.model(), case.data(), params="4.bias")
    values = np.linalg.eigvalsh(dense(case.model(), *joined(case.data())).hessian[-3:, -3:])
    found = ls.density(bias, 2, 9)
    assert_allclose(np.sort(found.outliers), values, rtol=1e-9, atol=1e-12)
    none = ls.density(objective, 2, 9, outliers=0)
    assert none.outliers is none.outlier_residuals is none.spectral_norm is None
    assert none.trustworthy
    assert (none.smallest, none.largest) == (none.nodes.min(), none.nodes.max())
    norm = max(-none.smallest, none.largest)
    assert_allclose(none.intrinsic_dimension.value, none.trace.value / norm)
    some = ls.density(objective, 2, 9, outliers=2)
    assert_allclose(some.density, none.density)
    with pytest.raises(UsageError, match="number of outliers must be 0 or more, got -1"):
        ls.density(objective, outliers=-1)
    with pytest.raises(UsageError, match="kernel width must be positive and finite, got 0"):
        ls.density(objective, sigma=0, progress=lambda done, total: pytest.fail("work was done"))


def test_density_of_no_curvature():
    case = CASES["logistic"]

    def flat(output, target):
        return output.sum(1) + 0 * output.pow(2).sum(1)

    found = ls.density(ls.Objective(case.model(), case.data(), flat), 2, 4)
    assert found.outliers.tolist() == [0] * 10
    assert found.spectral_norm == found.smallest == found.largest == found.trace.value == 0
    assert found.trustworthy
    assert math.isnan(found.intrinsic_dimension.value)
    picture([found])


def test_smoothed_again_is_smoothed_at_once(objective):
    wide = ls.density(objective, 3, 8, sigma=0.3)
    narrow = ls.density(objective, 3, 8)
    again = narrow.smoothed(0.3)
    for name in ("eigenvalue_grid", "density", "density_standard_error", "densities", "sigma"):
        assert_allclose(getattr(again, name), getattr(wide, name), err_msg=name)
    assert again.provenance.settings == wide.provenance.settings
    assert again.products == narrow.products
    assert_allclose(again.outliers, narrow.outliers)
    first, second = with_common_width([narrow, dataclasses.replace(narrow, sigma=0.2)])
    assert first.sigma == second.sigma == 0.2
    assert_allclose(first.density, second.density)


def test_less_memory_gives_the_same_density(objective):
    usual, small = (ls.density(objective, 2, 5, memory=memory) for memory in (1 << 30, 1))
    assert small.provenance.settings["kept_samples"] == 0
    assert_allclose(small.nodes, usual.nodes, rtol=1e-6)
    assert_allclose(small.outliers, usual.outliers, rtol=1e-6)


def test_density_settings_are_kept(objective):
    found = ls.density(objective, 2, 4, sigma=0.25, kind="gaussian", seed=3)
    assert found.sigma == 0.25
    assert found.nodes.shape == (2, 4)
    assert found.provenance.settings["kind"] == "gaussian"
    assert found.provenance.settings["steps"] == 4
    with pytest.raises(UsageError, match="at least 1 probe"):
        ls.density(objective, 0)


def test_density_pictures(objective):
    results = [ls.density(objective, 3, 8, sigma=0.01), ls.density(objective, 1, 8, sigma=0.01)]
    linear, log = picture(results[:1]).axes
    assert (linear.get_yscale(), log.get_yscale()) == ("linear", "log")
    assert linear.get_xlim() == log.get_xlim()
    assert legend(linear) == ["outliers"]
    for ax in (linear, log):
        marks = next(line for line in ax.lines if line.get_marker() == "|")
        assert_allclose(marks.get_xdata(), results[0].outliers)
        assert min(marks.get_ydata()) > 1  # above the panel
    for count in (2, 3, 5):
        many = (results * 3)[:count]
        panels = picture(many, [str(i) for i in range(count)]).axes
        panels = [ax for ax in panels if ax.get_visible()]
        assert [ax.get_title() for ax in panels] == [str(i) for i in range(count)]
        assert len({(*ax.get_xlim(), *ax.get_ylim()) for ax in panels}) == 1
        assert {ax.get_yscale() for ax in panels} == {"log"}
    found = results[0]
    assert_allclose(linear.lines[0].get_ydata(), found.density)
    # The foot of the logarithmic panel is below the peak of one eigenvalue.
    single = 1 / (found.parameters * found.sigma * math.sqrt(2 * math.pi))
    assert 0 < log.get_ylim()[0] < single < log.get_ylim()[1]
    ax = draw([found], ax=linear.figure.add_subplot(), outliers=[[0.1, 0.2]])
    assert_allclose(ax.lines[1].get_xdata(), [0.1, 0.2])
    bare = draw([found], ax=linear.figure.add_subplot(), outliers=())
    assert len(bare.lines) == 1
    assert bare.get_legend() is None
    both = [found, found.smoothed(0.02)]
    titles = ["a, σ = 0.01", "b, σ = 0.02"]
    assert [ax.get_title() for ax in picture(both, ["a", "b"]).axes] == titles
    over = draw(both, ["a", "b"], ax=linear.figure.add_subplot())
    assert legend(over) == [*titles, "outliers"]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_density_command(tmp_path, monkeypatch, capsys):
    path = str(checkpoints.bundled()["digits-standard-seed0"])
    monkeypatch.chdir(tmp_path)
    small = ["--probes", "2", "--steps", "3", "--n-examples", "40"]
    assert run(["density", path, *small, "--dry-run"]) == 0
    assert "up to 306 Hessian-vector products" in capsys.readouterr().out
    assert run(["density", path, *small, "--dry-run", "--outliers", "0"]) == 0
    assert "up to 6 Hessian-vector products" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert run(["density", path, *small, "--attack", "pgd-2", "--outliers", "3"]) == 0
    out = capsys.readouterr().out
    stem = "digits-standard-seed0-density-pgd-2"
    assert "Frobenius norm" in out
    assert "eigenvalues of largest magnitude" in out
    assert out.splitlines()[-1] == f"wrote {stem}.pdf"
    saved = ls.load(f"{stem}.h5")
    assert saved.nodes.shape == (2, 3)
    assert saved.provenance.objective["attack"]["steps"] == 2
    assert run(["density", path, *small, "--attack", "pgd-2"]) == 1
    assert "exists: pass --overwrite" in capsys.readouterr().err
    assert run(["density", path, "--probes", "1"]) == 2
    assert run(["density", path, *small, "--outliers", "0", "--overwrite"]) == 0
    out = capsys.readouterr().out
    assert "magnitude" not in out
    assert "(a node)" in out


def test_density_command_on_several(tmp_path, monkeypatch, capsys):
    names = ["digits-standard-seed0", "digits-pgd-seed0"]
    paths = [str(checkpoints.bundled()[name]) for name in names]
    monkeypatch.chdir(tmp_path)
    small = ["--probes", "2", "--steps", "5", "--n-examples", "40", "--outliers", "2"]
    assert run(["density", *paths, *small, "--memory", "1MiB", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    saved = ls.load_all("compared-density.h5")
    assert list(said) == names
    assert saved[names[0]].sigma == saved[names[1]].sigma > 0
    for name in names:
        assert saved[name].to_dict() == said[name]
        assert saved[name].outliers.shape == (2,)
        assert saved[name].provenance.settings["memory"] == 1 << 20
    # Where outliers can't be trusted the exit code says so.
    found = densities.eigenpairs

    def unconverged(*args, **kwargs):
        pairs = found(*args, **kwargs)
        return dataclasses.replace(pairs, converged=np.array([True, False]), complete=False)

    monkeypatch.setattr(densities, "eigenpairs", unconverged)
    assert run(["density", *paths, *small, "--overwrite"]) == 3
    out, err = capsys.readouterr()
    assert "kernel width σ, the same for all" in out
    assert f"{names[1]}: 1 of 2 outliers have not converged: ask for fewer" in err
    assert run(["density", *paths, *small, "--overwrite", "--memory", "lots"]) == 2
    assert "'lots' is not a size" in capsys.readouterr().err
