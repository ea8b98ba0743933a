"""The frame of the papers' figures: works and their cache, the runner, claims, reports."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from landscape.errors import DataError, OutputError, UsageError
from landscape.papers import (
    Cache,
    Claim,
    Figure,
    Found,
    From,
    Scale,
    chosen,
    claims,
    curves,
    figures,
    make_figures,
    measure,
    sheet,
)
from landscape.papers.claims import FAILS, HOLDS, OPEN, Verdict
from landscape.papers.drawing import panels, typeset
from landscape.papers.measures import accuracy
from landscape.results import load, load_all
from landscape.running.jobs import do, jobs_of
from landscape.running.memory import advice
from landscape.running.runner import execute, missing
from landscape.running.trained import Trained
from landscape.running.work import Measure, Run, everything
from landscape.tracking import Tracking

SMOKE = Scale("smoke")


def run(method: str = "standard", seed: int = 0, **options: Any) -> Run:
    return SMOKE.run(method, seed=seed, **options)


def losses(*runs: Trained, factor: float = 1.0) -> Any:
    """A measurement for tests: final training losses, times a factor."""
    return sheet(
        {f"run {k}": [factor * r.history.train_loss[-1]] for k, r in enumerate(runs)}, ["loss"]
    )


def fails(*runs: Trained) -> Any:
    raise DataError("this measurement always fails.")


def runs_out(*runs: Trained) -> Any:
    raise MemoryError


def dies(*runs: Trained) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def draw(found: Found) -> Any:
    fig, ((ax,),) = panels(1)
    ax.plot([1.0, 2.0])
    return fig


def figure(name: str = "liu2020/fig99", **plan: Any) -> Figure:
    return Figure(
        name,
        "a test",
        plan=lambda scale: plan,
        draw=draw,
        claims=(Claim("the loss is positive", "nowhere", positive_loss),),
    )


def positive_loss(found: Found) -> Verdict:
    return claims.positive([found["loss"].value[0, 0]] * 3, "loss in nats")


# -- works -----------------------------------------------------------------------------------------


def test_runs_of_equal_settings_are_one_run() -> None:
    assert run().digest == run().digest
    assert len(everything({"a": run(), "b": run(), "c": run(seed=1)})) == 2


@pytest.mark.parametrize(
    "other",
    [
        run(seed=1),
        run("fgsm"),
        run(lr=0.02),
        dataclasses.replace(run(), keep_every=1),
        dataclasses.replace(run(), track=Tracking(samples=True)),
        run(subset=From(run(seed=2), "hardest:20@{folder}")),
    ],
)
def test_whatever_changes_the_outcome_changes_the_digest(other: Run) -> None:
    assert other.digest != run().digest


def test_what_comes_from_another_run_is_part_of_the_digest() -> None:
    one = run(subset=From(run(seed=1), "hardest:20@{folder}"))
    other = run(subset=From(run(seed=2), "hardest:20@{folder}"))
    text = run(subset=From(run(seed=1), "easiest:20@{folder}"))
    assert len({one.digest, other.digest, text.digest}) == 3
    assert one.needs[0].digest == run(seed=1).digest


def test_settings_and_source_of_a_measurement_identify_it() -> None:
    one = measure(losses, run(), factor=2.0)
    assert one.digest == measure(losses, run(), factor=2.0).digest
    assert one.digest != measure(losses, run(), factor=3.0).digest
    assert one.digest != measure(losses, run(seed=1), factor=2.0).digest
    assert one.digest != measure(fails, run(), factor=2.0).digest


def test_prerequisites_come_first() -> None:
    first = run("pgd", track=Tracking(samples=True, noise=0))
    second = run("pgd", subset=From(first, "hardest:20@{folder}"))
    order = list(everything({"m": measure(losses, second), "s": second}))
    assert order.index(first.digest) < order.index(second.digest)


def test_a_wrong_option_is_refused_with_the_plan() -> None:
    with pytest.raises(UsageError, match="unknown option of training method 'standard' 'wobble'"):
        _ = run(wobble=1).digest


# -- scales ----------------------------------------------------------------------------------------


def test_scales_pick_their_values() -> None:
    def pick(name: str) -> int:
        return Scale(name).pick(digits=1, mnist=2, paper=3, smoke=4)

    assert [pick(name) for name in ("digits", "mnist", "paper", "smoke")] == [1, 2, 3, 4]
    assert Scale("smoke").pick(digits=0, paper=3) == 0
    assert Scale("mnist").pick(digits=0.0, mnist=0.0, paper=3.0) == 0.0
    assert Scale("smoke").seeds(3) == (0,)
    assert Scale("digits").seeds(3) == (0, 1, 2)
    assert Scale("digits", (7,)).seeds(3) == (7,)


def test_unknown_scale_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown scale 'papr': did you mean 'paper'"):
        Scale("papr")


def test_what_the_user_chooses_goes_into_every_run() -> None:
    config = Scale("digits", batch_size=16, device="cpu").run("pgd").config()
    assert (config.plan.batch_size, config.device) == (16, "cpu")


# -- the runner and its cache ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache with one run and one measurement."""
    cache = Cache(tmp_path_factory.mktemp("cache"))
    outcome = execute({"loss": measure(losses, run())}, cache, threads=1)
    assert not outcome.failed
    assert len(outcome.done) == 2
    return cache


