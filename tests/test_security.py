"""What no file may cause: code that runs, an import, markup in a page, a file in another place."""

from __future__ import annotations

import ast
import base64
import dataclasses
import hashlib
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import landscape as ls
from landscape import checkpoints, exchange, models
from landscape.checkpoints import Checkpoint
from landscape.cli import run
from landscape.errors import CheckpointError, DataError, UsageError
from landscape.files import write_atomic
from landscape.models import ModelSpec
from landscape.plotting.page import save_page
from landscape.reporting import estimating
from landscape.reporting.planning import Choice

ROOT = Path(__file__).parent.parent / "landscape"

# -- the source -----------------------------------------------------------------------------------

_PICKLES = {"dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "cPickle", "_pickle"}
_BUILTINS = {"eval", "exec", "compile", "__import__"}
_CALLS = {
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "tempfile.mktemp",
    "torch.hub.load",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "runpy.run_path",
    "runpy.run_module",
    "builtins.eval",
    "builtins.exec",
    "code.interact",
}
# Where a module may be imported by a name that is no literal, and whose name it is.
_IMPORTS = {
    ("__init__.py", "__getattr__"): "a table of this package",
    ("cli/__init__.py", "get_command"): "a table of this package",
    ("results.py", "_read"): "a table of this package",
    ("papers/figures.py", "figures"): "a table of this package",
    ("callbacks.py", "_lightning"): "a table of this package",
    ("losses.py", "named"): "the user's --loss",
    ("data/factory.py", "_find"): "the user's --data",
    ("models/foreign.py", "_import"): "the user's --model",
}
_LOADS = {("checkpoints.py", "read_payload")}


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _findings(tree: ast.AST, file: str) -> list[str]:
    """What the source has that could run code from a file."""
    found: list[str] = []

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or ""]
            for module in modules:
                if module.split(".")[0] in {*_PICKLES, "subprocess", "pty", "runpy"}:
                    found.append(f"{function}: import of {module}")
            if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "os", "importlib"):
                found.append(f"{function}: from {node.module} import ...")
        if isinstance(node, ast.Call):
            called = _dotted(node.func)
            keywords = {k.arg: k.value for k in node.keywords}
            if called in _BUILTINS | _CALLS or called.startswith(("os.exec", "os.spawn")):
                found.append(f"{function}: {called}")
            if "shell" in keywords:
                found.append(f"{function}: shell=")
            if called in ("np.load", "numpy.load") and not _is(keywords.get("allow_pickle"), False):
                found.append(f"{function}: {called} without allow_pickle=False")
            if called == "torch.load":
                given = keywords.get("weights_only")
                by_choice = given is not None and ast.unparse(given) == "not trust"
                if not (_is(given, True) or (by_choice and (file, function) in _LOADS)):
                    found.append(f"{function}: torch.load without weights_only=True")
            named = bool(node.args) and isinstance(node.args[0], ast.Constant)
            if called.endswith("import_module") and not named and (file, function) not in _IMPORTS:
                found.append(f"{function}: {called}")
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(tree, "module")
    return found


def _is(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_source_runs_no_code_from_files(path: Path) -> None:
    assert not _findings(ast.parse(path.read_text()), path.relative_to(ROOT).as_posix())


def test_the_places_that_import_by_name_are_still_there() -> None:
    for file, function in {*_IMPORTS, *_LOADS}:
        text = (ROOT / file).read_text()
        assert f"def {function}(" in text, f"{file}: {function} is gone, shorten the list"


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')",
        "exec(text)",
        "def f(p):\n import pickle\n return pickle.load(p)",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=not trust)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "import subprocess",
        "run('ls', shell=True)",
        "os.system('ls')",
        "import yaml",
        "tempfile.mktemp()",
        "importlib.import_module(name)",
    ],
)
def test_the_search_finds(text: str) -> None:
    assert _findings(ast.parse(text), "x.py")


# -- files that would import or run something -----------------------------------------------------


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module in it whose import, or whose function, leaves a file behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "canary_module.py").write_text(
        "from pathlib import Path\nPath('ran').touch()\n"
        "from landscape.models import build\n"
        "def net(in_shape, num_classes):\n"
        "    return build('logistic', in_shape=in_shape, num_classes=num_classes)\n"
        "def digits(split='test', n_examples=None):\n"
        "    from landscape import data\n"
        "    return data.load('digits', split, n_examples=n_examples)\n"
    )
    yield tmp_path / "ran"
    sys.modules.pop("canary_module", None)


