"""Operators against dense matrices, every way of making products, on every awkward network."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import CASES, joined, mlp
from cases import dense as reference
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint as activation_checkpoint

import landscape as ls
from landscape import params as P
from landscape.attacks import Attack, Ball
from landscape.errors import NumericalError, UsageError
from landscape.operators import PRODUCTS, GaussNewton, Hessian
from landscape.random import Streams


def objective(name, **options):
    case = CASES[name]
    return ls.Objective(case.model(), case.data(), **{"loss": case.loss, **options})


def dense(operator):
    return operator @ torch.eye(operator.size, dtype=operator.dtype)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("way", PRODUCTS)
def test_every_way_gives_the_hessian(name, way):
    o = objective(name)
    v = Streams(1).normal("v", (P.size(o.params), 2))
    expected = torch.stack([P.flatten(o.hvp(P.unflatten(c, o.params))) for c in v.unbind(1)], 1)
    operator = Hessian(o, product=way)
    assert operator.product == way
    assert_close(operator @ v, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("way", PRODUCTS)
def test_adversarial_hessian_holds_the_perturbation(way):
    case = CASES["conv, batchnorm, dropout"]
    attack = ls.attack("pgd-3", eps=0.1)
    o = ls.Objective(case.model(), case.data(), attack=attack)
    v = Streams(1).normal("v", (P.size(o.params),))
    held = [
        (attack.perturb(case.model().eval(), x, y, streams=s), y)
        for s in [Streams(0, "attack")]
        for x, y in case.data()
    ]
    clean = ls.Objective(case.model(), held)
    expected = Hessian(clean, product="double-backward") @ v
    assert_close(Hessian(o, product=way) @ v, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("way", PRODUCTS)
@pytest.mark.parametrize("name", ["mlp", "conv, batchnorm, dropout"])
def test_gauss_newton_against_jacobians(name, way):
    o = objective(name)
    x, _ = joined(CASES[name].data())
    model = CASES[name].model().eval()

    def outputs(flat):
        return torch.func.functional_call(model, P.unflatten(flat, o.params), (x,))

    flat = P.flatten(o.params)
    jacobian = torch.func.jacrev(outputs)(flat)
    p = F.softmax(outputs(flat), 1)
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = torch.einsum("nci,ncd,ndj->ij", jacobian, curvature, jacobian) / len(x)
    found = dense(GaussNewton(o, product=way))
    assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert float(torch.linalg.eigvalsh(found).min()) > -1e-12


def test_gauss_newton_of_a_linear_network_is_its_hessian():
    o = objective("logistic")
    assert_close(dense(GaussNewton(o)), dense(Hessian(o)), rtol=1e-10, atol=1e-13)


def test_restricted_to_some_parameters():
    whole = objective("mlp")
    names = list(whole.params)
    part = objective("mlp", params=names[0])
    size = whole.params[names[0]].numel()
    assert_close(dense(Hessian(part)), dense(Hessian(whole))[:size, :size], rtol=1e-10, atol=1e-13)


def test_the_choice_follows_memory():
    o = objective("mlp")
    assert Hessian(o).product == "graph"
    assert GaussNewton(o).product == "linearised"
    assert Hessian(o).kept_bytes > 0
    assert Hessian(o, memory=0).product == "double-backward"
    assert Hessian(o, memory=0).kept_bytes == 0
    with pytest.raises(UsageError, match="did you mean 'graph'"):
        Hessian(o, product="grahp")


class Encoder(nn.Module):
    """torch's own encoder layer, whose faster way without gradients has no derivatives."""

    def __init__(self):
        super().__init__()
        self.encode = nn.TransformerEncoderLayer(4, 2, 5, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.encode(x.unflatten(1, (3, 4))).mean(1))


