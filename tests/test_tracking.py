"""Recording along a training: slow references, no effect on the training, resumption, files."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray
from cases import CASES
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor, nn

import landscape as ls
from landscape import results
from landscape.cli import run
from landscape.errors import NumericalError, OutputError, UsageError
from landscape.exchange import write_tensorboard
from landscape.plotting import picture
from landscape.plotting.track import draw
from landscape.tracking import TRACKED, Measured, Track, Tracker, Tracking
from landscape.tracking.minibatches import COLUMNS
from landscape.tracking.noise import Block
from landscape.training import Optimiser, Plan, State, default_config, fit, method, train

CLASSES = 3
# 22 samples in batches of 8: two whole ones and one of 6.
SIZE, BATCH, BATCHES = 22, 8, 3


def data(n: int = SIZE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = 0.2 + 0.6 * torch.rand(n, 1, 4, 6, generator=generator)
    return x, torch.arange(n) % CLASSES


class Awkward(nn.Module):
    """BatchNorm, Dropout, one weight used twice, one that is frozen and one that is idle."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.mix = nn.Linear(12, 12)
        self.mix.bias.requires_grad_(False)
        self.idle = nn.Parameter(torch.ones(2))
        self.head = nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        x = F.max_pool2d(x, (2, 1)).flatten(1).reshape(len(x), 4, 12)
        x = torch.tanh(self.mix(torch.tanh(self.mix(x))))
        return self.head(self.drop(x.flatten(1)))


def awkward() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(1)
        return Awkward()


def plan(name: str = "pgd", **fields: Any) -> Plan:
    m = method(name) if name == "standard" else method(name, eps=0.1, steps=2)
    optimiser = Optimiser(lr=0.1, momentum=0.9, weight_decay=1e-3)
    return Plan(m, **{"epochs": 4, "batch_size": BATCH, "optimiser": optimiser, **fields})


def tracked(p: Plan, **settings: Any) -> tuple[nn.Module, Track]:
    model = awkward()
    tracker = Tracker(model, **settings)
    fit(model, data(), p, tracker=tracker)
    return model, tracker.result()


def same_content(a: Track, b: Track) -> None:
    for field in a.fields():
        one, two = getattr(a, field.name), getattr(b, field.name)
        assert results._equal(one, two), (field.name, one, two)
    for part in ("diagnostic", "settings", "objective", "seed"):
        assert getattr(a.provenance, part) == getattr(b.provenance, part)


EVERYTHING: dict[str, Any] = {
    "noise": 3,
    "samples": True,
    "diagnostics": ["evaluate", "spectrum"],
    "examples": 9,
    "attack": ls.attack("pgd-2", eps=0.1),
}


# -- minibatches ----------------------------------------------------------------------------------


def batches(epochs: int) -> Iterator[tuple[int, int, Tensor]]:
    generator = torch.Generator().manual_seed(4)
    for epoch in range(epochs):
        for i, rows in enumerate(torch.randperm(SIZE, generator=generator).split(BATCH)):
            yield epoch, i, rows