def native(path: str, **changed: Any) -> str:
    """A checkpoint, with its digest, that says what is asked for."""
    spec = ModelSpec("logistic", (1, 8, 8), 10)
    content: dict[str, Any] = {
        "state_dict": spec.build(seed=0).state_dict(),
        "model": spec.to_dict(),
        "data": {"name": "digits", "options": {}},
        **changed,
    }
    Checkpoint(**content).save(path, overwrite=True)
    return path


def named(name: str, **options: Any) -> dict[str, Any]:
    described = ModelSpec("logistic", (1, 8, 8), 10).to_dict()
    return {**described, "name": name, "options": options}


EVALUATE = ["--attack", "clean", "--n-examples", "20", "--overwrite", "-q", "--out", "e"]


@pytest.mark.parametrize(
    "changed",
    [
        {"model": named("canary_module:net")},
        {"model": named("ensemble:canary_module:net", members=1)},
        {"model": named("os:system", command="touch ran")},
        {"model": named("subprocess:run", args="touch ran", shell=True)},
        {"data": {"name": "canary_module:digits", "options": {}}},
        {"data": {"name": "os:system", "options": {"command": "touch ran"}}},
    ],
    ids=lambda changed: str(next(iter(changed.values()))["name"]),
)
def test_a_checkpoint_imports_nothing(
    changed: dict[str, Any], canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = native("named.pt", **changed)
    for verb in (["evaluate", *EVALUATE], ["spectrum", "--top", "1"], ["report"]):
        assert run([verb[0], path, *verb[1:]]) == 2
        assert "a file may not cause an import" in capsys.readouterr().err
    assert not canary.exists()
    assert "canary_module" not in sys.modules


def test_what_the_user_names_or_trusts_is_imported(canary: Path) -> None:
    path = native("own.pt", model=named("canary_module:net"))
    with pytest.raises(UsageError, match="name it yourself"):
        ModelSpec.from_dict(checkpoints.load(path).model or {})
    assert not canary.exists()
    assert run(["evaluate", path, "--model", "canary_module:net", *EVALUATE]) == 0
    assert canary.exists()
    assert run(["evaluate", path, "--trust-checkpoint", *EVALUATE]) == 0
    path = native("own.pt", data={"name": "canary_module:digits", "options": {}})
    assert run(["evaluate", path, "--data", "canary_module:digits", *EVALUATE]) == 0
    assert run(["evaluate", path, "--trust-checkpoint", *EVALUATE]) == 0


def test_which_names_are_imports() -> None:
    assert [*map(models.imports, ("a.b:c", "ensemble:a:b", "ensemble:x:"))] == [True] * 3
    names = ("lenet-4", "torchvision:resnet18", "ensemble:lenet-4", "ensemble:torchvision:vgg11")
    assert not any(map(models.imports, names))


@pytest.mark.parametrize(
    "text",
    [
        '[train]\nmodel = "canary_module:net"',
        '[train]\ndata = "canary_module:digits"\nmodel = "logistic"',
        '[grid]\nmodel = ["logistic", "ensemble:canary_module:net"]',
        '[[grid]]\nextra = "canary_module:digits"',
        'checkpoints = ["own.pt"]',
        'checkpoints = ["data.pt"]',
    ],
)
def test_a_sweep_imports_nothing(
    text: str, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    native("own.pt", model=named("canary_module:net"))
    native("data.pt", data={"name": "canary_module:digits", "options": {}})
    Path("sweep.toml").write_text(text)
    for more in ([], ["--dry-run"]):
        assert run(["sweep", "sweep.toml", *more]) in (1, 2)
        assert "a file may not cause an import" in capsys.readouterr().err
    assert not canary.exists()


def test_a_teacher_imports_nothing(canary: Path) -> None:
    from landscape.training.distillation import Teacher

    with pytest.raises(UsageError, match="give it from Python, as a module"):
        Teacher(native("own.pt", model=named("canary_module:net")))
    assert not canary.exists()


# -- files that announce more than they hold ------------------------------------------------------


def laughing(levels: int = 60) -> list[Any]:
    found: list[Any] = ["ha"]
    for _ in range(levels):
        found = [found, found]
    return found


def within() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def deep(levels: int = 300) -> list[Any]:
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"w": torch.zeros(1).expand(10**6, 10**6)}, r"shape \(1000000, 1000000\) has 4 bytes"),
        ({"w": torch.empty(10**6, 10**6, device="meta")}, "not dense"),
        ({"w": torch.eye(2).to_sparse()}, "not dense"),
        ({"state_dict": {"w": torch.zeros(2)}, "log": laughing()}, "unfolds to 3e"),
        ({"state_dict": {"w": torch.zeros(2)}, "log": within()}, "a list in itself"),
        ({"state_dict": {"w": torch.zeros(2)}, "log": deep()}, "nested more than 100 deep"),
    ],
)
def test_a_small_checkpoint_stays_small(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load(tmp_path / "a.pth")


def test_an_archive_of_zeros_is_refused(tmp_path: Path) -> None:
    import zipfile

    torch.save({"w": torch.zeros(10**6)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as plain,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(CheckpointError, match="it unpacks to 4,000,"):
        checkpoints.load(tmp_path / "b.pth")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18-9999", {}),
        ("mlp-99999-99999", {}),
        ("mlp", {"hidden": [10**6, 10**6]}),
        ("ensemble:mlp", {"members": 10**9}),
        ("wrn-999994-1", {}),
        ("lenet-" + "9" * 5000, {}),
    ],
)
def test_a_description_is_not_built_to_see_that_it_does_not_fit(
    name: str,
    options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shape = {"in_shape": [1, 32, 32]} if name[:6] in ("resnet", "wrn-99") else {}
    path = native("large.pt", model={**named(name, **options), **shape})
    assert run(["evaluate", path, *EVALUATE]) in (1, 2)
    assert re.search("the file describes|at most|unknown model", capsys.readouterr().err)


@pytest.fixture
def surface() -> ls.Surface:
    """A plane of a network of one layer."""
    x = torch.rand(12, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    objective = ls.Objective(torch.nn.Linear(4, 3), (x, x.argmax(1) % 3))
    return ls.surface(objective, x=ls.Axis(-1, 1, 4), y=ls.Axis(-1, 1, 3))


def _announces(group: Any) -> None:
    group.create_dataset("loss", (10**6, 10**6), "f8", chunks=True)


def _elsewhere(group: Any) -> None:
    group.create_dataset("loss", (3, 4), "u1", external=[("/etc/hostname", 0, 12)])


def _linked(group: Any) -> None:
    group["loss"] = h5py.ExternalLink("other.h5", "/loss")


def _virtual(group: Any) -> None:
    layout = h5py.VirtualLayout((3, 4), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "loss", (3, 4))
    group.create_virtual_dataset("loss", layout)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_announces, "'loss' announces 8,000,000,000,000 bytes and holds 0"),
        (_elsewhere, "'loss' lies in another file"),
        (_linked, "'loss' is no array of the file itself"),
        (_virtual, "'loss' lies in another file"),
    ],
)
def test_a_result_is_read_from_its_own_file(
    change: Callable[[Any], None], message: str, surface: ls.Surface, tmp_path: Path
) -> None:
    path = surface.save(tmp_path / "s.h5")
    surface.save(tmp_path / "other.h5")
    with h5py.File(path, "r+") as file:
        del file["loss"]
        change(file)
    with pytest.raises(DataError, match=message):
        ls.load(path)


