"""Dead neurons and dead layers: activations that are zero on all the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape.diagnostics.activations import Call, watched
from landscape.errors import NumericalError, UsageError
from landscape.objective import Objective, classified
from landscape.provenance import Record
from landscape.results import Estimate, Result, array, scalar

# Outputs that differ by less than this share of the largest are the same up to rounding.
_SAME = 1e-5


@dataclass(frozen=True, eq=False)
class Neurons(Result):
    """How many units of every activation are zero on every sample.

    A unit is a neuron of a dense layer or a channel of a convolution, a position an entry of a
    channel: a channel is dead if all its positions are. ``follows`` names the last layer with
    parameters before the activation. ``sample_zero_share[i, l]`` is the share of layer l's entries
    that are zero on sample i, ``zero_share`` its mean. ``activation_bound``: a unit that was zero
    on all N samples is active on a share of at most 1 − 0.05^(1/N) ≈ 3/N of such inputs, with
    95 % confidence. ``predictions`` is the number of classes that are ever predicted,
    ``output_range`` the largest max − min over the samples of any output.
    """

    kind: ClassVar[str] = "neurons"

    layer: np.ndarray = array("layer")
    operation: np.ndarray = array("layer")
    follows: np.ndarray = array("layer", label="last layer with parameters before")
    units: np.ndarray = array("layer", label="neurons or channels")
    dead_units: np.ndarray = array("layer", label="zero on all samples")
    positions: np.ndarray = array("layer", label="entries per sample")
    dead_positions: np.ndarray = array("layer", label="zero on all samples")
    dead_layer: np.ndarray = array("layer", label="all units are dead")
    zero_share: np.ndarray = array("layer", units="fraction", label="mean share of zeros")
    zero_share_standard_error: np.ndarray = array("layer", units="fraction")
    sample_zero_share: np.ndarray = array(
        "sample", "layer", units="fraction", label="share of zero activations"
    )
    samples: int = scalar()
    tol: float = scalar(label="largest |activation| that counts as zero")
    activation_bound: float = scalar(
        units="fraction", label="95 % bound of a dead unit's probability to be active"
    )
    output_range: float = scalar(label="largest range of an output over the samples")
    constant_output: bool = scalar(label="outputs do not depend on the input")
    predictions: int | None = scalar(label="classes predicted", default=None)
    constant_prediction: bool | None = scalar(label="one class for all samples", default=None)
    loss: float = scalar(label="mean loss")
    chance_loss: float | None = scalar(units="nats", label="log C", default=None)
    accuracy: float | None = scalar(units="fraction", default=None)

    @property
    def dead_share(self) -> np.ndarray:
        """Share of dead units per layer."""
        return np.asarray(self.dead_units / self.units)

    def plot(self, ax: Any = None) -> Any:
        from landscape.plotting.neurons import draw

        return draw([self], ax=ax)


def neurons(
    objective: Objective,
    *,
    tol: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Neurons:
    """Units with |a| ≤ tol on every sample of the data, clean or adversarial (liu2020 §4.1).

    Adversarial training favours dead neurons, whose output no perturbation moves. If all neurons
    of a layer are dead, the layers before it have no gradient and the outputs are constant, unless
    a shortcut goes around it: training is stuck. A constant classifier's loss is at least the
    entropy of the labels' frequencies, log C (``chance_loss``) for balanced classes, and training
    that got stuck there reports about that loss.

    Every call of an activation function is a layer, found while the network runs: modules,
    functions such as ``F.relu`` and ``x.clamp(min=0)``, in place or not; a module that is called
    twice is two layers. Not found: formulas of one's own (``x * (x > 0)``, ``maximum(x, 0)``).

    Args:
        objective: the inputs are those of its loss, with its attack if it has one.
        tol: 0 for ReLU. Smooth activations are never quite zero: 1e-3, for example.
        progress: called as (batches done, batches).

    Cost: one forward pass, after the attack's. When it lies: dead on N samples is not dead on all
    inputs: see ``activation_bound``, which takes samples as drawn independently of the training.
    tanh and sigmoid die by saturation at ±1, which isn't zero. Units are the last axis after a
    dense layer or LayerNorm, else the second.
    """
    if not 0 <= tol < math.inf:
        raise UsageError(f"tol is the largest |activation| that counts as zero, got {tol:g}.")
    record = Record("neurons", objective.describe(), objective.seed, tol=tol)
    seen = _Seen(tol)
    outputs = _Outputs()
    batches = len(objective.batches)
    for done, term in enumerate(objective.terms(), 1):
        seen.start(len(term.x))
        with torch.no_grad():
            with watched(objective.model, seen.visit):
                output = term.network({})
            outputs.add(output, term.y, float(term.outer(output)))
        seen.end()
        if progress is not None:
            progress(done, batches)
    return Neurons(
        provenance=record.finish(),
        **seen.columns(),
        **outputs.summary(),
        samples=objective.batches.samples,
        tol=float(tol),
        activation_bound=1 - 0.05 ** (1 / objective.batches.samples),
    )


class _Seen:
    """What was active so far, layer by layer in the order of the calls."""

    def __init__(self, tol: float) -> None:
        self._tol = tol
        self._calls: list[Call] = []
        self._active: list[Tensor] = []
        self._shares: list[list[Tensor]] = []
        self._next = self._size = 0

    def start(self, size: int) -> None:
        """A batch of so many samples."""
        self._next, self._size = 0, size

    def visit(self, call: Call, output: Tensor) -> None:
        if output.shape[:1] != (self._size,) or output.ndim < 2:
            raise UsageError(
                f"activation {call.name} returned shape {tuple(output.shape)} for {self._size} "
                "samples: only networks that keep the sample as the first axis can be counted."
            )
        if not bool(output.isfinite().all()):
            raise NumericalError(f"activation {call.name} is not finite: nothing can be counted.")
        active = output.abs() > self._tol
        i, self._next = self._next, self._next + 1
        if i == len(self._calls):
            self._calls.append(call)
            self._active.append(torch.zeros_like(active[0]))
            self._shares.append([])
        if call != self._calls[i] or active.shape[1:] != self._active[i].shape:
            raise _changed()
        self._active[i] |= active.any(0)
        self._shares[i].append(1 - active.flatten(1).double().mean(1))

    def end(self) -> None:
        if not self._calls:
            raise UsageError(
                "the network calls no activation that is known here: nothing can be dead."
            )
        if self._next != len(self._calls) or len({len(s) for s in self._shares}) > 1:
            raise _changed()

    def columns(self) -> dict[str, Any]:
        shares = np.stack([torch.cat(s).cpu().numpy() for s in self._shares], 1)
        means = [Estimate.of(share) for share in shares.T]
        # Units × their positions.
        by_unit = [
            active.movedim(call.axis - 1 if call.axis > 0 else -1, 0).flatten(1)
            if active.ndim > 1
            else active[:, None]
            for call, active in zip(self._calls, self._active, strict=True)
        ]
        dead = [~active.any(1) for active in by_unit]
        return {
            "layer": np.array([c.name for c in self._calls]),
            "operation": np.array([c.operation for c in self._calls]),
            "follows": np.array([c.follows for c in self._calls]),
            "units": np.array([len(d) for d in dead]),
            "dead_units": np.array([int(d.sum()) for d in dead]),
            "positions": np.array([a.numel() for a in by_unit]),
            "dead_positions": np.array([int((~a).sum()) for a in by_unit]),
            "dead_layer": np.array([bool(d.all()) for d in dead]),
            "zero_share": np.array([m.value for m in means]),
            "zero_share_standard_error": np.array([m.standard_error for m in means]),
            "sample_zero_share": shares,
        }


def _changed() -> UsageError:
    return UsageError(
        "the network calls other activations, or of other shapes, for other batches: their units "
        "can't be counted together."
    )


class _Outputs:
    """Range of every output, predictions and losses over the data."""

    def __init__(self) -> None:
        self._low: Tensor | None = None
        self._high: Tensor | None = None
        self._loss, self._hits, self._n, self._classes = 0.0, 0, 0, 0
        self._predicted: set[int] = set()

    def add(self, output: Tensor, y: Tensor, loss: float) -> None:
        flat = output.double().flatten(1)
        low, high = flat.amin(0), flat.amax(0)
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)
        self._loss += loss
        self._n += len(output)
        hits = classified(output, y)
        if hits is not None:
            self._classes = output.shape[1]
            self._hits += int(hits.sum())
            self._predicted |= set(output.argmax(1).unique().tolist())

    def summary(self) -> dict[str, Any]:
        assert self._low is not None
        assert self._high is not None
        found = float((self._high - self._low).max())
        largest = float(torch.maximum(self._low.abs(), self._high.abs()).max())
        classifies = self._classes > 0
        several = self._n > 1  # one sample alone can't tell a constant from any other function
        return {
            "output_range": found,
            "constant_output": several and found <= _SAME * largest,
            "loss": self._loss,
            "predictions": len(self._predicted) if classifies else None,
            "constant_prediction": several and len(self._predicted) == 1 if classifies else None,
            "chance_loss": math.log(self._classes) if classifies else None,
            "accuracy": self._hits / self._n if classifies else None,
        }