def flat(tensors: Any) -> np.ndarray:
    return np.concatenate([t.detach().double().numpy().ravel() for t in tensors])


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("before", [False, True], ids=["after the step", "before the step"])
def test_minibatches_against_a_slow_reference(every: int, before: bool) -> None:
    """One's own loop, every number computed again from copies in float64."""
    model, (x, y) = awkward().train(), data()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
    tracker = Tracker(model, every=every, noise=0)
    points, rows_of = [flat(trained)], []
    expected: list[dict[str, float]] = []
    gradients: list[np.ndarray] = []
    for epoch, i, rows in batches(2):
        noise = torch.randn(len(rows), 1, 4, 6, generator=torch.Generator().manual_seed(i))
        adversarial = x[rows] + 0.1 * noise
        logits = model(adversarial)
        loss = F.cross_entropy(logits, y[rows])
        optimiser.zero_grad()
        loss.backward()
        assert model.idle.grad is None
        gradient = flat(torch.zeros_like(p) if p.grad is None else p.grad for p in trained)

        def step(logits: Tensor = logits, loss: Tensor = loss) -> None:
            tracker.step(
                loss=loss,
                x=x[rows],  # noqa: B023
                adversarial=adversarial,  # noqa: B023
                logits=logits,
                y=y[rows],  # noqa: B023
                learning_rate=0.1,
            )

        if before:
            step()
        optimiser.step()
        if not before:
            step()
        points.append(flat(trained))
        rows_of.append(rows)
        n = len(points) - 2  # updates before this one
        if n % every == 0:
            now, last = (points[-2], points[max(-3, -len(points))]) if before else points[:-3:-1]
            delta = (adversarial - x[rows]).double().numpy().reshape(len(rows), -1)
            previous = gradients[-1] if gradients else np.full_like(gradient, np.nan)
            expected.append(
                {
                    "update": n + 1,
                    "time": epoch + (i + 0.5) / BATCHES,
                    "window": 0,
                    "batch_size": len(rows),
                    "loss": loss.item(),
                    "error": float((logits.argmax(1) != y[rows]).double().mean()),
                    "gradient_norm": np.sqrt((gradient**2).sum()),
                    "update_norm": np.sqrt(((now - last) ** 2).sum()),
                    "distance": np.sqrt(((now - points[0]) ** 2).sum()),
                    "cosine": gradient
                    @ previous
                    / np.sqrt((gradient**2).sum() * (previous**2).sum()),
                    "delta_l2": np.mean([np.sqrt((d**2).sum()) for d in delta]),
                    "delta_linf": np.mean([np.abs(d).max() for d in delta]),
                    "learning_rate": 0.1,
                }
            )
            gradients.append(gradient)
        if i == BATCHES - 1:
            tracker.end_epoch()
    track = tracker.result()
    assert len(track.update) == math.ceil(2 * BATCHES / every)
    for name in COLUMNS:
        wanted = [row[name] for row in expected]
        assert_allclose(getattr(track, name), wanted, rtol=2e-5, atol=1e-7, err_msg=name)
    assert track.noise_trace is None
    assert track.epochs == 2


def test_gradients_are_taken_before_they_are_clipped() -> None:
    free, clipped = (tracked(plan(epochs=1, clip_norm=c))[1] for c in (None, 1e-3))
    assert free.gradient_norm[0] == clipped.gradient_norm[0] > 0.1
    assert clipped.update_norm[0] < 1e-3 < free.update_norm[0]


def test_perturbations_of_the_training() -> None:
    assert_allclose(tracked(plan())[1].delta_linf, 0.1, rtol=1e-5)
    standard = tracked(plan("standard"))[1]
    assert_array_equal(standard.delta_linf, 0)
    assert_array_equal(standard.delta_l2, 0)


def test_windows_and_every() -> None:
    p = plan(epochs=4)
    whole, part = tracked(p)[1], tracked(p, every=2, windows=[(0, 1), (2, 4)], noise=3)[1]
    assert_array_equal(part.update, [1, 3, 7, 9, 11])
    assert_array_equal(part.window, [0, 0, 1, 1, 1])
    at = part.update - 1
    for name in set(COLUMNS) - {"window", "cosine"}:
        assert_array_equal(getattr(part, name), getattr(whole, name)[at], err_msg=name)
    assert_array_equal(np.isnan(part.cosine), [True, False, True, False, False])
    # The last minibatch of an epoch is smaller and left out; one block is never full.
    assert part.noise_trace is None
    assert_allclose(whole.time, (np.arange(12) + 0.5) / BATCHES)


def test_what_is_not_given_is_nan() -> None:
    model = awkward()
    tracker = Tracker(model)
    model(data()[0]).sum().backward()
    tracker.step()
    track = tracker.result()
    for name in ("loss", "error", "delta_l2", "batch_size", "learning_rate", "time", "cosine"):
        assert np.isnan(getattr(track, name)).all(), name
    assert track.gradient_norm[0] > 0
    assert track.distance[0] == track.update_norm[0] == 0


# -- gradient noise -------------------------------------------------------------------------------


