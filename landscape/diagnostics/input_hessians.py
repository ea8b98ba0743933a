"""The input Hessian of every sample of a batch, by the cheapest way that is right.

``choose`` decides between the exact form of piecewise-linear classifiers, all products, and
Lanczos; ``measure`` applies the way to one part of a batch.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from landscape.errors import NumericalError, UsageError
from landscape.functional import Term
from landscape.random import Streams

METHODS = ("exact", "dense", "lanczos")

# Inputs up to this size get their whole Hessian: as many products as Lanczos would need.
DENSE = 100

# A Lanczos value has converged when its residual is at most this share of it.
TOL = 1e-3

MEMORY = 1 << 30

# (gradients, eigenvalues, residuals, converged, products)
Found = tuple[Tensor, Tensor, Tensor, Tensor, int]


# -- the parts of the data ------------------------------------------------------------------------


def peek(terms: Iterator[Term], n: int) -> tuple[Iterator[Term], list[Term]]:
    """The terms, and the first of them up to n samples."""
    leading: list[Term] = []
    while sum(len(t.x) for t in leading) < n:
        term = next(terms, None)
        if term is None:
            break
        leading.append(term)
    return itertools.chain(list(leading), terms), leading


def parts(term: Term, method: str, top: int) -> Iterator[Term]:
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


def choose(
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
    jacobian = output_jacobian(output, x)
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


def measure(term: Term, method: str, top: int, streams: Streams, first: int, batch: int) -> Found:
    x, output, gradient = _forward(term, graph=method != "exact")
    _check(gradient, batch)
    if method == "exact":
        factor = _factor(output_jacobian(output, x), output)
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


def output_jacobian(output: Tensor, x: Tensor) -> Tensor:
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


def skip(x: Tensor, streams: Streams) -> None:
    """Go past the random numbers that Lanczos would start from at these inputs."""
    streams.normal("start", (len(x), x[0].numel()))


def _check(tensor: Tensor, batch: int) -> None:
    if not bool(tensor.isfinite().all()):
        raise NumericalError(
            f"the input derivatives of batch {batch} are not finite: check that batch's inputs, or "
            "measure in float64 (--dtype float64)."
        )
