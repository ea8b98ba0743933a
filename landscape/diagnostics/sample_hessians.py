"""Products and largest eigenvalues of the Hessians of single samples, many at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jvp

from landscape import parallel
from landscape import params as P
from landscape.errors import NumericalError, UsageError
from landscape.functional import Term, untouched
from landscape.objective import Objective
from landscape.random import Streams

# Most samples worked on together, and the bytes that their Lanczos bases may take.
CHUNK = 32
MEMORY = 1 << 30
_USUAL_PRODUCTS = 40
MAX_PRODUCTS = 200


class Samples:
    """The samples of an Objective one by one, computed together where the network allows it.

    The processes of a group work on a part of them each, of whole spans of any size.

    Attributes:
        way: ``vmap`` (samples of a chunk at once) or ``loop``. chunk: samples worked on together;
            it depends on the size of θ alone, so that the data's batches change nothing.
    """

    def __init__(self, objective: Objective) -> None:
        # Held examples are those of the model's own parameters, the only point visited here.
        held = objective.refresh == "fixed" or objective.attack is None
        self.objective = objective if held else objective.with_attack(objective.attack, "fixed")
        self.size = P.size(objective.params)
        each = self.size * objective.params[next(iter(objective.params))].element_size()
        self.chunk = max(1, min(CHUNK, MEMORY // (each * _USUAL_PRODUCTS)))
        self._group = parallel.group()
        self._whole = None if self._group.size == 1 else self._gathered()
        first = next(self.objective.terms()) if self._whole is None else self._whole
        sample_losses(first, first.theta)  # refuses a loss without values per sample
        together = self.chunk > 1 and self._works(_part(first, slice(0, 1)).tempered())
        self.way = self._group.agree("vmap" if together else "loop")
        if self.way == "loop":
            self.chunk = 1

    def spans(self, size: int) -> Iterator[Term]:
        """Own samples as terms of ``size`` successive ones, each the mean loss of its own."""
        if self._whole is None:
            return spans(self.objective.terms(), size)
        start, end = self.own(size)
        own = [_part(self._whole, slice(start, end))] if start < end else []
        return spans(iter(own), size)

    def own(self, size: int) -> tuple[int, int]:
        """First and one past the last of the samples that this process has in spans of a size."""
        n = self.objective.batches.samples
        start, end = self._group.share(-(-n // size))
        return min(n, start * size), min(n, end * size)

    def all(self, column: np.ndarray, size: int) -> np.ndarray:
        """(N,) from what every process has of its own samples in spans of a size."""
        if self._group.size == 1:
            return column
        whole = np.zeros(self.objective.batches.samples, dtype=np.float64)
        whole[slice(*self.own(size))] = column
        found = torch.as_tensor(whole, device=self.objective.device)
        return self._group.sum(found).cpu().numpy().astype(column.dtype)

    def _gathered(self) -> Term:
        """All inputs, attacked by the process that has them, in one term."""
        shared = self.objective.shared()
        terms = list(shared.terms())
        x, y = (shared.own.join(torch.cat([getattr(t, name) for t in terms])) for name in "xy")
        return dataclasses.replace(terms[0], x=x, y=y)

    def gradients(self, span: Term) -> Tensor:
        """∇ℓ_i of every sample, (B, n)."""

        def one(x: Tensor, y: Tensor) -> Tensor:
            alone = _single(span, x, y)
            return P.flatten(grad(alone)(alone.theta))

        if self.way == "vmap":
            return _vmap(one)(span.x, span.y)
        return torch.stack(
            [
                torch.cat([g.reshape(-1) for g in _part(span, slice(i, i + 1)).gradient()])
                for i in range(len(span.x))
            ]
        )

    def losses_at(self, span: Term, moves: Tensor) -> Tensor:
        """ℓ_i(θ + moves_i), moves (B, n)."""

        def one(x: Tensor, y: Tensor, move: Tensor) -> Tensor:
            alone = _single(span, x, y)
            return alone(P.axpy(1.0, P.unflatten(move, alone.theta), alone.theta))

        with torch.no_grad():
            if self.way == "vmap":
                return _vmap(one)(span.x, span.y, moves)
            return torch.stack([one(*row) for row in zip(span.x, span.y, moves, strict=True)])

    def products(self, span: Term) -> Callable[[Tensor, Tensor], Tensor]:
        """(rows, V) ↦ H_i v_i for the samples i in ``rows`` of the span and the rows v_i of V."""
        if self.way == "vmap":
            return lambda rows, v: _vmap(lambda x, y, u: _product(span, x, y, u))(
                span.x[rows], span.y[rows], v
            )
        kept = [_part(span, slice(i, i + 1)).hessian(keep=True) for i in range(len(span.x))]
        return lambda rows, v: torch.stack(
            [
                P.flatten(kept[int(i)](P.unflatten(u, span.theta))).detach()
                for i, u in zip(rows, v, strict=True)
            ]
        )

    def _works(self, alone: Term) -> bool:
        """Whether vmap runs on a sample and agrees with differentiating it twice."""
        streams = Streams(self.objective.seed, "samples")
        probe = P.random_like(alone.theta, streams)
        expected = P.flatten(alone.hessian()(probe))
        twice = [torch.cat([t, t]) for t in (alone.x, alone.y)]
        v = P.flatten(probe)
        try:
            found = _vmap(lambda x, y, u: _product(alone, x, y, u))(*twice, torch.stack([v, v]))
        except Exception:  # operations without batching rules raise many types
            return False
        allowed = torch.finfo(v.dtype).eps ** 0.75 * expected.norm()
        agrees = bool(((found - expected).norm(dim=1) <= allowed).all())
        return agrees or not bool(expected.isfinite().all())


def _vmap(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Over the first axis of all arguments; what a user's module draws may differ by sample."""
    mapped: Callable[..., Tensor] = torch.func.vmap(function, randomness="different")
    return mapped