@pytest.mark.parametrize("kind", [Hessian, GaussNewton])
@pytest.mark.parametrize("way", PRODUCTS)
def test_transformers(kind, way):
    torch.manual_seed(0)
    model = Encoder().double().eval()
    x, y = torch.rand(5, 12).double(), torch.arange(5) % 3
    o = ls.Objective(model, [(x[:3], y[:3]), (x[3:], y[3:])])
    flat = P.flatten(o.params)

    def outputs(flat, x):
        return torch.func.functional_call(model, P.unflatten(flat, o.params), (x,))

    def loss(flat):
        return F.cross_entropy(outputs(flat, x), y)

    v = Streams(1).normal("v", (P.size(o.params),))
    if kind is Hessian:
        gradient = torch.func.grad(loss)
        expected = (gradient(flat + 1e-5 * v) - gradient(flat - 1e-5 * v)) / 2e-5
    else:
        p = F.softmax(outputs(flat, x), 1).detach()
        jacobian = torch.autograd.functional.jacobian(lambda f: outputs(f, x), flat)
        z = torch.einsum("ncd,d->nc", jacobian, v)
        curved = p * z - p * (p * z).sum(1, keepdim=True)
        expected = torch.einsum("ncd,nc->d", jacobian, curved) / 5
    fast = torch.backends.mha.get_fastpath_enabled()
    assert_close(kind(o, product=way) @ v, expected, rtol=1e-5, atol=1e-7)
    assert torch.backends.mha.get_fastpath_enabled() == fast


class Alive(TorchDispatchMode):
    """Bytes of the tensors made within it that are still there."""

    def __init__(self):
        super().__init__()
        self.made = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        def storages(tree):
            return [t.untyped_storage() for t in tree_leaves(tree) if isinstance(t, torch.Tensor)]

        found = function(*args, **(kwargs or {}))
        given = {s._cdata for s in storages((args, kwargs))}
        self.made |= {
            s._cdata: (StorageWeakRef(s), s.nbytes())
            for s in storages(found)
            if s._cdata not in given
        }
        return found

    def bytes(self):
        return sum(size for storage, size in self.made.values() if not storage.expired())


@pytest.mark.parametrize("kind", ["encoder", "linear layers", "convolutions", "folded"])
def test_kept_graphs_take_what_is_stated(kind):
    """Not the gradients too, which nobody reads: of large layers they are most of what there is."""
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    model = {
        "encoder": Encoder(),
        "linear layers": nn.Sequential(nn.Linear(12, 80), nn.Tanh(), nn.Linear(80, 3)),
        "convolutions": nn.Sequential(nn.Unflatten(1, (1, 3, 4)), conv[0], *conv[2:]),
        "folded": nn.Sequential(nn.Unflatten(1, (1, 3, 4)), *conv),
    }[kind].eval()
    o = ls.Objective(model, (torch.rand(4, 12), torch.arange(4) % 3))
    operator = Hessian(o)
    assert operator.product == "graph"
    stated, term = operator.kept_bytes, next(operator._terms())[1]
    with Alive() as alive:
        product = operator._build("graph", term)
    gc.collect()
    assert 0.5 < alive.bytes() / stated <= 1
    del product
    gc.collect()
    assert alive.bytes() == 0


def test_operations_without_forward_derivatives():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g

    class Odd(torch.nn.Linear):
        def forward(self, x):
            return Square.apply(super().forward(x))

    torch.manual_seed(0)
    model = Odd(6, 3).double()
    data = (torch.rand(5, 6).double(), torch.arange(5) % 3)
    o = ls.Objective(model, data)
    # Neither forward mode nor torch.func can take it: autograd's graph can.
    operator = Hessian(o)
    assert operator.product == "graph"
    v = Streams(0).normal("v", (operator.size,))
    assert_close(operator @ v, P.flatten(o.hvp(P.unflatten(v, o.params))))


def test_a_wrong_way_is_not_chosen(monkeypatch):
    build = Hessian._build

    def wrong(self, way, term):
        product = build(self, way, term)
        if way == "graph":
            return lambda v: {name: 1.01 * t for name, t in product(v).items()}
        return product

    monkeypatch.setattr(Hessian, "_build", wrong)
    assert Hessian(objective("mlp")).product == "double-backward"


def test_a_derivative_that_is_not_finite_names_the_batch():
    model = torch.nn.Linear(2, 2).double()
    x = torch.ones(4, 2).double()
    x[3] = torch.inf
    o = ls.Objective(model, [(x[:2], torch.tensor([0, 1])), (x[2:], torch.tensor([0, 1]))])
    with pytest.raises(NumericalError, match="product of batch 1 is not finite"):
        Hessian(o) @ torch.ones(6).double()
    with pytest.raises(NumericalError, match="gradient of batch 1 is not finite"):
        Hessian(o).gradient()


