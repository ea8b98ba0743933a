"""Hyperparameters of the five papers, as data: ``--recipe sitawarin2021/cifar10-prn20``.

What a paper leaves open is as in ``recipes`` for the data set, or as in the code that the paper
says it builds on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """Defaults of a training.

    ``values`` are options of ``default_config``; ``methods`` replaces some of them for a method,
    and holds the options of additions: under an addition's name those of this one, under several
    names joined by ``+`` what holds when all of them are in use, for each.
    """

    model: str
    values: Mapping[str, Any]
    source: str
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: str = ""


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
_SITAWARIN2021 = {
    "mnist": Recipe("mnist-cnn", _SAT_MNIST, _SAT, {"trades": {"beta": 6.0}}, "mnist"),
    "cifar10-prn20": Recipe("preact-resnet20", _SAT_CIFAR, _SAT, data="cifar10"),
    "cifar10-wrn": Recipe("wrn-34-10", {**_SAT_CIFAR, "lr": 0.1}, _SAT, data="cifar10"),
    "cifar100-prn20": Recipe("preact-resnet20", _SAT_100, _SAT, data="cifar100"),
    "cifar100-wrn": Recipe("wrn-34-10", {**_SAT_100, "lr": 0.1}, _SAT, data="cifar100"),
    "imagenette": Recipe("resnet34", {**_SAT_CIFAR, "lr": 0.1}, _SAT, data="imagenette"),
}

# -- liu2020, appendix C.1 ------------------------------------------------------------------------

_PAS_CIFAR = {"eps": 8 / 255, "alpha": 2 / 255, "steps": 10, "epochs": 200, "batch_size": 128}
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
        data="mnist",
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
        data="cifar10",
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
        data="cifar10",
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


def _with_awp(gamma: float, steps: int) -> dict[str, dict[str, Any]]:
    """What differs where AWP and EntropySGD go together."""
    return {
        f"awp+{name}": {"awp": {"gamma": gamma}, name: {"steps": steps}}
        for name in ("entropysgd", "entropysgd2")
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
        {"awp": {"gamma": 0.01}, **_entropy(30), **_with_awp(0.005, 30)},
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
_LIU2022 = {
    "cifar10-rn18": Recipe("resnet18", _LIU2022_CIFAR, "liu2022 App. C.1", data="cifar10"),
    "cifar10-wrn": Recipe("wrn-34-10", _LIU2022_CIFAR, "liu2022 App. C.1", data="cifar10"),
    "svhn-rn18": Recipe("resnet18", _LIU2022_SVHN, "liu2022 App. C.1", data="svhn"),
    "cifar10-fast": Recipe(
        "resnet18",
        {
            **_LIU2022_CIFAR,
            "alpha": 4 / 255,
            "steps": 1,
            "epochs": 38,
            "milestones": (30, 36),
        },
        "liu2022 App. C.2, Algorithm 1; ATTA of Zheng et al. 2020",
        data="cifar10",
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
_LI_FGSM_R = {"fgsm-r": {"alpha": 8 / 255}}
_LI2023 = {
    "cifar10-wrn": Recipe("wrn-34-10", _LI, "li2023 Sec. 4", {**_LI_FGSM_R}, "cifar10"),
    "cifar10-prn18": Recipe("preact-resnet18", _LI, "li2023 Sec. 5.1", {**_LI_FGSM_R}, "cifar10"),
    "tinyimagenet-prn18": Recipe(
        "preact-resnet18", _LI, "li2023 Sec. 5.1", {**_LI_FGSM_R}, "tinyimagenet"
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
