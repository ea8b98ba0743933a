"""Outer losses that weigh samples and move their targets by what the network says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.attacks import attack
from landscape.attacks.objectives import kl_to_clean
from landscape.errors import UsageError
from landscape.losses import cross_entropy
from landscape.training.batch import Batch
from landscape.training.consistency import check_weight
from landscape.training.outer_losses import Around, PerSample
from landscape.training.perturbations import Attacked, Passes, from_noise
from landscape.training.schedules import check_within


def moving_target(batch: Batch, key: str, outputs: Tensor, momentum: float) -> Tensor:
    """t_i ← ρ t_i + (1 − ρ) softmax(outputs_i), (B, C), kept in ``batch.memory`` as ``key``.

    t starts as the one-hot label, and moves once per update, however often the loss is computed.
    """
    if key not in batch.shared:
        p = outputs.detach().softmax(1)
        bank = batch.memory.setdefault(key, p.new_zeros(batch.population, p.shape[1]))
        rows = batch.rows.to(bank.device)
        views = repeats(batch.rows)
        parts = zip(rows.chunk(views), batch.y.chunk(views), p.chunk(views), strict=True)
        for some, y, q in parts:
            old = bank[some]
            # Never seen: all zeros, which no target is.
            old = torch.where(old.any(1, keepdim=True), old, F.one_hot(y, p.shape[1]).to(old))
            bank[some] = momentum * old + (1 - momentum) * q.to(bank)
        batch.shared[key] = bank[rows].to(p)
    return batch.shared[key]


def repeats(rows: Tensor) -> int:
    """How many views of the same samples, one after the other, a batch of ``rows`` holds."""
    count = int((rows == rows[0]).sum())
    if len(rows) % count:
        return 1
    same = rows.reshape(count, -1)
    return count if bool((same == same[0]).all()) else 1


@dataclass(frozen=True)
class SelfAdaptive:
    """(1/B) Σ_i w_i CE(f(x_i), t_i) + β KL(p(x_i) ‖ p(x'_i)): self-adaptive training as TRADES.

    Huang et al. 2020; liu2022 App. D.5. After a start of plain TRADES t_i ← ρ t_i + (1 − ρ) p(x_i),
    first the one-hot label, at every visit of the sample, and w_i = max_j t_ij, normalised to a
    mean of 1 over the batch. As in the authors' code KL is not weighted.

    Attributes:
        beta: β. momentum: ρ. start: epochs of TRADES, ``None`` for 7 of 10 as the authors' 70 of
            100; liu2022 has 90 of 200.
    """

    beta: float = 6.0
    momentum: float = 0.9
    start: float | None = None

    uses_clean = True

    def __post_init__(self) -> None:
        check_weight("beta", self.beta)
        check_momentum("momentum", self.momentum)
        if self.start is not None:
            check_weight("start", self.start)

    def check(self, epochs: int) -> None:
        """Refuse a start that a run of ``epochs`` never comes to."""
        if self.start is not None:
            check_within("start", self.start, epochs)

    def __call__(self, batch: Batch) -> Tensor:
        robust = kl_to_clean(batch.adversarial_logits, batch.y, batch.clean_logits)
        if batch.time < (0.7 * batch.epochs if self.start is None else self.start):
            natural = cross_entropy(batch.clean_logits, batch.y)
        else:
            target = moving_target(batch, "self-adaptive", batch.clean_logits, self.momentum)
            weights = target.amax(1)
            natural = weights / weights.mean() * cross_entropy(batch.clean_logits, target)
        return (natural + self.beta * robust).mean()

    def passes(self, *, perturbed: bool) -> Passes:
        return Passes(2, 2) if perturbed else Passes(1, 1)

    def describe(self) -> dict[str, Any]:
        return {
            "part": "self-adaptive",
            "beta": self.beta,
            "momentum": self.momentum,
            "start": self.start,
        }


@dataclass(frozen=True)
class AdaptiveTargets(Around):
    """The inner loss of t = β y + (1 − β) t̃ in place of the label y (liu2022 Algorithm 1).

    t̃ ← ρ t̃ + (1 − ρ) p(x'), at every visit of the sample before t is used, first the one-hot
    label. During the warm-up t = y and t̃ stays.

    Attributes:
        inner: the loss. fixed: β. momentum: ρ. warmup: epochs of it.
    """

    inner: PerSample
    fixed: float = 0.1
    momentum: float = 0.9
    warmup: float = 5

    def __post_init__(self) -> None:
        check_momentum("fixed", self.fixed)
        check_momentum("momentum", self.momentum)
        check_weight("warmup", self.warmup)

    def check(self, epochs: int) -> None:
        """Refuse a warm-up that lasts for a run of ``epochs``."""
        check_within("adaptive-targets.warmup", self.warmup, epochs)
        check_inner(self.inner, epochs)

    def each(self, batch: Batch, target: Tensor) -> Tensor:
        """``target``: of classes, is what t is made of."""
        if batch.time < self.warmup:
            return self.inner.each(batch, target)
        moving = moving_target(batch, "adaptive-targets", batch.adversarial_logits, self.momentum)
        y = F.one_hot(target, moving.shape[1]).to(moving)
        return self.inner.each(batch, self.fixed * y + (1 - self.fixed) * moving)

    def describe(self) -> dict[str, Any]:
        return {
            "part": "adaptive-targets",
            "fixed": self.fixed,
            "momentum": self.momentum,
            "warmup": self.warmup,
            "inner": self.inner.describe(),
        }


@dataclass(frozen=True)
class Reweighted(Around):
    """Σ_i w_i ℓ_i / Σ_i w_i, w_i = p_{y_i}(x'_i), ℓ the inner loss (liu2022 §6.1).

    Hard samples, whose true class has a small probability under attack, count less. The weights
    are not differentiated. A class that the network doesn't know yet has hardly any weight, and
    may never be learned: hence the warm-up.

    Attributes:
        inner: the loss. warmup: epochs without weights; 5 as in liu2022 Figure 17.
    """

    inner: PerSample
    warmup: float = 5

    def __post_init__(self) -> None:
        check_weight("warmup", self.warmup)

    def check(self, epochs: int) -> None:
        """Refuse a warm-up that lasts for a run of ``epochs``."""
        check_within("reweight.warmup", self.warmup, epochs)
        check_inner(self.inner, epochs)

    def each(self, batch: Batch, target: Tensor) -> Tensor:
        """B w_i ℓ_i / Σ w."""
        losses = self.inner.each(batch, target)
        if batch.time < self.warmup:
            return losses
        log_p = -cross_entropy(batch.adversarial_logits.detach(), batch.y)
        return len(losses) * log_p.softmax(0) * losses  # p / Σ p, without underflow

    def describe(self) -> dict[str, Any]:
        return {"part": "reweight", "warmup": self.warmup, "inner": self.inner.describe()}


@dataclass(frozen=True)
class RobustKL:
    """(1/B) Σ_i CE(f(x'_i), y_i) + λ KL(p(x_i) ‖ p(x'_i)): fine-tuning in liu2022 §6.2.

    Unlike TRADES the cross-entropy is that of the adversarial inputs. Gradients flow through both
    arguments of KL.

    Attributes:
        weight: λ.
    """

    weight: float = 6.0

    uses_clean = True

    def __post_init__(self) -> None:
        check_weight("weight", self.weight)

    def __call__(self, batch: Batch) -> Tensor:
        return self.each(batch, batch.y).mean()

    def each(self, batch: Batch, target: Tensor) -> Tensor:
        robust = kl_to_clean(batch.adversarial_logits, batch.y, batch.clean_logits)
        return cross_entropy(batch.adversarial_logits, target) + self.weight * robust

    def passes(self, *, perturbed: bool) -> Passes:
        return Passes(2, 2) if perturbed else Passes(1, 1)

    def describe(self) -> dict[str, Any]:
        return {"part": "robust-kl", "weight": self.weight}


def self_adaptive(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    alpha: float | None = None,
    beta: float = 6.0,
    momentum: float = 0.9,
    start: float | None = None,
    noise: float = 0.001,
    attack_mode: str = "eval",
) -> tuple[Attacked, SelfAdaptive]:
    """TRADES with moving targets of the clean loss from epoch ``start`` on (``SelfAdaptive``)."""
    found = from_noise(
        eps=eps,
        norm=norm,
        steps=steps,
        alpha=alpha,
        noise=noise,
        attack_mode=attack_mode,
        objective="kl",
    )
    return found, SelfAdaptive(beta, momentum, start)


def fine_tune(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    alpha: float | None = None,
    beta: float = 6.0,
    reweight: bool = True,
    attack_mode: str = "train",
) -> tuple[Attacked, PerSample]:
    """PGD examples, cross-entropy + ``beta`` KL (``RobustKL``), samples weighted (``Reweighted``).

    For a trained network, with half of each batch from additional data: joining the two sets is
    up to the data that is trained on. liu2022: lr 1e-3 throughout, 1 or 5 epochs.
    """
    found = attack("pgd", eps=eps, norm=norm, steps=steps, step_size=alpha, mode=attack_mode)
    loss = RobustKL(beta)
    return Attacked(found), Reweighted(loss, warmup=0) if reweight else loss


def check_momentum(name: str, value: float) -> None:
    """Refuse what lies outside [0, 1]."""
    if not 0 <= value <= 1:
        raise UsageError(f"{name} must lie in [0, 1], got {value}.")


def check_inner(loss: PerSample, epochs: int) -> None:
    """Have a wrapped loss refuse what doesn't fit into a run of ``epochs``."""
    check = getattr(loss, "check", None)
    if check is not None:
        check(epochs)
