"""Hostile and damaged inputs: a short campaign, the whole (``make fuzz``), and what it found."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from fuzz import table
from fuzz.campaign import Tally, fuzz
from fuzz.commands import fuzz_commands
from fuzz.running import CANARY, Watched
from fuzz.seeds import _FIGURE as FIGURE
from fuzz.seeds import _RUN as RUN
from fuzz.seeds import Seed, prepare

from landscape import params as P
from landscape.checkpoints import Checkpoint
from landscape.cli import run
from landscape.models import ModelSpec
from landscape.provenance import plain

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")

DOCS = Path(__file__).parent.parent / "docs"
FULL = 500
MODEL = ModelSpec("logistic", (1, 8, 8), 10).to_dict()

Prepared = tuple[Path, dict[str, list[Seed]]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Good files of every kind, in one folder."""
    folder = tmp_path_factory.mktemp("good")
    return folder, prepare(folder)


def _said(tally: Tally) -> str:
    return "\n".join(f"{' '.join(line)}: {found}" for line, _, _, found in tally.failing[:5])


@pytest.mark.parametrize("kind", ["checkpoints", "results", "configuration"])
def test_a_few_files(kind: str, prepared: Prepared) -> None:
    folder, seeds = prepared
    tally = fuzz(kind, seeds[kind], folder, 15, random.Random(1), seeds_too=False)
    assert not tally.failing, _said(tally)
    assert tally.inputs == 15
    assert tally.refused > 2


def test_a_few_command_lines(prepared: Prepared) -> None:
    tally = fuzz_commands(prepared[0], 25, 1)
    assert not tally.failing, _said(tally)
    assert tally.inputs >= 20
    assert tally.refused > 2


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", ["checkpoints", "results", "configuration", "command lines"])
def test_the_whole_campaign(kind: str, prepared: Prepared) -> None:
    """500 inputs of every kind; the figures go into the docs."""
    folder, seeds = prepared
    if kind in seeds:
        tally = fuzz(kind, seeds[kind], folder, FULL, random.Random(100))
    else:
        tally = fuzz_commands(folder, FULL, 100)
    table.write(DOCS / "faults.md", tally)
    for number, (_, name, content, _) in enumerate(tally.failing):  # to be looked into
        kept = DOCS.parent / "out/fuzz" / f"{kind}-{number}-{Path(name).name}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
    assert not tally.failing, _said(tally)


# -- that the campaign would see it ---------------------------------------------------------------


def _watch(text: str) -> dict[str, str]:
    """The faults seen when the command's own code is this."""
    with Watched() as watched, pytest.MonkeyPatch.context() as patch:
        import landscape.cli

        def replaced(arguments: list[str]) -> int:
            exec(compile(text, "fault", "exec"), {})  # what the package must not do
            return 1

        patch.setattr(landscape.cli, "run", replaced)
        patch.setattr("fuzz.running.SECONDS", 1.0)
        patch.setattr("fuzz.running._GROWTH", 2**28)
        return watched.run([], {}).faults()


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("execution", f"import {CANARY}"),
        ("execution", "import os; os.system('true')"),
        ("execution", "import pickle, io; pickle.loads(pickle.dumps(io.BytesIO))"),
        ("execution", "open('canary', 'w')"),
        ("outside", "open('/var/tmp/landscape-fuzz-outside', 'w')"),
        ("traceback", "raise KeyError('x')"),
        ("hang", "while True: pass"),
        ("crash", "import os; os.kill(os.getpid(), 11)"),
        ("memory", "bytearray(2**29)"),
        ("message", "pass"),
        ("exit code", "raise SystemExit(7)"),
        (
            "unexplained",
            "import sys; print('landscape: error: X (run again with -vv', file=sys.stderr)",
        ),
        ("noise", "import sys; print('a.py:3: UserWarning: x', file=sys.stderr)"),
    ],
)
def test_a_fault_is_seen(fault: str, text: str) -> None:
    assert fault in _watch(text)
    Path("/var/tmp/landscape-fuzz-outside").unlink(missing_ok=True)


