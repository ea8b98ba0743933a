"""Methods that differ in their perturbation: slow references, identities, costs, saved passes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_training import batchnorm, data, mlp, plan, same, trained
from torch import Tensor, nn

from landscape import checkpoints
from landscape.attacks import Ball, attack
from landscape.data import load
from landscape.diagnostics import spectrum
from landscape.errors import UsageError
from landscape.models import ModelSpec
from landscape.objective import Objective
from landscape.random import Streams
from landscape.training import (
    METHODS,
    Method,
    Optimiser,
    Schedule,
    State,
    default_config,
    fit,
    method,
    snapshots,
    train,
)
from landscape.training.batch import Batch
from landscape.training.budget import Budget
from landscape.training.curricula import Difficulty, fosc, probability_gap
from landscape.training.customised import TARGETS, SoftTargets
from landscape.training.hessian_scores import lower, upper
from landscape.training.loop import update
from landscape.training.mart import Mart
from landscape.training.perturbations import Passes
from landscape.training.step_curriculum import STAGE, quantise

EPS, ALPHA, STEPS = 0.1, 0.025, 10
WHOLE = {"epochs": 20, "batch_size": 22}


def samples() -> tuple[Tensor, Tensor]:
    x, y = data()
    return x.double(), y


# -- slow, obvious references ---------------------------------------------------------------------

Slow = Callable[[nn.Module, Tensor, Tensor, Streams, Tensor, int], Tensor]
Outer = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (found,) = torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)
    return found


def step(model: nn.Module, x: Tensor, adv: Tensor, y: Tensor, alpha: Any, eps: Any) -> Tensor:
    moved = adv + alpha * gradient(model, adv, y).sign()
    return torch.min(torch.max(moved, x - eps), x + eps).clamp(0, 1)


def start(x: Tensor, streams: Streams, name: str = "attack") -> Tensor:
    return (x + Ball("linf", EPS).sample(x, streams.child(name).child("restart", 0))).clamp(0, 1)


def plain_ce(model: nn.Module, x: Tensor, adv: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(adv), y)


def slow_updates(
    model: nn.Module,
    perturb: Slow,
    outer: Outer = plain_ce,
    replays: int = 1,
    after: Callable[[Tensor], None] | None = None,
) -> None:
    """20 epochs of the whole batch by SGD with momentum and weight decay."""
    x, y = samples()
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for epoch in range(20):
        streams = Streams(0, "train", epoch)
        rows = torch.randperm(len(x), generator=streams.generator("shuffle"))
        for _ in range(replays):
            adv = perturb(model, x[rows], y[rows], streams, rows, epoch).detach()
            adv.requires_grad_(after is not None)
            loss = outer(model, x[rows], adv, y[rows])
            gradients = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
            if after is not None:
                after(torch.autograd.grad(loss, adv)[0])
            with torch.no_grad():
                for p, g, v in zip(model.parameters(), gradients, velocity, strict=True):
                    v.mul_(0.9).add_(g + 1e-3 * p)
                    p.sub_(0.1 * v)


def agree(m: Method, perturb: Slow, outer: Outer = plain_ce, **more: Any) -> nn.Module:
    fast, slow = mlp().double(), mlp().double()
    fit(fast, samples(), plan(m, **WHOLE))
    slow_updates(slow, perturb, outer, **more)
    same(fast, slow, rtol=1e-6, atol=1e-8)
    moved = fast[1].weight.detach() - mlp().double()[1].weight.detach()
    assert float(moved.abs().max()) > 0.01
    return fast


def test_20_updates_of_fgsm() -> None:
    agree(method("fgsm", eps=EPS), lambda m, x, y, *_: step(m, x, x, y, EPS, EPS))


@pytest.mark.parametrize("alpha", [None, EPS])
def test_20_updates_of_fgsm_r(alpha: float | None) -> None:
    size = 1.25 * EPS if alpha is None else alpha
    agree(
        method("fgsm-r", eps=EPS, alpha=alpha),
        lambda m, x, y, s, *_: step(m, x, start(x, s), y, size, EPS),
    )


def test_20_updates_of_n_fgsm() -> None:
    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, *_: Any) -> Tensor:
        noise = Ball("linf", EPS).sample(x, s.child("attack").child("restart", 0))
        noisy = (x + 3 * noise).clamp(0, 1)
        return (noisy + EPS * gradient(m, noisy, y).sign()).clamp(0, 1)

    agree(method("n-fgsm", eps=EPS, k=3), perturb)


def test_20_updates_of_fgsm_n() -> None:
    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, *_: Any) -> Tensor:
        noisy = x + Ball("linf", EPS).sample(x, s.child("attack").child("noise"))
        noisy = noisy.clamp(0, 1)
        return step(m, noisy, noisy, y, EPS, EPS)

    agree(method("fgsm-n", eps=EPS), perturb)


def test_20_updates_of_mart() -> None:
    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, *_: Any) -> Tensor:
        noise = s.child("attack").child("restart", 0).normal("gaussian", tuple(x.shape))
        adv = (x + 0.001 * noise).clamp(0, 1)
        for _ in range(STEPS):
            adv = step(m, x, adv, y, ALPHA, EPS)
        return adv

    def outer(m: nn.Module, x: Tensor, adv: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for p, q, label in zip(m(x).softmax(1), m(adv).softmax(1), y.tolist(), strict=True):
            others = max(q[j] for j in range(len(q)) if j != label)
            bce = -q[label].log() - (1.0001 - others).log()
            total = total + bce + 4 * (p * (p / q).log()).sum() * (1 - p[label])
        return total / len(x)

    agree(method("mart", eps=EPS, beta=4), perturb, outer)


def test_20_updates_of_p_sat() -> None:
    """λ from 0 to 1 over epochs 5 to 15; every sample alone, until its gap is too large."""
    stopped = []

    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, rows: Tensor, epoch: int) -> Tensor:
        level = min(1.0, max(0.0, (epoch + 0.5 - 5) / 10))
        found = []
        for a, adv, label in zip(x, start(x, s), y, strict=True):
            a, adv, label = a[None], adv[None], label[None]
            for _ in range(STEPS):
                p = m(adv).softmax(1)[0]
                if max(p[j] for j in range(3) if j != label) - p[label] > level:
                    stopped.append(epoch)
                    break
                adv = step(m, a, adv, label, ALPHA, EPS)
            found.append(adv)
        return torch.cat(found)

    m = method("p-sat", eps=EPS, difficulty="linear", difficulty_at=(5, 15))
    agree(m, perturb)
    assert 0 in stopped
    assert max(stopped) < 15


def h_sat_reference(share: float, group: int, bound: str, printed: bool) -> Slow:
    def losses(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(m(x), y, reduction="none")

    def scores(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        weights = list(m.parameters())
        g = torch.autograd.grad(losses(m, x, y).mean(), weights)
        slope = torch.cat([part.flatten() for part in g]).norm()
        alpha = 0.01 * slope
        values = []
        with torch.no_grad():
            for sign in (0, 1, -1):
                for w, part in zip(weights, g, strict=True):
                    w.add_(sign * alpha * part / slope)
                values.append(losses(m, x, y))
                for w, part in zip(weights, g, strict=True):
                    w.sub_(sign * alpha * part / slope)
        here, ahead, behind = values
        if printed:
            if bound == "upper":
                return (ahead + alpha * slope) / alpha - here
            return torch.maximum(ahead - alpha * slope, behind + alpha * slope) / alpha - here
        if bound == "upper":
            return 2 / alpha**2 * (ahead - here + alpha * slope)
        a, b = ahead - here - alpha * slope, behind - here + alpha * slope
        return 2 / alpha**2 * torch.maximum(a, b)

    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, *_: Any) -> Tensor:
        adv = start(x, s)
        for _ in range(STEPS):
            parts = [slice(i, i + group) for i in range(0, len(x), group)]
            order = torch.cat([scores(m, adv[p], y[p]) for p in parts]).argsort()
            chosen = order[: round(share * len(x))]
            moved = step(m, x, adv, y, ALPHA, EPS)
            adv = adv.clone()
            adv[chosen] = moved[chosen]
        return adv

    return perturb


@pytest.mark.parametrize(("bound", "printed"), [("lower", False), ("upper", True)])
def test_20_updates_of_h_sat(bound: str, printed: bool) -> None:
    m = method(
        "h-sat",
        eps=EPS,
        difficulty="constant",
        difficulty_from=0.5,
        group=16,
        bound=bound,
        printed=printed,
    )
    agree(m, h_sat_reference(0.5, 16, bound, printed))


@pytest.mark.parametrize("from_start", [False, True])
def test_20_updates_of_dat(from_start: bool) -> None:
    stopped = []

    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, rows: Tensor, epoch: int) -> Tensor:
        level = max(0.0, 0.02 * (1 - (epoch + 0.5) / 8))
        found = []
        for a, adv, label in zip(x, start(x, s), y, strict=True):
            a, adv, label = a[None], adv[None], label[None]
            origin = adv if from_start else a
            for k in range(STEPS):
                g = gradient(m, adv, label)
                if k and EPS * g.abs().sum() - ((adv - origin) * g).sum() <= level:
                    stopped.append(epoch)
                    break
                adv = step(m, a, adv, label, ALPHA, EPS)
            found.append(adv)
        return torch.cat(found)

    m = method("dat", eps=EPS, fosc=0.02, fosc_until=8, fosc_from_start=from_start)
    agree(m, perturb)
    assert 0 in stopped


def test_20_updates_of_dat_as_its_code_weighs_samples() -> None:
    """Each by its own loss, which is held fixed; not in the first epoch."""
    epochs = iter(range(20))

    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, *_: Any) -> Tensor:
        adv = start(x, s)
        for _k in range(STEPS):
            adv = step(m, x, adv, y, ALPHA, EPS)
        return adv

    def outer(m: nn.Module, x: Tensor, adv: Tensor, y: Tensor) -> Tensor:
        losses = [F.cross_entropy(m(a[None]), label[None]) for a, label in zip(adv, y, strict=True)]
        first = next(epochs) == 0
        return sum(loss * (1.0 if first else float(loss.detach())) for loss in losses) / len(y)  # type: ignore

    agree(method("dat", eps=EPS, fosc=0.0, own_weights=True), perturb, outer)
    with pytest.raises(UsageError, match="'cross-entropy weighed by itself', which has weights"):
        method("dat+reweight", eps=EPS, own_weights=True)


def test_20_updates_of_iaat() -> None:
    eps = torch.full((22,), EPS, dtype=torch.float64)
    gamma = 0.03

    def attacked(m: nn.Module, x: Tensor, y: Tensor, s: Streams, name: str, r: Tensor) -> Tensor:
        unit = (start(x, s, name) - x) / EPS  # nothing is cut by the box
        r = r[:, None, None, None]
        adv = x + r * unit
        for _ in range(STEPS):
            adv = step(m, x, adv, y, (r / 5).clamp_min(ALPHA), r)
        return adv

    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, rows: Tensor, epoch: int) -> Tensor:
        if epoch >= 3:
            before = eps[rows]
            high = m(attacked(m, x, y, s, "attack higher", before + gamma)).argmax(1)
            same_ = m(attacked(m, x, y, s, "attack same", before)).argmax(1)
            for i, row in enumerate(rows.tolist()):
                e = float(before[i])
                if high[i] == y[i]:
                    new = e + gamma
                elif same_[i] == y[i]:
                    new = e
                else:
                    new = max(0.0, e - gamma)
                eps[row] = 0.9 * e + 0.1 * new
        return attacked(m, x, y, s, "attack", eps[rows])

    m = method("iaat", eps=EPS, gamma=gamma, radii_warmup=3)
    agree(m, perturb)
    assert len(eps.unique()) > 3


def test_20_updates_of_free() -> None:
    x, _ = samples()
    delta = torch.zeros_like(x)
    seen: list[Tensor] = []

    def perturb(m: nn.Module, x: Tensor, *_: Any) -> Tensor:
        seen[:] = [x]
        return (x + delta).clamp(0, 1)

    def after(g: Tensor) -> None:
        inside = ((seen[0] + delta) >= 0) & ((seen[0] + delta) <= 1)
        delta.copy_((delta + EPS * (g * inside).sign()).clamp(-EPS, EPS))

    agree(method("free", eps=EPS, replays=3), perturb, replays=3, after=after)
    assert float(delta.abs().max()) == pytest.approx(EPS)


@pytest.mark.parametrize("inverted", [False, True])
def test_20_updates_of_cat20(inverted: bool) -> None:
    eps, soft = torch.zeros(22, dtype=torch.float64), []

    def target(radii: Tensor, y: Tensor, draw: Tensor) -> Tensor:
        share = (3 * radii)[:, None]
        return (1 - share) * F.one_hot(y, 3) + share * draw

    def soft_gradient(m: nn.Module, adv: Tensor, t: Tensor) -> Tensor:
        adv = adv.detach().requires_grad_()
        loss = -(t * m(adv).log_softmax(1)).sum()
        return torch.autograd.grad(loss, adv)[0]

    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, rows: Tensor, epoch: int) -> Tensor:
        draw = -torch.log1p(-s.child("attack").uniform("dirichlet", (len(x), 3)))
        draw = draw / draw.sum(1, keepdim=True)
        before = eps[rows]
        radii = (before + 0.02).clamp_max(EPS)
        t, r = target(before, y, draw), radii[:, None, None, None]
        adv = x
        for _ in range(STEPS):
            adv = adv + ALPHA * soft_gradient(m, adv, t).sign()
            adv = torch.min(torch.max(adv, x - r), x + r).clamp(0, 1)
        for i, (right, row) in enumerate(zip(m(adv).argmax(1) == y, rows.tolist(), strict=True)):
            eps[row] = radii[i] if bool(right) is not inverted else before[i]
        soft[:] = [target(eps[rows], y, draw)]
        return adv

    def outer(m: nn.Module, x: Tensor, adv: Tensor, y: Tensor) -> Tensor:
        z = m(adv)
        loss = -(soft[0] * z.log_softmax(1)).sum(1)
        for i, label in enumerate(y.tolist()):
            others = max(z[i, j] for j in range(3) if j != label)
            loss[i] = loss[i] + torch.clamp(others - z[i, label], min=-0.5)
        return loss.mean()

    options = {"eta": 0.02, "smoothing": 3, "kappa": 0.5, "inverted": inverted}
    agree(method("cat20", eps=EPS, **options), perturb, outer)
    assert float(eps.max()) > 0.02


# -- identities -----------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("make", [mlp, batchnorm])


def pgd(**options: Any) -> Method:
    return method("pgd", eps=EPS, attack_mode="eval", **options)


@BOTH
@pytest.mark.parametrize(
    "case",
    [
        ("fgsm", {"attack_mode": "eval"}),
        ("fgsm-r", {"attack_mode": "eval"}),
        ("n-fgsm", {"attack_mode": "eval"}),
        ("fgsm-n", {"attack_mode": "eval"}),
        ("p-sat", {}),
        ("h-sat", {}),
        ("dat", {}),
        ("iaat", {"attack_mode": "eval", "radii_warmup": 1}),
        ("cat20", {}),
        ("free", {"replays": 1}),
        ("atta", {"steps": 2, "padding": 0}),
    ],
    ids=lambda case: case[0],
)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_eps_0_is_standard_training(case: tuple[str, Any], norm: str, make: Any) -> None:
    name, options = case
    same(trained(plan(method(name, eps=0, norm=norm, **options)), make), trained(plan(), make))


@BOTH
def test_p_sat_of_level_1_is_pgd_and_of_level_minus_1_its_start(make: Any) -> None:
    constant = {"eps": EPS, "difficulty": "constant"}
    all_ = method("p-sat", difficulty_from=1.0, **constant)
    same(trained(plan(all_), make), trained(plan(pgd()), make))
    none = method("p-sat", difficulty_from=-1.0, **constant)
    same(trained(plan(none), make), trained(plan(pgd(steps=0)), make))


@BOTH
def test_h_sat_of_all_samples_is_pgd_and_of_none_standard(make: Any) -> None:
    constant = {"eps": EPS, "difficulty": "constant"}
    all_ = method("h-sat", difficulty_from=1.0, **constant)
    same(trained(plan(all_), make), trained(plan(pgd()), make))
    none = method("h-sat", difficulty_from=0.0, **constant)
    same(trained(plan(none), make), trained(plan(), make))


@BOTH
def test_dat_without_threshold_is_pgd_and_above_any_one_step(make: Any) -> None:
    # Samples of FOSC 0 rest in a corner of the ball, where PGD leaves them too.
    none = method("dat", eps=EPS, fosc=0.0)
    same(trained(plan(none), make), trained(plan(pgd()), make), rtol=1e-5, atol=1e-6)
    any_ = method("dat", eps=EPS, fosc=float("inf"), fosc_until=2)
    same(trained(plan(any_), make), trained(plan(pgd(steps=1, alpha=ALPHA)), make))


def test_eps_0_leaves_the_slices_of_cat18_clean() -> None:
    m = method("cat18", eps=0, steps=3, attack_mode="eval")
    batch = batch_of(m, mlp(), *data(), memory={STAGE: torch.tensor([3.0, 0.0, 0.0])})
    assert torch.equal(batch.adversarial, batch.x)


def test_iaat_that_changes_nothing_is_pgd() -> None:
    fixed = method("iaat", eps=EPS, gamma=0.0, radii_warmup=0, attack_mode="eval")
    same(trained(plan(fixed), batchnorm), trained(plan(pgd()), batchnorm))


def test_cat20_begins_clean_and_with_hard_labels() -> None:
    (x, y), m, model = samples(), method("cat20", eps=EPS, eta=0.0), mlp().double()
    batch = batch_of(m, model, x, y)
    assert torch.equal(batch.adversarial, x)
    assert torch.equal(batch.shared[TARGETS], F.one_hot(y, 3).double())
    hard = F.cross_entropy(model(x), y)
    torch.testing.assert_close(m.loss(batch), hard)


def test_soft_targets_stay_on_the_simplex() -> None:
    (x, y), model = samples(), mlp().double()
    m = method("cat20", eps=1.0, eta=0.7, smoothing=10.0)
    target = batch_of(m, model, x, y).shared[TARGETS]
    assert float(target.min()) >= 0
    torch.testing.assert_close(target.sum(1), torch.ones(22, dtype=torch.float64))


def test_noise_of_the_input_is_n_fgsm_of_k_1() -> None:
    (x, y), model = samples(), mlp().double()
    noised = batch_of(method("fgsm-n", eps=EPS, noise=1.0), model, x, y).adversarial
    noise = Ball("linf", EPS).sample(x, Streams(0).child("attack").child("noise"))
    delta = noise + EPS * gradient(model, x + noise, y).sign()  # of k = 1, not projected
    torch.testing.assert_close(noised, (x + delta).clamp(0, 1))
    assert EPS < float((noised - x).abs().max()) <= 2 * EPS + 1e-12


@pytest.mark.parametrize("name", ["fgsm", "fgsm-r", "mart", "p-sat", "h-sat", "dat", "free"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_examples_lie_in_ball_and_box(name: str, norm: str) -> None:
    (x, y), model = samples(), mlp().double()
    x = (x * 1.6 - 0.3).clamp(0, 1)
    m = method(name, eps=EPS, norm=norm)
    memory: dict[str, Tensor] = {}
    optimiser = Optimiser().build(model.parameters())
    for _ in range(2):
        batch = batch_of(m, model, x, y, memory=memory)
        update(batch, plan(m), optimiser)
    adversarial = batch.adversarial.detach()
    assert 0 <= float(adversarial.min()) <= float(adversarial.max()) <= 1
    largest = float(Ball(norm, EPS).distance(adversarial - x).max())
    assert 0.5 * EPS < largest <= EPS + 1e-12


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("k", [0.5, 2.0])
def test_n_fgsm_reaches_no_further_than_its_noise_and_its_step(norm: str, k: float) -> None:
    x, y = samples()
    batch = batch_of(method("n-fgsm", eps=EPS, norm=norm, k=k), mlp().double(), 0.5 + 0 * x, y)
    largest = float(Ball(norm, EPS).distance(batch.adversarial - batch.x).max())
    assert EPS < largest <= (k + 1) * EPS + 1e-12


@pytest.mark.parametrize("name", ["pgd", "trades"])
def test_more_restarts_never_find_less(name: str) -> None:
    """Of the same starts and more: the objective of every sample is at least as high."""
    (x, y), model = samples(), mlp().double()
    perturb = method(name, eps=EPS, steps=2, attack_mode="eval").perturbation
    clean = model(x).log_softmax(1).detach()
    found = []
    for restarts in (1, 2, 5):
        more = replace(perturb.attack, restarts=restarts)  # type: ignore[union-attr]
        logits = model(more.perturb(model, x, y, streams=Streams(0))).detach()
        if name == "pgd":
            found.append(F.cross_entropy(logits, y, reduction="none"))
        else:
            found.append((clean.exp() * (clean - logits.log_softmax(1))).sum(1))
    for fewer, more in itertools.pairwise(found):
        assert bool((more >= fewer - 1e-12).all())
    assert float((found[-1] - found[0]).max()) > 1e-6


def test_fosc() -> None:
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(5, 1, 4, 6, generator=generator, dtype=torch.float64)
    for norm, dual in (("linf", 1), ("l2", 2)):
        ball = Ball(norm, EPS)
        at_zero = EPS * torch.linalg.vector_norm(g.flatten(1), ord=dual, dim=1)
        torch.testing.assert_close(fosc(ball, torch.zeros_like(g), g), at_zero)
        best = EPS * ball.steepest(g)
        torch.testing.assert_close(fosc(ball, best, g), torch.zeros(5, dtype=torch.float64))
        inside = ball.sample(g, Streams(0))
        assert float(fosc(ball, inside, g).min()) > 0


def test_the_probability_gap_is_of_its_range_and_sign() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 90.0, 0.0], [1.0, 1.0, 0.0]])
    gap = probability_gap(logits, torch.tensor([0, 0, 0]))
    torch.testing.assert_close(gap, torch.tensor([-0.99963, 1.0, 0.0]), rtol=0, atol=1e-5)


def test_hessian_bounds_on_a_quadratic() -> None:
    """lower = gᵀHg ≤ λ_max ≤ upper, lower exactly; not so as printed."""
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    hessian, slope_at = root @ root.T, torch.randn(6, generator=generator, dtype=torch.float64)

    def loss(at: Tensor) -> Tensor:
        return 0.7 + slope_at @ at + 0.5 * at @ hessian @ at

    here, slope = loss(torch.zeros(6).double()), slope_at.norm()
    g, alpha = slope_at / slope, 0.01 * slope
    ahead, behind = loss(alpha * g), loss(-alpha * g)
    found = lower(here, ahead, behind, alpha, slope)
    torch.testing.assert_close(found, g @ hessian @ g, rtol=1e-8, atol=0)
    top = torch.linalg.eigvalsh(hessian)[-1]
    assert found <= top
    above = upper(here, ahead, alpha, slope)
    torch.testing.assert_close(above, g @ hessian @ g + 4 * slope / alpha, rtol=1e-8, atol=0)
    as_printed = lower(here, ahead, behind, alpha, slope, printed=True)
    torch.testing.assert_close(as_printed, (ahead - alpha * slope) / alpha - here)
    assert abs(as_printed / found - 1) > 1


def test_difficulties() -> None:
    paper = Difficulty("step", 0.0, (30, 45, 60))
    assert [paper.at(t, 70) for t in (29.9, 30, 45, 59, 60, 70)] == [0, 1 / 3, 2 / 3, 2 / 3, 1, 1]
    linear = Difficulty("linear", 0.8, (), (0.0, 0.3))
    assert [linear.at(t, 100) for t in (0, 15, 30, 99)] == pytest.approx([0.8, 0.9, 1, 1])
    p = method("p-sat", eps=EPS, difficulty="linear").perturbation
    assert [p.difficulty.at(t, 100) for t in (30, 50, 70)] == pytest.approx([0, 0.5, 1])


# -- costs ----------------------------------------------------------------------------------------

COSTS = {
    "fgsm": (method("fgsm", eps=EPS), Passes(2, 2), "2 + 2"),
    "fgsm-r": (method("fgsm-r", eps=EPS), Passes(2, 2), "2 + 2"),
    "n-fgsm": (method("n-fgsm", eps=EPS), Passes(2, 2), "2 + 2"),
    "fgsm-n": (method("fgsm-n", eps=EPS), Passes(2, 2), "2 + 2"),
    "free": (method("free", eps=EPS), Passes(1, 1), "1 + 1"),
    "mart": (method("mart", eps=EPS, steps=7), Passes(9, 9), "K+2 + K+2"),
    "p-sat": (method("p-sat", eps=EPS, steps=7), Passes(8, 8), "at most K+1 + K+1"),
    "h-sat": (
        method("h-sat", eps=EPS, steps=7),
        Passes(22, 8),
        "at most 3K+1 + K+1, at the end K+1 + K+1",
    ),
    "h-sat, upper": (method("h-sat", eps=EPS, steps=7, bound="upper"), Passes(15, 8), None),
    "dat": (method("dat", eps=EPS, steps=7, fosc=0.0), Passes(8, 8), "at most K+1 + K+1"),
    "iaat": (method("iaat", eps=EPS, steps=7, radii_warmup=0), Passes(24, 22), "3K+3 + 3K+1"),
    "cat20": (method("cat20", eps=EPS, steps=7), Passes(9, 8), "K+2 + K+1"),
    "pgd+pas": (method("pgd+pas", eps=EPS, steps=7), Passes(8, 8), None),
    "cat18": (method("cat18", eps=EPS, steps=4), Passes(3, 3), "at most K/2+1 + K/2+1"),
}


def batch_of(
    m: Method, model: nn.Module, x: Tensor, y: Tensor, time: float = 0.0, **more: Any
) -> Batch:
    fields = {"memory": {}, "epochs": 10, "population": len(x), **more}
    return Batch(model, x, y, m.perturbation, Streams(0), torch.arange(len(x)), time, **fields)


class Counted:
    """Samples that have gone through the network, forward and backward."""

    def __init__(self, model: nn.Module) -> None:
        self.forward = self.backward = 0
        model.register_forward_hook(self._count)

    def _count(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.forward += len(output)
        if output.requires_grad:
            output.register_hook(lambda g: setattr(self, "backward", self.backward + len(g)))

    def passes(self, samples: int) -> tuple[float, float]:
        return self.forward / samples, self.backward / samples


@pytest.mark.parametrize("case", COSTS)
def test_an_update_costs_the_stated_passes(case: str) -> None:
    m, expected, stated = COSTS[case]
    assert m.passes == expected
    if stated is not None:
        assert METHODS[case].cost == stated
    model, (x, y) = mlp(), data()
    memory: dict[str, Tensor] = {
        "cat20.classes": torch.tensor(3),
        "cat18.stage": torch.tensor([4.0, 0, 0]),
    }
    counted = Counted(model)
    p = plan(m)
    # At a time when λ of H-SAT lies between 0 and 1.
    batch = batch_of(m, model, x, y, time=0.5, memory=memory)
    update(batch, p, p.optimiser.build(model.parameters()))
    if case in ("p-sat", "dat"):
        assert counted.passes(22) <= tuple(expected)
    elif case == "cat18":  # slices of 5, 5, 4, 4 and 4
        assert counted.passes(22) == (63 / 22, 63 / 22)
    else:
        assert counted.passes(22) == tuple(expected)


@pytest.mark.parametrize("mode", ["eval", "train", "train-frozen"])
def test_p_sat_saves_the_passes_that_its_mask_saves_in_eval_mode(mode: str) -> None:
    (x, y), model = samples(), batchnorm().double()
    level = 0.02
    m = method("p-sat", eps=EPS, difficulty="constant", difficulty_from=level, attack_mode=mode)
    counted = Counted(model)
    adversarial = batch_of(m, model, x, y).adversarial
    if mode != "eval":
        assert counted.passes(22) == (10, 10)
        return
    # The steps that each sample takes alone, and the look that ends them.
    model.eval()
    looks, found = 0, []
    for a, adv, label in zip(x, start(x, Streams(0)), y, strict=True):
        a, adv, label = a[None], adv[None], label[None]
        for _ in range(STEPS):
            looks += 1
            if float(probability_gap(model(adv), label).detach()) > level:
                break
            adv = step(model, a, adv, label, ALPHA, EPS)
        found.append(adv)
    torch.testing.assert_close(adversarial, torch.cat(found))
    assert 22 < looks < 200
    own = Counted(fresh := batchnorm().double())
    batch_of(m, fresh, x, y)
    assert (own.forward, own.backward) == (looks, looks)


def test_dat_saves_passes_early_and_none_late() -> None:
    (x, y), m, spent = samples(), method("dat", eps=EPS, fosc=0.05), []
    for time in (0.5, 9.5):
        counted = Counted(model := mlp().double())
        batch_of(m, model, x, y, time=time)
        spent.append(counted.forward)
    assert spent[0] < 0.9 * spent[1] <= 220


@pytest.mark.parametrize(("bound", "most"), [("lower", 1.3), ("upper", 1.15)])
def test_h_sat_costs_at_most_half_as_much_again_as_pgd(bound: str, most: float) -> None:
    """Over a training; with the upper bound every single update does."""
    spent = {}
    for name, options in (("pgd", {}), ("h-sat", {"bound": bound})):
        counted = Counted(model := mlp())
        fit(model, data(), plan(method(name, eps=EPS, **options), epochs=10, batch_size=22))
        spent[name] = counted.forward + counted.backward
    assert 1 < spent["h-sat"] / spent["pgd"] < most
    one = method("h-sat", eps=EPS, bound="upper").passes
    assert sum(one) / sum(method("pgd", eps=EPS).passes) < 1.5


# -- what the attack needs for it -----------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_skipping_held_samples_changes_nothing(norm: str, decay: float) -> None:
    (x, y), model = samples(), mlp().double()
    found = attack("pgd-6", eps=EPS, norm=norm, decay=decay)
    calls = []

    def mask(k: int, x: Tensor, logits: Tensor, gradient: Tensor) -> Tensor:
        calls.append((logits.clone(), gradient.clone()))
        return (torch.arange(len(x)) + k) % 3 > 0 if k != 3 else torch.zeros(len(x)).bool()

    both = []
    for skip in (False, True):
        counted = Counted(net := mlp().double())
        both.append(found.perturb(net, x, y, streams=Streams(0), step_mask=mask, skip_held=skip))
        assert counted.forward == (22 * 6 if not skip else 22 + 14 + 15 + 15 + 0 + 15)
    torch.testing.assert_close(*both)
    for a, b in zip(calls[:6], calls[6:], strict=True):
        torch.testing.assert_close(a, b)
    assert model is not None


def test_step_sizes_per_sample() -> None:
    (x, y), model = samples(), mlp().double()
    sizes = torch.linspace(0, 0.03, 22)
    found = attack("pgd-4", eps=EPS, start="zero").perturb(
        model, x, y, streams=Streams(0), step_size=sizes
    )
    for i in (0, 7, 21):
        one = attack("pgd-4", eps=EPS, start="zero", step_size=float(sizes[i]))
        alone = one.perturb(model, x[i : i + 1], y[i : i + 1], streams=Streams(0))
        torch.testing.assert_close(found[i : i + 1], alone, rtol=0, atol=1e-8)
    with pytest.raises(UsageError, match=r"step_size= and skip_held= .* step_rule='fixed'"):
        attack("apgd-ce", eps=EPS).perturb(model, x, y, streams=Streams(0), step_size=sizes)


# -- state from one update to the next ------------------------------------------------------------

STATEFUL = {
    "free": ({"replays": 2}, "free.delta"),
    "iaat": ({"radii_warmup": 1, "gamma": 0.03}, "iaat.eps"),
    "cat20": ({"eta": 0.02}, "cat20.eps"),
    "cat18": ({"steps": 3, "patience": 1, "stage_accuracy": 0.0}, "cat18.stage"),
    "pgd+pas": ({"steps": 2, "pas": {"periods": (1, 3)}}, "snapshot.1.0.weight"),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_state_resumes_bit_for_bit(name: str) -> None:
    options, key = STATEFUL[name]
    m = method(name, eps=EPS, **options)
    whole, half = batchnorm(), batchnorm()
    held_out = data(9, seed=1)
    # A schedule of eps belongs to a run's length, so the first half must know of the second.
    states: list[State] = []
    end = fit(whole, data(), plan(m, epochs=4), validation=held_out, save=states.append)
    fit(half, data(), plan(m, epochs=4), validation=held_out)
    other = batchnorm(seed=5)
    resumed = fit(other, data(), plan(m, epochs=4), validation=held_out, state=states[1])
    same(whole, other)
    same(whole, half)
    assert torch.equal(end.memory[key], resumed.memory[key])
    assert key not in states[1].memory or not torch.equal(end.memory[key], states[1].memory[key])


# -- budgets that change --------------------------------------------------------------------------


def test_budgets_are_cut_at_their_target_and_begin_again_with_every_period() -> None:
    for schedule in ("linear", "cosine"):
        budget = Budget(schedule, maximum=2.0)  # 16/255 for a target of 8/255
        assert budget.at(0, 200) == 0
        assert budget.at(50, 200) < 1
        assert budget.at(100, 200) == pytest.approx(1)
        assert budget.at(150, 200) == 1
    assert Budget("linear", maximum=2.0).at(25, 200) == 0.25
    assert Budget("cosine", minimum=0.2).at(50, 200) == pytest.approx(0.2 + 0.8 * 0.146447)
    assert Budget("constant").at(3, 200) == 1
    periods = Budget("linear", periods=(100, 150))
    shares = [periods.at(t, 200) for t in (0, 50, 100, 125, 150, 175)]
    assert shares == [0, 0.5, 0, 0.5, 0, 0.5]


def test_learning_rates_begin_again_with_every_period() -> None:
    whole = Schedule("step", milestones=(100, 150), warmup=20)
    periodic = replace(whole, periods=(100, 150))
    # A period of 100 epochs is the run of 200 at twice the speed, the others at four times.
    for t in (0.0, 5.0, 49.0, 50.0, 80.0):
        assert periodic.at(t, 200) == pytest.approx(whole.at(2 * t, 200))
    for begin in (100, 150):
        for t in (0.0, 3.0, 24.9, 25.1, 40.0):
            assert periodic.at(begin + t, 200) == pytest.approx(whole.at(4 * t, 200))
    assert periodic.at(200, 200) == pytest.approx(0.01)
    with pytest.raises(UsageError, match=r"periods must .* the run of 2 epochs, got \[5\]"):
        plan(schedule=Schedule(periods=(5,)))
    assert "periods" not in plan().to_dict()["schedule"]
    assert plan(schedule=Schedule(periods=(1,))).to_dict()["schedule"]["periods"] == [1]


def test_20_updates_under_a_cosine_budget() -> None:
    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, rows: Tensor, epoch: int) -> Tensor:
        share = min(1.0, 1.5 * 0.5 * (1 - math.cos(math.pi * ((epoch + 0.5) % 10) / 10)))
        adv = x + share * (start(x, s) - x)
        for _ in range(STEPS):
            adv = step(m, x, adv, y, share * ALPHA, share * EPS)
        return adv

    budget = {"schedule": "cosine", "maximum": 1.5, "periods": (10,)}
    agree(method("pgd+pas", eps=EPS, attack_mode="eval", pas=budget), perturb)


def test_20_updates_under_a_budget_of_growing_steps() -> None:
    """ε(t)/α + 2 steps of the same α; α is a tenth of ε, so that there are 3 to 12 of them."""
    taken = []

    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, rows: Tensor, epoch: int) -> Tensor:
        share = (epoch + 0.5) / 20
        adv = x + share * (start(x, s) - x)
        taken.append(round(share * EPS / 0.01) + 2)
        for _ in range(taken[-1]):
            adv = step(m, x, adv, y, 0.01, share * EPS)
        return adv

    pas = {"schedule": "linear", "spare": 2}
    m = method("pgd+pas", eps=EPS, alpha=0.01, steps=12, attack_mode="eval", pas=pas)
    agree(m, perturb)
    assert (taken[0], taken[-1]) == (2, 12)
    assert m.perturbation.passes == Passes(12, 12)  # type: ignore[union-attr]  at most
    fewer = Budget(spare=2).of(attack("pgd-7", eps=EPS, step_size=0.01), 20, 20)
    assert fewer.steps == 7
    assert "spare" not in Budget().describe()
    assert Budget(spare=0).describe()["spare"] == 0


def test_20_updates_under_a_budget_that_starts_within_a_step() -> None:
    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, rows: Tensor, epoch: int) -> Tensor:
        share = (epoch + 0.5) / 20
        adv = x + share * ALPHA / EPS * (start(x, s) - x)
        for _ in range(STEPS):
            adv = step(m, x, adv, y, share * ALPHA, share * EPS)
        return adv

    pas = {"schedule": "linear", "start_in_step": True}
    agree(method("pgd+pas", eps=EPS, attack_mode="eval", pas=pas), perturb)


def test_mnist_of_liu2020_has_steps_in_proportion_to_eps() -> None:
    """App. C.1: α = .01 and ε/.01 + 10 steps, for a target of .4."""
    plan_ = default_config(None, None, "pgd+pas", recipe="liu2020/mnist").plan
    part = plan_.method.perturbation
    assert part is not None
    found = [part.budget.of(part.attack, t, 100) for t in (0, 50, 99)]  # type: ignore[attr-defined]
    assert [a.steps for a in found] == [10, round(found[1].ball.radius / 0.01) + 10, 50]
    assert {a.step_size for a in found} == {0.01}
    assert found[2].ball.radius == 0.4


@pytest.mark.parametrize("name", ["pgd", "trades", "mart", "fgsm-n", "p-sat", "h-sat", "dat"])
def test_a_constant_budget_changes_nothing(name: str) -> None:
    constant = method(f"{name}+pas", eps=EPS, pas={"schedule": "constant"})
    same(trained(plan(constant)), trained(plan(method(name, eps=EPS))))
    none = method(f"{name}+pas", eps=EPS, pas={"schedule": "constant", "maximum": 0.0})
    batch = batch_of(none, mlp(), *data(), time=5.0)
    assert float((batch.adversarial - batch.x).abs().max()) == 0


def test_snapshots_at_the_ends_of_the_periods_are_one_network(tmp_path: Path) -> None:
    config = default_config(
        "digits",
        "lenet-2",
        "pgd+pas",
        pas={"periods": (1, 2), "maximum": 2.0},
        epochs=3,
        n_examples=96,
        steps=2,
        evaluation=attack("pgd-2", eps=EPS),
        validation_attack=attack("pgd-2", eps=EPS),
    )
    train(config, tmp_path, keep_every=1)
    stored = checkpoints.load(tmp_path / "ensemble.pt")
    assert stored.model is not None
    together = stored.into(ModelSpec.from_dict(stored.model).build(seed=3)).eval()
    x, y = load("digits", "test").tensors()
    mean = torch.zeros(len(x), 10)
    for epoch in (1, 2, 3):
        one = checkpoints.load(tmp_path / "epochs" / f"{epoch:04d}.pt")
        member = one.into(config.model.build(seed=4)).eval()
        mean += member(x).softmax(1).detach() / 3
    torch.testing.assert_close(together(x).exp(), mean)
    accuracy = (mean.argmax(1) == y).double().mean()
    assert stored.metrics["test_accuracy"] == pytest.approx(float(accuracy))
    assert 0 <= stored.metrics["test_robust_accuracy"] <= stored.metrics["test_accuracy"]
    # Diagnostics and attacks take it as they take a network.
    objective = Objective(together, (x[:40], y[:40]), attack=attack("pgd-2", eps=EPS))
    assert spectrum(objective, top=1).converged.all()
    train(config, tmp_path, overwrite=True, keep_every=1)
    assert checkpoints.load(tmp_path / "ensemble.pt").digest == stored.digest


def test_an_ensemble_of_one_is_its_network() -> None:
    for normalize in (None, (0.5, 0.25)):
        spec = ModelSpec("lenet-2", (1, 8, 8), 10, normalize)
        model = spec.build(seed=0).eval()
        whole, weights = snapshots.ensemble(spec, [model.state_dict()])
        assert whole == ModelSpec.from_dict(whole.to_dict())
        one = whole.build(seed=1).eval()
        one.load_state_dict(weights)
        x = torch.rand(4, 1, 8, 8)
        torch.testing.assert_close(one(x), model(x).log_softmax(1))
    with pytest.raises(UsageError, match="members=0"):
        ModelSpec("ensemble:lenet-2", (1, 8, 8), 10).build()


# -- stages ---------------------------------------------------------------------------------------


def test_20_updates_of_cat18() -> None:
    def perturb(m: nn.Module, x: Tensor, y: Tensor, s: Streams, *_: Any) -> Tensor:
        sizes = [6, 6, 5, 5]  # 22 samples in 4 slices
        found, u = [], s.child("attack")
        for j, (a, label) in enumerate(zip(x.split(sizes), y.split(sizes), strict=True)):
            adv = a
            if j:
                alpha = 2 * EPS / j * (1 + float(u.uniform("step", (1,))) * (10 / j - 1))
                stream = u.child("steps", j).child("restart", 0)
                adv = (a + Ball("linf", EPS).sample(a, stream)).clamp(0, 1)
            for _ in range(j):
                adv = step(m, a, adv, label, alpha, EPS)
            found.append(adv)
        return torch.cat(found)

    m = method("cat18", eps=EPS, steps=3)
    fast, slow = mlp().double(), mlp().double()
    state = State(weights=mlp().double().state_dict(), memory={STAGE: torch.tensor([3.0, 9, 0])})
    assert state.epoch == 0
    fit(fast, samples(), plan(m, **WHOLE), state=state, validation=samples())
    slow_updates(slow, perturb)
    same(fast, slow, rtol=1e-6, atol=1e-8)


def test_stage_0_of_cat18_is_standard_training() -> None:
    m = method("cat18", eps=EPS, steps=0)
    held_out = data(9, seed=1)
    same(trained(plan(m), batchnorm, validation=held_out), trained(plan(), batchnorm))


def test_a_stage_ends_with_its_best_weights() -> None:
    """Accuracies as given; weights are told apart by a bias."""
    controller = method("cat18", eps=EPS, steps=2, patience=2).controller
    assert controller is not None
    model, memory, judged = mlp(), {}, []

    def epoch(mark: float, accuracy: float, learned: float = 0.95) -> tuple[float, float]:
        def validate(found: Any) -> float:
            judged.append(found.steps)
            return accuracy

        with torch.no_grad():
            model[1].bias.fill_(mark)
        controller.after_epoch(model, memory, {"train_accuracy": learned}, validate)
        return float(memory[STAGE][0]), float(model[1].bias[0].detach())

    assert epoch(1.0, 0.5) == (0, 1)
    assert epoch(2.0, 0.6) == (0, 2)
    assert epoch(3.0, 0.6) == (0, 3)
    assert epoch(4.0, 0.55, learned=0.9) == (0, 4)  # has not learned enough yet
    assert epoch(5.0, 0.4) == (1, 2)
    assert epoch(6.0, 0.1) == (1, 6)
    assert epoch(7.0, 0.1) == (1, 7)
    assert epoch(8.0, 0.1) == (2, 6)
    for mark in (9.0, 10.0, 11.0, 12.0):  # the last one goes on
        assert epoch(mark, 0.1) == (2, mark)
    assert judged == [0] * 5 + [1] * 3 + [2] * 4


def test_checkpoints_hold_the_weights_that_were_validated_before_a_stage_ends() -> None:
    m = method("cat18", eps=EPS, steps=1, patience=1, stage_accuracy=0.0)
    saved: list[State] = []
    fit(mlp(), data(), plan(m, epochs=6), validation=data(9, seed=1), save=saved.append)
    back = [s for s in saved if not torch.equal(s.weights["1.weight"], s.checkpoint["1.weight"])]
    assert len(back) == 1


def test_the_quantiser_has_its_levels() -> None:
    x = torch.linspace(0, 1, 1000, dtype=torch.float64)
    slow = sum((x >= i / 16).double() for i in range(1, 16)) / 15
    torch.testing.assert_close(quantise(x), slow)
    assert len(quantise(x).unique()) == 16
    assert torch.equal(quantise(quantise(x)), quantise(x))
    controller = method("cat18", eps=EPS, steps=2).controller
    found = controller.validation(2).perturb(mlp(), *data(), streams=Streams(0))  # type: ignore
    assert torch.equal(quantise(found), found)


def test_cat18_needs_validation_data() -> None:
    with pytest.raises(UsageError, match="decides by validation accuracy: give validation data"):
        fit(mlp(), data(), plan(method("cat18", eps=EPS)))


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mart", {"beta": -1}, "beta must be a finite number of at least 0, got -1"),
        ("fgsm-n", {"noise": -1}, "noise must be a finite number of at least 0"),
        ("fgsm", {"steps": 3}, "takes no option 'steps'"),
        ("p-sat", {"difficulty": "steps"}, "unknown schedule of the difficulty 'steps'.*step"),
        ("p-sat", {"difficulty_from": 2.0}, r"must start in \[-1, 1\], got 2"),
        ("p-sat", {"difficulty": "linear", "difficulty_at": (3,)}, "two milestones.*got 1"),
        ("p-sat", {"difficulty_at": (3, 2)}, r"milestones must increase, got \[3, 2\]"),
        ("p-sat", {"difficulty": "constant", "difficulty_at": (3,)}, "takes no milestones"),
        ("h-sat", {"difficulty_from": -0.5}, r"must start in \[0, 1\], got -0.5"),
        ("h-sat", {"group": 0}, "at least 1 sample, got 0"),
        ("h-sat", {"bound": "both"}, "unknown bound of the Hessian score 'both'"),
        ("dat", {"fosc": -1.0}, "FOSC must be at least 0, got -1"),
        ("dat", {"fosc_until": 0}, "a number of epochs above 0, got 0"),
        ("iaat", {"gamma": -0.1}, "gamma must be a finite number of at least 0"),
        ("iaat", {"radii_rate": 0}, r"must lie in \(0, 1\], got 0"),
        ("free", {"replays": 0}, "replays must be a whole number of at least 1, got 0"),
        ("cat20", {"eta": float("nan")}, "eta must be a finite number of at least 0, got nan"),
        ("cat20", {"kappa": -1.0}, "kappa must be a finite number of at least 0"),
        ("cat18", {"patience": 0}, "patience must be at least 1 epoch, got 0"),
        ("cat18", {"stage_accuracy": 2.0}, r"must lie in \[0, 1\], got 2"),
        ("pgd+pas", {"pas": {"schedule": "cos"}}, "unknown schedule of the budget 'cos'.*cosine"),
        ("pgd+pas", {"pas": {"minimum": 2}}, "0 <= minimum <= maximum, got 2 and 1"),
        ("pgd+pas", {"pas": {"spare": 1.5}}, "spare must be a whole number of steps, got 1.5"),
        ("pgd+pas", {"pas": {"spare": -1}}, "spare must be at least 0 steps, got -1"),
        ("trades+pas", {"pas": {"start_in_step": True}}, "is of uniform starts, this attack's is"),
        ("iaat+pas", {}, "no single eps that a schedule could change"),
        ("free+pas", {}, "no single eps that a schedule could change"),
    ],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        method(name, eps=EPS, **options)


def test_settings_outside_the_run_are_refused() -> None:
    with pytest.raises(
        UsageError, match="milestone 40 of the difficulty lies outside the run of 2"
    ):
        plan(method("p-sat", eps=EPS, difficulty_at=(1, 40)))
    with pytest.raises(UsageError, match=r"periods must .* within the run of 2 epochs, got \[1, 2"):
        plan(method("pgd+pas", eps=EPS, pas={"periods": (1, 2)}))
    with pytest.raises(UsageError, match="'standard' has no attack whose eps pas could schedule"):
        method("standard+pas")
    with pytest.raises(UsageError, match="a warm-up of 10 epochs leaves none of the run's 2"):
        plan(method("iaat", eps=EPS))


def test_losses_without_a_perturbation_cost_one_pass() -> None:
    for loss in (Mart(6.0), SoftTargets()):
        assert loss.passes(perturbed=False) == Passes(1, 1)
