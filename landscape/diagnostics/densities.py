"""Spectral density of the Hessian of the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from landscape.errors import UsageError, unknown
from landscape.linalg import (
    PROBES,
    Eigenpairs,
    Quadrature,
    Smoothed,
    effective_rank,
    eigenpairs,
    frobenius_norm,
    least_basis,
    quadrature,
    smooth,
)
from landscape.objective import Objective
from landscape.operators import MEMORY, Hessian
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
    every probe (weight 0 where a chain ended early). ``trace``, ``frobenius`` (‖H‖_F),
    ``effective_rank`` ((tr H)²/‖H‖_F²) and ``intrinsic_dimension`` (tr H/‖H‖₂) are free of the
    smoothing, and exact for two and more steps up to the scatter of the probes.

    ``outliers`` are the eigenvalues of largest magnitude, found one by one: some eigenvalue of H
    lies within ``outlier_residuals[i]`` of ``outliers[i]``. ``spectral_norm`` = ‖H‖₂ is
    |outliers[0]|, with its residual; without outliers there is none, and the nodes stand for it
    in ``intrinsic_dimension``. ``smallest`` and ``largest`` are the outliers at either end, or the
    outermost nodes, which lie inside the spectrum, where no outlier has that sign.
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
    smallest: float = scalar(units=_CURVATURE, label="smallest outlier or node")
    largest: float = scalar(units=_CURVATURE, label="largest outlier or node")
    outliers: np.ndarray | None = array(
        "outlier", units=_CURVATURE, label="eigenvalue of large magnitude", default=None
    )
    outlier_residuals: np.ndarray | None = array(
        "outlier", units=_CURVATURE, label="residual ‖Hv − λv‖", default=None
    )
    outlier_converged: np.ndarray | None = array("outlier", default=None)
    outliers_complete: bool | None = scalar(label="no outlier missed", default=None)
    spectral_norm: float | None = scalar(
        units=_CURVATURE, label="spectral norm of the Hessian", default=None
    )
    trace: Estimate = scalar(units=_CURVATURE, label="trace of the Hessian")
    frobenius: Estimate = scalar(units=_CURVATURE, label="Frobenius norm of the Hessian")
    effective_rank: Estimate = scalar(label="(tr H)² / ‖H‖_F²")
    intrinsic_dimension: Estimate = scalar(label="tr H / ‖H‖₂")
    parameters: int = scalar(label="size of θ")
    products: int = scalar(label="Hessian-vector products")

    @property
    def trustworthy(self) -> bool:
        """Whether every outlier met its tolerance and none is thought to be missing."""
        return self.outlier_converged is None or bool(
            self.outlier_converged.all() and self.outliers_complete
        )

    def smoothed(self, sigma: float) -> Density:
        """The same quadrature with another width of the kernel; no product is made."""
        rule = Quadrature(self.nodes, self.weights, self.parameters, self.products)
        settings = {**self.provenance.settings, "sigma": sigma}
        return dataclasses.replace(
            self,
            provenance=dataclasses.replace(self.provenance, settings=settings),
            **_curves(smooth(rule, sigma=sigma)),
        )

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
    outliers: int = 10,
    memory: int = MEMORY,
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
        outliers: eigenvalues of largest magnitude to find beside, to a residual of 10⁻³ of
            their size; fewer if θ has fewer entries, 0 for none.
        memory: bytes that the operator may keep, see ``operators.Hessian``; the basis comes on
            top.
        seed: of the probes. progress: called as (products and outliers done, of how many).

    Cost: probes × steps Hessian-vector products and 4 to 8 per outlier, and steps × θ numbers in
    memory (or 4·outliers + 20, if that is more). Source: Ghorbani, Krishnan & Xiao 2019;
    ``landscape.linalg.density`` has the method.

    When it lies: a Hessian has most eigenvalues within σ of zero, whose true width the picture does
    not show; a single outlying eigenvalue's height scatters by 100 % per probe, which is what
    ``outliers`` are for. Widths differ between results unless ``sigma`` is given or
    ``with_common_width`` makes them equal. Fewer steps than about 50 make bumps of the nodes.
    """
    if outliers < 0:
        raise UsageError(f"the number of outliers must be 0 or more, got {outliers}.")
    if sigma is not None and not 0 < sigma < np.inf:  # known before the work
        raise UsageError(f"the kernel width must be positive and finite, got {sigma}.")
    if kind not in PROBES:
        raise unknown("kind of probe", kind, PROBES)
    objective = objective.shared()
    operator = Hessian(objective, memory=memory)
    k = min(outliers, operator.size)
    total = probes * min(steps, operator.size) + k
    record = Record(
        "density",
        objective.describe(),
        seed,
        probes=probes,
        steps=steps,
        sigma=sigma,
        kind=kind,
        outliers=outliers,
        memory=memory,
        method="stochastic Lanczos quadrature, full reorthogonalisation, Gaussian kernel",
        product=operator.product,
        kept_samples=operator.kept_samples,
    )

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    rule = quadrature(
        operator,
        probes=probes,
        steps=steps,
        kind=kind,
        streams=Streams(seed, "density"),
        progress=lambda done, _: report(done),
    )
    smoothed = smooth(rule, sigma=sigma)
    pairs = None
    if k:
        pairs = eigenpairs(
            operator,
            k,
            which="magnitude",
            max_basis=max(steps, 2 * least_basis(k, operator.size)),
            streams=Streams(seed, "outliers"),
            progress=lambda done, _: report(total - k + done),
        )
    report(total)
    traces, squares = (rule.size * rule.moments(power) for power in (1, 2))
    trace = Estimate.of(traces)
    ends = _ends(rule, pairs)
    norm = ends.get("spectral_norm", max(-rule.smallest, rule.largest)) or float("nan")
    return Density(
        provenance=record.finish(),
        **_curves(smoothed),
        nodes=rule.nodes,
        weights=rule.weights,
        **ends,
        trace=trace,
        frobenius=frobenius_norm(squares),
        effective_rank=effective_rank(traces, squares),
        intrinsic_dimension=Estimate(
            trace.value / norm, trace.standard_error / norm, trace.samples
        ),
        parameters=rule.size,
        products=rule.products + (pairs.products if pairs else 0),
    )


def with_common_width(densities: Sequence[Density]) -> list[Density]:
    """The same densities smoothed with one width, the widest of theirs, so that heights compare."""
    sigma = max(density.sigma for density in densities)
    return [density.smoothed(sigma) for density in densities]


def _ends(rule: Quadrature, pairs: Eigenpairs | None) -> dict[str, Any]:
    """The fields of a Density about the ends of the spectrum."""
    if pairs is None:
        return {"smallest": rule.smallest, "largest": rule.largest}
    low, high = float(pairs.values.min()), float(pairs.values.max())
    return {
        # An outlier of a sign says where that end is: what lies beyond would be an outlier too.
        "smallest": low if low < 0 else rule.smallest,
        "largest": high if high > 0 else rule.largest,
        "outliers": pairs.values,
        "outlier_residuals": pairs.residuals,
        "outlier_converged": pairs.converged,
        "outliers_complete": pairs.complete,
        "spectral_norm": float(abs(pairs.values[0])),
    }


def _curves(smoothed: Smoothed) -> dict[str, Any]:
    """The fields of a Density that depend on the kernel."""
    return {
        "eigenvalue_grid": smoothed.grid,
        "density": smoothed.mean,
        "density_standard_error": smoothed.standard_error,
        "densities": smoothed.densities,
        "sigma": smoothed.sigma,
    }
