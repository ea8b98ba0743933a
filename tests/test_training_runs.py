"""Runs in a folder: files, interruption, resumption, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from landscape import checkpoints, results
from landscape.checkpoints import Checkpoint
from landscape.errors import CheckpointError, OutputError, UsageError
from landscape.models import ModelSpec
from landscape.objective import Objective
from landscape.training import TrainConfig, default_config, runs, train

FILES = ["best.pt", "final.pt", "history.h5", "last.pt"]
EPOCHS = 4


def config(method: str = "pgd", **overrides: Any) -> TrainConfig:
    values = {
        "n_examples": 60,
        "epochs": EPOCHS,
        "batch_size": 25,
        "model_options": {"batchnorm": True, "dropout": 0.3},
        "device": "cpu",
        "augmentation": "shift",
        **overrides,
    }
    if method == "pgd":
        values = {"steps": 2, **values}
    return default_config("digits", "lenet-1", method, **values)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checkpoint]:
    """One uninterrupted run."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, train(config(), out)


class Interrupt:
    """Raises KeyboardInterrupt in the second batch of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, *args: Any) -> None:
        self.calls.append(args[:4])
        if args[0] == self.epoch and args[2] == 2:
            raise KeyboardInterrupt


def test_the_files_of_a_run(run: tuple[Path, Checkpoint]) -> None:
    out, best = run
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert checkpoints.load(out / "best.pt").digest == best.digest
    final = checkpoints.load(out / "final.pt")
    assert (final.epoch, final.seed) == (EPOCHS, 0)
    assert final.data == {"name": "digits", "options": {}}
    assert final.method["name"] == "pgd"
    assert final.method["config"] == config().to_dict()
    assert final.method["digest"] == config().digest
    torch.load(out / "last.pt", weights_only=True)
    assert (out / "best.pt").stat().st_size < 200_000


def test_the_history_of_a_run(run: tuple[Path, Checkpoint]) -> None:
    from landscape.training import History

    out, best = run
    history = results.load(out / "history.h5")
    assert isinstance(history, History)
    assert list(history.epoch) == [1, 2, 3, 4]
    assert history.best_epoch == best.epoch
    assert history.constant_classifier.dtype == bool
    assert best.epoch == 1 + int(np.argmax(history.val_robust_accuracy))
    assert list(history.train_loss) == best.history["train_loss"]
    assert history.provenance.settings["config"] == config().to_dict()
    assert history.provenance.wall_time > 0


def test_metrics_are_those_of_the_saved_weights(run: tuple[Path, Checkpoint]) -> None:
    from landscape.data import load

    _, best = run
    assert best.model is not None
    model = best.into(ModelSpec.from_dict(best.model).build())
    evaluation = config().evaluation
    for split in ("val", "test"):
        objective = Objective(model, load("digits", split), attack=evaluation, refresh="each")
        assert best.metrics[f"{split}_robust_accuracy"] == objective.value().accuracy
        clean = objective.with_attack(None).value().accuracy
        assert best.metrics[f"{split}_accuracy"] == clean


@pytest.mark.parametrize("epoch", [1, 3])
def test_an_interrupted_run_ends_bit_for_bit_as_an_uninterrupted_one(
    run: tuple[Path, Checkpoint], tmp_path: Path, epoch: int
) -> None:
    whole, best = run
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path, progress=Interrupt(epoch))
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ([] if epoch == 1 else ["best.pt", "history.h5", "last.pt"])
    rest = Interrupt(epoch=0)
    resumed = train(config(), tmp_path, progress=rest)
    assert rest.calls[0] == (epoch, EPOCHS, 1, 3)
    assert resumed.digest == best.digest
    assert resumed.metrics == best.metrics
    ours, theirs = (checkpoints.load(p / "final.pt") for p in (tmp_path, whole))
    assert ours.digest == theirs.digest
    for name in set(ours.history) - {"seconds"}:
        assert ours.history[name] == theirs.history[name]


def test_states_are_saved_no_more_often_than_asked(
    run: tuple[Path, Checkpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its last epoch, a run goes on from the last state that was due to be saved."""
    script = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_training_runs import config, train\n"
        "def stop(epoch, epochs, batch, *rest):\n"
        "    if (epoch, batch) == (4, 2): os._exit(9)\n"
        "train(config(), sys.argv[2], keep_every=2, progress=stop)\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    env = {**os.environ, "LANDSCAPE_SAVE_SECONDS": "1000"}
    assert subprocess.run(command, env=env, timeout=300).returncode == 9
    assert torch.load(tmp_path / "last.pt", weights_only=True)["state"]["epoch"] == 2
    written: list[int] = []
    original = runs.write_state

    def write(out: Path, config: TrainConfig, state: Any) -> None:
        written.append(state.epoch)
        original(out, config, state)

    monkeypatch.setattr(runs, "write_state", write)
    monkeypatch.setattr(runs, "SAVE_SECONDS", 1000.0)
    rest = Interrupt(epoch=0)
    assert train(config(), tmp_path, keep_every=2, progress=rest).digest == run[1].digest
    assert rest.calls[0] == (3, EPOCHS, 1, 3)
    assert written == [EPOCHS]
    assert len(results.load(tmp_path / "history.h5").epoch) == EPOCHS
    monkeypatch.setattr(runs, "SAVE_SECONDS", 0.0)
    train(config(), tmp_path, overwrite=True)
    assert written == [EPOCHS, 1, 2, 3, 4]


