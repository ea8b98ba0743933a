"""Options of the command line for a training: additional data, budgets, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from landscape import checkpoints
from landscape.cli import run
from landscape.data import load
from landscape.errors import DataError, UsageError
from landscape.tracking import Tracking
from landscape.training import Extra, TrainConfig, default_config, fit, train

FACTORY = f"{__name__}:factory"


def factory(*, split: str, n_examples: int | None = None, **_: Any) -> Any:
    """The digits' validation images, brighter; of another shape as the split `wide`."""
    data = load("digits", "val", n_examples=n_examples)
    x, y = data.tensors()
    x = (x + 0.1).clamp(0, 1)
    return [(torch.cat([x, x], 3) if split == "wide" else x, y)]


# -- additional data -------------------------------------------------------------------------------


def config(**overrides: Any) -> TrainConfig:
    values = {"n_examples": 40, "epochs": 2, "batch_size": 20, "device": "cpu", **overrides}
    return default_config("digits", "lenet-1", "standard", **values)


def test_extra_data_are_what_fit_takes(tmp_path: Path) -> None:
    """The run with ``extra`` is the plain ``fit`` on the same two sets, bit for bit."""
    with_extra = config(extra=Extra("digits", "train", 60))
    train(with_extra, tmp_path)
    model = with_extra.model.build(seed=_model_seed())
    parts = {split: load("digits", split) for split in ("val",)}
    own, more = (load("digits", "train", n_examples=n) for n in (40, 60))
    fit(model, own, with_extra.plan, validation=parts["val"], extra=more)
    final = checkpoints.load(tmp_path / "final.pt")
    torch.testing.assert_close(dict(model.state_dict()), final.state_dict, rtol=0, atol=0)
    assert final.method["config"]["extra"] == {
        "data": "digits",
        "split": "train",
        "n_examples": 60,
        "options": {},
    }


def _model_seed() -> int:
    from landscape.random import Streams

    return Streams(0).derived_seed("model")


def test_extra_data_identify_a_run_and_others_stay_as_they_were(tmp_path: Path) -> None:
    plain = config()
    assert "extra" not in plain.to_dict()
    assert config(extra=None).digest == plain.digest
    variants = [
        config(extra="digits"),
        config(extra=Extra("digits", n_examples=60)),
        config(extra=FACTORY),
        config(extra=Extra(FACTORY, "val")),
    ]
    assert len({v.digest for v in (plain, *variants)}) == 5
    assert config(extra="digits") == config(extra=Extra("digits"))
    train(variants[1], tmp_path)
    with pytest.raises(UsageError, match=r"extra\.n_examples: 60 → absent"):
        train(plain, tmp_path)


def test_a_run_with_extra_data_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    def stop(*args: Any) -> None:
        if args[0] == 2 and args[2] == 2:
            raise KeyboardInterrupt

    chosen = config(extra=Extra(FACTORY, n_examples=50))
    whole = train(chosen, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "cut", progress=stop)
    assert train(chosen, tmp_path / "cut").digest == whole.digest


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Extra("mnits"), "unknown data set 'mnits': did you mean 'mnist'"),
        (lambda: Extra("digits", "extra"), "digits has no split 'extra' for the extra data"),
        (lambda: Extra("digits", n_examples=0), "extra examples must be at least 1, got 0"),
        (lambda: config(extra="cifar100"), "extra data cifar100 have 100 classes, the model has"),
        (lambda: config(extra="mnist"), r"mnist have inputs of shape \(1, 28, 28\), the model"),
        (lambda: config(extra=Extra("digits", "val")), "can't be the split 'val' of digits, which"),
    ],
)
def test_unusable_extra_data_are_refused(make: Any, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        make()


def test_extra_data_of_a_factory_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"inputs of shape \(1, 8, 16\), the training data of"):
        train(config(extra=Extra(FACTORY, "wide")), tmp_path)
    with pytest.raises(UsageError, match="leave out --track-samples, or the extra data"):
        train(config(extra="digits"), tmp_path, track=Tracking(samples=True))


# -- the command line ------------------------------------------------------------------------------

START = ["train", "pgd", "--data", "digits", "--dry-run"]


