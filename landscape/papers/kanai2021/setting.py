"""The networks of kanai2021: AT, AWP and TRADES, each by SGD and by EntropySGD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from landscape.attacks import attack
from landscape.papers.scale import Scale
from landscape.running.work import Run

# Of Figs. 3, 6, 7 and Tables 1 and 3; "2ndEnSGD" is the second order of App. D.
AT = {
    "AT": "pgd",
    "AT+EnSGD": "pgd+entropysgd",
    "AT+2ndEnSGD": "pgd+entropysgd2",
    "AWP": "pgd+awp",
    "AWP+EnSGD": "pgd+awp+entropysgd",
    "AWP+2ndEnSGD": "pgd+awp+entropysgd2",
}
MAIN = ("AT", "AT+EnSGD", "AWP", "AWP+EnSGD")
# Table 2. Tuned: EntropySGD until the second decay of the learning rate, SGD from there on.
TRADES = {
    "TRADES": "trades",
    "+EnSGD": "trades+entropysgd",
    "+AWP": "trades+awp",
    "+AWP+EnSGD": "trades+awp+entropysgd",
    "+AWP+EnSGD (tuned)": "trades+awp+entropysgd",
}
# At digits: half of the package's 40 epochs, where milestones, warm-ups and starts keep their
# places; and the paper's learning rate, since SGD and EntropySGD must have the same.
_SMALL = {"epochs": 20, "lr": 0.1}
ANALOGUE = (
    "LeNet on digits, ε = 0.1, 20 epochs; AWP and EntropySGD begin after 5 of them, and walks are "
    "of L = 5 updates (20 would be an epoch). That is 60 steps of EntropySGD where the paper has "
    "thousands, so that claims of its accuracy are about the very beginning of training."
)


@dataclass(frozen=True)
class Setting:
    """A data set with a network and the way its robust accuracy is measured: a row of a table.

    Attributes:
        recipe: where its hyperparameters come from. attack: ``autoattack`` or ``pgd-20``.
        step: step size of PGD-20, None for the attack's own. normalize: mean and standard
            deviation of the channels, None for those of the data set.
        entropy: options of EntropySGD beyond the recipe's.
    """

    recipe: str
    attack: str = "autoattack"
    step: float | None = None
    normalize: tuple[Any, Any] | None = None
    entropy: Mapping[str, Any] = field(default_factory=dict)


_CIFAR10 = "kanai2021/cifar10-rn18"
_CIFAR100_MEAN = (0.5070751592371323, 0.48654887331495095, 0.4409178433670343)
_CIFAR100_STD = (0.2673342858792401, 0.2564384629170883, 0.27615047132568404)
# App. E, in the order of the tables.
_PAPER = {
    "CIFAR10 (AA, RN18)": Setting(_CIFAR10, step=2 / 255),
    "CIFAR10 (AA, WRN)": Setting("kanai2021/cifar10-wrn", step=2 / 255),
    # η' = .1 although the learning rate is .01 there: inner_lr is η' / η. (App. E.3 gives η both
    # as .1 and as .01; the latter is SGD's as well.)
    "SVHN (PGD, RN18)": Setting(
        "kanai2021/svhn-rn18", "pgd-20", 1 / 255, ((0.5,) * 3, (0.5,) * 3), {"inner_lr": 10.0}
    ),
    "CIFAR100 (PGD, RN18)": Setting(
        "kanai2021/cifar100-rn18", "pgd-20", 2 / 255, (_CIFAR100_MEAN, _CIFAR100_STD)
    ),
}
# Its TRADES follows Wu et al.'s code: inputs as they are, and steps of .003 in PGD-20 as well.
_PAPER_TRADES = {
    "WRN": Setting("kanai2021/cifar10-wrn", step=0.003, normalize=((0.0,) * 3, (1.0,) * 3))
}
_DIGITS = {
    "digits (AA)": Setting("digits"),
    "digits (PGD-20)": Setting("digits", "pgd-20"),
}
# Not in the paper: its η' = .1 and its authors' gradient θ − θ̄ at MNIST's learning rate of .01.
_WALK = {"inner_lr": 10.0, "scaled": False}
_MNIST = {
    "MNIST (AA)": Setting("mnist", entropy=_WALK),
    "MNIST (PGD-20)": Setting("mnist", "pgd-20", entropy=_WALK),
}


def settings(scale: Scale, *, trades: bool = False) -> Mapping[str, Setting]:
    """The rows of the tables by name; the first is the setting of the figures."""
    paper = _PAPER_TRADES if trades else _PAPER
    found = scale.pick(digits=_DIGITS, mnist=_MNIST, paper=paper)
    return {n: row for n, row in found.items() if not trades or row.attack == "autoattack"}


def trained(
    scale: Scale,
    name: str,
    seed: int,
    row: Setting | None = None,
    *,
    gamma: float | None = None,
) -> Run:
    """The training of a name in ``AT`` or ``TRADES``.

    ``gamma``: γ_A of AWP, by default as in App. E: .01, or .005 with TRADES and with EntropySGD
    (.007 there on CIFAR-100).
    """
    trades = name in TRADES
    method = TRADES[name] if trades else AT[name]
    row = row or next(iter(settings(scale, trades=trades).values()))
    walk = next((part for part in method.split("+") if part.startswith("entropysgd")), None)
    options: dict[str, Any] = {}
    if walk is not None:
        options[walk] = dict(row.entropy)
        if name == "+AWP+EnSGD (tuned)":
            options[walk] |= {"average": 0.75, "until": _second_decay(scale, row)}
        elif name == "+AWP+EnSGD":
            options[walk] |= {"average": 0.3}
    if "awp" in method.split("+") and scale.name != "paper":  # whose recipes have these
        gamma = gamma or (0.005 if walk or trades else 0.01)
    if gamma is not None:
        options["awp"] = {"gamma": gamma}
    if scale.name == "paper":
        judge = attack("pgd-20", eps=0.031 if trades else 8 / 255, step_size=row.step)
        options |= {"validation_attack": judge, "evaluation": judge, "normalize": row.normalize}
    elif scale.name != "mnist":
        options |= _SMALL
    return scale.run(method, recipe=row.recipe, seed=seed, **options)


def _second_decay(scale: Scale, row: Setting) -> float:
    if scale.smoke:
        return 1.5
    small = _SMALL if scale.name == "digits" else {}
    return float(Run("trades", row.recipe, small).config().plan.schedule.milestones[1])
