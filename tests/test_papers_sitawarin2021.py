"""The figures of sitawarin2021: settings in print, smoke runs, checks of claims, closed forms."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from landscape.papers import Figure, Found, Scale, curves, figures, make_figures, sheet
from landscape.papers.claims import FAILS, HOLDS, OPEN
from landscape.papers.sitawarin2021 import schemes, theory, trajectories
from landscape.papers.sitawarin2021.along import EIGENVALUE, GRADIENT, TRACE, norms_along
from landscape.papers.sitawarin2021.schemes import COLUMNS
from landscape.papers.sitawarin2021.setting import COMPARED, larger, main
from landscape.papers.sitawarin2021.surfaces import curvature
from landscape.papers.sitawarin2021.table_claims import most_of
from landscape.results import load_all
from landscape.training.curricula import probability_gap

ALL = figures("sitawarin2021")
DIGITS = Scale("digits")
SEEDS = ("seed0", "seed1", "seed2")


def fig(name: str) -> Figure:
    return ALL[f"sitawarin2021/{name}"]


# -- the settings, typed from Appendix A ----------------------------------------------------------

CIFAR = {
    "epochs": 100,
    "batch": 128,
    "momentum": 0.9,
    "milestones": [40, 60, 80],
    "eps": 8 / 255,
    "alpha": 2 / 255,
    "steps": 10,
    "augmentation": "sat",
    "wd": 5e-4,
}
PRN20 = {**CIFAR, "data": "cifar10", "model": "preact-resnet20", "lr": 0.05}
WRN = {**CIFAR, "data": "cifar10", "model": "wrn-34-10", "lr": 0.1}
IMAGENETTE = {**CIFAR, "data": "imagenette", "model": "resnet34", "lr": 0.1}
MNIST = {
    "data": "mnist",
    "model": "mnist-cnn",
    "epochs": 70,
    "batch": 128,
    "momentum": 0.9,
    "lr": 0.01,
    "milestones": [40, 50, 60],
    "eps": 0.3,
    "alpha": 0.02,
    "steps": 40,
    "augmentation": "none",
    "wd": 5e-4,
}
CIFAR100 = {"data": "cifar100", "wd": 2e-4}
LINEAR_H = {"difficulty": ["linear", 0.8, [0, 30]]}


def steps_at(*epochs: int) -> dict[str, Any]:
    return {"difficulty": ["step", 0.0, list(epochs)]}


def defences(
    base: Mapping[str, Any],
    rises: Sequence[int],
    dat: int,
    h_sat: Mapping[str, Any] = LINEAR_H,
    names: str = "AT TRADES DAT CAT20 H-SAT P-SAT",
) -> list[dict[str, Any]]:
    own = {
        "AT": {"method": "pgd"},
        "TRADES": {"method": "trades", "beta": 6.0},
        "DAT": {"method": "dat", "fosc": [0.5, dat]},
        "CAT20": {"method": "cat20", "cat20": [0.005, 10.0, 10.0]},
        "H-SAT": {"method": "h-sat", **h_sat},
        "P-SAT": {"method": "p-sat", **steps_at(*rises)},
    }
    return [{**base, **own[name]} for name in names.split()]


THREE = "AT H-SAT P-SAT"
FIVE = "AT TRADES DAT H-SAT P-SAT"
COMPARISON = defences(PRN20, (40, 60, 80), 80, names=THREE)
PAPER: dict[str, list[dict[str, Any]]] = {
    "fig1": COMPARISON,
    "fig2": [],
    "fig3": [],
    "fig4": COMPARISON,
    "fig5": [],
    # "different linear schedules": Fig. 5b.
    "fig6": [
        {**PRN20, "method": "h-sat", **LINEAR_H},
        {**PRN20, "method": "p-sat", "difficulty": ["linear", 0.0, [30, 70]]},
    ],
    "fig7": COMPARISON,
    "fig8": [{**IMAGENETTE, "eps": 16 / 255, "method": "p-sat", **steps_at(40, 60, 80)}],
    "table1": [
        *defences(PRN20, (40, 60, 80), 80),
        *defences(WRN, (30, 40, 50), 80),
        *defences({**PRN20, **CIFAR100}, (40, 60, 80), 80),
        *defences({**WRN, **CIFAR100}, (30, 40, 50), 80),
    ],
    "table2": [
        row
        for eps in (0.3, 0.45)
        for row in defences({**MNIST, "eps": eps}, (30, 45, 60), 30, steps_at(30, 45, 60))
    ],
    "table3": [
        *(
            row
            for k in (16, 24)
            for row in defences({**PRN20, "eps": k / 255}, (40, 60, 80), 50, names=FIVE)
        ),
        *(
            row
            for k in (16, 24)
            for row in defences({**IMAGENETTE, "eps": k / 255}, (40, 60, 80), 40, names=FIVE)
        ),
        *defences(PRN20, (40, 60, 80), 80, names="AT P-SAT"),  # what the gain is compared with
    ],
    "table4": defences(PRN20, (40, 60, 80), 80, names="AT"),
    "gap": COMPARISON,
}


def facts(config: dict[str, Any]) -> dict[str, Any]:
    """What the paper states, of a resolved configuration."""
    part, loss = config["method"]["perturbation"], config["method"]["outer_loss"]
    optimiser, schedule = config["optimiser"], config["schedule"]
    assert (optimiser["optimiser"], schedule["schedule"]) == ("sgd", "step")
    assert schedule["factor"] == 0.1
    assert part["norm"] == "linf"
    found = {
        "method": config["method"]["name"],
        "data": config["data"]["name"],
        "model": config["model"]["name"],
        "epochs": config["epochs"],
        "batch": config["batch_size"],
        "momentum": optimiser["momentum"],
        "lr": optimiser["lr"],
        "wd": optimiser["weight_decay"],
        "milestones": schedule["milestones"],
        "eps": part["eps"],
        "alpha": part["step_size"],
        "steps": part["steps"],
        "augmentation": config["augmentation"],
    }
    if "difficulty" in part:
        rising = part["difficulty"]
        found["difficulty"] = [rising["schedule"], rising["start"], list(rising["milestones"])]
    if "threshold" in part:
        found["fosc"] = [part["threshold"], part["until"]]
    if "smoothing" in part:
        found["cat20"] = [part["eta"], part["smoothing"], loss["kappa"]]
    if "beta" in loss:
        found["beta"] = loss["beta"]
    assert config["evaluation"]["eps"] == part["eps"]
    assert config["validation_attack"]["eps"] == part["eps"]  # early stopping on robust accuracy
    assert config["n_examples"] is None
    return found


def _rows(several: list[dict[str, Any]]) -> list[str]:
    def plain(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return round(float(value), 9) if isinstance(value, (int, float)) else value

    return sorted(json.dumps({k: plain(row[k]) for k in sorted(row)}) for row in several)


@pytest.mark.parametrize("name", [n.partition("/")[2] for n in ALL])
def test_paper_scale_has_the_papers_hyperparameters(name: str) -> None:
    runs = fig(name).runs(Scale("paper"))
    assert {run.config().plan.seed for run in runs} <= {0}  # one number per cell in print
    assert _rows([facts(run.config().to_dict()) for run in runs]) == _rows(PAPER[name])


def test_more_seeds_can_be_asked_for() -> None:
    assert len(fig("fig1").runs(Scale("paper", chosen_seeds=(0, 1, 2)))) == 9


def test_all_figures_and_tables_are_there() -> None:
    names = [*(f"fig{k}" for k in range(1, 9)), *(f"table{k}" for k in range(1, 5)), "gap"]
    assert [n.partition("/")[2] for n in ALL] == names
    for scale in ("digits", "mnist", "paper"):
        for figure in ALL.values():
            assert figure.plan(Scale(scale))


def test_figures_share_their_trainings() -> None:
    def digests(name: str) -> set[str]:
        return {run.digest for run in fig(name).runs(DIGITS)}

    assert digests("fig1") == digests("fig4") == digests("gap")
    assert digests("fig4") < digests("table1")
    assert digests("fig7") < digests("fig4")
    assert digests("fig8") < digests("table3") < digests("table2")
    every = {run.digest for figure in ALL.values() for run in figure.runs(DIGITS)}
    assert len(every) <= 40


# -- smoke ----------------------------------------------------------------------------------------


def test_every_figure_is_made_at_smoke_scale(tmp_path: Any) -> None:
    made = make_figures(
        list(ALL.values()), "smoke", out=tmp_path / "out", cache=tmp_path / "cache", jobs=1
    )
    for one in made:
        assert not one.failed, one.failed
        assert one.report is not None
        assert len(one.report["claims"]) == len(one.figure.claims) > 0
        assert {claim["outcome"] for claim in one.report["claims"]} == {OPEN}
        assert {path.suffix for path in one.paths} >= {".png", ".pdf", ".h5", ".md", ".json"}
        assert all(path.stat().st_size > 0 for path in one.paths)
        (h5,) = (path for path in one.paths if path.suffix == ".h5")
        for name, result in load_all(h5).items():
            values = [getattr(result, f.name) for f in result.fields()]
            floats = [v for v in values if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
            assert any(np.isfinite(v).any() for v in floats), (one.figure.name, name)
        if one.figure.table is not None:
            assert any(path.suffix == ".csv" for path in one.paths)


# -- claims ---------------------------------------------------------------------------------------


def outcomes(name: str, content: Mapping[str, Any], scale: Scale = DIGITS) -> list[str]:
    found = Found(scale, content)
    return [claim.check(found).outcome for claim in fig(name).claims]


def accuracies(numbers: Mapping[str, Mapping[str, tuple[float, ...]]]) -> dict[str, Any]:
    """(clean, AutoAttack[, PGD-20]) in percent by setting and defence, a little apart by seed."""
    found = {}
    for setting, rows in numbers.items():
        for defence, (clean, adv, *pgd) in rows.items():
            for k, seed in enumerate(SEEDS):
                values = np.array([clean, pgd[0] if pgd else adv + 1, adv]) + 0.1 * (k - 1)
                found[f"{setting}/{defence}/{seed}"] = SimpleNamespace(
                    attack=np.array(["clean", "pgd-20", "autoattack"]),
                    accuracy=np.clip(values, 0, 100) / 100,
                )
    return found


TABLE1 = {
    "AT": (80, 45),
    "TRADES": (80.5, 46),
    "DAT": (79, 43),
    "CAT20": (88, 20, 60),
    "H-SAT": (82, 46.5),
    "P-SAT": (84, 48),
}
TABLE1_FALSE = {
    "AT": (80, 45),
    "TRADES": (88, 46),
    "DAT": (85, 47),
    "CAT20": (60, 46, 46),
    "H-SAT": (80, 31),
    "P-SAT": (70, 30),
}


def test_claims_of_table_1() -> None:
    assert set(outcomes("table1", accuracies({"digits": TABLE1}))) == {HOLDS}
    assert set(outcomes("table1", accuracies({"digits": TABLE1_FALSE}))) == {FAILS}
    swapped = {**TABLE1, "AT": TABLE1["P-SAT"], "P-SAT": TABLE1["AT"]}
    assert outcomes("table1", accuracies({"digits": swapped}))[0] == FAILS


def test_claims_need_several_seeds() -> None:
    content = accuracies({"digits": TABLE1})
    one = {name: v for name, v in content.items() if name.endswith("seed0")}
    assert set(outcomes("table1", one)) == {OPEN}


SMALL = {
    "AT": (98, 80),
    "TRADES": (98.5, 82),
    "DAT": (98.9, 84),
    "CAT20": (99, 0.2, 70),
    "H-SAT": (99, 81),
    "P-SAT": (99.1, 90),
}
LARGE = {
    "AT": (11, 11, 11),
    "TRADES": (97, 0.3),
    "DAT": (98, 65),
    "CAT20": (99, 0.3, 50),
    "H-SAT": (98, 54),
    "P-SAT": (97, 58),
}
SMALL_FALSE = {**SMALL, "CAT20": (99, 60, 60), "P-SAT": (70, 50)}
LARGE_FALSE = {
    "AT": (80, 40),
    "TRADES": (80, 50),
    "DAT": (10, 10),
    "CAT20": (80, 60, 60),
    "H-SAT": (11, 11),
    "P-SAT": (11, 11),
}


def test_claims_of_table_2() -> None:
    true = accuracies({"digits": SMALL, "eps=0.2": LARGE})
    assert set(outcomes("table2", true)) == {HOLDS}
    false = accuracies({"digits": SMALL_FALSE, "eps=0.2": LARGE_FALSE})
    assert set(outcomes("table2", false)) == {FAILS}
    # The settings are not interchangeable.
    transposed = outcomes("table2", accuracies({"digits": LARGE, "eps=0.2": SMALL}))
    assert transposed[0] == transposed[4] == FAILS


def test_claims_of_table_3() -> None:
    first = {"AT": (80, 45), "P-SAT": (82, 45)}
    twice = {
        "AT": (60, 20),
        "TRADES": (68, 17),
        "DAT": (57, 18),
        "H-SAT": (64, 23),
        "P-SAT": (67, 24),
    }
    assert set(outcomes("table3", accuracies({"digits": first, "eps=0.2": twice}))) == {HOLDS}
    swapped = {**twice, "AT": (67, 24), "TRADES": (64, 23), "H-SAT": (57, 18), "P-SAT": (50, 17)}
    assert set(outcomes("table3", accuracies({"digits": first, "eps=0.2": swapped}))) == {FAILS}


def test_the_radii_of_table_3_at_mnist_scale_are_compared() -> None:
    mnist = Scale("mnist")
    content = {}
    for setting, gain in zip([main(mnist), *larger(mnist)], (1, 3, 9), strict=True):
        content |= accuracies({setting.key: {"AT": (60, 20), "P-SAT": (60 + gain, 20)}})
    grows = fig("table3").claims[-1].check
    assert grows(Found(mnist, content)).outcome == HOLDS
    keys = [main(mnist).key, *(s.key for s in larger(mnist))]
    reverse = {keys[0]: keys[2], keys[1]: keys[1], keys[2]: keys[0]}
    turned = {
        f"{reverse[name.split('/')[0]]}/{name.partition('/')[2]}": v for name, v in content.items()
    }
    assert grows(Found(mnist, turned)).outcome == FAILS


def test_most_of() -> None:
    found = Found(DIGITS, accuracies({"digits": TABLE1}))
    yes = fig("table1").claims[0].check(found)
    no = dataclasses.replace(yes, outcome=FAILS)
    assert most_of([yes, yes, no]).outcome == HOLDS
    assert most_of([yes, no]).outcome == most_of([no, no, yes]).outcome == FAILS
    assert most_of([yes, dataclasses.replace(yes, outcome=OPEN)]).outcome == OPEN


def planes(sharp: Mapping[str, float]) -> dict[str, Any]:
    x, y = np.linspace(-1, 1, 5), np.linspace(-1, 1, 7)
    return {
        f"{d}/{seed}": SimpleNamespace(
            x=x, y=y, loss=(a + 0.01 * k) * (x[None] ** 2 + 3 * y[:, None] ** 2) / 2
        )
        for d, a in sharp.items()
        for k, seed in enumerate(SEEDS)
    }


def test_claims_of_fig_1_and_the_curvature_of_a_quadratic() -> None:
    content = planes({"AT": 3.0, "H-SAT": 2.0, "P-SAT": 1.0})
    assert curvature(content["AT/seed0"]) == pytest.approx(3.0 * (1 + 3) / 2)
    assert outcomes("fig1", content) == [HOLDS, HOLDS]
    assert outcomes("fig1", planes({"AT": 1.0, "H-SAT": 2.0, "P-SAT": 3.0})) == [FAILS, FAILS]


EPOCHS = np.arange(4, 41, 4)


def along(levels: Mapping[str, tuple[float, float, float]], calm_after: bool) -> dict[str, Any]:
    found = {}
    for d, values in levels.items():
        for k, seed in enumerate(SEEDS):
            wild = np.where((EPOCHS <= 25) == calm_after, 3.0 ** (-1.0) ** np.arange(10), 1.0)
            named = {
                name: (v + 0.01 * k) * wild
                for name, v in zip((EIGENVALUE, TRACE, GRADIENT), values, strict=True)
            }
            found[f"{d}/{seed}"] = curves(EPOCHS, named)
    return found


SMOOTH = {"AT": (3.0, 3.0, 3.0), "H-SAT": (2.0, 2.0, 1.0), "P-SAT": (1.0, 1.0, 2.0)}
SHARP = {"AT": (1.0, 1.0, 1.0), "H-SAT": (2.0, 2.0, 3.0), "P-SAT": (3.0, 3.0, 2.0)}


def test_claims_of_fig_4() -> None:
    assert set(outcomes("fig4", along(SMOOTH, True))) == {HOLDS}
    assert set(outcomes("fig4", along(SHARP, False))) == {FAILS}


def test_claims_of_the_gap() -> None:
    def content(gaps: Mapping[str, float], levels: Mapping[str, Any]) -> dict[str, Any]:
        found = {f"curvature/{name}": c for name, c in along(levels, True).items()}
        for d, gap in gaps.items():
            for k, seed in enumerate(SEEDS):
                test = np.array([70.0, 71.0])
                named = {"train": test + gap + 0.01 * k, "test": test}
                found[f"accuracy/{d}/{seed}"] = curves([38, 40], named)
        return found

    true = content({"AT": 3, "P-SAT": 2, "H-SAT": 1}, {**SMOOTH, "H-SAT": (0.5, 0.5, 1)})
    assert set(outcomes("gap", true)) == {HOLDS}
    turned = {**SMOOTH, "H-SAT": SMOOTH["P-SAT"], "P-SAT": SMOOTH["H-SAT"]}
    false = content({"AT": 1, "P-SAT": 2, "H-SAT": 3}, turned)
    assert set(outcomes("gap", false)) == {FAILS}
    figure = fig("gap")
    assert figure.table is not None
    table = figure.table(Found(DIGITS, true))
    assert table.at("AT", "gap") == pytest.approx(3.01)
    assert table.at("H-SAT", "test") == pytest.approx(70.5)


def test_claims_of_fig_6() -> None:
    x = np.arange(0, 41, 4)

    def content(sign: float) -> dict[str, Any]:
        return {
            f"{name}/{seed}": curves(x, {"n": 0.5 + sign * x / 100 + 0.01 * k})
            for name in ("H-SAT", "P-SAT", "P-SAT, λ held at 0")
            for k, seed in enumerate(SEEDS)
        }

    assert outcomes("fig6", content(1)) == [HOLDS] * 3
    assert outcomes("fig6", content(-1)) == [FAILS] * 3


def test_claims_of_fig_7() -> None:
    exact = np.linspace(1, 20, 64) ** 2

    def content(change: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
        score = change(exact)
        printed = SimpleNamespace(
            lambda_max=exact, upper=score[None], sub_batch=np.array([32]), loss=exact
        )
        corrected = SimpleNamespace(lower=np.stack([score, score]), sub_batch=np.array([1, 32]))
        return {
            f"{d}/{form}": result
            for d in COMPARED
            for form, result in (("printed", printed), ("corrected", corrected))
        }

    assert outcomes("fig7", content(lambda e: 0.95 * e)) == [HOLDS] * 3
    assert outcomes("fig7", content(lambda e: e[::-1])) == [FAILS] * 3


def test_claims_of_fig_8() -> None:
    def content(factor: float) -> dict[str, Any]:
        return {
            f"{eps}": SimpleNamespace(
                labels=np.arange(3), perturbation=np.full((3, 1, 2, 2), factor * eps)
            )
            for eps in (0.2, 0.3)
        }

    assert outcomes("fig8", content(1)) == [HOLDS]
    assert outcomes("fig8", content(1.5)) == outcomes("fig8", content(0.1)) == [FAILS]


def test_claims_of_table_4() -> None:
    def content(rows: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        return {
            f"schemes/{seed}": sheet(
                {name: [v + 0.001 * k for v in row] for name, row in rows.items()}, COLUMNS
            )
            for k, seed in enumerate(SEEDS)
        }

    good, small = (0.2, 0.99, 0.1, 0.9, 0.5), (0.2, 0.5, 0.1, 0.5, 0.97)
    held = dict.fromkeys(schemes.HELD, small)
    fine = dict.fromkeys(schemes.SCHEDULED, good) | held
    assert set(outcomes("table4", content(fine))) == {HOLDS}
    bad = (0.9, 0.5, 0.9, 0.1, 0.5)
    assert set(outcomes("table4", content(dict.fromkeys(schemes.SCHEMES, bad)))) == {FAILS}


# -- closed forms ---------------------------------------------------------------------------------


def test_the_logistic_loss_and_its_claims() -> None:
    content = theory.logistic_loss()
    z = content.x
    p = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(content.of(theory.PROBABILITY), p, rtol=1e-12)
    np.testing.assert_allclose(content.of(theory.LOSS), -np.log(p), rtol=1e-10)
    # The second derivative by differences of an independent form.
    h = 1e-4
    loss = [np.log1p(np.exp(-(z + s * h))) for s in (-1, 0, 1)]
    second = (loss[0] - 2 * loss[1] + loss[2]) / h**2
    np.testing.assert_allclose(content.of(theory.SECOND), second, atol=1e-6)
    assert outcomes("fig2", {"logistic": content}) == [HOLDS] * 3
    names = (theory.LOSS, theory.SECOND, theory.PROBABILITY)
    swapped = curves(z, dict(zip(names, content.y[[0, 2, 1]], strict=True)))
    assert outcomes("fig2", {"logistic": swapped}) == [FAILS] * 3


def test_the_schedules_and_their_claims() -> None:
    content = theory.schedules()
    third = 1 / 3
    # λ at epochs 10, 35, 45, 55, 65 and 85, typed from Appendix A.
    expected = {
        "steps, MNIST": (0, third, 2 * third, 2 * third, 1, np.nan),
        "steps, PreAct-ResNet-20": (0, 0, third, third, 2 * third, 1),
        "steps, WideResNet-34-10": (0, third, 2 * third, 1, 1, 1),
        "linear, H-SAT": (0.8 + 0.2 / 3, 1, 1, 1, 1, 1),
        "linear, P-SAT": (0, 0.125, 0.375, 0.625, 0.875, 1),
    }
    at = np.searchsorted(content.x, (10, 35, 45, 55, 65, 85))
    for name, values in expected.items():
        np.testing.assert_allclose(content.of(name)[at], values, atol=1e-12, err_msg=name)
    assert outcomes("fig5", {"schedules": content}) == [HOLDS, HOLDS]
    half = dataclasses.replace(content, y=content.y / 2)
    assert outcomes("fig5", {"schedules": half}) == [FAILS, FAILS]


def test_the_gap_of_the_toy_problem_is_that_of_its_logits() -> None:
    x = torch.rand((50, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits = trajectories.Waves()(x)
    found = probability_gap(logits, torch.ones(50, dtype=torch.long))
    np.testing.assert_allclose(trajectories.gap(*x.T.numpy()), found.numpy(), atol=1e-12)


def test_trajectories_and_their_claims() -> None:
    figure = fig("fig3")
    content = {
        name: work.function(**work.settings)  # type: ignore[union-attr]
        for name, work in figure.plan(DIGITS).items()
    }
    assert outcomes("fig3", content) == [HOLDS] * 4
    path, end = content["trajectories"], content["termination"]
    names = [str(n) for n in path.curve]
    # All steps of P-SAT at λ = 1 in place of those at 0: it doesn't stop; and the other way round.
    swap = [n.replace("1.00", "?").replace("0.00", "1.00").replace("?", "0.00") for n in names]
    turned = dataclasses.replace(path, curve=np.array(swap))
    assert outcomes("fig3", {**content, "trajectories": turned})[:2] == [FAILS, FAILS]
    rows = {str(n): end.of(str(n)) for n in end.curve}
    worse = curves(
        end.x, rows | {"shortfall": rows["shortfall"] + 0.1, "below AT": rows["loss"] - 9}
    )
    assert outcomes("fig3", {**content, "termination": worse})[2:] == [FAILS, FAILS]


# -- measurements ---------------------------------------------------------------------------------


def test_norms_with_no_difficulty_to_spare_and_with_all(tmp_path: Any) -> None:
    """λ = 1 is PGD from the input itself, which moves all samples; λ = −1 is no step at all."""
    from landscape.papers import Cache
    from landscape.running.runner import execute

    run = Scale("smoke").run("p-sat", keep_every=1)
    cache = Cache(tmp_path)
    execute({"run": run}, cache)
    trained: Any = cache.get(run)
    full = norms_along(trained, epochs=(2,), batches=2, size=20, held=1.0)
    assert full.y[0, 0] == pytest.approx(1.0, abs=1e-5)
    none = norms_along(trained, epochs=(2,), batches=2, size=20, held=-1.0)
    assert none.y[0, 0] == 0.0
