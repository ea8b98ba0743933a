"""Convolutions folded with the BatchNorm after them, against Hessians that know of no folding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from cases import dense as reference
from torch import nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import landscape as ls
from landscape import params as P
from landscape.errors import NumericalError
from landscape.operators import GaussNewton, Hessian

WAYS = ("graph", "double-backward")


def norm(kind, channels, **options):
    """A BatchNorm with statistics and weights of its own, one of them 0 and one negative."""
    layer = kind(channels, **options)
    generator = torch.Generator().manual_seed(channels)
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    if layer.affine:
        with torch.no_grad():
            layer.weight[0], layer.weight[-1] = 0.0, -0.7
    return layer


class Net(nn.Module):
    """Two layers of convolution and BatchNorm, and a head."""

    def __init__(self, first, norm1, second, norm2, shape=(2, 6, 6)):
        super().__init__()
        self.first, self.norm1, self.second, self.norm2 = first, norm1, second, norm2
        size = self.body(torch.zeros(2, *shape)).flatten(1).shape[1]
        self.head = nn.Linear(size, 3)

    def body(self, x):
        return self.norm2(self.second(torch.tanh(self.norm1(self.first(x)))))

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)).flatten(1))


class Between(Net):
    """Something between the first convolution and its BatchNorm."""

    def body(self, x):
        return self.norm2(self.second(torch.tanh(self.norm1(self.first(x).mul_(1.5)))))


class Twice(Net):
    """The output of the first convolution is used beside its BatchNorm too."""

    def body(self, x):
        convolved = self.first(x)
        return self.norm2(self.second(torch.tanh(self.norm1(convolved)) + convolved.sin()))


class Tied(Net):
    """The second layer's weight is penalised in the forward pass: it is used as it is, too."""

    def body(self, x):
        return super().body(x) * (1 + self.second.weight.pow(2).sum())


class TwoNorms(Net):
    """One convolution, in turn with either BatchNorm."""

    def body(self, x):
        x = torch.tanh(self.norm1(self.first(x)))
        return self.norm2(self.first(x))


class Again(Net):
    """One pair in two places: it folds, and its offset and weight are summed over both."""

    def body(self, x):
        x = torch.tanh(self.norm1(self.first(x)))
        return self.norm2(self.second(torch.tanh(self.norm1(self.first(x)))))


class Checkpointed(Net):
    def body(self, x):
        x = checkpoint(lambda t: torch.tanh(self.norm1(self.first(t))), x, use_reentrant=False)
        return self.norm2(self.second(x))


class Computed(Net):
    """The scale of a BatchNorm is computed from θ, so that it is no leaf."""

    def body(self, x):
        n = self.norm1
        x = F.batch_norm(
            self.first(x), n.running_mean, n.running_var, n.weight.exp(), n.bias, False
        )
        return self.norm2(self.second(torch.tanh(x)))


def build(kind=Net, bias=True, groups=1, **options):
    same = kind in (Again, TwoNorms, Twice)
    width = 2 if same else 4
    padding = 1 if same else 0
    return kind(
        nn.Conv2d(2, width, 3, bias=bias, padding=padding, groups=groups),
        norm(nn.BatchNorm2d, width, **options),
        nn.Conv2d(width, 2, (3, 2), stride=(1, 2), bias=bias),
        norm(nn.BatchNorm2d, 2, **options),
    )


def frozen(*names):
    model = build()
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return model


# Every network, and how many of its convolutions fold.
NETWORKS = {
    "with bias": (build, 2),
    "without bias": (lambda: build(bias=False), 2),
    "groups": (lambda: build(groups=2), 2),
    "no weights of the norm": (lambda: build(affine=False), 2),
    "frozen scale": (lambda: frozen("norm1.weight"), 2),
    "frozen shift and bias": (lambda: frozen("norm1.bias", "first.bias"), 2),
    "frozen weight": (lambda: frozen("first.weight"), 1),
    "normalised by the batch": (lambda: build(track_running_stats=False), 0),
    "something between": (lambda: build(Between), 1),
    "used twice": (lambda: build(Twice), 1),
    "weight used too": (lambda: build(Tied), 1),
    "with two norms": (lambda: build(TwoNorms), 0),
    "in two places": (lambda: build(Again), 2),
    "checkpointed": (lambda: build(Checkpointed), 2),
    "computed scale": (lambda: build(Computed), 1),
}


def network(name):
    torch.manual_seed(0)
    return NETWORKS[name][0]().double()


