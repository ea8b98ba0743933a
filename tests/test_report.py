"""Reports: what is measured, kept, left out and shown; the page in a browser; the commands."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import landscape as ls
from landscape.cli import run
from landscape.errors import DataError, NumericalError, UsageError
from landscape.reporting import estimating, running
from landscape.reporting.page import render
from landscape.reporting.planning import Choice
from landscape.reporting.sections import SECTIONS

HOSTILE = "<script>alert(1)</script>$x$"
ATTACK = ls.attack("pgd-3", eps=0.1)
FEW = ["accuracy", "spectrum", "surface", "trace"]


def network(seed: int, outputs: int = 3) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.ReLU(), torch.nn.Linear(8, outputs)
    )


def images(n: int = 48, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, 4, 4, generator=generator)
    return x, x.flatten(1)[:, :3].argmax(1)


def pair(**data) -> dict[str, ls.Objective]:
    return {name: ls.Objective(network(k), images(**data)) for k, name in enumerate("AB")}


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every section at its cheapest, however slow the machine is."""
    monkeypatch.setattr(
        estimating, "plan", lambda costs, budget: [Choice(k, 0, c[0]) for k, c in costs.items()]
    )


def settled(report: ls.Report) -> list[np.ndarray]:
    """What two reports of the same request must agree on."""
    s = report.summary
    return [s.section, s.settings, s.state, s.reason, s.number_name, s.number_value, s.number_error]


# -- what is measured -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All sections of two networks, one of a hostile name, and its file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            estimating, "plan", lambda costs, budget: [Choice(k, 0, c[0]) for k, c in costs.items()]
        )
        networks = dict(zip(("A", HOSTILE.replace("/", "|")), pair().values(), strict=True))
        found = ls.report(networks, attack=ATTACK, budget=1e6, about={"A": HOSTILE})
    path = tmp_path_factory.mktemp("report") / "r.h5"
    return found, found.save(path)


def test_every_section_runs_and_is_kept(whole):
    found, path = whole
    assert list(found.results) == list(SECTIONS)
    assert (found.summary.state == "done").all(), found.summary.reason
    back = ls.Report.load(path)
    assert back.summary == found.summary
    assert back.comparison == found.comparison
    for key, results in found.results.items():
        assert back.results[key] == results
    for key, section in SECTIONS.items():
        assert section.numbered == (key in found.summary.number_section), key
    assert not found.left_out("failed")


def test_numbers_are_those_of_the_diagnostics(whole):
    found, _ = whole
    subject = pair()["A"]
    numbers = {(h.section, h.name): h for h in found.headlines()["A"]}
    spectrum = ls.spectrum(subject, 2)
    assert numbers["spectrum", "eigenvalue 1"].value == spectrum.eigenvalues[0]
    assert numbers["spectrum", "eigenvalue 1"].error == spectrum.residuals[0]
    strong = dataclasses.replace(ATTACK)
    table = ls.evaluate(subject, {"pgd": strong})
    clean = numbers["accuracy", "accuracy, clean"]
    assert clean.value == table.accuracy[0]
    assert clean.interval() == (table.accuracy_low[0], table.accuracy_high[0])
    assert numbers["accuracy", "accuracy, 3 steps"].value == table.accuracy[1]
    assert_allclose(
        numbers["accuracy", "loss, 3 steps"].error, table.loss_standard_error[1], rtol=1e-12
    )
    trace = ls.trace(subject, 10)
    assert numbers["trace", "trace"].error == trace.trace.standard_error
    effect = ls.effectiveness(subject, {"fgsm": ls.attack("fgsm", eps=0.1)}, strong)
    ratio = numbers["effectiveness", "share of it that FGSM reaches"]
    assert_allclose(
        (ratio.value, ratio.error),
        (effect.ratio_of_means("fgsm").value, effect.ratio_of_means("fgsm").standard_error),
        rtol=1e-9,
    )


def test_fewer_samples_are_the_same_for_every_network():
    objective = pair(n=40)["A"]
    part = objective.with_samples([3, 11, 30])
    losses, hits = objective.per_sample()
    assert_allclose(part.value().loss, losses[[3, 11, 30]].mean(), rtol=1e-6)
    assert part.value().accuracy == hits[[3, 11, 30]].double().mean()
    for bad in ([], [40], [-1, 2]):
        with pytest.raises(UsageError, match=r"give at least one place in 0\.\.39"):
            objective.with_samples(bad)


