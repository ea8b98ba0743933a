"""Spectral density of the Hessian of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape.linalg import effective_rank, frobenius_norm, quadrature, smooth
from landscape.objective import Objective
from landscape.operators import Hessian
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Estimate, Result, array, scalar

_CURVATURE = "loss / weight²"
_DENSITY = "weight² / loss"


@dataclass(frozen=True, eq=False)
class Density(Result):
    """The density of the eigenvalues of ∇²_θ L, smoothed with a Gaussian of width ``sigma``.

    ``density`` is the mean of ``densities`` over the probes, ``density_standard_error`` its
    standard error; both integrate over ``eigenvalue_grid``, to 1 and without regard to the
    smoothing. ``nodes`` and ``weights`` are the quadrature itself, with Σ w f(θ) ≈ tr f(H)/n for
    every probe (weight 0 where a chain ended early). ``smallest`` and ``largest`` are the extreme
    nodes, which lie inside the spectrum. ``trace``, ``frobenius`` (‖H‖_F), ``effective_rank``
    ((tr H)²/‖H‖_F²) and ``intrinsic_dimension`` (tr H/‖H‖₂, with ‖H‖₂ from the nodes) are free
    of the smoothing, and exact for two and more steps up to the scatter of the probes.
    """

    kind: ClassVar[str] = "density"

    eigenvalue_grid: np.ndarray = array(
        "eigenvalue_grid", units=_CURVATURE, label="Hessian eigenvalue λ"
    )
    density: np.ndarray = array("eigenvalue_grid", units=_DENSITY, label="density of eigenvalues")
    density_standard_error: np.ndarray = array(
        "eigenvalue_grid", units=_DENSITY, label="standard error of the density"
    )
    densities: np.ndarray = array(
        "probe", "eigenvalue_grid", units=_DENSITY, label="density of every probe"
    )
    nodes: np.ndarray = array("probe", "step", units=_CURVATURE, label="quadrature node")
    weights: np.ndarray = array("probe", "step", label="quadrature weight")
    sigma: float = scalar(units=_CURVATURE, label="width of the Gaussian kernel")
    smallest: float = scalar(units=_CURVATURE, label="smallest node")
    largest: float = scalar(units=_CURVATURE, label="largest node")
    trace: Estimate = scalar(units=_CURVATURE, label="trace of the Hessian")
    frobenius: Estimate = scalar(units=_CURVATURE, label="Frobenius norm of the Hessian")
    effective_rank: Estimate = scalar(label="(tr H)² / ‖H‖_F²")
    intrinsic_dimension: Estimate = scalar(label="tr H / ‖H‖₂")
    parameters: int = scalar(label="size of θ")
    products: int = scalar(label="Hessian-vector products")

    def plot(self, ax: Any = None, **style: Any) -> Any:
        from landscape.plotting.density import draw

        return draw([self], ax=ax, **style)


def density(
    objective: Objective,
    probes: int = 10,
    steps: int = 80,
    *,
    sigma: float | None = None,
    kind: str = "rademacher",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Density:
    """The spectral density of H = ∇²_θ L over the whole data, by stochastic Lanczos quadrature.

    ρ(t) = Σ_j w_j N(t; θ_j, σ²) averaged over probes, where θ and w are nodes and weights of the
    Gauss quadrature that ``steps`` Lanczos steps from the probe give. With an attack on the
    objective its perturbations are held fixed, as in ``spectrum``.

    Args:
        objective: what is differentiated twice.
        probes: random vectors; the standard error is over them, so give at least 2.
        steps: Lanczos steps for each, at most the size of θ are made.
        sigma: width of the Gaussian kernel; default 1 % of the range of the nodes.
        kind: of probe, ``rademacher`` or ``gaussian``.
        seed: of the probes. progress: called as (products done, probes · steps).

    Cost: probes × steps Hessian-vector products, and steps × θ numbers in memory. Source:
    Ghorbani, Krishnan & Xiao 2019; ``landscape.linalg.density`` has the method.

    When it lies: a Hessian has most eigenvalues within σ of zero, whose true width the picture does
    not show; a single outlying eigenvalue's height scatters by 100 % per probe. Widths differ
    between results unless ``sigma`` is given. Fewer steps than about 50 make bumps of the nodes.
    """
    operator = Hessian(objective)
    record = Record(
        "density",
        objective.describe(),
        seed,
        probes=probes,
        steps=steps,
        sigma=sigma,
        kind=kind,
        method="stochastic Lanczos quadrature, full reorthogonalisation, Gaussian kernel",
        product=operator.product,
    )
    rule = quadrature(
        operator,
        probes=probes,
        steps=steps,
        kind=kind,
        streams=Streams(seed, "density"),
        progress=progress,
    )
    smoothed = smooth(rule, sigma=sigma)
    traces, squares = (rule.size * rule.moments(power) for power in (1, 2))
    trace = Estimate.of(traces)
    norm = max(abs(rule.smallest), abs(rule.largest)) or float("nan")
    return Density(
        provenance=record.finish(),
        eigenvalue_grid=smoothed.grid,
        density=smoothed.mean,
        density_standard_error=smoothed.standard_error,
        densities=smoothed.densities,
        nodes=rule.nodes,
        weights=rule.weights,
        sigma=smoothed.sigma,
        smallest=rule.smallest,
        largest=rule.largest,
        trace=trace,
        frobenius=frobenius_norm(squares),
        effective_rank=effective_rank(traces, squares),
        intrinsic_dimension=Estimate(
            trace.value / norm, trace.standard_error / norm, trace.samples
        ),
        parameters=rule.size,
        products=rule.products,
    )