def test_a_surface_of_another_program_is_read_from_its_own_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["xcoordinates"] = [0.0, 1.0]
        file.create_dataset("train_loss", (2,), "f8", external=[("/etc/hostname", 0, 16)])
    with pytest.raises(DataError, match="'train_loss' lies in another file"):
        exchange.read_goldstein(tmp_path / "g.h5")


@pytest.mark.parametrize(
    ("key", "value"), [("seed", "<b>"), ("versions", {"landscape": 3}), ("created", 5)]
)
def test_a_provenance_has_its_types(
    key: str, value: Any, surface: ls.Surface, tmp_path: Path
) -> None:
    import json

    path = surface.save(tmp_path / "s.h5")
    with h5py.File(path, "r+") as file:
        record = json.loads(file.attrs["provenance"])
        file.attrs["provenance"] = json.dumps({**record, key: value})
    with pytest.raises(DataError, match="no readable provenance"):
        ls.load(path)


# -- pages ----------------------------------------------------------------------------------------

HOSTILE = (
    "<script>window.hacked=1</script>",
    "</script><script>window.hacked=1</script>",
    "\"><img src=x onerror='window.hacked=1'>",
    "' onmouseover='window.hacked=1' x='",
    '<a href="javascript:window.hacked=1">x</a>',
    "\u2028window.hacked=1\u2029//",
    "-->]]></style><style>@import 'http://127.0.0.1/x'</style>",
    "&lt;b&gt; $\\frac{ \ud800",
)


