"""Slope and curvature of the loss in the input: input gradients and input Hessians per sample."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from landscape.errors import NumericalError, UsageError, unknown
from landscape.functional import Term
from landscape.objective import Objective
from landscape.provenance import Record
from landscape.random import Streams
from landscape.results import Estimate, Result, array, scalar

METHODS = ("exact", "dense", "lanczos")

# Inputs up to this size get their whole Hessian: as many products as Lanczos would need.
DENSE = 100

# Samples per batch of the code that li2023 released.
LI2023_BATCH = 100

# A Lanczos value has converged when its residual is at most this share of it.
TOL = 1e-3

MEMORY = 1 << 30

# (gradients, eigenvalues, residuals, converged, products)
Found = tuple[Tensor, Tensor, Tensor, Tensor, int]


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
    terms, leading = _peek(objective.terms(), n_check)
    size = leading[0].x[0].numel()
    if not leading[0].x.is_floating_point():
        raise UsageError("inputs are whole numbers (tokens?): the loss has no gradient in them.")
    if top > size:
        raise UsageError(f"asked for {top} eigenvalues, but an input has {size} entries.")
    chosen, checked, disagreement = _choose(method, size, leading, n_check, streams)

    pieces: list[Found] = []
    done = 0
    for index, term in enumerate(terms):
        for part in _parts(term, chosen, top):
            pieces.append(_measure(part, chosen, top, streams, done, index))
            done += len(part.x)
        if progress is not None:
            progress(done, samples)
    gradients = [g.double().flatten(1) for g, *_ in pieces]
    columns = [torch.cat(c).cpu().numpy() for c in list(zip(*pieces, strict=True))[1:4]]
    eigenvalues, residuals, converged = columns
    ig_l1 = torch.cat([g.abs().sum(1) for g in gradients]).cpu().numpy()
    ig_l2 = torch.cat([g.norm(dim=1) for g in gradients]).cpu().numpy()
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
        products=max(p[4] for p in pieces),
    )


def _pooled(eigenvalues: np.ndarray) -> Estimate:
    """Mean over batches of 100 of the mean of the top |λ| of the batch-mean's Hessian.

    That Hessian is block diagonal with the blocks H_i / 100, so its top is among the blocks' tops.
    """
    n, top = eigenvalues.shape
    whole = n // LI2023_BATCH
    pools = np.abs(eigenvalues[: whole * LI2023_BATCH]).reshape(whole, -1) / LI2023_BATCH
    return Estimate.of(np.sort(pools, axis=1)[:, -top:].mean(1))


# -- the parts of the data ------------------------------------------------------------------------


def _peek(terms: Iterator[Term], n: int) -> tuple[Iterator[Term], list[Term]]:
    """The terms, and the first of them up to n samples."""
    leading: list[Term] = []
    while sum(len(t.x) for t in leading) < n:
        term = next(terms, None)
        if term is None:
            break
        leading.append(term)
    return itertools.chain(list(leading), terms), leading


def _parts(term: Term, method: str, top: int) -> Iterator[Term]:
    """The batch in parts whose matrices fit in memory, each scaled as a sum over its samples."""
    size = term.x[0].numel()
    rows = {"exact": 2 * _width(term), "dense": 2 * size, "lanczos": _limit(size, top)}[method]
    step = max(1, MEMORY // (rows * size * term.x.element_size()))
    for start in range(0, len(term.x), step):
        yield _sub(term, slice(start, start + step))


def _sub(term: Term, chosen: slice) -> Term:
    return dataclasses.replace(term, x=term.x[chosen], y=term.y[chosen], samples=1)


def _width(term: Term) -> int:
    with torch.no_grad():
        return _sub(term, slice(0, 1)).network({}).numel()


def _limit(size: int, top: int) -> int:
    return min(size, 20 * top + 100)


# -- the choice of the method ---------------------------------------------------------------------


def _choose(
    method: str, size: int, leading: list[Term], n_check: int, streams: Streams
) -> tuple[str, int, float | None]:
    """The method, how many samples were compared, and their largest disagreement."""
    otherwise = "dense" if size <= DENSE else "lanczos"
    if method in ("dense", "lanczos"):
        return method, 0, None
    with torch.no_grad():
        shape = _sub(leading[0], slice(0, 1)).network({}).shape
    if len(shape) != 2 or shape[1] < 2:
        if method == "exact":
            raise UsageError(
                f"the exact form is of classifiers, outputs (B, C) with C > 1, not {tuple(shape)}: "
                "use method='auto'."
            )
        return otherwise, 0, None
    left, worst, agree, informative = n_check, 0.0, True, False
    for term in leading:
        part = _sub(term, slice(0, left))
        left -= len(part.x)
        vectors = streams.normal("check", (len(part.x), size))
        try:
            relative, fine = _compare(_in_double(part), vectors)
        except RuntimeError:  # tensors of the network's or the loss's own that stay in float32
            relative, fine = _compare(part, vectors)
        agree = agree and fine
        if relative is not None:
            informative, worst = True, max(worst, relative)
    checked = n_check - left
    if not informative:
        agree, worst = False, float("inf")
    if not agree and method == "exact":
        raise UsageError(
            f"the exact form disagrees with the true Hessian by {worst:.1e} (relative) on "
            f"{checked} samples: the network is not piecewise linear or the loss is not "
            "cross-entropy. Use method='auto'."
        )
    return "exact" if agree else otherwise, checked, worst


def _in_double(term: Term) -> Term:
    state = {**dict(term.model.named_parameters()), **dict(term.model.named_buffers()), **term.full}
    full = {n: t.detach().double() for n, t in state.items() if t.is_floating_point()}
    y = term.y.double() if term.y.is_floating_point() else term.y
    return dataclasses.replace(term, full=full, x=term.x.double(), y=y)


def _compare(term: Term, vectors: Tensor) -> tuple[float | None, bool]:
    """Largest relative ‖Hv − Jᵀ(diag p − ppᵀ)Jv‖ / ‖Hv‖, and whether it is rounding.

    None where Hv itself is no more than rounding.
    """
    v = vectors.to(term.x)
    x, output, gradient = _forward(term, graph=True)
    jacobian = _jacobian(output, x)
    factor = _factor(jacobian, output)
    true = _product(gradient, x)(v)
    form = torch.einsum("bcd,bc->bd", factor, torch.einsum("bcd,bd->bc", factor, v))
    eps = torch.finfo(x.dtype).eps
    # The rounding of J and of p, whatever cancels later.
    floor = 100 * eps * jacobian.square().sum((1, 2)) * v.norm(dim=1)
    difference, norm = (true - form).norm(dim=1), true.norm(dim=1)
    fine = bool((difference <= torch.maximum(eps**0.5 * norm, floor)).all())
    told = norm > floor
    relative = float((difference[told] / norm[told]).max()) if bool(told.any()) else None
    return relative, fine


# -- one part of a batch --------------------------------------------------------------------------


def _measure(term: Term, method: str, top: int, streams: Streams, first: int, batch: int) -> Found:
    x, output, gradient = _forward(term, graph=method != "exact")
    _check(gradient, batch)
    if method == "exact":
        factor = _factor(_jacobian(output, x), output)
        _check(factor, batch)
        values = _exact(factor, top)
        products = output.shape[1] + 1
    elif method == "dense":
        matrix = _dense(gradient, x)
        _check(matrix, batch)
        values = _largest(torch.linalg.eigvalsh(matrix), top)
        products = matrix.shape[1]
    else:
        found = _lanczos(_product(gradient, x), x, top, streams, first, batch)
        return gradient.detach(), *found
    rounding = torch.finfo(x.dtype).eps * values.abs().amax(1, keepdim=True)
    return (
        gradient.detach(),
        values,
        rounding.expand_as(values),
        torch.ones(len(values), dtype=torch.bool),
        products,
    )


def _forward(term: Term, *, graph: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Leaf x, outputs, and ∇_x ℓ_i per sample (samples don't mix in eval mode)."""
    x = term.x.detach().clone().requires_grad_()
    with torch.enable_grad():
        output = dataclasses.replace(term, x=x).network({})
        loss = term.outer(output)
        if not loss.requires_grad:
            return x, output, torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(
            loss, x, create_graph=graph, retain_graph=True, materialize_grads=True
        )
    return x, output, gradient


