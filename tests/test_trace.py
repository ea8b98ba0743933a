"""Hutch++, XTrace and Frobenius norms against matrices whose traces are known."""

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
from landscape.linalg import (
    TRACES,
    Dense,
    Recorded,
    effective_rank,
    frobenius,
    frobenius_norm,
    hutchinson,
    hutchpp,
    xtrace,
)
from landscape.random import Streams

SHARP = pytest.mark.parametrize("name", ["hutchpp", "xtrace"])
EVERY = pytest.mark.parametrize("name", TRACES)


def with_spectrum(values, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    n = len(values)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    matrix = (q * torch.tensor(values, dtype=torch.float64)) @ q.T
    return ((matrix + matrix.T) / 2).to(dtype)


SPECTRA = {
    "flat": np.linspace(-1, 3, 60).tolist(),
    "decaying": [10.0 / (i + 1) ** 2 for i in range(60)],
    "indefinite outliers": [20.0, -15.0, 8.0, *np.linspace(-0.3, 0.3, 57).tolist()],
}


@EVERY
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_unbiased_and_within_five_standard_errors(name, spectrum):
    values = SPECTRA[spectrum]
    operator = Dense(with_spectrum(values))
    runs = [TRACES[name](operator, samples=24, streams=Streams(s))[0] for s in range(150)]
    found = np.array([r.value for r in runs])
    error = found.std(ddof=1) / math.sqrt(len(runs))
    assert abs(found.mean() - sum(values)) <= 5 * error
    one, _ = TRACES[name](operator, samples=60, streams=Streams(7))
    assert abs(one.value - sum(values)) <= 5 * one.standard_error


@EVERY
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_standard_errors_are_calibrated(name, spectrum):
    values = SPECTRA[spectrum]
    operator = Dense(with_spectrum(values))
    runs = [TRACES[name](operator, samples=40, streams=Streams(s))[0] for s in range(150)]
    # Errors against the errors that were said, over all runs together.
    actual = math.sqrt(np.mean([(r.value - sum(values)) ** 2 for r in runs]))
    said = math.sqrt(np.mean([r.standard_error**2 for r in runs]))
    assert 0.7 < actual / said < 1.4


@SHARP
@pytest.mark.parametrize(("dtype", "tiny"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("low_rank", [[], [3.0], [5.0, -3.0, 2.0, 1.0]], ids=["0", "1", "4"])
def test_exact_for_low_ranks(name, dtype, tiny, low_rank):
    values = [*low_rank, *[0.0] * (50 - len(low_rank))]
    matrix = with_spectrum(values, dtype=dtype)
    for samples in (15, 24):
        estimate, _ = TRACES[name](Dense(matrix), samples=samples, streams=Streams(1))
        assert abs(estimate.value - sum(values)) <= 50 * tiny
        assert estimate.standard_error <= 50 * tiny


@SHARP
def test_decay_beats_hutchinson(name):
    values = [2.0**-i for i in range(60)]
    operator = Dense(with_spectrum(values))
    sharp, plain = (
        np.mean(
            [
                (TRACES[way](operator, samples=30, streams=Streams(s))[0].value - sum(values)) ** 2
                for s in range(20)
            ]
        )
        for way in (name, "hutchinson")
    )
    assert sharp < 1e-4 * plain


@EVERY
@pytest.mark.parametrize("samples", [4, 5, 12, 31])
def test_samples_are_the_products(name, samples):
    operator = Recorded(Dense(with_spectrum(SPECTRA["flat"])))
    seen = []
    estimate, estimates = TRACES[name](
        operator,
        samples=samples,
        streams=Streams(0),
        progress=lambda done, total: seen.append((done, total)),
    )
    used = samples - samples % 2 if name == "xtrace" else samples
    assert operator.products == used
    assert seen == [(i + 1, used) for i in range(used)]
    count = {"hutchinson": samples, "hutchpp": samples - 2 * (samples // 3), "xtrace": used // 2}
    assert estimate.samples == len(estimates) == count[name]
    assert_allclose(estimate.value, estimates.mean())
    assert_allclose(
        estimate.standard_error, estimates.std(ddof=1) / math.sqrt(len(estimates)), rtol=1e-12
    )


@EVERY
def test_stops_at_the_standard_error_asked_for(name):
    operator = Recorded(Dense(with_spectrum(SPECTRA["decaying"]) + torch.eye(60)))
    estimate, _ = TRACES[name](operator, samples=120, tol=0.05, streams=Streams(0))
    assert estimate.standard_error <= 0.05 * abs(estimate.value)
    assert operator.products < 120
    never = Recorded(operator.operator)
    TRACES[name](never, samples=30, tol=1e-12, streams=Streams(0))
    assert never.products == 30


def test_xtrace_by_doubling_is_xtrace_at_once():
    operator = Dense(with_spectrum(SPECTRA["flat"]))
    once, all_at_once = xtrace(operator, samples=50, streams=Streams(0))
    doubled, in_parts = xtrace(operator, samples=50, tol=1e-15, min_samples=4, streams=Streams(0))
    assert doubled.samples == once.samples == 25
    assert_allclose(in_parts, all_at_once, rtol=1e-10)


def test_xtrace_is_its_definition():
    """Every leave-one-out estimate from its own QR, as the paper defines it."""
    n, m = 30, 6
    matrix = with_spectrum(np.linspace(-1, 3, n).tolist())
    _, found = xtrace(Dense(matrix), samples=2 * m, streams=Streams(4))
    streams, columns = Streams(4), []
    for _ in range(m):
        x = streams.normal("sphere", (n,))
        columns.append(x * math.sqrt(n) / x.norm())
    omega = torch.stack(columns, 1)
    for i in range(m):
        others = [j for j in range(m) if j != i]
        q = torch.linalg.qr(matrix @ omega[:, others])[0]
        u = omega[:, i] - q @ (q.T @ omega[:, i])
        expected = (q.T @ matrix @ q).trace() + (n - m + 1) * (u @ matrix @ u) / (u @ u)
        assert_allclose(found[i], float(expected), rtol=1e-10)


@EVERY
@pytest.mark.parametrize("n", [1, 2, 3])
def test_more_products_than_rows(name, n):
    values = [3.0, -1.0, 0.5][:n]
    estimate, _ = TRACES[name](Dense(with_spectrum(values)), samples=40, streams=Streams(0))
    assert abs(estimate.value - sum(values)) <= 5 * estimate.standard_error + 1e-10


def test_frobenius_norm():
    values = SPECTRA["indefinite outliers"]
    exact = math.sqrt(sum(v**2 for v in values))
    operator = Dense(with_spectrum(values))
    square, squares = frobenius(operator, samples=200, streams=Streams(0))
    assert square.samples == len(squares) == 200
    assert abs(square.value - exact**2) <= 5 * square.standard_error
    norm = frobenius_norm(squares)
    assert_allclose(norm.value, math.sqrt(squares.mean()))
    assert abs(norm.value - exact) <= 5 * norm.standard_error
    runs = [
        frobenius_norm(frobenius(operator, samples=60, streams=Streams(s))[1]) for s in range(150)
    ]
    z = np.array([(r.value - exact) / r.standard_error for r in runs])
    assert 0.7 < z.std() < 1.4
    early, _ = frobenius(operator, samples=200, tol=0.5, streams=Streams(0))
    assert early.samples == 10
    zero, zeros = frobenius(Dense(torch.zeros(4, 4)), samples=3, streams=Streams(0))
    assert zero.value == frobenius_norm(zeros).value == frobenius_norm(zeros).standard_error == 0


def test_effective_rank():
    values = [*[2.0] * 12, *[0.0] * 48]
    operator = Recorded(Dense(with_spectrum(values)))
    _, traces = hutchinson(operator, samples=100, streams=Streams(0))
    found = effective_rank(traces, operator.squares)
    assert abs(found.value - 12) <= 5 * found.standard_error
    assert 0 < found.standard_error < 1
    assert found.samples == 100
    runs = []
    for seed in range(100):
        operator = Recorded(Dense(with_spectrum(SPECTRA["decaying"])))
        _, traces = hutchinson(operator, samples=50, streams=Streams(seed))
        runs.append(effective_rank(traces, operator.squares))
    spread = np.std([r.value for r in runs])
    assert 0.7 < spread / np.mean([r.standard_error for r in runs]) < 1.4
    assert math.isnan(effective_rank([0, 0], [0, 0]).value)


def test_trace_refusals():
    operator, streams = Dense(torch.eye(4)), Streams(0)
    with pytest.raises(UsageError, match="hutchpp needs at least 4 products, got 3"):
        hutchpp(operator, samples=3, streams=streams)
    with pytest.raises(UsageError, match="xtrace needs at least 4 products, got 3"):
        xtrace(operator, samples=3, streams=streams)
    with pytest.raises(UsageError, match="at least 2 samples, got 1"):
        frobenius(operator, samples=1, streams=streams)
    broken = Dense(torch.full((3, 3), math.nan))
    for function in (hutchpp, xtrace, frobenius):
        with pytest.raises(NumericalError, match="product of the matrix with a vector is not fini"):
            function(broken, samples=6, streams=streams)


# -- the diagnostic -------------------------------------------------------------------------------


@EVERY
def test_trace_of_a_network_against_its_dense_hessian(name):
    case = CASES["mlp"]
    hessian = dense(case.model(), *joined(case.data())).hessian
    objective = ls.Objective(case.model(), case.data(), case.loss)
    found = ls.trace(objective, 60, method=name)
    error = abs(found.trace.value - float(hessian.trace()))
    assert error <= 5 * found.trace.standard_error + 1e-12
    assert found.products == 60
    assert found.provenance.settings["method"] == name
    assert_allclose(found.estimates.mean(), found.trace.value)
    if name == "hutchinson":
        norm, rank = found.frobenius, found.effective_rank
        assert abs(norm.value - float(hessian.norm())) <= 5 * norm.standard_error
        exact = float(hessian.trace() / hessian.norm()) ** 2
        assert abs(rank.value - exact) <= 5 * rank.standard_error
    else:
        assert found.frobenius is None
        assert found.effective_rank is None
    found.plot()
    with pytest.raises(UsageError, match=r"unknown trace estimator 'xtrase'.*'xtrace'"):
        ls.trace(objective, method="xtrase")


@EVERY
def test_trace_command(name, tmp_path, monkeypatch, capsys):
    from landscape import checkpoints

    path = str(checkpoints.bundled()["digits-standard-seed0"])
    monkeypatch.chdir(tmp_path)
    command = ["trace", path, "--samples", "6", "--n-examples", "40", "--method", name]
    assert run(command) == 0
    out = capsys.readouterr().out
    assert f"clean loss, {name}, 6 products" in out
    assert ("Frobenius" in out) == (name == "hutchinson")
    saved = ls.load("digits-standard-seed0-trace.h5")
    assert saved.products == 6
    assert run([*command, "--overwrite", "--tol", "1e-9"]) == 3
    assert "exceeds tol after 6 products: raise --samples" in capsys.readouterr().err
