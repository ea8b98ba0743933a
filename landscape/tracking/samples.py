"""Loss and correctness of every training sample at every epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.errors import UsageError
from landscape.losses import cross_entropy

# Fields of the track.
COLUMNS = ("sample_loss", "sample_correct", "sample_clean_loss")


class SampleRecords:
    """Columns (N,) of the present epoch, and those of the finished ones; NaN where not seen."""

    def __init__(self, labels: Tensor, finished: dict[str, Tensor] | None = None) -> None:
        self.labels = labels.detach().cpu()
        empty = torch.empty(0, len(labels))
        self.finished = finished or dict.fromkeys(COLUMNS, empty)
        self._fresh()

    def add(self, rows: Tensor, logits: Tensor, y: Tensor, clean_logits: Tensor | None) -> None:
        """The minibatch of the samples at ``rows``."""
        if len(rows) != len(y) or int(rows.min()) < 0 or int(rows.max()) >= len(self.labels):
            raise UsageError(
                f"rows must be the positions 0..{len(self.labels) - 1} of the minibatch's "
                f"{len(y)} samples in the training data."
            )
        rows = rows.cpu()
        with torch.no_grad():
            columns = [cross_entropy(logits, y), logits.argmax(1) == y]
            if clean_logits is not None:
                columns.append(cross_entropy(clean_logits, y))
            found = torch.stack([c.float() for c in columns]).cpu()
        for name, values in zip(COLUMNS, found, strict=False):
            self._now[name][rows] = values

    def end_epoch(self) -> None:
        self.finished = {
            name: torch.cat([self.finished[name], self._now[name][None]]) for name in COLUMNS
        }
        self._fresh()

    def _fresh(self) -> None:
        self._now = {name: torch.full((len(self.labels),), torch.nan) for name in COLUMNS}

    def arrays(self) -> dict[str, Any]:
        """Fields of the track, without those that hold nothing."""
        epochs = len(self.finished[COLUMNS[0]])
        columns = {name: t.numpy() for name, t in self.finished.items()}
        clean = columns.pop("sample_clean_loss")
        return {
            "epoch": np.arange(1, epochs + 1),
            "labels": self.labels.numpy(),
            **columns,
            "sample_clean_loss": clean if np.isfinite(clean).any() else None,
        }

    def state(self) -> dict[str, Any]:
        """Tensors from which ``SampleRecords(**state)`` goes on."""
        return {"labels": self.labels, "finished": dict(self.finished)}
