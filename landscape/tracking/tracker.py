"""The recorder that goes along a training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape import params as P
from landscape.errors import UsageError
from landscape.objective import Objective
from landscape.provenance import Record
from landscape.random import Streams
from landscape.tracking.diagnostics import Measured, arrays, measure
from landscape.tracking.minibatches import Minibatches
from landscape.tracking.samples import SampleRecords
from landscape.tracking.settings import Tracking
from landscape.tracking.track import Track

# Samples per batch of the diagnostics' passes.
_BATCH_SIZE = 256


class Tracker:
    """Records a training without changing it: its weights end bit for bit as without.

    In one's own loop::

        tracker = ls.Tracker(model)
        for epoch in range(epochs):
            for x, y in loader:
                ...
                loss.backward()
                optimiser.step()
                tracker.step(loss=loss, x=x, adversarial=x_adv, logits=logits, y=y)
            tracker.end_epoch()
        tracker.save("track.h5")

    ``landscape.fit(..., tracker=tracker)`` calls these itself. ``end_epoch`` is what times,
    windows, samples and diagnostics need. A run with ``samples`` passes to every step ``rows``,
    the positions of the minibatch in the training data.

    Args:
        model: whose parameters that require gradients are θ; as it is now it is θ₀.
        settings: a ``Tracking``, or its fields as keywords: ``every=10``.
        data: what the diagnostics are measured on, anything an ``Objective`` takes. ``fit``
            draws ``examples`` of the training data where none is given.
        labels: classes (N,) of the training data, for ``samples``; ``fit`` knows them.
        state: from ``state()`` of an earlier tracker, to go on where it stopped; the model then
            holds the weights of that moment.

    Cost per recorded minibatch: about ten passes over vectors of θ's size, of which up to six are
    kept (θ₀, θ and the gradient now and before, and with ``noise`` their mean). On one CPU core
    0.7 ms for 22,634 parameters and 60 ms for 11 million: 7 and 5 % of a standard update of 64 and
    32 samples, 4 and 3 % of one with 10 and 2 attack steps, and less the larger the batch.
    A training that can be continued stores three of the vectors. Diagnostics cost what they cost.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: Tracking | None = None,
        *,
        data: Any = None,
        labels: Tensor | None = None,
        state: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        if settings is not None and fields:
            raise UsageError("give the settings as a Tracking or as keywords, not both.")
        try:
            self.settings = settings or Tracking(**fields)
        except TypeError as error:
            raise UsageError(f"Tracker: {str(error).split('() ')[-1]}.") from error
        self.model = model
        self._minibatches = Minibatches(model, self.settings.noise)
        self._samples: SampleRecords | None = None
        self._measured: dict[int, dict[str, Measured]] = {}
        self._memory: dict[int, Tensor] = {}
        self._data = data
        self._model = {
            "class": type(model).__name__,
            "parameters": sum(p.numel() for p in model.parameters()),
            "digest": P.digest(dict((*model.named_parameters(), *model.named_buffers()))),
        }
        self._training: dict[str, Any] | None = None
        self._last_epoch: int | None = None
        self._start, self._earlier = time.perf_counter(), 0.0
        self.updates = self.epochs = self._in_epoch = 0
        if labels is not None and self.settings.samples:
            self._samples = SampleRecords(labels)
        if state is not None:
            self._restore(state)
        elif data is not None:
            self._measure()
        self._expect()

    # -- along the training ---------------------------------------------------------------------

    def gradient(self) -> None:
        """Take the gradients as they are now; without this call, ``step`` takes them.

        For loops that change them between ``backward`` and ``optimiser.step``, by clipping, say.
        """
        if self._window() is not None:
            self._minibatches.take_gradient()

    def step(
        self,
        *,
        loss: float | Tensor = math.nan,
        x: Tensor | None = None,
        adversarial: Tensor | None = None,
        logits: Tensor | None = None,
        y: Tensor | None = None,
        rows: Tensor | None = None,
        clean_logits: Tensor | None = None,
        learning_rate: float = math.nan,
    ) -> None:
        """Once per update, after ``optimiser.step`` and before ``zero_grad``.

        Called before ``optimiser.step`` instead, ``distance`` and ``update_norm`` are those of
        one update earlier. What isn't given is recorded as NaN.

        Args:
            loss: of the minibatch, what was minimised.
            x: inputs (B, ...). adversarial: the inputs trained on, if others.
            logits: on the inputs trained on, (B, C). y: classes, (B,).
            rows: positions of the samples in the training data, (B,), for ``samples``.
            clean_logits: on x, where they are known.
        """
        if self._in_epoch == 0 and self.epochs == 0:
            self._check_ready()
        window = self._window()
        self.updates += 1
        if self._samples is not None:
            if rows is None or logits is None or y is None:
                raise UsageError("samples=True needs rows, logits and y at every step.")
            self._samples.add(rows, logits.detach(), y, clean_logits)
        if window is not None:
            self._minibatches.add(
                self.updates,
                self._in_epoch,
                window,
                loss=loss,
                x=x,
                adversarial=adversarial,
                logits=logits,
                y=y,
                learning_rate=learning_rate,
            )
        self._in_epoch += 1
        self._expect()

    def end_epoch(self, memory: Mapping[str, Tensor] | None = None) -> None:
        """After the last minibatch of every epoch; ``memory``: what the method remembers."""
        if self._in_epoch == 0:
            raise UsageError("end_epoch was called, but there was no step since the last time.")
        self._minibatches.end_epoch(self.epochs, self._in_epoch)
        self.epochs, self._in_epoch = self.epochs + 1, 0
        if self._samples is not None:
            self._samples.end_epoch()
        if self.epochs % self.settings.measure_every == 0 or self.epochs == self._last_epoch:
            self._measure()
            # Methods that begin late have nothing to remember before.
            if memory is not None and self.settings.memory in memory:
                kept = memory[self.settings.memory].detach().cpu().clone()
                self._memory[self.epochs] = kept.reshape(len(kept), -1)
        # Some methods end an epoch with a change of θ of their own.
        self._expect(moved=self._training is not None)

    def begin(
        self,
        model: nn.Module,
        labels: Tensor,
        take: Callable[[Tensor], tuple[Tensor, Tensor]],
        epochs: int,
        training: dict[str, Any],
        state: Mapping[str, Any] | None = None,
    ) -> None:
        """What a training loop that knows all this says first.

        Args:
            model: that it trains.
            labels: of the training data. take: the samples at given rows, not augmented.
            epochs: after the last the diagnostics are measured whatever ``measure_every``.
            training: its configuration, for the provenance.
            state: to go on from.
        """
        if model is not self.model:
            raise UsageError("the tracker was made for another model: Tracker(model) of this one.")
        if self.updates and state is None:
            raise UsageError(
                f"this tracker has recorded {self.updates} updates already: make a new one for "
                "every training."
            )
        self._training, self._last_epoch = training, epochs
        if self.settings.samples and self._samples is None:
            self._samples = SampleRecords(labels)
        if self._data is None and self.settings.diagnostics:
            # In the order of the data, so that the choice alone is random.
            draw = Streams(self.settings.seed, "tracking").generator("examples")
            rows = torch.randperm(len(labels), generator=draw)[: self.settings.examples]
            self._data = take(rows.sort().values)
        if state is not None:
            self._restore(state)
        elif not self._measured:
            self._measure()
        self._expect()

    # -- what was recorded ----------------------------------------------------------------------

    def result(self) -> Track:
        """Everything so far."""
        described = {"model": self._model, "training": self._training}
        record = Record("track", described, **self.settings.describe())
        return Track(
            provenance=record.finish(earlier=self._seconds()),
            **self._minibatches.arrays(),
            **arrays(self._measured),
            **self._remembered(),
            **(self._samples.arrays() if self._samples is not None else {}),
            epochs=self.epochs,
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the track so far, whole or not at all."""
        return self.result().save(path, overwrite=overwrite)

    def state(self) -> dict[str, Any]:
        """Plain data and tensors from which another tracker goes on, at the end of an epoch."""
        if self._in_epoch:
            raise UsageError("a tracker can be continued from the end of an epoch only.")
        return {
            "settings": self.settings.describe(),
            "model": self._model,
            "updates": self.updates,
            "epochs": self.epochs,
            "seconds": self._seconds(),
            "minibatches": self._minibatches.state(),
            "samples": None if self._samples is None else self._samples.state(),
            **({"memory": dict(self._memory)} if self.settings.memory else {}),
            "measured": {
                epoch: {name: list(m) for name, m in found.items()}
                for epoch, found in self._measured.items()
            },
        }

    @property
    def updates_in_epoch(self) -> int:
        """Steps since the last ``end_epoch``."""
        return self._in_epoch

    # -- inside ---------------------------------------------------------------------------------

    def _restore(self, state: Mapping[str, Any]) -> None:
        mine, theirs = self.settings.describe(), state["settings"]
        changed = [name for name in mine if mine[name] != theirs.get(name)]
        if changed:
            raise UsageError(
                f"the training was tracked with other settings ({', '.join(changed)} differ): "
                "repeat them to go on."
            )
        self._model, self._earlier = state["model"], state["seconds"]
        self.updates, self.epochs, self._in_epoch = state["updates"], state["epochs"], 0
        self._minibatches.restore(state["minibatches"])
        self._memory = dict(state.get("memory", {}))
        if state["samples"] is not None:
            self._samples = SampleRecords(**state["samples"])
        self._measured = {
            epoch: {name: Measured(*m) for name, m in found.items()}
            for epoch, found in state["measured"].items()
        }

    def _remembered(self) -> dict[str, Any]:
        if not self._memory:
            return {}
        kept = torch.stack(list(self._memory.values())).numpy()
        return {"memory_epoch": np.array(list(self._memory)), "memory": kept}

    def _seconds(self) -> float:
        return time.perf_counter() - self._start + self._earlier

    def _window(self) -> int | None:
        """The window of the next update; None if it isn't recorded."""
        return None if self.updates % self.settings.every else self.settings.window(self.epochs)

    def _expect(self, *, moved: bool = False) -> None:
        self._minibatches.expect(self._window() is not None, moved=moved)

    def _check_ready(self) -> None:
        if self.settings.diagnostics and self._data is None:
            raise UsageError("diagnostics need Tracker(data=...): what they are measured on.")
        if self.settings.samples and self._samples is None:
            raise UsageError("samples=True needs Tracker(labels=...): the training data's classes.")

    def _measure(self) -> None:
        if not self.settings.diagnostics:
            return
        objective = Objective(
            self.model,
            self._data,
            attack=self.settings.attack,
            seed=self.settings.seed,
            batch_size=_BATCH_SIZE,
        )
        self._measured[self.epochs] = measure(objective, self.settings.functions)
