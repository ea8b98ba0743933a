"""What the next epoch of a training depends on, in plain data and tensors."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from landscape.tracking import Tracker
from landscape.training.history import COLUMNS


@dataclass(frozen=True)
class State:
    """A training after ``epoch`` epochs.

    Attributes:
        weights: of the network, on the CPU. optimiser: its ``state_dict``.
        published: what checkpoints hold in place of the weights (their mean); empty if nothing.
        memory: what parts of the method keep between updates.
        columns: of the history, one number per epoch.
        best_epoch: of highest validation accuracy, counted from 1; the last without validation.
        best_weights: of that epoch.
        tracker: what a tracker has recorded, empty without one.
        scaler: of the loss in fp16, empty otherwise.
    """

    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, list[float]] = field(default_factory=lambda: {n: [] for n in COLUMNS})
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    tracker: dict[str, Any] = field(default_factory=dict)
    published: dict[str, Tensor] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)

    @property
    def checkpoint(self) -> dict[str, Tensor]:
        """The weights that checkpoints hold."""
        return self.published or self.weights

    def after(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        memory: dict[str, Tensor],
        row: dict[str, float],
        published: dict[str, Tensor] | None = None,
        tracker: Tracker | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> State:
        """The state one epoch later, as a copy that further training doesn't change."""
        columns = {name: [*self.columns[name], row[name]] for name in COLUMNS}
        weights = {name: t.detach().cpu().clone() for name, t in model.state_dict().items()}
        later = dataclasses.replace(
            self,
            epoch=self.epoch + 1,
            weights=weights,
            optimiser=copy.deepcopy(optimiser.state_dict()),
            memory={name: t.detach().cpu().clone() for name, t in memory.items()},
            columns=columns,
            tracker={} if tracker is None else tracker.state(),
            published={name: t.detach().cpu().clone() for name, t in (published or {}).items()},
            scaler={} if scaler is None else scaler.state_dict(),
        )
        score = later.score(later.epoch)
        if self.best_epoch and not math.isnan(score) and score <= later.score(self.best_epoch):
            return later
        return dataclasses.replace(later, best_epoch=later.epoch, best_weights=later.checkpoint)

    def best(self) -> int:
        """The epoch of highest validation accuracy, the first of equal ones; the last without."""
        best = 0
        for epoch in range(1, self.epoch + 1):
            score = self.score(epoch)
            if not best or math.isnan(score) or score > self.score(best):
                best = epoch
        return best

    def score(self, epoch: int) -> float:
        """Validation accuracy after ``epoch``: robust if measured, else clean, else NaN."""
        robust = self.columns["val_robust_accuracy"][epoch - 1]
        return self.columns["val_accuracy"][epoch - 1] if math.isnan(robust) else robust

    def check(self) -> None:
        """``TypeError`` or ``ValueError`` for what no training has written."""
        kinds = {"epoch": int, "best_epoch": int}
        for f in dataclasses.fields(self):
            if not isinstance(getattr(self, f.name), kinds.get(f.name, dict)):
                raise TypeError(f"its {f.name} is {type(getattr(self, f.name)).__name__}")
        for name in COLUMNS:
            column = self.columns[name]
            if len(column) != self.epoch or not all(isinstance(v, int | float) for v in column):
                raise ValueError(f"its history of {name} has other epochs")
        if self.epoch < 1 or not 0 <= self.best_epoch <= self.epoch:
            raise ValueError(f"its best epoch {self.best_epoch} is not one of {self.epoch}")
        for part in (self.weights, self.memory, self.best_weights, self.published):
            if not all(isinstance(tensor, Tensor) for tensor in part.values()):
                raise TypeError("its weights are no tensors")

    def to_payload(self) -> dict[str, Any]:
        """Tensors and plain data, for ``torch.load(weights_only=True)``."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
