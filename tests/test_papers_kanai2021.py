"""Figures and tables of kanai2021: hyperparameters in print, closed forms, checks of claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit

from landscape.diagnostics.analytic import Logistic
from landscape.papers import Found, Scale, figures, make_figures
from landscape.papers.claims import FAILS, HOLDS, OPEN
from landscape.papers.kanai2021 import toys
from landscape.papers.kanai2021.bowl import Bowl
from landscape.papers.kanai2021.checks import close, whatever, within
from landscape.papers.kanai2021.learning import passes
from landscape.papers.kanai2021.setting import AT, MAIN, TRADES, settings, trained
from landscape.papers.kinds import curves, sheet
from landscape.random import Streams
from landscape.results import load_all
from landscape.running.work import Run

FIGURES = figures("kanai2021")
PAPER, DIGITS = Scale("paper"), Scale("digits")

# -- hyperparameters, typed from App. E and F.2 ----------------------------------------------------

# Per data set and network: ε, step size, learning rate, mean and standard deviation of the
# channels; L of EntropySGD and with AWP; γ_A of AWP and with EntropySGD; epochs before they begin.
_C10 = ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))
_C100 = (
    (0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
    (0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
)
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_AS_IS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
IN_PRINT = {
    ("cifar10", "resnet18"): (8 / 255, 2 / 255, 0.1, _C10, 20, 30, 0.01, 0.005, 0),
    ("cifar10", "wrn-34-10"): (8 / 255, 2 / 255, 0.1, _C10, 30, 30, 0.01, 0.005, 0),
    ("svhn", "resnet18"): (8 / 255, 1 / 255, 0.01, _HALF, 30, 30, 0.01, 0.005, 5),
    ("cifar100", "resnet18"): (8 / 255, 2 / 255, 0.1, _C100, 30, 30, 0.01, 0.007, 0),
}
IN_PRINT_TRADES = (0.031, 0.003, 0.1, _AS_IS, 20, 30, 0.005, 0.005, 10)


def as_printed(config: Mapping[str, Any]) -> None:
    """Compare a resolved configuration with the text of the appendix."""
    method = config["method"]
    trades = method["name"].startswith("trades")
    awp, walk = "awp" in method["name"], "entropysgd" in method["name"]
    key = (config["data"]["name"], config["model"]["name"])
    row = IN_PRINT_TRADES if trades else IN_PRINT[key]
    eps, step, lr, normalize, walks, walks_awp, gamma, gamma_walk, start = row
    attack = method["perturbation"]
    found = attack["eps"], attack["step_size"], attack["steps"], attack["norm"]
    assert found == (pytest.approx(eps), pytest.approx(step), 10, "linf")
    assert attack["start"] == ("gaussian" if trades else "uniform")
    for judge in (config["validation_attack"], config["evaluation"]):
        found = judge["eps"], judge["step_size"], judge["steps"], judge["norm"]
        assert found == (pytest.approx(eps), pytest.approx(step), 20, "linf")
    assert np.array(config["model"]["normalize"]) == pytest.approx(np.array(normalize))
    assert config["epochs"] == 200
    schedule, optimiser = config["schedule"], config["optimiser"]
    assert (schedule["schedule"], schedule["milestones"]) == ("step", [100, 150])
    assert (schedule["factor"], optimiser["lr"]) == (0.1, lr)
    assert (optimiser["momentum"], optimiser["weight_decay"]) == (0.9, 0.0005)
    assert ("weights" in method, "descent" in method) == (awp, walk)
    if awp:
        # Fig. 6 has γ_A = .005 with SGD as well.
        allowed = {gamma_walk} if walk else {gamma, 0.005}
        assert method["weights"]["gamma"] in allowed
        assert method["weights"]["warmup"] == start
    if walk:
        descent = method["descent"]
        assert descent["part"] == method["name"].split("+")[-1]
        assert descent["steps"] == (walks_awp if awp else walks)
        assert (descent["scope"], descent["noise"]) == (0.03, 1e-4)
        assert descent["inner_lr"] * lr == pytest.approx(0.1)
        # TRADES alone has no epochs without EntropySGD.
        assert descent["start"] == (0 if trades and not awp else start)
        if not (trades and awp):
            assert (descent["average"], descent["until"]) == (0.75, None)
        else:
            assert (descent["average"], descent["until"]) in ((0.3, None), (0.75, 150))


_MAIN = ["pgd", "pgd+entropysgd", "pgd+awp", "pgd+awp+entropysgd"]
_RN18 = ("cifar10", "resnet18")
# Which trainings a figure rests on: data and network, methods; three seeds each.
TRAININGS: dict[str, list[tuple[tuple[str, str], list[str]]]] = {
    "fig1": [],
    "fig2": [],
    "fig3": [(_RN18, _MAIN)],
    "fig4": [],
    "fig5": [],
    "fig6": [(_RN18, [*_MAIN, "pgd+awp"])],
    "fig7": [(_RN18, _MAIN)],
    "table1": [(key, _MAIN) for key in IN_PRINT],
    "table2": [
        (
            ("cifar10", "wrn-34-10"),
            ["trades", "trades+entropysgd", "trades+awp"] + 2 * ["trades+awp+entropysgd"],
        )
    ],
    "table3": [(key, [*_MAIN, "pgd+entropysgd2", "pgd+awp+entropysgd2"]) for key in IN_PRINT],
}


@pytest.mark.parametrize("name", TRAININGS)
def test_paper_scale_is_the_papers(name: str) -> None:
    runs = FIGURES[f"kanai2021/{name}"].runs(PAPER)
    configs = [run.config().to_dict() for run in runs]
    for config in configs:
        as_printed(config)
    found = sorted(
        (c["data"]["name"], c["model"]["name"], c["method"]["name"], c["seed"]) for c in configs
    )
    expected = sorted(
        (*key, method, seed)
        for key, methods in TRAININGS[name]
        for method in methods
        for seed in range(3)
    )
    assert found == expected


def test_paper_scale_measures_as_the_paper() -> None:
    """Fig. 7: α from −1 to 1 by .1 under PGD-20. Tables: AutoAttack on all data, or PGD-20."""
    for work in FIGURES["kanai2021/fig7"].plan(PAPER).values():
        assert work.settings["x"] == (-1.0, 1.0, 21)
        assert (work.settings["attack"], work.settings["n"]) == ("pgd-20", None)
    plan = FIGURES["kanai2021/table3"].plan(PAPER)
    for name, work in plan.items():
        if "(AA" in name:
            assert work.settings["autoattack"]
            assert work.settings["n"] is None
        else:
            assert isinstance(work, Run)
    assert {name.partition("/")[0] for name in plan} == {
        "CIFAR10 (AA, RN18)",
        "CIFAR10 (AA, WRN)",
        "SVHN (PGD, RN18)",
        "CIFAR100 (PGD, RN18)",
    }


def test_gammas_of_awp_and_the_tuned_variant() -> None:
    gammas = [
        run.config().to_dict()["method"]["weights"]["gamma"]
        for run in FIGURES["kanai2021/fig6"].runs(PAPER)
        if run.method == "pgd+awp"
    ]
    assert sorted(gammas) == [0.005] * 3 + [0.01] * 3
    tuned = trained(PAPER, "+AWP+EnSGD (tuned)", 0).config().to_dict()["method"]["descent"]
    plain = trained(PAPER, "+AWP+EnSGD", 0).config().to_dict()["method"]["descent"]
    assert (tuned["average"], tuned["until"], tuned["start"]) == (0.75, 150, 10)
    assert (plain["average"], plain["until"], plain["start"]) == (0.3, None, 10)


def test_digits_compares_like_with_like() -> None:
    """SGD and EntropySGD differ in the walk alone, and figures share their trainings."""
    for name in ("AT", "AWP"):
        sgd, walk = (trained(DIGITS, n, 0).config().to_dict() for n in (name, f"{name}+EnSGD"))
        for part in ("optimiser", "schedule", "epochs", "batch_size", "model", "data"):
            assert sgd[part] == walk[part]
    tuned = trained(DIGITS, "+AWP+EnSGD (tuned)", 0).config().to_dict()
    assert tuned["method"]["descent"]["until"] == tuned["schedule"]["milestones"][1]
    every = {r.digest for f in FIGURES.values() for r in f.runs(DIGITS)}
    assert len(every) == 3 * (len(AT) + 1 + len(TRADES))


# -- everything runs -------------------------------------------------------------------------------


def test_every_figure_is_made_at_smoke_scale(tmp_path: Path) -> None:
    made = make_figures(
        list(FIGURES.values()), "smoke", out=tmp_path / "out", cache=tmp_path / "cache"
    )
    assert [one.figure.name for one in made] == list(FIGURES)
    for one in made:
        assert one.report is not None, one.failed
        assert all(path.stat().st_size > 0 for path in one.paths)
        assert len(one.report["claims"]) == len(one.figure.claims) > 0
        assert {claim["outcome"] for claim in one.report["claims"]} == {OPEN}
        assert ("csv" in {p.suffix[1:] for p in one.paths}) == (one.figure.table is not None)
        for name, result in load_all(one.paths[2]).items():
            numbers = [
                values
                for values in (getattr(result, field.name) for field in result.fields())
                if isinstance(values, np.ndarray) and values.dtype.kind == "f"
            ]
            assert any(np.isfinite(values).any() for values in numbers), name


# -- the worst inputs of Fig. 1 --------------------------------------------------------------------

BOWL = Bowl(np.array([[1.0, 0.35], [0.35, 0.6]]), 0.5)
X, EPS = np.array([1.0, 1.0]), 0.6


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("theta", [(2.1, 1.2), (0.2, 2.5), (1.1, 0.8), (1.0, 3.0), (-1.0, -1.0)])
def test_worst_input_is_the_best_of_a_fine_grid(theta: tuple[float, float], norm: str) -> None:
    axis = np.linspace(-EPS, EPS, 1201)
    delta = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    if norm == "l2":
        turn = np.linspace(0, 2 * np.pi, 20001)
        inside = delta[np.hypot(*delta.T) <= EPS]
        delta = np.concatenate([inside, EPS * np.stack([np.cos(turn), np.sin(turn)], -1)])
    best = delta[BOWL.loss(X + delta, np.array(theta)).argmax()]
    worst = BOWL.worst(np.array(theta), X, EPS, norm) - X
    assert np.linalg.norm(worst, 2 if norm == "l2" else np.inf) <= EPS + 1e-9
    assert worst == pytest.approx(best, abs=2e-3)


@pytest.mark.parametrize(("theta", "inside"), [((2.1, 1.2), False), ((1.1, 0.8), True)])
def test_bound_is_that_of_the_bordered_hessian(theta: tuple[float, float], inside: bool) -> None:
    """Against torch's second derivatives of the Lagrange function of eq. 20."""
    at = torch.tensor(theta, dtype=torch.float64)
    worst = BOWL.worst(np.array(theta), X, EPS, "l2")
    x, a = torch.as_tensor(X), torch.as_tensor(BOWL.matrix)

    def loss(point: Any, theta: Any) -> Any:
        d = point - theta
        return torch.nn.functional.softplus(BOWL.depth - d @ a @ d / 2)

    point = torch.as_tensor(worst)
    full = torch.autograd.functional.hessian(loss, (point, at))
    mixed = torch.linalg.matrix_norm(full[0][1], 2)
    if inside:
        smallest = torch.linalg.svdvals(full[0][0])[-1]
    else:
        slope = torch.autograd.functional.jacobian(lambda p: loss(p, at), point)

        def lagrange(v: Any) -> Any:
            return loss(v[1:], at) - v[0] * ((v[1:] - x).norm() - EPS)

        extended = torch.cat([slope.norm()[None], point])
        border = torch.autograd.functional.hessian(lagrange, extended)
        assert torch.det(border) > 0  # a maximum
        smallest = torch.linalg.svdvals(border)[-1]
    expected = float(mixed / smallest)
    assert BOWL.bound(np.array(theta), worst, X, EPS, "l2") == pytest.approx(expected)