def test_noise_is_the_covariance_of_the_gradients() -> None:
    g = torch.randn(7, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    block = Block(batch_size=5)
    for row in g:
        block.add(row)
    noise, n = block.noise(), len(g)
    rows = g.numpy()
    assert_allclose(noise.trace.value, 5 * np.trace(np.cov(rows.T)), rtol=1e-12)
    pairs = [rows[i] @ rows[j] for i in range(n) for j in range(n) if i != j]
    assert_allclose(noise.square.value, np.mean(pairs), rtol=1e-12)
    assert_allclose(noise.scale.value, noise.trace.value / noise.square.value, rtol=1e-12)
    assert noise.trace.samples == n


@pytest.mark.parametrize(("signal", "n"), [(3.0, 10), (0.5, 20), (0.15, 40)])
def test_noise_is_unbiased_and_its_errors_are_right(signal: float, n: int) -> None:
    """Over 300 blocks: means within 5 standard errors, spread as the standard errors say."""
    generator = torch.Generator().manual_seed(1)
    deviation = torch.linspace(0.1, 2, 30, dtype=torch.float64)
    mean = signal * torch.randn(30, dtype=torch.float64, generator=generator)
    size = 4
    found = []
    for _ in range(300):
        block = Block(size)
        z = torch.randn(n, 30, dtype=torch.float64, generator=generator)
        for row in mean + deviation * z / size**0.5:
            block.add(row)
        found.append(block.noise())
    for i, true in enumerate((float((deviation**2).sum()), float(mean @ mean))):
        values = np.array([noise[i].value for noise in found])
        errors = np.array([noise[i].standard_error for noise in found])
        assert abs(values.mean() - true) < 5 * values.std() / 300**0.5
        assert_allclose(np.sqrt((errors**2).mean()), values.std(), rtol=0.25)


def test_a_noise_scale_that_the_block_cannot_tell_has_no_finite_error() -> None:
    generator = torch.Generator().manual_seed(0)
    block = Block(8)
    for row in torch.randn(5, 50, generator=generator):
        block.add(row)
    assert math.isinf(block.noise().scale.standard_error)
    assert math.isfinite(block.noise().trace.standard_error)


def test_blocks_take_gradients_of_one_size() -> None:
    p = plan(epochs=4)
    model = awkward()
    tracker = Tracker(model, noise=3)
    kept: list[np.ndarray] = []
    take = tracker.gradient

    def keep() -> None:
        take()
        kept.append(flat(p.grad for p in model.parameters() if p.grad is not None))

    tracker.gradient = keep  # type: ignore[method-assign]
    fit(model, data(), p, tracker=tracker)
    track = tracker.result()
    whole = [g for i, g in enumerate(kept) if i % BATCHES != BATCHES - 1]
    expected = [BATCH * np.trace(np.cov(np.array(whole[i : i + 3]).T)) for i in (0, 3)]
    assert track.noise_trace is not None
    assert_allclose(track.noise_trace, expected, rtol=1e-4)
    assert_array_equal(track.block_gradients, 3)
    assert_array_equal(track.block_batch_size, BATCH)
    assert_array_equal(track.block_update, [4, 8])
    first = track.estimates("noise_trace")[0]
    assert first.value == track.noise_trace[0]
    assert first.samples == 3
    with pytest.raises(UsageError, match="unknown estimate of a track 'trace'"):
        track.estimates("trace")


# -- samples --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["standard", "pgd", "trades"])
def test_samples_in_the_order_of_the_data(name: str) -> None:
    """A network without Dropout or BatchNorm that does not move: each loss is known."""
    x, y = data()
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, CLASSES))
    own = copy.deepcopy(model)
    tracker = Tracker(model, samples=True)
    state = fit(model, (x, y), plan(name, epochs=2, optimiser=Optimiser(lr=0)), tracker=tracker)
    track = tracker.result()
    assert track.sample_loss is not None
    assert track.sample_correct is not None
    assert_array_equal(track.epoch, [1, 2])
    assert_array_equal(track.labels, y)
    clean = F.cross_entropy(own(x), y, reduction="none").detach().numpy()
    if name == "standard":
        assert_allclose(track.sample_loss, np.stack([clean, clean]), rtol=1e-6)
        assert_array_equal(track.sample_correct[0], (own(x).argmax(1) == y).numpy())
    if name == "pgd":
        assert (track.sample_loss > clean).all()
    if name == "trades":
        assert track.sample_clean_loss is not None
        assert_allclose(track.sample_clean_loss, np.stack([clean, clean]), rtol=1e-6)
    else:
        assert track.sample_clean_loss is None
        assert_allclose(track.sample_loss.mean(1), state.columns["train_loss"], rtol=1e-5)
    assert_allclose(track.sample_correct.mean(1), state.columns["train_accuracy"], rtol=1e-6)


def test_samples_that_were_not_seen_are_nan() -> None:
    model, (x, y) = awkward(), data()
    tracker = Tracker(model, samples=True, labels=y, every=100)
    for rows in (torch.tensor([3, 0]), torch.tensor([5])):
        for r in rows.split(1):
            model.eval()
            logits = model(x[r])
            F.cross_entropy(logits, y[r]).backward()
            tracker.step(logits=logits, y=y[r], rows=r)
        tracker.end_epoch()
    track = tracker.result()
    assert track.sample_loss is not None
    seen = np.isfinite(track.sample_loss)
    assert [list(np.flatnonzero(row)) for row in seen] == [[0, 3], [5]]


