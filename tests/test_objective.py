"""Values and derivatives against dense references and closed forms; data that must be refused."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import scipy.sparse.linalg as sparse
import torch
import torch.nn.functional as F
from cases import CASES, Unused, dense, joined, mlp
from numpy.testing import assert_allclose
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset, TensorDataset

import landscape as ls
from landscape import params as P
from landscape.batches import Batches
from landscape.errors import DataError, NumericalError, UsageError
from landscape.models import build
from landscape.objective import Objective

EVERY = pytest.mark.parametrize("name", CASES)


def flat(params):
    return P.flatten(params)


def seeded(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def references():
    return {
        name: dense(case.model(), *joined(case.data()), case.loss) for name, case in CASES.items()
    }


def objective(name, **kwargs):
    case = CASES[name]
    return Objective(case.model(), case.data(), case.loss, **kwargs)


# -- dense reference ------------------------------------------------------------------------------


@EVERY
def test_value_and_per_sample(name, references):
    reference, o = references[name], objective(name)
    value = o.value()
    assert_allclose(value.loss, reference.loss, rtol=1e-10)
    assert value.samples == 17
    assert value.accuracy == reference.accuracy
    losses, hits = o.per_sample()
    assert_close(losses, reference.losses, rtol=1e-10, atol=1e-12)
    if reference.accuracy is not None:
        assert float(hits.double().mean()) == reference.accuracy


@EVERY
def test_gradient_and_hvp(name, references):
    reference, o = references[name], objective(name)
    gradient = flat(o.gradient())
    assert_close(gradient, reference.gradient, rtol=1e-8, atol=1e-10)
    assert gradient.norm() > 1e-3
    v = seeded(len(gradient))
    product = flat(o.hvp(P.unflatten(v, o.params)))
    expected = reference.hessian @ v
    assert float((product - expected).norm()) <= 1e-8 * float(expected.norm())


@EVERY
def test_top_eigenvalues(name, references):
    expected = torch.linalg.eigvalsh(references[name].hessian).flip(0).numpy()
    top = min(20, len(expected))
    result = ls.spectrum(objective(name), top, tol=1e-9, max_products=1000)
    assert result.trustworthy
    assert_allclose(result.eigenvalues, expected[:top], rtol=1e-8, atol=1e-8 * expected[0])


def test_hvp_away_from_the_centre():
    case = CASES["mlp"]
    o = objective("mlp")
    moved = P.axpy(0.3, P.random_like(o.params, ls.random.Streams(1)), o.params)
    other = case.model()
    with torch.no_grad():
        for name, p in other.named_parameters():
            p.copy_(moved[name])
    reference = dense(other, *joined(case.data()))
    v = seeded(len(reference.gradient))
    assert_close(o.value(moved).loss, reference.loss, rtol=1e-10, atol=0)
    assert_close(flat(o.gradient(moved)), reference.gradient, rtol=1e-8, atol=1e-10)
    product = flat(o.hvp(P.unflatten(v, o.params), at=moved))
    assert_close(product, reference.hessian @ v, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("patterns", ["0.*", ["2.bias", "4.*"], "*.weight"])
def test_subset_of_the_parameters_is_a_block_of_the_hessian(patterns, references):
    o = objective("mlp", params=patterns)
    everything = objective("mlp").params
    chosen = torch.cat(
        [torch.full((p.numel(),), name in o.params) for name, p in everything.items()]
    )
    assert 0 < chosen.sum() < len(chosen)
    reference = references["mlp"]
    block = reference.hessian[chosen][:, chosen]
    v = seeded(int(chosen.sum()))
    assert_close(flat(o.gradient()), reference.gradient[chosen], rtol=1e-8, atol=1e-10)
    assert_close(flat(o.hvp(P.unflatten(v, o.params))), block @ v, rtol=1e-8, atol=1e-10)


def test_unknown_parameter_pattern_is_refused():
    with pytest.raises(UsageError, match=r"unknown parameter pattern '5\.\*'"):
        objective("mlp", params="5.*")


# -- closed forms ---------------------------------------------------------------------------------


def hessian_matrix(o):
    n = P.size(o.params)
    h = ls.Hessian(o)
    return torch.stack([h @ row for row in torch.eye(n, dtype=o.dtype)])


def test_linear_regression_hessian():
    x, y = seeded(11, 4), seeded(11, seed=1)
    model = nn.Linear(4, 1, bias=False).double()
    batches = list(zip(x.split([5, 4, 2]), y.split([5, 4, 2]), strict=True))
    h = hessian_matrix(Objective(model, batches, "mse"))
    assert_close(h, 2 / 11 * x.T @ x, rtol=1e-10, atol=1e-12)


def test_logistic_hessian():
    x, y = seeded(13, 3), (seeded(13, seed=1) > 0).double()
    model = nn.Sequential(nn.Linear(3, 1, bias=False), nn.Flatten(0)).double()

    def logistic(z, t):
        return F.binary_cross_entropy_with_logits(z, t, reduction="none")

    h = hessian_matrix(Objective(model, (x, y), logistic, batch_size=6))
    p = torch.sigmoid(x @ model[0].weight.detach()[0])
    assert_close(h, x.T @ torch.diag(p * (1 - p)) @ x / 13, rtol=1e-10, atol=1e-12)


def test_softmax_hessian():
    case = CASES["logistic"]
    model = nn.Linear(6, 3, bias=False).double()
    h = hessian_matrix(Objective(model, case.data()))
    x, _ = joined(case.data())
    probability = (x @ model.weight.detach().T).softmax(1)
    expected = sum(
        torch.kron(torch.diag(p) - torch.outer(p, p), torch.outer(xi, xi))
        for p, xi in zip(probability, x, strict=True)
    ) / len(x)
    assert_close(h, expected, rtol=1e-10, atol=1e-12)


def test_float32_lenet_against_an_independent_float64_run():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch.images[:120]).unsqueeze(1) / 16
    y = torch.from_numpy(bunch.target[:120])
    model = build("lenet-2", in_shape=(1, 8, 8), num_classes=10, seed=0)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(20):
        optimiser.zero_grad()
        F.cross_entropy(model(x.float()), y).backward()
        optimiser.step()

    wide = copy.deepcopy(model).double().eval()
    leaves = list(wide.parameters())
    gradient = torch.autograd.grad(F.cross_entropy(wide(x), y), leaves, create_graph=True)
    gradient = torch.cat([g.flatten() for g in gradient])

    def product(v):
        v = torch.as_tensor(v).flatten()
        rows = torch.autograd.grad(gradient, leaves, v, retain_graph=True)
        return torch.cat([r.flatten() for r in rows]).numpy()

    n = len(gradient)
    operator = sparse.LinearOperator((n, n), matvec=product, dtype=np.float64)
    expected = sparse.eigsh(operator, k=20, which="LA", tol=1e-9, return_eigenvectors=False)
    result = ls.spectrum(Objective(model, (x.float(), y), batch_size=50), 20)
    assert result.trustworthy
    expected = np.sort(expected)[::-1]
    assert_allclose(result.eigenvalues, expected, rtol=1e-4, atol=1e-6 * expected[0])


# -- adversarial ----------------------------------------------------------------------------------


def one_batch_attack(o, at=None):
    """The perturbed inputs, made in one batch from the definition of the attack."""
    x, y = joined(list(o.batches))
    model = copy.deepcopy(o.model).eval()
    if at is not None:
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(at[name])
    streams = ls.random.Streams(o.seed, "attack")
    return o.attack.perturb(model, x, y, streams=streams), y


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fixed_adversarial_hessian_holds_the_inputs(norm):
    attack = ls.attack("pgd-5", eps=0.1, norm=norm)
    o = objective("conv, batchnorm, dropout", attack=attack, seed=4)
    x, y = one_batch_attack(o)
    assert float((x - joined(list(o.batches))[0]).abs().max()) > 0.01
    reference = dense(o.model, x, y)
    for _ in range(2):  # made, then held
        assert_allclose(o.value().loss, reference.loss, rtol=1e-10)
    assert_close(flat(o.gradient()), reference.gradient, rtol=1e-8, atol=1e-10)
    v = seeded(len(reference.gradient))
    product = flat(o.hvp(P.unflatten(v, o.params)))
    assert_close(product, reference.hessian @ v, rtol=1e-8, atol=1e-9)


def test_fixed_and_each_differ_away_from_the_centre():
    attack = ls.attack("pgd-5", eps=0.3)
    fixed = objective("mlp", attack=attack)
    each = objective("mlp", attack=attack, refresh="each")
    moved = {name: -p for name, p in fixed.params.items()}

    other = copy.deepcopy(fixed.model)
    with torch.no_grad():
        for name, p in other.named_parameters():
            p.copy_(moved[name])
    again = dense(other, *one_batch_attack(each, at=moved))
    held = dense(other, *one_batch_attack(fixed))
    assert abs(again.loss - held.loss) > 1e-3
    # The first pass of `fixed` is away from the centre, yet its examples are the centre's.
    assert_allclose(fixed.value(moved).loss, held.loss, rtol=1e-10)
    assert_allclose(each.value(moved).loss, again.loss, rtol=1e-10)
    assert_allclose(fixed.value().loss, each.value().loss, rtol=1e-12)
    assert_close(flat(each.gradient(moved)), again.gradient, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_adversarial_logistic_loss_has_its_closed_form(norm, dual):
    x = 0.4 + 0.2 * torch.rand(9, 5, generator=torch.Generator().manual_seed(0)).double()
    y = torch.arange(9) % 2
    model = nn.Linear(5, 2).double()
    w, b = (model.weight[1] - model.weight[0]).detach(), (model.bias[1] - model.bias[0]).detach()
    eps = 0.05
    margin = (2 * y - 1) * (x @ w + b) - eps * torch.linalg.vector_norm(w, dual)
    o = Objective(model, (x, y), attack=ls.attack("fgsm", eps=eps, norm=norm), batch_size=4)
    assert_close(o.per_sample()[0], F.softplus(-margin), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("refresh", ["fixed", "each"])
def test_batching_does_not_change_random_starts(norm, refresh):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(165, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (165,), generator=generator)
    attack = ls.attack("pgd-2x2", eps=0.1, norm=norm)
    model = CASES["mlp"].model()
    a, b = (
        Objective(model, (x, y), attack=attack, refresh=refresh, batch_size=size, seed=3)
        for size in (37, 128)
    )
    assert_close(a.per_sample()[0], b.per_sample()[0], rtol=1e-10, atol=1e-12)
    assert_close(flat(a.gradient()), flat(b.gradient()), rtol=1e-10, atol=1e-12)
    v = P.random_like(a.params, ls.random.Streams(0))
    assert_close(flat(a.hvp(v)), flat(b.hvp(v)), rtol=1e-9, atol=1e-11)
    assert a.describe()["data"] == b.describe()["data"]
    clean = Objective(model, (x, y)).value().loss
    assert a.value().loss > clean + 1e-3


def test_the_seed_moves_the_random_starts():
    attack = ls.attack("pgd-1", eps=0.1)
    losses = {objective("mlp", attack=attack, seed=s).value().loss for s in (0, 0, 1)}
    assert len(losses) == 2


def test_attacks_need_inputs_in_the_unit_box():
    x, y = joined(CASES["mlp"].data())
    o = Objective(CASES["mlp"].model(), (2 * x - 1, y), attack=ls.attack("fgsm", eps=0.1))
    with pytest.raises(DataError, match=r"attacks need \[0, 1\].*normalisation"):
        o.value()


# -- losses ---------------------------------------------------------------------------------------


def test_mean_loss_is_weighted_by_samples(references):
    case = CASES["mlp"]
    o = Objective(case.model(), case.data(), nn.CrossEntropyLoss())
    assert_allclose(o.value().loss, references["mlp"].loss, rtol=1e-10)
    v = seeded(len(references["mlp"].gradient))
    product = flat(o.hvp(P.unflatten(v, o.params)))
    assert_close(product, references["mlp"].hessian @ v, rtol=1e-8, atol=1e-9)
    with pytest.raises(UsageError, match="reduction='none'"):
        o.per_sample()


def test_mean_loss_attacks_as_the_per_sample_one_does():
    case = CASES["mlp"]
    attack = ls.attack("pgd-3", eps=0.1, norm="l2")
    a = Objective(case.model(), case.data(), nn.CrossEntropyLoss(), attack=attack)
    b = Objective(case.model(), case.data(), attack=attack)
    assert_allclose(a.value().loss, b.value().loss, rtol=1e-10)


def test_restarts_need_a_per_sample_loss():
    case = CASES["mlp"]
    attack = ls.attack("pgd-3x2", eps=0.1)
    o = Objective(case.model(), case.data(), nn.CrossEntropyLoss(), attack=attack)
    with pytest.raises(UsageError, match=r"worst point of every sample.*reduction='none'"):
        o.value()


def test_sum_loss_is_refused():
    case = CASES["mlp"]
    with pytest.raises(UsageError, match="not a mean over the batch"):
        Objective(case.model(), case.data(), nn.CrossEntropyLoss(reduction="sum"))


def test_loss_of_one_value_per_output_is_refused():
    x, y = joined(CASES["mlp"].data())
    many = F.one_hot(y, 3).double()
    with pytest.raises(UsageError, match=r"returned shape \(17, 3\).*one value per sample"):
        Objective(CASES["mlp"].model(), (x, many), nn.BCEWithLogitsLoss(reduction="none"))


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="unknown loss 'cross_entropy': did you mean"):
        Objective(mlp(), CASES["mlp"].data(), "cross_entropy")
    with pytest.raises(UsageError, match="unknown refresh 'once'"):
        objective("mlp", refresh="once")
    with pytest.raises(UsageError, match="attack must be an Attack"):
        objective("mlp", attack="pgd-10")


def test_integer_regression_targets_have_no_accuracy():
    x, y = joined(CASES["mlp"].data())
    o = Objective(mlp(outputs=1).double(), (x, y), "mse")
    assert o.value().accuracy is None
    assert o.per_sample()[1] is None


# -- models ---------------------------------------------------------------------------------------


def test_models_that_cannot_be_studied():
    data = CASES["mlp"].data()
    with pytest.raises(UsageError, match=r"expected an nn\.Module, got function"):
        Objective(lambda x: x, data)
    with pytest.raises(UsageError, match="no parameters that require gradients"):
        Objective(nn.Flatten(), data)
    with pytest.raises(UsageError, match="no parameters that require gradients"):
        Objective(mlp().double().requires_grad_(False), data)

    class Pair(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    with pytest.raises(UsageError, match="the model returned a tuple"):
        Objective(Pair(6, 3).double(), data)

    class Pooled(nn.Linear):
        def forward(self, x):
            return super().forward(x).sum(0)

    with pytest.raises(UsageError, match="the first axis must be the sample"):
        Objective(Pooled(6, 3).double(), data)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite(bad):
    model = CASES["mlp"].model()
    with torch.no_grad():
        model[2].weight[1, 1] = bad
    with pytest.raises(NumericalError, match=r"'2\.weight' holds 1 values that are NaN"):
        Objective(model, CASES["mlp"].data())


def test_only_unused_parameters_have_zero_derivatives():
    model = CASES["unused"].model()
    assert isinstance(model, Unused)
    o = Objective(model, CASES["unused"].data(), params="idle")
    assert float(flat(o.gradient()).abs().max()) == 0
    assert float(flat(o.hvp(o.params)).abs().max()) == 0


def test_a_derivative_that_is_not_finite_names_its_batch():
    data = CASES["mlp"].data()
    data[2] = (data[2][0] * math.inf, data[2][1])
    model = CASES["mlp"].model()
    o = Objective(model, data)
    with pytest.raises(NumericalError, match="product of batch 2 is not finite"):
        o.hvp(o.params)
    with pytest.raises(NumericalError, match="gradient of batch 2 is not finite"):
        o.gradient()
    assert model.training


def test_points_that_do_not_fit_are_refused():
    o = objective("mlp")
    with pytest.raises(UsageError, match="not among the parameters θ: nothing"):
        o.value({"nothing": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"'0\.weight' has shape \(8, 6\) .* and \(8, 1\)"):
        o.value({"0.weight": torch.zeros(8, 1)})


# -- data -----------------------------------------------------------------------------------------

X, Y = joined(CASES["mlp"].data())
LOAD = {"device": torch.device("cpu"), "dtype": torch.float64}


class Changing:
    """Re-iterable data of three batches whose passes from ``first_bad`` on are ``altered``."""

    def __init__(self, altered, first_bad=1):
        self.altered, self.first_bad, self.passes = altered, first_bad, 0

    def __iter__(self):
        batches = list(zip(X.split(6), Y.split(6), strict=True))
        self.passes += 1
        if self.passes > self.first_bad:
            self.altered(batches)
        return (b for b in batches)


def last_x(batches):
    batches[-1] = (batches[-1][0] + 1e-12, batches[-1][1])


def last_y(batches):
    batches[-1] = (batches[-1][0], (batches[-1][1] + 1) % 3)


class Augmented(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i] + 0.01 * torch.rand(6, dtype=torch.float64), Y[i]


def test_every_kind_of_data_gives_the_same_numbers():
    model = CASES["mlp"].model()
    pairs = TensorDataset(X, Y)

    class Again:
        def __iter__(self):
            return iter(zip(X.split(4), Y.split(4), strict=True))

    kinds = [
        (X, Y),
        list(zip(X.split(5), Y.split(5), strict=True)),
        tuple(zip(X.split(5), Y.split(5), strict=True)),
        pairs,
        DataLoader(pairs, batch_size=4),
        Again(),
    ]
    objectives = [Objective(model, kind, batch_size=3) for kind in kinds]
    expected = dense(model, X, Y).loss
    for o in objectives:
        assert_allclose(o.value().loss, expected, rtol=1e-12)
    assert len({o.batches.digest for o in objectives}) == 1


def test_the_digest_tells_data_apart():
    model = CASES["mlp"].model()
    moved = X.clone()
    moved[-1, -1] += 1e-9
    others = [(X, Y), (moved, Y), (X, (Y + 1) % 3), (X[:-1], Y[:-1]), (X.flip(0), Y.flip(0))]
    assert len({Objective(model, d).batches.digest for d in others}) == len(others)


def test_one_shot_data_are_refused():
    generator = ((X, Y) for _ in range(2))
    with pytest.raises(DataError, match=r"read only once \(generator is an iterator\).*DataLoader"):
        Batches(generator, **LOAD)
    with pytest.raises(DataError, match="read only once"):
        Batches(iter(DataLoader(TensorDataset(X, Y))), **LOAD)


@pytest.mark.parametrize("keep_bytes", [0, 1 << 20])
@pytest.mark.parametrize("batch_size", [4, 100])
def test_shuffling_and_augmenting_loaders_are_refused(keep_bytes, batch_size):
    pairs = TensorDataset(X, Y)
    message = r"batch 0 differed between two passes \(the loader shuffles or augments\).*shuffle=F"
    for loader in (
        DataLoader(pairs, batch_size=batch_size, shuffle=True),
        DataLoader(Augmented(), batch_size=batch_size),
    ):
        with pytest.raises(DataError, match=message):
            Batches(loader, **LOAD, keep_bytes=keep_bytes)


@pytest.mark.parametrize("altered", [last_x, last_y])
def test_a_change_in_the_last_batch_is_found(altered):
    # Passes: two of the first batch, one to count and digest, one to compare.
    with pytest.raises(DataError, match="batch 2 differed between two passes"):
        Batches(Changing(altered, first_bad=3), **LOAD)


def test_a_change_in_the_number_of_batches_is_found():
    with pytest.raises(DataError, match="gave 3 batches in one pass and 2 in the next"):
        Batches(Changing(lambda b: b.pop(), first_bad=3), **LOAD)
    with pytest.raises(DataError, match="batch 3 differed between two passes"):
        Batches(Changing(lambda b: b.append(b[0]), first_bad=3), **LOAD)


def test_data_too_large_to_keep_are_verified_at_every_pass():
    source = Changing(last_x, first_bad=5)
    batches = Batches(source, **LOAD, keep_bytes=300)
    assert not batches.in_memory
    for _ in range(2):
        assert_close(joined(list(batches))[0], X)
    with pytest.raises(DataError, match="batch 2 differed between two passes"):
        list(batches)
    kept = Batches(Changing(last_x, first_bad=4), **LOAD)
    assert kept.in_memory
    for _ in range(3):
        assert_close(joined(list(kept))[0], X)


@pytest.mark.parametrize("refresh", ["fixed", "each"])
def test_streamed_data_give_the_same_numbers(refresh):
    attack = ls.attack("pgd-3", eps=0.1)
    loader = DataLoader(TensorDataset(X, Y), batch_size=5)
    kept = Objective(CASES["mlp"].model(), loader, attack=attack, refresh=refresh)
    streamed = Objective(CASES["mlp"].model(), loader, attack=attack, refresh=refresh)
    streamed.batches = Batches(loader, **LOAD, keep_bytes=1)
    assert kept.batches.in_memory
    assert not streamed.batches.in_memory
    moved = P.scale(1.5, kept.params)
    for _ in range(2):
        assert streamed.value(moved) == kept.value(moved)
        assert torch.equal(flat(streamed.hvp(moved)), flat(kept.hvp(moved)))


def test_a_source_that_reuses_its_tensors_is_copied():
    class Reusing:
        def __iter__(self):
            x, y = torch.empty(5, 6, dtype=torch.float64), torch.empty(5, dtype=torch.int64)
            for start in (0, 5, 10):
                yield x.copy_(X[start : start + 5]), y.copy_(Y[start : start + 5])

    model = CASES["mlp"].model()
    assert_allclose(
        Objective(model, Reusing()).value().loss, dense(model, X[:15], Y[:15]).loss, rtol=1e-12
    )


def test_inputs_with_nan_are_not_called_shuffled():
    x = X.clone()
    x[0, 0] = math.nan
    o = Objective(CASES["mlp"].model(), DataLoader(TensorDataset(x, Y), batch_size=6))
    with pytest.raises(NumericalError, match="batch 0 is not finite"):
        o.hvp(o.params)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the data are empty"),
        ((X[:0], Y[:0]), "the data are empty"),
        (DataLoader(TensorDataset(X[:0], Y[:0])), "the data are empty"),
        ((X, Y[:5]), "x has 17 samples and y 5"),
        ((torch.tensor(0.0), torch.tensor(0)), "one target per sample"),
        ([(X, Y[:5])], r"batch 0 has x of shape \(17, 6\) and y of shape \(5,\)"),
        ([(X, Y), (X[0], Y[0])], r"batch 1 has x of shape \(6,\) and y of shape \(\)"),
        ([X, Y], "batch 0 is a Tensor: expected a pair"),
        ([(X, Y, Y)], "batch 0 is a tuple of 3: expected a pair"),
        ([{"x": X, "y": Y}], "batch 0 is a dictionary without 'labels'"),
        ([(X, Y), (X.numpy(), Y)], "batch 1 holds ndarray and Tensor"),
        (5, "expected a DataLoader, a list of .* got int"),
        (None, "got NoneType"),
    ],
)
def test_data_of_the_wrong_kind(data, message):
    with pytest.raises(DataError, match=message):
        Objective(CASES["mlp"].model(), data)


def test_labels_out_of_range_are_named():
    y = Y.clone()
    y[-1] = 3
    with pytest.raises(DataError, match=r"batch 2 has label 3, .* 3 outputs: .* 0\.\.2"):
        Objective(CASES["mlp"].model(), (X, y), batch_size=6)
    y[0] = -1
    with pytest.raises(DataError, match="batch 0 has label -1"):
        Objective(CASES["mlp"].model(), (X, y), batch_size=6)


def test_batch_size_must_be_positive():
    with pytest.raises(DataError, match="batch_size must be at least 1, got 0"):
        Objective(CASES["mlp"].model(), (X, Y), batch_size=0)


@pytest.mark.parametrize("sizes", [[12], [5, 4, 3]])
def test_reestimated_batchnorm_against_a_slow_loop(sizes):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3)
    ).double()
    x, y = torch.rand(12, 6).double(), torch.arange(12) % 3
    batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
    o = ls.Objective(model, batches, batchnorm="reestimate")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    theta = {name: p + 0.3 for name, p in o.params.items()}
    # By hand: every batch's own moments, weighted by its size.
    hidden = [b @ theta["0.weight"].T + theta["0.bias"] for b, _ in batches]
    mean = sum(len(h) * h.mean(0) for h in hidden) / 12
    var = sum(len(h) * h.var(0) for h in hidden) / 12
    h = (torch.cat(hidden) - mean) / (var + 1e-5).sqrt()
    h = torch.tanh(h * theta["1.weight"] + theta["1.bias"])
    logits = h @ theta["4.weight"].T + theta["4.bias"]
    expected = F.cross_entropy(logits, y)
    assert_close(torch.tensor(o.value(theta).loss).double(), expected)
    assert_close(sum(term(theta) for term in o.terms(theta)), expected)
    assert o.value(theta).loss != ls.Objective(model, batches).value(theta).loss
    assert o.describe()["model"]["batchnorm"] == "reestimate"
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
    assert model.training
    assert model[1].momentum == 0.1
    # An attack sees the statistics of the point it is made at.
    attacked = o.with_attack(ls.attack("fgsm", eps=0.1), "fixed")
    assert attacked.value().loss > o.value().loss
    with pytest.raises(UsageError, match="a batch of one sample has no variance"):
        ls.Objective(model, [(x[:1], y[:1])], batchnorm="reestimate").value()
    with pytest.raises(UsageError, match="unknown treatment of BatchNorm 'evl'"):
        ls.Objective(model, batches, batchnorm="evl")