def test_some_samples_of_inputs_by_name():
    class Sum(torch.nn.Linear):
        def forward(self, a, b):
            return super().forward(a + b)

    a, b = torch.rand(2, 10, 6)
    y = torch.arange(10) % 3
    data = [({"a": a[s], "b": b[s]}, y[s]) for s in (slice(0, 7), slice(7, 10))]
    objective = ls.Objective(Sum(6, 3), data)
    part = objective.with_samples([1, 8, 9])
    expected = objective.per_sample()[0][[1, 8, 9]].mean()
    assert_allclose(part.value().loss, expected.detach(), rtol=1e-6)
    found = ls.report(objective, budget=1e6, sections=["trace"])
    assert list(found.results) == ["trace"]


def test_without_an_attack_or_classes(cheap):
    x, _ = images()
    objective = ls.Objective(network(0, 1), (x, x.sum((1, 2, 3))[:, None]), loss="mse")
    found = ls.report(objective, budget=1e6, sections=["accuracy", "masking", "trace"])
    why = dict(zip(found.summary.section, found.summary.reason[0], strict=True))
    assert why["masking"] == "needs an attack with a radius: add --attack and --eps"
    assert why["accuracy"].startswith("accuracy needs a classifier")
    assert list(found.results) == ["trace"]
    assert found.comparison is None
    assert not found.left_out("failed")


def test_refusals():
    networks = pair()
    with pytest.raises(UsageError, match=r"the budget must be positive, got 0 s: write 10m"):
        ls.report(networks, budget=0)
    with pytest.raises(UsageError, match="unknown section 'spectra': did you mean 'spectrum'"):
        ls.report(networks, sections=["spectra"])
    with pytest.raises(UsageError, match="a report needs at least one network"):
        ls.report({})
    with pytest.raises(UsageError, match="'a/b' can't name a network in a file"):
        ls.report({"a/b": networks["A"]})
    with pytest.raises(UsageError, match="'A' must be an Objective, got Sequential"):
        ls.report({"A": network(0)})
    with pytest.raises(UsageError, match="B and A have different data: report them one by one"):
        ls.report({"A": networks["A"], "B": pair(seed=1)["B"]})
    attacks = {"A": ATTACK, "B": ls.attack("pgd-3", eps=0.2)}
    with pytest.raises(
        UsageError, match=r"B would be attacked by 3 steps, linf, ε = 0.2, A by 3 steps, linf, ε"
    ):
        ls.report(networks, attack=attacks)


# -- interruptions, failures, time ----------------------------------------------------------------


def test_an_interrupted_report_goes_on(cheap, tmp_path, monkeypatch):
    path, begun = tmp_path / "p.h5", []
    request = {"budget": 1e6, "sections": FEW, "attack": ATTACK}
    uninterrupted = ls.report(pair(), **request)

    def keep(report):
        report.save(path, overwrite=True)
        if len(begun) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ls.report(pair(), **request, save=keep, says=lambda s: s[0] == "[" and begun.append(s))
    half = ls.Report.load(path)
    assert int((half.summary.state == "done").sum()) == 3
    monkeypatch.setattr(running, "estimate", None)  # it is not planned again
    rest = []
    found = ls.report(pair(), **request, resume=half, says=rest.append)
    assert len(rest) == 5
    for a, b in zip(settled(found), settled(uninterrupted), strict=True):
        assert_array_equal(a, b)
    assert found.comparison is not None
    with pytest.raises(
        UsageError, match=r"made with other settings \(settings.budget, seed differ"
    ):
        ls.report(pair(), **{**request, "budget": 5.0}, seed=1, resume=half)


def test_a_section_that_fails_leaves_the_others(cheap, monkeypatch):
    def broken(*_):
        raise RuntimeError("no <b>luck</b>\nat all")

    def diverged(*_):
        raise NumericalError("the loss is NaN.")

    for key, run_ in (("spectrum", broken), ("trace", diverged)):
        monkeypatch.setitem(SECTIONS, key, dataclasses.replace(SECTIONS[key], run=run_))
    found = ls.report(pair(), budget=1e6, sections=FEW)
    assert found.left_out("failed") == [
        (name, key, why)
        for name in "AB"
        for key, why in (
            ("spectrum", "RuntimeError: no <b>luck</b> at all"),
            ("trace", "the loss is NaN."),
        )
    ]
    assert list(found.results) == ["accuracy", "surface"]
    page = render(found)
    assert "no &lt;b&gt;luck" in page
    assert "<b>luck" not in page