def test_paths_of_linear_models() -> None:
    way = {
        norm: toys.path(
            model="linear", norm=norm, start=(1, 0.5), end=(1, -0.5), points=100, x=X, eps=EPS
        )
        for norm in ("l2", "linf")
    }
    theta = np.stack([way["l2"].of("θ₁"), way["l2"].of("θ₂")], -1)
    unit = theta / np.linalg.norm(theta, axis=1, keepdims=True)
    found = np.stack([way["l2"].of("x'₁"), way["l2"].of("x'₂")], -1)
    assert found == pytest.approx(X - EPS * unit)
    assert {*way["linf"].of("x'₁")} == {0.4}
    assert sorted({*way["linf"].of("x'₂")}) == pytest.approx([0.4, 1.6])


# -- the surfaces of Figs. 2, 4 and 5 --------------------------------------------------------------


def test_kinks_jump_by_what_the_norm_says() -> None:
    """∂ε‖θ‖₁ jumps by 2ε across an axis, weighted by the sigmoid of the exponent."""
    found = toys.kinks(model="linear", norm="linf", points=9, h=1e-5)
    for t, jump in zip(found.x, np.asarray(found.y)[:, 4], strict=True):  # θ₁ = 0, θ₂ = t
        if t:
            expected = 2 * 0.6 * expit(0.6 * abs(t) - t)
            assert jump == pytest.approx(expected, rel=1e-3)
    smooth = toys.kinks(model="linear", norm="clean", points=9, h=1e-5)
    assert smooth.y.max() < 1e-4
    # Rows are θ₂: at θ₂ = 0 the jump depends on θ₁ otherwise than at θ₁ = 0 on θ₂.
    assert np.asarray(found.y)[4, 8] == pytest.approx(1.2 * expit(1.2 + 2), rel=1e-3)