class Structure(HTMLParser):
    """Elements with their attributes, and the texts of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self.policy = ""
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        given = dict(attrs)
        self.links += [str(given[key]) for key in ("src", "href") if key in given]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(given["content"])
        self._inside = tag
        if tag in self.texts:
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.texts:
            self.texts[self._inside][-1] += data


def poisoned(result: Any, text: str) -> Any:
    """A result as a file may hold it: every text that is free is this one."""
    record = result.provenance

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: changed(v) for key, v in value.items()}
        if isinstance(value, list):
            return [changed(v) for v in value]
        return value + text if isinstance(value, str) and value not in ("fixed", "each") else value

    provenance = dataclasses.replace(
        record,
        settings=changed(record.settings),
        objective=changed(record.objective),
        versions=changed(record.versions),
        created=record.created + text,
    )
    return dataclasses.replace(result, provenance=provenance)


@pytest.fixture(scope="module")
def report() -> ls.Report:
    """A small report of two networks with a surface to rotate."""
    x = torch.rand(24, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    networks = {
        name: ls.Objective(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3)), (x, y))
        for name, y in zip("AB", 2 * [x.flatten(1)[:, :3].argmax(1)], strict=True)
    }
    with pytest.MonkeyPatch.context() as patch:
        cheapest = lambda costs, budget: [Choice(k, 0, c[0]) for k, c in costs.items()]  # noqa: E731
        patch.setattr(estimating, "plan", cheapest)
        return ls.report(networks, sections=["accuracy", "surface"], budget=1e6)


def hostile_report(report: ls.Report, text: str) -> ls.Report:
    """The same with hostile names, descriptions, reasons and provenances."""
    rename = {name: name + text for name in report.networks}
    summary = poisoned(report.summary, text)

    def longer(values: np.ndarray) -> np.ndarray:
        return np.array([f"{value}{text}" for value in values.ravel()]).reshape(values.shape)

    names = ("network", "about", "model_class", "number_network", "number_name", "number_units")
    summary = dataclasses.replace(summary, **{n: longer(getattr(summary, n)) for n in names})
    results = {
        key: {rename[name]: poisoned(result, text) for name, result in found.items()}
        for key, found in report.results.items()
    }
    comparison = report.comparison
    assert comparison is not None
    return ls.Report(summary, results, poisoned(comparison, text))


@pytest.mark.parametrize("text", ["".join(HOSTILE[:-1]), "".join(HOSTILE[1::-1]), HOSTILE[-1]])
def test_no_text_of_a_file_becomes_markup_in_a_report(
    text: str, report: ls.Report, tmp_path: Path
) -> None:
    pytest.importorskip("plotly")
    good = Structure(report.html(tmp_path / "good.html").read_text())
    path = hostile_report(report, text).html(tmp_path / "bad.html")
    page = Structure(path.read_text())
    assert page.elements == good.elements
    assert len(page.texts["script"]) == len(good.texts["script"])
    check_closed(page)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_file_becomes_markup_in_a_surface(
    text: str, surface: ls.Surface, tmp_path: Path
) -> None:
    pytest.importorskip("plotly")
    good = Structure(save_page([surface], ["A"], tmp_path / "good.html").read_text())
    marks = {"mark": np.array([text]), "mark_x": np.zeros(1), "mark_y": np.zeros(1)}
    bad = dataclasses.replace(poisoned(surface, text), directions=text, **marks)
    page = Structure(save_page([bad], [text], tmp_path / "bad.html").read_text())
    assert page.elements == good.elements
    check_closed(page)


def check_closed(page: Structure) -> None:
    """Nothing is loaded from elsewhere: no link, no style, and a policy that forbids the rest."""
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert not re.search(r"url\(|@import", "".join(page.texts["style"]))
    rules = dict(rule.partition(" ")[::2] for rule in page.policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert "unsafe-inline" not in rules["script-src"]
    ours = ("'sha256-", "'unsafe-eval'")
    assert all(part.startswith(ours) for part in rules["script-src"].split())
    assert set(rules["img-src"].split()) == {"data:", "blob:"}
    for text in page.texts["script"]:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in rules["script-src"]


def test_hostile_pages_in_a_browser(report: ls.Report, surface: ls.Surface, tmp_path: Path) -> None:
    """Nothing of theirs runs, nothing is asked for, and the scenes are drawn all the same."""
    playwright = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("plotly")
    text = "".join(HOSTILE[:-1])
    pages = [
        hostile_report(report, text).html(tmp_path / "r.html"),
        save_page([dataclasses.replace(surface, directions=text)], [text], tmp_path / "s.html"),
    ]
    own = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    with playwright.sync_playwright() as p:
        try:
            browser = p.chromium.launch(
                executable_path=own, args=["--enable-unsafe-swiftshader", "--no-sandbox"]
            )
        except playwright.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        for path in pages:
            tab, problems = browser.new_page(), []
            tab.set_default_timeout(120_000)
            tab.on("pageerror", lambda error, seen=problems: seen.append(str(error)))
            tab.on("request", lambda r, seen=problems: r.url[:4] == "http" and seen.append(r.url))
            tab.goto(path.as_uri(), timeout=120_000)
            tab.locator(".gl-container canvas").first.wait_for(state="attached")
            assert tab.evaluate("window.hacked") is None
            assert not problems
            asked = "fetch('http://127.0.0.1:9/').then(() => 'sent', e => String(e))"
            blocked: list[str] = []
            tab.on("console", lambda message, seen=blocked: seen.append(message.text))
            assert "TypeError" in tab.evaluate(asked)
            assert any("Content Security Policy" in line for line in blocked), blocked
            tab.close()
        browser.close()


# -- where and how files are written --------------------------------------------------------------


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o027])
def test_files_and_folders_have_ordinary_permissions(
    mask: int,
    umask: Callable[[int], int],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    umask(mask)
    few = ["--n-examples", "20", "-q"]
    assert run(["trace", str(checkpoint), *few, "--samples", "3", "--out", "new/deep/t.h5"]) == 0
    train = ["train", "standard", "--model", "logistic", "--epochs", "1", "--keep-every", "1"]
    assert run([*train, *few, "--out", "run"]) == 0
    figure = ["figure", "kanai2021/fig1", "--scale", "smoke", "--jobs", "1", "-q"]
    if mask == 0o077:  # the slowest of the three, once
        assert run(figure) == 0
    assert umask(mask) == mask
    made = list(tmp_path.rglob("*"))
    assert len(made) > 12
    for path in made:
        expected = (0o777 if path.is_dir() else 0o666) & ~mask
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_file_is_private_until_it_is_whole(
    umask: Callable[[int], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    umask(0)
    seen = []
    flush = os.fsync

    def look(fd: int) -> None:
        seen.extend(stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir())
        flush(fd)

    monkeypatch.setattr(os, "fsync", look)
    write_atomic(tmp_path / "a", b"secret")
    assert seen == [0o600]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666


def test_names_in_files_decide_no_place(
    surface: ls.Surface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Groups, methods, data, marks and kinds named like paths: everything lies where it was asked
    for."""
    outside = "../../escaped"
    work = tmp_path / "a/b/c"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    hostile = native(
        "in.pt",
        data={"name": "digits", "options": {}},
        method={"name": outside, "digest": outside, "config": {"name": outside}},
        metrics={outside: 0.5},
    )
    assert run(["evaluate", hostile, "--attack", "clean", "--n-examples", "20", "-q"]) == 0
    assert run(["inspect", hostile]) == 0
    marks = {"mark": np.array([outside]), "mark_x": np.zeros(1), "mark_y": np.zeros(1)}
    dataclasses.replace(poisoned(surface, outside), directions=outside, **marks).save("s.h5")
    with h5py.File("s.h5", "r+") as file:
        inner = file.create_group("..").create_group("escaped")
        for name, value in file.attrs.items():
            inner.attrs[name] = value
        for name in [n for n in file if n != ".."]:
            file.copy(name, inner)
    code = run(["plot", "s.h5", "--html", "--overwrite", "-q"])
    assert code in (0, 1)
    assert run(["export", "s.h5", "--to", "vts"]) in (0, 1)
    found = {path.relative_to(work).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"s.h5", "in.pt", "in-evaluation.h5", "s.vts"} <= found
    assert not [name for name in found if "escaped" in name or name.startswith("..")]
