"""The training loop and its methods: identities, slow references, costs, what is left untouched."""

from __future__ import annotations

import copy
import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.attacks import Attack, Ball, attack
from landscape.errors import DataError, NumericalError, UsageError
from landscape.random import Streams
from landscape.training import METHODS, Method, Optimiser, Plan, Schedule, fit, method
from landscape.training.batch import Batch
from landscape.training.loop import update
from landscape.training.network import frozen
from landscape.training.outer_losses import CrossEntropy, Trades
from landscape.training.perturbations import Attacked, Passes
from landscape.training.samples import Samples

CLASSES = 3
OPTIMISER = Optimiser(lr=0.1, momentum=0.9, weight_decay=1e-3)


def data(n: int = 22, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images whose left, middle or right third is brighter: learnable, strictly inside [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    x = 0.2 + 0.3 * torch.rand(n, 1, 4, 6, generator=generator)
    y = torch.arange(n) % CLASSES
    for image, label in zip(x, y.tolist(), strict=True):
        image[..., 2 * label : 2 * label + 2] += 0.3
    return x, y


def mlp(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def batchnorm(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(96, CLASSES),
        )


def plan(m: Method | str = "standard", **fields: Any) -> Plan:
    m = method(m) if isinstance(m, str) else m
    return Plan(m, **{"epochs": 2, "batch_size": 8, "optimiser": OPTIMISER, **fields})


def trained(p: Plan, make: Any = mlp, **more: Any) -> nn.Module:
    model = make()
    fit(model, data(), p, **more)
    return model


def same(a: nn.Module, b: nn.Module, **tolerance: float) -> None:
    tolerance = tolerance or {"rtol": 0, "atol": 0}
    torch.testing.assert_close(a.state_dict(), b.state_dict(), **tolerance)


# -- identities -----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("make", [mlp, batchnorm])
def test_eps_0_is_standard_training(norm: str, make: Any) -> None:
    # In eval mode the attack draws no Dropout masks and leaves BatchNorm alone.
    no_budget = method("pgd", eps=0, norm=norm, attack_mode="eval")
    same(trained(plan(no_budget), make), trained(plan(), make))


def test_trades_without_beta_follows_standard_training() -> None:
    same(trained(plan(method("trades", eps=0.1, beta=0))), trained(plan()), rtol=1e-6, atol=1e-7)


def test_the_kl_gradient_of_trades_is_zero_without_start_noise() -> None:
    """Up to rounding, whose sign a step would follow: hence the noise."""
    model, (x, y) = mlp().double(), data()
    x = x.double()
    gradients: list[Tensor] = []

    def stop(k: int, x: Tensor, logits: Tensor, gradient: Tensor) -> Tensor:
        gradients.append(gradient)
        return torch.zeros(len(x), dtype=torch.bool)

    for noise in (0.0, 0.001):
        perturb = method("trades", eps=0.1, noise=noise, steps=1).perturbation
        assert isinstance(perturb, Attacked)
        adversarial = perturb.attack.perturb(model, x, y, streams=Streams(0), step_mask=stop)
        assert torch.equal(adversarial, x) is (noise == 0)
    assert float(gradients[0].abs().max()) < 1e-15
    assert float(gradients[1].abs().min()) > 1e-9


def test_trades_on_clean_inputs_is_cross_entropy() -> None:
    unperturbed = Method("clean", None, Trades(6.0))
    same(trained(plan(unperturbed)), trained(plan()), rtol=1e-6, atol=1e-7)


# -- a slow, obvious reference --------------------------------------------------------------------


def reference(name: str, model: nn.Module, x: Tensor, y: Tensor, starts: list[Tensor]) -> None:
    """20 updates on the whole batch, from the papers, for ε = .1, α = .025, 10 steps, β = 6."""
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for start in starts:
        adv = (x + start).clamp(0, 1)
        for _ in range(10):
            adv = adv.detach().requires_grad_()
            if name == "pgd":
                inner = F.cross_entropy(model(adv), y)
            else:
                p, q = model(x).softmax(1).detach(), model(adv).softmax(1)
                inner = (p * (p / q).log()).sum()
            (gradient,) = torch.autograd.grad(inner, adv)
            adv = adv.detach() + 0.025 * gradient.sign()
            adv = torch.min(torch.max(adv, x - 0.1), x + 0.1).clamp(0, 1)
        if name == "pgd":
            outer = F.cross_entropy(model(adv), y)
        else:
            p, q = model(x).softmax(1), model(adv).softmax(1)
            outer = F.cross_entropy(model(x), y) + 6 * (p * (p / q).log()).sum() / len(x)
        gradients = torch.autograd.grad(outer, list(model.parameters()))
        with torch.no_grad():
            for p, g, v in zip(model.parameters(), gradients, velocity, strict=True):
                v.mul_(0.9).add_(g + 1e-3 * p)
                p.sub_(0.1 * v)


@pytest.mark.parametrize("name", ["pgd", "trades"])
def test_20_updates_agree_with_a_plain_loop(name: str) -> None:
    x, y = data()
    x = x.double()
    fast, slow = mlp().double(), mlp().double()
    fit(fast, (x, y), plan(method(name, eps=0.1), epochs=20, batch_size=len(x)))

    starts, order = [], []
    for epoch in range(20):
        streams = Streams(0, "train", epoch)
        order.append(torch.randperm(len(x), generator=streams.generator("shuffle")))
        stream = streams.child("attack").child("restart", 0)
        shape = tuple(x.shape)
        start = Ball("linf", 0.1).sample(x, stream)
        if name == "trades":
            start = 0.001 * stream.normal("gaussian", shape)
        # Starts are drawn in the order of the batch; the reference keeps the original order.
        starts.append(torch.empty_like(x).index_copy(0, order[-1], start))
    reference(name, slow, x, y, starts)
    same(fast, slow, rtol=1e-6, atol=1e-8)
    moved = fast[1].weight.detach() - mlp().double()[1].weight.detach()
    assert float(moved.abs().max()) > 0.01


# -- costs ----------------------------------------------------------------------------------------

COSTS = {
    "standard": (method("standard"), Passes(1, 1), "1 + 1"),
    "pgd": (method("pgd", eps=0.1, steps=7), Passes(8, 8), "K+1 + K+1"),
    "pgd, restarts": (method("pgd", eps=0.1, steps=3, restarts=2), Passes(9, 7), None),
    "trades": (method("trades", eps=0.1, steps=7), Passes(10, 9), "K+3 + K+2"),
    "self-adaptive": (
        method("self-adaptive", eps=0.1, steps=7, start=0),
        Passes(10, 9),
        "K+3 + K+2",
    ),
    "atta": (method("atta", eps=0.1, steps=3), Passes(4, 4), "K+1 + K+1"),
    "fine-tune": (method("fine-tune", eps=0.1, steps=3), Passes(5, 5), "K+2 + K+2"),
}


@pytest.mark.parametrize("case", COSTS)
def test_an_update_costs_the_stated_passes(case: str) -> None:
    m, expected, stated = COSTS[case]
    assert m.passes == expected
    if stated is not None:
        assert METHODS[case].cost == stated
    assert counted(m) == expected


def counted(m: Method) -> Passes:
    """Passes of one update, by hooks on the network and on its outputs."""
    counts = [0, 0]

    def forward(module: nn.Module, inputs: Any, output: Tensor) -> None:
        counts[0] += 1
        if output.requires_grad:
            output.register_hook(lambda g: counts.__setitem__(1, counts[1] + 1))

    model, (x, y) = mlp(), data()
    model.register_forward_hook(forward)
    p = plan(m)
    optimiser = p.optimiser.build(model.parameters())
    n = len(x)
    batch = Batch(model, x, y, m.perturbation, Streams(0), torch.arange(n), 0.0, {}, population=n)
    update(batch, p, optimiser)
    return Passes(*counts)


def test_every_method_has_a_cost_case() -> None:
    """Here or in another file of tests about training."""
    cases = set(COSTS)
    for path in Path(__file__).parent.glob("test_training_*.py"):
        cases |= set(getattr(importlib.import_module(path.stem), "COSTS", {}))
    assert set(METHODS) <= cases


# -- modes, and what is left untouched ------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eval", "train", "train-frozen"])
def test_only_an_attack_in_train_mode_moves_batchnorm(mode: str) -> None:
    model, (x, y) = batchnorm().train(), data()
    before = copy.deepcopy(dict(model.named_buffers()))
    with frozen(model, mode) as forward:
        assert model.training is (mode != "eval")
        attack("pgd-3", eps=0.1).perturb(forward, x, y, streams=Streams(0))
    after = dict(model.named_buffers())
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == (list(before) if mode == "train" else [])
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_the_mode_of_the_method_reaches_the_attack() -> None:
    seen = {}
    for mode in ("eval", "train", "train-frozen"):
        model = batchnorm()
        fit(model, data(), plan(method("pgd", eps=0.1, steps=3, attack_mode=mode), epochs=1))
        seen[mode] = int(model[1].num_batches_tracked)
    assert seen == {"eval": 3, "train": 12, "train-frozen": 3}


def test_global_state_flags_and_frozen_parameters_are_left_alone() -> None:
    model = batchnorm().eval()
    model[0].weight.requires_grad_(False)
    weight = model[0].weight.clone()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fit(model, data(), plan(method("trades", eps=0.1, steps=2)), validation=data(9, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in model.modules())
    assert torch.equal(model[0].weight, weight)
    assert not model[0].weight.requires_grad
    assert model[0].bias.requires_grad


def test_seeds() -> None:
    p = plan(method("pgd", eps=0.1, steps=2))
    torch.manual_seed(1)
    first = trained(p, batchnorm)
    torch.manual_seed(2)
    same(first, trained(p, batchnorm))
    other = trained(replace(p, seed=1), batchnorm)
    assert not torch.equal(first[5].weight, other[5].weight)


# -- batches --------------------------------------------------------------------------------------


def test_every_sample_once_per_epoch_in_another_order_with_the_last_batch_smaller() -> None:
    samples = Samples(data(22), torch.device("cpu"), torch.float64)
    epochs = []
    for epoch in range(2):
        batches = list(samples.shuffled(8, Streams(0, "train", epoch)))
        assert [len(x) for _, x, *_ in batches] == [8, 8, 6]
        assert batches[0][1].dtype == torch.float64
        epochs.append(torch.cat([rows for rows, *_ in batches]))
        y = torch.cat([y for _, _, y, _ in batches])
        assert torch.equal(y, data(22)[1][epochs[-1]])
        assert torch.equal(epochs[-1].sort().values, torch.arange(22))
    assert not torch.equal(*epochs)


def test_the_last_smaller_batch_is_trained_on() -> None:
    calls: list[tuple[int, ...]] = []
    trained(plan(), progress=lambda *args: calls.append(args[:4]))
    # Once more per epoch, after validation.
    assert calls == [(e, 2, b, 3) for e in (1, 2) for b in (1, 2, 3, 3)]


def test_large_image_sets_are_read_by_batch_with_the_same_values() -> None:
    from landscape.data import load

    digits = load("digits", "val", n_examples=20)
    device, rows = torch.device("cpu"), torch.tensor([3, 19, 0])
    kept = Samples(digits, device, torch.float32).take(rows)
    read = Samples(digits, device, torch.float32, keep_bytes=0).take(rows)
    torch.testing.assert_close(kept, read, rtol=0, atol=0)


def test_augmentation_is_applied_to_training_batches_only() -> None:
    shapes = []

    def darken(x: Tensor, generator: torch.Generator) -> Tensor:
        shapes.append(tuple(x.shape))
        return x * torch.rand(len(x), 1, 1, 1, generator=generator)

    changed = trained(plan(epochs=1), augment=darken, validation=data(9, seed=1))
    assert shapes == [(8, 1, 4, 6), (8, 1, 4, 6), (6, 1, 4, 6)]
    assert not torch.equal(changed[1].weight, trained(plan(epochs=1))[1].weight)


# -- learning, and failing to ---------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns(name: str) -> None:
    # The loss can't fall below the entropy of soft labels (CAT20).
    options = {"eps": 0.05, "steps": 3, "smoothing": 1.0}
    m = method(name, **{k: v for k, v in options.items() if k in METHODS[name].options})
    model = mlp()
    p = plan(m, epochs=30, validation_attack=attack("pgd-3", eps=0.05))
    state = fit(model, data(66), p, validation=data(30, seed=1))
    assert state.columns["train_loss"][-1] < 0.5 * state.columns["train_loss"][0]
    assert state.columns["val_robust_accuracy"][-1] > 0.9
    assert state.best_epoch == 1 + max(
        range(30), key=lambda e: (state.columns["val_robust_accuracy"][e], -e)
    )
    assert set(state.columns["constant_classifier"][-1:]) == {0.0}


def test_a_constant_classifier_is_flagged() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([1.0, 0.0, 0.0]))

        def forward(self, x: Tensor) -> Tensor:
            return self.bias.expand(len(x), CLASSES)

    state = fit(Constant(), data(), plan(), validation=data())
    assert state.columns["constant_classifier"] == [1.0, 1.0]


def test_divergence_names_the_place_and_what_to_try() -> None:
    with pytest.raises(
        NumericalError, match=r"epoch \d+, batch \d of 3, at lr 1e\+38: try a lower"
    ):
        trained(plan(optimiser=Optimiser(lr=1e38), epochs=5))


def test_gradient_clipping_bounds_the_step() -> None:
    start = mlp()
    p = plan(epochs=1, batch_size=22, clip_norm=1e-3, optimiser=Optimiser(lr=1.0, momentum=0.0))
    moved = trained(p)
    pairs = zip(moved.parameters(), start.parameters(), strict=True)
    step = torch.cat([(a - b).flatten() for a, b in pairs])
    assert float(step.detach().norm()) == pytest.approx(1e-3, rel=1e-3)


def test_unusable_data_are_refused() -> None:
    x, y = data()
    with pytest.raises(DataError, match=r"labels from 0 to 3, but the network has 3 outputs"):
        fit(mlp(), (x, torch.arange(len(x)) % 4), plan())
    with pytest.raises(DataError, match="integer class labels"):
        fit(mlp(), (x, y.float()), plan())
    with pytest.raises(DataError, match=r"attacks need \[0, 1\]"):
        fit(mlp(), (3 * x, y), plan(method("pgd", eps=0.1)))
    with pytest.raises(UsageError, match=r"\(B, classes\) logits"):
        fit(nn.Conv2d(1, 2, 3), (x, y), plan())
    with pytest.raises(UsageError, match="no parameters"):
        fit(nn.Flatten(), (x, y), plan())


# -- a new method is a new part -------------------------------------------------------------------


@dataclass(frozen=True)
class Remembered(Attacked):
    """Starts each sample's attack from where its last one ended (the core of ATTA)."""

    def __call__(self, batch: Batch) -> Tensor:
        cache = batch.memory.setdefault("delta", torch.zeros(22, *batch.x.shape[1:]))
        warm = replace(batch, x=(batch.x + cache[batch.rows]).clamp(0, 1), perturb=None)
        found = super().__call__(warm)
        cache[batch.rows] = self.attack.ball.project(found - batch.x)
        return (batch.x + cache[batch.rows]).clamp(0, 1)


def test_a_part_with_state_per_sample_resumes_bit_for_bit() -> None:
    perturb = Remembered(Attack(Ball("linf", 0.1), steps=1, step_size=0.05, start="zero"))
    p = plan(Method("remembered", perturb, CrossEntropy()), epochs=3)
    whole, half = mlp(), mlp()
    fit(whole, data(), p)
    state = fit(half, data(), replace(p, epochs=2))
    assert float(state.memory["delta"].abs().max()) > 0
    other = mlp(seed=5)
    fit(other, data(), p, state=state)
    same(whole, other)


def test_schedule_reaches_the_optimiser() -> None:
    p = plan(epochs=4, schedule=Schedule("step", milestones=(2, 3), factor=0.5))
    state = fit(mlp(), data(), p)
    assert state.columns["learning_rate"] == pytest.approx([0.1, 0.1, 0.05, 0.025])
