"""Moving targets, weights of samples, teachers, cached perturbations: identities, plain loops."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_training import CLASSES, batchnorm, counted, data, mlp, plan, same, trained
from torch import Tensor, nn

from landscape.attacks import Attack, Ball
from landscape.checkpoints import Checkpoint
from landscape.data import AUGMENTATIONS
from landscape.data.augment import CropFlip
from landscape.errors import CheckpointError, DataError, UsageError
from landscape.models import ModelSpec
from landscape.random import Streams
from landscape.training import ADDITIONS, fit, method
from landscape.training.batch import Batch
from landscape.training.cached import Cached, found_window
from landscape.training.distillation import Distilled, Teacher
from landscape.training.methods import Method
from landscape.training.mixing import Mixed
from landscape.training.outer_losses import CrossEntropy, Trades
from landscape.training.perturbations import Attacked, Passes
from landscape.training.samples import Samples, View
from landscape.training.targets import AdaptiveTargets, Reweighted, moving_target

PGD = {"eps": 0.1, "steps": 2, "alpha": 0.05}
UPDATES = 20


def batch_of(model: nn.Module, x: Tensor, y: Tensor, **fields: Any) -> Batch:
    n = len(x)
    values = {"rows": torch.arange(n), "time": 0.5, "memory": {}, "perturb": None, **fields}
    return Batch(model, x, y, streams=Streams(0), population=n, **values)


# -- slow, obvious references ---------------------------------------------------------------------


def attacked(
    model: nn.Module, x: Tensor, y: Tensor, start: Tensor, steps: int = 2, clean: bool = False
) -> Tensor:
    """Steps of .05 in a ball of .1 on cross-entropy, or on KL to the clean prediction."""
    adv = (x + start).clamp(0, 1)
    for _ in range(steps):
        adv = adv.detach().requires_grad_()
        loss = F.cross_entropy(model(adv), y)
        if clean:
            p, q = model(x).softmax(1).detach(), model(adv).softmax(1)
            loss = (p * (p / q).log()).sum()
        (g,) = torch.autograd.grad(loss, adv)
        adv = adv.detach() + 0.05 * g.sign()
        adv = torch.min(torch.max(adv, x - 0.1), x + 0.1).clamp(0, 1)
    return adv.detach()


def soft(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * logits.log_softmax(1)).sum(1)


def kls(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum(1)


class Loop:
    """SGD by hand over batches of the whole data; what a sample keeps lies in plain lists."""

    def __init__(self, x: Tensor, y: Tensor, epochs: int = UPDATES) -> None:
        self.x, self.y, self.epochs = x, y, epochs
        self.targets = [F.one_hot(label, CLASSES).double() for label in y]
        self.deltas: list[Tensor | None] = [None] * len(y)

    def run(self, model: nn.Module, objective: Any) -> nn.Module:
        velocity = [torch.zeros_like(p) for p in model.parameters()]
        for epoch in range(self.epochs):
            streams = Streams(0, "train", epoch)
            order = torch.randperm(len(self.x), generator=streams.generator("shuffle"))
            stream = streams.child("attack").child("restart", 0)
            loss = objective(self, model, epoch, order, stream)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for p, g, v in zip(model.parameters(), gradients, velocity, strict=True):
                    v.mul_(0.9).add_(g + 1e-3 * p)
                    p.sub_(0.1 * v)
        return model


def slow_self_adaptive(loop: Loop, model: nn.Module, epoch: int, order: Tensor, stream: Streams):
    x, y = loop.x[order], loop.y[order]
    start = 0.001 * stream.normal("gaussian", tuple(x.shape))
    adv = attacked(model, x, y, start, clean=True)
    logits = model(x)
    natural = F.cross_entropy(logits, y)
    if epoch >= 5:
        losses, weights = [], []
        for i, row in enumerate(order.tolist()):
            p = logits[i].detach().softmax(0)
            loop.targets[row] = 0.8 * loop.targets[row] + 0.2 * p
            losses.append(soft(logits[i : i + 1], loop.targets[row])[0])
            weights.append(loop.targets[row].max())
        natural = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
    return natural + 4 * kls(logits.softmax(1), model(adv).softmax(1)).mean()


def slow_liu2022(loop: Loop, model: nn.Module, epoch: int, order: Tensor, stream: Streams):
    """Algorithm 1 with both of its options, without augmentation; a fresh start every 7 epochs."""
    x, y = loop.x[order], loop.y[order]
    noise = 0.001 * stream.normal("gaussian", tuple(x.shape))
    if epoch % 7 == 0:
        loop.deltas = [None] * len(order)
    kept = [loop.deltas[row] for row in order.tolist()]
    starts = [n if d is None else d for n, d in zip(noise, kept, strict=True)]
    adv = attacked(model, x, y, torch.stack(starts), steps=1)
    logits = model(adv)
    weights, losses = [], []
    for i, row in enumerate(order.tolist()):
        loop.deltas[row] = adv[i] - x[i]
        p = logits[i].detach().softmax(0)
        target = F.one_hot(y[i], CLASSES).double()
        if epoch >= 3:
            loop.targets[row] = 0.9 * loop.targets[row] + 0.1 * p
            target = 0.1 * target + 0.9 * loop.targets[row]
        weights.append(p[y[i]] if epoch >= 3 else torch.tensor(1.0))
        losses.append(soft(logits[i : i + 1], target)[0])
    return sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)


def slow_fine_tune(loop: Loop, model: nn.Module, epoch: int, order: Tensor, stream: Streams):
    x, y = loop.x[order], loop.y[order]
    adv = attacked(model, x, y, Ball("linf", 0.1).sample(x, stream))
    p, q = model(x).softmax(1), model(adv).softmax(1)
    total, weights = 0, 0
    for i, label in enumerate(y.tolist()):
        w = float(q[i, label].detach())
        weights += w
        total = total + w * (-q[i, label].log() + 6 * (p[i] * (p[i] / q[i]).log()).sum())
    return total / weights


TEACHERS = mlp(seed=1), mlp(seed=2)


def slow_kdsa(loop: Loop, model: nn.Module, epoch: int, order: Tensor, stream: Streams):
    x, y = loop.x[order], loop.y[order]
    adv = attacked(model, x, y, Ball("linf", 0.1).sample(x, stream))
    total = 0.3 * F.cross_entropy(model(adv), y)
    for weight, teacher in zip((0.1, 0.6), TEACHERS, strict=True):
        q = (copy.deepcopy(teacher).double()(adv) / 2).softmax(1).detach()
        total = total + weight * 4 * soft(model(adv) / 2, q).mean()
    return total


KDSA = {"standard": TEACHERS[0], "adversarial": TEACHERS[1]}
BOTH = {"reweight": {"warmup": 3}, "adaptive-targets": {"warmup": 3}}
SLOW: dict[str, tuple[Any, dict[str, Any]]] = {
    "self-adaptive": (slow_self_adaptive, {**PGD, "beta": 4.0, "momentum": 0.8, "start": 5}),
    "atta+reweight+adaptive-targets": (
        slow_liu2022,
        {"eps": 0.1, "steps": 1, "reset": 7, **BOTH},
    ),
    "fine-tune": (slow_fine_tune, PGD),
    "pgd+kdsa": (slow_kdsa, {**PGD, "kdsa": KDSA}),
}


@pytest.mark.parametrize("name", SLOW)
def test_20_updates_agree_with_a_plain_loop(name: str) -> None:
    slow, options = SLOW[name]
    x, y = data(13)
    x = x.double()
    fast = mlp().double()
    state = fit(fast, (x, y), plan(method(name, **options), epochs=UPDATES, batch_size=len(x)))
    loop = Loop(x, y)
    same(fast, loop.run(mlp().double(), slow), rtol=1e-6, atol=1e-8)
    for key in ("self-adaptive", "adaptive-targets"):
        if key in name:
            torch.testing.assert_close(state.memory[key], torch.stack(loop.targets))
    if "atta" in name:
        deltas = [delta for delta in loop.deltas if delta is not None]
        torch.testing.assert_close(state.memory["atta.delta"], torch.stack(deltas))


# -- identities of targets and weights ------------------------------------------------------------


def test_self_adaptive_training_is_trades_before_it_starts() -> None:
    late = method("self-adaptive", eps=0.1, steps=2, start=1.9)  # of 2 epochs of 3 batches
    trades = method("trades", eps=0.1, steps=2)
    same(trained(plan(late)), trained(plan(trades)), rtol=1e-6, atol=1e-7)
    # Without a start it is 2.1 of 3: before it the two are alike, later they aren't.
    seen = []
    for m in (method("self-adaptive", eps=0.1, steps=2), trades):
        state = fit(mlp(), data(), plan(m, epochs=3))
        seen.append(state.columns["train_loss"])
    assert seen[0][:2] == pytest.approx(seen[1][:2], rel=1e-6)
    assert seen[0][2] != pytest.approx(seen[1][2], rel=1e-6)


def test_fixed_targets_are_the_method_itself() -> None:
    fixed = {"adaptive-targets": {"fixed": 1.0, "warmup": 0}}
    for base in ("pgd", "atta", "trades"):
        m = method(f"{base}+adaptive-targets", eps=0.1, steps=2, **fixed)
        same(
            trained(plan(m)),
            trained(plan(method(base, eps=0.1, steps=2))),
            rtol=1e-5,
            atol=1e-6,
        )


def test_warmups_are_the_method_itself() -> None:
    long = {"reweight": {"warmup": 1.9}, "adaptive-targets": {"warmup": 1.9}}
    m = method("pgd+reweight+adaptive-targets", eps=0.1, steps=2, **long)
    same(trained(plan(m)), trained(plan(method("pgd", eps=0.1, steps=2))), rtol=1e-6, atol=1e-7)


def test_targets_stay_on_the_simplex_and_start_at_the_label() -> None:
    model, (x, y) = mlp(), data()
    batch = batch_of(model, x, y)
    logits = model(x)
    first = moving_target(batch, "t", logits, 0.7)
    expected = 0.7 * F.one_hot(y, CLASSES) + 0.3 * logits.softmax(1)
    torch.testing.assert_close(first, expected.detach())
    assert moving_target(batch, "t", logits, 0.7) is first  # once per update
    p = plan(method("pgd+adaptive-targets", **PGD, **{"adaptive-targets": {"warmup": 0}}))
    bank = fit(mlp(), data(), p).memory["adaptive-targets"]
    torch.testing.assert_close(bank.sum(1), torch.ones(22))
    assert float(bank.min()) >= 0


def test_several_views_of_a_sample_move_its_target_one_after_the_other() -> None:
    model, (x, y) = mlp(), data()
    batch = batch_of(model, torch.cat([x, 1 - x]), y.repeat(2), rows=torch.arange(22).repeat(2))
    logits = model(batch.x)
    found = moving_target(batch, "t", logits, 0.5)
    p, q = logits.detach().softmax(1).chunk(2)
    expected = 0.25 * F.one_hot(y, CLASSES) + 0.25 * p + 0.5 * q
    torch.testing.assert_close(found, expected.repeat(2, 1))


def test_samples_drawn_twice_are_no_views() -> None:
    model, (x, y) = mlp(), data()
    rows = torch.tensor([3, 5, 4, 3])
    batch = replace(batch_of(model, x[rows], y[rows], rows=rows), population=22)
    found = moving_target(batch, "t", model(batch.x), 0.5)
    expected = 0.5 * F.one_hot(y[rows], CLASSES) + 0.5 * model(x[rows]).detach().softmax(1)
    torch.testing.assert_close(found, expected)


def test_weights_sum_to_one_and_hard_samples_weigh_less() -> None:
    model, (x, y) = mlp(), data()
    loss = Reweighted(CrossEntropy(), warmup=0)
    batch = batch_of(model, x, y)
    each, plain = loss.each(batch, y), CrossEntropy().each(batch, y)
    weights = (each / plain).detach() / len(y)
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
    p = model(x).softmax(1).gather(1, y[:, None]).squeeze(1).detach()
    torch.testing.assert_close(weights, p / p.sum())
    assert weights.requires_grad is False
    # Probabilities that underflow still have a ratio.
    sure = nn.Sequential(nn.Flatten(), nn.Linear(24, CLASSES))
    nn.init.constant_(sure[1].weight, 0)
    sure[1].bias = nn.Parameter(torch.tensor([0.0, 500.0, 1000.0]))
    two = batch_of(sure, x[:2], torch.tensor([0, 0]))
    torch.testing.assert_close(float(loss(two).detach()), 1000.0)


def test_uniform_weights_are_the_method_itself() -> None:
    """A network of equal probabilities weighs all alike; with fixed targets, liu2022 is ATTA."""
    model, (x, y) = mlp(), data()
    with torch.no_grad():
        model[3].weight.zero_()
        model[3].bias.zero_()
    fixed = {"adaptive-targets": {"fixed": 1.0, "warmup": 0}, "reweight": {"warmup": 0}}
    losses = [
        method(name, eps=0.1, **{k: v for k, v in fixed.items() if k in name}).outer_loss
        for name in ("atta", "atta+reweight", "atta+adaptive-targets+reweight")
    ]
    gradients = []
    for loss in losses:
        value = loss(batch_of(model, x, y))
        gradients.append(torch.autograd.grad(value, list(model.parameters())))
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-5, atol=1e-7)


def test_weights_and_targets_are_those_of_liu2022_in_either_order() -> None:
    one = method("atta+reweight+adaptive-targets", eps=0.1, **BOTH)
    other = method("atta+adaptive-targets+reweight", eps=0.1, **BOTH)
    same(trained(plan(one, epochs=5)), trained(plan(other, epochs=5)), rtol=1e-5, atol=1e-6)


# -- teachers -------------------------------------------------------------------------------------


def test_distillation_without_teachers_is_the_method_itself() -> None:
    m = method("pgd+kdsa", **PGD, kdsa={**KDSA, "weights": (1.0, 0.0, 0.0)})
    same(trained(plan(m)), trained(plan(method("pgd", **PGD))), rtol=1e-6, atol=1e-7)


def test_teachers_are_in_eval_mode_and_left_alone() -> None:
    teacher, (x, y) = batchnorm(1).train(), data()
    before = copy.deepcopy(teacher.state_dict())
    m = method("pgd+kdsa", **PGD, kdsa={"standard": teacher, "adversarial": teacher})
    model = batchnorm()
    fit(model, (x, y), plan(m))
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    assert teacher.training
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    # What it says doesn't depend on the other samples: no batch statistics, no Dropout.
    asked = Teacher(teacher)
    torch.testing.assert_close(asked(x, CLASSES)[:3], asked(x[:3], CLASSES))
    assert not asked(x, CLASSES).requires_grad


def test_teachers_from_checkpoints(tmp_path: Path) -> None:
    spec = ModelSpec("logistic", (1, 4, 6), CLASSES)
    saved = Checkpoint(state_dict=spec.build(seed=3).state_dict(), model=spec.to_dict())
    path = saved.save(tmp_path / "teacher.pt")
    m = method("pgd+kdsa", **PGD, kdsa={"standard": str(path), "adversarial": path})
    told = m.to_dict()["outer_loss"]
    assert told["standard"] == {"source": str(path), "digest": saved.digest}
    x, _ = data()
    assert isinstance(m.outer_loss, Distilled)
    torch.testing.assert_close(m.outer_loss.standard(x, CLASSES), spec.build(seed=3).eval()(x))
    trained(plan(m))
    with pytest.raises(CheckpointError, match="does not exist"):
        method("pgd+kdsa", **PGD, kdsa={"standard": "none.pt", "adversarial": path})
    torch.save(saved.state_dict, tmp_path / "bare.pt")
    with pytest.raises(CheckpointError, match="bare weights"):
        method("pgd+kdsa", **PGD, kdsa={"standard": tmp_path / "bare.pt", "adversarial": path})


def test_a_teacher_of_other_classes_or_inputs_is_refused() -> None:
    more = nn.Sequential(nn.Flatten(), nn.Linear(24, CLASSES + 1))
    m = method("pgd+kdsa", **PGD, kdsa={**KDSA, "adversarial": more})
    model = mlp()
    with pytest.raises(UsageError, match=r"outputs of shape \(4,\), the network has 3 classes"):
        fit(model, data(), plan(m))
    same(model, mlp())
    m = method("pgd+kdsa", **PGD, kdsa={**KDSA, "standard": nn.Linear(7, 3)})
    with pytest.raises(UsageError, match=r"can't take inputs of shape \(1, 4, 6\)"):
        fit(mlp(), data(), plan(m))


# -- cached perturbations -------------------------------------------------------------------------


def images(n: int = 6) -> Tensor:
    """Every pixel of every image has a value of its own."""
    return (1 + torch.arange(n * 2 * 9 * 7.0)).reshape(n, 2, 9, 7) / (n * 2 * 9 * 7 + 1)


@pytest.mark.parametrize("name", ["crop-flip", "shift", "none"])
def test_windows_of_an_augmentation_are_found(name: str) -> None:
    raw = images()
    generator = torch.Generator().manual_seed(4)
    for _ in range(5):
        view = View(raw, AUGMENTATIONS[name], generator.get_state())
        x = AUGMENTATIONS[name](raw, generator)
        window = found_window(view, 4)
        assert torch.equal(window.apply(raw), x)
        # Into the canvas and out again.
        canvas = torch.zeros(6, 2, 17, 15)
        assert torch.equal(window.crop(window.write(x, canvas)), x)


def test_augmentations_that_cant_be_undone_are_refused() -> None:
    raw = images()
    state = torch.Generator().get_state()
    with pytest.raises(UsageError, match="shifts and flips images and nothing else"):
        found_window(View(raw, AUGMENTATIONS["sat"], state), 4)
    far = CropFlip(torch.full((6,), 8), torch.full((6,), 3), torch.zeros(6) > 0, 4)
    with pytest.raises(UsageError, match="shifts by 4 pixels, the cache has a margin of 2"):
        found_window(View(raw, lambda x, generator: far.apply(x), state), 2)
    with pytest.raises(UsageError, match=r"must be images \(B, C, H, W\)"):
        found_window(View(raw.flatten(1), AUGMENTATIONS["none"], state), 2)


def deltas(state: Any) -> Tensor:
    found: Tensor = state.memory["atta.delta"]
    return found


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_cached_perturbations_stay_in_the_ball(norm: str) -> None:
    m = method("atta", eps=0.1, norm=norm, steps=1, padding=1)
    state = fit(mlp(), data(), plan(m, epochs=4), augment=AUGMENTATIONS["shift"])
    assert deltas(state).shape == (22, 1, 6, 8)
    if norm == "linf":
        assert 0.09 < float(deltas(state).abs().max()) <= 0.1 + 1e-6
    assert bool((deltas(state) != 0).flatten(1).any(1).all())
    assert torch.equal(state.memory["atta.round"], torch.zeros(22, dtype=torch.int64))


def test_a_reset_every_epoch_is_a_fresh_start() -> None:
    atta = method("atta", eps=0.1, steps=2, reset=1)
    assert isinstance(atta.perturbation, Cached)
    fresh = Method("fresh", Attacked(atta.perturbation.attack), CrossEntropy())
    same(trained(plan(atta, epochs=3)), trained(plan(fresh, epochs=3)))
    never = trained(plan(method("atta", eps=0.1, steps=2, reset=0), epochs=3))
    assert not torch.equal(never[1].weight, trained(plan(fresh, epochs=3))[1].weight)


def test_the_second_visit_starts_where_the_first_ended() -> None:
    """Also where the image was shifted and flipped in between."""
    x, y = data(5)
    seen: dict[str, Tensor] = {}

    class Watching(Attack):
        def perturb(self, forward: Any, x: Tensor, *args: Any, **options: Any) -> Tensor:
            seen["start"] = options["initial"]
            found = super().perturb(forward, x, *args, **options)
            seen["delta"] = found - x
            return found

    cached = Cached(
        Watching(Ball("linf", 0.1), steps=1, step_size=0.05, start="gaussian"), reset=0, padding=2
    )
    memory: dict[str, Tensor] = {}
    windows = [
        CropFlip(torch.tensor([0, 1, 2, 3, 4]), torch.tensor([4, 0, 1, 2, 3]), flip, 2)
        for flip in (torch.tensor([0, 1, 0, 1, 0]) > 0, torch.tensor([1, 1, 0, 0, 1]) > 0)
    ]
    canvas = torch.zeros(5, 1, 8, 10)
    for visit, window in enumerate(windows):
        view = View(x, lambda z, generator, w=window: w.apply(z), torch.Generator().get_state())
        batch_of(mlp(), window.apply(x), y, perturb=cached, memory=memory, view=view)
        if visit:  # pixels that the first visit has not shown start at 0
            torch.testing.assert_close(seen["start"], window.crop(canvas), rtol=0, atol=1e-7)
            assert float((seen["start"] != 0).float().mean()) > 0.3
        canvas = window.write(seen["delta"], canvas)
    torch.testing.assert_close(memory["atta.delta"], canvas, rtol=0, atol=0)


@pytest.mark.parametrize(
    "name", ["atta", "atta+reweight+adaptive-targets", "self-adaptive", "pgd+kdsa"]
)
def test_what_samples_keep_is_resumed_bit_for_bit(name: str) -> None:
    more: dict[str, Any] = {"kdsa": KDSA} if "kdsa" in name else {}
    if "reweight" in name:
        more |= {"adaptive-targets": {"warmup": 1}, "reweight": {"warmup": 1}}
    more |= {"start": 1} if name == "self-adaptive" else {}
    p = plan(method(name, eps=0.1, steps=2, **more), epochs=4)
    shift = AUGMENTATIONS["shift"]
    whole, half, again = batchnorm(), batchnorm(), batchnorm(seed=5)
    fit(whole, data(), p, augment=shift)
    state = fit(half, data(), replace(p, epochs=2), augment=shift)
    fit(again, data(), p, state=state, augment=shift)
    same(whole, again)


def test_atta_with_beta_is_trades_from_the_cache() -> None:
    m = method("atta", eps=0.1, steps=3, beta=2.0)
    assert m.outer_loss == Trades(2.0)
    assert isinstance(m.perturbation, Cached)
    assert m.perturbation.attack.objective == "kl"
    assert m.passes == counted(m) == Passes(6, 5)
    # liu2022's step for one, the usual one for ten.
    for steps, alpha in ((1, 0.05), (10, 0.025)):
        found = method("atta", eps=0.1, steps=steps).perturbation
        assert isinstance(found, Cached)
        assert found.attack.step_size == pytest.approx(alpha)


# -- costs and what is refused --------------------------------------------------------------------


def test_wrapped_losses_cost_what_they_wrap() -> None:
    cases = {
        "pgd+reweight": Passes(3, 3),
        "pgd+adaptive-targets": Passes(3, 3),
        "pgd+kdsa": Passes(3, 3),
        "trades+reweight+kdsa": Passes(5, 4),
        "trades+reweight+advlc": Passes(5, 4),
        "pgd+awp+adaptive-targets": Passes(4, 4),
    }
    wrapped = [name for name, entry in ADDITIONS.items() if entry.field == "outer_loss"]
    assert set(wrapped) <= {part for name in cases for part in name.split("+")}
    for name, expected in cases.items():
        more: dict[str, Any] = {"kdsa": KDSA} if "kdsa" in name else {}
        for part in {"reweight", "adaptive-targets"} & set(name.split("+")):
            more[part] = {"warmup": 0}
        m = method(name, eps=0.1, steps=2, **more)
        assert m.passes == counted(m) == expected


def test_weight_perturbation_moves_targets_once() -> None:
    m = method("pgd+awp+adaptive-targets", **PGD, **{"adaptive-targets": {"warmup": 0}})
    model, (x, y) = mlp(), data()
    batch = batch_of(model, x, y, perturb=m.perturbation)
    m.loss(batch)
    before = batch.memory["adaptive-targets"].clone()
    m.loss(batch.again())
    assert torch.equal(batch.memory["adaptive-targets"], before)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pgd+kdsa", {}, "addition 'kdsa' needs standard, adversarial"),
        ("pgd+kdsa", {"kdsa": {**KDSA, "weights": (1.0, 1.0)}}, "weights must be three numbers"),
        ("pgd+kdsa", {"kdsa": {**KDSA, "temperature": 0.0}}, "temperature must be"),
        ("pgd+kdsa", {"kdsa": {**KDSA, "inner": 1}}, "takes no option 'inner'"),
        ("pgd+reweight", {"reweight": {"warmup": -1}}, "warmup must be a finite number"),
        ("pgd+adaptive-targets", {"adaptive-targets": {"fixed": 2}}, r"fixed must lie in \[0, 1\]"),
        ("self-adaptive", {"momentum": 1.5}, r"momentum must lie in \[0, 1\]"),
        ("self-adaptive", {"start": math.inf}, "start must be a finite number"),
        ("self-adaptive+reweight", {}, "can't be combined with the loss 'self-adaptive'"),
        ("atta", {"reset": -1}, "reset must be a number of epochs"),
        ("atta", {"padding": 1.5}, "padding must be a whole number"),
        ("atta", {"restarts": 2}, "takes no option 'restarts'"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        method(name, eps=0.1, **options)
    with pytest.raises(UsageError, match="one start: restarts must be 1"):
        Cached(Attack(Ball("linf", 0.1), steps=1, step_size=0.1, restarts=2))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("self-adaptive", {"start": 2}),
        ("pgd+adaptive-targets", {}),
        (
            "pgd+reweight+adaptive-targets",
            {"adaptive-targets": {"warmup": 0}, "reweight": {"warmup": 2}},
        ),
        ("pgd+reweight+kdsa", {"kdsa": KDSA, "reweight": {"warmup": 3}}),
    ],
)
def test_starts_beyond_the_run_are_refused(name: str, options: dict[str, Any]) -> None:
    m = method(name, eps=0.1, **options)
    with pytest.raises(
        UsageError,
        match=r"(start|(reweight|adaptive-targets).warmup)=\d epochs leave nothing of a run of 2",
    ):
        plan(m)


def test_adaptive_targets_need_samples_to_have_a_place() -> None:
    """Positions in the training data, which a shuffled batch carries along."""
    samples = Samples(data(), torch.device("cpu"), torch.float32)
    rows, x, y, _ = next(iter(samples.shuffled(8, Streams(0))))
    batch = Batch(mlp(), x, y, None, Streams(0), rows, 9.0, {}, population=len(samples))
    AdaptiveTargets(CrossEntropy())(batch)
    bank = batch.memory["adaptive-targets"]
    assert bank.shape == (22, CLASSES)
    assert torch.equal(bank.any(1).nonzero().squeeze(1), rows.sort().values)


# -- additional data ------------------------------------------------------------------------------


def mixed(own: int = 10, extra: int = 14) -> Mixed:
    cpu = torch.device("cpu")
    return Mixed(*(Samples(data(n, n), cpu, torch.float32) for n in (own, extra)))


@pytest.mark.parametrize("batch_size", [8, 9, 5])
def test_half_of_every_batch_is_from_either_set(batch_size: int) -> None:
    both = mixed()
    batches = list(both.shuffled(batch_size, Streams(0)))
    assert len(batches) == both.batches(batch_size)
    drawn = []
    for rows, x, y, _ in batches:
        own = int((rows < 10).sum())
        full = len(rows) == batch_size
        assert own - (len(rows) - own) == (batch_size % 2 if full else 0)
        for i, row in enumerate(rows.tolist()):
            there = data(10, 10) if row < 10 else data(14, 14)
            assert torch.equal(x[i], there[0][row % 10 if row < 10 else row - 10])
            assert y[i] == there[1][row if row < 10 else row - 10]
        drawn += rows.tolist()
    # Every additional sample once; the others evenly, and in another order the second time.
    assert sorted(row for row in drawn if row >= 10) == list(range(10, 24))
    own = [row for row in drawn if row < 10]
    assert sorted(own[:10]) == list(range(10))
    assert own[10:] != own[: len(own) - 10]
    counts = [own.count(row) for row in range(10)]
    assert max(counts) - min(counts) <= 1


def test_fine_tuning_with_additional_data() -> None:
    m, p = method("fine-tune", eps=0.1, steps=2), {"epochs": 2, "batch_size": 8}
    model, again = mlp(), mlp()
    seen: list[tuple[int, ...]] = []
    state = fit(
        model,
        data(10, 10),
        plan(m, **p),
        extra=data(14, 14),
        progress=lambda *a: seen.append(a[:4]),
    )
    assert seen[-1] == (2, 2, 4, 4)
    assert state.columns["train_loss"][1] < state.columns["train_loss"][0]
    first = fit(again, data(10, 10), plan(m, **{**p, "epochs": 1}), extra=data(14, 14))
    other = mlp(seed=3)
    fit(other, data(10, 10), plan(m, **p), extra=data(14, 14), state=first)
    same(other, model)


def test_additional_data_of_another_shape_are_refused() -> None:
    x, y = data()
    with pytest.raises(DataError, match=r"shape \(1, 4, 5\), the training data of \(1, 4, 6\)"):
        fit(mlp(), (x, y), plan(), extra=(x[..., :5], y))