def test_batches_are_split_and_kept_as_far_as_memory_goes(monkeypatch):
    monkeypatch.setattr("landscape.operators._LEAST_PIECE", 0)
    o = objective("conv, batchnorm, dropout")
    v = Streams(1).normal("v", (P.size(o.params), 2))
    whole = Hessian(o)
    expected = Hessian(o, product="double-backward") @ v
    assert whole.kept_samples == o.batches.samples
    for share in (0.3, 0.7):
        part = Hessian(o, memory=int(whole.kept_bytes * share))
        assert part.product == "graph"
        assert 0 < part.kept_samples < o.batches.samples
        assert part.kept_bytes <= whole.kept_bytes * share
        assert_close(part @ v, expected, rtol=1e-9, atol=1e-11)
        assert_close(part @ v[:, 0], expected[:, 0], rtol=1e-9, atol=1e-11)
        assert_close(part.gradient(), P.flatten(o.gradient()), rtol=1e-10, atol=1e-13)


def test_samples_that_depend_on_each_other_are_not_split(monkeypatch):
    class Centred(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(6, 3)

        def forward(self, x):
            return self.layer(x - x.mean(0))

    monkeypatch.setattr("landscape.operators._LEAST_PIECE", 0)
    torch.manual_seed(0)
    o = ls.Objective(Centred().double(), (torch.rand(20, 6).double(), torch.arange(20) % 3))
    v = Streams(1).normal("v", (P.size(o.params),))
    assert_close(
        Hessian(o, memory=800) @ v, P.flatten(o.hvp(P.unflatten(v, o.params))), rtol=1e-9, atol=0
    )


def test_what_is_kept_outlives_changes_of_the_model():
    o = objective("mlp")
    operator = Hessian(o)
    v = Streams(1).normal("v", (operator.size,))
    before = operator @ v
    with torch.no_grad():
        for p in o.model.parameters():
            p.mul_(2)
    assert torch.equal(operator @ v, before)


def test_a_loss_that_theta_does_not_reach():
    class Rounding(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x).detach()

    o = ls.Objective(Rounding(6, 3), (torch.rand(5, 6), torch.arange(5) % 3))
    with pytest.raises(UsageError, match="does not depend on θ by differentiable operations"):
        Hessian(o)


def test_an_operation_that_cannot_be_differentiated_twice_is_named():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g

    class Odd(torch.nn.Linear):
        def forward(self, x):
            return Once.apply(super().forward(x))

    o = ls.Objective(Odd(6, 3), (torch.rand(5, 6), torch.arange(5) % 3))
    with pytest.raises(UsageError, match="can't be differentiated twice through Once"):
        Hessian(o)


def test_second_derivatives_that_are_not_symmetric_are_refused():
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx, g):
            x, w = ctx.saved_tensors
            return g * w.detach(), (g * x).sum(0)  # a constant to the next backward

    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.rand(3))

        def forward(self, x):
            return Scale.apply(x, self.w)

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 3), Odd())
    objective = ls.Objective(model, (torch.rand(7, 6), torch.arange(7) % 3))
    with pytest.raises(UsageError, match="not symmetric through Scale, so they are wrong"):
        Hessian(objective)


def test_a_way_that_is_wrong_for_a_network_is_refused(monkeypatch):
    objective = ls.Objective(CASES["mlp"].model().double(), CASES["mlp"].data())
    build = Hessian._build

    def off(self, way, term):
        product = build(self, way, term)
        return product if way != "graph" else lambda v: product(P.scale(1.01, v))

    monkeypatch.setattr(Hessian, "_build", off)
    with pytest.raises(UsageError, match=r"graph does not work .* not those of .* Use auto or"):
        Hessian(objective, product="graph")
    assert Hessian(objective).product == "double-backward"


