"""The networks of liu2022: trainings on all the data, and on parts of it by difficulty.

As in appendix C.1 the learning rate falls to a tenth at one half and three quarters of every
training, and attacks have ten steps of a quarter of the radius; at digits scale, where it saves
half of the time, five steps of half of it, in training and validation. Difficulties are those of
the run that a figure names, from the losses that its own training met (``Tracking(samples=True)``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from landscape.attacks import attack
from landscape.papers.scale import Scale
from landscape.running.work import From, Run
from landscape.tracking import Tracking

RN18 = {"digits": "digits", "mnist": "mnist", "paper": "liu2022/cifar10-rn18"}
WRN34 = {**RN18, "paper": "liu2022/cifar10-wrn"}
SVHN = {**RN18, "paper": "liu2022/svhn-rn18"}
FAST = {**RN18, "paper": "liu2022/cifar10-fast"}

KINDS = ("easiest", "random", "hardest")
# Whole trainings: 200 epochs in the paper, 100 where it says so ("RN18-100").
EPOCHS = {"digits": 30, "mnist": 40, "paper": 200}
SHORT = {"digits": 15, "mnist": 20, "paper": 100}
# Radii of the paper's §4.1 in order; the last is that of Fig. 1.
LINF = {
    "digits": (0.033, 0.067, 0.1),
    "mnist": (0.1, 0.2, 0.3),
    "paper": (2 / 255, 4 / 255, 6 / 255),
}
L2 = {"digits": (0.4, 0.8), "mnist": (1.0, 1.5, 2.0), "paper": (0.5, 0.75, 1.0)}


def at(scale: Scale, values: Mapping[str, Any], smoke: Any = None) -> Any:
    """The entry of this scale; ``smoke`` at smoke scale, if given, else the digits one."""
    if scale.smoke:
        return values["digits"] if smoke is None else smoke
    return values[scale.name]


def full(
    scale: Scale,
    method: str = "pgd",
    seed: int = 0,
    *,
    epochs: Mapping[str, int] = EPOCHS,
    recipe: Mapping[str, str] = RN18,
    memory: str = "",
    keep: int | None = 5,
    **options: Any,
) -> Run:
    """A training on all the data, which records the loss of every sample.

    ``memory``: what of the method's memory is recorded too. ``keep``: epochs
    between the networks that are kept.
    """
    every = scale.pick(digits=1, paper=5) if memory else 1
    return scale.run(
        method,
        recipe=recipe,
        seed=seed,
        keep_every=keep and scale.pick(digits=keep, paper=keep, smoke=1),
        track=Tracking(windows=(), noise=0, samples=True, memory=memory, measure_every=every),
        **common(scale, method, at(scale, epochs), recipe, options),
    )


def subset(
    scale: Scale,
    kind: str,
    seed: int = 0,
    *,
    ranked: Run | None = None,
    method: str = "pgd",
    size: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    recipe: Mapping[str, str] = RN18,
    **options: Any,
) -> Run:
    """A training on the easiest, hardest or random samples, equally many of every class.

    ``ranked``: whose difficulty; by default the training on all the data of this method and seed.
    ``size``: 10,000 of CIFAR-10's unless given.
    """
    size = size or scale.pick(digits=300, mnist=10_000, paper=10_000, smoke=20)
    if scale.smoke:
        size = 20
    ranked = ranked or full(scale, method, seed, recipe=recipe)
    text = f"random:{size}@{seed}" if kind == "random" else None
    chosen = text or From(ranked, f"{kind}:{size}@{{folder}}")
    epochs = epochs or scale.pick(digits=60, mnist=60, paper=200)
    batch = batch_size or scale.pick(digits=32, mnist=128, paper=128)
    return scale.run(
        method,
        recipe=recipe,
        seed=seed,
        keep_every=scale.pick(digits=10, paper=10, smoke=1),
        subset=chosen,
        batch_size=batch,
        **common(scale, method, epochs, recipe, options),
    )


def sixths(scale: Scale, epochs: int) -> dict[str, Any]:
    """A tenth of the learning rate at every sixth of the training, as of the paper's 600 epochs."""
    if scale.smoke:
        return {}
    return {"milestones": tuple(epochs * k // 6 for k in range(1, 6))}


def common(
    scale: Scale, method: str, epochs: int, recipe: Mapping[str, str], given: dict[str, Any]
) -> dict[str, Any]:
    """Schedule, attack and architecture, where ``given`` doesn't say otherwise."""
    found: dict[str, Any] = {"epochs": epochs}
    if not scale.smoke and given.get("schedule") is None:
        found["milestones"] = (epochs // 2, epochs * 3 // 4)
    base = method.partition("+")[0]
    if scale.name != "paper" and base in ("pgd", "iaat", "self-adaptive", "fine-tune"):
        found["steps"] = scale.pick(digits=5, mnist=10, paper=10, smoke=2)
    if scale.name == "paper" and recipe in (RN18, SVHN):
        # "Same as the one in (Wong et al., 2020)": theirs is the pre-activation ResNet-18.
        found["model"] = "preact-resnet18"
    # Held-out error: for FGSM under the attack that is trained against (Fig. 1b).
    judge = "fgsm" if base == "fgsm" else scale.pick(digits="pgd-5", mnist="", paper="")
    if base != "standard" and judge:
        radius = scale.pick(digits=0.1, mnist=0.3, paper=8 / 255)
        ball = {"eps": given.get("eps", radius), "norm": given.get("norm", "linf")}
        found["validation_attack"] = attack(judge, **ball)
    return {**found, **given}
