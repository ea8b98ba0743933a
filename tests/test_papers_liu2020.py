"""The figures and tables of liu2020: the paper's settings, the checks of its claims, oracles."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from landscape.papers import Cache, Found, Made, Scale, figures, make_figures, sheet
from landscape.papers.claims import FAILS, HOLDS, OPEN
from landscape.papers.liu2020 import FIGURES, quantities, schedules, sketch, tables
from landscape.papers.liu2020.setting import LENET, RESNET, label, named, radius, trained
from landscape.results import Estimate, load_all

PAPER, DIGITS = Scale("paper"), Scale("digits")
BY_NAME = {figure.short: figure for figure in FIGURES}
SEEDS = range(3)
EPS = (0.0, 0.1, 0.2)


# -- the paper's settings, typed from its text -----------------------------------------------------

# App. C.1. The batch size is not stated.
NETWORKS: dict[str, dict[str, Any]] = {
    "lenet": {
        "data": "mnist",
        "epochs": 100,
        "optimiser": "adam",
        "lr": 1e-4,
        "schedule": "constant",
        "milestones": [],
        "weight_decay": 0.0,
        "alpha": lambda eps: 0.01,
        "steps": lambda eps: round(eps / 0.01) + 10,
    },
    "vgg": {
        "data": "cifar10",
        "epochs": 200,
        "optimiser": "adam",
        "lr": 1e-3,
        "schedule": "exponential",
        "milestones": [100, 150],
        "weight_decay": 1e-3,
        "alpha": lambda eps: eps / 4,
        "steps": lambda eps: 10,
    },
    "resnet18": {
        "data": "cifar10",
        "epochs": 200,
        "optimiser": "sgd",
        "lr": 0.1,
        "schedule": "step",
        "milestones": [100, 150],
        "weight_decay": 1e-3,
        "alpha": lambda eps: eps / 4,
        "steps": lambda eps: 10,
    },
}
CIFAR = {0, 2 / 255, 4 / 255, 8 / 255}
MNIST = {0, 0.1, 0.2, 0.3, 0.4}
RATES = {1e-5, 3e-5, 1e-4, 3e-4, 1e-3}
CONST, COS, LIN = "constant", "cosine", "linear"
ALL = {CONST, COS, LIN}
# Per figure: architectures, budgets, learning rates of Adam on MNIST, schedulers of ε, periods,
# and how many runs.
EXPECTED: dict[str, tuple[set[str], set[float], set[float], set[str], set[bool], int]] = {
    "fig1": ({"resnet18-8"}, CIFAR, set(), {CONST}, {False}, 4 * 3),
    "fig2": ({"resnet18-8"}, CIFAR, set(), {CONST}, {False}, 4 * 3),
    "fig3": ({"resnet18-8"}, CIFAR - {0}, set(), {CONST}, {False}, 3 * 3),
    "fig4": ({"lenet-16"}, {0.4}, RATES, ALL, {False}, 3 * 5 * 5),
    "fig5": (set(), set(), set(), set(), set(), 0),
    "fig6": (set(), set(), set(), set(), set(), 0),
    "fig7": (set(), set(), set(), set(), set(), 0),
    "fig8": ({"lenet-16"}, MNIST, {1e-4}, {CONST}, {False}, 5 * 3),
    "fig9": ({"lenet-16"}, MNIST, {1e-4}, {CONST}, {False}, 5 * 3),
    "fig10": ({"lenet-16"}, MNIST - {0}, {1e-4}, {CONST}, {False}, 4 * 3),
    "fig11": ({"resnet18-8", "lenet-16"}, CIFAR | MNIST, {1e-4}, {CONST}, {False}, 27),
    "fig12": ({"resnet18-8", "lenet-16"}, CIFAR | MNIST, {1e-4}, {CONST}, {False}, 27),
    # Warm-up of the learning rate (3 × 5), and that of ε at every learning rate.
    "fig13": ({"lenet-16"}, {0.4}, RATES, ALL, {False}, 3 * 5 + 2 * 5 * 5),
    "fig14": (
        {"lenet-2", "lenet-4", "lenet-8", "lenet-16"},
        {0.4},
        {1e-4},
        ALL,
        {False},
        3 * 4 * 5,
    ),
    "fig15": ({"resnet18-8", "lenet-16"}, CIFAR | MNIST, {1e-4}, {CONST}, {False}, 27),
    "table1": (
        {"lenet-16", "vgg-8", "resnet18-8"},
        {0.4, 8 / 255},
        {1e-4},
        ALL,
        {False, True},
        3 * 5 + 2 * 2 * 3 * 3,
    ),
    "table2": (set(), set(), set(), set(), set(), 0),
}


def settings(run: Any) -> dict[str, Any]:
    """What a run resolves to, in the words of the table."""
    config = run.config().to_dict()
    perturbation = config["method"]["perturbation"] or {}
    budget = perturbation.get("budget") or {}
    return {
        "model": config["model"]["name"],
        "data": config["data"]["name"],
        "eps": perturbation.get("eps", 0.0),
        "alpha": perturbation.get("step_size"),
        "steps": perturbation.get("steps"),
        "mode": perturbation.get("mode"),
        "epochs": config["epochs"],
        **config["optimiser"],
        **config["schedule"],
        "budget": budget.get("schedule", CONST),
        "maximum": budget.get("maximum", 1.0),
        "minimum": budget.get("minimum", 0.0),
        "spare": budget.get("spare"),
        "periods": bool(config["schedule"].get("periods")),
        "lr_periods": config["schedule"].get("periods", []),
        "budget_periods": budget.get("periods", []),
    }


@pytest.mark.parametrize("name", EXPECTED)
def test_paper_scale_has_the_settings_of_the_paper(name: str) -> None:
    models, eps, rates, schedulers, periods, count = EXPECTED[name]
    found = [settings(run) for run in BY_NAME[name].runs(PAPER)]
    assert len(found) == count
    assert {s["model"] for s in found} == models
    assert sorted({s["eps"] for s in found}) == pytest.approx(sorted(eps))
    assert {s["lr"] for s in found if s["data"] == "mnist"} == rates
    assert {s["budget"] for s in found} == schedulers
    assert {s["periods"] for s in found} == periods
    for s in found:
        want = NETWORKS[s["model"].partition("-")[0]]
        for key in ("data", "epochs", "optimiser", "schedule", "milestones", "weight_decay"):
            assert s[key] == want[key], key
        if s["data"] != "mnist":
            assert s["lr"] == want["lr"]
        assert s["factor"] == 0.1  # of each step, or of the exponential decay in all
        if s["eps"]:
            assert s["alpha"] == pytest.approx(want["alpha"](s["eps"]))
            assert s["steps"] == want["steps"](s["eps"])
            assert s["mode"] == "eval"
        if s["optimiser"] == "sgd":
            assert (s["momentum"], s["nesterov"]) == (0.9, True)
        # ε_max: 0.6 and 0.8 for 0.4 on MNIST, 16/255 for 8/255 on CIFAR-10; ε_min = 0.
        tops = {COS: 1.5, LIN: 2.0} if s["data"] == "mnist" else {COS: 2.0, LIN: 2.0}
        assert s["maximum"] == tops.get(s["budget"], 1.0)
        assert s["minimum"] == 0.0
        # ε/0.01 + 10 steps, also while ε grows.
        assert s["spare"] == (10 if s["data"] == "mnist" and s["budget"] != CONST else None)
        assert s["lr_periods"] == s["budget_periods"] == ([100, 150] if s["periods"] else [])


def test_warm_up_of_the_learning_rate_is_ten_epochs() -> None:
    runs = [settings(r) for r in BY_NAME["fig13"].runs(PAPER)]
    warmed = [s for s in runs if s["warmup"]]
    assert len(warmed) == 3 * 5
    assert {s["warmup"] for s in warmed} == {10}
    assert {s["lr"] for s in warmed} == {1e-4, 3e-4, 1e-3}
    assert {s["budget"] for s in warmed} == {CONST}


def test_first_and_last_minibatches_reach_as_far_as_the_figures() -> None:
    for name, images, shown in (("fig1", 45_000, 2000), ("fig8", 55_000, 500)):
        for run in BY_NAME[name].runs(PAPER):
            (first, last), epochs = run.track.windows, run.config().plan.epochs
            assert first[0] == 0
            assert last[1] == epochs
            for start, end in (first, last):
                assert (end - start) * math.ceil(images / 128) >= shown


def test_runs_are_shared_between_figures() -> None:
    digests = {f.short: {r.digest for r in f.runs(DIGITS)} for f in FIGURES}
    assert digests["fig1"] == digests["fig2"]
    assert digests["fig3"] < digests["fig1"]
    assert digests["fig11"] == digests["fig12"] == digests["fig1"] | digests["fig8"]
    assert digests["fig15"] == digests["fig11"]
    total = set().union(*digests.values())
    assert len(total) <= 72
    # The largest budget of Fig. 8 is the usual learning rate of Fig. 4 and the widest of Fig. 14.
    assert digests["fig8"] & digests["fig4"] & digests["fig14"] & digests["table1"]


def test_figures_at_mnist_scale_resolve() -> None:
    for figure in FIGURES:
        for run in figure.runs(Scale("mnist")):
            found = settings(run)
            assert found["data"] == "mnist"
            assert found["epochs"] == 100


def test_names_of_budgets() -> None:
    for eps in (0.0, 2 / 255, 8 / 255, 0.1, 0.4):
        assert radius(f"{named(eps)}/seed0") == pytest.approx(eps)
    assert label(named(8 / 255)) == "ε = 8/255"
    assert label("eps=0.1/seed0") == "ε = 0.1"


# -- everything, at smoke scale --------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Made], Path]:
    folder = tmp_path_factory.mktemp("liu2020")
    made = make_figures(FIGURES, "smoke", out=folder / "out", cache=folder / "cache")
    return {m.figure.short: m for m in made}, folder


@pytest.mark.parametrize("name", EXPECTED)
def test_smoke(name: str, smoke: tuple[dict[str, Made], Path]) -> None:
    made, figure = smoke[0][name], BY_NAME[name]
    assert not made.failed
    assert all(path.stat().st_size > 0 for path in made.paths)
    report = json.loads(Path(made.paths[-1]).read_text())
    assert len(report["claims"]) == len(figure.claims) > 0
    assert {c["outcome"] for c in report["claims"]} == {OPEN}  # no number means anything
    results = load_all(next(path for path in made.paths if path.suffix == ".h5"))
    assert results
    for key, result in results.items():
        numbers = [
            value
            for f in result.fields()
            if isinstance(value := getattr(result, f.name), np.ndarray)
            and value.dtype.kind == "f"
            and value.size
        ]
        assert any(np.isfinite(value).any() for value in numbers), key


def test_tables_have_a_csv(smoke: tuple[dict[str, Made], Path]) -> None:
    for name, rows in (("table1", 4), ("table2", 5)):
        path = next(p for p in smoke[0][name].paths if p.suffix == ".csv")
        assert len(list(csv.reader(path.open()))) == rows + 1


def test_square_only_lowers_the_robust_accuracy(smoke: tuple[dict[str, Made], Path]) -> None:
    scale = Scale("smoke")
    run = Cache(smoke[1] / "cache").get(trained(scale, LENET, 0.2, 0))
    few, more = (
        quantities.held_out_errors(run, attacks=["fgsm"], queries=queries) for queries in (0, 50)
    )
    assert few.at("clean", "error") == more.at("clean", "error")
    assert few.at("clean", "error") <= few.at("robust", "error") <= more.at("robust", "error")
    metrics = run.metrics("final")
    assert few.at("clean", "error") == pytest.approx(100 * (1 - metrics["test_accuracy"]))


def test_curves_end_at_the_networks(smoke: tuple[dict[str, Made], Path]) -> None:
    scale, cache = Scale("smoke"), Cache(smoke[1] / "cache")
    one, other = (cache.get(trained(scale, RESNET, 0.0, seed)) for seed in (0, 1))
    found = quantities.connected(one, other, order=2, points=3, n=40)
    ends = [run.objective("final", split="train", n=40).value().loss for run in (one, other)]
    np.testing.assert_allclose(found.train_loss[0, [0, -1]], ends, rtol=1e-5)
    assert found.order == 2


# -- claims ----------------------------------------------------------------------------------------
#
# For every figure numbers for which the paper's claims are true, and numbers for which they are
# false. A seed k differs a little from the others, so that intervals have a length.


def by_eps(value: Callable[[int, float], Any], eps: Sequence[float] = EPS) -> dict[str, Any]:
    """``value(i, wobble)`` for the i-th budget."""
    return {f"{named(e)}/seed{k}": value(i, 1 + 0.01 * k) for i, e in enumerate(eps) for k in SEEDS}


def found(content: dict[str, Any], scale: Scale = DIGITS) -> Found:
    return Found(scale, content)


def track(early: float, late: float, error: float, distance: float, failed: bool) -> Any:
    n = 20
    constant = np.array([True, failed])
    rows = np.r_[np.full(n, early), np.full(n, late)]
    return SimpleNamespace(
        history=SimpleNamespace(constant_classifier=constant),
        track=SimpleNamespace(
            window=np.repeat([0, 1], n),
            gradient_norm=rows,
            error=np.r_[np.linspace(0.9, error, n), np.full(n, 0.1)],
            distance=np.r_[np.linspace(0, distance, n), np.full(n, 3.0)],
        ),
    )


def minibatches(true: bool) -> Found:
    def one(i: int, w: float) -> Any:
        j = i if true else 2 - i  # false: the budgets the other way round, gradients that stay
        vanilla = 0.01 if true else 0.5
        late = w * ([vanilla, 0.3, 0.6][j] if true else [0.6, 0.3, 0.02][i])
        return track(w * (1.5 - 0.5 * j), late, w * 0.2 * (j + 1), w * (3 - j), true and i == 2)

    return found(by_eps(one))


def spectra(true: bool) -> Found:
    def one(i: int, w: float) -> Any:
        j = i if true else 2 - i
        loss = 2.3 if true else 2.3 + i
        values = w * (1 + 10 * j) / np.arange(1, 21) * loss**2
        return SimpleNamespace(eigenvalues=values, normaliser=Estimate(loss, 0.01, 10))

    return found(by_eps(one))


def cosines(true: bool) -> Found:
    a, direction = np.linspace(0, 0.5, 6), np.array(["eigen", "random"])

    def one(i: int, w: float) -> Any:
        low, high = 1 - w * a, 1 - 0.05 * w * a
        steep, flat = 0.2 + w * a, np.full(6, 0.2) + 0.001 * w * a
        rows = (low, high) if true else (high, low)
        ends = (steep, flat) if true else (flat, steep)
        shift = 0.01 if true else 0.5  # between the draws
        errors = {k: np.stack([e, e]) for k, e in zip(direction, ends, strict=True)}
        return SimpleNamespace(
            a=a,
            direction=direction,
            cosine=np.stack([np.stack([r, r - shift]) for r in rows]),
            mean_error=errors.__getitem__,
            floor=0.7,
        )

    return found(by_eps(one, EPS[1:]))


def error(robust: float, clean: float = 5.0) -> Any:
    return sheet({"clean": [clean], "robust": [robust]}, ["error"], "%")


def learning_rates(true: bool) -> Found:
    constant, scheduled = (70.0, 60.0, 90.0), (61.0, 55.0, 62.0)
    content = {}
    for budget in (CONST, COS, LIN):
        row = scheduled if (budget != CONST) == true else constant
        for lr, value in zip((3e-4, 1e-3, 1e-2), row, strict=True):
            for k in SEEDS:
                content[f"{budget}/lr={lr:g}/seed{k}"] = error(value + 0.1 * k)
    return found(content)


def warm_ups(true: bool) -> Found:
    usual, larger = (70.0, 70.5, 71.0), (60.0, 61.0, 90.0)
    if not true:  # all fail alike, and the usual one is better than any warm-up of ε
        usual, larger = (40.0, 60.0, 50.0), (90.0, 90.0, 90.0)
    content = {
        f"warm-up/lr={lr:g}/seed{k}": error(row[k])
        for lr, row in ((1e-3, usual), (1e-2, larger))
        for k in SEEDS
    }
    for budget in (COS, LIN):
        for lr in (1e-3, 1e-2):
            for k in SEEDS:
                base = 62.0 if true else 80.0
                content[f"{budget}/lr={lr:g}/seed{k}"] = error(base + 0.1 * k + 100 * lr)
    return found(content)


def spread(true: bool) -> Found:
    """As ``warm_ups``, with deviations at larger learning rates that are larger for every seed."""
    content = {}
    for lr, step in ((1e-3, 0.1), (1e-2, 10.0)) if true else ((1e-3, 10.0), (1e-2, 0.1)):
        for k, factor in enumerate((-1.2, 0.0, 1.0, -1.0, 1.1)):
            content[f"warm-up/lr={lr:g}/seed{k}"] = error(70 + step * factor)
    return found(content)


def widths(true: bool) -> Found:
    content = {}
    for budget in (CONST, COS, LIN):
        bad = (budget == CONST) == true
        for width, value in ((1, 90.0 if bad else 70.0), (4, 65.0 if bad else 60.0)):
            for k in SEEDS:
                content[f"{budget}/w={width}/seed{k}"] = error(value + 0.1 * k)
    return found(content)


def histories(true: bool) -> Found:
    def one(i: int, w: float) -> Any:
        j = i if true else 2 - i
        top = 2.3 if true else 2.3 + 3 * i
        losses = w * np.linspace(top, 0.1 + 0.6 * j if true else 0.1, 10)
        return SimpleNamespace(history=SimpleNamespace(train_loss=losses))

    rows = by_eps(one)
    return found({f"{family}/{n}": r for family in ("resnet", "lenet") for n, r in rows.items()})


def bowls(true: bool) -> Found:
    x = y = np.linspace(-0.5, 0.5, 5)

    def one(i: int, w: float) -> Any:
        j = i + 1 if true else 3 - i
        a, b = w * 10.0 * j, w * 4.0 * j
        loss = 0.3 + 0.5 * (a * x[None, :] ** 2 + b * y[:, None] ** 2)
        return SimpleNamespace(x=x, y=y, loss=loss)

    rows = by_eps(one)
    return found({f"{family}/{n}": r for family in ("resnet", "lenet") for n, r in rows.items()})


def paths(true: bool) -> Found:
    def one(i: int, w: float) -> Any:
        j = i if true else 2 - i
        return SimpleNamespace(barrier=np.array([w * (0.01 + 0.2 * j), 3.0]))

    rows = by_eps(one)
    return found({f"{family}/{n}": r for family in ("resnet", "lenet") for n, r in rows.items()})


def schedulers(true: bool) -> Found:
    content = {}
    for family, kinds in (
        ("lenet", ("whole",)),
        ("vgg", ("whole", "periods")),
        ("resnet", ("whole", "periods")),
    ):
        for kind in kinds:
            for budget in (CONST, COS, LIN):
                for k in SEEDS:
                    value = 50.0 + 5 * ((budget == CONST) == true)
                    value += 10 * ((kind == "whole") == true) + 20 * ((family == "vgg") == true)
                    content[f"{family}/{budget}/{kind}/seed{k}"] = error(
                        value + 0.1 * k, 0.5 * value + 0.1 * k
                    )
    return found(content, PAPER)


def closed_form(name: str) -> Found:
    return found(
        {key: work.function(**work.settings) for key, work in BY_NAME[name].plan(DIGITS).items()}
    )


def changed(name: str) -> Found:
    """Closed forms with their values in the opposite order: false where anything depends on it."""
    content = {}
    for key, result in closed_form(name).items():
        values = result.value if hasattr(result, "value") else result.y
        turned = values[:, ::-1] + 0.01 if hasattr(result, "y") else values + 1
        changes = {"value" if hasattr(result, "value") else "y": turned.copy()}
        content[key] = dataclasses.replace(result, **changes)
    return found(content)


# Figure, numbers, and the outcomes of its claims in their order.
CASES: list[tuple[str, Found, list[str]]] = [
    ("fig1", minibatches(True), [HOLDS] * 7),
    ("fig1", minibatches(False), [FAILS] * 6 + [OPEN]),
    ("fig8", minibatches(True), [HOLDS] * 7),
    ("fig8", minibatches(False), [FAILS] * 6 + [OPEN]),
    ("fig2", spectra(True), [HOLDS] * 4),
    ("fig2", spectra(False), [FAILS] * 4),
    ("fig9", spectra(True), [HOLDS] * 4),
    ("fig9", spectra(False), [FAILS] * 4),
    ("fig3", cosines(True), [HOLDS] * 5),
    ("fig3", cosines(False), [FAILS] * 5),
    ("fig10", cosines(True), [HOLDS] * 5),
    ("fig10", cosines(False), [FAILS] * 5),
    ("fig4", learning_rates(True), [HOLDS] * 4),
    ("fig4", learning_rates(False), [FAILS] * 4),
    ("fig11", histories(True), [HOLDS] * 2),
    ("fig11", histories(False), [FAILS] * 2),
    ("fig12", bowls(True), [HOLDS] * 2),
    ("fig12", bowls(False), [FAILS] * 2),
    ("fig13", warm_ups(True), [HOLDS, OPEN, HOLDS]),  # one outlier of three is no evidence
    ("fig13", warm_ups(False), [FAILS, OPEN, FAILS]),
    ("fig14", widths(True), [HOLDS] * 2),
    ("fig14", widths(False), [FAILS] * 2),
    ("fig15", paths(True), [HOLDS] * 3),
    ("fig15", paths(False), [FAILS] * 3),
    ("table1", schedulers(True), [HOLDS] * 5),
    ("table1", schedulers(False), [FAILS] * 5),
    # What is wrong in print: Theorem 3 for the loss of eq. 6, and Theorem 2.
    ("fig5", closed_form("fig5"), [HOLDS] * 7 + [FAILS, HOLDS, FAILS]),
    ("fig6", closed_form("fig6"), [HOLDS] * 3),
    ("fig6", changed("fig6"), [FAILS] * 3),
    ("fig7", closed_form("fig7"), [HOLDS] * 2),
    ("fig7", changed("fig7"), [FAILS] * 2),
    ("table2", closed_form("table2"), [HOLDS] * 4),
]


@pytest.mark.parametrize(
    ("name", "numbers", "outcomes"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
def test_checks_of_claims(name: str, numbers: Found, outcomes: list[str]) -> None:
    claims = BY_NAME[name].claims
    got = [(claim.text, claim.check(numbers).outcome) for claim in claims]
    assert got == [(c.text, o) for c, o in zip(claims, outcomes, strict=True)]


def test_every_figure_has_its_cases() -> None:
    assert {case[0] for case in CASES} == {*BY_NAME}
    assert (
        {*figures("liu2020")}
        == {f"liu2020/{name}" for name in BY_NAME}
        == {
            *(f"liu2020/fig{k}" for k in range(1, 16)),
            "liu2020/table1",
            "liu2020/table2",
        }
    )


def test_spread_at_larger_learning_rates() -> None:
    from landscape.papers.liu2020.schedulers import less_steady

    assert less_steady(spread(True)).effect > 0 > less_steady(spread(False)).effect


def test_one_wrong_closed_form_is_noticed() -> None:
    """Each number of Fig. 5 that a claim rests on, spoilt."""
    spoilt = {
        sketch.within_band: ("small", "searched worst"),
        sketch.wider: ("large", "worst"),
        sketch.not_smooth: ("kinks", "jump of the slope"),
        sketch.sharper: ("kinks", "jump of the slope"),
        sketch.proposition2: ("kinks", "bound"),
        sketch.proposition1: ("regions", "share in V"),
        sketch.theorem1: ("regions", "lost from T"),
        sketch.theorem3_printed: ("curvature", "largest eq. 29"),
    }
    for check, (key, curve) in spoilt.items():
        numbers = closed_form("fig5")
        assert check(numbers).outcome == HOLDS
        row = list(numbers[key].curve).index(curve)
        y = numbers[key].y.copy()
        y[row] = -1.0 - y[row] if curve != "lost from T" else 0.1
        other = dataclasses.replace(numbers[key], y=y)
        assert check(found({**dict(numbers), key: other})).outcome == FAILS, check.__name__


def test_wrong_sizes_are_noticed() -> None:
    content = closed_form("table2")["networks"]
    wrong = found(
        {"networks": dataclasses.replace(content, value=np.roll(content.value, 1, axis=0))}
    )
    outcomes = [claim.check(wrong).outcome for claim in BY_NAME["table2"].claims]
    assert outcomes == [FAILS] * 4


# -- closed forms against independent oracles ------------------------------------------------------


def test_fig5_against_its_formula() -> None:
    for eps in sketch.EPS:
        content = sketch.band(eps=eps)
        theta = content.x
        np.testing.assert_allclose(content.of("clean"), np.log1p(np.exp(theta)), rtol=1e-12)
        worst = np.log1p(np.exp(theta + eps * np.abs(theta)))
        np.testing.assert_allclose(content.of("worst"), worst, rtol=1e-12)
    # Slopes on both sides of 0: (1 ± ε)/2.
    np.testing.assert_allclose(sketch.kinks().of("jump of the slope"), sketch.kinks().x, atol=1e-6)


def test_curvature_of_eq6_against_finite_differences() -> None:
    x = np.array([[1.0, 1.0], [2.0, 0.0], [1.5, 1.5], [0.6, 2.0]])

    def loss(w: np.ndarray, eps: float) -> float:
        return float(np.log1p(np.exp(-x @ w + eps * np.abs(w).sum())).mean())

    content, h = sketch.curvature(), 1e-4
    for k, eps in enumerate(content.x):
        hessian = np.empty((2, 2))
        for i in range(2):
            for j in range(2):
                a, b = h * np.eye(2)[i], h * np.eye(2)[j]
                w = np.array([0.7, 0.3])
                values = [loss(w + s * a + t * b, eps) * s * t for s in (1, -1) for t in (1, -1)]
                hessian[i, j] = sum(values) / (4 * h * h)
        low, high = np.linalg.eigvalsh(hessian)
        assert content.of("smallest eq. 6")[k] == pytest.approx(low, abs=1e-6)
        assert content.of("largest eq. 6")[k] == pytest.approx(high, abs=1e-6)


def test_theorem_2_against_linear_programming() -> None:
    """The largest probability of g > γ over all laws of g on a grid with E[g²/2 − 2g] ≤ 0."""
    content = sketch.probability()
    for gamma, attained in zip(content.x, content.of("attained"), strict=True):
        g = np.union1d(np.linspace(0, 40, 801), [2.0, gamma])
        found = optimize.linprog(
            -(g >= gamma).astype(float),
            A_ub=[g**2 / 2 - 2 * g],
            b_ub=[0.0],
            A_eq=[np.ones_like(g)],
            b_eq=[1.0],
        )
        assert -found.fun == pytest.approx(attained, abs=1e-6)
    assert (content.of("attained") > content.of("Theorem 2")).all()


def test_budgets_against_equation_5() -> None:
    d = 100.0
    content = schedules.radii(family="lenet", resets=False)
    t = content.x
    cosine = np.clip(0.5 * (1 - np.cos(t / d * np.pi)) * 0.6, 0, 0.4)
    linear = np.clip(0.8 * t / d, 0, 0.4)
    np.testing.assert_allclose(content.of("cosine"), cosine, atol=1e-12)
    np.testing.assert_allclose(content.of("linear"), linear, atol=1e-12)
    periodic = schedules.radii(family="resnet", resets=True)
    start = np.select([periodic.x < 100, periodic.x < 150], [0.0, 100.0], 150.0)
    length = np.where(periodic.x < 100, 100.0, 50.0)
    part = np.minimum((periodic.x - start) / length, 1)
    linear = np.clip(16 / 255 * part, 0, 8 / 255)
    np.testing.assert_allclose(periodic.of("linear"), linear, atol=1e-12)


def test_sizes_against_counting_by_hand() -> None:
    content = tables.architectures()
    lenet = 5 * 5 * 32 + 32 + 5 * 5 * 32 * 64 + 64 + 3136 * 1024 + 1024 + 1024 * 10 + 10
    assert content.at("MNIST, LeNet-16", "parameters") == lenet
    channels = [3, *(8 * c for c in (4, 4, 8, 8, 16, 16, 16, 32, 32, 32, 32, 32, 32))]
    pairs = itertools.pairwise(channels)
    vgg = sum(9 * a * b + b + 2 * b for a, b in pairs) + 256 * 10 + 10
    assert content.at("CIFAR-10, VGG-8", "parameters") == vgg
    assert content.at("CIFAR-10, ResNet18-16", "parameters") == 11_173_962  # the usual one
    assert content.at("digits, LeNet-4", "parameters") == 22_634
