"""What one pass tells of every sample: loss, prediction, and the norm of its features."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.functional import untouched
from landscape.objective import Objective


@dataclass(frozen=True)
class SamplePass:
    """Per sample, in the order of the data: (N,) each."""

    loss: np.ndarray
    predicted: np.ndarray
    labels: np.ndarray
    feature_norm: np.ndarray | None = None


def sample_pass(objective: Objective, *, features: bool = True) -> SamplePass:
    """Loss ℓ_i, predicted class and ‖h(x_i)‖₂ of every sample, on the objective's own inputs.

    h(x), the penultimate features, are the input of the last ``nn.Linear`` that the forward pass
    calls, which must give the logits: liu2022 §4.2 plots their norms. With an attack all three
    are those of the perturbed inputs. Cost: one forward pass, and the attack.
    """
    columns: list[tuple[Tensor, ...]] = []
    for term in objective.terms():
        with _watched(objective.model) as last, torch.no_grad():
            output = term.network(term.theta)
        if output.ndim != 2 or output.shape[1] < 2 or term.y.ndim != 1:
            raise UsageError(
                "the difficulty of samples needs a classifier: outputs (B, C) and integer targets "
                f"(B,), got {tuple(output.shape)} and {tuple(term.y.shape)}."
            )
        with torch.no_grad(), untouched(objective.model):
            loss = term.loss(output, term.y)
        if loss.ndim == 0:
            raise UsageError(
                "per-sample losses need a loss that returns one value per sample: "
                "use reduction='none'."
            )
        row: tuple[Tensor, ...] = (loss.double(), output.argmax(1), term.y)
        if features:
            row = (*row, last.features(output).double().norm(dim=1))
        columns.append(row)
    found = [torch.cat(column).cpu().numpy() for column in zip(*columns, strict=True)]
    return SamplePass(*found)


@dataclass
class _Last:
    """The last call of a Linear layer: its name, input and output."""

    calls: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)

    def features(self, output: Tensor) -> Tensor:
        """Its input, if it gave the logits."""
        why = "--no-features (features=False) leaves them out."
        if not self.calls:
            raise UsageError(
                "penultimate features are the input of the last nn.Linear, and this network calls "
                f"none: {why}"
            )
        name, x, y = self.calls[-1]
        if y.shape != output.shape or x.ndim != 2:
            raise UsageError(
                "penultimate features are the input of the nn.Linear that gives the logits, and "
                f"the last one called, '{name}', maps {tuple(x.shape)} to {tuple(y.shape)} where "
                f"the logits are {tuple(output.shape)}: {why}"
            )
        return x


@contextlib.contextmanager
def _watched(model: nn.Module) -> Iterator[_Last]:
    last = _Last()

    def watch(name: str) -> Any:
        def hook(_: nn.Module, args: Any, kwargs: dict[str, Any], y: Tensor) -> None:
            x = args[0] if args else next(iter(kwargs.values()))
            last.calls[:] = [(name, x, y)]

        return hook

    # Hooks rather than a trace of the graph: any control flow is followed as it runs.
    handles = [
        module.register_forward_hook(watch(name), with_kwargs=True)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        yield last
    finally:
        for handle in handles:
            handle.remove()
