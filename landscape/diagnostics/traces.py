"""Trace of the Hessian of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape.linalg import hutchinson
from landscape.objective import Objective
from landscape.operators import Hessian
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Estimate, Result, array, scalar


@dataclass(frozen=True, eq=False)
class Trace(Result):
    """tr ∇²_θ L with its standard error, and the single estimates it is the mean of."""

    kind: ClassVar[str] = "trace"

    trace: Estimate = scalar(units="loss / weight²", label="trace of the Hessian")
    estimates: np.ndarray = array("sample", units="loss / weight²", label="zᵀHz")

    def plot(self, ax: Any = None) -> Any:
        from landscape.plotting.tables import draw_traces

        return draw_traces([self], ax=ax)


def trace(
    objective: Objective,
    samples: int = 100,
    *,
    tol: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """tr H, H = ∇²_θ L, by Hutchinson's estimator over Rademacher vectors.

    Args:
        objective: what is differentiated twice.
        samples: most probes to use. tol: stop earlier, once the standard error is below tol·|tr H|.
        seed: of the probes. progress: called as (probes done, samples).

    Cost: one Hessian-vector product per probe. When it lies: a trace near zero may be large
    positive and negative curvature cancelling; read it beside the spectrum.
    """
    operator = Hessian(objective)
    record = Record(
        "trace", objective.describe(), seed, samples=samples, tol=tol, product=operator.product
    )
    estimate, estimates = hutchinson(
        operator,
        samples=samples,
        tol=tol,
        streams=Streams(seed, "trace"),
        progress=progress,
    )
    return Trace(provenance=record.finish(), trace=estimate, estimates=estimates)
