"""Half precision, channels-last memory, and stopping early."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_training import CLASSES, data, mlp, plan, same, trained
from torch import Tensor, nn

from landscape.attacks import attack
from landscape.cli import run
from landscape.errors import UsageError
from landscape.results import load
from landscape.tracking import Tracker, Tracking
from landscape.training import (
    ADDITIONS,
    METHODS,
    Optimiser,
    Plan,
    default_config,
    fit,
    method,
    train,
)
from landscape.training.network import frozen
from landscape.training.precision import PRECISIONS, computing

HALF = [name for name, dtype in PRECISIONS.items() if dtype is not None]
EPS = {"eps": 0.1}
GENTLE = Optimiser(lr=0.02, momentum=0.9)
# Methods and additions that a precision would ruin.
REFUSED = {
    "bf16": {"h-sat", "llr"},
    "fp16": {"h-sat", "llr", "igr", "cure", "gradalign"},
}


def conv(seed: int = 0) -> nn.Module:
    """Without Dropout, whose masks are drawn in the order in memory."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Flatten(),
            nn.Linear(96, CLASSES),
        )


def made(name: str) -> Any:
    base, *additions = name.split("+")
    options: dict[str, Any] = {
        key: value
        for key, value in {**EPS, "steps": 2, "radii_warmup": 1}.items()
        if key in METHODS[base].options
    }
    for addition in additions:
        if ADDITIONS[addition].defaults.get("warmup"):
            options[addition] = {"warmup": 1}
    if "kdsa" in additions:
        options["kdsa"] = {"standard": mlp(), "adversarial": mlp(1)}
    return method(name, **options)


# -- off ------------------------------------------------------------------------------------------


def test_off_is_what_there_was() -> None:
    """Not a key in the configuration, not a bit in the weights, not a hook on the network."""
    config = default_config("digits", None, "pgd")
    same_config = default_config(
        "digits", None, "pgd", precision="full", channels_last=False, stop_patience=None
    )
    assert same_config.digest == config.digest
    assert not {"precision", "channels_last", "stop_patience"} & set(config.to_dict())
    changed = [{"precision": "bf16"}, {"channels_last": True}, {"stop_patience": 3}]
    digests = {default_config("digits", None, "pgd", **change).digest for change in changed}
    assert len(digests | {config.digest}) == 4
    model = conv()
    with computing(model, "full", channels_last=False):
        assert not model._forward_hooks
        assert not model._forward_pre_hooks


# -- channels-last --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["standard", "pgd", "trades+awp", "free", "pgd+igr"])
def test_channels_last_gives_the_same_numbers(name: str) -> None:
    seen = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    p = plan(made(name), channels_last=True, optimiser=GENTLE)
    model = conv().double()
    model[3].register_forward_pre_hook(watch)
    fit(model, data(), p)
    expected = conv().double()
    fit(expected, data(), plan(made(name), optimiser=GENTLE))
    same(model, expected, rtol=1e-7, atol=1e-12)
    assert all(seen[1:])  # but for the first look at the network
    assert model[3].weight.is_contiguous()
    assert not model._forward_hooks


# -- half precision -------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", HALF)
def test_the_network_alone_computes_in_half_precision(precision: str) -> None:
    """Products of inputs and weights that have been rounded, summed and returned as float32."""
    model, (x, y) = mlp(), data()
    dtype = PRECISIONS[precision]
    assert dtype is not None
    with computing(model, precision, channels_last=False):
        logits = model(x)
        gradients = torch.autograd.grad(F.cross_entropy(logits, y), list(model.parameters()))
    assert logits.dtype == torch.float32
    assert {g.dtype for g in gradients} == {torch.float32}
    weights = {n: p.detach().to(dtype) for n, p in model.named_parameters()}
    hidden = F.linear(x.flatten(1).to(dtype), weights["1.weight"], weights["1.bias"]).tanh()
    slow = F.linear(hidden, weights["3.weight"], weights["3.bias"])
    torch.testing.assert_close(logits.detach(), slow.float(), rtol=0, atol=0)
    whole = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    for g, expected in zip(gradients, whole, strict=True):
        torch.testing.assert_close(g, expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))
    assert not torch.equal(model(x), logits)


def test_attacks_in_fp16_see_gradients_below_its_range() -> None:
    """A confident sample: p of the other classes is about 1e-7, fp16's least number 6e-8."""
    model, (x, y) = mlp(), data(3)
    with torch.no_grad():
        model[3].weight.mul_(0)
        model[3].weight[:, 0] = torch.tensor([0.0, -0.1, -0.1])
        model[3].bias.copy_(torch.tensor([14.5, 0.0, 0.0]))
    y = torch.zeros_like(y)
    gradients = []
    for precision in ("full", "fp16"):
        with computing(model, precision, channels_last=False), frozen(model, "eval") as forward:
            point = x.clone().requires_grad_()
            loss = F.cross_entropy(forward(point), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, point)
        gradients.append(gradient)
    assert 0 < float(gradients[0].abs().max()) < 6e-8
    assert torch.equal(gradients[0].sign(), gradients[1].sign())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.1, atol=1e-10)


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("name", [*METHODS, *(f"pgd+{name}" for name in ADDITIONS)])
def test_methods_train_in_half_precision_or_say_why_not(name: str, precision: str) -> None:
    if set(name.split("+")) & REFUSED[precision]:
        with pytest.raises(UsageError, match=f"can't be trained in precision '{precision}': '"):
            plan(made(name), precision=precision)
        return
    few = {"epochs": 2, "validation_attack": attack("pgd-2", eps=0.1)}
    runs = {}
    for kind in ("full", precision):
        model = mlp()
        state = fit(model, data(), plan(made(name), precision=kind, **few), validation=data(9, 1))
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        runs[kind] = state
    full, half = (runs[kind].columns["train_loss"] for kind in ("full", precision))
    # fp16 leaves out the updates at which its scale is found.
    assert half[0] == pytest.approx(full[0], rel=0.1)
    assert any(
        not torch.equal(runs["full"].weights[n], runs[precision].weights[n])
        for n in runs["full"].weights
    )


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("name", ["pgd", "trades+awp"])
def test_half_precision_learns(name: str, precision: str) -> None:
    p = plan(method(name, eps=0.05, steps=3), epochs=30, precision=precision, optimiser=GENTLE)
    state = fit(conv(), data(66), p, validation=data(30, seed=1))
    assert state.columns["train_loss"][-1] < 0.5 * state.columns["train_loss"][0]
    assert state.columns["val_accuracy"][-1] > 0.9