def test_attack_is_inside_where_swish_has_its_minimum() -> None:
    """On θ₁ > 0 > θ₂ with s = θ₁ − θ₂: u from −1.6 s to −.4 s, swish's minimum at −1.278."""
    found = toys.attack_inside(points=41, norm="linf")
    first, second = np.meshgrid(found.x, found.x)
    quadrant = (first > 0) & (second < 0)
    s = (first - second)[quadrant]
    expected = (0.4 * s < 1.2784645) & (1.6 * s > 1.2784645)
    assert (np.asarray(found.y)[quadrant] == expected).all()


def test_lowest_points_and_curvatures() -> None:
    found = toys.smoothed(norms=("l2",), gammas=(10.0,), points=61, n=100)
    x = Streams(0, "kanai2021").normal("x", (100, 2)).numpy()
    loss = Logistic(x, np.sign(x[:, 0]), 0.6, "l2").loss
    best = minimize(loss, [1.0, 0.1], method="Nelder-Mead").x
    lowest = [found.at("l2, loss", f"lowest θ{k}") for k in "₁₂"]
    assert lowest == pytest.approx(list(best), abs=0.05)

    # −F by a plain sum over a fine grid, its curvature by differences.
    axis = np.linspace(-3, 3, 241)  # the kernel's width is .32
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    values = loss(grid)

    def minus_f(theta: np.ndarray) -> float:
        exponent = -values - 5.0 * ((grid - theta) ** 2).sum(-1)
        return -math.log(np.exp(exponent).sum() * (axis[1] - axis[0]) ** 2)

    h, e = 1e-2, np.eye(2)
    hessian = np.array(
        [
            [
                minus_f(h * (e[i] + e[j]))
                - minus_f(h * (e[i] - e[j]))
                - minus_f(h * (e[j] - e[i]))
                + minus_f(-h * (e[i] + e[j]))
                for j in (0, 1)
            ]
            for i in (0, 1)
        ]
    ) / (4 * h * h)
    largest = found.at("l2, γ=10", "largest curvature")
    # Largest near θ = 0, where the kink is, if not exactly there.
    assert 0.95 * largest < np.linalg.eigvalsh(hessian).max() < 1.001 * largest


