"""Defaults of a training, per data set, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from landscape.attacks import attack
from landscape.data import entry_of
from landscape.errors import UsageError, unknown
from landscape.models import ModelSpec
from landscape.training.config import TrainConfig
from landscape.training.digits_recipes import DIGITS_RECIPES
from landscape.training.method_table import METHODS
from landscape.training.methods import check_text, method, split
from landscape.training.optimisers import Optimiser
from landscape.training.paper_recipes import PAPER_RECIPES, Recipe
from landscape.training.plan import Plan
from landscape.training.schedules import Schedule

_CIFAR = {
    "eps": 8 / 255,
    "alpha": 2 / 255,
    "steps": 10,
    "epochs": 200,
    "batch_size": 128,
    "lr": 0.1,
    "weight_decay": 5e-4,
    "schedule": "step",
    "milestones": (100, 150),
}
_CIFAR_METHODS: dict[str, dict[str, Any]] = {
    "trades": {"eps": 0.031, "alpha": 0.007, "weight_decay": 2e-4},
    "atta": {"steps": 1},
    "trades+awp": {"awp": {"gamma": 0.005, "warmup": 10}},
    "swa": {"start": 55},
}
_RICE = "Rice et al. 2020; TRADES: Zhang et al. 2019; AWP: Wu et al. 2020; SWA: Chen et al. 2021"
_MNIST = Recipe(
    "mnist-cnn",
    {
        "eps": 0.3,
        "alpha": 0.02,
        "steps": 40,
        "epochs": 70,
        "batch_size": 128,
        "lr": 0.01,
        "weight_decay": 5e-4,
        "schedule": "step",
        "milestones": (40, 50, 60),
    },
    "sitawarin2021, MNIST; TRADES attack: Zhang et al. 2019",
    {"trades": {"alpha": 0.01, "beta": 1.0}, "atta": {"steps": 1, "reset": 0}},
)
RECIPES: dict[str, Recipe] = {
    **DIGITS_RECIPES,
    "mnist": _MNIST,
    "fashion-mnist": dataclasses.replace(_MNIST, source="as mnist"),
    "cifar10": Recipe("preact-resnet18", _CIFAR, _RICE, _CIFAR_METHODS),
    "cifar100": Recipe("preact-resnet18", _CIFAR, _RICE, _CIFAR_METHODS),
    "svhn": Recipe(
        "preact-resnet18",
        {**_CIFAR, "eps": 0.02, "alpha": 0.005, "lr": 0.01},
        "liu2022, SVHN attack; the rest as cifar10, at a tenth of its learning rate",
        {"atta": {"steps": 1}, "swa": {"start": 55}},
    ),
    **PAPER_RECIPES,
}

_OPTIMISER = {f.name for f in dataclasses.fields(Optimiser)}
_SCHEDULE = {f.name for f in dataclasses.fields(Schedule)}
_PLAN = {f.name for f in fields(Plan)} - {"method", "optimiser", "schedule"}
_CONFIG = {
    "data_options",
    "n_examples",
    "subset",
    "extra",
    "initial",
    "augmentation",
    "evaluation",
    "device",
}
# Options of methods and additions that are numbers of epochs.
_IN_EPOCHS = {
    "difficulty_at",
    "fosc_until",
    "patience",
    "periods",
    "radii_warmup",
    "ramp",
    "reset",
    "start",
    "warmup",
}
_MODEL = {"in_shape", "num_classes", "normalize", "model_options"}


def default_config(
    data: str | None = None,
    model: str | None = None,
    method_name: str = "standard",
    *,
    recipe: str | None = None,
    **overrides: Any,
) -> TrainConfig:
    """The configuration of a training from the data set's recipe, with ``overrides``.

    Args:
        data: name of a data set, by default the recipe's, or ``digits``. recipe: a row of
            ``RECIPES``, by default that of the data set. model: name of an architecture.
        overrides: by field: options of the method (``eps``, ``alpha``, ``steps``, ``norm``,
            ``beta``, ...), those of an addition as a dictionary (``awp={"gamma": .005}``), fields
            of ``Optimiser``, ``Schedule``, ``Plan`` and ``TrainConfig``, and ``in_shape``,
            ``num_classes``, ``normalize``, ``model_options`` of the network. ``None`` keeps the
            default. Milestones, warm-ups and other epochs of the recipe keep their place in a run
            whose ``epochs`` alone are changed, rounded to whole epochs.

    Robust accuracy is measured by PGD-10 for validation (not for standard training) and by
    PGD-20 on the saved weights, at the recipe's or the given eps.
    """
    if recipe is not None and data is None and recipe in RECIPES:
        data = RECIPES[recipe].data or recipe
    data = data or "digits"
    name = recipe or data
    if name not in RECIPES:
        error = unknown("recipe", name, RECIPES)
        raise UsageError(f"{error} Choose the one to take defaults from with recipe=.")
    base, additions = split(method_name)
    row, entry = RECIPES[name], METHODS[base]
    given = {key: value for key, value in overrides.items() if value is not None}
    known = options_of(method_name)
    for key in given:
        if key not in known:
            raise unknown(f"option of training method '{method_name}'", key, known)

    declared = {f.name: str(f.type) for c in (Plan, Optimiser, Schedule) for f in fields(c)}
    check_text(given, {**declared, **entry.annotations}, f"training method '{method_name}'")

    def of(part: str) -> dict[str, Any]:
        return row.own(part, {base, *additions})

    chosen = {**row.values, **of(base)}
    values = {**chosen, **given}
    old, new = chosen["epochs"], values["epochs"]
    if "schedule" in given and "milestones" not in given:
        values.pop("milestones", None)
    elif "milestones" in values and "milestones" not in given and old != new:
        values["milestones"] = _moved(values["milestones"], old, new)
        if not values["milestones"]:
            values["schedule"] = "constant"
    for key in _IN_EPOCHS & {*of(base)} - {*given}:
        values[key] = _moved(values[key], old, new)
    for addition in additions:
        options = of(addition)
        whole = row.values["epochs"]  # what an addition's row is for, whatever the method's has
        options |= {key: _moved(options[key], whole, new) for key in _IN_EPOCHS & {*options}}
        values[addition] = options | dict(given.get(addition, {}))
    # A step size belongs to the radius and the number of steps it was chosen for.
    attacked = {"eps", "steps", "norm"}
    if "alpha" not in given:
        alone = "alpha" not in of(base) and ("steps" not in entry.options or attacked & {*of(base)})
        if alone or attacked & {*given}:
            values.pop("alpha", None)

    def pick(names: set[str] | Sequence[str]) -> dict[str, Any]:
        return {key: values[key] for key in names if key in values}

    ball = {"eps": values["eps"], "norm": values.get("norm", "linf")}
    plan_values = pick(_PLAN)
    if entry.robust:
        plan_values.setdefault("validation_attack", attack("pgd-10", **ball))
    config_values = pick(_CONFIG)
    config_values.setdefault("evaluation", attack("pgd-20", **ball))
    if ":" not in data:
        config_values.setdefault("augmentation", entry_of(data).augmentation)
    return TrainConfig(
        model=_spec(model or row.model, data, pick(_MODEL)),
        data=data,
        plan=Plan(
            method=method(method_name, **pick([*entry.options, *additions])),
            optimiser=Optimiser(**pick(_OPTIMISER)),
            schedule=Schedule(**pick(_SCHEDULE)),
            **plan_values,
        ),
        **config_values,
    )


def options_of(method_name: str) -> set[str]:
    """What ``default_config`` takes for a method; ``eps`` and ``norm`` for every one, since all
    are attacked in the end."""
    base, additions = split(method_name)
    own = {*METHODS[base].options, *additions, "eps", "norm"}
    return own | _OPTIMISER | _SCHEDULE | _PLAN | _CONFIG | _MODEL


def _moved(when: Any, old: int, new: int) -> Any:
    """An epoch, or several, of a run of ``old`` epochs in one of ``new``."""
    if not when or old == new:
        return when
    if isinstance(when, tuple):
        moved = sorted({round(epoch * new / old) for epoch in when})
        return tuple(epoch for epoch in moved if epoch < new and (epoch > 0 or 0 in when))
    return max(1, round(when * new / old))


def _spec(model: str, data: str, values: Mapping[str, Any]) -> ModelSpec:
    known: dict[str, Any] = {}
    if ":" not in data:
        entry = entry_of(data)
        known = {"in_shape": entry.in_shape, "num_classes": entry.num_classes}
        if entry.mean is not None and entry.std is not None:
            known["normalize"] = (entry.mean, entry.std)
    arguments = {**known, **values}
    options = arguments.pop("model_options", {})
    for key in ("in_shape", "num_classes"):
        if arguments.get(key) is None:
            raise UsageError(f"{data} doesn't tell {key}: pass it ({key}=...).")
    return ModelSpec(model, options=options, **arguments)
