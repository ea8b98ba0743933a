"""The curvature commands on the bundled checkpoints, clean and adversarial."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from landscape import checkpoints
from landscape.cli import run

PATHS = checkpoints.bundled()

# One per kind of training: the others are slow to run all, and differ in their numbers alone.
FEW = ["digits-standard-seed0", "digits-pgd-seed0"]

COMMANDS = {
    "spectrum": ["--top", "5"],
    "density": ["--probes", "2", "--steps", "20", "--outliers", "5"],
    "trace": ["--samples", "20"],
    "inputs": [],
}
ATTACKS = {"clean": [], "pgd-10": ["--attack", "pgd-10"]}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in FEW else pytest.mark.slow) for n in PATHS]
)
def test_it_runs(name, command, attack, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    options = [*COMMANDS[command], *ATTACKS[attack], "--n-examples", "100", "--json", "--quiet"]
    code = run([command, str(PATHS[name]), *options])
    out, err = capsys.readouterr()
    assert code == 0, err
    found = json.loads(out)
    assert found["schema_version"] >= 1
    assert len(list(Path().glob("*.h5"))) == 1
    numbers = [v for v in found.values() if isinstance(v, list) and v and np.ndim(v) == 1]
    for values in numbers:
        if all(isinstance(v, int | float) for v in values):
            assert np.isfinite(values).all()
