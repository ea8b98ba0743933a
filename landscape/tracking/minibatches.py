"""What every minibatch says: gradient, update, loss, error, perturbation, noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.errors import UsageError
from landscape.results import Estimate
from landscape.tracking.noise import Block, Noise
from landscape.tracking.vectors import distance, dot, flat, norm

# One number of each per recorded minibatch.
COLUMNS = (
    "update",
    "time",
    "window",
    "batch_size",
    "loss",
    "error",
    "gradient_norm",
    "update_norm",
    "distance",
    "cosine",
    "delta_l2",
    "delta_linf",
    "learning_rate",
)
_WHOLE = ("update", "window")


class Minibatches:
    """Rows of numbers, and the vectors of θ's size that the next rows need.

    Args:
        model: whose parameters that require gradients are θ; as they are now they are θ₀.
        noise: gradients in a block, 0 for no blocks.
    """

    def __init__(self, model: nn.Module, noise: int) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise UsageError("the model has no parameters that require gradients.")
        self.noise = noise
        self.columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
        self._positions: list[int] = []  # within the present epoch
        self._initial = self._theta()
        self._before: Tensor | None = None
        self._previous: Tensor | None = None
        self._gradient: Tensor | None = None
        # Vectors to write the next θ and gradient into: fresh memory costs more than the sums.
        self._spare: Tensor | None = None
        self._gradient_spare: Tensor | None = None
        self._block: Block | None = None
        self._block_start = 0
        self._blocks: list[tuple[int, int, int, Noise]] = []  # first row, end, batch size, noise

    def __len__(self) -> int:
        return len(self.columns["update"])

    def take_gradient(self) -> None:
        """Of the coming row: the gradients as they are now."""
        self._gradient = self._flat_gradient()

    def expect(self, coming: bool, *, moved: bool = False) -> None:
        """Whether the next update is recorded: keep θ as it is before it, or no θ.

        ``moved``: something else may have changed θ since the last update.
        """
        if not coming:
            self._before = None
        elif self._before is None or moved:
            self._before = self._theta()

    def add(
        self,
        update: int,
        position: int,
        window: int,
        *,
        loss: float | Tensor,
        x: Tensor | None,
        adversarial: Tensor | None,
        logits: Tensor | None,
        y: Tensor | None,
        learning_rate: float,
    ) -> None:
        """One row, after the update."""
        size = next((len(t) for t in (y, x, logits) if t is not None), None)
        gradient = self._flat_gradient() if self._gradient is None else self._gradient
        theta, size_of_gradient = self._theta(self._spare), norm(gradient)
        before = theta if self._before is None else self._before
        first = not len(self) or self.columns["window"][-1] != window
        missing = torch.full_like(size_of_gradient, torch.nan)
        numbers = {
            "gradient_norm": size_of_gradient,
            "update_norm": distance(theta, before),
            "distance": distance(theta, self._initial),
            "cosine": missing,
            "loss": torch.as_tensor(loss).detach(),
            "error": missing,
            "delta_l2": missing,
            "delta_linf": missing,
        }
        if self._previous is not None and not first:
            product = dot(gradient, self._previous)
            numbers["cosine"] = product / size_of_gradient / norm(self._previous)
        if logits is not None and y is not None:
            numbers["error"] = (logits.detach().argmax(1) != y).double().mean()
        if x is not None:
            # Inputs that were not perturbed are at a distance of 0 from themselves.
            moved = (x if adversarial is None else adversarial).detach() - x.detach()
            moved = moved.flatten(1)
            numbers["delta_l2"] = torch.linalg.vector_norm(moved, dim=1).double().mean()
            numbers["delta_linf"] = moved.abs().amax(1).double().mean()
        # One transfer from the device for all of them.
        values: list[float] = torch.stack([v.to(missing) for v in numbers.values()]).tolist()
        row = dict(zip(numbers, values, strict=True)) | {
            "update": update,
            "time": math.nan,
            "window": window,
            "batch_size": math.nan if size is None else size,
            "learning_rate": learning_rate,
        }
        if self.noise and size is not None:
            self._add_noise(gradient, size, first)
        for name in COLUMNS:
            self.columns[name].append(row[name])
        self._positions.append(position)
        # The vectors that are done with take the next ones.
        self._gradient_spare, self._previous, self._gradient = self._previous, gradient, None
        self._spare, self._before = self._before, theta

    def end_epoch(self, epochs: int, batches: int) -> None:
        """Now that the epoch after ``epochs`` others had so many minibatches, their times."""
        for row, position in enumerate(self._positions, len(self) - len(self._positions)):
            self.columns["time"][row] = epochs + (position + 0.5) / batches
        self._positions = []

    def arrays(self) -> dict[str, Any]:
        """Fields of the track."""
        fields: dict[str, Any] = {
            name: np.array(values, dtype=np.int64 if name in _WHOLE else np.float64)
            for name, values in self.columns.items()
        }
        if not self._blocks:
            return fields
        noise = [noise for *_, noise in self._blocks]
        fields["block_time"] = np.array([fields["time"][a:b].mean() for a, b, *_ in self._blocks])
        fields["block_update"] = np.array([fields["update"][b - 1] for _, b, *_ in self._blocks])
        fields["block_batch_size"] = np.array([size for _, _, size, _ in self._blocks])
        fields["block_gradients"] = np.array([n.trace.samples for n in noise])
        for i, name in enumerate(("noise_trace", "gradient_square", "noise_scale")):
            fields[name] = np.array([n[i].value for n in noise])
            fields[f"{name}_standard_error"] = np.array([n[i].standard_error for n in noise])
        return fields

    def _add_noise(self, gradient: Tensor, size: int, first: bool) -> None:
        if first or self._block is None or size > self._block.batch_size:
            self._block, self._block_start = Block(size), len(self)
        if size < self._block.batch_size:  # the last of an epoch
            return
        self._block.add(gradient)
        if self._block.n == self.noise:
            self._blocks.append((self._block_start, len(self) + 1, size, self._block.noise()))
            self._block = None

    def _theta(self, out: Tensor | None = None) -> Tensor:
        return flat(self.parameters, out)

    def _flat_gradient(self) -> Tensor:
        gradients = [p.grad for p in self.parameters]
        if all(g is None for g in gradients):
            raise UsageError(
                "no parameter has a gradient: call tracker.step after loss.backward() and before "
                "zero_grad()."
            )
        pairs = zip(gradients, self.parameters, strict=True)
        spare, self._gradient_spare = self._gradient_spare, None
        return flat([torch.zeros_like(p) if g is None else g for g, p in pairs], spare)

    # -- to go on later -------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Plain data and tensors, at the end of an epoch."""
        return {
            "initial": self._initial.cpu().clone(),
            "previous": None if self._previous is None else self._previous.cpu().clone(),
            "columns": {n: torch.tensor(v, dtype=torch.float64) for n, v in self.columns.items()},
            "block": None if self._block is None else self._block.state(),
            "block_start": self._block_start,
            "blocks": [
                [a, b, size, [[e.value, e.standard_error, e.samples] for e in noise]]
                for a, b, size, noise in self._blocks
            ],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """As it was when ``state`` was made; the model holds that moment's weights already."""
        theta = self._theta()
        if state["initial"].shape != theta.shape:
            raise UsageError(
                f"the tracked model has {len(state['initial'])} trainable entries, this one "
                f"{len(theta)}."
            )
        self._initial = state["initial"].to(theta)
        previous = state["previous"]
        self._previous = None if previous is None else previous.to(theta, copy=True)
        self._gradient, self._before, self._positions = None, None, []
        self.columns = {name: values.tolist() for name, values in state["columns"].items()}
        block = state["block"]
        self._block = None if block is None else Block.restored(block, theta)
        self._block_start = state["block_start"]
        self._blocks = [
            (a, b, size, Noise(*(Estimate(*e) for e in noise)))
            for a, b, size, noise in state["blocks"]
        ]
