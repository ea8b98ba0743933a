"""Hyperparameters of the five papers, as data: ``--recipe sitawarin2021/cifar10-prn20``.

What a paper leaves open is as in ``recipes`` for the data set, or as in the code that the paper
says it builds on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """Defaults of a training.

    ``values`` are options of ``default_config``; ``methods`` replaces some of them for a method,
    and holds the options of additions: under an addition's name those of this one, under several
    names joined by ``+`` what holds when all of them are in use, for each, later rows last.
    """

    model: str
    values: Mapping[str, Any]
    source: str
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: str = ""

    def own(self, part: str, parts: Collection[str]) -> dict[str, Any]:
        """What differs for a method or addition that is used together with ``parts``."""
        found = dict(self.methods.get(part, {}))
        for names, options in self.methods.items():
            if "+" in names and {*names.split("+")} <= {*parts}:
                found.update(options.get(part, {}))
        return found


# -- sitawarin2021, appendix A --------------------------------------------------------------------

_SAT_SGD = {"batch_size": 128, "momentum": 0.9, "schedule": "step"}
_SAT_MNIST = {
    **_SAT_SGD,
    "eps": 0.3,
    "alpha": 0.02,
    "steps": 40,
    "epochs": 70,
    "lr": 0.01,
    "weight_decay": 5e-4,
    "milestones": (40, 50, 60),
}
_SAT_CIFAR = {
    **_SAT_SGD,
    "eps": 8 / 255,
    "alpha": 2 / 255,
    "steps": 10,
    "epochs": 100,
    "lr": 0.05,
    "weight_decay": 5e-4,
    "milestones": (40, 60, 80),
    "augmentation": "sat",
}
_SAT_100 = {**_SAT_CIFAR, "weight_decay": 2e-4}
_SAT = "sitawarin2021 App. A"
# The defaults of the authors' code, as the paper used it.
_CAT20 = {"eta": 0.005, "smoothing": 10.0, "kappa": 10.0}


def _curricula(
    steps: tuple[float, ...], fosc: float, *, linear: bool = True
) -> dict[str, dict[str, Any]]:
    """λ rises by a third at ``steps``, H-SAT's from .8 to 1 by epoch 30; DAT's c is 0 at ``fosc``.

    P-SAT has a linear schedule as well: ``difficulty=linear``, ``difficulty_at=30,70``.
    """
    stepwise = {"difficulty": "step", "difficulty_at": steps}
    rising = {"difficulty": "linear", "difficulty_at": (0, 30)}
    return {
        "p-sat": stepwise,
        "h-sat": rising if linear else stepwise,
        "dat": {"fosc_until": fosc},
        "cat20": _CAT20,
        "trades": {"beta": 6.0},
    }


_PRN20 = _curricula((40, 60, 80), 80)
_WRN = _curricula((30, 40, 50), 80)
_SITAWARIN2021 = {
    "mnist": Recipe(
        "mnist-cnn", _SAT_MNIST, _SAT, _curricula((30, 45, 60), 30, linear=False), "mnist"
    ),
    "cifar10-prn20": Recipe("preact-resnet20", _SAT_CIFAR, _SAT, _PRN20, "cifar10"),
    "cifar10-wrn": Recipe("wrn-34-10", {**_SAT_CIFAR, "lr": 0.1}, _SAT, _WRN, "cifar10"),
    "cifar100-prn20": Recipe("preact-resnet20", _SAT_100, _SAT, _PRN20, "cifar100"),
    "cifar100-wrn": Recipe("wrn-34-10", {**_SAT_100, "lr": 0.1}, _SAT, _WRN, "cifar100"),
    "imagenette": Recipe(
        "resnet34",
        {**_SAT_CIFAR, "lr": 0.1},
        f"{_SAT}; the steps of P-SAT are not stated for ResNet-34: those of PreAct-ResNet-20",
        _curricula((40, 60, 80), 40),
        "imagenette",
    ),
}

# -- liu2020, appendix C.1 ------------------------------------------------------------------------

_PAS_CIFAR = {"eps": 8 / 255, "alpha": 2 / 255, "steps": 10, "epochs": 200, "batch_size": 128}
# The target is reached at r = ½ and held until the period ends.
_PERIODIC: dict[str, dict[str, Any]] = {
    "pas": {"schedule": "cosine", "maximum": 2.0, "periods": (100, 150)},
    "pgd+pas": {"pgd": {"periods": (100, 150)}},  # of the learning rate
}
_LIU2020 = {
    "mnist": Recipe(
        "lenet-16",
        {
            "eps": 0.4,
            "alpha": 0.01,
            "steps": 50,
            "epochs": 100,
            "batch_size": 128,
            "optimiser": "adam",
            "lr": 1e-4,
            "attack_mode": "eval",
        },
        "liu2020 App. C.1; the batch size is not stated",
        # .6 for a target of .4; the linear schedule has .8: maximum=2. ε/.01 + 10 steps.
        {"pas": {"schedule": "cosine", "maximum": 1.5, "spare": 10}},
        "mnist",
    ),
    "cifar10-vgg": Recipe(
        "vgg-8",
        {
            **_PAS_CIFAR,
            "optimiser": "adam",
            "lr": 1e-3,
            "schedule": "exponential",
            "milestones": (100, 150),
            "weight_decay": 1e-3,
            "attack_mode": "eval",
        },
        "liu2020 App. C.1; weight decay of Table 1, the batch size is not stated",
        _PERIODIC,
        "cifar10",
    ),
    "cifar10-resnet18": Recipe(
        "resnet18-8",
        {
            **_PAS_CIFAR,
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": True,
            "schedule": "step",
            "milestones": (100, 150),
            "weight_decay": 1e-3,
            "attack_mode": "eval",
        },
        "liu2020 App. C.1; weight decay of Table 1, the batch size is not stated",
        _PERIODIC,
        "cifar10",
    ),
}

# -- kanai2021, appendix E ------------------------------------------------------------------------

_AWP_CIFAR = {
    "eps": 8 / 255,
    "alpha": 2 / 255,
    "steps": 10,
    "epochs": 200,
    "batch_size": 128,
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "step",
    "milestones": (100, 150),
}
_LATE = {"warmup": 5}


def _entropy(steps: int, **more: Any) -> dict[str, dict[str, Any]]:
    """EntropySGD of either order; γ is left out of the gradient, as in the authors' code."""
    values = {"steps": steps, "scope": 0.03, "noise": 1e-4, "scaled": False, **more}
    return {"entropysgd": values, "entropysgd2": values}