def test_finished_work_is_not_repeated(warm: Cache) -> None:
    before = {p: p.stat().st_mtime_ns for p in warm.folder.rglob("*") if p.is_file()}
    outcome = execute({"loss": measure(losses, run())}, warm, threads=1)
    assert not outcome.done
    assert {p: p.stat().st_mtime_ns for p in warm.folder.rglob("*") if p.is_file()} == before


def test_a_measurement_in_the_cache_needs_no_training(warm: Cache, tmp_path: Path) -> None:
    work = measure(losses, run())
    copy = Cache(tmp_path)
    execute({"loss": work}, copy, threads=1)
    copy.discard(run())
    assert missing({"loss": work}, copy)[0] == {}
    assert [*missing({"run": run()}, copy)[0]] == [run().digest]


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize("which", ["best.pt", "history.h5", "measurement", "seal", "gone"])
def test_damaged_work_is_found_and_made_again(which: str, tmp_path: Path) -> None:
    cache, work = Cache(tmp_path), measure(losses, run())
    execute({"loss": work}, cache, threads=1)
    value = cache.get(work).value
    if which == "measurement":
        _damage(cache.place(work))
    elif which == "seal":
        cache.place(work).with_suffix(".json").write_text('{"files": 3')
    elif which == "gone":
        (cache.place(run()) / "final.pt").unlink()
    else:
        _damage(cache.place(run()) / which)
    said: list[str] = []
    outcome = execute(
        {"loss": work, "run": run()}, cache, threads=1, progress=lambda d, n, s: said.append(s)
    )
    assert len(outcome.done) == 1
    assert not outcome.failed
    assert "cached file is damaged, made again" in said[0]
    np.testing.assert_array_equal(cache.get(work).value, value)


