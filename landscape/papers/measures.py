"""The measurements that several figures share. Each is a function of trained networks."""

from __future__ import annotations

from collections.abc import Sequence

from landscape.attacks import Attack
from landscape.attacks.autoattack import AutoAttack
from landscape.diagnostics import (
    Axis,
    Cosine,
    Effectiveness,
    Evaluation,
    Inputs,
    Spectrum,
    Surface,
    Trace,
    effectiveness,
    evaluate,
    inputs,
    perturbation_cosine,
    spectrum,
    surface,
    trace,
)
from landscape.diagnostics.eigenvalues import random_loss
from landscape.objective import Objective
from landscape.running.trained import Trained


def eigenvalues(
    run: Trained,
    *,
    top: int = 20,
    which: str | int = "best",
    split: str = "train",
    n: int | None = None,
    attack: str | None = None,
    normalise: int = 0,
) -> Spectrum:
    """Top eigenvalues of the (adversarial) Hessian; with ``normalise`` the mean loss of so many
    random networks of this architecture, under the same attack, is kept with them."""
    objective = run.objective(which, split=split, n=n, attack=attack)
    normaliser = None
    if normalise:
        normaliser = random_loss(
            Objective(run.fresh(seed), run.data(split, n), attack=objective.attack, refresh="each")
            for seed in range(normalise)
        )
    return spectrum(objective, top=top, normaliser=normaliser)


def hessian_trace(
    run: Trained,
    *,
    samples: int = 100,
    which: str | int = "best",
    split: str = "train",
    n: int | None = None,
    attack: str | None = None,
) -> Trace:
    """Trace of the (adversarial) Hessian by Hutchinson's estimator."""
    return trace(run.objective(which, split=split, n=n, attack=attack), samples=samples)


def accuracy(
    run: Trained,
    *,
    attacks: Sequence[str] = ("pgd-20",),
    autoattack: bool = False,
    which: str | int = "best",
    split: str = "test",
    n: int | None = None,
    eps: float | None = None,
) -> Evaluation:
    """Clean accuracy and that under attacks in the training's ball, or one of radius ``eps``."""
    changes = {} if eps is None else {"eps": eps}
    named: dict[str, Attack | AutoAttack | None] = {
        name: run.attack(name, **changes) for name in attacks
    }
    if autoattack:
        named["autoattack"] = AutoAttack(run.attack("pgd-10", **changes).ball)
    return evaluate(run.objective(which, split=split, n=n), named)


def input_space(
    run: Trained,
    *,
    top: int = 20,
    which: str | int = "best",
    split: str = "test",
    n: int | None = None,
    attack: str | None = None,
) -> Inputs:
    """Norms of input gradients (IG) and input-Hessian spectra (HS), per sample."""
    objective = run.objective(which, split=split, n=n, attack=attack)
    x, _ = next(iter(objective.batches))[:2]
    return inputs(objective, top=min(top, x[0].numel()))


def attack_effectiveness(
    run: Trained,
    *,
    attacks: Sequence[str],
    reference: str = "pgd-50",
    which: str | int = "best",
    split: str = "test",
    n: int | None = None,
    scales: Sequence[float] = (),
    flips: Sequence[float] = (),
) -> Effectiveness:
    """How much of the reference attack's rise in the loss the attacks reach (li2023 eq. 7)."""
    return effectiveness(
        run.objective(which, split=split, n=n),
        {name: run.attack(name) for name in attacks},
        run.attack(reference),
        scales=scales,
        flips=flips,
        reference_name=reference,
    )


def loss_surface(
    run: Trained,
    *,
    x: tuple[float, float, int] = (-1.0, 1.0, 21),
    y: tuple[float, float, int] | None = None,
    directions: str = "random",
    which: str | int = "best",
    split: str = "train",
    n: int | None = None,
    attack: str | None = None,
    refresh: str = "each",
    orthogonal: bool = False,
    draws: int = 0,
    seed: int = 0,
) -> Surface:
    """The loss along one or two directions; adversarial examples are found again at each point."""
    return surface(
        run.objective(which, split=split, n=n, attack=attack, refresh=refresh),
        directions,
        x=Axis(*x),
        y=None if y is None else Axis(*y),
        orthogonal=orthogonal,
        draws=draws,
        seed=seed,
    )


def cosine_along(
    run: Trained,
    *,
    a: tuple[float, float, int] = (0.0, 0.5, 6),
    draws: int = 4,
    attack: str = "pgd-10",
    which: str | int = "best",
    split: str = "train",
    n: int | None = None,
) -> Cosine:
    """Cosine of adversarial perturbations at θ ± av, v the top eigenvector or random."""
    return perturbation_cosine(
        run.objective(which, split=split, n=n, attack=attack), a=Axis(*a), draws=draws
    )