def data(sizes=(5, 3, 1)):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(sum(sizes), 2, 6, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (sum(sizes),), generator=generator)
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_hessian_is_that_of_the_network_as_it_is(name, way):
    model, batches = network(name), data()
    if name == "normalised by the batch":
        batches = data((9,))
    operator = Hessian(ls.Objective(model, batches), product=way)
    assert len(operator.folding.pairs if operator.folding else ()) == NETWORKS[name][1]
    x, y = (torch.cat(t) for t in zip(*batches, strict=True))
    expected = reference(model, x, y).hessian
    eye = torch.eye(operator.size, dtype=torch.float64)
    assert_close(operator @ eye, expected, rtol=1e-9, atol=1e-11)
    assert_close(operator @ eye[:, 3], expected[:, 3], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", [(nn.Conv1d, nn.BatchNorm1d, 1), (nn.Conv3d, nn.BatchNorm3d, 3)])
def test_other_dimensions(kind):
    convolution, batch_norm, dimensions = kind
    torch.manual_seed(0)
    shape = (2, *[6] * dimensions)
    model = Net(
        convolution(2, 3, 3, stride=2),
        norm(batch_norm, 3),
        convolution(3, 2, 2),
        norm(batch_norm, 2),
        shape,
    ).double()
    x, y = torch.rand(4, *shape, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    operator = Hessian(ls.Objective(model, [(x, y)]))
    assert len(operator.folding.pairs) == 2
    eye = torch.eye(operator.size, dtype=torch.float64)
    assert_close(operator @ eye, reference(model, x, y).hessian, rtol=1e-9, atol=1e-11)


def test_some_parameters_only():
    model, batches = network("with bias"), data()
    whole = ls.Objective(model, batches)
    names = list(whole.params)
    x, y = (torch.cat(t) for t in zip(*batches, strict=True))
    expected = reference(model, x, y).hessian
    sizes = [p.numel() for p in whole.params.values()]
    at = dict(zip(names, torch.arange(len(expected)).split(sizes), strict=True))
    for patterns, pairs in ((["first.*"], 1), (["norm*"], 0), (["second.weight", "norm2.bias"], 1)):
        part = ls.Objective(model, batches, params=patterns)
        operator = Hessian(part)
        assert len(operator.folding.pairs if operator.folding else ()) == pairs
        rows = torch.cat([at[name] for name in part.params])
        eye = torch.eye(operator.size, dtype=torch.float64)
        assert_close(operator @ eye, expected[rows][:, rows], rtol=1e-9, atol=1e-11)


def test_other_statistics_at_other_parameters():
    """Re-estimated statistics are those of the point, and fold as they are there."""
    model, batches = network("with bias"), data((5, 4))
    objective = ls.Objective(model, batches, batchnorm="reestimate")
    operator = Hessian(objective)
    assert len(operator.folding.pairs) == 2
    agrees(operator, objective)


def test_batches_that_take_different_ways_through_the_network():
    """A weight that only the last batch uses without its BatchNorm folds nowhere."""

    torch.manual_seed(0)
    model = build(Either).double()
    for way in WAYS:
        objective = ls.Objective(model, data())
        operator = Hessian(objective, product=way)
        assert list(operator.folding.pairs) == ["second.weight"]
        agrees(operator, objective)


def agrees(operator, objective):
    v = torch.ones(operator.size, dtype=torch.float64)
    expected = P.flatten(objective.hvp(P.unflatten(v, objective.params)))
    assert_close(operator @ v, expected, rtol=1e-9, atol=1e-11)


class Either(Net):
    """Single samples pass the first BatchNorm by."""

    def body(self, x):
        convolved = self.first(x)
        if len(x) > 1:
            convolved = self.norm1(convolved)
        return self.norm2(self.second(torch.tanh(convolved)))


class Alone(Net):
    """Single samples take another function that is the first BatchNorm too."""

    def body(self, x):
        n, convolved = self.norm1, self.first(x)
        if len(x) > 1:
            convolved = n(convolved)
        else:
            convolved = torch.batch_norm(
                convolved, n.weight, n.bias, n.running_mean, n.running_var, False, 0.1, n.eps, False
            )
        return self.norm2(self.second(torch.tanh(convolved)))


class Cut(Net):
    """Of single samples nothing reaches the first convolution."""

    def body(self, x):
        with torch.set_grad_enabled(len(x) > 1 and torch.is_grad_enabled()):
            convolved = self.first(x)
        return self.norm2(self.second(torch.tanh(self.norm1(convolved))))


class Hooked(Net):
    """A hook changes the gradient of the first convolution for single samples."""

    def body(self, x):
        convolved = self.first(x)
        if len(x) == 1 and convolved.requires_grad:
            convolved.register_hook(lambda g: 2 * g)
        return self.norm2(self.second(torch.tanh(self.norm1(convolved))))


class Inference(Net):
    """A front end that is not differentiated."""

    def body(self, x):
        with torch.inference_mode():
            convolved = self.first(x)
        return self.norm2(self.second(torch.tanh(self.norm1(convolved.clone()))))


class Apart(Net):
    """Activations are computed again from between the first convolution and its BatchNorm."""

    def body(self, x):
        x = torch.tanh(checkpoint(self.norm1, self.first(x), use_reentrant=False))
        return self.norm2(self.second(x))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Alone, Cut, Hooked, Inference, Apart])
