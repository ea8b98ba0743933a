"""Curvature of every sample's own loss, and how well cheap scores rank the samples by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from landscape import params as P
from landscape.diagnostics.sample_hessians import (
    Samples,
    norms,
    sample_losses,
    spans,
    top_eigenvalues,
)
from landscape.errors import UsageError, unknown
from landscape.objective import Objective
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Estimate, Result, array, scalar

FORMS = ("corrected", "printed")
SCORES = ("lower", "upper")


@dataclass(frozen=True, eq=False)
class SampleCurvature(Result):
    """λ_max of ∇²_θ ℓ_i for every sample i, two cheap scores of it, and their rank correlations.

    Samples are in the order of the data. ``residuals[i]`` = ‖H_i v − λ v‖: some eigenvalue of H_i
    lies within it of ``lambda_max[i]``. ``spearman[s, b]`` compares score s with sub-batches of
    size b to ``lambda_max``; ``spearman_loss`` is the same for the loss itself, the control that
    a score has to beat. A score is NaN where its sub-batch has no gradient; ``ranked`` counts the
    samples that have one, and ``drowned`` those whose corrected lower score can't be told from
    the rounding error of the losses: with many, measure in float64 before believing the ranks.
    """

    kind: ClassVar[str] = "samples"

    lambda_max: np.ndarray | None = array(
        "sample", units="loss / weight²", label="exact λ_max of ∇²ℓ_i", default=None
    )
    residuals: np.ndarray | None = array(
        "sample", units="loss / weight²", label="residual ‖H_i v − λv‖", default=None
    )
    converged: np.ndarray | None = array("sample", default=None)
    products: np.ndarray | None = array("sample", label="Hessian-vector products", default=None)
    mean_lambda_max: Estimate | None = scalar(
        units="loss / weight²", label="mean λ_max of ∇²ℓ_i", default=None
    )
    loss: np.ndarray = array("sample", units="loss", label="loss ℓ_i")
    gradient_norm: np.ndarray = array("sample", units="loss / weight", label="‖∇ℓ_i‖")
    sub_batch: np.ndarray = array("sub_batch", label="sub-batch size")
    score: np.ndarray = array("score")
    lower: np.ndarray = array("sub_batch", "sample", label="lower score")
    upper: np.ndarray = array("sub_batch", "sample", label="upper score")
    ranked: np.ndarray = array("sub_batch", label="samples ranked")
    drowned: np.ndarray = array("sub_batch", label="samples whose score is rounding error")
    spearman: np.ndarray | None = array(
        "score", "sub_batch", label="Spearman correlation with λ_max", default=None
    )
    spearman_standard_error: np.ndarray | None = array("score", "sub_batch", default=None)
    spearman_loss: Estimate | None = scalar(
        label="Spearman correlation of the loss with λ_max", default=None
    )
    form: str = scalar()

    @property
    def trustworthy(self) -> bool:
        """Whether every λ_max met its tolerance (true if none was asked for)."""
        return self.converged is None or bool(self.converged.all())

    def correlation(self, score: str, size: int) -> Estimate:
        """Spearman's ρ of one score at one sub-batch size, with its standard error."""
        if self.spearman is None or self.spearman_standard_error is None:
            raise UsageError("there are no correlations without the exact eigenvalues: exact=True.")
        if score not in SCORES:
            raise unknown("score", score, SCORES)
        if size not in self.sub_batch:
            raise unknown("sub-batch size", str(size), [str(b) for b in self.sub_batch])
        s, b = SCORES.index(score), list(self.sub_batch).index(size)
        return Estimate(
            float(self.spearman[s, b]),
            float(self.spearman_standard_error[s, b]),
            int(self.ranked[b]),
        )

    def plot(self, ax: Any = None, **style: Any) -> Any:
        from landscape.plotting.samples import draw

        return draw(self, ax=ax, **style)


