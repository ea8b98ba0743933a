"""Parts about the weights: AWP, EntropySGD, averaging; how they go together with methods."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_training import batchnorm, data, mlp, plan, same, trained
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.random import Streams
from landscape.training import ADDITIONS, METHODS, Optimiser, Plan, default_config, fit, method
from landscape.training.batch import Batch
from landscape.training.entropy import EntropySGD
from landscape.training.loop import update
from landscape.training.perturbations import Passes
from landscape.training.weights import AdversarialWeights, perturbable

WHOLE = {"epochs": 20, "batch_size": 22}
PLAIN = Optimiser(lr=0.1, momentum=0.0)
TOLERANCE = {"rtol": 1e-6, "atol": 1e-8}


def double(make: Any = mlp) -> tuple[nn.Module, Tensor, Tensor]:
    x, y = data()
    return make().double(), x.double(), y


def gradients(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))


# -- adversarial weights --------------------------------------------------------------------------


def test_20_updates_of_awp_agree_with_a_plain_loop() -> None:
    fast, x, y = double()
    slow = mlp().double()
    fit(fast, (x, y), plan(method("standard+awp", awp={"gamma": 0.05}), **WHOLE))
    params = list(slow.parameters())
    velocity = [torch.zeros_like(p) for p in params]
    for _ in range(20):
        worst = []
        for p, g in zip(params, gradients(slow, x, y), strict=True):
            v = 0.05 * p.detach().norm() * g / g.norm()
            worst.append(v if p.ndim > 1 else torch.zeros_like(v))
        with torch.no_grad():
            for p, v in zip(params, worst, strict=True):
                p.add_(v)
        there = gradients(slow, x, y)
        with torch.no_grad():
            for p, v, g, speed in zip(params, worst, there, velocity, strict=True):
                speed.mul_(0.9).add_(g + 1e-3 * p)  # weight decay of the perturbed weights
                p.sub_(0.1 * speed).sub_(v)
    same(fast, slow, **TOLERANCE)
    assert not torch.allclose(fast[1].weight, trained(plan(**WHOLE), mlp)[1].weight.double())


@pytest.mark.parametrize("make", [mlp, batchnorm])
def test_awp_without_size_or_before_its_warmup_is_the_method_itself(make: Any) -> None:
    expected = trained(plan(method("pgd", eps=0.1)), make)
    for options in ({"gamma": 0.0}, {"warmup": 1.9}):
        same(trained(plan(method("pgd+awp", eps=0.1, awp=options)), make), expected)
    late = trained(plan(method("pgd+awp", eps=0.1, awp={"warmup": 1})), make)
    assert not torch.equal(late[-1].weight, expected[-1].weight)


def test_the_perturbation_of_weights_has_its_size_and_comes_off_again() -> None:
    model, x, y = double(batchnorm)
    model.train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    batch = Batch(model, x, y, None, Streams(0), torch.arange(len(x)), 0.0, {})
    part = AdversarialWeights(gamma=0.03)
    with part.perturbed(batch, method("standard").loss):
        for name, p in model.named_parameters():
            moved = (p.detach() - before[name]).norm()
            expected = 0.03 * before[name].norm() if p.ndim > 1 else 0.0
            assert float(moved) == pytest.approx(float(expected), rel=1e-9)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=1e-12, atol=1e-15)
    # The gradient for it left BatchNorm's statistics alone.
    assert torch.equal(model[1].running_mean, before["1.running_mean"])
    assert [tuple(p.shape) for p in perturbable(model)] == [(4, 1, 3, 3), (3, 96)]


def test_awp_costs_the_outer_loss_once_more() -> None:
    assert method("pgd+awp", eps=0.1, steps=7).passes == Passes(9, 9)
    assert method("trades+awp", eps=0.1, steps=7).passes == Passes(12, 11)
    counts = [0, 0]

    def forward(module: nn.Module, inputs: Any, output: Tensor) -> None:
        counts[0] += 1
        if output.requires_grad:
            output.register_hook(lambda g: counts.__setitem__(1, counts[1] + 1))

    model, (x, y) = mlp(), data()
    model.register_forward_hook(forward)
    p = plan(method("trades+awp", eps=0.1, steps=7))
    batch = Batch(model, x, y, p.method.perturbation, Streams(0), torch.arange(len(x)), 0.0, {})
    update(batch, p, p.optimiser.build(model.parameters()))
    assert Passes(*counts) == p.method.passes


# -- EntropySGD -----------------------------------------------------------------------------------


def entropy_reference(
    model: nn.Module, x: Tensor, y: Tensor, part: EntropySGD, updates: int, lr: float
) -> None:
    """The algorithm from the papers, on the whole batch, one update per epoch; no momentum."""
    params = list(model.parameters())
    gamma, alpha = part.scope, part.average
    done = 0
    while done < updates:
        walk = min(part.steps, updates - done)
        theta = [p.detach().clone() for p in params]
        mean = [p.clone() for p in theta]
        square = [p**2 for p in theta]
        for _ in range(walk):
            g = gradients(model, x, y)
            normal = Streams(0, "train", done)  # a new epoch, a new stream
            with torch.no_grad():
                for i, p in enumerate(params):
                    z = normal.normal("langevin", tuple(p.shape))
                    p.sub_(lr * (g[i] - gamma * (theta[i] - p)))
                    p.add_(lr**0.5 * part.noise * z)
                    mean[i] = (1 - alpha) * mean[i] + alpha * p
                    square[i] = (1 - alpha) * square[i] + alpha * p**2
            done += 1
        with torch.no_grad():
            for i, p in enumerate(params):
                h = 1.0 if part.scaled else 1 / gamma
                if part.second_order:
                    h = 1 / (gamma - gamma**2 * (square[i] - mean[i] ** 2))
                p.copy_(theta[i] - lr * gamma * h * (theta[i] - mean[i]))


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_20_updates_of_entropysgd_agree_with_a_plain_loop(second_order: bool, scaled: bool) -> None:
    part = EntropySGD(
        steps=7, scope=0.5, noise=1e-2, second_order=second_order, scaled=scaled, average=0.6
    )
    fast, x, y = double()
    slow = mlp().double()
    name = "entropysgd2" if second_order else "entropysgd"
    options = {"steps": 7, "scope": 0.5, "noise": 1e-2, "scaled": scaled, "average": 0.6}
    p = plan(method(f"standard+{name}", **{name: options}), optimiser=PLAIN, epochs=1)
    optimiser = PLAIN.build(fast.parameters())
    memory: dict[str, Tensor] = {}
    for k in range(20):
        streams = Streams(0, "train", k)
        update(Batch(fast, x, y, None, streams, torch.arange(22), 0.0, memory), p, optimiser)
    p.method.descent.finish(fast, optimiser, memory)
    assert not memory
    entropy_reference(slow, x, y, part, 20, 0.1)
    same(fast, slow, **TOLERANCE)
    assert not torch.allclose(fast[1].weight, mlp().double()[1].weight)


def test_identities_of_entropysgd() -> None:
    plain = trained(plan())
    same(trained(plan(method("standard+entropysgd", entropysgd={"steps": 0}))), plain)
    same(trained(plan(method("standard+entropysgd", entropysgd={"start": 1.9}))), plain)
    still = {"inner_lr": 0.0}
    p = plan(method("standard+entropysgd", entropysgd=still), optimiser=PLAIN)
    same(trained(p), mlp())
    # One point has no variance: the second order is then the unscaled first.
    one = {"steps": 1, "average": 1.0, "noise": 0.0}
    first = method("standard+entropysgd", entropysgd={**one, "scaled": False})
    second = method("standard+entropysgd2", entropysgd2=one)
    same(trained(plan(first)), trained(plan(second)), rtol=1e-6, atol=1e-7)
    # After the switch steps are plain ones again.
    cut = method("standard+entropysgd", entropysgd={"until": 1})
    state = fit(mlp(), data(), plan(cut, epochs=1))
    continued = mlp()
    fit(continued, data(), plan(), state=state)
    same(trained(plan(cut)), continued)


def test_the_walk_without_noise_comes_to_the_minimum_of_the_scoped_loss() -> None:
    """On ½ xᵀHx it is (H + γI)⁻¹ γ θ₀."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    hessian, gamma = a @ a.T / 6, 0.7
    model = nn.Linear(6, 1, bias=False).double()
    start = model.weight.detach().clone().ravel()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    part = EntropySGD(steps=3000, scope=gamma, noise=0.0)
    memory: dict[str, Tensor] = {}
    x = torch.zeros(1, 6).double()
    batch = Batch(model, x, torch.zeros(1), None, Streams(0), torch.arange(1), 0.0, memory)
    for _ in range(2999):
        model.weight.grad = (hessian @ model.weight.detach().ravel())[None]
        part.step(batch, optimiser)
    expected = torch.linalg.solve(hessian + gamma * torch.eye(6).double(), gamma * start)
    torch.testing.assert_close(model.weight.detach().ravel(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["pgd+entropysgd", "trades+awp+entropysgd2+swa"])
def test_an_interrupted_training_ends_bit_for_bit_the_same(name: str) -> None:
    parts = {part: {} for part in name.split("+")[1:]}
    if "swa" in parts:
        parts["swa"] = {"start": 2}
    p = plan(method(name, eps=0.1, **parts), epochs=4)
    whole, half, other = batchnorm(), batchnorm(), batchnorm(seed=5)
    fit(whole, data(), p)
    state = fit(half, data(), replace(p, epochs=2))
    fit(other, data(), p, state=state)
    same(whole, other)


# -- averaging ------------------------------------------------------------------------------------


def test_swa_keeps_the_mean_of_the_weights_with_batchnorm_estimated_anew() -> None:
    x, y = data()
    p = plan(method("standard+swa", swa={"start": 2}), epochs=4)
    averaged = batchnorm()
    state = fit(averaged, (x, y), p)
    each = [trained(plan(epochs=k), batchnorm) for k in (2, 3, 4)]
    same_run = trained(plan(epochs=4), batchnorm)
    torch.testing.assert_close(state.weights, dict(same_run.state_dict()), rtol=0, atol=0)
    for name, mean in averaged.named_parameters():
        parts = [dict(m.named_parameters())[name].detach() for m in each]
        torch.testing.assert_close(mean.detach(), torch.stack(parts).mean(0), rtol=1e-6, atol=1e-7)
    before = averaged[0](x).detach()
    torch.testing.assert_close(averaged[1].running_mean, before.mean((0, 2, 3)))
    assert state.checkpoint is state.published


def test_swa_of_one_epoch_is_that_epoch() -> None:
    p = plan(method("standard+swa", swa={"start": 3}), epochs=3)
    same(trained(p), trained(plan(epochs=3)))
    torch.testing.assert_close(
        fit(mlp(), data(), replace(p, epochs=3)).published["1.weight"],
        trained(plan(epochs=3))[1].weight.detach(),
    )


def test_swa_is_what_is_validated() -> None:
    x, y = data(9, seed=1)
    p = plan(method("standard+swa"), epochs=3)
    model = batchnorm()
    state = fit(model, data(), p, validation=(x, y))
    right = (model.eval()(x).argmax(1) == y).double().mean()
    assert state.columns["val_accuracy"][-1] == pytest.approx(float(right))


# -- composition ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ADDITIONS)
def test_every_addition_is_plain_data_and_documented(name: str) -> None:
    needed = {"kdsa": {"standard": mlp(), "adversarial": mlp(1)}}
    options = {"eps": 0.1, name: needed.get(name, {})}
    m = method(f"pgd+{name}", **options)
    assert json.loads(json.dumps(m.to_dict())) == m.to_dict()
    assert m == method(f"pgd+{name}", **options)
    entry = ADDITIONS[name]
    assert entry.description
    assert entry.reference
    assert entry.cost
    assert name not in METHODS


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("pgd+awq", {"eps": 0.1}, "unknown addition to a method 'awq': did you mean 'awp'"),
        ("pgd+awp+awp", {"eps": 0.1}, "has awp twice"),
        ("standard+entropysgd+entropysgd2", {}, "can't be combined, since both decide what an"),
        ("cat20+logitalign", {"eps": 0.1}, "attacks a sample twice per update"),
        ("iaat+consistency", {"eps": 0.1}, "one memory per sample"),
        ("free+logitalign", {"eps": 0.1}, "can't be combined with 'replayed perturbation'"),
        ("standard+pas", {}, "has no attack whose eps pas could schedule"),
        ("standard+awp", {"awp": {"gama": 1}}, "addition 'awp' takes no option 'gama'"),
        ("standard+awp", {"awp": {"gamma": -1}}, "gamma must be a finite number of at least 0"),
        ("standard+entropysgd", {"entropysgd": {"scope": 0}}, "scope must be a finite number abo"),
        ("standard+entropysgd", {"entropysgd": {"steps": 1.5}}, "steps must be a whole number"),
        ("standard+entropysgd", {"entropysgd": {"average": 0}}, r"average must lie in \(0, 1\]"),
        ("standard+entropysgd", {"entropysgd": {"start": 3, "until": 2}}, "must come after"),
        ("standard+swa", {"swa": {"start": 0}}, "start must be an epoch, counted from 1"),
    ],
)
def test_wrong_additions(name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        method(name, **options)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"awp": {"gamma": "abc"}}, "addition 'awp': gamma must be a number, got 'abc'"),
        ({"lr": "abc"}, "lr must be a number, got 'abc'"),
        ({"nesterov": "yes"}, "nesterov must be true or false, got 'yes'"),
        ({"steps": "many"}, "steps must be a number"),
    ],
)
def test_text_where_a_number_belongs(options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        default_config("digits", None, "pgd+awp", **options)


def test_an_average_that_never_starts_is_refused() -> None:
    with pytest.raises(UsageError, match="averaging starts in epoch 5, the run has 4"):
        Plan(method("standard+swa", swa={"start": 5}), epochs=4)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("standard+awp", {"awp": {"warmup": 4}}, "awp.warmup=4 epochs leave nothing of a run of 4"),
        ("standard+entropysgd", {"entropysgd": {"start": 4}}, "entropysgd.start=4 epochs leave"),
        ("standard+entropysgd2", {"entropysgd2": {"start": 9}}, "entropysgd2.start=9 epochs leave"),
    ],
)
def test_what_never_begins_is_refused(name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Plan(method(name, **options), epochs=4)


def test_additions_reach_the_configuration() -> None:
    options = {"gamma": 0.007, "warmup": 3}
    config = default_config("digits", None, "trades+awp", awp=options, beta=3.0)
    assert config.plan.method.weights == AdversarialWeights(**options)
    assert config.to_dict()["method"]["weights"] == {"part": "awp", **options}
    assert config.to_dict()["method"]["outer_loss"]["beta"] == 3
