"""One loop for the whole FGSM and PGD family."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from landscape.attacks.ball import Ball
from landscape.errors import DataError, UsageError, unknown
from landscape.losses import Loss, cross_entropy
from landscape.random import Streams

Forward = Callable[[Tensor], Tensor]
StepMask = Callable[[int, Tensor, Tensor, Tensor], Tensor]
Maximised = Callable[[Tensor, Tensor, Tensor | None], Tensor]

STARTS = ("uniform", "zero", "gaussian")
MODES = ("eval", "train", "train-frozen")


def kl_to_clean(logits: Tensor, y: Tensor, clean: Tensor | None) -> Tensor:
    """KL(softmax(clean) ‖ softmax(logits)) per sample: what TRADES maximises."""
    assert clean is not None
    return F.kl_div(
        F.log_softmax(logits, 1), F.log_softmax(clean, 1), reduction="none", log_target=True
    ).sum(1)


def margin(logits: Tensor, y: Tensor, clean: Tensor | None) -> Tensor:
    """max_{j≠y} z_j − z_y per sample (Carlini & Wagner): positive exactly when misclassified."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], float("-inf"))
    return others.amax(1) - own


# "loss" is not in the table: it means the loss whose landscape is studied.
OBJECTIVES: dict[str, Maximised] = {
    "cross-entropy": lambda logits, y, clean: cross_entropy(logits, y),
    "kl": kl_to_clean,
    "margin": margin,
}


@dataclass(frozen=True)
class Attack:
    """Maximise an objective over a ball around every sample by projected steepest ascent.

    x₀ = clip(x + start), x_{k+1} = clip(x + Π(x_k + α·s(∇) − x)), with s the steepest direction
    of the ball's norm, Π the projection onto the ball and clip onto [0, 1] (Madry et al. 2018).
    FGSM is one step of α = ε from a zero start.

    Attributes:
        ball: norm and radius ε, inputs in [0, 1].
        steps: number of gradient steps; 0 leaves the start.
        step_size: α, in the units of the ball.
        start: ``uniform`` in the ball, ``zero``, or ``gaussian`` noise of ``start_scale``.
        objective: what is maximised: ``loss`` (the studied loss), ``cross-entropy``, ``kl`` (to
            the clean prediction), ``margin``.
        restarts: independent starts, of which the highest objective is kept per sample.
        mode: state of the model during the attack when training: ``eval``, ``train`` (batch
            statistics, running ones updated) or ``train-frozen`` (batch statistics, running ones
            kept). Diagnostics always use eval.
        project: whether each step is projected onto the ball (N-FGSM does not).
    """

    ball: Ball
    steps: int
    step_size: float
    start: str = "uniform"
    start_scale: float = 1.0
    objective: str = "loss"
    restarts: int = 1
    mode: str = "eval"
    project: bool = True

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise UsageError(f"steps must be at least 0, got {self.steps}.")
        if self.restarts < 1:
            raise UsageError(f"restarts must be at least 1, got {self.restarts}.")
        if not 0 <= self.step_size < float("inf"):
            raise UsageError(f"alpha must be a finite number >= 0, got {self.step_size}.")
        if self.start not in STARTS:
            raise unknown("start", self.start, STARTS)
        if self.objective != "loss" and self.objective not in OBJECTIVES:
            raise unknown("attack objective", self.objective, ["loss", *OBJECTIVES])
        if self.mode not in MODES:
            raise unknown("attack mode", self.mode, MODES)

    def perturb(
        self,
        forward: Forward,
        x: Tensor,
        y: Tensor,
        *,
        streams: Streams,
        loss: Loss = cross_entropy,
        radius: Tensor | None = None,
        step_mask: StepMask | None = None,
    ) -> Tensor:
        """Adversarial examples x' for one batch, detached, in [0, 1].

        Args:
            forward: the network; for speed its parameters should not require gradients.
            x: inputs in [0, 1], shape (B, ...). y: targets, shape (B, ...).
            streams: random starts; one stream per restart, drawn in the order of the samples, so
                that the batch size does not change them.
            loss: per-sample loss that the objective ``loss`` stands for.
            radius: per-sample ε of shape (B,), in place of the ball's.
            step_mask: called at every step as ``step_mask(k, x_k, logits, gradient)``; samples
                where it is false stay where they are.
        """
        check_box(x)
        clean = None
        if self.objective == "kl":
            with torch.no_grad():
                clean = forward(x)

        def objective(logits: Tensor) -> Tensor:
            if self.objective == "loss":
                values = loss(logits, y)
                # A batch-mean loss: scaled so that gradients are those of each sample.
                return values if values.ndim else values.expand(len(x))
            return OBJECTIVES[self.objective](logits, y, clean)

        best, best_value = x, torch.full((len(x),), float("-inf"), device=x.device, dtype=x.dtype)
        for restart in range(self.restarts):
            stream = streams.child("restart", restart)
            found = self._ascend(forward, objective, x, stream, radius, step_mask)
            if self.restarts == 1:
                return found
            with torch.no_grad():
                logits = forward(found)
                if self.objective == "loss" and loss(logits, y).ndim == 0:
                    raise UsageError(
                        "restarts keep the worst start of every sample, which needs a loss that "
                        "returns one value per sample: use reduction='none'."
                    )
                value = objective(logits).to(best_value)
            better = value > best_value
            best = torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), found, best)
            best_value = torch.where(better, value, best_value)
        return best

    def _ascend(
        self,
        forward: Forward,
        objective: Callable[[Tensor], Tensor],
        x: Tensor,
        streams: Streams,
        radius: Tensor | None,
        step_mask: StepMask | None,
    ) -> Tensor:
        adversarial = (x + self._start(x, streams, radius)).clamp(0, 1)
        alpha = self.step_size
        for k in range(self.steps):
            adversarial.requires_grad_()
            with torch.enable_grad():
                logits = forward(adversarial)
                (gradient,) = torch.autograd.grad(objective(logits).sum(), adversarial)
            adversarial = adversarial.detach()
            # A sample whose loss overflowed stays where it is.
            step = alpha * self.ball.steepest(gradient.nan_to_num(0.0, 0.0, 0.0))
            delta = adversarial + step - x
            if self.project:
                delta = self.ball.project(delta, radius)
            moved = (x + delta).clamp(0, 1)
            if step_mask is not None:
                mask = step_mask(k, adversarial, logits.detach(), gradient)
                moved = torch.where(mask.reshape(-1, *[1] * (x.ndim - 1)), moved, adversarial)
            adversarial = moved
        return adversarial.detach()

    def _start(self, x: Tensor, streams: Streams, radius: Tensor | None) -> Tensor:
        if self.start == "zero" or self.start_scale == 0:
            return torch.zeros_like(x)
        if self.start == "gaussian":
            return streams.normal("gaussian", tuple(x.shape)).to(x) * self.start_scale
        return self.ball.sample(x, streams, radius) * self.start_scale

    def describe(self) -> dict[str, Any]:
        """What provenance records: every field, with the ball's two beside them."""
        fields = dataclasses.asdict(self)
        ball = fields.pop("ball")
        return {"norm": ball["norm"], "eps": ball["radius"], **fields}


def check_box(x: Tensor) -> None:
    """Attacks are defined on [0, 1]: normalisation belongs inside the model."""
    if x.numel() == 0:
        return
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"inputs lie in [{low:.3g}, {high:.3g}], but attacks need [0, 1]: move the "
            "normalisation from the data into the model (landscape.models.Normalize)."
        )