def test_a_section_without_time_is_left_out_and_said(cheap, monkeypatch):
    monkeypatch.setattr(running._Run, "spent", property(lambda self: 99.0))
    found = ls.report(pair(), budget=100.0, sections=["accuracy", "density"])
    assert set(found.summary.reason[:, 1]) <= {
        "",
        "no time left: earlier sections took longer than planned, 1 s of 100 s remain",
    }
    monkeypatch.setattr(running._Run, "spent", property(lambda self: 101.0))
    found = ls.report(pair(), budget=100.0, sections=FEW)
    assert (found.summary.state == "skipped").all()
    assert "0 s of 100 s remain" in render(found)
    assert "Nothing was measured" in render(found)


def test_what_is_not_to_be_trusted_is_said(cheap):
    x, y = images()
    generator = torch.Generator().manual_seed(3)
    noise = ls.Objective(network(0), (x, y[torch.randperm(len(y), generator=generator)]))
    found = ls.report(noise, budget=1e6, sections=["accuracy"])
    assert found.results["accuracy"]["model"].near_chance
    assert "model, clean accuracy is near chance" in found.doubts()[0]
    assert "Read this first" in render(found)


def test_networks_of_two_reports(cheap, tmp_path):
    options = {"budget": 1e6, "sections": ["accuracy", "spectrum"]}
    first, second = (ls.report(ls.Objective(network(k), images(seed=k)), **options) for k in (0, 1))
    found = ls.compare(first, second, names=("one", "two"))
    verdicts = dict(zip(found.name, found.verdict, strict=True))
    assert found.first == "one: model"
    assert verdicts["eigenvalue 1"] == "no verdict: measured on other samples"
    assert found.method[0] == "independent"  # accuracies on other samples
    found.save(tmp_path / "c.h5")
    assert ls.load(tmp_path / "c.h5") == found
    with pytest.raises(UsageError, match="a comparison needs two networks"):
        ls.compare(first)
    with pytest.raises(UsageError, match="'x: model' is given twice"):
        ls.compare(first, second, names=("x", "x"))


# -- the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(whole):
    """The page of all sections, written and read again."""
    return whole[0].html(whole[1].with_suffix(".html"))


def _links(page):
    """What tags refer to, as a browser reads them: scripts are no tags inside."""
    found = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.extend(value for name, value in attrs if name in ("src", "href"))

    Tags().feed(page)
    return found


def test_the_page_loads_nothing_and_escapes_names(whole, page, monkeypatch):
    found, page = whole[0], page.read_text()
    assert "default-src 'none'" in page
    links = _links(page)
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "&lt;script&gt;alert(1)" in page
    assert "No picture" not in page
    for section in SECTIONS.values():
        assert section.title.replace("'", "&#x27;") in page
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "plotly" else find(name, *a)
    )
    plain = render(dataclasses.replace(found, results={"surface": found.results["surface"]}))
    assert "To rotate it, install plotly" in plain
    assert "<script" not in plain
    assert "script-src" not in plain


def test_the_page_in_a_browser(whole, page):
    playwright = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("plotly")
    with pytest.raises(OSError, match="exists: pass --overwrite"):
        whole[0].html(page)
    own = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with playwright.sync_playwright() as p:
        try:
            browser = p.chromium.launch(
                executable_path=own, args=["--enable-unsafe-swiftshader", "--no-sandbox"]
            )
        except playwright.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        problems = []
        for width, scheme in ((1200, "light"), (400, "dark")):
            size = {"width": width, "height": 800}
            tab = browser.new_page(viewport=size, color_scheme=scheme)
            tab.set_default_timeout(120_000)
            tab.on("pageerror", lambda error: problems.append(str(error)))
            tab.on("console", lambda m: m.type == "error" and problems.append(m.text))
            tab.on("dialog", lambda d: problems.append(d.message))
            tab.on("request", lambda r: r.url.startswith("http") and problems.append(r.url))
            tab.goto(page.as_uri(), timeout=120_000)
            tab.locator(".scene .gl-container canvas").first.wait_for(state="attached")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            loaded = "[...document.images].every(i => i.complete && i.naturalWidth > 100)"
            assert tab.evaluate(loaded)
            assert tab.locator("figure img").count() == len(SECTIONS)
            assert tab.locator(".scene .main-svg").count() >= 4
            assert not problems
            tab.close()
        browser.close()


# -- the commands ---------------------------------------------------------------------------------


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


QUICK = ["--sections", "accuracy,spectrum", "--n-examples", "60"]


