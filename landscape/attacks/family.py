"""Attack: ball × objective × start × steps × restarts, and what is kept of all the points seen."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from landscape.attacks import apgd, pgd
from landscape.attacks.ball import Ball
from landscape.attacks.objectives import (
    OBJECTIVES,
    TARGETED,
    check_outputs,
    check_ranks,
    check_target,
    ranked,
)
from landscape.attacks.problem import Best, Forward, Problem, StepMask, Visit, Watch
from landscape.errors import DataError, UsageError, unknown
from landscape.losses import Loss, cross_entropy
from landscape.random import Streams

STARTS = ("uniform", "zero", "gaussian")
MODES = ("eval", "train", "train-frozen")
STEP_RULES = ("fixed", "auto")
KEEPS = ("objective", "success")


@dataclass(frozen=True)
class Attack:
    """Maximise an objective over a ball around every sample by projected steepest ascent.

    x₀ = clip(x + start), x_{k+1} = clip(x + Π(x_k + α·s(∇) − x)), with s the steepest direction
    of the ball's norm, Π the projection onto the ball and clip onto [0, 1] (Madry et al. 2018).
    FGSM is one step of α = ε from a zero start.

    With one start and a fixed step the last point is returned. Else the best one is: of several
    starts or targets the best last point, of the ``auto`` rule the best of all points.

    Attributes:
        ball: norm and radius ε, inputs in [0, 1].
        steps: number of gradient steps; 0 leaves the start.
        step_size: α, in the units of the ball.
        start: ``uniform`` in the ball, ``zero``, or ``gaussian`` noise of ``start_scale``.
        start_scale: what the start is multiplied by; above 1 a uniform start lies outside the ball.
        objective: what is maximised: ``loss`` (the studied loss), ``cross-entropy``, ``kl`` (to
            the clean prediction), ``margin``, ``dlr``.
        restarts: independent starts, of which the highest objective is kept per sample.
        mode: state of the model during the attack when training: ``eval``, ``train`` (batch
            statistics, running ones updated) or ``train-frozen`` (batch statistics, running ones
            kept). Diagnostics always use eval.
        project: whether each step is projected onto the ball (N-FGSM does not).
        decay: μ of MI-FGSM (Dong et al. 2018, eq. 6 and 7): steps follow the sum
            g_k = μ g_{k−1} + ∇_k / ‖∇_k‖₁ in place of the gradient; 0 for none.
        step_rule: ``fixed``, or ``auto``: α is the first step's length, halved per sample when
            progress stops, with momentum 3/4 (Auto-PGD, Croce & Hein 2020).
        targets: classes to reach, one run each (with all restarts), as ranks of likelihood at x
            among the classes other than the label: 1 the likeliest, −1 the least likely. Ranks
            that the model has no class for are left out. Empty: untargeted. Any prediction other
            than the label is a success.
        keep: ``objective``: the highest objective, whose loss a landscape shows. ``success``: any
            misclassified point before any correct one, of all points of all runs and x itself,
            and the highest objective among those alike: what robust accuracy asks for.
        early_stop: leave a sample alone, at no further cost, once it is misclassified. Needs
            ``keep="success"``, and leaves its successes as they are but not its objectives.
        bounded: whether inputs lie in [0, 1] and points stay there; false for embeddings and
            other inputs without a box.
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
    decay: float = 0.0
    step_rule: str = "fixed"
    targets: tuple[int, ...] = ()
    keep: str = "objective"
    early_stop: bool = False
    bounded: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        for name, number, least in (("steps", self.steps, 0), ("restarts", self.restarts, 1)):
            if not isinstance(number, Integral) or number < least:
                raise UsageError(
                    f"{name} must be a whole number of at least {least}, got {number}."
                )
        for name, value in (("alpha", self.step_size), ("decay", self.decay)):
            if not 0 <= value < float("inf"):
                raise UsageError(f"{name} must be a finite number >= 0, got {value}.")
        if self.start not in STARTS:
            raise unknown("start", self.start, STARTS)
        if self.objective != "loss" and self.objective not in OBJECTIVES:
            raise unknown("attack objective", self.objective, ["loss", *OBJECTIVES])
        if self.mode not in MODES:
            raise unknown("attack mode", self.mode, MODES)
        if self.step_rule not in STEP_RULES:
            raise unknown("step rule", self.step_rule, STEP_RULES)
        if self.keep not in KEEPS:
            raise unknown("point to keep", self.keep, KEEPS)
        if self.step_rule == "auto" and self.decay:
            raise UsageError("decay needs step_rule='fixed': the rule 'auto' has its own momentum.")
        if any(not isinstance(rank, int) or rank == 0 for rank in self.targets):
            raise UsageError(
                f"targets={self.targets}: expected ranks of likelihood such as (1, 2, 3), or (-1,) "
                "for the least likely class."
            )
        if self.targets:
            self._check_targeted()
        if self.early_stop and (self.keep != "success" or self.mode != "eval"):
            raise UsageError("early_stop needs keep='success' and mode='eval'.")

    def perturb(
        self,
        forward: Forward,
        x: Tensor,
        y: Tensor,
        *,
        streams: Streams,
        loss: Loss = cross_entropy,
        radius: Tensor | None = None,
        step_size: Tensor | None = None,
        step_mask: StepMask | None = None,
        skip_held: bool = False,
        target: Tensor | None = None,
        initial: Tensor | None = None,
    ) -> Tensor:
        """Adversarial examples x' for one batch, detached, in [0, 1].

        NaN objectives are never kept, NaN gradients give no step.

        Args:
            forward: the network; for speed its parameters should not require gradients.
            x: inputs in [0, 1], shape (B, ...). y: targets, shape (B, ...).
            streams: random starts; one stream per run, drawn in the order of the samples, so
                that the batch size does not change them.
            loss: per-sample loss that the objective ``loss`` stands for.
            radius: per-sample ε of shape (B,), in place of the ball's.
            step_size: per-sample α of shape (B,), in place of the attack's; for fixed steps.
            step_mask: called at every step as ``step_mask(k, x_k, logits, gradient)``; samples
                where it is false stay where they are.
            skip_held: a sample that the mask has held is not computed again until it moves: its
                logits and gradient are taken to be what they were, as in eval mode they are. For
                fixed steps.
            target: the class to reach, shape (B,), in place of ``targets``; predicting it is the
                success.
            initial: δ to start from, of the shape of ``x``, in place of the attack's start.
        """
        x = x.detach()
        if self.bounded:
            check_box(x)
        targeted = target is not None or bool(self.targets)
        if target is not None:
            self._check_targeted()
            if self.targets:
                raise UsageError("targets= of the attack and target= of the call exclude another.")
        if step_mask is not None and self.early_stop:
            raise UsageError("early_stop leaves samples out, so it can't have a step_mask.")
        if self.step_rule == "auto" and (step_size is not None or skip_held):
            raise UsageError("step_size= and skip_held= of the call need step_rule='fixed'.")
        forward = self._looking(forward, x, y, targeted)
        clean = None
        if targeted or self.objective == "kl" or self.keep == "success":
            with torch.no_grad():
                clean = forward(x)
        runs = self._runs(streams, y, clean, target)
        compared = self._compares or len(runs) > 1
        problem = Problem(
            forward,
            self.ball,
            self.objective,
            loss,
            x,
            y,
            radius=radius,
            clean=clean,
            project=self.project,
            bounded=self.bounded,
            compared=compared,
        )
        best = Best(x, y, self.keep == "success", target) if compared else None
        for number, (stream, to) in enumerate(runs):
            one = dataclasses.replace(problem, target=to)
            start = self._start(x, stream, radius, initial)
            if best is None:
                return self._ascend(one, start, step_mask, None, step_size, skip_held)
            watch, length = Watch(best, self.early_stop), step_size
            if self.keep == "success":
                assert clean is not None
                going = watch(x, clean, one.values(clean))
                if going is not None:
                    one, start = one.take(going), start[going]
                    length = None if length is None else length[going]
                    if not len(start):
                        # The starts of a later batch don't depend on what befell this one.
                        for later, _ in runs[number + 1 :]:
                            self._start(x, later, radius, initial)
                        break
            shown = watch if self._compares else None
            last = self._ascend(one, start, step_mask, shown, length, skip_held)
            if not self._compares:
                watch(last, *one.look(last))
        assert best is not None
        return best.points

    def start_of(self, x: Tensor, streams: Streams) -> Tensor:
        """δ that a run would start from, before it is cut to [0, 1]."""
        return self._noise(x, streams.child("restart", 0), None)

    def skip(self, x: Tensor, streams: Streams, classes: int) -> None:
        """Go past the random numbers that ``perturb`` would draw for x, of so many classes."""
        if len(x):
            names: list[tuple[str | int, ...]] = [()]
            if self.targets:
                names = [("target", rank) for rank in check_ranks(self.targets, classes)]
            for name in names:
                for restart in range(self.restarts):
                    self._noise(x, streams.child(*name, "restart", restart), None)

    @property
    def passes(self) -> tuple[int, int]:
        """Cost in forward passes of a batch and in input gradients, at most.

        One of each per step. Points are compared by another forward pass per run; the clean
        prediction is one more where it is needed.
        """
        runs = self.restarts * max(1, len(self.targets))
        compared = runs > 1 or self._compares
        clean = self.objective == "kl" or self.keep == "success" or bool(self.targets)
        return runs * (self.steps + compared) + clean, runs * self.steps

    @property
    def reach(self) -> float:
        """The largest ‖δ‖ there can be: ε, or more where steps aren't projected (N-FGSM: 3 ε)."""
        start = {"zero": 0.0, "uniform": self.start_scale * self.ball.radius}.get(
            self.start, float("inf")
        )
        if not self.project:
            return start + self.steps * self.step_size
        # Only the last point is returned, which is projected.
        if self.steps and not self._compares:
            return self.ball.radius
        return max(start, self.ball.radius)

    def describe(self) -> dict[str, Any]:
        """What provenance records: every field, with the ball's two beside them.

        Settings that plain PGD doesn't have are left out where they are off, so that a
        configuration has one digest, whichever version of this table wrote it.
        """
        fields = dataclasses.asdict(self)
        ball = fields.pop("ball")
        for field in dataclasses.fields(self):
            if field.name in _RECENT and fields[field.name] == field.default:
                del fields[field.name]
        if self.targets:
            fields["targets"] = list(self.targets)
        return {"norm": ball["norm"], "eps": ball["radius"], **fields}

    # -- inside -------------------------------------------------------------------------------

    @property
    def _compares(self) -> bool:
        """Whether even a single run compares points with another."""
        return self.step_rule == "auto" or self.keep == "success"

    def _check_targeted(self) -> None:
        if self.objective != "loss" and self.objective not in TARGETED:
            raise UsageError(
                f"objective '{self.objective}' has no target: use {', '.join(TARGETED)} or loss."
            )

    def _looking(self, forward: Forward, x: Tensor, y: Tensor, targeted: bool) -> Forward:
        """``forward`` with its first outputs looked at."""
        looked = False

        def looking(points: Tensor) -> Tensor:
            nonlocal looked
            logits = forward(points)
            if not looked:
                check_outputs(logits, x, y, self.objective, targeted, self.keep == "success")
                looked = True
            return logits

        return looking

    def _runs(
        self, streams: Streams, y: Tensor, clean: Tensor | None, target: Tensor | None
    ) -> list[tuple[Streams, Tensor | None]]:
        """Random numbers and target classes of every run."""
        if target is not None:
            assert clean is not None
            check_target(target, y, clean.shape[1])
        classes: list[tuple[tuple[str | int, ...], Tensor | None]] = [((), target)]
        if self.targets:
            assert clean is not None
            ranks = check_ranks(self.targets, clean.shape[1])
            classes = [(("target", rank), ranked(clean, y, rank)) for rank in ranks]
        return [
            (streams.child(*name, "restart", restart), to)
            for name, to in classes
            for restart in range(self.restarts)
        ]

    def _start(
        self, x: Tensor, streams: Streams, radius: Tensor | None, initial: Tensor | None
    ) -> Tensor:
        delta = self._noise(x, streams, radius) if initial is None else initial
        return (x + delta).clamp(0, 1) if self.bounded else x + delta

    def _noise(self, x: Tensor, streams: Streams, radius: Tensor | None) -> Tensor:
        if self.start == "zero" or self.start_scale == 0:
            return torch.zeros_like(x)
        if self.start == "gaussian":
            return streams.normal("gaussian", tuple(x.shape)).to(x) * self.start_scale
        return self.ball.sample(x, streams, radius) * self.start_scale

    def _ascend(
        self,
        problem: Problem,
        start: Tensor,
        step_mask: StepMask | None,
        visit: Visit | None,
        step_size: Tensor | None,
        skip_held: bool,
    ) -> Tensor:
        """The last point of one run; with ``visit``, of the samples that it let go on."""
        if self.step_rule == "fixed":
            return pgd.ascend(
                problem,
                start,
                steps=self.steps,
                step_size=self.step_size if step_size is None else step_size.to(start),
                decay=self.decay,
                step_mask=step_mask,
                skip_held=skip_held,
                visit=visit,
            )
        assert visit is not None
        return apgd.ascend(
            problem,
            start,
            steps=self.steps,
            step_size=self.step_size,
            step_mask=step_mask,
            visit=visit,
        )


# Fields that came after plain PGD.
_RECENT = ("decay", "step_rule", "targets", "keep", "early_stop", "bounded")


def check_box(x: Tensor) -> None:
    """Attacks are defined on [0, 1]: normalisation belongs inside the model."""
    if x.numel() == 0:
        return
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"inputs lie in [{low:.3g}, {high:.3g}], but attacks need [0, 1]: move the "
            "normalisation from the data into the model (landscape.models.Normalize), or say "
            "bounded=False where inputs have no box, as embeddings."
        )