def test_an_interrupt_between_the_last_epoch_and_the_evaluation(
    run: tuple[Path, Checkpoint], tmp_path: Path
) -> None:
    def stop(epoch: int, epochs: int, *rest: Any) -> None:
        if epoch == epochs and "val_accuracy" in rest[-1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path, progress=stop)
    assert not (tmp_path / "final.pt").exists()
    rest = Interrupt(epoch=0)
    assert train(config(), tmp_path, progress=rest).digest == run[1].digest
    assert rest.calls == []


def test_a_finished_run_is_returned_without_training(run: tuple[Path, Checkpoint]) -> None:
    out, best = run
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    calls = Interrupt(epoch=0)
    again = train(config(), out, progress=calls)
    assert again.digest == best.digest
    assert again.metrics == best.metrics
    assert calls.calls == []
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize("finished", [True, False])
def test_another_configuration_is_refused_naming_what_differs(
    run: tuple[Path, Checkpoint], tmp_path: Path, finished: bool
) -> None:
    out = run[0]
    if not finished:
        (tmp_path / "last.pt").write_bytes((out / "last.pt").read_bytes())
        out = tmp_path
    match = r"\(method\.perturbation\.eps: 0\.1 → 0\.2; .*optimiser\.lr: 0\.05 → 0\.01; .*seed: 0"
    with pytest.raises(UsageError, match=match):
        train(config(eps=0.2, lr=0.01, seed=1), out)


def test_an_existing_run_is_neither_lost_nor_continued_unasked(tmp_path: Path) -> None:
    quick = {"epochs": 1, "n_examples": 10}
    first = train(config("standard", **quick), tmp_path)
    with pytest.raises(OutputError, match=r"holds a training run \(last.pt, best.pt, final.pt"):
        train(config("standard", **quick), tmp_path, resume=False)
    other = train(config("standard", seed=1, **quick), tmp_path, overwrite=True)
    assert other.digest != first.digest
    assert checkpoints.load(tmp_path / "best.pt").seed == 1
    assert np.isnan(other.history["val_robust_accuracy"]).all()


def test_a_foreign_file_in_place_of_the_state(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="is not the state of a training run"):
        train(config(), tmp_path)


def test_a_foreign_checkpoint_is_kept(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "best.pt")
    content = (tmp_path / "best.pt").read_bytes()
    with pytest.raises(UsageError, match="not made by landscape"):
        train(config(), tmp_path)
    assert (tmp_path / "best.pt").read_bytes() == content


def test_an_unavailable_device_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("has CUDA")
    with pytest.raises(UsageError, match="'cuda' is not available here"):
        train(config(device="cuda"), tmp_path)