def _product(span: Term, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
    alone = _single(span, x, y)
    tangent = P.unflatten(v, alone.theta)
    return P.flatten(jvp(grad(alone), (alone.theta,), (tangent,))[1])


def _single(term: Term, x: Tensor, y: Tensor) -> Term:
    return dataclasses.replace(term, x=x[None], y=y[None], samples=1)


def _part(term: Term, rows: slice) -> Term:
    x, y = term.x[rows], term.y[rows]
    return dataclasses.replace(term, x=x, y=y, samples=len(x))


def spans(terms: Iterator[Term], size: int) -> Iterator[Term]:
    """The samples of the terms, cut anew into terms of ``size``; the last may be smaller."""
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    have, last = 0, None
    for last in terms:
        at = 0
        while at < len(last.x):
            take = min(size - have, len(last.x) - at)
            xs.append(last.x[at : at + take])
            ys.append(last.y[at : at + take])
            at, have = at + take, have + take
            if have == size:
                yield dataclasses.replace(last, x=torch.cat(xs), y=torch.cat(ys), samples=size)
                xs, ys, have = [], [], 0
    if last is not None and have:
        yield dataclasses.replace(last, x=torch.cat(xs), y=torch.cat(ys), samples=have)


# -- exact --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tops:
    """Largest eigenvalues with residuals, flags and the products that each took, (N,) each."""

    values: np.ndarray
    residuals: np.ndarray
    converged: np.ndarray
    products: np.ndarray


def top_eigenvalues(
    samples: Samples,
    *,
    tol: float,
    limit: int | None = None,
    streams: Streams,
    report: Callable[[int], None] = lambda more: None,
) -> Tops:
    """λ_max(∇²ℓ_i) of every sample by Lanczos with full reorthogonalisation, chunk by chunk.

    Rayleigh-Ritz on the Krylov space of H_i and one start vector: the value never exceeds λ_max
    but for rounding, and its residual is |β_m y_m| (Parlett 1998, ch. 13), rounding included.
    """
    dtype, device = samples.objective.dtype, samples.objective.device
    start = streams.normal("start", (samples.size,)).to(device, dtype)
    start /= start.norm()
    limit = min(samples.size, MAX_PRODUCTS if limit is None else limit)
    first = samples.own(samples.chunk)[0]
    parts = [_nothing()]
    for span in samples.spans(samples.chunk):
        parts.append(_lanczos(samples.products(span), len(span.x), start, tol, limit, first))
        first += len(span.x)
        report(len(span.x))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Tops(*(samples.all(column, samples.chunk) for column in columns))


def _nothing() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What is found of no samples."""
    return np.zeros(0), np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0, dtype=np.int64)


def _lanczos(
    product: Callable[[Tensor, Tensor], Tensor],
    count: int,
    start: Tensor,
    tol: float,
    limit: int,
    first: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    eps = torch.finfo(start.dtype).eps
    values, residuals = np.zeros(count), np.full(count, np.inf)
    converged, products = np.zeros(count, dtype=bool), np.zeros(count, dtype=np.int64)
    rows = torch.arange(count, device=start.device)  # the samples still at work
    basis = [start.expand(count, -1)]
    diagonal, off = np.zeros((count, limit)), np.zeros((count, limit))
    scale = np.zeros(count)
    for m in range(1, limit + 1):
        q = basis[-1]
        w = product(rows, q).detach()
        bad = ~w.isfinite().all(1)
        if bool(bad.any()):
            raise NumericalError(
                f"the Hessian-vector product of sample {first + int(rows[bad][0])} is not finite: "
                "check that sample's input, or measure in float64 (--dtype float64)."
            )
        diagonal[:, m - 1] = (q * w).sum(1, dtype=torch.float64).cpu().numpy()
        for _ in range(2):  # twice is enough
            for b in basis:
                w = torch.addcmul(w, b, -(b * w).sum(1, keepdim=True))
        beta = norms(w).cpu().numpy()
        off[:, m - 1] = beta
        scale = np.maximum(scale, np.maximum(np.abs(diagonal[:, m - 1]), beta))
        exhausted = beta <= 10 * eps * scale
        due = m <= 20 or m % (m // 10) == 0 or m == limit or bool(exhausted.any())
        if due:
            theta, last = _ritz(diagonal[:, :m], off[:, : m - 1])
            rounding = eps * np.abs(theta).max(1)
            error = np.hypot(beta * np.abs(last), rounding)
            ok = (error <= np.maximum(tol * np.abs(theta[:, -1]), 10 * rounding)) | exhausted
            stop = ok if m < limit else np.ones_like(ok)
            at = rows.cpu().numpy()[stop]
            values[at], residuals[at] = theta[stop, -1], error[stop]
            converged[at], products[at] = ok[stop], m
            if stop.all():
                break
            if stop.any():
                go = torch.as_tensor(~stop, device=start.device)
                rows, w = rows[go], w[go]
                basis = [b[go] for b in basis]
                diagonal, off, scale, beta = (a[~stop] for a in (diagonal, off, scale, beta))
        basis.append(w / torch.as_tensor(beta, device=w.device).to(w.dtype)[:, None])
    return values, residuals, converged, products


def _ritz(diagonal: np.ndarray, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (c, m), ascending, of c tridiagonal matrices; last entry of the top vectors."""
    c, m = diagonal.shape
    t = np.zeros((c, m, m))
    at, next_ = np.arange(m), np.arange(m - 1)
    t[:, at, at] = diagonal
    t[:, next_, next_ + 1] = t[:, next_ + 1, next_] = off
    theta, y = np.linalg.eigh(t)
    return theta, y[:, -1, -1]


def norms(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)


def sample_losses(term: Term, theta: P.Params) -> Tensor:
    """ℓ_i(θ) of the term's samples."""
    with torch.no_grad(), untouched(term.model):
        values = term.loss(term.network(theta), term.y)
    if values.ndim == 0:
        raise UsageError(
            "per-sample curvature needs a loss that returns one value per sample: "
            "use reduction='none'."
        )
    return values
