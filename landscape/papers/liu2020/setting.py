"""The networks of liu2020 (App. C.1): two families, trained under several adversarial budgets.

At digits scale both are a LeNet of width 4 on 8×8 images. One is trained as the paper trains its
CIFAR-10 networks: SGD whose learning rate falls at 50 % and 75 % of the run, weight decay. The
other is trained as its MNIST networks: Adam at a constant learning rate, no weight decay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landscape.attacks import attack
from landscape.papers.scale import Scale
from landscape.running.work import Run
from landscape.tracking import Tracking


@dataclass(frozen=True, eq=False)
class Family:
    """Networks that are trained alike, apart from the budget.

    Attributes:
        key: of the figures' files. recipe: of every scale. lr: of digits, MNIST and the paper.
        maximum: ε_max of eq. 5 over the target, per schedule. early: epochs that hold the first
            and the last mini-batches of Figs. 1 and 8, per scale.
    """

    key: str
    recipe: Mapping[str, str]
    name: Mapping[str, str]
    maximum: Mapping[str, float]
    early: Mapping[str, int]


_MNIST = "liu2020/mnist"
# ε_max is 16/255 for a target of 8/255. 2000 mini-batches of 128 are 6 epochs of 45,000 images.
_SGD: dict[str, Any] = {
    "maximum": {"cosine": 2.0, "linear": 2.0, "constant": 1.0},
    "early": {"digits": 5, "mnist": 2, "paper": 6, "smoke": 1},
}
RESNET = Family(
    "resnet",
    {"digits": "digits", "mnist": _MNIST, "paper": "liu2020/cifar10-resnet18"},
    {"digits": "LeNet, SGD", "mnist": "MNIST, LeNet", "paper": "CIFAR-10, ResNet-18"},
    **_SGD,
)
VGG = Family(
    "vgg",
    {"digits": "digits", "mnist": _MNIST, "paper": "liu2020/cifar10-vgg"},
    {"digits": "LeNet, SGD", "mnist": "MNIST, LeNet", "paper": "CIFAR-10, VGG"},
    **_SGD,
)
# ε_max is 0.6 (cosine) and 0.8 (linear) for a target of 0.4. 500 mini-batches are 2 epochs.
LENET = Family(
    "lenet",
    {"digits": "digits", "mnist": _MNIST, "paper": _MNIST},
    {"digits": "LeNet, Adam", "mnist": "MNIST, LeNet", "paper": "MNIST, LeNet"},
    {"cosine": 1.5, "linear": 2.0, "constant": 1.0},
    {"digits": 5, "mnist": 2, "paper": 2, "smoke": 1},
)

# Of the run at digits scale; App. C.1 has 200 (CIFAR-10) and 100 (MNIST).
EPOCHS = {"resnet": 32, "vgg": 32, "lenet": 25}
# Ends of the warm-up of the learning rate (Fig. 13) and of periods, as parts of the run.
WARMUP, PERIODS = 0.1, (0.5, 0.75)
SEEDS = 3  # not stated but for Fig. 13
SEEDS_MNIST = 5  # "each experiment 5 times", Fig. 13

DIGITS = (
    "LeNet-4 on 8×8 digits with radii up to 0.2 of the pixel range, attacked with 5 steps of ε/2 "
    "while it is trained"
)


def like(scale: Scale, family: Family) -> str:
    """The family by what it is at this scale."""
    return family.name["digits" if scale.smoke else scale.name]


def budgets(scale: Scale, family: Family = RESNET) -> tuple[float, ...]:
    """Radii of the attack, from 0 (vanilla training) to the largest of the paper."""
    mnist = (0.0, 0.1, 0.2, 0.3, 0.4)
    cifar = (0.0, 2 / 255, 4 / 255, 8 / 255)  # those of App. C.2.2
    paper = mnist if family is LENET else cifar
    return scale.pick(digits=(0.0, 0.1, 0.2), mnist=mnist, paper=paper, smoke=(0.0, 0.2))


def target(scale: Scale, family: Family = LENET) -> float:
    """The largest budget: that of Figs. 4, 13, 14 and Table 1."""
    return budgets(scale, family)[-1]


def base_lr(scale: Scale) -> float:
    """Adam's learning rate of the MNIST networks; digits have 475 updates instead of 43,000."""
    return scale.pick(digits=1e-3, mnist=1e-4, paper=1e-4)


