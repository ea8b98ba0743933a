"""What a training did, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from landscape.provenance import Provenance
from landscape.results import Result, array, scalar

COLUMNS = (
    "train_loss",
    "train_accuracy",
    "val_accuracy",
    "val_robust_accuracy",
    "constant_classifier",
    "learning_rate",
    "seconds",
)


@dataclass(frozen=True, eq=False)
class History(Result):
    """One row per finished epoch, counted from 1.

    ``train_loss`` is the outer loss and ``train_accuracy`` that on the inputs trained on
    (adversarial, if perturbed), both over the epoch's own updates in train mode. Validation is in
    eval mode after the epoch, NaN where not measured. ``learning_rate`` is the last update's.
    """

    kind: ClassVar[str] = "history"

    epoch: np.ndarray = array("epoch", units="epochs")
    train_loss: np.ndarray = array("epoch", units="nats", label="training loss")
    train_accuracy: np.ndarray = array("epoch", units="fraction", label="training accuracy")
    val_accuracy: np.ndarray = array("epoch", units="fraction", label="validation accuracy")
    val_robust_accuracy: np.ndarray = array(
        "epoch", units="fraction", label="robust validation accuracy"
    )
    constant_classifier: np.ndarray = array("epoch", label="every validation sample in one class")
    learning_rate: np.ndarray = array("epoch")
    seconds: np.ndarray = array("epoch", units="s")
    best_epoch: int = scalar()

    @classmethod
    def of(
        cls, columns: Mapping[str, Sequence[float]], best_epoch: int, provenance: Provenance
    ) -> History:
        arrays = {name: np.asarray(columns[name], dtype=np.float64) for name in COLUMNS}
        arrays["constant_classifier"] = arrays["constant_classifier"] == 1
        epochs = np.arange(1, len(arrays["seconds"]) + 1)
        return cls(epoch=epochs, best_epoch=best_epoch, provenance=provenance, **arrays)
