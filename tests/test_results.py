"""Results in and out of files, the words of estimates, and writes that are whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose

from landscape import results
from landscape.diagnostics import DIAGNOSTICS
from landscape.errors import DataError, OutputError, UsageError
from landscape.files import check_writable, write_atomic
from landscape.provenance import Provenance, Record
from landscape.results import Estimate, Result, array, load, load_all, save_all, scalar


@dataclass(frozen=True, eq=False)
class Sample(Result):
    """One field of every kind."""

    kind: ClassVar[str] = "sample of the tests"

    x: np.ndarray = array("x", units="m", label="length")
    table: np.ndarray = array("row", "x", units="s")
    names: np.ndarray = array("row")
    flags: np.ndarray = array("row")
    counts: np.ndarray | None = array("row", default=None)
    estimate: Estimate = scalar(units="kg")
    maybe: Estimate | None = scalar(default=None)
    number: float = scalar()
    optional: float | None = scalar(default=None)
    whole: int = scalar()
    flag: bool = scalar()
    text: str = scalar()


def provenance(**changes):
    fields = {
        "diagnostic": "test",
        "settings": {"top": 3},
        "objective": {"loss": "mse"},
        "seed": 0,
        "versions": {"landscape": "0"},
        "created": "2026-01-01T00:00:00+00:00",
        "wall_time": 1.0,
    }
    return Provenance(**{**fields, **changes})


def sample(rows=3, columns=2, **changes):
    fields = {
        "x": np.arange(columns, dtype=float),
        "table": np.arange(rows * columns, dtype=float).reshape(rows, columns),
        "names": np.array([f"row {i}" for i in range(rows)]),
        "flags": np.arange(rows) % 2 == 0,
        "estimate": Estimate(1.0, 0.1, 5),
        "number": 1.5,
        "whole": 7,
        "flag": True,
        "text": "words",
    }
    return Sample(**{"provenance": provenance(), **fields, **changes})


# -- estimates ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(1234.5678, 1.234, 100), "1234.6 ± 1.2 (n = 100)"),
        (Estimate(-0.0123456, 0.00012, 9), "-0.01235 ± 0.00012 (n = 9)"),
        (Estimate(0.5, 30.0, 4), "0.5 ± 30 (n = 4)"),
        (Estimate(0.0, 0.25, 4), "0 ± 0.25 (n = 4)"),
        (Estimate(2.0, 0.0, 3), "2 ± 0 (n = 3)"),
        (Estimate(1.2345, math.inf, 1), "1.234 ± ? (n = 1)"),
        (Estimate(1.2345, math.nan, 2), "1.234 ± ? (n = 2)"),
        (Estimate(math.nan, 0.1, 2), "nan ± 0.1 (n = 2)"),
    ],
)
def test_estimates_show_two_digits_of_their_error(estimate, text):
    assert str(estimate) == text


def test_estimate_of_samples():
    found = Estimate.of([1, 2, 3, 6])
    assert found.value == 3
    assert found.samples == 4
    assert_allclose(found.standard_error, math.sqrt((4 + 1 + 0 + 9) / 3 / 4), rtol=1e-12)
    assert Estimate.of([2.5]) == Estimate(2.5, math.inf, 1)
    assert Estimate.of(np.ones(3)).standard_error == 0
    for bad in ([], [[1, 2]], 3.0):
        with pytest.raises(UsageError, match="expected a vector of samples"):
            Estimate.of(bad)


# -- round trips ----------------------------------------------------------------------------------

floats = st.floats(allow_nan=True, allow_infinity=True)
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
estimates = st.builds(Estimate, floats, floats, st.integers(0, 2**40))


@st.composite
def samples(draw):
    rows, columns = draw(st.integers(0, 4)), draw(st.integers(1, 3))

    def vector(dtype, elements, *shape):
        return draw(hnp.arrays(dtype, shape, elements=elements))

    return sample(
        rows,
        columns,
        x=vector(np.float64, floats, columns),
        table=vector(np.float32, st.floats(width=32), rows, columns),
        names=np.array(draw(st.lists(words, min_size=rows, max_size=rows)), dtype=str),
        flags=vector(bool, st.booleans(), rows),
        counts=draw(st.none() | hnp.arrays(np.int64, (rows,))),
        estimate=draw(estimates),
        maybe=draw(st.none() | estimates),
        number=draw(floats),
        optional=draw(st.none() | floats),
        whole=draw(st.integers(-(2**63), 2**63 - 1)),
        flag=draw(st.booleans()),
        text=draw(words),
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(first=samples(), second=samples())
def test_load_after_save_is_the_identity(first, second):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.h5"
        assert first.save(path) == path
        found = load(path)
        assert found == first
        for field in first.fields():
            assert type(getattr(found, field.name)) is type(getattr(first, field.name))
        assert found.table.dtype == np.float32
        json.dumps(found.to_dict(), allow_nan=False)
        both = save_all(Path(folder) / "both.h5", {"a": first, "b/c": second})
        assert load_all(both) == {"a": first, "b/c": second}
        assert load(both, "b/c") == second


def test_equality_sees_every_difference():
    a = sample()
    assert a == sample()
    moved = a.table.copy()
    moved[2, 1] = np.nan
    others = {
        "table": moved,
        "names": np.array(["row 0", "row 1", "row 3"]),
        "flags": ~a.flags,
        "counts": np.arange(3),
        "estimate": Estimate(1.0, 0.1, 6),
        "maybe": Estimate(1.0, 0.1, 6),
        "number": math.nan,
        "optional": 0.0,
        "whole": 8,
        "flag": False,
        "text": "",
        "provenance": provenance(seed=1),
    }
    for name, value in others.items():
        assert replace(a, **{name: value}) != a, name
        assert replace(a, **{name: value}) == replace(a, **{name: value}), name
    assert a != 3


def test_not_finite_numbers_are_null_in_json():
    a = sample(
        number=math.inf,
        x=np.array([math.nan, 1.0]),
        estimate=Estimate(1.0, math.inf, 1),
        provenance=provenance(settings={"tol": math.inf, "list": [math.nan, 1]}),
    )
    body = json.loads(json.dumps(a.to_dict(), allow_nan=False))
    assert body["number"] is None
    assert body["x"] == [None, 1.0]
    assert body["estimate"] == {"value": 1.0, "standard_error": None, "samples": 1}
    assert body["provenance"]["settings"] == {"tol": None, "list": [None, 1]}
    assert body["flags"] == [True, False, True]


def test_dimensions_are_checked():
    with pytest.raises(UsageError, match=r"\.table has 1 axes, its dimensions are \('row', 'x'\)"):
        sample(table=np.zeros(3))
    with pytest.raises(UsageError, match="dimension 'x' has length 2 in x and 3 in table"):
        sample(table=np.zeros((2, 3)))


def test_labels():
    assert sample().label("x") == "length (m)"
    assert sample().label("table") == "table (s)"
    assert sample().label("whole") == "whole"
    with pytest.raises(UsageError, match=r"unknown field of sample of the tests 'tabel'.*'table'"):
        sample().label("tabel")
    with pytest.raises(UsageError, match="no drawing for results of kind 'sample of the tests'"):
        sample().plot()


def test_provenance_is_plain_and_checked():
    made = provenance(settings={"a": (1, 2), "n": np.int64(3), "x": np.float32(0.5)})
    assert made.settings == {"a": [1, 2], "n": 3, "x": 0.5}
    assert made == provenance(settings={"a": [1, 2], "n": 3, "x": 0.5})
    record = Record("test", {"loss": "mse"}, 0, top=3, tol=0.1)
    record.check_same(record.finish())
    other = Record("test", {"loss": "cross-entropy"}, 1, top=4, tol=0.1).finish()
    with pytest.raises(
        UsageError, match=r"\(settings.top, objective.loss, seed differ\): pass --n"
    ):
        record.check_same(other)
    assert record.finish(earlier=100).wall_time >= 100


# -- files that can't be read ---------------------------------------------------------------------


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(DataError, match=r"none\.h5 does not exist"):
        load(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("not HDF5 at all")
    with pytest.raises(DataError, match="not a readable HDF5 result"):
        load(tmp_path / "text.h5")
    (tmp_path / "empty.h5").touch()
    with pytest.raises(DataError, match="not a readable HDF5 result"):
        load(tmp_path / "empty.h5")
    with pytest.raises(DataError, match="is a folder: name a file in it"):
        load(tmp_path)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["train_loss"] = np.zeros(3)
    with pytest.raises(DataError, match="holds no landscape result"):
        load(tmp_path / "other.h5")
    path = sample().save(tmp_path / "r.h5")
    with pytest.raises(UsageError, match=r"unknown group of .*r\.h5 'a'.*Known: /"):
        load(path, "a")


def damage(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.__setitem__("kind", "future"), "kind 'future', which this version"),
        (lambda f: f.attrs.__setitem__("schema_version", 99), "version 99.*upgrade landscape"),
        (lambda f: f.attrs.__delitem__("schema_version"), "not a readable HDF5 result"),
        (lambda f: f.attrs.__setitem__("kind", [1, 2]), "not a readable HDF5 result"),
        (lambda f: f.attrs.__delitem__("provenance"), "no readable provenance"),
        (lambda f: f.attrs.__setitem__("provenance", "{"), "no readable provenance"),
        (lambda f: f.attrs.__setitem__("provenance", '{"a": 1}'), "no readable provenance"),
        (lambda f: f.__delitem__("table"), "lacks 'table': the file is incomplete"),
        (lambda f: f.__delitem__("text"), "lacks 'text'"),
        (lambda f: f.__delitem__("estimate_samples"), "not a readable HDF5 result"),
        (lambda f: f.__delitem__("estimate"), "not a readable HDF5 result"),
        (
            lambda f: (f.__delitem__("table"), f.__setitem__("table", np.zeros((5, 2)))),
            "dimension 'row' has length",
        ),
        (
            lambda f: (f.__delitem__("table"), f.create_group("table")),
            "not a readable HDF5 result",
        ),
    ],
)
def test_damaged_contents(tmp_path, change, message):
    path = sample().save(tmp_path / "r.h5")
    damage(path, change)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_damaged_bytes(tmp_path):
    # Not random ones: libhdf5 itself can loop for ever over a damaged heap of strings.
    path = sample().save(tmp_path / "r.h5")
    content = path.read_bytes()
    damaged = [content[: len(content) * share // 10] for share in range(1, 10)]
    damaged += [content[:-1], b"\0" * 8 + content[8:], content[:8] + b"\xff" * 40 + content[48:]]
    for bad in damaged:
        path.write_bytes(bad)
        with pytest.raises(DataError, match="not a readable HDF5 result") as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_every_kind_is_readable_in_a_fresh_process(tmp_path):
    kinds = {entry.result.kind for entry in DIAGNOSTICS.values()}
    assert kinds <= set(results._HOMES)
    script = (
        "import sys, importlib; from landscape import results\n"
        "for kind, home in results._HOMES.items():\n"
        "    importlib.import_module(home); assert kind in results.Result._kinds, kind\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# -- whole files or none --------------------------------------------------------------------------


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_writing_creates_folders_and_ordinary_permissions(tmp_path):
    path = tmp_path / "a" / "b" / "r.bin"
    mask = os.umask(0o027)
    try:
        assert write_atomic(path, b"content") == path
    finally:
        os.umask(mask)
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert names(path.parent) == ["r.bin"]


def test_existing_files_are_kept_unless_told(tmp_path):
    path = tmp_path / "r.bin"
    write_atomic(path, b"old")
    with pytest.raises(OutputError, match=r"r\.bin exists: pass --overwrite"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["r.bin"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("where", ["fsync", "chmod", "replace"])
def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch, code, where):
    def fail(*args, **kwargs):
        raise OSError(code, "injected")

    path = tmp_path / "r.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, where, fail)
    words = {errno.ENOSPC: "disk is full", errno.EDQUOT: "quota", errno.EROFS: "read-only"}
    with pytest.raises(OutputError, match=words.get(code, "injected")):
        write_atomic(path, b"new", overwrite=True)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["r.bin"]


def test_a_full_disk_while_writing(tmp_path, monkeypatch):
    class Full:
        def __init__(self, inner):
            self.inner, self.name = inner, inner.name

        def __enter__(self):
            self.inner.__enter__()
            return self

        def __exit__(self, *args):
            return self.inner.__exit__(*args)

        def fileno(self):
            return self.inner.fileno()

        def write(self, content):
            self.inner.write(content[:3])
            raise OSError(errno.ENOSPC, "No space left on device")

    real = tempfile.NamedTemporaryFile
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", lambda **kw: Full(real(**kw)))
    with pytest.raises(OutputError, match="disk is full: free some space"):
        write_atomic(tmp_path / "r.bin", b"content")
    assert names(tmp_path) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "r.bin", b"content")
    assert names(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept(tmp_path, monkeypatch, links):
    path = tmp_path / "r.bin"
    sync = os.fsync

    def someone_else(descriptor):
        sync(descriptor)
        path.write_bytes(b"theirs")

    def unsupported(*args):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "fsync", someone_else)
    if not links:
        monkeypatch.setattr(os, "link", unsupported)
    with pytest.raises(OutputError, match="it exists: pass --overwrite"):
        write_atomic(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["r.bin"]


def test_file_systems_without_hard_links(tmp_path, monkeypatch):
    def unsupported(*args):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", unsupported)
    write_atomic(tmp_path / "r.bin", b"content")
    assert (tmp_path / "r.bin").read_bytes() == b"content"
    assert names(tmp_path) == ["r.bin"]


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="is a folder: give a file name"):
        check_writable(tmp_path)
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "r.bin", tmp_path / "file" / "deeper" / "r.bin"):
        with pytest.raises(OutputError, match="part of that path is a file, not a folder"):
            write_atomic(path, b"content")
    long = tmp_path / ("x" * 300)
    with pytest.raises(OutputError, match=f"can't write {re.escape(str(tmp_path))}"):
        write_atomic(long, b"content")
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write in read-only folders"
)
def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="no permission to write there"):
            check_writable(tmp_path / "r.bin")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.EACCES, "no permission to write there"), (errno.EROFS, "file system is read-only")],
)
def test_unwritable_folders_are_found_before_the_work(tmp_path, monkeypatch, code, message):
    def refuse(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputError, match=f"{message}: choose another --out"):
        check_writable(tmp_path / "r.bin")
