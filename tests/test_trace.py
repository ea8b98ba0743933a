"""Hutch++, XTrace and Frobenius norms against matrices whose traces are known."""

from __future__ import annotations

import itertools
import json
import math

import click
import numpy as np
import pytest
import torch
from cases import CASES, Case, dense, joined, mlp
from numpy.testing import assert_allclose

import landscape as ls
from landscape import checkpoints
from landscape.cli import options, run
from landscape.cli.several import distinct
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
from landscape.linalg import trace as estimators
from landscape.operators import MEMORY, Hessian
from landscape.plotting import picture
from landscape.plotting.trace import largest_layers
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
    assert [total for _, total in seen] == [used] * len(seen)
    steps = np.diff([0, *(done for done, _ in seen)])
    assert steps.sum() == used
    assert 0 < steps.min() <= steps.max() <= 16
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


@EVERY
def test_blocks_are_only_a_way_to_make_products(name, monkeypatch):
    widths = set()

    class Watched(Dense):
        def __matmul__(self, vectors):
            widths.add(vectors.shape[1])
            assert all(column.is_contiguous() for column in vectors.unbind(1))
            return super().__matmul__(vectors)

    operator = Watched(with_spectrum(SPECTRA["decaying"]))
    estimate, together = TRACES[name](operator, samples=60, streams=Streams(0))
    assert max(widths) == 16
    widths.clear()
    monkeypatch.setattr(estimators, "_BLOCK_BYTES", 2 * 60 * 8)  # what two columns take
    narrow, in_pairs = TRACES[name](operator, samples=60, streams=Streams(0))
    assert max(widths) == 2
    assert_allclose(in_pairs, together, rtol=1e-9)
    assert narrow.samples == estimate.samples


def test_recorded_blocks():
    matrix = with_spectrum([3.0, -1.0, 0.5, 2.0, 1.0])
    operator = Recorded(Dense(matrix), [2, 0, 3])
    v, w = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_allclose(operator @ v, matrix @ v)
    assert_allclose(operator @ torch.stack([v, w], 1), matrix @ torch.stack([v, w], 1))
    assert operator.products == 3
    for x, square, shares in zip((v, v, w), operator.squares, operator.shares, strict=True):
        parts = x * (matrix @ x)
        assert_allclose(square, float((matrix @ x).norm() ** 2))
        assert_allclose(shares, [float(parts[:2].sum()), 0, float(parts[2:].sum())])


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
    for function in (hutchinson, hutchpp, xtrace, frobenius):
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
        assert found.layer is found.layer_trace is found.layer_standard_error is None
        assert found.layers() == {}
    found.plot()
    with pytest.raises(UsageError, match=r"unknown trace estimator 'xtrase'.*'xtrace'"):
        ls.trace(objective, method="xtrase")


TINY = Case(lambda: mlp(2, inputs=1, outputs=2), (1,), outputs=2)


def test_all_signs_together_give_the_traces_of_the_blocks_exactly():
    """The expectation over z is the mean over all 2ⁿ of them."""
    hessian = dense(TINY.model(), *joined(TINY.data())).hessian
    objective = ls.Objective(TINY.model(), TINY.data())
    sizes = [p.numel() for p in objective.params.values()]
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=len(hessian))))
    operator = Recorded(Hessian(objective), sizes)
    operator @ signs.double().T
    assert operator.products == 2 ** len(hessian)
    blocks = [float(part.sum()) for part in hessian.diagonal().split(sizes)]
    assert_allclose(np.mean(operator.shares, axis=0), blocks, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["mlp", "tied", "frozen", "unused", "conv, batchnorm, dropout"])
def test_layers_against_the_dense_blocks(name):
    case, samples = CASES[name], 200
    hessian = dense(case.model(), *joined(case.data())).hessian
    found = ls.trace(ls.Objective(case.model(), case.data()), samples)
    named = {n: p.numel() for n, p in case.model().named_parameters() if p.requires_grad}
    assert list(found.layer) == list(named)
    assert found.layer_size.tolist() == list(named.values())
    assert_allclose(found.layer_trace.sum(), found.trace.value, rtol=1e-12)
    edges = np.cumsum([0, *named.values()])
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        block, rows = hessian[low:high, low:high], hessian[low:high]
        value, error = found.layer_trace[i], found.layer_standard_error[i]
        assert abs(value - float(block.trace())) <= 5 * error + 1e-15
        squares = 2 * (block**2).sum() - 2 * (block.diagonal() ** 2).sum()
        squares += (rows**2).sum() - (block**2).sum()
        assert_allclose(error, (float(squares) / samples) ** 0.5, rtol=0.3, atol=1e-15)
        assert found.layers()[found.layer[i]] == ls.Estimate(value, error, samples)


def test_layers_of_tensors_alone_have_no_error_from_the_others():
    case = CASES["mlp"]
    alone = ls.trace(ls.Objective(case.model(), case.data(), params="4.bias"), 50)
    whole = ls.trace(ls.Objective(case.model(), case.data()), 50).layers()["4.bias"]
    assert alone.layers()["4.bias"].value == pytest.approx(alone.trace.value, rel=1e-12)
    assert alone.trace.standard_error < whole.standard_error


