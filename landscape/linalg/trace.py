"""Traces of matrices known by their products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from landscape.errors import UsageError
from landscape.linalg.operator import SymmetricOperator
from landscape.random import Streams
from landscape.results import Estimate


def hutchinson(
    operator: SymmetricOperator,
    *,
    samples: int = 100,
    tol: float | None = None,
    min_samples: int = 10,
    streams: Streams,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Estimate, np.ndarray]:
    """tr A ≈ mean of zᵀAz over Rademacher vectors z, with its standard error.

    Unbiased; Var(zᵀAz) = 2 (‖A‖_F² − Σ a_ii²). Stops at ``samples``, or once the standard error is
    below tol·|mean| after at least ``min_samples``. Stopping early on a small sample's own error
    is optimistic, which is why ``min_samples`` is not 2.

    Returns the estimate and the single samples (s,). Cost: one product each.
    Source: Hutchinson 1990; Avron & Toledo 2011.
    """
    if samples < 2:
        raise UsageError(f"a standard error needs at least 2 samples, got {samples}.")
    values: list[float] = []
    for done in range(samples):
        bits = streams.uniform("rademacher", (operator.size,)) < 0.5
        z = torch.where(bits, 1.0, -1.0).to(operator.device, operator.dtype)
        values.append(float(torch.dot(z, operator @ z)))
        if progress is not None:
            progress(done + 1, samples)
        if tol is not None and len(values) >= min_samples:
            now = Estimate.of(values)
            if now.standard_error <= tol * abs(now.value):
                break
    return Estimate.of(values), np.asarray(values)
