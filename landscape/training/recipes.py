"""Defaults of a training, per data set, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from landscape.attacks import attack
from landscape.data import entry_of
from landscape.errors import UsageError, unknown
from landscape.models import ModelSpec
from landscape.training.config import TrainConfig
from landscape.training.methods import METHODS, method, split
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
_CIFAR_TRADES = {"eps": 0.031, "alpha": 0.007, "weight_decay": 2e-4}
_RICE = "Rice et al. 2020 (locuslab/robust_overfitting); TRADES attack: Zhang et al. 2019"
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
    {"trades": {"alpha": 0.01, "beta": 1.0}},
)
_DIGITS = {
    "eps": 0.1,
    "steps": 10,
    "epochs": 40,
    "batch_size": 64,
    "lr": 0.05,
    "weight_decay": 5e-4,
    "schedule": "step",
    "milestones": (25, 35),
}
_DIGITS32 = {
    "eps": 0.1,
    "steps": 5,
    "epochs": 15,
    "batch_size": 64,
    "lr": 0.05,
    "weight_decay": 5e-4,
    "schedule": "cyclic",
    "peak": 0.3,
}
# An epoch has 19 updates; without momentum the walk needs larger steps than SGD.
_DIGITS_ENTROPY: dict[str, Any] = {"steps": 5, "inner_lr": 10.0, "scaled": False}
_DIGITS_METHODS: dict[str, dict[str, Any]] = {
    "entropysgd": _DIGITS_ENTROPY,
    "entropysgd2": _DIGITS_ENTROPY,
    "swa": {"start": 8},
}
_OWN = "this package: under a minute on two CPU cores"

RECIPES: dict[str, Recipe] = {
    "digits": Recipe("lenet-4", _DIGITS, _OWN, _DIGITS_METHODS),
    "digits32": Recipe("resnet18-1", _DIGITS32, _OWN, _DIGITS_METHODS),
    "mnist": _MNIST,
    "fashion-mnist": dataclasses.replace(_MNIST, source="as mnist"),
    "cifar10": Recipe("preact-resnet18", _CIFAR, _RICE, {"trades": _CIFAR_TRADES}),
    "cifar100": Recipe("preact-resnet18", _CIFAR, _RICE, {"trades": _CIFAR_TRADES}),
    "svhn": Recipe(
        "preact-resnet18",
        {**_CIFAR, "eps": 0.02, "alpha": 0.005, "lr": 0.01},
        "liu2022, SVHN attack; the rest as cifar10, at a tenth of its learning rate",
    ),
    **PAPER_RECIPES,
}

_OPTIMISER = {f.name for f in dataclasses.fields(Optimiser)}
_SCHEDULE = {f.name for f in dataclasses.fields(Schedule)}
_PLAN = {"epochs", "batch_size", "clip_norm", "validation_attack", "seed"}
_CONFIG = {"data_options", "n_examples", "subset", "augmentation", "evaluation", "device"}
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
            default. Milestones keep their place in a run whose ``epochs``
            alone are changed, rounded to whole epochs.

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
    known = {*entry.options, *additions, *_OPTIMISER, *_SCHEDULE, *_PLAN, *_CONFIG, *_MODEL}
    for key in given:
        if key not in known | {"eps", "norm"}:
            raise unknown(f"option of training method '{method_name}'", key, known)
    values = {**row.values, **row.methods.get(base, {}), **given}
    together = [
        options
        for names, options in row.methods.items()
        if "+" in names and {*names.split("+")} <= {base, *additions}
    ]
    for addition in additions:
        values[addition] = dict(row.methods.get(addition, {}))
        for options in together:
            values[addition].update(options.get(addition, {}))
        values[addition].update(given.get(addition, {}))
    if "schedule" in given and "milestones" not in given:
        values.pop("milestones", None)
    elif "epochs" in given and "milestones" in values and "milestones" not in given:
        values.update(_scaled(values["milestones"], row.values["epochs"], values["epochs"]))
    # A step size belongs to the radius it was chosen for.
    if "alpha" not in given and ("eps" in given or "steps" in given or "norm" in given):
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


def _scaled(milestones: Sequence[float], old: int, new: int) -> dict[str, Any]:
    """The schedule of ``milestones`` in a run of another length; constant if none remains."""
    moved = sorted({round(m * new / old) for m in milestones})
    kept = tuple(m for m in moved if 0 < m < new)
    return {"milestones": kept} if kept else {"milestones": (), "schedule": "constant"}


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
