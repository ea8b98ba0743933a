"""Accuracy on held-out data, clean and under attack."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from landscape.attacks import Attack
from landscape.functional import untouched
from landscape.objective import Objective


class Validator:
    """Measures a network whenever called; the data are read and checked once.

    Attack starts are the same at every call, so that epochs can be compared.
    """

    def __init__(
        self, model: nn.Module, data: Any, attack: Attack | None, *, seed: int, batch_size: int
    ) -> None:
        self.model = model
        self.objective = Objective(
            model, data, attack=attack, refresh="each", seed=seed, batch_size=batch_size
        )

    def __call__(self) -> dict[str, float]:
        """``accuracy``, ``robust_accuracy`` (NaN without attack), ``constant_classifier`` (0, 1).

        A constant classifier gives every sample the same class: the sign of a learning rate or
        perturbation budget that is too large.
        """
        right, classes = 0, set()
        with untouched(self.model), torch.no_grad():
            for x, y in self.objective.batches:
                predicted = self.model(x).argmax(1)
                right += int((predicted == y).sum())
                classes.update(predicted.unique().tolist())
        robust = math.nan
        if self.objective.attack is not None:
            accuracy = self.objective.value().accuracy
            robust = math.nan if accuracy is None else accuracy
        return {
            "accuracy": right / self.objective.batches.samples,
            "robust_accuracy": robust,
            "constant_classifier": float(len(classes) == 1),
        }

    def accuracy(self, attack: Attack | None) -> float:
        """Accuracy under another attack, or none."""
        found = self.objective.with_attack(attack).value().accuracy
        return math.nan if found is None else found
