"""Sweeps: what a file may ask for, what comes of it, and that nothing finished is lost."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import landscape as ls
from landscape.errors import DataError, OutputError, UsageError
from landscape.plotting import picture
from landscape.results import load
from landscape.running.cache import Cache
from landscape.running.locks import holder, locked
from landscape.running.work import Given, Measure, Run
from landscape.sweeps import measuring
from landscape.sweeps.measurement import Measurement
from landscape.sweeps.plan import planned
from landscape.sweeps.specification import read
from landscape.sweeps.status import status
from landscape.sweeps.sweeping import default_threads
from landscape.sweeps.table import tables

OPTIONS: dict[str, Any] = {"epochs": 2, "n_examples": 60, "batch_size": 30}
TRAIN = {"data": "digits", **OPTIONS}
EVALUATE = {"diagnostic": "evaluate", "attacks": ["pgd-2"], "n_examples": 40}
TRACE = {"diagnostic": "trace", "samples": 3, "n_examples": 20}

# Long enough to be killed in the middle, short enough to be done twice.
LONG = """
[train]
data = "digits"
epochs = 40
n_examples = 60
batch_size = 10

[grid]
method = ["standard"]
seed = [0, 1]

[[measure]]
diagnostic = "evaluate"
attacks = ["pgd-2"]
n_examples = 40
"""


def grid(**parts: Any) -> dict[str, Any]:
    return {"train": TRAIN, "measure": [EVALUATE], **parts}


def rows(found: ls.Sweep) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(found.csv())))


# -- what is asked for -----------------------------------------------------------------------------


def test_cells_are_the_product_of_the_axes_but_for_what_is_excluded() -> None:
    asked = read(
        {
            "grid": {"method": ["pgd", "trades+awp"], "eps": ["51/255", 0.1], "seed": [0, 1]},
            "exclude": [{"method": "pgd", "eps": "1/10"}, {"seed": [1, 2], "eps": 0.2}],
        }
    )
    found = [tuple(v.value for v in cell.values()) for cell in asked.cells()]
    assert found == [
        ("pgd", 0.2, 0),
        ("trades+awp", 0.2, 0),
        ("trades+awp", 0.1, 0),
        ("trades+awp", 0.1, 1),
    ]


def test_a_cell_of_two_grids_is_one_cell() -> None:
    """Or it would count as two seeds."""
    grids = [{"method": ["pgd"], "seed": [0, 1]}, {"seed": [1, 2], "method": ["pgd", "fgsm"]}]
    plan = planned(read(grid(grid=grids)))
    assert [cell.values["seed"].text for cell in plan.cells] == ["0", "1", "1", "2", "2"]


def test_several_grids_are_joined() -> None:
    plan = planned(
        read(
            grid(
                grid=[
                    {"method": ["standard"]},
                    {"method": ["trades"], "beta": [1, 6], "awp": {"gamma": [0.01]}},
                    {"method": ["trades+awp"], "awp": {"gamma": [0.01, 0.02]}},
                ]
            )
        )
    )
    assert plan.axes == ["method", "beta", "awp.gamma"]
    methods = [cell.run.config().plan.method for cell in plan.cells if cell.run]
    assert [m.name for m in methods] == ["standard", *["trades"] * 2, *["trades+awp"] * 2]
    assert [m.weights.gamma for m in methods if m.weights] == [0.01, 0.02]
    assert "trades is trained without awp.gamma, which it has no use for" in plan.remarks


def test_cells_of_one_configuration_share_its_training_but_not_its_attacks() -> None:
    plan = planned(
        read(
            grid(
                grid={"method": ["standard", "pgd"], "eps": [0.05, 0.2]},
                measure=[EVALUATE, TRACE],
            )
        )
    )
    runs = [cell.run.digest for cell in plan.cells if cell.run]
    assert runs[0] == runs[1] != runs[2] != runs[3]
    works = [cell.works for cell in plan.cells]
    assert works[0]["trace"].digest == works[1]["trace"].digest
    assert works[0]["evaluate"].digest != works[1]["evaluate"].digest
    radii = [w["evaluate"].settings["ball"]["radius"] for w in works]  # type: ignore[union-attr]
    assert radii == [0.05, 0.2, 0.05, 0.2]
    assert any("4 cells are 3 trainings" in remark for remark in plan.remarks)


def test_a_training_is_the_one_that_default_config_describes() -> None:
    (cell,) = planned(read(grid(grid={"method": ["pgd"], "eps": ["51/255"]}))).cells
    assert cell.run is not None
    config = ls.default_config("digits", None, "pgd", **{**OPTIONS, "eps": 0.2})
    assert cell.run.config().digest == config.digest
    assert cell.run.digest == Run("pgd", None, {**TRAIN, "eps": 0.2}).digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train]\nepochs = \nseed = 0", r"is not TOML: .* \(at line 2"),
        ("[trian]", r"unknown part 'trian': did you mean 'train'"),
        ("[train]\nepoch = 2", r"unknown option of training .*'epoch': did you mean 'epochs'"),
        ('[train]\nepochs = "ten"', r"epochs must be a number, got 'ten'"),
        ("[train]\nepochs = [2]", r"epochs can't be \[2\]"),
        ('[train]\neps = "8/0"', r"'8/0' divides by zero"),
        ('[train]\neps = "big"', r"eps must be a number or a fraction, got big"),
        ("[train]\nmodel = 3", r"model must be text in quotes"),
        ("[train]\nseed = 2020-01-01", r"holds a value that is no number"),
        ('[grid]\nmethod = ["pdg"]', r"unknown method 'pdg': did you mean 'pgd'"),
        ('[grid]\nmethod = "pgd"', r"\[grid\] method must be a list of values"),
        ("[grid]\nseed = []", r"\[grid\] seed has no value"),
        ('[grid]\neps = [0.1, "1/10"]', r"\[grid\] eps has 1/10 twice"),
        ('[grid]\nmethod = ["pgd"]\nbeta = [1, 6]', r"unknown option of training .*'beta'"),
        ("[grid]\nseed = [0]\n[[exclude]]\nsede = 0", r"axis in \[\[exclude\]\] 'sede': did you"),
        ("[grid]\nseed = [0]\n[[exclude]]\nseed = 0", r"no cell is left"),
        ("[[measure]]\ntop = 3", r"\[\[measure\]\] of .* needs a diagnostic"),
        ('[[measure]]\ndiagnostic = "spectum"', r"'spectum': did you mean 'spectrum'"),
        ('[[measure]]\ndiagnostic = "trace"\nsample = 3', r"'sample': did you mean 'samples'"),
        ('[[measure]]\ndiagnostic = "trace"\nsamples = "3"', r"samples must be a whole number"),
        ('[[measure]]\ndiagnostic = "trace"\nsamples = true', r"samples must be a whole number"),
        ('[[measure]]\ndiagnostic = "trace"\nmethod = "hutch"', r"trace estimator 'hutch'"),
        ('[[measure]]\ndiagnostic = "spectrum"\nwhich = "big"', r"end of the spectrum 'big'"),
        ('[[measure]]\ndiagnostic = "density"\nkind = "x"', r"kind of probe 'x'"),
        ('[[measure]]\ndiagnostic = "trace"\nattack = "pdg-3"', r"'pdg': did you mean 'pgd'"),
        ('[[measure]]\ndiagnostic = "trace"\nsplit = "tset"', r"'tset': did you mean 'test'"),
        ('[[measure]]\ndiagnostic = "trace"\nn_examples = 0', r"n_examples must be at least 1"),
        ('[[measure]]\ndiagnostic = "trace"\ndtype = "half"', r"unknown dtype .*'half'"),
        ('[[measure]]\ndiagnostic = "surface"\nx = {low = 1, high = 0}', r"range .* must grow"),
        ('[[measure]]\ndiagnostic = "surface"\nx = 3', r"x must be a table such as \{low = …"),
        ('[[measure]]\ndiagnostic = "trace"\n' * 2, r"two measurements are called 'trace'"),
        ('[[measure]]\ndiagnostic = "trace"\nname = "../a"', r"'\.\./a' can't name a measurement"),
        ('checkpoints = ["a.pt"]\n[train]\nepochs = 2', r"checkpoints are not trained"),
        ('checkpoints = ["digits-pgd-seed0"]\n[grid]\nlr = [1]', r"axis of checkpoints .*'lr'"),
        ('checkpoints = ["digits-pgd-seed0", "digits-pgd-seed0"]', r"given twice"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        planned(read(file))
    assert "\n" not in str(caught.value)
    assert "s.toml" in str(caught.value) or "given twice" in said


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"can't read .*none\.toml: No such file"):
        read(tmp_path / "none.toml")


@pytest.mark.parametrize("name", sorted(ls.DIAGNOSTICS))
def test_every_diagnostic_can_be_asked_for(name: str) -> None:
    """With a radius at hand each resolves to plain settings, and back to its arguments."""
    measurement = Measurement.of({"diagnostic": name}, "here")
    settings = measurement.settings(ls.Ball("linf", 0.1), "here")
    assert json.loads(json.dumps(settings)) == settings


# -- what comes of it ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[ls.Sweep, Path]:
    """Two methods at two radii with two seeds, one of them measured in three ways."""
    out = tmp_path_factory.mktemp("swept") / "out"
    asked = grid(
        grid={"method": ["standard", "pgd"], "eps": [0.05, "51/255"], "seed": [0, 1]},
        measure=[
            EVALUATE,
            TRACE,
            {"diagnostic": "trace", "name": "attacked", "attack": "pgd-2", **_few()},
            {"diagnostic": "surface", "x": {"points": 3}, "n_examples": 20},
        ],
    )
    return ls.sweep(asked, out=out), out


def _few() -> dict[str, Any]:
    return {"samples": 3, "n_examples": 20}


def test_numbers_are_those_of_the_diagnostic_itself(swept: tuple[ls.Sweep, Path]) -> None:
    found, out = swept
    cell = "method=pgd,eps=51-255,seed=1"
    checkpoint = ls.load_checkpoint(out / "cells" / cell / "best.pt")
    from landscape import data, models

    model = models.ModelSpec.from_dict(checkpoint.model or {}).build(seed=0)
    checkpoint.into(model)
    attack = ls.attack("pgd-2", eps=0.2)
    test = ls.Objective(model.eval(), data.load("digits", "test", n_examples=40))
    mine = ls.evaluate(test, {"pgd-2": attack})
    row = next(r for r in rows(found) if (r["method"], r["eps"], r["seed"]) == ("pgd", "0.2", "1"))
    assert float(row["evaluate: accuracy, pgd-2 (fraction)"]) == mine.accuracy[1]
    np.testing.assert_allclose(float(row["evaluate: loss, pgd-2 (nats)"]), mine.loss[1], rtol=1e-6)
    low = float(row["evaluate: accuracy, pgd-2: 95 % low"])
    np.testing.assert_allclose(low, mine.accuracy_low[1], rtol=1e-6)
    train = ls.Objective(model, data.load("digits", "train", n_examples=20), attack=attack)
    trace = ls.trace(train, 3)
    value = row["attacked: trace (loss / weight²)"]
    np.testing.assert_allclose(float(value), trace.estimates.mean(), rtol=1e-6)
    saved = load(out / "cells" / cell / "attacked.h5")
    np.testing.assert_array_equal(saved.estimates, trace.estimates)
    assert saved.provenance.objective["attack"]["eps"] == 0.2
    assert (out / "cells" / cell / "surface.h5").exists()


def test_means_over_seeds(swept: tuple[ls.Sweep, Path]) -> None:
    found, _ = swept
    assert found.group_axes == ["method", "eps"]
    means = found.over_seeds()
    assert list(means) == [(m, e) for m in ("standard", "pgd") for e in ("0.05", "51/255")]
    j = list(found.number).index("trace: trace")
    values = found.value[list(found.groups()["pgd", "0.05"]), j]
    assert len(values) == 2
    estimate = means["pgd", "0.05"][j]
    np.testing.assert_allclose(estimate.value, values.mean())
    np.testing.assert_allclose(estimate.standard_error, values.std(ddof=1) / math.sqrt(2))
    shown = tables(found)
    assert [title.split(":")[0] for title, *_ in shown] == ["\nevaluate", "\ntrace", "\nattacked"]
    assert f"{estimate}" in [cell for _, _, lines in shown for line in lines for cell in line]


def test_a_seed_that_diverged_is_not_left_out_of_the_mean(swept: tuple[ls.Sweep, Path]) -> None:
    found, _ = swept
    j = list(found.number).index("trace: trace")
    rows = found.groups()["pgd", "0.05"]
    value, kind = found.value.copy(), found.kind_of_error.copy()
    value[rows[0], j] = math.inf
    diverged = dataclasses.replace(found, value=value)
    assert diverged.over_seeds()["pgd", "0.05"][j].value == math.inf
    value[rows[0], j], kind[rows[0], j] = math.nan, ""  # it failed, and was not measured
    failed = dataclasses.replace(found, value=value, kind_of_error=kind)
    estimate = failed.over_seeds()["pgd", "0.05"][j]
    assert (estimate.value, estimate.samples) == (found.value[rows[1], j], 1)
    assert math.isinf(estimate.standard_error)
    picture([diverged])
    picture([failed])


def test_a_share_has_its_interval_and_its_own_standard_error(swept: tuple[ls.Sweep, Path]) -> None:
    """The column ± of a share is a standard error, whatever else reports call it."""
    found, _ = swept
    share = [j for j, units in enumerate(found.units) if units == "fraction"]
    assert share
    p, n = found.value[:, share], found.samples[:, share]
    np.testing.assert_allclose(found.error[:, share], np.sqrt(p * (1 - p) / (n - 1)))
    assert {*found.kind_of_error[:, share].flat} == {"standard error"}
    assert (found.low[:, share] <= p).all()
    assert (found.high[:, share] >= p).all()
    others = [j for j in range(len(found.number)) if j not in share]
    assert np.isnan(found.low[:, others]).all()


def test_standard_training_is_one_row_at_every_radius(swept: tuple[ls.Sweep, Path]) -> None:
    found, _ = swept
    standard = [i for i, s in enumerate(found.setting) if s[0] == "standard"]
    assert len(standard) == 4
    assert len({str(found.training[i]) for i in standard}) == 2


def test_files_and_picture(swept: tuple[ls.Sweep, Path]) -> None:
    found, out = swept
    assert load(out / "sweep.h5") == found
    assert (out / "table.csv").read_text() == found.csv()
    assert (out / "sweep.png").stat().st_size > 0
    fig = picture([found])
    panels = [ax for ax in fig.axes if ax.get_visible()]
    assert len(panels) == len(found.number)
    assert {ax.get_xlabel() for ax in panels} == {"radius ε"}
    assert "trace: trace (loss / weight²)" in [ax.get_ylabel() for ax in panels]  # there are two
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["standard", "pgd"]
    assert "± s.e. over 2 seeds" in fig.legends[0].get_title().get_text()
    j = list(found.number).index("evaluate: accuracy, clean")
    drawn = [container.lines[0].get_ydata() for container in panels[j].containers]
    means = found.over_seeds()
    expected = [
        [100 * means[m, e][j].value for e in ("0.05", "51/255")] for m in ("standard", "pgd")
    ]
    np.testing.assert_allclose(drawn, expected)


def test_finished_work_is_not_repeated_and_a_grid_may_grow(
    swept: tuple[ls.Sweep, Path], tmp_path: Path
) -> None:
    found, out = swept
    said: list[str] = []
    asked = grid(grid={"method": ["pgd"], "eps": [0.05, "51/255", 0.3], "seed": [0]})
    more = ls.sweep(
        asked, out=tmp_path, cache=out / "work", progress=lambda d, n, text: said.append(text)
    )
    assert [text.split(":")[0] for text in said] == ["pgd on digits, ε = 0.3, seed 0", "evaluate"]
    j = list(found.number).index("evaluate: accuracy, pgd-2")
    i = list(found.cell).index("method=pgd,eps=0.05,seed=0")
    assert more.value[0, list(more.number).index("evaluate: accuracy, pgd-2")] == found.value[i, j]


def test_cells_that_are_asked_for_no_more_leave_the_folder(tmp_path: Path) -> None:
    ls.sweep(grid(grid={"seed": [0, 1]}), out=tmp_path)
    (tmp_path / "cells" / "seed=1" / "notes.txt").write_text("mine")
    ls.sweep(grid(grid={"seed": [0]}), out=tmp_path)
    left = {str(p.relative_to(tmp_path)) for p in (tmp_path / "cells").rglob("*") if p.is_file()}
    assert left == {
        *(f"cells/seed=0/{n}" for n in ("best.pt", "final.pt", "history.h5", "evaluate.h5")),
        "cells/seed=1/notes.txt",
    }


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files \(thesis\.tex\)"):
        ls.sweep(grid(), out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_killed_sweep_left_of_its_plan_is_not_something_else(tmp_path: Path) -> None:
    from landscape.sweeps.sweeping import _check_folder

    left = tmp_path / ".sweep.json.abcd1234.tmp"
    left.write_text("ha")
    _check_folder(tmp_path)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(OutputError, match=r"holds other files \(other\.json\)"):
        _check_folder(tmp_path)


def test_checkpoints_in_place_of_trainings(tmp_path: Path) -> None:
    names = [f"digits-{method}-seed{k}" for method in ("standard", "pgd") for k in (0, 1)]
    asked = {
        "checkpoints": names,
        "grid": {"eps": [0.05, 0.1]},
        "measure": [EVALUATE, {"diagnostic": "spectrum", "top": 2, "n_examples": 20}],
    }
    found = ls.sweep(asked, out=tmp_path)
    assert list(found.axis) == ["checkpoint", "method", "seed", "eps"]
    assert found.group_axes == ["method", "eps"]
    assert len(found.over_seeds()) == 4
    j = list(found.number).index("spectrum: eigenvalue 1")
    assert found.kind_of_error[0, j] == "bound"
    assert found.value[0, j] == found.value[1, j] != found.value[2, j]


def test_checkpoints_that_differ_in_more_than_their_seed_are_not_averaged(tmp_path: Path) -> None:
    """Two files of one training, or of two configurations, are no two seeds."""
    for eps in (0.05, 0.1):
        config = ls.default_config("digits", None, "pgd", **{**OPTIONS, "eps": eps})
        ls.train(config, tmp_path / f"eps{eps}")
    same = [str(tmp_path / "eps0.1" / name) for name in ("best.pt", "final.pt")]
    other = [str(tmp_path / f"eps{eps}" / "best.pt") for eps in (0.05, 0.1)]
    for files in (same, other):
        plan = planned(read({"checkpoints": files}))
        assert plan.axes == ["checkpoint"]
        assert len(plan.cells) == 2
    balls = [
        cell.works["evaluate"].settings["ball"]["radius"]  # type: ignore[union-attr]
        for cell in plan.cells
    ]
    assert balls == [0.05, 0.1]


def test_a_checkpoint_that_was_exchanged_is_not_measured(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    file.write_bytes(Path(ls.load_checkpoint.__globals__["find"]("digits-pgd-seed0")).read_bytes())
    (cell,) = planned(read({"checkpoints": [str(file)], "measure": [TRACE]})).cells
    moved = tmp_path / "b.pt"
    file.rename(moved)
    (again,) = planned(read({"checkpoints": [str(moved)], "measure": [TRACE]})).cells
    assert cell.works["trace"].digest == again.works["trace"].digest
    given = Given(str(moved), "0" * 64)
    with pytest.raises(Exception, match=r"b\.pt has changed since the sweep was planned"):
        measuring.read(given)


def test_numbers_of_settings_that_reports_never_have(tmp_path: Path) -> None:
    measure = [
        {"diagnostic": "evaluate", "attacks": ["autoattack"]},
        {"diagnostic": "effectiveness", "attacks": ["pgd-2"], "reference": "pgd-3"},
        {"diagnostic": "smoothness", "attack": "clean", "directions": ["random"], "draws": 2},
        {"diagnostic": "surface", "x": {"points": 3}, "draws": 2},
    ]
    asked = {
        "checkpoints": ["digits-pgd-seed0"],
        "measure": [{**table, "n_examples": 10} for table in measure],
    }
    found = ls.sweep(asked, out=tmp_path)
    assert [str(name).replace("smoothness: ", "") for name in found.number] == [
        "evaluate: accuracy, clean",
        "evaluate: accuracy, autoattack",
        "evaluate: loss, clean",
        "effectiveness: rise of the loss, pgd-3",
        "effectiveness: share of it that PGD-2 reaches",
        "‖∇L(θ + av) − ∇L(θ)‖ / a, a = 0.01, v random",
        "ε-sharpness of L",
        "surface: mean rise of the loss within ±1",
    ]
    assert np.isfinite(found.value).all()
    cell = tmp_path / "cells" / str(found.cell[0])
    measured = load(cell / "effectiveness.h5")
    j = list(found.number).index("effectiveness: share of it that PGD-2 reaches")
    ratio = measured.ratio_of_means("pgd-2")
    np.testing.assert_allclose(found.value[0, j], ratio.value)
    np.testing.assert_allclose(found.error[0, j], ratio.standard_error, rtol=0.06)


# -- failures --------------------------------------------------------------------------------------


def test_a_failed_cell_costs_no_other_and_is_remembered(tmp_path: Path) -> None:
    asked = grid(
        grid={"seed": [0, 1]},
        measure=[EVALUATE, {"diagnostic": "trace", "samples": 0, "n_examples": 20}],
    )
    found = ls.sweep(asked, out=tmp_path)
    assert not found.complete
    assert all("trace: " in str(reason) for reason in found.reason)
    assert np.isfinite(found.value).all()  # those of evaluate, for there are no others
    state = status(tmp_path)
    assert [cell.state for cell in state.cells] == ["failed", "failed"]
    assert "trace: standard on digits, seed 0: " in state.cells[0].said

    def works(**options: Any) -> list[str]:
        said: list[str] = []
        again = ls.sweep(
            asked, out=tmp_path, progress=lambda d, n, text: said.append(text), **options
        )
        assert list(again.reason) == list(found.reason)
        return said

    assert works() == []
    assert len(works(retry_failed=True)) == 2


def test_what_works_the_second_time_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **settings: Any) -> Any:
        raise DataError("the disk was away.")

    with monkeypatch.context() as patched:
        patched.setattr(measuring, "_measure", broken)
        assert not ls.sweep(grid(), out=tmp_path).complete
    assert str(ls.sweep(grid(), out=tmp_path).reason[0]) == "evaluate: the disk was away."
    assert ls.sweep(grid(), out=tmp_path, retry_failed=True).complete
    assert ls.sweep(grid(), out=tmp_path).complete
    assert [cell.state for cell in status(tmp_path).cells] == ["done"]


def test_numbers_in_doubt_are_said(tmp_path: Path) -> None:
    spectrum = {"diagnostic": "spectrum", "top": 5, "max_products": 6, "n_examples": 20}
    found = ls.sweep(grid(measure=[spectrum]), out=tmp_path)
    assert not found.trustworthy
    assert "spectrum: not everything has converged" in str(found.doubt[0])


def test_two_sweeps_in_one_folder(tmp_path: Path) -> None:
    with locked(tmp_path / "sweep.lock", wait=False) as other:
        assert other is None
        said = rf"a sweep is at work in .* \(process {os.getpid()} on"
        with pytest.raises(OutputError, match=said):
            ls.sweep(grid(), out=tmp_path)
    assert holder(tmp_path / "sweep.lock") is None
    assert ls.sweep(grid(), out=tmp_path).complete


# -- the example ----------------------------------------------------------------------------------


def test_the_example(tmp_path: Path) -> None:
    """With fewer epochs, samples and seeds than it has."""
    content = tomllib.loads((Path(__file__).parent.parent / "examples" / "sweep.toml").read_text())
    content["train"] |= {"epochs": 1, "n_examples": 60}
    content["grid"]["seed"] = [0]
    for table in content["measure"]:
        table["n_examples"] = 20
    found = ls.sweep(content, out=tmp_path)
    assert found.complete
    assert len(found.cell) == 6
    assert len({*map(str, found.training)}) == 5
    assert list(found.units[-2:]) == ["loss / weight²"] * 2


# -- at the command line ---------------------------------------------------------------------------


def command(*arguments: str) -> Any:
    from landscape.cli import cli

    return CliRunner().invoke(cli, ["sweep", *arguments], standalone_mode=False)


def test_dry_run_does_nothing(tmp_path: Path) -> None:
    file = tmp_path / "long.toml"
    file.write_text(LONG)
    found = command(str(file), "--out", str(tmp_path / "out"), "--dry-run", "--json")
    content = json.loads(found.stdout)
    assert content["cells"] == ["method=standard,seed=0", "method=standard,seed=1"]
    assert [run["updates"] for run in content["runs"]] == [240, 240]
    assert content["measurements"] == 2
    assert not (tmp_path / "out").exists()


def test_status_imports_no_torch(swept: tuple[ls.Sweep, Path]) -> None:
    code = (
        "import sys; from landscape.cli import run; "
        f"code = run(['sweep', 'x.toml', '--out', {str(swept[1])!r}, '--status', '--json']); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    content = json.loads(found.stdout)
    assert (content["done"], content["failed"], content["at_work"]) == (8, 0, None)
    assert content["cells"][0]["settings"] == {"method": "standard", "eps": "0.05", "seed": "0"}


def test_status_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sweep has been started in"):
        status(tmp_path)
    (tmp_path / "sweep.json").write_text('{"format": ')
    with pytest.raises(DataError, match=r"sweep\.json can't be read: run the sweep again"):
        status(tmp_path)
    ls.sweep({"checkpoints": ["digits-pgd-seed0"], "measure": [TRACE]}, out=tmp_path)
    assert [cell.state for cell in status(tmp_path).cells] == ["done"]


def test_networks_on_digits_have_one_thread() -> None:
    asked = {"checkpoints": ["digits-pgd-seed0"], "measure": [TRACE]}
    plan = planned(read(asked))
    assert default_threads(plan) == 1
    (cell,) = plan.cells
    other = dataclasses.replace(cell, data="cifar10")
    assert default_threads(dataclasses.replace(plan, cells=[cell, other])) is None


def test_exit_code_of_a_failed_cell(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(
        "[train]\nepochs = 1\nn_examples = 60\n[[measure]]\ndiagnostic = 'trace'\nsamples = 0\n"
    )
    found = command(str(file), "--out", str(tmp_path / "out"), "--jobs", "1")
    assert found.return_value == 1
    assert "--retry-failed tries again" in found.stderr


# -- killed ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The file of a sweep, and its table when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    file = folder / "long.toml"
    file.write_text(LONG)
    ls.sweep(file, out=folder / "out")
    return file, (folder / "out" / "table.csv").read_text()


def start(file: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "landscape", "sweep", str(file), "--out", str(out), *options]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def until(happened: Callable[[], Any], process: subprocess.Popen[bytes] | None = None) -> Any:
    """Wait for something that is true within minutes, on a machine that others use, too."""
    end = time.monotonic() + 200
    while time.monotonic() < end:
        assert process is None or process.poll() is None, "the command ended too early"
        found = happened()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it never happened")


def at_work(out: Path) -> int:
    """The process that trains, once it has done some epochs; 0 before."""
    try:
        said = [cell.said for cell in status(out).cells if cell.state == "running"]
    except DataError:
        return 0
    for text in said:
        match = re.search(r"epoch (\d+) of \d+; process (\d+) on", text)
        if match and int(match[1]) >= 2:
            return int(match[2])
    return 0


def test_a_killed_sweep_goes_on_and_a_killed_worker_is_replaced(
    undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    file, table = undisturbed
    process = start(file, tmp_path, "--jobs", "2")
    worker = until(lambda: at_work(tmp_path), process)
    process.kill()
    process.wait()
    until(lambda: not _alive(worker))  # it doesn't outlive the command
    until(lambda: not status(tmp_path).count("running"))  # nor does the other
    cells = status(tmp_path).cells
    assert {cell.state for cell in cells} <= {"waiting", "done"}
    assert any("epoch" in cell.said for cell in cells)
    assert not (tmp_path / "table.csv").exists()
    assert max(_epochs(tmp_path)) >= 2
    process = start(file, tmp_path, "--jobs", "2")
    os.kill(until(lambda: at_work(tmp_path), process), signal.SIGKILL)
    assert process.wait() == 0
    assert (tmp_path / "table.csv").read_text() == table


def test_an_interrupt_ends_the_processes_at_once(
    undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    """Also one that the command alone gets, not its processes with it as from a terminal."""
    file = tmp_path / "endless.toml"
    file.write_text(LONG.replace("epochs = 40", "epochs = 4000").replace("[0, 1]", "[0]"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored by the child
    try:
        process = start(file, tmp_path / "out", "--jobs", "2")
    finally:
        signal.signal(signal.SIGINT, before)
    worker = until(lambda: at_work(tmp_path / "out"), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=200) == 130
    until(lambda: not _alive(worker))


def _alive(process: int) -> bool:
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def _epochs(out: Path) -> list[int]:
    return [len(load(path).epoch) for path in (out / "work" / "runs").glob("*/history.h5")]


def test_a_preempted_job_is_requeued_and_goes_on(
    undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    """submitit is told by SIGUSR2 that its job must go; a job killed outright is submitted anew."""
    from landscape.running.cluster import slurm

    _, table = undisturbed
    file, out = tmp_path / "one.toml", tmp_path / "out"
    file.write_text(LONG.replace("[0, 1]", "[0]"))
    executor = slurm("cluster=local,timeout_min=5", tmp_path / "slurm")
    hit: list[int] = []

    def preempt() -> None:
        for how in (signal.SIGUSR2, signal.SIGKILL):
            found = until(lambda: (w := at_work(out)) not in hit and w)
            os.kill(found, how)
            hit.append(found)

    thread = threading.Thread(target=preempt)
    thread.start()
    found = ls.sweep(file, out=out, executor=executor)
    thread.join()
    assert len(hit) == 2
    assert found.complete
    assert (out / "table.csv").read_text().splitlines() == table.splitlines()[:2]
    logs = "".join(path.read_text() for path in (tmp_path / "slurm").glob("*.err"))
    logs += "".join(path.read_text() for path in (tmp_path / "slurm").glob("*.out"))
    assert "Requeued job" in logs


def test_a_measurement_goes_on_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of a surface that were done are not done again."""
    monkeypatch.setattr(measuring, "SAVE_SECONDS", 0.0)
    plan = planned(
        read(
            {
                "checkpoints": ["digits-pgd-seed0"],
                "measure": [
                    {"diagnostic": "surface", "x": {"points": 3}, "y": {"points": 4}, **_surface()}
                ],
            }
        )
    )
    (work,) = plan.works.values()
    assert isinstance(work, Measure)
    partial = tmp_path / "a.partial.h5"
    whole = work.function(**work.settings, partial=tmp_path / "none.h5")
    values: list[Any] = []

    def interrupted(self: Any, at: Any = None) -> Any:
        values.append(at)
        if len(values) == 8:  # the centre, two rows of three, and one point
            raise KeyboardInterrupt
        return value(self, at)

    value = ls.Objective.value
    monkeypatch.setattr(ls.Objective, "value", interrupted)
    with pytest.raises(KeyboardInterrupt):
        work.function(**work.settings, partial=partial)
    assert int(load(partial).done.sum()) == 6
    found = work.function(**work.settings, partial=partial)
    assert len(values) == 8 + 1 + 6
    np.testing.assert_array_equal(found.loss, whole.loss)
    partial.write_bytes(b"damaged")
    np.testing.assert_array_equal(work.function(**work.settings, partial=partial).loss, whole.loss)


def _surface() -> dict[str, Any]:
    return {"n_examples": 20}


def test_the_lock_of_a_killed_process_is_void(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    code = (
        "import sys, time; from pathlib import Path; from landscape.running.locks import locked\n"
        f"with locked(Path({str(lock)!r})): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert f"process {process.pid} on" in str(holder(lock))
    with locked(lock, wait=False) as other:
        assert f"process {process.pid} on" in str(other)
    process.kill()
    process.wait()
    assert holder(lock) is None
    with locked(lock, wait=False) as other:
        assert other is None


def test_a_cache_remembers_why_until_it_is_done(tmp_path: Path) -> None:
    cache, run = Cache(tmp_path), Run("standard", None, TRAIN)
    assert cache.failure(run) is None
    cache.fail(run, "no memory")
    assert cache.failure(run) == "no memory"
    cache.place(run).mkdir(parents=True)
    cache.seal(run, 1.0)
    assert cache.failure(run) is None
