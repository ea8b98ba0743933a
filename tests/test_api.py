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


def test_bundled_checkpoints_match_their_manifest() -> None:
    """Digests, and clean and PGD-20 accuracy measured again on the test split, exactly."""
    import json

    from landscape import checkpoints, data, models

    paths = checkpoints.bundled()
    manifest = json.loads((next(iter(paths.values())).parent / "manifest.json").read_text())
    assert set(manifest) == set(paths)
    test = data.load("digits", "test")
    for name, path in paths.items():
        assert path.stat().st_size < 200_000
        checkpoint = ls.load_checkpoint(path)
        assert checkpoint.digest == manifest[name]["digest"]
        model = checkpoint.into(models.ModelSpec.from_dict(checkpoint.model or {}).build())
        objective = ls.Objective(model, test, seed=manifest[name]["seed"])
        found = ls.evaluate(objective, {"pgd-20": ls.attack("pgd-20", eps=0.1)})
        expected = manifest[name]["metrics"]
        assert found.accuracy[0] == expected["test_accuracy"]
        assert found.accuracy[1] == expected["test_robust_accuracy"]
