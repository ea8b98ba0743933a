"""The tracker in other people's training loops: Lightning and Hugging Face.

Each function returns a callback for that library, imported when it is called. Both record what a
``Tracker`` records of minibatches (gradient norm, distance, update, noise) and any diagnostic after
every so many epochs, change nothing about the training, and write ``path`` after every epoch.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.tracking import Track, Tracker, Tracking


class _Recorder:
    """What both callbacks do, in the words of neither library."""

    def __init__(
        self,
        path: str | Path,
        settings: Tracking | None,
        network: Callable[[Any], nn.Module] | None,
        log: Callable[[Track], object] | None,
        options: dict[str, Any],
    ) -> None:
        self.path, self._settings, self._log = Path(path), settings, log
        self._network, self._options = network, options
        self.tracker: Tracker | None = None

    def begin(self, model: Any) -> None:
        network = model if self._network is None else self._network(model)
        if not isinstance(network, nn.Module):
            raise UsageError(
                f"network= returned a {type(network).__name__}: expected the nn.Module to track."
            )
        self.tracker = Tracker(network, self._settings, **self._options)

    def gradient(self) -> None:
        if self.tracker is not None:
            self.tracker.gradient()

    def step(self, loss: float | Tensor = math.nan, learning_rate: float = math.nan) -> None:
        if self.tracker is not None:
            self.tracker.step(loss=loss, learning_rate=learning_rate)

    def end_epoch(self) -> None:
        if self.tracker is None or not self.tracker.updates_in_epoch:
            return
        self.tracker.end_epoch()
        track = self.tracker.result()
        track.save(self.path, overwrite=True)
        if self._log is not None:
            self._log(track)


def lightning_callback(
    path: str | Path,
    settings: Tracking | None = None,
    *,
    network: Callable[[Any], nn.Module] | None = None,
    log: Callable[[Track], object] | None = None,
    **options: Any,
) -> Any:
    """A callback for ``lightning.Trainer(callbacks=[...])``.

    Args:
        path: of the track, written after every epoch.
        settings: a ``Tracking``; or its fields, and ``data`` for diagnostics, as ``options``.
        network: from the LightningModule to what is tracked: ``lambda module: module.net``.
            Default: all of it.
        log: called with the ``Track`` so far after every epoch, ``log_to_wandb(run)`` for example.

    Updates are those of the optimiser, however many batches are accumulated. Gradients are taken
    before they are clipped.
    """
    base = _lightning()
    recorder = _Recorder(path, settings, network, log, options)

    class LandscapeCallback(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.recorder, self._steps = recorder, 0

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            recorder.begin(pl_module)
            self._steps = trainer.global_step

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            recorder.gradient()

        def on_train_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if trainer.global_step == self._steps:  # gradients are being accumulated
                return
            self._steps = trainer.global_step
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            group = trainer.optimizers[0].param_groups[0]
            recorder.step(math.nan if loss is None else loss, float(group["lr"]))

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            recorder.end_epoch()

    return LandscapeCallback()


def huggingface_callback(
    path: str | Path,
    settings: Tracking | None = None,
    *,
    network: Callable[[Any], nn.Module] | None = None,
    log: Callable[[Track], object] | None = None,
    **options: Any,
) -> Any:
    """A callback for ``transformers.Trainer(callbacks=[...])``; arguments as of
    ``lightning_callback``. The Trainer tells callbacks no minibatch's loss: it is NaN.
    """
    try:
        base = importlib.import_module("transformers").TrainerCallback
    except ImportError as error:
        raise UsageError("huggingface_callback needs transformers: pip install it.") from error
    recorder = _Recorder(path, settings, network, log, options)

    class LandscapeCallback(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self.recorder = recorder

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            recorder.begin(given["model"])

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            recorder.gradient()

        def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            optimizer = given.get("optimizer")
            rate = float(optimizer.param_groups[0]["lr"]) if optimizer is not None else math.nan
            recorder.step(learning_rate=rate)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            recorder.end_epoch()

    return LandscapeCallback()


def log_to_wandb(run: Any) -> Callable[[Track], None]:
    """For ``log=``: everything new in a track goes to a Weights & Biases run.

    ``run`` is what ``wandb.init`` returned; minibatches are logged against ``update``, measured
    diagnostics against ``epoch``.
    """
    for axis, names in (("update", "landscape/batch/*"), ("epoch", "landscape/epoch/*")):
        run.define_metric(f"landscape/{axis}")
        run.define_metric(names, step_metric=f"landscape/{axis}")
    seen = {"update": 0, "epoch": -1}

    def log(track: Track) -> None:
        for k, update in enumerate(track.update):
            if update <= seen["update"]:
                continue
            row = {
                f"landscape/batch/{name}": float(getattr(track, name)[k])
                for name in ("loss", "error", "gradient_norm", "update_norm", "distance")
                if math.isfinite(getattr(track, name)[k])
            }
            run.log({"landscape/update": int(update), **row})
            seen["update"] = int(update)
        for k, epoch in enumerate(track.measured_epoch if track.measured_epoch is not None else ()):
            if epoch <= seen["epoch"]:
                continue
            assert track.diagnostic is not None
            assert track.value is not None
            values = {
                f"landscape/epoch/{name}": float(track.value[d, k])
                for d, name in enumerate(track.diagnostic)
                if math.isfinite(track.value[d, k])
            }
            run.log({"landscape/epoch": int(epoch), **values})
            seen["epoch"] = int(epoch)

    return log


def _lightning() -> Any:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return importlib.import_module(name).Callback
        except ImportError:
            continue
    raise UsageError("lightning_callback needs Lightning: pip install lightning.")