_ENTROPY = ("entropysgd", "entropysgd2")


def _with_awp(gamma: float, steps: int) -> dict[str, dict[str, Any]]:
    """What differs where AWP and EntropySGD go together."""
    return {f"awp+{name}": {"awp": {"gamma": gamma}, name: {"steps": steps}} for name in _ENTROPY}


# App. F.2; α is .3 in AWP+EntropySGD that isn't tuned: the tuned one ends with until=150.
_KANAI_TRADES: dict[str, dict[str, Any]] = {
    "trades": {"eps": 0.031, "alpha": 0.003},
    **{f"trades+{name}": {name: {"steps": 20}} for name in _ENTROPY},
    "trades+awp": {"awp": {"gamma": 0.005, "warmup": 10}},
    **{
        f"trades+awp+{name}": {name: {"steps": 30, "start": 10, "average": 0.3}}
        for name in _ENTROPY
    },
}


_KANAI2021 = {
    "cifar10-rn18": Recipe(
        "resnet18",
        _AWP_CIFAR,
        "kanai2021 App. E.1",
        {"awp": {"gamma": 0.01}, **_entropy(20), **_with_awp(0.005, 30)},
        "cifar10",
    ),
    "cifar10-wrn": Recipe(
        "wrn-34-10",
        _AWP_CIFAR,
        "kanai2021 App. E.1",
        {"awp": {"gamma": 0.01}, **_entropy(30), **_with_awp(0.005, 30), **_KANAI_TRADES},
        "cifar10",
    ),
    "cifar100-rn18": Recipe(
        "resnet18",
        _AWP_CIFAR,
        "kanai2021 App. E.2",
        {"awp": {"gamma": 0.01}, **_entropy(30), **_with_awp(0.007, 30)},
        "cifar100",
    ),
    "svhn-rn18": Recipe(
        "resnet18",
        {**_AWP_CIFAR, "alpha": 1 / 255, "lr": 0.01},
        "kanai2021 App. E.3",
        {"awp": {"gamma": 0.01, **_LATE}, **_entropy(30, start=5), **_with_awp(0.005, 30)},
        "svhn",
    ),
}

# -- liu2022, appendix C --------------------------------------------------------------------------