# -- what the checks make of numbers ---------------------------------------------------------------


def outcome(name: str, start: str, content: Mapping[str, Any]) -> str:
    """Of the claim whose text begins so."""
    (claim,) = [c for c in FIGURES[f"kanai2021/{name}"].claims if c.text.startswith(start)]
    verdict = claim.check(Found(DIGITS, dict(content)))
    assert verdict.numbers
    return verdict.outcome


def test_within_close_and_whatever() -> None:
    assert within([1.0, 1.02, 0.98], "", 0.9, 1.1).outcome == HOLDS
    assert within([1.5, 1.52, 1.48], "", 0.9, 1.1).outcome == FAILS
    assert within([0.5, 0.52, 0.48], "", 0.9, 1.1).outcome == FAILS
    assert within([0.5, 1.5, 1.0], "", 0.9, 1.1).outcome == OPEN
    assert within([1.0], "", 0.9, 1.1).outcome == OPEN
    one = [50.0, 51.0, 52.0]
    assert close(one, [v + 0.1 for v in one], "", 1.0, ("", "")).outcome == HOLDS
    assert close(one, [v + 5 for v in one], "", 1.0, ("", "")).outcome == FAILS
    said = {"a": "1", "b": "2"}
    assert whatever({"a": True, "b": True}, said).outcome == HOLDS
    assert whatever({"a": False, "b": False}, said).outcome == FAILS
    assert whatever({"a": True, "b": False}, said).outcome == OPEN


