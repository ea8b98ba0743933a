"""Diagnostics along a training: what is measured every so many epochs, by name or by function."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch

from landscape import params as P
from landscape.attacks import attack
from landscape.diagnostics import effectiveness, evaluate, inputs, spectrum, trace
from landscape.errors import NumericalError, UsageError, unknown
from landscape.functional import untouched
from landscape.objective import Objective
from landscape.results import Estimate


class Measured(NamedTuple):
    """A number, and its error: ``what`` is "standard error", "residual", or "" for none."""

    value: float
    error: float = math.nan
    what: str = ""


_NOTHING = Measured(math.nan)

Diagnostic = Callable[[Objective], Any]


@dataclass(frozen=True)
class TrackedEntry:
    """One row: ``function(objective)`` gives numbers by name."""

    function: Callable[[Objective], Mapping[str, Any]]
    description: str


def _spectrum(objective: Objective) -> dict[str, Any]:
    found = spectrum(objective, top=1)
    return {
        "lambda_max": Measured(float(found.eigenvalues[0]), float(found.residuals[0]), "residual")
    }


def _trace(objective: Objective) -> dict[str, Any]:
    return {"trace": trace(objective, samples=200, tol=0.05).trace}


def _gradient(objective: Objective) -> dict[str, Any]:
    return {"full_gradient_norm": P.norm(objective.gradient())}


def _inputs(objective: Objective) -> dict[str, Any]:
    found = inputs(objective, top=min(20, _entries(objective)))
    return {"ig_l1": found.mean_ig_l1, "ig_l2": found.mean_ig_l2, "hs": found.mean_hs}


def _evaluate(objective: Objective) -> dict[str, Any]:
    attacks = {} if objective.attack is None else {"attack": objective.attack}
    found = evaluate(objective, attacks)
    numbers: dict[str, Any] = {}
    for i, what in enumerate(("clean", "robust")[: len(found.attack)]):
        n = found.samples
        # A standard error of 0 where all are right would be none: the Wilson interval's instead.
        error = float(found.accuracy_high[i] - found.accuracy_low[i]) / (2 * 1.96)
        loss = Estimate(float(found.loss[i]), float(found.loss_standard_error[i]), n)
        numbers[f"{what}_accuracy"] = Estimate(float(found.accuracy[i]), error, n)
        numbers[f"{what}_loss"] = loss
    return numbers


def _effectiveness(objective: Objective) -> dict[str, Any]:
    own = objective.attack
    if own is None:
        raise UsageError(
            "effectiveness is that of an attack: give attack=..., --track-attack fgsm."
        )
    reference = attack("pgd-50", eps=own.ball.radius, norm=own.ball.norm)
    found = effectiveness(objective, {"own": own}, reference, reference_name="pgd-50")
    return {"effectiveness": found.mean_ratio("own")}


def _entries(objective: Objective) -> int:
    """Numbers in one input."""
    x, _ = next(iter(objective.batches))
    return x[0].numel()


TRACKED: dict[str, TrackedEntry] = {
    "effectiveness": TrackedEntry(
        _effectiveness, "rise of the loss under the attack, as a share of that under PGD-50"
    ),
    "evaluate": TrackedEntry(_evaluate, "accuracy and loss, clean and under the attack"),
    "gradient": TrackedEntry(_gradient, "norm of the gradient of the loss"),
    "inputs": TrackedEntry(_inputs, "IG and HS: slope and curvature of the loss in the input"),
    "spectrum": TrackedEntry(_spectrum, "top eigenvalue of the Hessian of the loss"),
    "trace": TrackedEntry(_trace, "trace of the Hessian of the loss, to 5 %, 200 products at most"),
}


def resolve(wanted: Sequence[str] | Mapping[str, Diagnostic]) -> dict[str, Diagnostic]:
    """Functions by name: rows of ``TRACKED``, or the caller's own."""
    if isinstance(wanted, str):
        raise UsageError(f"diagnostics must be a list of names or functions by name: ['{wanted}'].")
    if isinstance(wanted, Mapping):
        for name, function in wanted.items():
            if not callable(function):
                raise UsageError(
                    f"diagnostic '{name}' is a {type(function).__name__}: give a function of an "
                    "Objective, for example lambda objective: ls.trace(objective).trace."
                )
        return dict(wanted)
    for name in wanted:
        if name not in TRACKED:
            raise unknown("tracked diagnostic", name, TRACKED)
    return {name: TRACKED[name].function for name in wanted}


def measure(objective: Objective, functions: Mapping[str, Diagnostic]) -> dict[str, Measured]:
    """Every number of every function; one that fails numerically is left out, with a warning."""
    found: dict[str, Measured] = {}
    for name, function in functions.items():
        try:
            with untouched(objective.model), torch.enable_grad():
                answer = function(objective)
        except NumericalError as error:
            # The training is worth more than this number.
            warnings.warn(f"diagnostic '{name}' is left out here: {error}", stacklevel=2)
            continue
        if isinstance(answer, Mapping):
            own = TRACKED[name].function is function if name in TRACKED else False
            for key, value in answer.items():
                found[key if own else f"{name}.{key}"] = _measured(name, value)
        else:
            found[name] = _measured(name, answer)
    return found


def _measured(name: str, value: Any) -> Measured:
    if isinstance(value, Measured):
        return value
    if isinstance(value, Estimate):
        return Measured(value.value, value.standard_error, "standard error")
    if torch.is_tensor(value) and value.numel() == 1:
        value = value.item()
    if isinstance(value, Real):  # numpy's numbers among them
        return Measured(float(value))
    raise UsageError(
        f"diagnostic '{name}' returned a {type(value).__name__}: return a number, an Estimate, a "
        "Measured(value, residual, 'residual'), or a dictionary of these."
    )


def arrays(measured: Mapping[int, Mapping[str, Measured]]) -> dict[str, Any]:
    """Fields of the track, from what was measured after so many epochs."""
    names = list(dict.fromkeys(name for found in measured.values() for name in found))
    if not names:
        return {}
    epochs = sorted(measured)
    cells = [[measured[epoch].get(name, _NOTHING) for epoch in epochs] for name in names]
    return {
        "measured_epoch": np.array(epochs),
        "diagnostic": np.array(names),
        "value": np.array([[m.value for m in row] for row in cells]),
        "error_bar": np.array([[m.error for m in row] for row in cells]),
        "error_kind": np.array([next((m.what for m in row if m.what), "") for row in cells]),
    }