_LIU2022_CIFAR = _AWP_CIFAR
_LIU2022_SVHN = {**_AWP_CIFAR, "eps": 0.02, "alpha": 0.005}
_LIU2022_METHODS: dict[str, dict[str, Any]] = {
    # App. D.5; its text has ε_i ± γ itself, without the moving average of Balaji et al.
    "iaat": {"radii_warmup": 5, "radii_rate": 1.0},
    "self-adaptive": {"start": 90, "momentum": 0.9, "beta": 6.0},
    # App. C.2: 1 or 5 epochs, half of each batch from additional data.
    "fine-tune": {
        "epochs": 5,
        "lr": 1e-3,
        "schedule": "constant",
        "milestones": (),
        "beta": 6.0,
    },
}
_LIU2022 = {
    "cifar10-rn18": Recipe(
        "resnet18", _LIU2022_CIFAR, "liu2022 App. C.1", _LIU2022_METHODS, "cifar10"
    ),
    "cifar10-wrn": Recipe(
        "wrn-34-10", _LIU2022_CIFAR, "liu2022 App. C.1", _LIU2022_METHODS, "cifar10"
    ),
    "svhn-rn18": Recipe("resnet18", _LIU2022_SVHN, "liu2022 App. C.1", _LIU2022_METHODS, "svhn"),
    "cifar10-fast": Recipe(
        "wrn-34-10",
        {
            **_LIU2022_CIFAR,
            "alpha": 4 / 255,
            "steps": 1,
            "epochs": 38,
            "milestones": (30, 36),
        },
        "liu2022 §6.1, App. C.2, Algorithm 1; ATTA of Zheng et al. 2020",
        {
            "atta": {"reset": 10},
            "reweight": {"warmup": 5},
            "adaptive-targets": {"fixed": 0.1, "momentum": 0.9, "warmup": 5},
        },
        "cifar10",
    ),
}

# -- li2023, sections 4 and 5.1 -------------------------------------------------------------------

_LI = {
    "eps": 8 / 255,
    "alpha": 2 / 255,
    "steps": 10,
    "epochs": 200,
    "batch_size": 100,
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "schedule": "step",
    "milestones": (100, 150),
}
# Table 1: for PGD-10, and for FGSM-N where that differs. In print the strengths of squared norms of
# gradients (1000, 1200, 1500) are for the mean loss of 100 samples, here for each sample's own.
_LI_METHODS: dict[str, dict[str, Any]] = {
    "fgsm-r": {"alpha": 8 / 255},
    "igr": {"weight": 10.0},
    "fgsm-n+igr": {"igr": {"weight": 12.0}},
    "cure": {"weight": 15.0, "h": 8 / 255, "unit": False},
    "gradalign": {"weight": 6.0},
    "fgsm-n+gradalign": {"gradalign": {"weight": 7.0}},
    "logitalign": {"weight": 50.0},
    "fgsm-n+logitalign": {"logitalign": {"weight": 100.0}},
    "consistency": {"weight": 50.0, "temperature": 1.0},
    "swa": {"start": 50},
    "advlc": {"weight": 0.4},
    "advlc+swa": {"advlc": {"weight": 0.3}},
    "fgsm-n+advlc": {"advlc": {"weight": 0.55}},
    "fgsm-n+advlc+swa": {"advlc": {"weight": 0.5}},
}
# λ of AdvLC rises to .15 over all epochs (.07 for the distance l1).
_LI_TINY = {
    **{name: options for name, options in _LI_METHODS.items() if "advlc" not in name},
    "advlc": {"weight": 0.15, "ramp": 200},
}
_LI2023 = {
    "cifar10-wrn": Recipe("wrn-34-10", _LI, "li2023 Sec. 4", _LI_METHODS, "cifar10"),
    "cifar10-prn18": Recipe("preact-resnet18", _LI, "li2023 Sec. 5.1", _LI_METHODS, "cifar10"),
    "tinyimagenet-prn18": Recipe(
        "preact-resnet18", _LI, "li2023 Sec. 5.1", _LI_TINY, "tinyimagenet"
    ),
}

PAPER_RECIPES: dict[str, Recipe] = {
    f"{paper}/{name}": recipe
    for paper, recipes in (
        ("sitawarin2021", _SITAWARIN2021),
        ("liu2020", _LIU2020),
        ("kanai2021", _KANAI2021),
        ("liu2022", _LIU2022),
        ("li2023", _LI2023),
    )
    for name, recipe in recipes.items()
}