# -- the training stays the same ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pgd", "trades"])
def test_the_weights_end_bit_for_bit_the_same(name: str) -> None:
    p = plan(name)
    bare = awkward()
    state = fit(bare, data(), p, validation=data(9))
    model = awkward()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    mine = fit(model, data(), p, validation=data(9), tracker=Tracker(model, **EVERYTHING))
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(model.state_dict(), bare.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(mine.optimiser, state.optimiser, rtol=0, atol=0)
    for column in set(mine.columns) - {"seconds"}:
        assert_array_equal(mine.columns[column], state.columns[column])
    assert not state.tracker


# -- diagnostics ----------------------------------------------------------------------------------


def test_diagnostics_are_those_of_the_network_at_the_time() -> None:
    x, y = data()
    attack = ls.attack("pgd-2", eps=0.1)
    model = awkward()
    tracker = Tracker(
        model,
        diagnostics={
            "lambda_max": lambda objective: ls.spectrum(objective, 1).eigenvalues[0],
            "trace": lambda objective: ls.trace(objective, 5).trace,
            "both": lambda objective: {"a": torch.tensor(2.0), "b": Measured(1.0, 0.5, "residual")},
        },
        measure_every=3,
        data=(x[:10], y[:10]),
        attack=attack,
        seed=3,
    )
    fit(model, (x, y), plan(epochs=4), tracker=tracker)
    track = tracker.result()
    assert_array_equal(track.measured_epoch, [0, 3, 4])
    for column, net in ((0, awkward()), (2, model)):
        objective = ls.Objective(net, (x[:10], y[:10]), attack=attack, seed=3)
        assert track.measured("lambda_max")[0][column] == ls.spectrum(objective, 1).eigenvalues[0]
        trace = ls.trace(objective, 5).trace
        assert [v[column] for v in track.measured("trace")] == [trace.value, trace.standard_error]
    assert track.error_kind is not None
    assert list(track.error_kind) == ["", "standard error", "", "residual"]
    assert_array_equal(track.measured("both.b"), [[1.0] * 3, [0.5] * 3])
    with pytest.raises(UsageError, match="unknown tracked diagnostic 'lambda'"):
        track.measured("lambda")


@pytest.mark.parametrize("name", TRACKED)
def test_every_tracked_diagnostic_gives_numbers_with_errors(name: str) -> None:
    case = CASES["conv, batchnorm, dropout"]
    model = case.model().train()
    before = copy.deepcopy(model.state_dict())
    attack = ls.attack("pgd-2", eps=0.1)
    tracker = Tracker(model, diagnostics=[name], data=case.data(), attack=attack)
    track = tracker.result()
    assert track.value is not None
    assert track.error_bar is not None
    assert np.isfinite(track.value).all()
    assert np.isfinite(track.error_bar).all() or name == "gradient"
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert model.training


def test_the_subset_is_drawn_once_from_the_training_data() -> None:
    seen: list[Tensor] = []

    def look(objective: ls.Objective) -> float:
        seen.append(torch.cat([x for x, _ in objective.batches]))
        return 0.0

    tracked(plan(epochs=2), diagnostics={"look": look}, examples=7)
    assert len(seen) == 3
    assert torch.equal(seen[0], seen[2])
    x = data()[0]
    rows = [next(i for i in range(SIZE) if torch.equal(x[i], s)) for s in seen[0]]
    assert len(rows) == 7
    assert rows == sorted(set(rows))
    assert rows != list(range(7))


def test_a_diagnostic_that_fails_is_left_out_and_the_training_goes_on() -> None:
    calls = []

    def sometimes(objective: ls.Objective) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise NumericalError("not this time.")
        return 1.0

    with pytest.warns(UserWarning, match="diagnostic 'sometimes' is left out here: not this"):
        _, track = tracked(plan(epochs=2), diagnostics={"sometimes": sometimes})
    assert_array_equal(track.measured("sometimes")[0], [1.0, np.nan, 1.0])


def test_what_a_method_remembers_of_every_sample() -> None:
    """After each epoch, from when there is something; a continued training has the same."""
    p = Plan(
        method("iaat", eps=0.1, steps=2, radii_warmup=1, radii_rate=1.0),
        epochs=3,
        batch_size=BATCH,
        optimiser=Optimiser(lr=0.1),
    )
    states: list[State] = []
    model = awkward()
    tracker = Tracker(model, memory="iaat.eps")
    fit(model, data(), p, save=states.append, tracker=tracker)
    track = tracker.result()
    assert track.memory is not None
    assert_array_equal(track.memory_epoch, [1, 2, 3])
    for kept, state in zip(track.memory, states, strict=True):
        assert_array_equal(kept[:, 0], state.memory["iaat.eps"])
    assert_allclose(track.memory[0], 0.1)
    assert not np.allclose(track.memory[2], 0.1)
    again = awkward()
    later = Tracker(again, memory="iaat.eps")
    fit(again, data(), p, state=states[0], tracker=later)
    same_content(later.result(), track)
    assert tracked(plan(), memory="iaat.eps")[1].memory is None  # PGD remembers nothing


# -- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_continued_training_has_the_track_of_an_uninterrupted_one(epoch: int) -> None:
    p = plan(epochs=4)
    settings = {**EVERYTHING, "every": 2, "windows": [(0, 1), (1, 4)]}
    model, whole = tracked(p, **settings)
    states: list[State] = []
    first = awkward()
    fit(first, data(), p, save=states.append, tracker=Tracker(first, **settings))
    kept = repr(states[epoch - 1].tracker["minibatches"]["block"])
    second = awkward()
    tracker = Tracker(second, **settings)
    fit(second, data(), p, state=states[epoch - 1], tracker=tracker)
    torch.testing.assert_close(second.state_dict(), model.state_dict(), rtol=0, atol=0)
    same_content(tracker.result(), whole)
    assert repr(states[epoch - 1].tracker["minibatches"]["block"]) == kept != "None"
    assert whole.noise_trace is not None
    assert whole.value is not None


def test_ones_own_loop_can_go_on_too() -> None:
    x, y = data()

    def train_epochs(model: nn.Module, tracker: Tracker, epochs: list[int]) -> Tracker:
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        for epoch, i, rows in batches(4):
            if epoch in epochs:
                loss = F.cross_entropy(model.eval()(x[rows]), y[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                tracker.step(loss=loss, x=x[rows], y=y[rows])
                if i == BATCHES - 1:
                    tracker.end_epoch()
        return tracker

    model = awkward()
    whole = train_epochs(model, Tracker(model, noise=3), [0, 1, 2, 3]).result()
    other = awkward()
    half = train_epochs(other, Tracker(other, noise=3), [0, 1]).state()
    later = Tracker(other, noise=3, state=half)
    same_content(train_epochs(other, later, [2, 3]).result(), whole)


def config(**overrides: Any) -> Any:
    values = {
        "n_examples": 60,
        "epochs": 4,
        "batch_size": 25,
        "model_options": {"batchnorm": True, "dropout": 0.3},
        "device": "cpu",
        "steps": 2,
        **overrides,
    }
    return default_config("digits", "lenet-1", "pgd", **values)


FOLDER = Tracking(noise=3, samples=True, diagnostics=("gradient",), examples=20)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Track]:
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(config(), out, track=FOLDER)
    return out, results.load(out / "track.h5")


def test_a_run_in_a_folder(finished: tuple[Path, Track]) -> None:
    out, track = finished
    assert track.epochs == 4
    assert len(track.update) == 12
    assert track.sample_loss is not None
    assert track.sample_loss.shape == (4, 60)
    assert track.provenance.objective["training"]["method"]["name"] == "pgd"
    history = results.load(out / "history.h5")
    assert_allclose(track.sample_loss.mean(1), history.train_loss, rtol=1e-5)
    torch.load(out / "last.pt", weights_only=True)
    with xarray.open_dataset(out / "track.h5", engine="h5netcdf") as opened:
        assert_array_equal(opened.sample_loss.epoch, [1, 2, 3, 4])
        assert opened.gradient_norm.dims == ("update",)


def test_an_interrupted_run_continues_its_track(
    finished: tuple[Path, Track], tmp_path: Path
) -> None:
    def stop(epoch: int, epochs: int, batch: int, *rest: Any) -> None:
        if (epoch, batch) == (3, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path, track=FOLDER, progress=stop)
    assert results.load(tmp_path / "track.h5").epochs == 2
    with pytest.raises(UsageError, match="2 epochs of this training were tracked: go on with"):
        train(config(), tmp_path)
    with pytest.raises(UsageError, match=r"tracked with other settings \(noise differ\)"):
        train(config(), tmp_path, track=Tracking(**{**vars(FOLDER), "noise": 4}))
    train(config(), tmp_path, track=FOLDER)
    same_content(results.load(tmp_path / "track.h5"), finished[1])


def test_a_killed_run_loses_one_epoch_at_most(finished: tuple[Path, Track], tmp_path: Path) -> None:
    """Killed in its third epoch, where it waits for ever."""
    script = tmp_path / "run.py"
    script.write_text(
        f"import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_tracking import FOLDER, config, train\n"
        "def wait(epoch, epochs, batch, *rest):\n"
        "    if (epoch, batch) == (3, 2): time.sleep(1000)\n"
        f"train(config(), {str(tmp_path / 'run')!r}, track=FOLDER, progress=wait)\n"
    )
    process = subprocess.Popen(
        [sys.executable, script], env={**os.environ, "LANDSCAPE_SAVE_SECONDS": "0"}
    )
    last = tmp_path / "run" / "last.pt"
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            if last.exists() and torch.load(last, weights_only=True)["state"]["epoch"] == 2:
                break
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert results.load(tmp_path / "run" / "track.h5").epochs == 2
    train(config(), tmp_path / "run", track=FOLDER)
    same_content(results.load(tmp_path / "run" / "track.h5"), finished[1])


def test_finished_runs_are_as_tracked_or_refused(
    finished: tuple[Path, Track], tmp_path: Path
) -> None:
    out, _ = finished
    content = (out / "track.h5").read_bytes()
    train(config(), out, track=FOLDER)
    train(config(), out)
    assert (out / "track.h5").read_bytes() == content
    with pytest.raises(UsageError, match=r"tracked with other settings \(every, seed differ\)"):
        train(config(), out, track=Tracking(**{**vars(FOLDER), "every": 2, "seed": 1}))
    train(config(epochs=1), tmp_path)
    with pytest.raises(UsageError, match="finished training that was not tracked: pass --overw"):
        train(config(epochs=1), tmp_path, track=FOLDER)
    train(config(epochs=1), tmp_path, track=FOLDER, overwrite=True)
    assert (tmp_path / "track.h5").exists()


def test_a_training_cannot_become_tracked_half_way() -> None:
    model, states = awkward(), []
    fit(model, data(), plan(epochs=2), save=states.append)
    with pytest.raises(UsageError, match="first 1 epochs of this training were not tracked"):
        fit(model, data(), plan(epochs=2), state=states[0], tracker=Tracker(model))


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"every": 0}, "every must be a whole number of at least 1, got 0"),
        ({"measure_every": 1.5}, "measure_every must be a whole number of at least 1, got 1.5"),
        ({"noise": 2}, "noise must be 0 or at least 3 gradients per block, got 2"),
        ({"windows": [(3, 1)]}, r"a window is a pair \(first, end\) of epochs with 0 <= first"),
        ({"attack": "pgd"}, "attack must be an Attack, for example landscape.attack"),
        ({"diagnostics": ["spectra"]}, "unknown tracked diagnostic 'spectra'.*spectrum"),
        ({"diagnostics": "spectrum"}, r"must be a list of names or functions by name: \['spectrum"),
        ({"diagnostics": {"a": 3}}, "diagnostic 'a' is a int: give a function of an Objective"),
        ({"windowss": 3}, "Tracker: got an unexpected keyword argument 'windowss'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        Tracker(awkward(), **settings)


def test_wrong_uses() -> None:
    model, (x, y) = awkward(), data()
    with pytest.raises(UsageError, match="as a Tracking or as keywords, not both"):
        Tracker(model, Tracking(), every=2)
    with pytest.raises(UsageError, match="no parameters that require gradients"):
        Tracker(awkward().requires_grad_(False))
    tracker = Tracker(model)
    with pytest.raises(UsageError, match=r"no parameter has a gradient: call tracker\.step after"):
        tracker.step()
    with pytest.raises(UsageError, match="end_epoch was called, but there was no step"):
        Tracker(model).end_epoch()
    with pytest.raises(UsageError, match="made for another model"):
        fit(awkward(), data(), plan(), tracker=tracker)
    fit(model, (x, y), plan(epochs=1), tracker=(used := Tracker(model)))
    with pytest.raises(UsageError, match="has recorded 3 updates already: make a new one"):
        fit(model, (x, y), plan(epochs=1), tracker=used)
    model(x).sum().backward()
    with pytest.raises(UsageError, match=r"diagnostics need Tracker\(data=...\)"):
        Tracker(model, diagnostics=["trace"]).step()
    with pytest.raises(UsageError, match=r"samples=True needs Tracker\(labels=...\)"):
        Tracker(model, samples=True).step()
    with pytest.raises(UsageError, match="samples=True needs rows, logits and y at every step"):
        Tracker(model, samples=True, labels=y).step(loss=1.0)
    with pytest.raises(UsageError, match=r"positions 0..21 of the minibatch's 2 samples"):
        Tracker(model, samples=True, labels=y).step(
            logits=model(x[:2]), y=y[:2], rows=torch.tensor([0, 22])
        )
    with pytest.raises(UsageError, match="diagnostic 'a' returned a str: return a number"):
        Tracker(model, diagnostics={"a": lambda objective: "no"}, data=(x, y))
    with pytest.raises(UsageError, match="effectiveness is that of an attack"):
        Tracker(model, diagnostics=["effectiveness"], data=(x, y))
    started = Tracker(model)
    started.step()
    with pytest.raises(UsageError, match="continued from the end of an epoch only"):
        started.state()
    with pytest.raises(UsageError, match="trainable entries, this one"):
        Tracker(nn.Linear(2, 2), state=used.state())


# -- files, pictures, TensorBoard -----------------------------------------------------------------


def test_storage(tmp_path: Path) -> None:
    _, track = tracked(plan(epochs=2), **EVERYTHING)
    path = track.save(tmp_path / "track.h5")
    assert results.load(path) == track
    with pytest.raises(OutputError, match="exists"):
        track.save(path)


def test_windows_that_are_never_reached(tmp_path: Path) -> None:
    _, track = tracked(plan(epochs=1), windows=[(5, 6)])
    assert len(track.update) == 0
    path = track.save(tmp_path / "track.h5")
    assert results.load(path) == track
    with xarray.open_dataset(path, engine="h5netcdf") as opened:
        assert opened.sizes["update"] == 0
    with pytest.raises(UsageError, match="nothing was recorded: the windows were never reached"):
        picture([track])


def test_pictures() -> None:
    settings = {**EVERYTHING, "windows": [(0, 1), (2, 4)]}
    a, b = (tracked(plan(name), **settings)[1] for name in ("pgd", "standard"))
    figure = picture([a, b], ["pgd", "standard"])
    titles = [ax.get_title() for ax in figure.axes]
    assert titles.count("distance ‖θ − θ₀‖₂") == 2
    assert "top Hessian eigenvalue" in titles
    ax = draw([a], "gradient_norm", window=1)
    (line,) = ax.lines
    assert_array_equal(line.get_xdata(), a.time[a.window == 1])
    assert_array_equal(line.get_ydata(), a.gradient_norm[a.window == 1])
    ax = a.plot(quantity="lambda_max")
    assert_array_equal(ax.lines[0].get_ydata(), a.measured("lambda_max")[0])
    with pytest.raises(UsageError, match="unknown tracked quantity 'lamda_max'"):
        draw([a], "lamda_max")
    bare = tracked(plan(epochs=1))[1]
    with pytest.raises(UsageError, match="'noise_trace' was not recorded"):
        draw([bare], "noise_trace")
    # Blocks that can't tell their mean gradient from zero have no noise scale to show.
    endless = dataclasses.replace(a, noise_scale=np.full_like(a.noise_scale, np.inf))
    shown = [ax.get_title() for ax in picture([endless]).axes]
    assert "gradient noise tr Σ" in shown
    assert "simple noise scale tr Σ / |G|²" not in shown


def test_running_means_have_equal_weights() -> None:
    _, track = tracked(plan(epochs=30, optimiser=Optimiser(lr=0.01)))
    pale, line = draw([track], "loss").lines
    assert_array_equal(pale.get_ydata(), track.loss)
    expected = [track.loss[i : i + 2].mean() for i in range(89)]
    assert_allclose(line.get_ydata(), expected)
    assert_allclose(line.get_xdata(), [track.time[i : i + 2].mean() for i in range(89)])


def test_tensorboard_reads_back_what_was_tracked(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, track = tracked(plan(epochs=3), **EVERYTHING)
    write_tensorboard(track, tmp_path / "tb")
    everything = {"histograms": 0, "scalars": 0}  # by default it keeps one histogram
    read = accumulator.EventAccumulator(str(tmp_path / "tb"), everything).Reload()
    for name in set(COLUMNS) - {"update", "window", "cosine"}:
        events = read.Scalars(f"minibatch/{name}")
        assert [e.step for e in events] == list(track.update)
        assert_allclose([e.value for e in events], getattr(track, name), rtol=1e-6)
    assert len(read.Scalars("minibatch/cosine")) == len(track.update) - 1
    for name in map(str, track.diagnostic if track.diagnostic is not None else ()):
        events = read.Scalars(f"diagnostic/{name}")
        assert [e.step for e in events] == list(track.measured_epoch)
        assert_allclose([e.value for e in events], track.measured(name)[0], rtol=1e-6)
        assert f"diagnostic_error/{name}" in read.Tags()["scalars"]
    assert [e.step for e in read.Scalars("noise/noise_trace")] == list(track.block_update)
    histograms = read.Histograms("samples/loss")
    assert [h.step for h in histograms] == [1, 2, 3]
    assert histograms[0].histogram_value.num == SIZE
    with pytest.raises(OutputError, match="holds TensorBoard events: pass --overwrite"):
        write_tensorboard(track, tmp_path / "tb")
    write_tensorboard(track, tmp_path / "tb", overwrite=True)
    assert len(list((tmp_path / "tb").iterdir())) == 1


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    _, track = tracked(plan(epochs=1))
    with pytest.raises(UsageError, match=r"pip install 'landscape-diagnostics\[tensorboard\]'"):
        write_tensorboard(track, tmp_path / "tb")


# -- the command line -----------------------------------------------------------------------------

COMMAND = ["train", "pgd", "--steps", "1", "--n-examples", "60", "--batch-size", "20"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    out = tmp_path / "run"
    command = [*COMMAND, "--epochs", "2", "--out", str(out), "--quiet"]
    options = ["--track", "gradient,evaluate", "--track-every", "2", "--track-examples", "30"]
    options += ["--track-attack", "fgsm", "--track-samples", "--track-windows", "0:1"]
    assert run([*command, *options, "--track-batches", "2", "--track-noise", "3"]) == 0
    assert f"wrote {out / 'track.h5'}" in capsys.readouterr().out
    track = results.load(out / "track.h5")
    settings = track.provenance.settings
    assert settings["attack"]["eps"] == 0.1
    assert settings["windows"] == [[0.0, 1.0]]
    assert_array_equal(track.measured_epoch, [0, 2])
    assert_array_equal(track.update, [1, 3])
    assert track.sample_loss.shape == (2, 60)
    assert "robust_accuracy" in track.diagnostic
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "track.h5"
    other.write_bytes((out / "track.h5").read_bytes())
    both = str(tmp_path / "both")
    assert run(["plot", str(out / "track.h5"), str(other), "--out", both]) == 0
    assert run(["export", str(out / "track.h5"), "--to", "tensorboard"]) == 0
    assert list((out / "track-tensorboard").glob("events.out.tfevents.*"))
    capsys.readouterr()
    assert run(["export", str(out / "track.h5"), "--to", "vts"]) == 2
    assert "holds a track: --to vts takes a surface" in capsys.readouterr().err
    assert run([*command]) == 0  # finished, without asking for its track again


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--track-every", "2"], "--track-every needs --track: add --track batches"),
        (["--track-windows", "0:1"], "--track-windows needs --track"),
        (["--track", "spectra"], "unknown what to track 'spectra': did you mean"),
        (["--track", ""], "unknown what to track ''. Known: batches, effectiveness"),
        (["--track", "batches", "--track-windows", "90:91"], "90:91 lies outside the run of"),
        (["--track", "batches", "--track-windows", "2"], "'2' are no windows of epochs: write 0:2"),
        (["--track", "batches", "--track-windows", "1:0"], "a window is a pair"),
    ],
)
def test_refused_options(
    options: list[str], match: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run([*COMMAND, "--out", str(tmp_path / "run"), *options]) == 2
    assert match in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_help_names_all_that_can_be_tracked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for name in TRACKED:
        assert name in shown


def test_the_attack_has_the_radius_of_the_evaluation(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["train", "standard", "--eps", "0.07", "--norm", "l2", "--dry-run"]
    assert run([*command, "--track", "batches", "--track-attack", "fgsm"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["track"]["attack"]["eps"] == shown["evaluation"]["eps"] == 0.07
    assert shown["track"]["attack"]["norm"] == shown["evaluation"]["norm"] == "l2"


def test_the_example_runs(tmp_path: Path) -> None:
    path = Path(__file__).parent.parent / "examples" / "track_own_loop.py"
    done = subprocess.run([sys.executable, path, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "top eigenvalue" in done.stdout
    track = results.load(tmp_path / "track.h5")
    assert track.epochs == 6
    assert np.isfinite(track.sample_loss).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu() -> None:
    p = plan("standard", epochs=2, optimiser=Optimiser(lr=0.01))
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, CLASSES))
    found = []
    for device in ("cpu", "cuda"):
        net = copy.deepcopy(model).to(device)
        tracker = Tracker(net, noise=3, samples=True)
        fit(net, data(), p, tracker=tracker)
        found.append(tracker.result())
    for name in (*COLUMNS, "noise_trace", "sample_loss"):
        assert_allclose(getattr(found[1], name), getattr(found[0], name), rtol=1e-3, err_msg=name)