def test_less_memory_gives_the_same_trace():
    case = CASES["mlp"]
    objective = ls.Objective(case.model(), case.data())
    usual, small = ls.trace(objective, 5), ls.trace(objective, 5, memory=1)
    assert small.provenance.settings["memory"] == 1
    assert small.provenance.settings["kept_samples"] == 0
    assert usual.provenance.settings["memory"] == MEMORY
    assert_allclose(small.estimates, usual.estimates, rtol=1e-9)


def test_trace_pictures():
    case = CASES["mlp"]
    objective = ls.Objective(case.model(), case.data())
    two = [ls.trace(objective, 10, seed=seed) for seed in (0, 1)]
    left, right = picture(two, ["a", "b"]).axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["a", "b"]
    names = [text.get_text() for text in right.get_yticklabels()]
    assert names == largest_layers(two)
    assert sorted(names) == sorted(two[0].layer)
    for trace, points in zip(two, right.containers, strict=True):
        assert_allclose(points.lines[0].get_xdata(), [trace.layers()[n].value for n in names])
    sharp = ls.trace(objective, 10, method="xtrace")
    assert len(picture([sharp]).axes) == 1
    assert len(picture([two[0], sharp], ["a", "sharp"]).axes) == 2
    deep = Case(lambda: mlp(*[2] * 14))
    many = ls.trace(ls.Objective(deep.model(), deep.data()), 4)
    right = picture([many]).axes[1]
    assert len(right.get_yticklabels()) == 24
    assert "largest 24 of 30" in right.get_xlabel()


@EVERY
def test_trace_command(name, tmp_path, monkeypatch, capsys):
    path = str(checkpoints.bundled()["digits-standard-seed0"])
    monkeypatch.chdir(tmp_path)
    command = ["trace", path, "--samples", "6", "--n-examples", "40", "--method", name]
    assert run(command) == 0
    out = capsys.readouterr().out
    assert f"clean loss, {name}, 6 products" in out
    assert ("Frobenius" in out) == ("conv1.weight" in out) == (name == "hutchinson")
    saved = ls.load("digits-standard-seed0-trace.h5")
    assert saved.products == 6
    assert run([*command, "--overwrite", "--tol", "1e-9"]) == 3
    assert "exceeds tol after 6 products: raise --samples" in capsys.readouterr().err


def test_trace_command_on_several(tmp_path, monkeypatch, capsys):
    names = ["digits-standard-seed0", "digits-pgd-seed0"]
    paths = [str(checkpoints.bundled()[name]) for name in names]
    monkeypatch.chdir(tmp_path)
    small = ["--samples", "4", "--n-examples", "40", "--memory", "1MiB"]
    assert run(["trace", *paths, *small, "--dry-run"]) == 0
    assert "up to 8 Hessian-vector products" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert run(["trace", *paths, *small, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said) == names
    saved = ls.load_all("compared-trace.h5")
    for name in names:
        assert saved[name].to_dict() == said[name]
        assert saved[name].provenance.settings["memory"] == 1 << 20
        assert_allclose(sum(said[name]["layer_trace"]), said[name]["trace"]["value"], rtol=1e-9)
    assert (tmp_path / "compared-trace.png").stat().st_size > 1000
    # Nothing is measured where one of them can't be.
    monkeypatch.setattr("landscape.diagnostics.trace", None)
    assert run(["trace", paths[0], "missing.pt", *small, "--out", "a"]) != 0
    assert "missing.pt" in capsys.readouterr().err
    assert run(["trace", paths[0], paths[0], *small, "--out", "a"]) == 2
    assert "is given twice: name every file once" in capsys.readouterr().err


def test_names_of_several():
    assert distinct(["a/x.pt", "b/y.pt"]) == {"x": "a/x.pt", "y": "b/y.pt"}
    assert distinct(["a/x.pt", "b/x.pt"]) == {"a-x": "a/x.pt", "b-x": "b/x.pt"}
    assert distinct(["x.pt"]) == {"x": "x.pt"}
    with pytest.raises(UsageError, match="same name and folder: rename one"):
        distinct(["a/x.pt", "a/x.pth"])


def test_bytes():
    def read(text):
        return options.BYTES.convert(text, None, None)

    assert read("4GiB") == 4 << 30 == MEMORY
    assert read(" 1.5 kib ") == 1536
    assert read("500MB") == 500_000_000
    assert read("17") == read("17B") == read(17) == 17
    for nonsense in ("", "GiB", "-1", "0", "0.1", "4XB", "nan", "1e9", "4GiB2"):
        with pytest.raises(click.BadParameter, match="is not a size: write bytes, or 500MiB or"):
            read(nonsense)
    (memory,) = (p for p in options.memory(click.Command("x")).params if p.name == "memory")
    assert read(memory.default) == MEMORY