def trained(
    scale: Scale,
    family: Family,
    eps: float,
    seed: int,
    *,
    budget: str = "constant",
    resets: bool = False,
    lr: float | None = None,
    width: int | None = None,
    warmup: bool = False,
) -> Run:
    """PGD training of radius ``eps``; vanilla training for radius 0.

    ``budget``: how ε grows towards it (eq. 5). ``resets``: learning rate and ε begin anew after
    50 % and 75 % of the run, and the networks at the ends of the periods form an ensemble.
    ``warmup``: of the learning rate, over 10 % of the run.
    """
    paper = scale.name == "paper" or scale.name == "mnist"
    # Without the recipe's own: at MNIST scale every family is trained as the MNIST networks.
    adam = family is LENET or scale.name == "mnist"
    epochs = {"lenet": 100}.get(family.key, 200) if paper else EPOCHS[family.key]
    if adam and paper:
        epochs = 100
    options: dict[str, Any] = {"epochs": None if paper else epochs}
    if not paper and adam:
        options |= {"optimiser": "adam", "schedule": "constant", "weight_decay": 0.0}
    if not paper and not adam and not scale.smoke:
        options["milestones"] = tuple(epochs * part for part in PERIODS)
    if adam:
        options["lr"] = lr or base_lr(scale)
    if eps:
        options |= _attack(scale, eps, adam)
    if width is not None:
        options["model"] = f"lenet-{width}"
    if warmup:
        options["warmup"] = 1 if scale.smoke else WARMUP * epochs
    method = "standard" if eps == 0 else "pgd"
    if budget != "constant" or resets:
        method += "+pas"
        ends = (1,) if scale.smoke else tuple(round(epochs * part) for part in PERIODS)
        periods = ends if resets else ()
        options["periods"] = periods
        options["pas"] = {
            "schedule": budget,
            "maximum": family.maximum[budget],
            "periods": periods,
        }
    return scale.run(
        method, recipe=family.recipe, seed=seed, track=_tracking(scale, family, epochs), **options
    )


def _attack(scale: Scale, eps: float, adam: bool) -> dict[str, Any]:
    """App. C.1: steps of ε/4, 10 of them; on MNIST ε/0.01 + 10 steps of 0.01."""
    if scale.name == "paper" or scale.name == "mnist":
        if adam:
            return {"eps": eps, "alpha": 0.01, "steps": round(eps / 0.01) + 10}
        return {"eps": eps, "alpha": eps / 4, "steps": 10}
    # Validation is only looked at for the best epoch, which this paper doesn't use.
    return {"eps": eps, "steps": 5, "validation_attack": attack("fgsm", eps=eps)}


def _tracking(scale: Scale, family: Family, epochs: int) -> Tracking:
    """The first and the last mini-batches; the same in all runs, so that figures share them."""
    early = family.early[scale.name]
    total = 2 if scale.smoke else epochs
    return Tracking(windows=((0, early), (total - early, total)), noise=0)


def named(eps: float) -> str:
    """Of a budget, in plans: 2/255 is ``eps=2/255``."""
    over = eps * 255
    whole = eps > 0 and eps < 0.04 and abs(over - round(over)) < 1e-9
    return f"eps={round(over)}_255" if whole else f"eps={eps:g}"


def radius(name: str) -> float:
    """The budget of a plan's name, ``eps=0.1/seed0``."""
    text = name.partition("/")[0].removeprefix("eps=")
    first, _, of = text.partition("_")
    return float(first) / float(of) if of else float(first)


def label(name: str) -> str:
    """Of a budget, in legends."""
    return "ε = " + name.partition("/")[0].removeprefix("eps=").replace("_", "/")


def by_budget(found: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What a plan of ``eps=.../seed...`` came to: by budget, one entry per seed."""
    values: dict[str, list[Any]] = {}
    for name, value in found.items():
        values.setdefault(name.partition("/")[0], []).append(value)
    return values


def per_budget(scale: Scale, family: Family, seeds: Sequence[int], **o: Any) -> dict[str, Run]:
    """The runs of all budgets and seeds, by ``eps=.../seed...``."""
    return {
        f"{named(eps)}/seed{seed}": trained(scale, family, eps, seed, **o)
        for eps in budgets(scale, family)
        for seed in seeds
    }