@pytest.mark.parametrize("fields", [{"precision": "fp16"}, {"channels_last": True}])
def test_an_interrupted_training_ends_bit_for_bit_the_same(fields: dict[str, Any]) -> None:
    p = plan(method("pgd", eps=0.1, steps=2), epochs=4, **fields)
    whole = conv()
    states: list[Any] = []
    fit(whole, data(), p, save=states.append)
    payload = states[1].to_payload()
    assert bool(payload["scaler"]) is ("precision" in fields)
    continued = conv(seed=1)
    fit(continued, data(), p, state=type(states[1])(**payload))
    same(whole, continued)


def test_an_update_whose_gradients_overflow_is_left_out() -> None:
    """Gradients of the first layer are some 6e4 and lie beyond fp16 when they are scaled."""
    model, (x, y) = mlp(), data()
    with torch.no_grad():
        model[3].weight.mul_(1e3)
        model[1].weight.mul_(1e-3)
    before = copy.deepcopy(model)
    p = plan("standard", precision="fp16", epochs=1, batch_size=22)
    state = fit(model, (x, y), p)
    same(model, before)
    assert state.scaler["scale"] == 2.0**15  # half of the first
    fit(model, (x, y), replace(p, precision="bf16"))
    assert not torch.equal(model[3].weight, before[3].weight)


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"precision": "half"}, "unknown precision 'half'. Known: bf16, fp16, full"),
        ({"stop_patience": 0}, "stop_patience must be a whole number of at least 1, got 0"),
        ({"stop_patience": 1.5}, "stop_patience must be a whole number"),
    ],
)
def test_wrong_values_are_refused(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Plan(method("standard"), 2, **fields)


def test_other_refusals() -> None:
    with pytest.raises(UsageError, match="'bf16' is for float32 networks, this one is float64"):
        fit(mlp().double(), data(), plan(precision="bf16"))
    with pytest.raises(UsageError, match="a training in fp16 can't be tracked"):
        fit(mlp(), data(), plan(precision="fp16"), tracker=Tracker(mlp(), Tracking()))
    with pytest.raises(UsageError, match="stop_patience needs validation data"):
        fit(mlp(), data(), plan(stop_patience=1))


def test_a_network_that_fails_leaves_nothing_behind() -> None:
    class Failing(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no")

    model = Failing(2, 2)
    with contextlib.suppress(ValueError), computing(model, "bf16", channels_last=False):
        model(torch.ones(1, 2))
    assert not torch.is_autocast_enabled("cpu")
    assert not model._forward_hooks


# -- stopping early -------------------------------------------------------------------------------


def test_training_stops_when_validation_no_longer_rises() -> None:
    frozen_at_once = plan(epochs=9, optimiser=Optimiser(lr=0.0), stop_patience=3)
    state = fit(mlp(), data(), frozen_at_once, validation=data(9, seed=1))
    assert (state.epoch, state.best_epoch) == (4, 1)  # the earlier one of equals is the best
    again = fit(mlp(), data(), frozen_at_once, validation=data(9, seed=1), state=state)
    assert again.epoch == 4
    same(
        trained(plan(epochs=3, stop_patience=3), validation=data(9, seed=1)),
        trained(plan(epochs=3)),
    )


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["train", "pgd", "--data", "digits", "--n-examples", "40", "--steps", "1"]
    start += ["--device", "cpu", "--out", str(tmp_path / "a")]
    new = ["--epochs", "6", "--lr", "0", "--patience", "2", "--precision", "bf16"]
    assert run([*start, *new, "--channels-last"]) == 0
    assert "stopped after epoch 3 of 6" in capsys.readouterr().err
    assert len(load(tmp_path / "a" / "history.h5").epoch) == 3
    assert run([*start, *new]) == 2
    assert "channels_last: True → absent" in capsys.readouterr().err
    assert run([*start, "--precision", "half"]) == 2
    assert "'half' is not one of 'full', 'bf16', 'fp16'" in capsys.readouterr().err


def test_a_run_that_stopped_is_finished(tmp_path: Path) -> None:
    options = {"n_examples": 40, "epochs": 6, "lr": 0.0, "stop_patience": 1, "device": "cpu"}
    config = default_config("digits", "lenet-1", "standard", **options)
    best = train(config, tmp_path)
    assert best.epoch == 1
    calls: list[Any] = []
    assert train(config, tmp_path, progress=lambda *a: calls.append(a)).digest == best.digest
    assert not calls
