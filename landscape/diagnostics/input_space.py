"""Slope and curvature of the loss in the input: input gradients and input Hessians per sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape import parallel
from landscape.diagnostics.input_hessians import (
    METHODS,
    Found,
    choose,
    measure,
    parts,
    peek,
    skip,
)
from landscape.errors import UsageError, unknown
from landscape.objective import Objective
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Estimate, Result, array, scalar

# Samples per batch of the code that li2023 released.
LI2023_BATCH = 100


@dataclass(frozen=True, eq=False)
class Inputs(Result):
    """IG and HS of every sample (li2023 §4.1), with the top of every sample's input Hessian.

    ``eigenvalues[i]`` are the ``top`` of ∇²_x ℓ(f(x_i), y_i) that are largest in magnitude, in that
    order; ``hs[i]`` = Σ_j |eigenvalues[i, j]|. ``disagreement`` is the largest relative difference
    found between Jᵀ(diag p − ppᵀ)J and the true Hessian on ``checked`` samples: None if none was
    compared, infinite if the Hessian vanished on all of them.
    """

    kind: ClassVar[str] = "inputs"

    ig_l1: np.ndarray = array("sample", units="loss / input", label="input gradient ‖∇ₓℓ‖₁")
    ig_l2: np.ndarray = array("sample", units="loss / input", label="input gradient ‖∇ₓℓ‖₂")
    hs: np.ndarray = array("sample", units="loss / input²", label="input Hessian Σ|λ|")
    eigenvalues: np.ndarray = array(
        "sample", "index", units="loss / input²", label="eigenvalue of the input Hessian"
    )
    residuals: np.ndarray = array("sample", "index", units="loss / input²", label="residual")
    converged: np.ndarray = array("sample")
    mean_ig_l1: Estimate = scalar(units="loss / input", label="mean ‖∇ₓℓ‖₁")
    mean_ig_l2: Estimate = scalar(units="loss / input", label="mean ‖∇ₓℓ‖₂")
    mean_hs: Estimate = scalar(units="loss / input²", label="mean Σ|λ|")
    hs_li2023: Estimate | None = scalar(
        units="loss / input²", label="HS as released by li2023", default=None
    )
    method: str = scalar()
    checked: int = scalar(label="samples compared with Hessian-vector products")
    disagreement: float | None = scalar(
        label="largest relative disagreement of the exact form", default=None
    )
    products: int = scalar(label="backward passes or Hessian-vector products per sample, at most")

    @property
    def trustworthy(self) -> bool:
        """Whether every eigenvalue of every sample met its tolerance."""
        return bool(self.converged.all())

    def running_hs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """n, mean HS of the first n samples, its standard error: li2023 Fig. A3 in one pass.

        The standard error of one sample is NaN.
        """
        n = np.arange(1, len(self.hs) + 1)
        mean = np.cumsum(self.hs) / n
        # About the overall mean, which keeps the difference of squares from cancelling.
        centred = self.hs - self.hs.mean()
        squares = np.cumsum(centred**2) - np.cumsum(centred) ** 2 / n
        error = np.full(len(n), np.nan)
        error[1:] = np.sqrt(np.maximum(squares[1:], 0) / (n[1:] - 1) / n[1:])
        return n, mean, error

    def plot(self, ax: Any = None) -> Any:
        from landscape.plotting.inputs import draw_running

        return draw_running([self], ax=ax)


def inputs(
    objective: Objective,
    top: int = 20,
    *,
    n_check: int = 4,
    method: str = "auto",
    li2023_compatible: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Inputs:
    """IG = ‖∇_x ℓ‖ and HS = Σ of the ``top`` largest |λ| of ∇²_x ℓ, per sample (li2023 §4.1).

    Everything is per sample: gradients (N, d), spectra (N, top), d the size of one input; means
    have standard errors over samples, and the batch size changes nothing. With an attack on the
    objective the derivatives are taken at the adversarial inputs, held.

    Args:
        objective: gives network, inputs (clean or perturbed) and loss.
        top: how many eigenvalues, at most d.
        n_check: samples, the first of the data, on which the exact form is compared with a true
            Hessian-vector product (double backward, random vectors, in float64).
        method: ``auto`` takes the first that holds:

            - ``exact``: Jᵀ(diag p − ppᵀ)J with J the C × d Jacobian of the logits and p the
              softmax: the whole Hessian if the network is piecewise linear and the loss
              cross-entropy. Its nonzero eigenvalues, at most C − 1, are those of a C × C matrix.
              Cost: C + 1 backward passes. Refused if the comparison fails.
            - ``dense``: all d Hessian-vector products (``auto``: for d up to 100).
            - ``lanczos``: Lanczos with full reorthogonalisation, all samples of a batch at once,
              at most min(d, 20 top + 100) products.
        li2023_compatible: give also the number of li2023's released code: the Hessian of the
            *mean* loss of 100 samples, the mean of its ``top`` largest |λ|, which are pooled over
            the batch. It is about 100 times smaller and favours the most curved samples; an
            incomplete last batch is left out.
        seed: of the random vectors. progress: called as (samples done, samples).

    When it lies: the Hessian of a ReLU network misses the change of slope at its kinks (li2023
    A2): compare with the network rebuilt with softplus. Lanczos finds a repeated eigenvalue once.
    A network whose outputs depend on other samples of the batch has no per-sample Hessian.
    """
    if top < 1:
        raise UsageError(f"asked for {top} eigenvalues: ask for at least 1.")
    if n_check < 1:
        raise UsageError(f"n_check must be at least 1, got {n_check}.")
    if method not in ("auto", *METHODS):
        raise unknown("method", method, ["auto", *METHODS])
    samples = objective.batches.samples
    if li2023_compatible and samples < LI2023_BATCH:
        raise UsageError(
            f"the number of li2023 is of batches of {LI2023_BATCH} samples, "
            f"the data have {samples}."
        )
    settings = {"top": top, "n_check": n_check, "method": method}
    record = Record(
        "inputs", objective.describe(), seed, **settings, li2023_compatible=li2023_compatible
    )
    streams = Streams(seed, "inputs")
    group, shared = parallel.group(), objective.shared()
    terms, leading = peek(objective.terms(), n_check)
    size = leading[0].x[0].numel()
    if not leading[0].x.is_floating_point():
        raise UsageError("inputs are whole numbers (tokens?): the loss has no gradient in them.")
    if top > size:
        raise UsageError(f"asked for {top} eigenvalues, but an input has {size} entries.")
    chosen, checked, disagreement = group.agree(choose(method, size, leading, n_check, streams))
    if group.size > 1:
        terms = shared.terms()
    if chosen == "lanczos":
        for x in shared.own.before():
            skip(x, streams)

    pieces: list[Found] = []
    done = 0
    for index, term in enumerate(terms, shared.own.first_batch):
        for part in parts(term, chosen, top):
            first = shared.own.start + done
            pieces.append(measure(part, chosen, top, streams, first, index))
            done += len(part.x)
        if progress is not None:
            progress(done, shared.own.samples)

    def joined(rows: list[Tensor]) -> np.ndarray:
        return shared.own.join(torch.cat(rows)).cpu().numpy()

    gradients = [g.double().flatten(1) for g, *_ in pieces]
    columns = [joined(list(c)) for c in list(zip(*pieces, strict=True))[1:4]]
    eigenvalues, residuals, converged = columns
    ig_l1 = joined([g.abs().sum(1) for g in gradients])
    ig_l2 = joined([g.norm(dim=1) for g in gradients])
    products = torch.tensor([max(p[4] for p in pieces)], device=objective.device)
    hs = np.abs(eigenvalues).sum(1)
    return Inputs(
        provenance=record.finish(),
        ig_l1=ig_l1,
        ig_l2=ig_l2,
        hs=hs,
        eigenvalues=eigenvalues,
        residuals=residuals,
        converged=converged,
        mean_ig_l1=Estimate.of(ig_l1),
        mean_ig_l2=Estimate.of(ig_l2),
        mean_hs=Estimate.of(hs),
        hs_li2023=_pooled(eigenvalues) if li2023_compatible else None,
        method=chosen,
        checked=checked,
        disagreement=disagreement,
        products=int(group.join(products, group.size).max()),
    )


def _pooled(eigenvalues: np.ndarray) -> Estimate:
    """Mean over batches of 100 of the mean of the top |λ| of the batch-mean's Hessian.

    That Hessian is block diagonal with the blocks H_i / 100, so its top is among the blocks' tops.
    """
    n, top = eigenvalues.shape
    whole = n // LI2023_BATCH
    pools = np.abs(eigenvalues[: whole * LI2023_BATCH]).reshape(whole, -1) / LI2023_BATCH
    return Estimate.of(np.sort(pools, axis=1)[:, -top:].mean(1))