def test_gradients_that_go_another_way(kind, way):
    torch.manual_seed(0)
    objective = ls.Objective(build(kind).double(), data((5, 1)))
    agrees(Hessian(objective, product=way), objective)


def test_smaller_pieces_that_go_another_way():
    """After memory ran out, of a network that takes another way with single samples."""
    torch.manual_seed(0)
    objective = ls.Objective(build(Alone).double(), data((2,)))
    operator = Hessian(objective, product="double-backward")
    assert len(operator.folding.pairs) == 2
    operator._piece = 1
    agrees(operator, objective)
    assert operator.folding is None


@pytest.mark.parametrize("memory", [0, 1 << 30])
@pytest.mark.parametrize("changed", ["norm1.running_mean", "first.bias"])
def test_a_model_that_is_changed_afterwards(changed, memory):
    """What is kept is of the model as it was; what is made anew has the given θ, as before."""
    model = frozen("first.bias").double()
    objective = ls.Objective(model, data())
    operator = Hessian(objective, memory=memory)
    v = torch.ones(operator.size, dtype=torch.float64)
    before = operator @ v
    with torch.no_grad():
        model.state_dict()[changed].add_(0.5)
    if memory:
        assert torch.equal(operator @ v, before)
    else:
        agrees(operator, objective)


def test_vectors_that_are_differentiated_themselves():
    objective = ls.Objective(network("with bias"), data())
    operator = Hessian(objective)
    v = torch.ones(operator.size, dtype=torch.float64)
    assert torch.equal((operator @ v.clone().requires_grad_()).detach(), operator @ v)


def test_what_is_kept_is_half_as_much():
    torch.manual_seed(0)
    layers = []
    for _ in range(6):
        layers += [nn.Conv2d(8, 8, 3, padding=1), norm(nn.BatchNorm2d, 8), nn.ReLU()]
    model = nn.Sequential(nn.Conv2d(2, 8, 1), *layers, nn.AvgPool2d(12), nn.Flatten())
    x, y = torch.rand(16, 2, 12, 12), torch.arange(16) % 8
    folded = Hessian(ls.Objective(model, [(x, y)]))
    for layer in model[1:-2:3]:
        layer.weight.requires_grad_(False)
    nothing = Hessian(ls.Objective(model, [(x, y)]))
    assert len(folded.folding.pairs) == 6
    assert nothing.folding is None
    assert folded.kept_bytes < 0.6 * nothing.kept_bytes


def test_gradients_that_are_not_finite_name_the_batch():
    model, batches = network("with bias"), data()
    batches[1][0][0, 0, 0, 0] = torch.nan
    with pytest.raises(NumericalError, match="gradient of batch 1 is not finite"):
        Hessian(ls.Objective(model, batches))


def test_gauss_newton_does_not_fold():
    operator = GaussNewton(ls.Objective(network("with bias"), data()), product="double-backward")
    assert operator.folding is None


def test_a_folding_that_is_wrong_is_not_used(monkeypatch):
    from landscape.folding import Folding

    push = Folding.push
    monkeypatch.setattr(Folding, "push", lambda self, v: P.scale(1.01, push(self, v)))
    model, batches = network("with bias"), data()
    objective = ls.Objective(model, batches)
    operator = Hessian(objective)
    assert operator.folding is None
    v = torch.ones(operator.size, dtype=torch.float64)
    assert_close(operator @ v, P.flatten(objective.hvp(P.unflatten(v, objective.params))))
