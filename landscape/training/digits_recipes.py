"""The package's own recipes, for data that every machine has: minutes on two CPU cores."""

from __future__ import annotations

from typing import Any

from landscape.training.method_table import METHODS
from landscape.training.paper_recipes import Recipe

_EPS = 0.1
_DIGITS = {
    "eps": _EPS,
    "steps": 10,
    "epochs": 40,
    "batch_size": 64,
    "lr": 0.05,
    "weight_decay": 5e-4,
    "schedule": "step",
    "milestones": (25, 35),
}
_DIGITS32 = {
    "eps": _EPS,
    "steps": 5,
    "epochs": 15,
    "batch_size": 64,
    "lr": 0.05,
    "weight_decay": 5e-4,
    "schedule": "cyclic",
    "peak": 0.3,
}


def _parts(epochs: int, pixels: int) -> dict[str, dict[str, Any]]:
    """What methods and additions need in so many epochs, of 19 updates each.

    The papers' values, with epochs in proportion to the run and radii in proportion to ε. Those
    marked "not" are others, since with the paper's the training fails.
    """
    # Squared norms of gradients count in proportion to the ball's squared L2 radius, ε² pixels.
    squared = _EPS**2 * pixels / ((8 / 255) ** 2 * 3 * 32 * 32)

    def part(some: float, of: float) -> int:
        return max(1, round(some / of * epochs))

    # kanai2021's but for the walk's length, 20 updates, which is an epoch here, and for its
    # beginning (as theirs on SVHN): walks are too slow for the plateau that training starts from.
    entropy = {"steps": 5, "scaled": False, "start": part(10, 40)}
    return {
        "atta": {"steps": 1, "reset": part(10, 38)},
        # Authors: a stage ends 10 epochs after its best; here all must fit into the run.
        "cat18": {"steps": 5, "patience": part(2, 40)},
        "cat20": {"eta": 0.005 * _EPS / (8 / 255), "smoothing": 10 * (8 / 255) / _EPS},
        "iaat": {"radii_warmup": part(5, 200)},
        "pas": {"maximum": 1.5},
        # Without these some seeds stay on the plateau at the start: constant classifiers.
        "awp": {"warmup": part(10, 40)},
        "advlc": {"ramp": epochs},  # as li2023 on TinyImageNet
        "less-clean": {"ramp": epochs},  # likewise
        "trades+awp": {"awp": {"gamma": 0.005}},
        "entropysgd": entropy,
        "entropysgd2": entropy,
        **{
            f"{name}+{walk}": {name: {"lr": 0.1}}  # η = η' = .1, theirs as well
            for name in METHODS
            for walk in ("entropysgd", "entropysgd2")
            if name != "fine-tune"
        },
        "swa": {"start": part(55, 200)},
        # li2023 with PGD-10: 10 and 15.
        "igr": {"weight": squared},  # not 10: leaves a quarter of the clean images wrong
        "cure": {"weight": 15 * squared, "h": _EPS, "unit": False},
        # Two views must differ.
        "pgd+consistency": {"pgd": {"augmentation": "shift"}},
        # Not 5: the classes not learned by then never are.
        "reweight": {"warmup": part(20, 40)},
        "adaptive-targets": {"warmup": part(5, 38)},
    }


_OWN = "this package: at most two minutes on two CPU cores"
DIGITS_RECIPES: dict[str, Recipe] = {
    "digits": Recipe(
        "lenet-4",
        _DIGITS,
        _OWN,
        {
            **_parts(40, 8 * 8),
            # Twice the updates of the others: with as many, as in Shafahi et al., it isn't done.
            "free": {"replays": 8, "epochs": 10, "milestones": (6, 9)},
            # On shifted images the plateau at the start takes up to 40 epochs.
            "pgd+consistency": {
                "pgd": {"augmentation": "shift", "epochs": 80, "milestones": (50, 70)}
            },
            # liu2022, without the additional data.
            "fine-tune": {
                "initial": "digits-pgd-seed0",
                "epochs": 5,
                "lr": 1e-3,
                "schedule": "constant",
                "milestones": (),
            },
            "kdsa": {"standard": "digits-standard-seed0", "adversarial": "digits-pgd-seed0"},
        },
    ),
    "digits32": Recipe(
        "resnet18-1",
        _DIGITS32,
        _OWN,
        {
            **_parts(15, 3 * 32 * 32),
            "free": {"replays": 5, "epochs": 6},
            # What has twice PGD's passes or more takes fewer epochs, to be done in two minutes.
            "iaat": {"radii_warmup": 1, "epochs": 10},
            "pgd+llr": {"pgd": {"epochs": 9}},
            "pgd+logitalign": {"pgd": {"epochs": 9}},
            "pgd+consistency": {"pgd": {"augmentation": "shift", "epochs": 9}},
            "fine-tune": {"epochs": 2, "lr": 1e-3, "schedule": "constant"},
        },
    ),
}