def test_an_unfinished_run_that_cannot_be_read_is_started_over(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    place = cache.place(run())
    place.mkdir(parents=True)
    (place / "last.pt").write_bytes(b"not a checkpoint")
    assert not execute({"run": run()}, cache, threads=1).failed


def test_a_failure_stops_only_what_needs_it(tmp_path: Path) -> None:
    good = measure(losses, run())
    # At ε < 0 the configuration itself is refused, so a run fails here by a subset that is too
    # large for what it is taken from.
    first = run("pgd", track=Tracking(samples=True, noise=0))
    broken = run("pgd", subset=From(first, "hardest:100000@{folder}"))
    works = {
        "good": good,
        "bad": measure(fails, run()),
        "broken": broken,
        "after": measure(losses, broken, run()),
    }
    outcome = execute(works, Cache(tmp_path), threads=1)
    assert good.digest in outcome.done
    assert outcome.failed[works["bad"].digest] == "this measurement always fails."
    assert "100000" in outcome.failed[broken.digest]
    assert outcome.failed[works["after"].digest] == "needs a training that failed"
    assert len(outcome.failed) == 3


def test_options_from_another_run_are_resolved(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first = run("pgd", track=Tracking(samples=True, noise=0))
    second = run("pgd", subset=From(first, "hardest:20@{folder}"))
    assert not execute({"second": second}, cache, threads=1).failed
    stored = cache.get(second).checkpoint().method["config"]  # type: ignore[union-attr]
    assert stored["subset"]["size"] == 20


def test_several_processes_give_the_same_numbers(warm: Cache, tmp_path: Path) -> None:
    work = measure(losses, run())
    other = Cache(tmp_path)
    works = {
        "loss": work,
        "other": measure(losses, run(seed=1)),
        "both": measure(losses, run(), run(seed=1)),
    }
    outcome = execute(works, other, jobs=2, threads=1)
    assert not outcome.failed
    assert len(outcome.done) == 5
    np.testing.assert_array_equal(other.get(work).value, warm.get(work).value)  # type: ignore[union-attr]


def test_a_killed_process_costs_its_own_job_alone(tmp_path: Path) -> None:
    works = {"dies": measure(dies), "lives": measure(losses, run()), "alone": measure(losses)}
    outcome = execute(works, Cache(tmp_path), jobs=2, threads=1)
    assert [*outcome.failed] == [works["dies"].digest]
    assert "its process was killed" in outcome.failed[works["dies"].digest]
    assert len(outcome.done) == 3


def test_measurements_of_one_run_share_its_job() -> None:
    works = everything(
        {
            "a": measure(losses, run()),
            "b": measure(losses, run(), factor=2.0),
            "c": measure(losses, run(), run(seed=1)),
        }
    )
    sizes = sorted(len(job.works) for job in jobs_of(works))
    assert sizes == [1, 1, 3]


def test_what_ran_out_of_memory_is_told_what_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    assert (
        "batches of 30: --batch-size 15 fits"
        in do(jobs_of(everything({"m": measure(runs_out, run())}))[0], cache.folder, 1)[
            measure(runs_out, run()).digest
        ]
    )

    import landscape.training.loop as loop

    def small_memory(model: Any, samples: Any, plan: Any, *args: Any, **kwargs: Any) -> Any:
        if plan.batch_size > 8:
            raise MemoryError
        return original(model, samples, plan, *args, **kwargs)

    original = loop._epoch
    monkeypatch.setattr(loop, "_epoch", small_memory)
    assert advice(run(), cache) == "out of memory with batches of 30: --batch-size 7 fits."


# -- claims ----------------------------------------------------------------------------------------


def test_the_interval_is_students() -> None:
    values = [1.0, 2.0, 4.0]
    verdict = claims.positive(values, "x")
    low, high = stats.t.interval(0.9, 2, np.mean(values), stats.sem(values))
    assert f"[{low:.3g}, {high:.3g}]" in verdict.numbers
    assert verdict.effect == pytest.approx(7 / 3)


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([1.0, 1.1, 0.9], HOLDS),
        ([-1.0, -1.1, -0.9], FAILS),
        ([1.0, -1.1, 0.9], OPEN),
        ([5.0], OPEN),
        ([0.0, 0.0, 0.0], FAILS),
        ([1.0, math.nan, 1.0], OPEN),
        ([], OPEN),
    ],
)
def test_positive(values: list[float], outcome: str) -> None:
    assert claims.positive(values, "x").outcome == outcome


def test_positive_is_right_nine_times_in_ten_at_the_edge() -> None:
    """At a true mean of 0, 'holds' and 'does not hold' come up in 5 % of cases each."""
    rng = np.random.default_rng(0)
    found = [claims.positive(x, "x").outcome for x in rng.normal(size=(4000, 3))]
    for outcome in (HOLDS, FAILS):
        assert abs(found.count(outcome) / 4000 - 0.05) < 5 * math.sqrt(0.05 * 0.95 / 4000)


def test_greater_is_paired_by_seed() -> None:
    one, other = [1.0, 5.0, 9.0], [0.9, 4.8, 8.9]  # the spread over seeds cancels
    verdict = claims.greater(one, other, "accuracy", names=("A", "B"))
    assert verdict.outcome == HOLDS
    assert verdict.numbers.startswith("accuracy: A 5 against B 4.87, difference 0.133")
    assert claims.greater(other, one, "accuracy").outcome == FAILS
    assert claims.greater(one, other, "accuracy", by=1.0).outcome == FAILS
    with pytest.raises(ValueError, match="3 and 1 values can't be paired"):
        claims.greater(one, [1.0], "accuracy")


def test_trend() -> None:
    x = [0.0, 0.1, 0.2, 0.4]
    rising = [[1, 2, 3, 4], [2, 3, 5, 9], [1, 3, 2, 8]]
    assert claims.trend(x, rising, "y").outcome == HOLDS
    assert claims.trend(x, -np.array(rising), "y").outcome == FAILS
    assert claims.trend(x, [[1, 2, 3, 4], [4, 3, 2, 1], [1, 1, 1, 1]], "y").outcome == OPEN
    assert "from 1.33 to 7" in claims.trend(x, rising, "y").numbers


