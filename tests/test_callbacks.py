"""The tracker in loops of Lightning and Hugging Face, and what goes to Weights & Biases.

Those libraries are not installed for the tests; the order in which they call their callbacks is
repeated here, and checked against them where they are.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from landscape.errors import UsageError
from landscape.results import load

X = torch.rand(12, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2] * 4)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3))


def by_hand(epochs: int = 2, accumulate: int = 1) -> ls.Track:
    """What a tracker in one's own loop records of the same training."""
    model = network()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    tracker = ls.Tracker(model, noise=0, diagnostics=("gradient",), data=(X, Y))
    for _ in range(epochs):
        for k, (x, y) in enumerate(zip(X.split(4), Y.split(4), strict=True)):
            (F.cross_entropy(model(x), y) / accumulate).backward()
            if (k + 1) % accumulate == 0 or k == 2:
                optimiser.step()
                tracker.step(learning_rate=0.1)
                optimiser.zero_grad()
        tracker.end_epoch()
    return tracker.result()


def same(found: ls.Track, expected: ls.Track) -> None:
    for name in ("update", "gradient_norm", "distance", "update_norm", "learning_rate"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5)
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-5)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the two base classes."""
    lightning = ModuleType("lightning.pytorch")
    lightning.Callback = object  # type: ignore[attr-defined]
    transformers = ModuleType("transformers")
    transformers.TrainerCallback = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", lightning)
    monkeypatch.setitem(sys.modules, "transformers", transformers)


def lightning_loop(callback: Any, model: nn.Module, accumulate: int = 1) -> None:
    """Lightning's automatic optimisation: zero_grad and backward, hook, step, hook."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = SimpleNamespace(global_step=0, optimizers=[optimiser])
    callback.on_train_start(trainer, model)
    for _ in range(2):
        for k, (x, y) in enumerate(zip(X.split(4), Y.split(4), strict=True)):
            if k % accumulate == 0:
                optimiser.zero_grad()
            loss = F.cross_entropy(model(x), y)
            (loss / accumulate).backward()
            if (k + 1) % accumulate == 0 or k == 2:
                callback.on_before_optimizer_step(trainer, model, optimiser)
                optimiser.step()
                trainer.global_step += 1
            callback.on_train_batch_end(trainer, model, {"loss": loss}, (x, y), k)
        callback.on_train_epoch_end(trainer, model)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_in_lightning(fake: None, accumulate: int, tmp_path: Path) -> None:
    model = network()
    callback = ls.lightning_callback(
        tmp_path / "track.h5", noise=0, diagnostics=("gradient",), data=(X, Y)
    )
    lightning_loop(callback, model, accumulate)
    found = load(tmp_path / "track.h5")
    same(found, by_hand(accumulate=accumulate))
    assert len(found.update) == 6 if accumulate == 1 else 4
    assert np.isfinite(found.loss).all()


def test_training_is_the_same_with_and_without(fake: None, tmp_path: Path) -> None:
    one, other = network(), network()
    lightning_loop(ls.lightning_callback(tmp_path / "t.h5", noise=0), one)
    silent = SimpleNamespace(
        **{
            name: lambda *_: None
            for name in (
                "on_train_start",
                "on_before_optimizer_step",
                "on_train_batch_end",
                "on_train_epoch_end",
            )
        }
    )
    lightning_loop(silent, other)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_part_of_the_module(fake: None, tmp_path: Path) -> None:
    whole = nn.ModuleDict({"net": network(), "other": nn.Linear(2, 2)})
    callback = ls.lightning_callback(
        tmp_path / "t.h5", network=lambda module: module["net"], noise=0
    )
    callback.on_train_start(SimpleNamespace(global_step=0), whole)
    assert callback.recorder.tracker.model is whole["net"]
    with pytest.raises(UsageError, match=r"returned a int: expected the nn\.Module to track"):
        ls.lightning_callback(tmp_path / "t.h5", network=lambda module: 3).on_train_start(
            SimpleNamespace(global_step=0), whole
        )


def test_in_hugging_face(fake: None, tmp_path: Path) -> None:
    model = network()
    callback = ls.huggingface_callback(
        tmp_path / "track.h5", noise=0, diagnostics=("gradient",), data=(X, Y)
    )
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    given = {"model": model, "optimizer": optimiser}
    callback.on_train_begin(None, None, None, **given)
    for _ in range(2):
        for x, y in zip(X.split(4), Y.split(4), strict=True):
            F.cross_entropy(model(x), y).backward()
            callback.on_pre_optimizer_step(None, None, None, **given)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
            optimiser.step()
            callback.on_optimizer_step(None, None, None, **given)
            optimiser.zero_grad()
        callback.on_epoch_end(None, None, None, **given)
    same(load(tmp_path / "track.h5"), by_hand())


def test_everything_is_logged_once(tmp_path: Path) -> None:
    class Run:
        def __init__(self) -> None:
            self.rows: list[dict[str, float]] = []
            self.metrics: list[tuple[str, Any]] = []

        def define_metric(self, name: str, step_metric: str | None = None) -> None:
            self.metrics.append((name, step_metric))

        def log(self, row: dict[str, float]) -> None:
            self.rows.append(row)

    run = Run()
    log = ls.log_to_wandb(run)
    assert ("landscape/batch/*", "landscape/update") in run.metrics
    whole = by_hand()
    log(by_hand(epochs=1))
    log(whole)
    log(whole)
    updates = [row["landscape/update"] for row in run.rows if "landscape/update" in row]
    assert updates == [1, 2, 3, 4, 5, 6]
    epochs = {r["landscape/epoch"]: r for r in run.rows if "landscape/epoch" in r}
    assert [*epochs] == [0, 1, 2]
    assert epochs[2]["landscape/epoch/full_gradient_norm"] == pytest.approx(whole.value[0, 2])


@pytest.mark.parametrize(
    ("function", "modules", "message"),
    [
        (ls.lightning_callback, ("lightning.pytorch", "pytorch_lightning"), "needs Lightning"),
        (ls.huggingface_callback, ("transformers",), "needs transformers"),
    ],
)
def test_missing_libraries_are_named(
    function: Any, modules: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=message):
        function("t.h5")


# -- the libraries themselves ----------------------------------------------------------------------


def test_with_lightning_itself(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback = ls.lightning_callback(
        tmp_path / "track.h5",
        network=lambda module: module.net,
        noise=0,
        diagnostics=("gradient",),
        data=(X, Y),
    )
    trainer = lightning.Trainer(
        max_epochs=2,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=4)
    trainer.fit(Module(), data)
    same(load(tmp_path / "track.h5"), by_hand())


def test_with_hugging_face_itself(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
            logits = self.net(x)
            loss = None if labels is None else F.cross_entropy(logits, labels)
            return {"loss": loss, "logits": logits}

    callback = ls.huggingface_callback(
        tmp_path / "track.h5",
        network=lambda model: model.net,
        noise=0,
        diagnostics=("gradient",),
        data=(X, Y),
    )

    class Ordered(transformers.Trainer):  # type: ignore[name-defined, misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(range(len(X)))

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        optim="sgd",
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    data = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)]
    trainer = Ordered(Model(), arguments, train_dataset=data, callbacks=[callback])
    trainer.train()
    same(load(tmp_path / "track.h5"), by_hand())