@pytest.mark.parametrize("step", [torch.sign, torch.round, torch.floor, torch.ceil, torch.trunc])
def test_functions_without_a_slope_are_named(step):
    class Steps(torch.nn.Module):
        def forward(self, x):
            return step(x)

    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    line = torch.nn.Linear
    model = torch.nn.Sequential(line(4, 3), Steps())
    with pytest.raises(UsageError, match=f"zero everywhere: {step.__name__} has no slope"):
        Hessian(ls.Objective(model, [(x, y)]))
    # Where something else reaches θ, there is a Hessian.
    Hessian(ls.Objective(torch.nn.Sequential(line(4, 3), Steps(), line(3, 3)), [(x, y)]))


class Checkpointed(nn.Module):
    """Hidden layers that backward computes again."""

    def __init__(self, how):
        super().__init__()
        self.body, self.head, self.how = mlp(6, outputs=5), nn.Linear(5, 3), how

    def forward(self, x):
        if self.how is None:
            return self.head(self.body(x))
        return self.head(activation_checkpoint(self.body, x, use_reentrant=self.how))


@pytest.mark.parametrize("product", ["auto", "graph", "double-backward"])
def test_activations_computed_again_are_those_of_the_given_parameters(product):
    plain, again = Checkpointed(None).double(), Checkpointed(False).double()
    again.load_state_dict(plain.state_dict())
    data = CASES["mlp"].data()
    attack = Attack(Ball("linf", 0.2), steps=3, step_size=0.1)
    one, two = (ls.Objective(m, data, attack=attack, refresh="each") for m in (plain, again))
    step = P.random_like(one.params, Streams(0, "step"))
    there = P.axpy(0.3, step, one.params)
    for at in (None, there):
        assert_close(two.gradient(at), one.gradient(at))
        assert_close(two.hvp(step, at), one.hvp(step, at))
        for a, b in zip(one.terms(at), two.terms(at), strict=True):
            assert_close(a.x, b.x)
    expected = reference(plain, *joined([(t.x, t.y) for t in one.terms()]))
    matrix = Hessian(two, product=product)
    eye = torch.eye(matrix.size, dtype=torch.float64)
    assert_close(matrix @ eye, expected.hessian)
    before = [p.grad for p in again.parameters()]
    assert before == [None] * len(before)
    term = next(two.terms())
    assert term.recomputes()
    assert not next(one.terms()).recomputes()


def test_reentrant_checkpointing_is_refused_but_its_values_are_not():
    objective = ls.Objective(Checkpointed(True).double(), CASES["mlp"].data())
    assert np.isfinite(objective.value().loss)
    for measure in (objective.gradient, lambda: Hessian(objective)):
        with pytest.raises(UsageError, match=r"use_reentrant=True.*write .*use_reentrant=False"):
            measure()


class OfTheBatch(nn.Module):
    """Normalised by the batch in eval mode too, which a single sample can't be."""

    def __init__(self):
        super().__init__()
        self.inputs, self.head = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(F.batch_norm(self.inputs(x), None, None, training=True))


def test_networks_that_need_more_than_one_sample_are_measured():
    model = OfTheBatch().double()
    x, y = joined(CASES["mlp"].data())
    matrix = Hessian(ls.Objective(model, [(x, y)]), product="double-backward")
    assert_close(dense(matrix), reference(model, x, y).hessian)


@pytest.mark.parametrize("way", ["auto", *PRODUCTS])
@pytest.mark.parametrize("name", ["mlp", "conv, batchnorm, dropout"])
def test_a_hessian_that_is_all_rounding_is_not_taken_for_a_wrong_one(name, way):
    """As where a network is certain of every sample: what float32 leaves of p − y."""
    model = CASES[name].model().float().eval()
    x = joined(CASES[name].data())[0].float()
    *_, last = (m for m in model.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        y = model(x).argmax(1)
        last.weight.zero_()
        last.bias.copy_(torch.tensor([14.1, 0.0, -0.3]))
        last.weight[:, 0] = torch.tensor([0.01, 0.02, -0.03])
    objective = ls.Objective(model, (x, torch.zeros_like(y)))
    assert 0 < objective.value().loss < 2e-6
    assert bool((Hessian(objective, product=way) @ torch.ones(P.size(objective.params))).any())
