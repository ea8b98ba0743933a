"""Eigenpairs against dense ``eigh``, and Hutchinson's estimator against its own theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from landscape.errors import NumericalError, UsageError
from landscape.linalg import WHICH, Dense, eigenpairs, hutchinson, least_basis
from landscape.linalg.chains import Chains
from landscape.random import Streams


def with_spectrum(values, seed=0, dtype=torch.float64):
    """A dense symmetric matrix with these eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    n = len(values)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    matrix = (q * torch.as_tensor(np.asarray(values, dtype=float))) @ q.T
    return ((matrix + matrix.T) / 2).to(dtype)


def expected(matrix, k, which):
    values = np.linalg.eigvalsh(matrix.double().numpy())
    key = {"largest": values, "smallest": -values, "magnitude": np.abs(values)}[which]
    return values[np.argsort(key)[::-1][:k]]


def comparable(values, which):
    """±λ are equally large, so only the magnitudes have an order there."""
    return np.abs(values) if which == "magnitude" else values


def true_residuals(matrix, pairs):
    wide = matrix.double()
    vectors = pairs.vectors.double()
    return (wide @ vectors - vectors * torch.from_numpy(pairs.values)).norm(dim=0).numpy()


def softmax_regression_at_zero():
    """(I/10 − 11ᵀ/100) ⊗ XᵀX/n: nine copies of every eigenvalue of XᵀX/10n."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(30, 8, generator=generator, dtype=torch.float64)
    p = torch.full((10,), 0.1, dtype=torch.float64)
    return torch.kron(torch.diag(p) - torch.outer(p, p), x.T @ x / 30)


RNG = np.random.default_rng(0)
MATRICES = {
    "bulk and outliers": with_spectrum([9.0, 5, 4.5, 1, *RNG.normal(0, 0.2, 120)]),
    "repeated nine times": with_spectrum([3.0] * 9 + [2.0] * 9 + [1.0] * 9 + [0.0] * 60),
    "softmax regression at zero": softmax_regression_at_zero(),
    "±λ": with_spectrum([5, -5, 4, -4, 3, -3, *[0] * 40]),
    "±λ, repeated": with_spectrum([5] * 3 + [-5] * 3 + [4] * 2 + [-4] * 2 + [0.5] * 4 + [-0.1] * 9),
    "rank deficient": with_spectrum([7, 2, 1, *[0] * 50]),
    "indefinite": with_spectrum(RNG.normal(0, 1, 60)),
    "negative": with_spectrum(-np.linspace(0.5, 30, 40)),
    "clustered": with_spectrum([1, 1 - 1e-7, 1 - 2e-7, 0.5, 0.5, 0.5, *RNG.uniform(0, 0.3, 60)]),
    "zero": torch.zeros(15, 15, dtype=torch.float64),
    "identity": torch.eye(15, dtype=torch.float64),
    "diagonal": torch.diag(torch.arange(1.0, 31, dtype=torch.float64)),
    "tiny": with_spectrum([3e-12, 2e-12, 1e-12, *[1e-14] * 20]),
    "huge": with_spectrum([3e12, 2e12, -1e12, *RNG.normal(0, 1, 20)]),
}
EVERY = pytest.mark.parametrize("name", MATRICES)


@EVERY
@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("seed", [0, 1])
def test_eigenvalues_with_their_multiplicity(name, which, seed):
    matrix, k = MATRICES[name], 6
    pairs = eigenpairs(
        Dense(matrix), k, which=which, tol=1e-9, max_products=1000, streams=Streams(seed)
    )
    reference = expected(matrix, k, which)
    size = max(np.abs(np.linalg.eigvalsh(matrix.numpy())).max(), 1e-300)
    assert pairs.converged.all()
    assert pairs.complete
    assert isinstance(pairs.complete, bool)
    assert_allclose(
        comparable(pairs.values, which) / size, comparable(reference, which) / size, atol=1e-8
    )
    assert_allclose(pairs.residuals / size, true_residuals(matrix, pairs) / size, atol=1e-12)
    gram = pairs.vectors.T @ pairs.vectors
    assert_allclose(gram.numpy(), np.eye(k), atol=1e-10)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("which", WHICH)
def test_every_copy_is_found_in_every_precision(dtype, which, seed):
    # A probe that finds another 3 leaves the innermost of six values, a 2, where it was.
    matrix = with_spectrum([3.0] * 9 + [2.0] * 9 + [1.0] * 9 + [0.0] * 100, seed, dtype)
    pairs = eigenpairs(Dense(matrix), 6, which=which, streams=Streams(seed))
    assert pairs.complete
    assert_allclose(pairs.values, expected(matrix, 6, which), atol=1e-4)


@EVERY
@pytest.mark.parametrize("which", WHICH)
@pytest.mark.parametrize("seed", [0, 1])
def test_restarts_change_nothing(name, which, seed):
    matrix, k = MATRICES[name], 4
    n = len(matrix)
    operator, basis = Dense(matrix), least_basis(k, n)
    pairs = eigenpairs(
        operator,
        k,
        which=which,
        tol=1e-9,
        max_products=2000,
        max_basis=basis,
        streams=Streams(seed),
    )
    size = max(np.abs(np.linalg.eigvalsh(matrix.numpy())).max(), 1e-300)
    assert pairs.converged.all()
    assert pairs.complete
    assert_allclose(
        comparable(pairs.values, which) / size,
        comparable(expected(matrix, k, which), which) / size,
        atol=1e-8,
    )
    assert_allclose(pairs.residuals / size, true_residuals(matrix, pairs) / size, atol=1e-11)


def test_a_small_basis_costs_products_not_accuracy():
    matrix = with_spectrum([*np.geomspace(1, 50, 20), *RNG.normal(0, 0.3, 1500)], 0, torch.float32)
    whole = eigenpairs(Dense(matrix), 10, streams=Streams(0))
    part = eigenpairs(Dense(matrix), 10, max_basis=30, streams=Streams(0))
    assert whole.restarts == 0 < part.restarts
    assert part.products < 2 * whole.products
    assert part.converged.all()
    assert_allclose(part.values, expected(matrix, 10, "largest"), rtol=1e-5)
    assert_allclose(part.vectors.abs().T @ whole.vectors.abs() >= 0.99, np.eye(10))


def test_a_warm_start_saves_products_and_misses_nothing():
    values = [*np.geomspace(1, 50, 12), *RNG.normal(0, 0.2, 500)]
    before = with_spectrum(values)
    step = with_spectrum(RNG.normal(0, 0.01, 512), seed=5)
    old = eigenpairs(Dense(before), 6, streams=Streams(0))
    cold = eigenpairs(Dense(before + step), 6, streams=Streams(1))
    warm = eigenpairs(Dense(before + step), 6, start=old.vectors, streams=Streams(1))
    assert_allclose(warm.values, expected(before + step, 6, "largest"), rtol=1e-6)
    assert warm.products < cold.products
    # A guess that lies wholly elsewhere is no harm.
    lost = eigenpairs(
        Dense(before), 6, start=torch.linalg.eigh(before)[1][:, 100:106], streams=Streams(1)
    )
    assert lost.complete
    assert_allclose(lost.values, expected(before, 6, "largest"), rtol=1e-6)


def test_residuals_hold_the_rounding_error_of_the_products():
    class Rounded(Dense):
        """Products in bfloat16, 8 bits: what a careless operator returns."""

        def __matmul__(self, vector):
            return super().__matmul__(vector).bfloat16().double()

    matrix = with_spectrum([50, 20, 10, *RNG.normal(0, 0.1, 300)])
    pairs = eigenpairs(Rounded(matrix), 3, tol=1e-6, max_products=40, streams=Streams(0))
    true = true_residuals(matrix, pairs)
    assert true.max() > 1e-3
    assert (pairs.residuals > true / 3).all()
    assert not pairs.converged.any()


@pytest.mark.parametrize("seed", range(3))
def test_never_complete_and_wrong_when_gaps_are_small(seed):
    matrix = with_spectrum([1, 0.99, 0.99, 0.98, 0.98, 0.98, *np.linspace(0, 0.97, 300)], seed)
    pairs = eigenpairs(Dense(matrix), 6, streams=Streams(seed))
    wrong = np.abs(pairs.values - expected(matrix, 6, "largest")).max() > 2e-3
    assert not (wrong and pairs.complete and pairs.converged.all())
    enough = eigenpairs(Dense(matrix), 6, max_products=400, streams=Streams(seed))
    assert enough.complete
    assert_allclose(enough.values, expected(matrix, 6, "largest"), atol=2e-3)


@EVERY
def test_all_eigenvalues(name):
    matrix = MATRICES[name]
    n = len(matrix)
    pairs = eigenpairs(Dense(matrix), n, tol=1e-9, streams=Streams(0))
    size = max(np.abs(np.linalg.eigvalsh(matrix.numpy())).max(), 1e-300)
    assert_allclose(pairs.values / size, expected(matrix, n, "largest") / size, atol=1e-10)
    assert pairs.complete
    assert pairs.products == n + 1  # one to check
    rebuilt = (pairs.vectors * torch.from_numpy(pairs.values)) @ pairs.vectors.T
    assert_allclose(rebuilt.numpy() / size, matrix.numpy() / size, atol=1e-10)


@pytest.mark.parametrize("which", WHICH)
def test_nothing_is_searched_for_in_a_zero_matrix(which):
    pairs = eigenpairs(Dense(torch.zeros(300, 300)), 4, which=which, streams=Streams(0))
    assert pairs.complete
    assert pairs.converged.all()
    assert pairs.products <= 6
    assert_allclose(pairs.values, 0)


def test_one_by_one():
    pairs = eigenpairs(
        Dense(torch.tensor([[-2.5]], dtype=torch.float64)), 1, which="smallest", streams=Streams(0)
    )
    assert pairs.values.tolist() == [-2.5]
    assert pairs.residuals[0] <= 1e-15 * abs(pairs.values[0])
    assert pairs.complete


def test_float32_residuals_are_true_up_to_rounding():
    matrix = with_spectrum([50, 20, 10, *RNG.normal(0, 1, 300)], dtype=torch.float32)
    pairs = eigenpairs(Dense(matrix), 3, tol=1e-3, streams=Streams(0))
    assert pairs.vectors.dtype == torch.float32
    assert_allclose(pairs.residuals, true_residuals(matrix, pairs), atol=1e-4)
    assert_allclose(pairs.values, expected(matrix, 3, "largest"), rtol=1e-4)


@pytest.mark.parametrize("products", [6, 9, 14])
def test_few_products_are_reported_as_not_converged(products):
    matrix = with_spectrum(np.linspace(0, 1, 200))
    pairs = eigenpairs(Dense(matrix), 6, max_products=products, streams=Streams(0))
    assert pairs.products == products + 1
    assert not pairs.converged.all()
    assert not pairs.complete
    assert_allclose(pairs.residuals, true_residuals(matrix, pairs), atol=1e-12)
    # By Weyl, an eigenvalue lies within the residual.
    values = np.linalg.eigvalsh(matrix.numpy())
    nearest = np.abs(values[None] - pairs.values[:, None]).min(1)
    assert (nearest <= pairs.residuals + 1e-12).all()
    assert (pairs.converged == (pairs.residuals <= 1e-3 * np.abs(pairs.values))).all()


def test_products_are_counted_and_the_seed_decides():
    class Counting(Dense):
        count = 0

        def __matmul__(self, vector):
            self.count += 1
            return super().__matmul__(vector)

    operator = Counting(MATRICES["bulk and outliers"])
    first = eigenpairs(operator, 4, streams=Streams(7))
    assert first.products == operator.count < 60
    again = eigenpairs(operator, 4, streams=Streams(7))
    assert (again.values == first.values).all()
    assert torch.equal(again.vectors, first.vectors)
    other = eigenpairs(operator, 4, streams=Streams(8))
    assert (other.values != first.values).any()


def test_progress_ends_at_k():
    seen = []
    eigenpairs(
        Dense(MATRICES["rank deficient"]),
        3,
        streams=Streams(0),
        progress=lambda done, k: seen.append((done, k)),
    )
    assert seen[-1] == (3, 3)


def test_refusals():
    operator, streams = Dense(torch.eye(4)), Streams(0)
    with pytest.raises(UsageError, match="asked for 5 eigenvalues of a matrix of size 4"):
        eigenpairs(operator, 5, streams=streams)
    with pytest.raises(UsageError, match="asked for 0 eigenvalues"):
        eigenpairs(operator, 0, streams=streams)
    with pytest.raises(UsageError, match="unknown end of the spectrum 'top'"):
        eigenpairs(operator, 1, which="top", streams=streams)
    for tol in (0, -1, math.nan):
        with pytest.raises(UsageError, match="tol must be positive"):
            eigenpairs(operator, 1, tol=tol, streams=streams)
    with pytest.raises(UsageError, match="3 eigenvalues need at least 3 products"):
        eigenpairs(operator, 3, max_products=2, streams=streams)
    with pytest.raises(UsageError, match="1 eigenvalues need a basis of at least 12 vectors"):
        eigenpairs(Dense(torch.eye(40)), 1, max_basis=11, streams=streams)
    with pytest.raises(NumericalError, match=r"not finite \(product 1\)"):
        eigenpairs(Dense(torch.full((3, 3), math.nan)), 1, streams=streams)


# -- trace ----------------------------------------------------------------------------------------


def dense_symmetric(n=25):
    generator = torch.Generator().manual_seed(2)
    a = torch.randn(n, n, generator=generator, dtype=torch.float64)
    return (a + a.T) / 2 + torch.eye(n)


def test_hutchinson_is_within_five_standard_errors():
    matrix = dense_symmetric()
    estimate, samples = hutchinson(Dense(matrix), samples=400, streams=Streams(0))
    assert estimate.samples == len(samples) == 400
    assert estimate.value == samples.mean()
    assert_allclose(estimate.standard_error, samples.std(ddof=1) / 20, rtol=1e-12)
    assert abs(estimate.value - float(matrix.trace())) <= 5 * estimate.standard_error


def test_hutchinson_has_its_closed_form_variance():
    matrix = dense_symmetric()
    _, samples = hutchinson(Dense(matrix), samples=4000, streams=Streams(1))
    variance = 2 * float((matrix**2).sum() - (matrix.diagonal() ** 2).sum())
    assert_allclose(samples.var(ddof=1), variance, rtol=0.1)


def test_hutchinson_standard_error_is_calibrated():
    matrix, trace = dense_symmetric(), float(dense_symmetric().trace())
    runs = [hutchinson(Dense(matrix), samples=30, streams=Streams(s))[0] for s in range(200)]
    z = np.array([(r.value - trace) / r.standard_error for r in runs])
    assert abs(z.mean()) < 0.25
    assert_allclose(z.std(), 1.0, atol=0.2)


def test_hutchinson_is_exact_for_diagonal_matrices():
    matrix = torch.diag(torch.arange(1.0, 9, dtype=torch.float64))
    estimate, samples = hutchinson(Dense(matrix), samples=3, streams=Streams(0))
    assert estimate.value == 36
    assert estimate.standard_error == 0
    assert samples.tolist() == [36] * 3


def test_hutchinson_stops_early_only_when_told():
    operator = Dense(dense_symmetric() + 20 * torch.eye(25))
    full, _ = hutchinson(operator, samples=50, streams=Streams(0))
    early, samples = hutchinson(operator, samples=50, tol=0.5, streams=Streams(0))
    assert full.samples == 50
    assert early.samples == len(samples) == 10
    never, _ = hutchinson(operator, samples=20, tol=1e-9, streams=Streams(0))
    assert never.samples == 20
    with pytest.raises(UsageError, match="at least 2 samples, got 1"):
        hutchinson(operator, samples=1, streams=Streams(0))


def test_a_pair_that_the_first_chain_had_half_found_is_finished(monkeypatch):
    """Its residual sits at the end of the first chain, which must be gone on with."""
    gone_back = 0
    focus = Chains.focus

    def counting(chains, coordinates):
        nonlocal gone_back
        found = focus(chains, coordinates)
        gone_back += chains._slot < len(chains._ends) - 1
        return found

    monkeypatch.setattr(Chains, "focus", counting)
    rng = np.random.default_rng(0)
    late = 0
    for seed in range(25):
        before = gone_back
        values = np.sort(rng.random(300) ** 8)[::-1]
        orthogonal, _ = np.linalg.qr(rng.standard_normal((300, 300)))
        matrix = torch.tensor(orthogonal * values @ orthogonal.T)
        found = eigenpairs(Dense((matrix + matrix.T) / 2), 20, streams=Streams(seed))
        assert found.complete
        assert found.converged.all()
        assert_allclose(found.values, values[:20], rtol=1e-3)
        assert found.products < 120
        late += gone_back > before
    assert late  # some of them needed the second look