def test_claims_about_worst_inputs() -> None:
    found = {
        name: work.function(**{**work.settings, "points": 60})
        for name, work in FIGURES["kanai2021/fig1"].plan(Scale("smoke")).items()
    }
    for start in ("Under L2", "Under L∞", "Where the constraint", "On the edge"):
        assert outcome("fig1", start, found) == HOLDS
    swapped = {**found, "linear/l2": found["linear/linf"], "linear/linf": found["linear/l2"]}
    assert outcome("fig1", "Under L∞", swapped) == FAILS
    fast = way(speed=3.0, bound=1.0)
    assert outcome("fig1", "Under L2", {"linear/l2": fast}) == FAILS
    both = {"inactive/l2": fast, "inactive/linf": fast, "active/l2": fast}
    assert outcome("fig1", "Where the constraint", both) == FAILS
    assert outcome("fig1", "On the edge", both) == FAILS


def way(*, speed: float, bound: float) -> Any:
    t = np.linspace(0, 1, 5)
    return curves(t, {"speed": t * 0 + speed, "bound": t * 0 + bound})


def plane(value: Callable[[Any, Any], Any]) -> Any:
    """A map over the square, of θ₁ and θ₂."""
    axis, grid = toys.plane(13)
    values = np.asarray(value(grid[..., 0], grid[..., 1]), dtype=float)
    return curves(axis, {f"{v:.4f}": row for v, row in zip(axis, values, strict=True)})


ORIGIN = plane(lambda a, b: (a == 0) & (b == 0))
AXES = plane(lambda a, b: (a == 0) | (b == 0))
ONE_AXIS = plane(lambda a, b: a == 0)
NONE = plane(lambda a, b: 0 * a)
CORNER = plane(lambda a, b: (a > 1) & (b < -1))
OTHER_CORNER = plane(lambda a, b: (a < -1) & (b > 1))


@pytest.mark.parametrize(
    ("figure", "l2", "linf"),
    [
        ("fig2", "The L2 loss", "Its L∞ loss"),
        ("fig4", "The gradient of the L2", "That of the L∞"),
    ],
)
def test_claims_about_kinks(figure: str, l2: str, linf: str) -> None:
    for kinks, wanted in ((ORIGIN, HOLDS), (AXES, FAILS), (NONE, FAILS)):
        assert outcome(figure, l2, {"kinks/linear/l2": kinks}) == wanted
    for kinks, wanted in ((AXES, HOLDS), (ORIGIN, FAILS), (ONE_AXIS, FAILS)):
        assert outcome(figure, linf, {"kinks/linear/linf": kinks}) == wanted
    for change, wanted in ((1e-6, FAILS), (0.2, HOLDS)):
        jump = {f"gap/{n}": curves([0, 1], {"θ₁ = 0": [change] * 2}) for n in ("l2", "linf")}
        assert outcome(figure, "There the losses themselves", jump) == wanted