def test_the_table_is_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- fuzz -->\n<!-- /fuzz -->\nend\n")
    for kind, inputs in (("files", 7), ("lines", 5), ("files", 3)):
        tally = Tally(kind, inputs=inputs, refused=2, accepted=1)
        tally.faults["hang"] = 2
        table.write(page, tally)
    lines = page.read_text().splitlines()
    assert lines[5].startswith("| files | 3 | 2 | 1 | 0 | 0 | 0 | 2 |")
    assert lines[6].startswith("| lines | 5 |")
    assert lines[7].startswith(
        "| **all** | **8** | **4** | **2** | **0** | **0** | **0** | **4** |"
    )
    assert lines[8:] == ["<!-- /fuzz -->", "end"]


# -- a few through processes of their own ---------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["inspect", "hostile.pt"], 1),
        (["plot", "hostile.h5"], 1),
        (["evaluate", "tiny.pt", "--eps", "x"], 2),
    ],
)
def test_in_a_process_of_its_own(
    arguments: list[str], code: int, prepared: Prepared, tmp_path: Path
) -> None:
    for name in ("tiny.pt", "surface.h5"):
        content = bytearray((prepared[0] / name).read_bytes())
        content[20:60] = random.Random(0).randbytes(40)
        (tmp_path / f"hostile{Path(name).suffix}").write_bytes(content)
    (tmp_path / "tiny.pt").write_bytes((prepared[0] / "tiny.pt").read_bytes())
    path = [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "landscape", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.splitlines()[-1].startswith("landscape: error: ")
    assert "Traceback" not in done.stderr


# -- what was found, made small -------------------------------------------------------------------


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 1) -> str:
    """The one line with which a command refuses."""
    assert run(arguments) == code
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("landscape: error: ")
    assert "-vv" not in lines[-1]
    return lines[-1]


