"""What a spectrum says beside its eigenvalues, and PyHessian's engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import CASES, dense, joined
from numpy.testing import assert_allclose
from torch.nn import functional as F

import landscape as ls
from landscape import checkpoints, data
from landscape import params as P
from landscape.diagnostics.eigenvalues import _begin, random_loss
from landscape.errors import LandscapeError, UsageError
from landscape.models import ModelSpec


@pytest.mark.parametrize("name", ["mlp", "tied", "frozen", "conv, batchnorm, dropout"])
def test_eigenvectors_described(name):
    case = CASES[name]
    model = case.model()
    objective = ls.Objective(model, case.data(), case.loss)
    reference = dense(case.model(), *joined(case.data()), case.loss)
    values, vectors = np.linalg.eigh(reference.hessian.numpy())
    found = ls.spectrum(objective, 3, tol=1e-10)
    gradient = reference.gradient.numpy()
    sizes = [p.numel() for p in objective.params.values()]
    assert found.layer.tolist() == list(objective.params)
    for i in range(3):
        v = vectors[:, -1 - i]
        assert_allclose(found.eigenvalues[i], values[-1 - i], rtol=1e-8)
        cosine = (gradient @ v) ** 2 / (gradient @ gradient)
        assert_allclose(found.gradient_overlap[i], cosine, rtol=1e-5, atol=1e-12)
        assert_allclose(found.participation_ratio[i], 1 / (v**4).sum(), rtol=1e-5)
        share = [(piece**2).sum() for piece in np.split(v, np.cumsum(sizes)[:-1])]
        assert_allclose(found.layer_share[:, i], share, rtol=1e-5, atol=1e-10)
    assert_allclose(found.layer_share.sum(0), 1, rtol=1e-10)


def test_a_loss_that_is_nan_once_is_refused_or_does_no_harm():
    """At whichever of its calls: on a few samples that ways are tried on, or on all."""
    calls, bad = 0, 0

    def loss(output, y):
        nonlocal calls
        calls += 1
        return F.cross_entropy(output, y, reduction="none") * (np.nan if calls == bad else 1)

    def measure():
        nonlocal calls
        calls = 0
        return ls.spectrum(ls.Objective(CASES["mlp"].model(), CASES["mlp"].data(), loss), 3)

    expected, total = measure(), calls
    refused = 0
    for bad in range(1, total + 1):  # noqa: B007 - the loss reads it
        try:
            found = measure()
        except LandscapeError:
            refused += 1
            continue
        for name in ("eigenvalues", "residuals", "gradient_overlap", "participation_ratio"):
            assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-6)
    assert 0 < refused < total


def test_pyhessian_is_run_as_it_is():
    case = CASES["mlp"]
    model = case.model().float().train()
    x, y = joined(case.data())
    data = list(zip(x.float().split([9, 4, 4]), y.split([9, 4, 4]), strict=True))
    objective = ls.Objective(model, data)
    before = torch.get_rng_state()
    found = ls.spectrum(objective, 3, which="magnitude", engine="pyhessian", keep_vectors=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    exact = ls.spectrum(objective, 3, which="magnitude", tol=1e-5)
    assert_allclose(found.eigenvalues[0], exact.eigenvalues[0], rtol=0.05)
    assert found.products > exact.products
    assert not found.complete
    assert not found.trustworthy
    # Residuals are of the vectors that it returned.
    matrix = dense(case.model(), x, y).hessian.numpy()
    vectors = found.eigenvectors.astype(np.float64)
    true = np.linalg.norm(matrix @ vectors - vectors * found.eigenvalues, axis=0)
    assert_allclose(found.residuals, true, rtol=1e-3, atol=1e-6)
    again = ls.spectrum(objective, 3, which="magnitude", engine="pyhessian")
    np.testing.assert_array_equal(again.eigenvalues, found.eigenvalues)


def test_refusals():
    case = CASES["mlp"]
    objective = ls.Objective(case.model(), case.data())
    with pytest.raises(UsageError, match="did you mean 'lanczos'"):
        ls.spectrum(objective, 2, engine="lanzcos")
    with pytest.raises(UsageError, match=r"largest .λ.: pass --which magnitude"):
        ls.spectrum(objective, 2, engine="pyhessian")
    part = ls.Objective(case.model(), case.data(), params=next(iter(objective.params)))
    with pytest.raises(UsageError, match="takes all trainable parameters"):
        ls.spectrum(part, 2, which="magnitude", engine="pyhessian")


def test_random_loss_is_the_mean_over_the_draws():
    case = CASES["mlp"]
    objectives = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = case.model()
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(seed + 1)
        objectives.append(ls.Objective(model, case.data()))
    losses = [o.value().loss for o in objectives]
    found = random_loss(objectives)
    assert_allclose(found.value, np.mean(losses), rtol=1e-12)
    assert_allclose(found.standard_error, np.std(losses, ddof=1) / 3**0.5, rtol=1e-12)
    spectrum = ls.spectrum(objectives[0], 2, normaliser=found)
    assert spectrum.normaliser == found


def digits_objective(**options):
    checkpoint = checkpoints.load(checkpoints.bundled()["digits-pgd-seed0"])
    model = checkpoint.into(ModelSpec.from_dict(checkpoint.model).build(seed=0))
    return ls.Objective(model, data.load("digits", "train", n_examples=64), **options)


def test_little_memory_costs_products_not_accuracy():
    o = digits_objective()
    full = ls.spectrum(o, 3)
    row = 4 * sum(p.numel() for p in o.params.values())
    little = ls.spectrum(o, 3, memory=18 * row)
    assert little.restarts > 0 == full.restarts
    assert little.trustworthy
    assert_allclose(little.eigenvalues, full.eigenvalues, rtol=1e-4)
    with pytest.raises(UsageError, match=r"3 eigenvalues need 16 vectors .* ask for at most 2, or"):
        ls.spectrum(o, 3, memory=15 * row)
    with pytest.raises(UsageError, match=r"1.4 MiB, but memory=0.3 MiB: allow more memory"):
        ls.spectrum(o, 3, memory=3 * row)


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
def test_without_a_gradient_it_begins_at_random(which):
    """Every sample with both labels: p − y cancels, so ∇L = 0 at weights of zero."""
    model = torch.nn.Linear(3, 2, bias=False)
    torch.nn.init.zeros_(model.weight)
    x = torch.randint(-3, 4, (8, 3), generator=torch.Generator().manual_seed(0)).float()
    o = ls.Objective(model, (torch.cat([x, x]), torch.arange(16) // 8))
    assert float(P.norm(o.gradient())) == 0
    found = ls.spectrum(o, 2, which=which)
    exact = np.linalg.eigvalsh((ls.Hessian(o) @ torch.eye(6)).double().numpy())
    expected = exact[:2] if which == "smallest" else exact[::-1][:2]
    assert found.trustworthy
    assert_allclose(found.eigenvalues, expected, rtol=1e-4, atol=1e-6)


def test_a_gradient_whose_square_underflows_is_a_direction_still():
    gradient = torch.tensor([3e-30, -4e-30])
    begin = _begin(None, gradient, "largest")
    assert begin is not None
    assert_allclose((begin / begin.norm(dim=0))[:, 0], [0.6, -0.8], rtol=1e-6)
    assert _begin(None, gradient, "smallest") is None


def test_warm_start():
    o = digits_objective()
    first = ls.spectrum(o, 3, keep_vectors=True)
    again = ls.spectrum(o, 3, start=first)
    assert again.products < first.products
    assert_allclose(again.eigenvalues, first.eigenvalues, rtol=1e-5)
    assert again.provenance.settings["warm_start"]
    with pytest.raises(UsageError, match="start has no eigenvectors"):
        ls.spectrum(o, 3, start=again)
    with pytest.raises(UsageError, match="start from the same architecture"):
        ls.spectrum(digits_objective(params="fc2.*"), 3, start=first)