def _jacobian(output: Tensor, x: Tensor) -> Tensor:
    """∂f_c(x_b) / ∂x_b, shape (B, C, d): one backward pass per class."""
    if not output.requires_grad:
        return torch.zeros(len(x), output.shape[1], x[0].numel(), dtype=x.dtype, device=x.device)
    rows = [
        torch.autograd.grad(column.sum(), x, retain_graph=True, materialize_grads=True)[0]
        for column in output.unbind(1)
    ]
    return torch.stack([row.flatten(1) for row in rows], 1).detach()


def _factor(jacobian: Tensor, output: Tensor) -> Tensor:
    """M (B, C, d) with MᵀM = Jᵀ(diag p − ppᵀ)J: M_c = √p_c (J_c − Σ_k p_k J_k).

    That is AᵀJ with A = diag √p − p √pᵀ, for which AAᵀ = diag p − ppᵀ. Differences from the
    likeliest class's row are taken first, so that nothing cancels when its p is nearly 1.
    """
    p = output.detach().double().softmax(1)
    likely = p.argmax(1)[:, None, None].expand(-1, 1, jacobian.shape[2])
    differences = jacobian - jacobian.gather(1, likely)
    mean = torch.einsum("bc,bcd->bd", p.to(jacobian), differences)
    return p.sqrt().to(jacobian)[:, :, None] * (differences - mean[:, None])