def test_claims_about_smooth_losses() -> None:
    assert outcome("fig4", "The clean loss", {"kinks/linear/clean": NONE}) == HOLDS
    assert outcome("fig4", "The clean loss", {"kinks/linear/clean": ORIGIN}) == FAILS
    for figure, start in (("fig2", "EntropySGD's loss has no"), ("fig5", "−F has no")):
        for kinks, wanted in ((NONE, HOLDS), (AXES, FAILS)):
            both = {f"kinks/linear -F/{n}": kinks for n in ("l2", "linf")}
            assert outcome(figure, start, both) == wanted


def test_claims_about_swish() -> None:
    for l2, linf, wanted in ((ORIGIN, AXES, HOLDS), (AXES, ORIGIN, FAILS), (AXES, AXES, FAILS)):
        kinks = {"kinks/swish/l2": l2, "kinks/swish/linf": linf}
        assert outcome("fig2", "With swish the L2", kinks) == wanted
    for kinks, smooth, unlike in ((OTHER_CORNER, HOLDS, FAILS), (CORNER, FAILS, HOLDS)):
        assert outcome("fig2", "(f) is smooth", {"kinks/swish/linf": kinks}) == smooth
        assert outcome("fig2", "There the linear", {"kinks/linear/linf": kinks}) == unlike
    for inside, wanted in ((CORNER, HOLDS), (OTHER_CORNER, FAILS)):
        assert outcome("fig2", "This is as the best", {"inside/linf": inside}) == wanted
    for above, wanted in ((1e-5, FAILS), (0.1, HOLDS), (-0.1, HOLDS)):
        surfaces = {
            f"{kind}/{n}": SimpleNamespace(loss=np.full((3, 3), value))
            for n in ("l2", "linf")
            for kind, value in (("surface/swish", 0.5 + above), ("pgd", 0.5))
        }
        assert outcome("fig2", "With swish the best", surfaces) == wanted


def smooth_sheet(curvature: Callable[[str, float], float], moved: Callable[[float], float]) -> Any:
    """``toys.smoothed``'s table, with the lowest point of the loss at (1, 0)."""
    rows: dict[str, list[Any]] = {}
    for norm in ("l2", "linf"):
        rows[f"{norm}, loss"] = [None, None, 1.0, 0.0]
        for gamma in (0.03, 1.0, 10.0, 100.0):
            steep = curvature(norm, gamma)
            rows[f"{norm}, γ={gamma:g}"] = [steep, 2.0, 1.0, moved(gamma)]
    return sheet(rows, ["largest curvature", "bound", "lowest θ₁", "lowest θ₂"])


@pytest.mark.parametrize("figure", ["fig2", "fig5"])
def test_claims_about_smoothing(figure: str) -> None:
    cases: list[tuple[Callable[[str, float], float], str, str]] = [
        (lambda norm, gamma: 1.0, HOLDS, HOLDS),
        (lambda norm, gamma: 1.0 if norm == "l2" else 1.5, FAILS, HOLDS),
        (lambda norm, gamma: 1.0 if norm == "l2" or gamma < 5 else 1.5, OPEN, HOLDS),
        (lambda norm, gamma: 3.0, HOLDS, FAILS),
    ]
    for curvature, alike, lipschitz in cases:
        found = {"smoothed": smooth_sheet(curvature, lambda gamma: 0.0)}
        assert outcome(figure, "Under both norms", found) == alike
        assert outcome(figure, "Its gradient is Lipschitz", found) == lipschitz


def test_claims_about_optima() -> None:
    cases: list[tuple[Callable[[float], float], str]] = [
        (lambda gamma: 0.05, HOLDS),
        (lambda gamma: 0.5, FAILS),
        (lambda gamma: 1 / gamma, OPEN),
    ]
    for moved, wanted in cases:
        found = {"smoothed": smooth_sheet(lambda norm, gamma: 1.0, moved)}
        assert outcome("fig5", "Its optimum", found) == wanted
    for second, wanted in ((0.02, HOLDS), (0.6, FAILS)):
        rows = {f"{n}, loss": [0.9, second] for n in ("l2", "linf")}
        draw = sheet(rows, ["lowest θ₁", "lowest θ₂"])
        draws = {f"draws/{k}": draw for k in range(4)}
        assert outcome("fig4", "The best θ₂", draws) == wanted


# Seeds differ by less than what the claims are about.
SCATTER = (0.0, 0.01, -0.01)


