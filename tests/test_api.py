"""The public API: every name that is promised is there, and importing the package is cheap."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import landscape as ls


def test_every_public_name_is_there_and_listed() -> None:
    assert {*ls._WHERE, "__version__"} == set(ls.__all__)
    for name in ls.__all__:
        assert getattr(ls, name) is not None
    assert set(dir(ls)) == set(ls.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'spectra'"):
        _ = ls.spectra


def test_import_is_light() -> None:
    code = "import sys, landscape; assert not {'torch', 'numpy', 'h5py'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_example_runs() -> None:
    path = Path(__file__).parent.parent / "examples" / "own_model.py"
    done = subprocess.run([sys.executable, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "eigenvalue" in done.stdout
