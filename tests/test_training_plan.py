"""Methods, schedules, optimisers, plans, configurations and recipes: values and refusals."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from landscape.data import DATASETS
from landscape.errors import UsageError
from landscape.training import (
    ADDITIONS,
    METHODS,
    RECIPES,
    SCHEDULES,
    Optimiser,
    Plan,
    Schedule,
    default_config,
    method,
)

STANDARD = method("standard")


# -- methods --------------------------------------------------------------------------------------


def test_pgd_and_trades_are_as_published() -> None:
    pgd = method("pgd", eps=8 / 255).to_dict()
    assert pgd["perturbation"] == {
        "part": "attack",
        "norm": "linf",
        "eps": 8 / 255,
        "steps": 10,
        "step_size": 2 / 255,
        "start": "uniform",
        "start_scale": 1.0,
        "objective": "loss",
        "restarts": 1,
        "mode": "train",
        "project": True,
    }
    trades = method("trades", eps=0.031, alpha=0.007, beta=6).to_dict()
    assert trades["outer_loss"] == {"part": "trades", "beta": 6}
    differing = {"eps": 0.031, "step_size": 0.007, "start": "gaussian", "start_scale": 0.001}
    assert trades["perturbation"] == {
        **pgd["perturbation"],
        **differing,
        "objective": "kl",
        "mode": "eval",
    }


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_plain_data_and_documented(name: str) -> None:
    entry = METHODS[name]
    m = method(name, **dict.fromkeys(entry.required, 0.1))
    assert json.loads(json.dumps(m.to_dict())) == m.to_dict()
    assert m == method(name, **dict.fromkeys(entry.required, 0.1))
    assert entry.description
    assert m.name == name


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("pdg", {}, "unknown method 'pdg': did you mean 'pgd'"),
        ("pgd", {}, r"method 'pgd' needs eps, for example method\('pgd', eps=8/255\)"),
        ("pgd", {"eps": 8}, "write a fraction such as 8/255"),
        ("pgd", {"eps": 0.1, "beta": 6}, "takes no option 'beta'. It takes: eps, norm, steps"),
        ("standard", {"eps": 0.1}, "takes no option 'eps'. It takes: none"),
        ("pgd", {"eps": 0.1, "attack_mode": "test"}, "unknown attack mode 'test'"),
        ("trades", {"eps": 0.1, "beta": -1}, "beta must be a finite number of at least 0"),
        ("pgd", {"eps": 0.1, "norm": "l1"}, "unknown norm 'l1'"),
    ],
)
def test_wrong_method_options(name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        method(name, **options)


# -- schedules and optimisers ---------------------------------------------------------------------

CLOSED_FORMS = {
    "constant": (Schedule(), lambda t: 1.0),
    "step": (
        Schedule("step", milestones=(4, 6), factor=0.1),
        lambda t: 1.0 if t < 4 else 0.1 if t < 6 else 0.01,
    ),
    "exponential": (
        Schedule("exponential", milestones=(2, 6), factor=0.1),
        lambda t: 1.0 if t < 2 else 0.1 if t > 6 else 10 ** (-(t - 2) / 4),
    ),
    "cosine": (Schedule("cosine"), lambda t: math.cos(math.pi * t / 16) ** 2),
    "cyclic": (
        Schedule("cyclic", peak=0.25),
        lambda t: t / 2 if t < 2 else (8 - t) / 6,
    ),
    "warm-up": (Schedule(warmup=2), lambda t: min(1.0, t / 2)),
    "cosine with warm-up": (
        Schedule("cosine", warmup=2),
        lambda t: min(1.0, t / 2) * math.cos(math.pi * t / 16) ** 2,
    ),
}


@pytest.mark.parametrize("case", CLOSED_FORMS)
def test_schedules_have_their_closed_form(case: str) -> None:
    schedule, expected = CLOSED_FORMS[case]
    for i in range(8 * 5 + 1):
        t = i / 5
        assert schedule.at(t, 8) == pytest.approx(expected(t), rel=1e-12, abs=1e-12)


def test_every_schedule_has_a_closed_form() -> None:
    assert {schedule.schedule for schedule, _ in CLOSED_FORMS.values()} == set(SCHEDULES)


def test_optimisers_are_torchs_own_with_the_given_settings() -> None:
    parameters = [nn.Parameter(torch.zeros(1))]
    sgd = Optimiser(lr=0.2, momentum=0.8, nesterov=True, weight_decay=0.01).build(parameters)
    assert isinstance(sgd, torch.optim.SGD)
    group = sgd.param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"]) == (0.2, 0.8, True)
    assert group["weight_decay"] == 0.01
    adam = Optimiser("adam", lr=1e-3, momentum=0.85).build(parameters)
    assert isinstance(adam, torch.optim.Adam)
    assert adam.param_groups[0]["betas"] == (0.85, 0.999)


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Optimiser("sdg"), "unknown optimiser 'sdg': did you mean 'sgd'"),
        (lambda: Optimiser(lr=-0.1), "lr must be a finite number of at least 0, got -0.1"),
        (lambda: Optimiser(lr=math.nan), "lr must be"),
        (lambda: Optimiser(momentum=1), r"momentum must lie in \[0, 1\)"),
        (lambda: Optimiser(weight_decay=-1), "weight_decay must be"),
        (lambda: Optimiser("adam", nesterov=True), "nesterov needs optimiser 'sgd'"),
        (lambda: Schedule("linear"), "unknown schedule 'linear'"),
        (lambda: Schedule("step"), "needs milestones"),
        (lambda: Schedule("cosine", milestones=(1,)), "'cosine' takes no milestones"),
        (lambda: Schedule("exponential", milestones=(1,)), "needs two milestones"),
        (lambda: Schedule("step", milestones=(5, 5)), r"must increase, got \[5, 5\]"),
        (lambda: Schedule("step", milestones=(5,), factor=0), "factor must be"),
        (lambda: Schedule("cyclic", peak=1), "peak must lie between 0 and 1"),
        (lambda: Schedule(warmup=-1), "warmup must be"),
        (lambda: Plan(STANDARD, 0), "epochs must be a whole number of at least 1, got 0"),
        (lambda: Plan(STANDARD, 2.5), "epochs must be"),  # type: ignore[arg-type]
        (lambda: Plan(STANDARD, 2, batch_size=0), "batch_size must be"),
        (lambda: Plan(STANDARD, 2, clip_norm=0), "clip_norm must be"),
        (lambda: Plan(STANDARD, 2, seed=1.5), "seed must be"),  # type: ignore[arg-type]
        (lambda: Plan("pgd", 2), "must be a Method"),  # type: ignore[arg-type]
        (
            lambda: Plan(STANDARD, 5, schedule=Schedule("step", milestones=(3, 5))),
            "milestone 5 lies outside the run of 5 epochs",
        ),
        (lambda: Plan(STANDARD, 5, schedule=Schedule(warmup=6)), "warm-up of 6 epochs exceeds"),
        (lambda: default_config("digits", lrr=0.1), "did you mean 'lr'"),
        (lambda: default_config("digits", "lenet-2", "standard", beta=6), "unknown option"),
        (lambda: default_config("digits", "lenet-2", "pdg"), "did you mean 'pgd'"),
        (lambda: default_config("folder"), "unknown recipe 'folder'"),
        (lambda: default_config("folder", recipe="cifar10"), "doesn't tell in_shape"),
        (lambda: default_config("cifar10-c", recipe="cifar10"), "no split 't"),
        (lambda: default_config("digits", num_classes=3), "3 classes, digits has 10"),
        (lambda: default_config("digits", augmentation="flip"), "unknown augmentation 'flip'"),
        (lambda: default_config("digits", device="gpu"), "unknown device 'gpu'"),
        (lambda: default_config("digits", n_examples=0), "n_examples must be at least 1"),
    ],
)
def test_wrong_values_are_refused(make: Any, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        make()


# -- recipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", METHODS)
def test_every_recipe_makes_a_plain_configuration_for_every_method(recipe: str, name: str) -> None:
    config = default_config(None, None, name, recipe=recipe)
    described = config.to_dict()
    assert json.loads(json.dumps(described)) == described
    data = RECIPES[recipe].data or recipe
    assert config.data == data
    assert (config.plan.validation_attack is None) == (not METHODS[name].robust)
    normalize = None if DATASETS[data].mean is None else (DATASETS[data].mean, DATASETS[data].std)
    assert config.model.normalize == normalize
    assert RECIPES[recipe].source


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_name_methods_and_additions_that_are_there(recipe: str) -> None:
    for names, values in RECIPES[recipe].methods.items():
        parts = names.split("+")
        assert set(parts) <= {*METHODS, *ADDITIONS}
        if len(parts) > 1:
            assert set(values) <= set(parts)
        elif names in ADDITIONS:
            assert set(values) <= set(ADDITIONS[names].options)


def test_settings_of_the_papers() -> None:
    prn = default_config(None, None, "pgd", recipe="sitawarin2021/cifar10-prn20").to_dict()
    assert prn["optimiser"]["lr"] == 0.05
    assert prn["schedule"]["milestones"] == [40, 60, 80]
    assert prn["augmentation"] == "sat"
    liu = default_config(None, None, "pgd", recipe="liu2020/mnist").to_dict()
    assert liu["method"]["perturbation"]["steps"] == round(0.4 / 0.01) + 10
    assert liu["optimiser"] | {"optimiser": "adam", "lr": 1e-4} == liu["optimiser"]
    assert liu["method"]["perturbation"]["mode"] == "eval"
    kanai = "kanai2021/cifar10-rn18"
    alone = default_config(None, None, "pgd+entropysgd", recipe=kanai).plan.method
    assert alone.descent is not None
    assert alone.descent.steps == 20
    both = default_config(None, None, "pgd+awp+entropysgd", recipe=kanai).plan.method
    assert both.descent is not None
    assert both.weights is not None
    assert (both.descent.steps, both.weights.gamma) == (30, 0.005)
    awp = default_config(None, None, "pgd+awp", recipe=kanai).plan.method
    assert awp.weights is not None
    assert awp.weights.gamma == 0.01
    li = default_config(None, None, "pgd", recipe="li2023/cifar10-prn18").to_dict()
    assert (li["batch_size"], li["optimiser"]["weight_decay"]) == (100, 1e-4)
    # A data set of one's own with the settings of a paper.
    assert default_config("svhn", None, "pgd", recipe=kanai).data == "svhn"


def test_published_settings() -> None:
    cifar = default_config("cifar10", "resnet18", "pgd").to_dict()
    assert cifar["method"]["perturbation"]["step_size"] == 2 / 255
    assert cifar["schedule"]["milestones"] == [100, 150]
    assert cifar["optimiser"]["weight_decay"] == 5e-4
    assert cifar["augmentation"] == "crop-flip"
    trades = default_config("cifar10", "resnet18", "trades").to_dict()
    assert trades["method"]["perturbation"]["eps"] == 0.031
    assert trades["optimiser"]["weight_decay"] == 2e-4
    mnist = default_config("mnist", "mnist-cnn", "trades").plan.method.to_dict()
    assert mnist["outer_loss"]["beta"] == 1.0
    assert mnist["perturbation"]["steps"] == 40


def test_overrides() -> None:
    short = default_config("cifar10", "lenet-2", "pgd", epochs=20, lr=None, eps=4 / 255)
    assert short.plan.schedule.milestones == (10, 15)
    assert short.plan.optimiser.lr == 0.1
    # The recipe's step size belongs to its radius.
    described = short.to_dict()
    assert described["method"]["perturbation"]["step_size"] == 1 / 255
    assert described["validation_attack"]["eps"] == described["evaluation"]["eps"] == 4 / 255
    assert default_config("digits", epochs=1).plan.schedule == Schedule("constant")
    assert default_config("digits32", epochs=2).plan.schedule == Schedule("cyclic", peak=0.3)
    assert default_config("digits", schedule="cosine").plan.schedule == Schedule("cosine")
    own = default_config(
        "package.module:factory", "mlp-4", recipe="digits", in_shape=(1, 5, 5), num_classes=2
    )
    assert own.model.in_shape == (1, 5, 5)


def test_the_digest_identifies_a_run_but_not_its_device() -> None:
    config = default_config("digits", "lenet-2", "pgd")
    assert config.digest == default_config("digits", "lenet-2", "pgd", device="cpu").digest
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"lr": 0.01},
        {"eps": 0.2},
        {"alpha": 0.02},
        {"epochs": 39},
        {"n_examples": 100},
        {"augmentation": "shift"},
        {"model_options": {"activation": "elu"}},
    ]
    digests = {default_config("digits", "lenet-2", "pgd", **change).digest for change in changes}
    assert len(digests | {config.digest}) == len(changes) + 1
