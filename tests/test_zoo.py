"""The bundled checkpoints: their manifest says what they are, and measures again to the digit."""

from __future__ import annotations

import importlib.util
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

import landscape as ls
from landscape import checkpoints, data
from landscape.attacks.autoattack import AutoAttack
from landscape.cli.catalogue import methods_as_markdown
from landscape.models import ModelSpec
from landscape.training import ADDITIONS, METHODS, default_config
from landscape.training.config import differences

ROOT = Path(__file__).parent.parent
PATHS = checkpoints.bundled()
MANIFEST: dict[str, Any] = json.loads(
    (next(iter(PATHS.values())).parent / "manifest.json").read_text()
)


def _make() -> Any:
    spec = importlib.util.spec_from_file_location("make", ROOT / "checkpoints" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _objective(name: str) -> ls.Objective:
    checkpoint = ls.load_checkpoint(PATHS[name])
    model = checkpoint.into(ModelSpec.from_dict(checkpoint.model or {}).build())
    return ls.Objective(model, data.load("digits", "test"), seed=MANIFEST[name]["seed"])


def test_there_is_one_for_every_method_and_addition() -> None:
    assert set(MANIFEST) == set(PATHS) == set(_make().runs())
    trained = {row["method"] for row in MANIFEST.values()}
    assert trained == {*METHODS, *(f"pgd+{name}" for name in ADDITIONS)}
    for method in ("standard", "pgd"):
        seeds = [row["seed"] for row in MANIFEST.values() if row["method"] == method]
        assert len(set(seeds)) > 1


@pytest.mark.parametrize("name", MANIFEST)
def test_a_row_is_of_the_recipe_and_of_the_file(name: str) -> None:
    """So a changed recipe or method can't leave a checkpoint behind that is of another one."""
    row, path = MANIFEST[name], PATHS[name]
    assert path.stat().st_size < 200_000
    checkpoint = ls.load_checkpoint(path)
    assert checkpoint.digest == row["digest"]
    assert checkpoint.epoch == row["epoch"]
    assert checkpoint.seed == row["seed"]
    config = default_config("digits", None, row["method"], seed=row["seed"])
    assert not differences(row["configuration"], config.to_dict())
    assert not differences(checkpoint.method["config"], config.to_dict())
    assert row["passes"] == list(config.plan.method.passes)
    assert row["command"] == f"landscape train {row['method']} --data digits --seed {row['seed']}"
    assert str(ROOT) not in json.dumps(row)


@pytest.mark.parametrize("name", MANIFEST)
def test_clean_and_pgd_accuracy_are_measured_again_exactly(name: str) -> None:
    row = MANIFEST[name]
    eps = row["configuration"]["evaluation"]["eps"]
    found = ls.evaluate(_objective(name), {"pgd-20": ls.attack("pgd-20", eps=eps)})
    assert found.accuracy[0] == row["metrics"]["test_accuracy"]
    assert found.accuracy[1] == row["metrics"]["test_robust_accuracy"]
    assert row["metrics"]["test_autoattack_accuracy"] <= found.accuracy[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", MANIFEST)
def test_autoattack_accuracy_is_measured_again_exactly(name: str) -> None:
    row = MANIFEST[name]
    objective = _objective(name)
    attack = AutoAttack(default_config("digits", None, row["method"]).evaluation.ball)  # type: ignore[union-attr]
    assert attack.describe() == row["autoattack"]
    found = ls.evaluate(objective, {"autoattack": attack})
    assert found.accuracy[1] == row["metrics"]["test_autoattack_accuracy"]


@pytest.mark.slow
def test_a_checkpoint_is_trained_again_bit_for_bit(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        again, _ = _make().trained("digits-standard-seed0", "standard", 0, tmp_path)
    finally:
        torch.set_num_threads(threads)
    assert again.digest == MANIFEST["digits-standard-seed0"]["digest"]


@pytest.mark.skipif(not (ROOT / "checkpoints").exists(), reason="make.py is not installed")
def test_all_withstand_attacks_that_standard_training_does_not() -> None:
    """PGD-20 accuracy, mean of three seeds, at least 20 points above that of standard training."""
    make = _make()
    seeds = make.read(make.SEEDS)
    assert set(seeds) == set(make.others())
    for name, run in make.others().items():
        assert seeds[name]["digest"] == make.digest(*run), f"{name} is of another configuration"
    found = {
        row["method"]: make.robust(row["method"], {**seeds, **MANIFEST})
        for row in MANIFEST.values()
    }
    assert {len(values) for values in found.values()} == {3}
    means = {method: statistics.mean(values) for method, values in found.items()}
    below = {method for method, mean in means.items() if mean < means["standard"] + 0.2}
    assert below == {"standard"}


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="the documentation is not installed")
def test_the_documentation_has_the_tables_of_the_code() -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    assert methods_as_markdown() in text
    make = _make()
    assert make.table(MANIFEST, make.read(make.SEEDS)) in text