def planned(capsys: pytest.CaptureFixture[str], *options: str, method: str = "pgd") -> Any:
    assert run(["train", method, "--data", "digits", "--dry-run", *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_options_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--extra", "digits", "--extra-examples", "90", "--extra-split", "train"]
    assert planned(capsys, *given)["extra"]["n_examples"] == 90
    plain = planned(capsys)
    for schedule in ("constant", "linear", "cosine"):
        short = planned(capsys, "--eps-schedule", schedule)
        long = planned(capsys, "--set", f"pas.schedule={schedule}", method="pgd+pas")
        assert short == long
        assert short["method"]["perturbation"]["budget"]["schedule"] == schedule
        assert short["method"]["perturbation"]["eps"] == plain["method"]["perturbation"]["eps"]
    both = planned(capsys, "--eps-schedule", "linear", "--set", "pas.maximum=2", method="pgd+pas")
    assert both["method"]["perturbation"]["budget"]["maximum"] == 2


@pytest.mark.parametrize(
    ("options", "match"),
    [
        # unknown parts, and the nearest
        (["pdg"], "unknown method 'pdg': did you mean 'pgd'?"),
        (["pgd+awq"], "unknown addition to a method 'awq': did you mean 'awp'?"),
        (["pgd", "--set", "restart=2"], "'restart': did you mean 'restarts'?"),
        (["pgd+awp", "--set", "awp.gama=2"], "addition 'awp' takes no option 'gama'"),
        (["pgd", "--recipe", "cifar11"], "unknown recipe 'cifar11': did you mean 'cifar10'"),
        # parts that don't go together
        (["free+consistency"], "attacks a sample twice per update"),
        (["pgd+entropysgd+entropysgd2"], "both decide what an update does with the gradient"),
        (["mart+kdsa"], "can't be combined with the loss 'mart'"),
        (["standard", "--eps-schedule", "linear"], "'standard' has no attack whose eps pas could"),
        (["cat20+pas"], "has no single eps that a schedule could change"),
        (
            ["pgd", "--eps-schedule", "linear", "--set", "pas.schedule=cosine"],
            "--eps-schedule linear and --set pas.schedule=cosine contradict each other",
        ),
        (["pgd+llr", "--precision", "bf16"], "'pgd+llr' can't be trained in precision 'bf16'"),
        # schedules outside the run
        (["pgd", "--milestones", "10,50"], "milestone 50 lies outside the run of 40 epochs"),
        (["pgd", "--warmup", "50"], "a warm-up of 50 epochs exceeds the run's 40"),
        (["pgd+pas", "--set", "pas.periods=30,50"], "periods must increase and lie within the run"),
        (["p-sat", "--set", "difficulty_at=10,50"], "milestone 50 of the difficulty lies outside"),
        (["pgd+swa", "--set", "swa.start=50"], "averaging starts in epoch 50, the run has 40"),
        (["pgd+awp", "--set", "awp.warmup=50"], "awp.warmup=50 epochs leave nothing of a run of"),
        (["pgd+advlc", "--set", "advlc.ramp=50"], "advlc rises over 50 epochs, the run has 40"),
        (["self-adaptive", "--set", "start=50"], "start=50 epochs leave nothing of a run of 40"),
        # data
        (["pgd", "--extra", "svhn"], "the extra data svhn have inputs of shape (3, 32, 32)"),
        (["pgd", "--extra-examples", "3"], "--extra-examples needs --extra"),
        (["pgd", "--extra", "digits", "--extra-split", "test"], "can't be the split 'test'"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_starts(
    options: list[str], match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--data", "digits", "--out", str(tmp_path / "run")]
    assert run(["train", options[0], *out, *options[1:]]) == 2
    shown = capsys.readouterr()
    assert match in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not shown.out
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_another_architecture_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the first update, which then isn't made. Another one of the same inputs may teach."""
    teachers = ["--set", "kdsa.adversarial=digits-pgd-seed0"]
    start = ["train", "pgd+kdsa", "--data", "digits32", "--out", str(tmp_path / "run")]
    assert run([*start, *teachers, "--set", "kdsa.standard=digits-standard-seed0"]) == 2
    shown = capsys.readouterr().err
    assert "teacher digits-standard-seed0 can't take inputs of shape (3, 32, 32)" in shown
    assert len(shown.splitlines()) == 1
    assert not list((tmp_path / "run").iterdir())
