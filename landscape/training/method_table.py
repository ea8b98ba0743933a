"""The training methods as a table of parts: a new method is a row, and at most one part.

``METHODS`` has the perturbations with their outer losses, ``ADDITIONS`` what goes with any of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from landscape.attacks import attack
from landscape.training.averaging import Averaging
from landscape.training.budget import Budget
from landscape.training.cached import atta
from landscape.training.consistency import Consistency, LessClean, LogitAlign, LogitConsistency
from landscape.training.curricula import dat, p_sat
from landscape.training.customised import cat20
from landscape.training.distillation import Distilled
from landscape.training.entropy import EntropySGD
from landscape.training.hessian_scores import h_sat
from landscape.training.input_gradients import (
    CurvaturePenalty,
    GradientAlignment,
    GradientPenalty,
)
from landscape.training.instance_adaptive import iaat
from landscape.training.linearity import LinearityPenalty
from landscape.training.mart import mart
from landscape.training.outer_losses import CrossEntropy, OuterLoss, Trades
from landscape.training.perturbations import Attacked, Perturbation, from_noise
from landscape.training.replayed import free
from landscape.training.single_step import fgsm, fgsm_n, fgsm_r, n_fgsm
from landscape.training.step_curriculum import cat18
from landscape.training.targets import AdaptiveTargets, Reweighted, fine_tune, self_adaptive
from landscape.training.weights import AdversarialWeights

# Perturbation and outer loss, and what else of a Method a row brings along.
Parts = (
    tuple[Perturbation | None, OuterLoss] | tuple[Perturbation | None, OuterLoss, dict[str, Any]]
)


class _Entry:
    """What a row says of itself by the keyword arguments of its function."""

    make: Callable[..., Any]

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options, in order."""
        return tuple(self.defaults)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the options without a default."""
        return tuple(name for name, value in self.defaults.items() if value is ...)

    @property
    def annotations(self) -> dict[str, str]:
        """Options and the types they are declared with."""
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: str(p.annotation) for p in parameters}

    @property
    def defaults(self) -> dict[str, Any]:
        """Options and their defaults, ``...`` for none."""
        parameters = inspect.signature(self.make).parameters.values()
        return {
            p.name: ... if p.default is p.empty else p.default
            for p in parameters
            if p.name != "inner"  # the loss that a part wraps
        }


@dataclass(frozen=True)
class MethodEntry(_Entry):
    """One row: ``make(**options)``, whose keyword arguments are the method's options.

    ``cost``: forward + backward passes over a batch per update, for K attack steps; ``Method``
    computes it from the parts. ``robust``: whether the best epoch is that of highest robust
    validation accuracy.
    """

    make: Callable[..., Parts]
    description: str
    reference: str
    cost: str
    robust: bool = True


@dataclass(frozen=True)
class AdditionEntry(_Entry):
    """One row: a part that goes with any method, ``make(**options)``, for ``field`` of it.

    For ``outer_loss`` it is made around the method's own, ``make(inner=loss, **options)``.
    """

    make: Callable[..., Any]
    field: str
    description: str
    reference: str
    cost: str


def _standard() -> Parts:
    return None, CrossEntropy()


def _pgd(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    alpha: float | None = None,
    restarts: int = 1,
    attack_mode: str = "train",
) -> Parts:
    found = attack(
        "pgd", eps=eps, norm=norm, steps=steps, step_size=alpha, restarts=restarts, mode=attack_mode
    )
    return Attacked(found), CrossEntropy()


def _trades(
    *,
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    alpha: float | None = None,
    beta: float = 6.0,
    noise: float = 0.001,
    attack_mode: str = "eval",
) -> Parts:
    found = from_noise(
        eps=eps,
        norm=norm,
        steps=steps,
        alpha=alpha,
        noise=noise,
        attack_mode=attack_mode,
        objective="kl",
    )
    return found, Trades(beta)


METHODS: dict[str, MethodEntry] = {
    "standard": MethodEntry(_standard, "cross-entropy on clean inputs", "", "1 + 1", robust=False),
    "fgsm": MethodEntry(
        fgsm,
        "cross-entropy on FGSM examples",
        "Goodfellow et al. 2015",
        "2 + 2",
    ),
    "fgsm-r": MethodEntry(
        fgsm_r,
        "the same from a uniform start, with steps of 1.25 eps",
        "Wong et al. 2020",
        "2 + 2",
    ),
    "n-fgsm": MethodEntry(
        n_fgsm,
        "the same from noise of k eps, not projected: reaches (k + 1) eps",
        "de Jorge et al. 2022",
        "2 + 2",
    ),
    "fgsm-n": MethodEntry(
        fgsm_n,
        "FGSM around a noisy input",
        "Zhang et al. 2022; li2023",
        "2 + 2",
    ),
    "free": MethodEntry(
        free,
        "every batch m times, each backward pass used for weights and inputs",
        "Shafahi et al. 2019",
        "1 + 1",
    ),
    "pgd": MethodEntry(
        _pgd,
        "cross-entropy on PGD examples from a uniform start",
        "Madry et al. 2018; attack in train mode as Rice et al. 2020",
        "K+1 + K+1",
    ),
    "trades": MethodEntry(
        _trades,
        "clean cross-entropy + beta KL between clean and adversarial predictions",
        "Zhang et al. 2019",
        "K+3 + K+2",
    ),
    "mart": MethodEntry(
        mart,
        "boosted cross-entropy + beta KL that weighs misclassified samples more",
        "Wang et al. 2020",
        "K+2 + K+2",
    ),
    "dat": MethodEntry(
        dat,
        "PGD whose steps end for samples that have converged enough",
        "Wang et al. 2019",
        "at most K+1 + K+1",
    ),
    "iaat": MethodEntry(
        iaat,
        "PGD with a radius per sample that follows what the network withstands",
        "Balaji et al. 2019",
        "3K+3 + 3K+1",
    ),
    "cat18": MethodEntry(
        cat18,
        "PGD of 0 to k steps on slices of the batch, k growing in stages",
        "Cai et al. 2018",
        "at most K/2+1 + K/2+1",
    ),
    "cat20": MethodEntry(
        cat20,
        "PGD with a radius per sample that grows, and labels that soften with it",
        "Cheng et al. 2020",
        "K+2 + K+1",
    ),
    "p-sat": MethodEntry(
        p_sat,
        "PGD whose steps end for samples that have become too difficult",
        "sitawarin2021, Algorithm 1",
        "at most K+1 + K+1",
    ),
    "h-sat": MethodEntry(
        h_sat,
        "PGD whose steps move the samples of smallest curvature in the weights",
        "sitawarin2021 §5, App. B.3",
        "at most 3K+1 + K+1, at the end K+1 + K+1",
    ),
    "atta": MethodEntry(
        atta,
        "K steps from where the sample's last attack ended",
        "Zheng et al. 2020",
        "K+1 + K+1",
    ),
    "self-adaptive": MethodEntry(
        self_adaptive,
        "TRADES whose labels move towards the predictions, confident samples weighing more",
        "Huang et al. 2020; liu2022 App. D.5",
        "K+3 + K+2",
    ),
    "fine-tune": MethodEntry(
        fine_tune,
        "reweighted cross-entropy + beta KL on PGD examples, for a trained network",
        "liu2022 §6.2",
        "K+2 + K+2",
    ),
}

ADDITIONS: dict[str, AdditionEntry] = {
    "pas": AdditionEntry(
        Budget,
        "budget",
        "eps rises along the training, perhaps in periods, each of which ends with a snapshot",
        "liu2020 §5",
        "+ 0",
    ),
    "awp": AdditionEntry(
        AdversarialWeights,
        "weights",
        "the gradient is taken at weights one step up the loss",
        "Wu et al. 2020",
        "the outer loss twice",
    ),
    "entropysgd": AdditionEntry(
        EntropySGD,
        "descent",
        "descends the local entropy by a Langevin walk of several updates",
        "Chaudhari et al. 2017; kanai2021",
        "+ 0",
    ),
    "entropysgd2": AdditionEntry(
        partial(EntropySGD, second_order=True),
        "descent",
        "the same, divided by the diagonal of the local entropy's Hessian",
        "kanai2021 App. C, Algorithm 1",
        "+ 0",
    ),
    "swa": AdditionEntry(
        Averaging,
        "averaging",
        "keeps the mean of the weights over epochs",
        "Izmailov et al. 2018",
        "+ 0",
    ),
    "advlc": AdditionEntry(
        LogitConsistency,
        "regularisers",
        "penalises the largest differences between clean and adversarial logits",
        "li2023 eq. 12-16, Table 3",
        "+ 1 + 1",
    ),
    "igr": AdditionEntry(
        GradientPenalty,
        "regularisers",
        "penalises the norm of the loss's input gradient",
        "Ross & Doshi-Velez 2018; li2023 eq. 10",
        "+ 1 + 2",
    ),
    "less-clean": AdditionEntry(
        LessClean,
        "regularisers",
        "takes off a part of the clean loss: an experiment",
        "li2023 eq. 9",
        "+ 1 + 1",
    ),
    "gradalign": AdditionEntry(
        GradientAlignment,
        "regularisers",
        "aligns the input gradients at x and at a random neighbour",
        "Andriushchenko & Flammarion 2020",
        "+ 2 + 3",
    ),
    "cure": AdditionEntry(
        CurvaturePenalty,
        "regularisers",
        "penalises the change of the input gradient along its sign",
        "Moosavi-Dezfooli et al. 2019",
        "+ 2 + 4",
    ),
    "llr": AdditionEntry(
        LinearityPenalty,
        "regularisers",
        "penalises the loss's largest departure from its tangent, found in K steps",
        "Qin et al. 2019",
        "+ K+3 + K+4",
    ),
    "logitalign": AdditionEntry(
        LogitAlign,
        "regularisers",
        "aligns predictions on the adversarial examples of x and of a noisy neighbour",
        "Zhang et al. 2022; li2023 Table 1",
        "+ 1 + 1, the perturbation twice",
    ),
    "consistency": AdditionEntry(
        Consistency,
        "regularisers",
        "aligns predictions on the adversarial examples of two augmentations",
        "Tack et al. 2022",
        "everything on two views",
    ),
    "kdsa": AdditionEntry(
        Distilled,
        "outer_loss",
        "distils from a standard and an adversarial teacher",
        "Chen et al. 2021; li2023 Table 1",
        "+ 0, and 2 forward passes of teachers",
    ),
    "reweight": AdditionEntry(
        Reweighted,
        "outer_loss",
        "weighs samples by their true class's probability under attack",
        "liu2022 §6.1",
        "+ 0",
    ),
    "adaptive-targets": AdditionEntry(
        AdaptiveTargets,
        "outer_loss",
        "labels move towards the predictions on adversarial examples",
        "liu2022 §6.1, Algorithm 1",
        "+ 0",
    ),
}