def test_correlation_covers_the_true_value() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(300):
        x = rng.normal(size=60)
        y = 0.6 * x + 0.8 * rng.normal(size=60)
        text = claims.correlation(x, y, "c").numbers
        low, high = (float(v) for v in text.split("[")[1].rstrip("]").split(","))
        true = 6 / math.pi * math.asin(0.6 / 2)  # Spearman's ρ of a normal pair
        inside += low <= true <= high
    assert 0.84 < inside / 300 < 0.96
    assert claims.correlation(range(9), range(9), "c").outcome == HOLDS
    assert claims.correlation(range(9), range(9), "c", sign=-1).outcome == FAILS
    assert claims.correlation([1, 1, 1, 1, 1], range(5), "c").outcome == OPEN


def test_all_of_is_the_worst_of_them() -> None:
    holds, fails_, open_ = (Verdict(o, o, e) for o, e in ((HOLDS, 2.0), (FAILS, -1), (OPEN, 3.0)))
    assert claims.all_of([holds, holds]).outcome == HOLDS
    assert claims.all_of([holds, open_]).outcome == OPEN
    assert claims.all_of([open_, fails_, holds]).outcome == FAILS
    assert claims.all_of([holds, open_]).effect == 2.0
    with pytest.raises(ValueError, match="'maybe' is no outcome"):
        Verdict("maybe", "")


# -- results of figures ----------------------------------------------------------------------------


def test_sheet_in_files_and_as_csv(tmp_path: Path) -> None:
    made = sheet(
        {"AT": [(0.5, 0.1), 3], "P-SAT, ours": [0.25, None]},
        ["accuracy", "epochs"],
        ["fraction", ""],
        "standard deviation over 3 seeds",
    )
    assert load(made.save(tmp_path / "a.h5")) == made
    assert made.csv() == (
        ',accuracy (fraction),± accuracy,epochs\nAT,0.5,0.1,3\n"P-SAT, ours",0.25,,\n'
    )
    assert made.at("AT", "epochs") == 3
    with pytest.raises(ValueError, match="row 'x' has 1 cells, the table 2"):
        sheet({"x": [1]}, ["a", "b"])
    texts = [t.get_text() for t in typeset(made, best="max").axes[0].texts]
    assert "0.5 ± 0.1" in texts
    assert "–" in texts


def test_curves_in_files(tmp_path: Path) -> None:
    made = curves([1, 2, 3], {"a": [1, 2, 3], "b": [3, 2, 1]}, errors={"a": [0.1, 0.1, 0.1]})
    assert load(made.save(tmp_path / "a.h5")) == made
    np.testing.assert_array_equal(made.of("b"), [3, 2, 1])
    assert np.isnan(made.error[1]).all()


# -- figures ---------------------------------------------------------------------------------------


def test_a_figure_is_made_and_kept(tmp_path: Path) -> None:
    one = figure(loss=measure(losses, run()), net=run())
    asked = {"out": tmp_path / "out", "cache": tmp_path / "cache"}
    (made,) = make_figures([one], "smoke", **asked)
    assert made.report is not None
    names = [p.name for p in made.paths]
    assert names == ["fig99.png", "fig99.pdf", "fig99.h5", "fig99.md", "fig99.json"]
    assert all(p.stat().st_size > 0 for p in made.paths)
    assert {*load_all(made.paths[2])} == {"loss", "net/history"}
    assert made.report["claims"][0]["outcome"] == OPEN  # smoke proves nothing
    assert "the loss is positive" in made.paths[3].read_text()
    (again,) = make_figures([one], "smoke", **asked)
    assert again.kept
    assert again.report == made.report


def test_the_same_figure_twice_has_the_same_numbers(tmp_path: Path) -> None:
    one = figure(loss=measure(losses, run("pgd")), net=run("pgd"))
    reports = [
        make_figures([one], "smoke", out=tmp_path / k, cache=tmp_path / f"cache{k}")[0].report
        for k in ("a", "b")
    ]
    assert reports[0] is not None
    assert reports[1] is not None
    assert reports[0]["numbers"] == reports[1]["numbers"]
    assert (tmp_path / "a/smoke/liu2020/fig99.png").read_bytes() == (
        tmp_path / "b/smoke/liu2020/fig99.png"
    ).read_bytes()
    other = figure(loss=measure(losses, run("pgd", seed=1)), net=run("pgd", seed=1))
    (third,) = make_figures([other], "smoke", out=tmp_path / "c", cache=tmp_path / "cachea")
    assert third.report is not None
    assert third.report["numbers"] != reports[0]["numbers"]