def _exact(factor: Tensor, top: int) -> Tensor:
    """Top eigenvalues (B, top) of MᵀM from MMᵀ; those beyond C − 1 are zero."""
    gram = (factor @ factor.mT).double().cpu()
    # √pᵀM = 0: the smallest of the C is zero but for rounding.
    values = torch.linalg.eigvalsh(gram).flip(1)[:, :-1].clamp_min(0)[:, :top]
    return torch.nn.functional.pad(values, (0, top - values.shape[1]))


def _product(gradient: Tensor, x: Tensor) -> Callable[[Tensor], Tensor]:
    """V ↦ the rows ∇²_x ℓ_b · V_b, (B, d) to (B, d), on the kept graph of the gradient."""

    def product(v: Tensor) -> Tensor:
        if not gradient.requires_grad:
            return torch.zeros_like(v)
        (found,) = torch.autograd.grad(
            gradient, x, v.reshape(x.shape), retain_graph=True, materialize_grads=True
        )
        return found.flatten(1).detach()

    return product


def _dense(gradient: Tensor, x: Tensor) -> Tensor:
    """∇²_x ℓ_b, (B, d, d) in float64 on the CPU, by d products."""
    product, unit = _product(gradient, x), torch.zeros_like(x).flatten(1)
    rows = []
    for i in range(unit.shape[1]):
        unit[:, i] = 1
        rows.append(product(unit))
        unit[:, i] = 0
    matrix = torch.stack(rows, 1).double().cpu()
    return (matrix + matrix.mT) / 2


def _largest(values: Tensor, top: int) -> Tensor:
    """The ``top`` of every row that are largest in magnitude, in that order."""
    return values.gather(1, values.abs().argsort(stable=True, dim=1, descending=True)[:, :top])


def _lanczos(
    product: Callable[[Tensor], Tensor],
    x: Tensor,
    top: int,
    streams: Streams,
    first: int,
    batch: int,
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Top |λ| (B, top), residuals, converged (B,) and products, all samples advancing together.

    Full reorthogonalisation (twice) on a basis (B, m, d); the tridiagonals are diagonalised in
    float64. The values of a sample are those of the step at which it converged, so they don't
    depend on its neighbours in the batch. A chain that ends is continued from a random vector.
    Source: Parlett, The Symmetric Eigenvalue Problem (1998), ch. 13.
    """
    n, size = len(x), x[0].numel()
    limit, eps = _limit(size, top), torch.finfo(x.dtype).eps
    basis = torch.zeros(n, limit, size, dtype=x.dtype, device=x.device)
    q = streams.normal("start", (n, size)).to(x)
    q = q / q.norm(dim=1, keepdim=True)
    t = torch.zeros(n, limit, limit, dtype=torch.float64)
    scale = torch.zeros(n, dtype=torch.float64)
    values, residuals = (torch.zeros(n, top, dtype=torch.float64) for _ in range(2))
    converged = torch.zeros(n, dtype=torch.bool)
    for m in range(1, limit + 1):
        basis[:, m - 1] = q
        known = basis[:, :m]
        w = product(q)
        _check(w, batch)
        alpha = (q * w).sum(1)
        for _ in range(2):
            w = w - torch.einsum("bm,bmd->bd", torch.einsum("bmd,bd->bm", known, w), known)
        beta = w.norm(dim=1)
        t[:, m - 1, m - 1] = alpha.double().cpu()
        scale = torch.maximum(scale, torch.maximum(alpha.abs(), beta).double().cpu())
        rest = beta.double().cpu()
        ended = rest <= 10 * eps * scale
        rest[ended] = 0
        if m >= top and (m == limit or m % max(1, m // 10) == 0):
            theta, s = torch.linalg.eigh(t[:, :m, :m])
            order = theta.abs().argsort(stable=True, dim=1, descending=True)[:, :top]
            ritz = theta.gather(1, order)
            rounding = eps * scale[:, None]
            left = rest if m < size else torch.zeros_like(rest)
            found = torch.hypot(left[:, None] * s[:, -1].gather(1, order).abs(), rounding)
            met = (found <= torch.maximum(TOL * ritz.abs(), 10 * rounding)).all(1)
            new = ~converged
            values[new], residuals[new] = ritz[new], found[new]
            converged |= met
        if bool(converged.all()) or m == limit:
            break
        t[:, m - 1, m] = t[:, m, m - 1] = rest
        for i in ended.nonzero().flatten().tolist():
            w[i] = streams.child("restart", first + i).normal(m, (size,)).to(x)
            for _ in range(2):
                w[i] -= known[i].T @ (known[i] @ w[i])
        q = w / w.norm(dim=1, keepdim=True)
    return values, residuals, converged, m


def _check(tensor: Tensor, batch: int) -> None:
    if not bool(tensor.isfinite().all()):
        raise NumericalError(
            f"the input derivatives of batch {batch} are not finite: check that batch's inputs, or "
            "measure in float64 (--dtype float64)."
        )