def learned(name: str, train: float, test: float, *, gamma: float | None = None) -> dict[str, Any]:
    """Stand-ins for three trainings with the configuration of a name: levels of accuracy."""
    found = {}
    for seed, shift in enumerate(SCATTER):
        run = trained(DIGITS, name, seed, gamma=gamma)
        config = run.config()
        epoch = np.arange(1, config.plan.epochs + 1)
        history = SimpleNamespace(
            epoch=epoch,
            train_accuracy=np.full(len(epoch), train + shift),
            val_robust_accuracy=np.full(len(epoch), test + shift),
            seconds=np.full(len(epoch), 2.0 + shift),
        )
        label = name if gamma is None else f"{name} (γ={gamma:g})"
        found[f"{label}/seed{seed}"] = SimpleNamespace(config=config, history=history)
    return found


def four(at: Any, at_walk: Any, awp: Any, awp_walk: Any) -> dict[str, Any]:
    found = {}
    for name, levels in zip(MAIN, (at, at_walk, awp, awp_walk), strict=True):
        found |= learned(name, *levels)
    return found


def test_claims_about_learning() -> None:
    as_said = four((0.9, 0.5), (0.8, 0.6), (0.6, 0.55), (0.7, 0.65))
    starts = ("EntropySGD accelerates", "EntropySGD achieves", "It alleviates", "With AWP")
    for start in starts:
        assert outcome("fig3", start, as_said) == HOLDS
    swapped = four((0.8, 0.6), (0.9, 0.5), (0.7, 0.65), (0.6, 0.55))
    for start in starts:
        assert outcome("fig3", start, swapped) == FAILS
    # Higher in test, but in training as well.
    assert outcome("fig3", "It alleviates", four((0.8, 0.5), (0.9, 0.6), (0, 0), (0, 0))) == FAILS


def test_claims_about_runtime() -> None:
    found = four(*[(0.5, 0.5)] * 4)
    assert outcome("fig3", "An epoch takes", found) == HOLDS
    assert outcome("fig3", "AT with EntropySGD is faster", found) == HOLDS
    for name, one in found.items():
        if name.startswith("AT+EnSGD"):
            one.history.seconds = 2 * one.history.seconds
    assert outcome("fig3", "An epoch takes", found) == FAILS
    dear = {
        name.replace("AWP/", "X/").replace("AT+EnSGD/", "AWP/").replace("X/", "AT+EnSGD/"): one
        for name, one in found.items()
    }
    assert outcome("fig3", "AT with EntropySGD is faster", dear) == FAILS


def test_passes_count_awp_from_its_start() -> None:
    """PGD-10: 11 forward and 11 backward; AWP another one of each after 5 epochs of 20."""
    plain, awp = (learned(name, 0, 0)[f"{name}/seed0"] for name in ("AT+EnSGD", "AWP"))
    assert passes(plain).tolist() == [22 * e for e in range(1, 21)]
    steps = [22] * 5 + [24] * 15
    assert passes(awp).tolist() == np.cumsum(steps).tolist()


def test_claims_about_smaller_weight_perturbations() -> None:
    small = learned("AWP", 0.5, 0.5, gamma=0.005)
    for level, wanted in ((0.6, HOLDS), (0.4, FAILS)):
        found = small | learned("AWP+EnSGD", level, level) | learned("AWP", level, level)
        assert outcome("fig6", "At γ = .005", found) == wanted
        assert outcome("fig6", "By SGD", found) == wanted
    mixed = small | learned("AWP+EnSGD", 0.4, 0.6)
    assert outcome("fig6", "At γ = .005", mixed) == FAILS


def lines(centre: float, rise: float) -> list[Any]:
    x = np.linspace(-1, 1, 21)
    return [
        SimpleNamespace(x=x, loss=(centre + rise * x**2)[None] + shift, centre_loss=centre + shift)
        for shift in SCATTER
    ]