@pytest.fixture
def work(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the good files, as the current folder."""
    shutil.copytree(prepared[0], tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("size", [0, 2**64 - 8])
def test_texts_that_lead_nowhere(size: int, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The HDF5 library follows the sizes of objects for ever if one of them is 0."""
    content = bytearray(Path("surface.h5").read_bytes())
    heap = content.index(b"GCOL\x01")
    content[heap + 24 : heap + 32] = size.to_bytes(8, "little")  # of the first object
    content[heap + 16 : heap + 18] = bytes(2)  # which is now the free space
    Path("surface.h5").write_bytes(content)
    assert "its texts are damaged" in refused(["plot", "surface.h5"], capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["plot", "surface.h5", "--overwrite"],
        ["export", "surface.h5", "--to", "goldstein"],
        ["export", "surface.h5", "--to", "vts"],
    ],
)
def test_texts_in_the_place_of_numbers(
    arguments: list[str], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File("surface.h5", "r+") as file:
        shape = file["loss"].shape
        del file["loss"]
        texts = [["x"] * shape[1]] * shape[0]
        file.create_dataset("loss", data=texts, dtype=h5py.string_dtype())
        file.attrs.pop("seal", None)
    refused(arguments, capsys)


@pytest.mark.parametrize(
    "changed",
    [
        {"path": None},
        {"marks": 3},
        {"kind": ["x"]},
        {"vectors": [{"linear.weight": "x"}]},
        {"vectors": {"linear.weight": 1}},
        {"explained": ["x"]},
        {"made": {"one_d": [1]}},
        {"path": [[1.0]]},
    ],
    ids=str,
)
def test_directions_of_other_types(
    changed: dict[str, Any], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = {**torch.load("plane.pt", weights_only=True), **changed}
    if content["path"] is None:
        del content["path"]
    torch.save(content, "plane.pt")
    surface = ["surface", "tiny.pt", "--directions", "plane.pt", "--grid", "3x3", "--out", "s"]
    assert "plane.pt is damaged" in refused(surface, capsys)


@pytest.mark.parametrize(
    "changed",
    [
        {"data": {"options": {}}},
        {"data": {"name": 3}},
        {"data": {"name": "digits", "options": [1]}},
        {"method": {"name": 3}},
        {"method": {"config": True}},
        {"method": {"config": {"evaluation": {"eps": "x"}}}},
        {"method": {"config": {"evaluation": 3}}},
        {"metrics": {"a": "b"}},
        {"epoch": "3"},
        {"state_dict": {}},
        {"state_dict": {"w": "text"}},
        {"model": "logistic"},
    ],
    ids=str,
)
def test_a_sealed_checkpoint_of_other_types(
    changed: dict[str, Any], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load("tiny.pt", weights_only=True)
    torch.save(_sealed({**content, **changed}), "tiny.pt")
    for verb in ("inspect", "evaluate"):
        refused([verb, "tiny.pt"], capsys)


def _sealed(content: dict[str, Any]) -> dict[str, Any]:
    context = {n: content[n] for n in Checkpoint.__dataclass_fields__ if n != "state_dict"}
    try:
        digest = P.digest(content["state_dict"])
    except AttributeError:  # no tensors
        digest = ""
    text = json.dumps([digest, plain(context)], sort_keys=True)
    return {**content, "seal": hashlib.sha256(text.encode()).hexdigest()}


@pytest.mark.parametrize(
    "model", [{"name": "logistic"}, {**MODEL, "name": 3}, {**MODEL, "options": 3}], ids=str
)
def test_a_description_of_other_types(
    model: Any, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load("tiny.pt", weights_only=True)
    torch.save(_sealed({**content, "model": model}), "tiny.pt")
    for verb in ("inspect", "evaluate"):
        assert "a model's description has" in refused([verb, "tiny.pt"], capsys, code=2)


def test_a_checkpoint_without_a_description(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = torch.load("tiny.pt", weights_only=True)
    torch.save(_sealed({**content, "model": None}), "tiny.pt")
    assert run(["inspect", "tiny.pt"]) == 0
    assert "not described" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["spectrum", "track", "history"])
def test_a_history_that_no_training_wrote(
    kind: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "history":
        with h5py.File("run/history.h5", "r+") as file:
            for name in [n for n in file if file[n].ndim == 1]:
                values = file[name][:0]
                del file[name]
                file[name] = values
            file.attrs.pop("seal", None)
    else:
        source = "spectrum.h5" if kind == "spectrum" else "run/track.h5"
        shutil.copy(source, "run/history.h5")
    refused([*RUN], capsys)


def test_a_metric_that_is_no_number(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = torch.load("tiny.pt", weights_only=True)
    torch.save(_sealed({**content, "metrics": {"a": float("nan")}}), "tiny.pt")
    assert run(["inspect", "tiny.pt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == {"a": None}


@pytest.mark.parametrize("depth", [300, 2000, 50_000])
def test_a_sweep_that_is_nested_deeply(
    depth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.toml").write_text(f"[grid]\nmethod = {'[' * depth}{']' * depth}\n")
    refused(["sweep", "sweep.toml", "--dry-run"], capsys, code=2)


def test_a_cluster_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.chdir(tmp_path)
    assert "nowhere" in refused([*FIGURE, "--slurm", "cluster=nowhere"], capsys, code=2)


def test_a_path_that_is_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["compare", "x" * 300, "y.h5"], capsys)
    assert said.endswith("x: File name too long.")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("state", {}),
        ("state", None),
        ("config", 3),
        ("epoch", "1"),
        ("epoch", 7),
        ("best_epoch", 9),
        ("columns", {}),
        ("weights", {"x": 3}),
        ("weights", {}),
        ("optimiser", {}),
    ],
)
def test_a_state_of_other_types(
    key: str, value: Any, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run/final.pt").unlink()
    content = torch.load("run/last.pt", weights_only=True)
    part = content if key in content else content["state"]
    part[key] = value
    torch.save(content, "run/last.pt")
    assert re.search("--overwrite .*start over", refused([*RUN], capsys))


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"files": {"\\u0000": "x"}, "seconds": 1}',
        b'{"files": {}, "seconds": 1e999, "digest": 3}',
        b"\xff\xfe",
    ],
    ids=lambda text: text[:40].decode(errors="replace"),
)
def test_seals_that_no_writer_made(
    text: bytes, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The work is damaged, so it is done again."""
    seal = sorted(Path("runs/figures/measured").glob("*.json"))[0]
    before = json.loads(seal.read_text())
    seal.write_bytes(text.replace(b'"digest": 3', f'"digest": "{before["digest"]}"'.encode()))
    assert run([*FIGURE, "--overwrite"]) == 0
    assert "is damaged, made again" in capsys.readouterr().err
    assert json.loads(seal.read_text())["files"].keys() == before["files"].keys()


@pytest.mark.parametrize("changed", [{"claims": 3}, {"claims": [{}]}, {"title": None}], ids=str)
def test_reports_of_figures_that_no_writer_made(
    changed: dict[str, Any], work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("figures/smoke/kanai2021/fig1.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    assert "exists: pass --overwrite" in refused(FIGURE, capsys)
    path.write_bytes(b"[" * 100_000)
    assert "exists: pass --overwrite" in refused(FIGURE, capsys)