def test_a_figure_of_another_plan_is_not_overwritten(tmp_path: Path) -> None:
    asked = {"out": tmp_path / "out", "cache": tmp_path / "cache"}
    make_figures([figure(loss=measure(losses, run()))], "smoke", **asked)
    other = figure(loss=measure(losses, run(), factor=2.0))
    with pytest.raises(OutputError, match=r"fig99\.png exists: pass --overwrite"):
        make_figures([other], "smoke", **asked)
    (made,) = make_figures([other], "smoke", overwrite=True, **asked)
    assert made.report is not None


def test_a_failed_run_does_not_lose_the_other_figures(tmp_path: Path) -> None:
    good = figure("liu2020/fig98", loss=measure(losses, run()))
    bad = figure("liu2020/fig97", loss=measure(fails, run()))
    made = make_figures([bad, good], "smoke", out=tmp_path / "out", cache=tmp_path / "cache")
    assert made[0].report is None
    assert "this measurement always fails" in made[0].failed[0]
    assert made[1].report is not None


def test_missing_data_are_named_before_any_work(tmp_path: Path) -> None:
    one = figure(net=Scale("paper", data_dir=str(tmp_path)).run("pgd", recipe="cifar10"))
    with pytest.raises(DataError, match=r"needs data that are not there.*landscape data cifar10"):
        make_figures([one], "paper", out=tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "cache" / "runs").exists()


def test_names_of_figures() -> None:
    known = figures()
    assert [f.name for f in chosen(["liu2020/fig2", "liu2020/fig2"])] == ["liu2020/fig2"]
    assert {f.paper for f in chosen(["liu2020/all"])} == {"liu2020"}
    assert len(chosen(["all"])) == len(known)
    with pytest.raises(UsageError, match=r"no figure 'liu2020/figure2': did you mean 'liu2020/fig"):
        chosen(["liu2020/figure2"])
    with pytest.raises(UsageError, match=r"no figure 'smith2019/fig1'.*--list"):
        chosen(["smith2019/fig1"])


# -- at the command line ---------------------------------------------------------------------------


def command(*arguments: str) -> Any:
    from landscape.cli import cli

    return CliRunner().invoke(cli, ["figure", *arguments], standalone_mode=False)


def test_list_names_every_figure() -> None:
    found = command("--list")
    assert all(name in found.stdout for name in figures())
    assert {*json.loads(command("--list", "--json").stdout)["figures"]} == {*figures()}


def test_dry_run_trains_nothing(tmp_path: Path) -> None:
    found = command("liu2020/fig2", "--dry-run", "--cache", str(tmp_path / "cache"), "--json")
    content = json.loads(found.stdout)
    assert content["cached"] == 0
    assert content["runs"][0]["updates"] == 32 * 19
    assert content["runs"][0]["config"]["epochs"] == 32
    assert not (tmp_path / "cache").exists()


def test_paper_scale_dry_run_needs_no_data(tmp_path: Path) -> None:
    found = command(
        "liu2020/fig2", "--scale", "paper", "--dry-run", "--json", "--cache", str(tmp_path)
    )
    content = json.loads(found.stdout)
    assert {run["config"]["data"]["name"] for run in content["runs"]} == {"cifar10"}
    assert all(run["updates"] == 200 * 352 for run in content["runs"])


def test_unknown_keys_for_slurm_are_refused(tmp_path: Path) -> None:
    from landscape.running.cluster import slurm

    with pytest.raises(UsageError, match="--slurm partitoin=gpu: write KEY=VALUE with one of"):
        slurm("partitoin=gpu", tmp_path)
    with pytest.raises(UsageError, match="Is this a machine with SLURM"):
        slurm("partition=gpu", tmp_path)


def test_jobs_by_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from landscape.running.cluster import slurm

    # A job finds functions by the names of their modules; this one is found where it lies.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    works = {
        "a": measure(losses, run()),
        "b": measure(losses, run(seed=1)),
        "c": measure(losses, run(), run(seed=1)),
        "bad": measure(fails),
    }
    executor = slurm("cluster=local,timeout_min=5", tmp_path / "slurm")
    outcome = execute(works, Cache(tmp_path), threads=1, executor=executor)
    assert [*outcome.failed] == [works["bad"].digest]
    assert len(outcome.done) == 5