def test_claims_about_flatness() -> None:
    def found(levels: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
        return {
            f"{split}/{name}/seed{seed}": one
            for split in ("train", "test")
            for name, (centre, rise) in levels.items()
            for seed, one in enumerate(lines(centre, rise))
        }

    sharp, flat, low = (1.0, 4.0), (1.0, 1.0), (0.5, 4.0)
    start = "EntropySGD does not"
    flatter = {"AT": sharp, "AT+EnSGD": flat, "AWP": sharp, "AWP+EnSGD": flat}
    assert outcome("fig7", start, found(flatter)) == FAILS
    assert outcome("fig7", start, found({**flatter, "AWP": flat, "AWP+EnSGD": sharp})) == HOLDS
    lower = {"AT": sharp, "AT+EnSGD": low, "AWP": sharp, "AWP+EnSGD": low}
    assert outcome("fig7", "Its training loss", found(lower)) == HOLDS
    swapped = {"AT": low, "AT+EnSGD": sharp, "AWP": low, "AWP+EnSGD": sharp}
    assert outcome("fig7", "Its training loss", found(swapped)) == FAILS


def measured(rows: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Evaluations of three seeds around a robust accuracy (%) per row and name."""
    return {
        f"{row}/{name}/seed{seed}": SimpleNamespace(accuracy=np.array([0.99, (v + shift) / 100]))
        for row, cells in rows.items()
        for name, v in cells.items()
        for seed, shift in enumerate(SCATTER)
    }


# Tables 1 and 3 in print.
PRINTED = {
    "CIFAR10 (AA, RN18)": (48.0, 49.2, 48.93, 49.9, 50.5, 50.4),
    "CIFAR10 (AA, WRN)": (51.9, 53.3, 53.5, 53.2, 54.72, 54.9),
    "SVHN (PGD, RN18)": (53.1, 59.1, 59.3, 59.3, 59.91, 59.9),
    "CIFAR100 (PGD, RN18)": (27.66, 28.69, 28.94, 30.95, 30.9, 30.7),
}
TABLE = {row: dict(zip(AT, cells, strict=True)) for row, cells in PRINTED.items()}


def test_claims_hold_for_the_tables_in_print() -> None:
    """Their means, with little scatter."""
    found = measured(TABLE)
    for start in (
        "AT with EntropySGD outperforms",
        "AWP with",
        "There the",
        "AT with EntropySGD is",
    ):
        assert outcome("table1", start, found) == HOLDS
    assert outcome("table3", "EntropySGD of second", found) == HOLDS
    trades = {"WRN": dict(zip(TRADES, (52.9, 53.4, 55.6, 55.8, 56.3), strict=True))}
    for start in ("TRADES with", "With AWP", "EntropySGD until"):
        assert outcome("table2", start, measured(trades)) == HOLDS


def test_claims_fail_for_tables_turned_around() -> None:
    turned = {row: dict(zip(AT, cells[::-1], strict=True)) for row, cells in PRINTED.items()}
    found = measured(turned)
    for start in ("AT with EntropySGD outperforms", "AWP with"):
        assert outcome("table1", start, found) == FAILS
    one = {"CIFAR10 (AA, RN18)": {**TABLE["CIFAR10 (AA, RN18)"], "AT+EnSGD": 40.0}}
    assert outcome("table1", "AT with EntropySGD is", measured(one)) == FAILS
    assert outcome("table3", "EntropySGD of second", measured(one)) == FAILS
    assert outcome("table1", "There the", measured(one)) == OPEN  # no CIFAR-100
    far = {"CIFAR100 (PGD, RN18)": {**TABLE["CIFAR100 (PGD, RN18)"], "AWP": 33.0}}
    assert outcome("table1", "There the", measured(far)) == FAILS
    trades = {"WRN": dict(zip(TRADES, (56.3, 55.8, 55.6, 53.4, 52.9), strict=True))}
    for start in ("TRADES with", "With AWP", "EntropySGD until"):
        assert outcome("table2", start, measured(trades)) == FAILS


def test_tables_have_a_row_per_setting() -> None:
    table = FIGURES["kanai2021/table3"].table
    assert table is not None
    content = table(Found(DIGITS, measured(TABLE)))
    assert list(content.row) == list(settings(PAPER))
    assert content.at("SVHN (PGD, RN18)", "AT+2ndEnSGD") == pytest.approx(59.3)
    assert content.error[0, 0] == pytest.approx(0.01)
    assert "3 seeds" in content.what