def sample_curvature(
    objective: Objective,
    *,
    sub_batches: Sequence[int] = (1, 8, 32, 128),
    alpha: float = 0.01,
    form: str = "corrected",
    exact: bool = True,
    tol: float = 1e-3,
    max_products: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> SampleCurvature:
    """λ_max(∇²_θ ℓ_i) of every sample i, and the scores of H-SAT that stand in for it.

    The samples are those of the objective: with an attack, its examples at the model's own
    parameters, held, so that H_i = ∇²_θ ℓ(x_i + δ_i*; θ) (sitawarin2021 eq. 9).

    **Exact**: Lanczos on every H_i from one random start vector, many samples at once.

    **Scores** (sitawarin2021 §5, C.1, C.2). Sample i falls in the sub-batch S of b successive
    samples, in the order of the data (the last may be smaller). With ∇_S the gradient of the mean
    loss over S, g = ∇_S/‖∇_S‖ and the step α = ``alpha``·‖∇_S‖, the losses ℓ_i are taken at θ,
    θ + αg and θ − αg. For b = 1, ∇_S is the sample's own gradient.

    - ``corrected``, with the slope s = ⟨∇ℓ_i, g⟩:
      lower = (2/α²)·max{ℓ_i(θ+αg) − ℓ_i − αs, ℓ_i(θ−αg) − ℓ_i + αs},
      upper = (2/α²)·(ℓ_i(θ+αg) − ℓ_i + α‖∇ℓ_i‖).
      For b = 1, s = ‖∇ℓ_i‖. Where ℓ_i is quadratic over the step, lower = gᵀH_i g ≤ λ_max for
      every b: a bound, and equality where g is the top eigenvector. Elsewhere it is off by
      O(α) times the third derivative and bounds nothing. upper = gᵀH_i g + (2/α)(s + ‖∇ℓ_i‖)
      there, at least lower, but a bound on λ_max only where its second term is no less than
      λ_max − gᵀH_i g: one step along g stands in for the maximum of ℓ_i over the sphere. For b = 1
      the term is 4/``alpha`` for every sample, so that both scores rank the samples alike.
    - ``printed``: eqs. 19 and 20 as they stand, with ∇_S in place of ∇ℓ_i as in C.2:
      lower = (1/α)·max{ℓ_i(θ+αg) − α‖∇_S‖, ℓ_i(θ−αg) + α‖∇_S‖} − ℓ_i,
      upper = (1/α)·(ℓ_i(θ+αg) + α‖∇_S‖) − ℓ_i.
      As ℓ_i/α doesn't cancel against ℓ_i, they bound nothing; within a sub-batch they rank the
      samples by little more than their losses, which is why ``spearman_loss`` is given.

    Standard errors of Spearman's ρ are (1 − ρ²)·√((1 + ρ²/2)/(n − 3)): Fisher's z with the
    variance of Bonett and Wright (Psychometrika 2000).

    Args:
        objective: what is differentiated, with N samples and a loss per sample.
        sub_batches: sizes b, each at most N. alpha: the step as a share of ‖∇_S‖.
        form: ``corrected`` or ``printed``. exact: find λ_max too.
        tol: a λ_max has converged when its residual is at most tol·|λ_max|, or at rounding error.
        max_products: per sample; what was found by then is returned and flagged (default 200).
        seed: of the start vector. progress: called as (samples done, samples of all passes).

    Cost: exact, about 5 to 20 Hessian-vector products per sample and as many vectors of θ's size
    in memory; scores, one gradient per sample and four passes over the data for each size.
    When it lies: the corrected scores' rounding error is about eps·(1 + ℓ_i)·2/α², in float32 more
    than the score itself for well-fitted samples (``drowned``): measure in float64. One Lanczos
    chain from a start nearly orthogonal to the top eigenvector can settle on a smaller eigenvalue
    with a small residual. Of cross-entropy, H_i itself is known to a relative eps/ℓ_i only, as the
    softmax saturates: in float32 that passes 10⁻³ where ℓ_i < 10⁻⁴, and no residual shows it.
    Kinks of ReLU networks have no curvature for H_i but do for the scores.
    """
    if not (alpha > 0 and math.isfinite(alpha)):
        raise UsageError(f"alpha must be positive and finite, got {alpha}.")
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    if not tol > 0:
        raise UsageError(f"tol must be positive, got {tol}.")
    if max_products is not None and max_products < 1:
        raise UsageError(f"max_products must be at least 1, got {max_products}.")
    n = objective.batches.samples
    sizes = check_sizes(sub_batches, n)

    samples = Samples(objective)
    record = Record(
        "samples",
        objective.describe(),
        seed,
        sub_batches=sizes,
        alpha=alpha,
        form=form,
        exact=exact,
        tol=tol,
        max_products=max_products,
        method="Lanczos per sample, full reorthogonalisation",
        product=samples.way,
    )
    total, done = n * (len(sizes) + exact), 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    measured = [_measure(samples, b, alpha, report) for b in sizes]
    scores = np.stack([bounds(m, alpha, form) for m in measured], 1)  # (score, sub_batch, N)
    found: dict[str, Any] = {}
    if exact:
        tops = top_eigenvalues(
            samples, tol=tol, limit=max_products, streams=Streams(seed, "samples"), report=report
        )
        correlations = [[spearman(row, tops.values) for row in rows] for rows in scores]
        found = {
            "lambda_max": tops.values,
            "residuals": tops.residuals,
            "converged": tops.converged,
            "products": tops.products,
            "mean_lambda_max": Estimate.of(tops.values),
            "spearman": np.array([[e.value for e in row] for row in correlations]),
            "spearman_standard_error": np.array(
                [[e.standard_error for e in row] for row in correlations]
            ),
            "spearman_loss": spearman(measured[0].loss, tops.values),
        }
    return SampleCurvature(
        provenance=record.finish(),
        loss=measured[0].loss,
        gradient_norm=measured[0].own,
        sub_batch=np.array(sizes),
        score=np.array(SCORES),
        lower=scores[0],
        upper=scores[1],
        ranked=np.isfinite(scores).all(0).sum(1),
        drowned=np.array([_drowned(m, alpha, form, objective.dtype) for m in measured]),
        form=form,
        **found,
    )


def check_sizes(sub_batches: Sequence[int], samples: int) -> list[int]:
    """The sub-batch sizes, if there are any, all different and none above the samples given."""
    sizes = [int(b) for b in sub_batches]
    if not sizes:
        raise UsageError("give at least one sub-batch size, for example sub_batches=(1, 32).")
    for b in sizes:
        if not 1 <= b <= samples:
            raise UsageError(
                f"a sub-batch of {b} samples: sizes lie in 1..{samples}, the samples given."
            )
    if len(set(sizes)) < len(sizes):
        raise UsageError(f"sub-batch sizes repeat: {', '.join(map(str, sizes))}.")
    return sizes


# -- scores -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probes:
    """What the scores are made of, (N,) each, in float64.

    loss, plus, minus: ℓ_i at θ, θ + αg, θ − αg. slope: ⟨∇ℓ_i, g⟩. own: ‖∇ℓ_i‖. norm: ‖∇_S‖.
    """

    loss: np.ndarray
    plus: np.ndarray
    minus: np.ndarray
    slope: np.ndarray
    own: np.ndarray
    norm: np.ndarray


def bounds(probes: Probes, alpha: float, form: str) -> np.ndarray:
    """Lower and upper score (2, N); NaN where there is no gradient to step along."""
    p, step = probes, alpha * probes.norm
    with np.errstate(all="ignore"):
        if form == "corrected":
            linear = step * p.slope
            lower = np.maximum(p.plus - p.loss - linear, p.minus - p.loss + linear)
            both = 2 / step**2 * np.stack([lower, p.plus - p.loss + step * p.own])
        else:
            linear = step * p.norm
            lower = np.maximum(p.plus - linear, p.minus + linear)
            both = np.stack([lower, p.plus + linear]) / step - p.loss
    return np.where(np.isfinite(both), both, np.nan)


def _drowned(probes: Probes, alpha: float, form: str, dtype: torch.dtype) -> int:
    """Samples whose corrected lower score is within the rounding error of the three losses.

    The printed scores take no second difference, and none of theirs drowns.
    """
    if form != "corrected":
        return 0
    difference = bounds(probes, alpha, form)[0] * (alpha * probes.norm) ** 2 / 2
    # The logarithm of a sum near one is off by eps however small it is.
    rounding = 4 * torch.finfo(dtype).eps * (1 + np.abs(probes.loss))
    return int((np.abs(difference) <= rounding).sum())


def _measure(samples: Samples, size: int, alpha: float, report: Callable[[int], None]) -> Probes:
    columns: list[tuple[Tensor, ...]] = []
    for span in samples.spans(samples.chunk if size == 1 else size):
        if size == 1:
            gradients = samples.gradients(span)
            own = norms(gradients)
            # All three by the same kernels, so that their rounding errors cancel.
            losses = [samples.losses_at(span, t * alpha * gradients) for t in (0.0, 1.0, -1.0)]
            slope = norm = own
        else:
            mean = torch.cat([g.reshape(-1) for g in span.gradient()])
            norm = norms(mean[None])
            unit = mean / norm.clamp_min(torch.finfo(mean.dtype).tiny).to(mean.dtype)
            move = P.unflatten(alpha * mean, span.theta)
            losses = [sample_losses(span, P.axpy(t, move, span.theta)) for t in (0.0, 1.0, -1.0)]
            parts = [samples.gradients(part) for part in spans(iter([span]), samples.chunk)]
            own = torch.cat([norms(part) for part in parts])
            slope = torch.cat([part @ unit for part in parts])
            norm = norm.expand(len(own))
        columns.append((*losses, slope, own, norm))
        report(len(span.x))
    at = samples.chunk if size == 1 else size
    none = (torch.zeros(0, device=samples.objective.device),) * 6
    joined = (torch.cat(c).double().cpu().numpy() for c in zip(none, *columns, strict=True))
    return Probes(*(samples.all(column, at) for column in joined))


def spearman(score: np.ndarray, truth: np.ndarray) -> Estimate:
    """Spearman's ρ over the samples that have a score; NaN where one of the two is constant."""
    use = np.isfinite(score) & np.isfinite(truth)
    n = int(use.sum())
    if n < 3 or np.ptp(score[use]) == 0 or np.ptp(truth[use]) == 0:
        return Estimate(math.nan, math.inf, n)
    rho = float(spearmanr(score[use], truth[use]).statistic)
    error = (1 - rho**2) * math.sqrt((1 + rho**2 / 2) / (n - 3)) if n > 3 else math.inf
    return Estimate(rho, error, n)


# -- samples ------------------------------------------------------------------------------------