def test_report_and_compare(checkpoint, cheap, in_tmp, capsys):
    assert run(["report", str(checkpoint), *QUICK]) == 0
    out, err = capsys.readouterr()
    assert err.index("clean accuracy") < err.index("[1/2] Accuracy and loss: tiny")
    assert re.search(r"takes up to about \d+ MiB of memory", err)
    assert "eigenvalue 1" in out
    assert out.splitlines()[-2:] == ["wrote tiny-report.h5", "wrote tiny-report.html"]
    assert sorted(p.name for p in in_tmp.iterdir()) == ["tiny-report.h5", "tiny-report.html"]
    assert run(["report", str(checkpoint), *QUICK]) == 1
    assert "tiny-report.h5 exists: pass --overwrite" in capsys.readouterr().err

    shutil.copy(checkpoint, "twin.pt")
    assert run(["report", str(checkpoint), "twin.pt", *QUICK, "--json", "--out", "both.h5"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert set(content["comparison"]["verdict"]) == {"not distinguishable"}
    assert content["kind"] == "report"

    assert run(["compare", "tiny-report.h5", "both.h5"]) == 0
    out, _ = capsys.readouterr()
    assert "both: tiny" in out
    assert "no verdict" not in out
    assert run(["compare", str(checkpoint), "twin.pt", *QUICK]) == 0
    assert "0 of 8 differ" in capsys.readouterr().out
    assert set(ls.Report.load("compared-numbers.h5").networks) == {"tiny", "twin"}


def test_a_dry_run_writes_nothing(checkpoint, in_tmp, capsys):
    assert run(["report", str(checkpoint), "--n-examples", "40", "--dry-run", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["section"] for row in content["sections"]] == list(SECTIONS)
    assert content["seconds"] <= content["budget"] == 600
    assert not list(in_tmp.iterdir())


def test_the_command_goes_on(checkpoint, cheap, in_tmp, capsys, monkeypatch):
    section = SECTIONS["spectrum"]

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(SECTIONS, "spectrum", dataclasses.replace(section, run=stop))
    assert run(["report", str(checkpoint), *QUICK]) == 130
    assert [p.name for p in in_tmp.iterdir()] == ["tiny-report.partial.h5"]
    monkeypatch.setitem(SECTIONS, "spectrum", section)
    capsys.readouterr()
    assert run(["report", str(checkpoint), *QUICK]) == 0
    err = capsys.readouterr().err
    assert "going on from tiny-report.partial.h5" in err
    assert "Accuracy and loss: tiny" not in err
    assert not Path("tiny-report.partial.h5").exists()


def test_exit_codes(checkpoint, cheap, in_tmp, capsys, monkeypatch):
    good = ls.load_checkpoint(checkpoint)
    flat = {name: torch.zeros_like(w) for name, w in good.state_dict.items()}
    dataclasses.replace(good, state_dict=flat).save("flat.pt")
    assert run(["report", "flat.pt", "--sections", "accuracy", "--n-examples", "60"]) == 3
    assert "flat, clean accuracy is near chance" in capsys.readouterr().err

    def broken(*_):
        raise RuntimeError("out of luck")

    monkeypatch.setitem(SECTIONS, "spectrum", dataclasses.replace(SECTIONS["spectrum"], run=broken))
    assert run(["report", str(checkpoint), *QUICK]) == 1
    assert "tiny, spectrum failed: RuntimeError: out of luck" in capsys.readouterr().err
    assert Path("tiny-report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "abc"], "'abc' is not a time: write 90s, 10m or 1h30m"),
        (["--budget", "0"], "'0' is not a time"),
        (["--budget", "0m"], "'0m' is not a time"),
        (["--budget", "10"], "'10' is not a time"),
        (["--budget", "-5m"], "'-5m' is not a time"),
        (["--sections", "spectra"], "unknown section 'spectra'"),
        (["--accuracy-split", "nowhere"], "Splits: train, val, test. (--accuracy-split nowhere)"),
    ],
)
def test_wrong_usage(checkpoint, in_tmp, capsys, arguments, message):
    assert run(["report", str(checkpoint), "--n-examples", "40", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(in_tmp.iterdir())


def test_wrong_files(checkpoint, in_tmp, capsys):
    assert run(["report", "nowhere.pt"]) == 1
    assert "nowhere.pt" in capsys.readouterr().err
    assert run(["compare", "nowhere.h5", "b.h5"]) == 1
    assert "nowhere.h5 does not exist" in capsys.readouterr().err
    ls.trace(pair()["A"], 4).save("trace.h5")
    assert run(["compare", "trace.h5"]) == 1
    assert "trace.h5 is no report: write one with" in capsys.readouterr().err
    assert run(["compare", "trace.h5", str(checkpoint)]) == 2
    assert "give checkpoints or files of `landscape report`, not both" in capsys.readouterr().err
    assert run(["compare", str(checkpoint)]) == 2
    assert "needs two checkpoints" in capsys.readouterr().err
    with pytest.raises(DataError, match="is no report"):
        ls.Report.load("trace.h5")