KILLED = """
import sys
from landscape.papers import make_figures, chosen
make_figures(chosen(["liu2020/fig2"]), "smoke", out=sys.argv[1] + "/out", cache=sys.argv[1])
"""


def test_a_killed_command_goes_on(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*.json")}
    assert done
    assert not (tmp_path / "out/smoke/liu2020/fig2.json").exists()
    (made,) = make_figures(chosen(["liu2020/fig2"]), "smoke", out=tmp_path / "out", cache=tmp_path)
    assert made.report is not None
    assert all(p.stat().st_mtime_ns == when for p, when in done.items())
    fresh = make_figures(
        chosen(["liu2020/fig2"]), "smoke", out=tmp_path / "out2", cache=tmp_path / "other"
    )
    assert fresh[0].report is not None
    assert made.report["numbers"] == fresh[0].report["numbers"]


def test_accuracy_and_measure_types(warm: Cache) -> None:
    trained = warm.get(run())
    assert isinstance(trained, Trained)
    found = accuracy(trained, attacks=["fgsm"], n=50)
    assert list(found.attack) == ["clean", "fgsm"]
    kept = trained.metrics()
    assert kept == dict(trained.checkpoint().metrics)
    kept.clear()
    assert trained.metrics() == dict(trained.checkpoint().metrics)
    assert isinstance(measure(losses), Measure)


def test_option_from_another_run_may_have_a_stand_in() -> None:
    """A teacher can't be left out, so the configuration without folders needs another one."""
    first = run(seed=2)
    teacher = From(first, "{folder}/best.pt", stand_in=first.config().model.build(seed=0))
    with pytest.raises(UsageError, match="needs standard, adversarial"):
        Run("pgd+kdsa", "li2023/cifar10-prn18").config()
    bare = From(first, "{folder}/best.pt")
    taught = Run("fgsm-n+kdsa", "cifar10", {"kdsa": {"standard": bare, "adversarial": bare}})
    with pytest.raises(UsageError, match="needs standard, adversarial"):
        taught.config()
    options = {"standard": teacher, "adversarial": teacher}
    taught = Run("fgsm-n+kdsa", "cifar10", {"kdsa": options})
    assert taught.needs == (first, first)
    assert taught.config().plan.method.name == "fgsm-n+kdsa"
    assert taught.describe()["from"] == {
        f"kdsa.{name}": teacher.describe() for name in ("standard", "adversarial")
    }


# -- every figure ----------------------------------------------------------------------------------

EVERY = [
    *(f"liu2020/fig{k}" for k in range(1, 16)),
    "liu2020/table1",
    "liu2020/table2",
    *(f"sitawarin2021/fig{k}" for k in range(1, 9)),
    *(f"sitawarin2021/table{k}" for k in range(1, 5)),
    "sitawarin2021/gap",
    *(f"kanai2021/fig{k}" for k in range(1, 8)),
    *(f"kanai2021/table{k}" for k in range(1, 4)),
    *(f"liu2022/fig{k}" for k in range(1, 22)),
    *(f"liu2022/table{k}" for k in range(1, 8)),
    *(f"li2023/fig{k}" for k in range(1, 5)),
    *(f"li2023/figA{k}" for k in range(1, 4)),
    *(f"li2023/table{k}" for k in range(1, 4)),
]


def test_every_figure_and_table_of_the_papers_is_there() -> None:
    assert {*figures()} == {*EVERY}


@pytest.mark.parametrize("name", sorted(figures()))
def test_every_figure_resolves_at_every_scale(name: str) -> None:
    """Plans and configurations are well-formed without data, and paper scale is not digits."""
    one = figures()[name]
    for scale in ("digits", "mnist", "paper", "smoke"):
        works = everything(one.plan(Scale(scale)))
        configs = [work.config() for work in works.values() if isinstance(work, Run)]
        assert all(isinstance(work.title, str) for work in works.values())
        if scale in ("mnist", "paper"):
            assert not any(config.data.startswith("digits") for config in configs)
        if scale in ("digits", "smoke"):
            assert all(config.data.startswith("digits") for config in configs)
    assert one.title
    assert not one.title.endswith(".")
    texts = [claim.text for claim in one.claims]
    assert len({*texts}) == len(texts)
    assert not any("|" in text for text in texts), "claims stand in tables"
