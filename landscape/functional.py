"""A model as a function of its parameters, called so that the model itself is left untouched."""

from __future__ import annotations

import contextlib
import random as python_random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase

from landscape.double_backward import Lean
from landscape.errors import UsageError
from landscape.folding import Folding
from landscape.losses import Loss
from landscape.params import Params
from landscape.structured import Bundle, output_tensor

T = TypeVar("T")
Product = Callable[[Params], Params]

# A value's place in the graph that made it, without the value itself.
Edges = dict[str, GradientEdge]


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; train flags and all global random states as before afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    cpu, numpy_state, python_state = (
        torch.get_rng_state(),
        np.random.get_state(),  # noqa: NPY002 - saved because user code may draw from it
        python_random.getstate(),
    )
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        for module, flag in flags:
            if flag:
                module.training = False
        yield
    finally:
        for module, flag in flags:
            module.training = flag
        torch.set_rng_state(cpu)
        np.random.set_state(numpy_state)  # noqa: NPY002
        python_random.setstate(python_state)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


Forward = Callable[[Tensor], Tensor]


class _Host(nn.Module):
    """Runs a function of the model while ``functional_call`` has its parameters exchanged."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, body: Callable[[Forward], T]) -> T:
        return body(lambda x: output_tensor(_call(self.model, x)))


def run(model: nn.Module, full: Mapping[str, Tensor], body: Callable[[Forward], T]) -> T:
    """``body(f)`` with f the model at the parameters ``full``; call it ``untouched``.

    The exchange costs as much as a small layer, so ``body`` is a whole pass over the data.
    """
    # Buffers go in as copies: a module that writes them even in eval mode writes the copies.
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    state = {f"model.{name}": t for name, t in {**buffers, **full}.items()}
    result: T = torch.func.functional_call(_Host(model), state, (body,))
    return result


def at(model: nn.Module, full: Mapping[str, Tensor]) -> Forward:
    """x ↦ f(x) with the parameters ``full``, exchanged at every call."""
    return lambda x: run(model, full, lambda forward: forward(x))


def reestimated(
    model: nn.Module, full: Mapping[str, Tensor], batches: Iterable[Tensor]
) -> dict[str, Tensor]:
    """The buffers of the normalisation layers as a pass over the inputs would estimate them.

    Running mean and variance become (1/N) Σ_b |b| · (mean or unbiased variance of batch b) of the
    layers' inputs when all of them normalise by the batch (Garipov et al. 2018): what the running
    statistics would have been at the parameters ``full``, where no training has been. Empty
    without such layers. Call it ``untouched``. Cost: one forward pass.
    """
    layers = {
        f"{name}." if name else "": module
        for name, module in model.named_modules()
        if isinstance(module, _NormBase) and module.running_mean is not None
    }
    if not layers:
        return {}
    own = dict(model.named_buffers())
    fresh = {}
    for prefix in layers:
        fresh[f"{prefix}running_mean"] = torch.zeros_like(own[f"{prefix}running_mean"])
        fresh[f"{prefix}running_var"] = torch.ones_like(own[f"{prefix}running_var"])
    others = {name: b.clone() for name, b in own.items() if name not in fresh}
    momenta = [layer.momentum for layer in layers.values()]
    seen = 0
    try:
        for layer in layers.values():
            layer.training = True
        for x in batches:
            if len(x) == 1:
                raise UsageError(
                    "a batch of one sample has no variance to re-estimate BatchNorm with: choose "
                    "another batch size."
                )
            seen += len(x)
            for layer in layers.values():
                layer.momentum = len(x) / seen
            with torch.no_grad():
                at(model, {**others, **full, **fresh})(x)
    finally:
        for layer, momentum in zip(layers.values(), momenta, strict=True):
            layer.training, layer.momentum = False, momentum
    return fresh


def _call(model: nn.Module, x: Tensor | Bundle) -> object:
    return x.call(model) if isinstance(x, Bundle) else model(x)


def total(loss: Loss, output: Tensor, y: Tensor) -> Tensor:
    """Σ_i ℓ(output_i, y_i) over a batch, of a per-sample or a batch-mean loss."""
    values = loss(output, y)
    return values * len(output) if values.ndim == 0 else values.sum()


@contextlib.contextmanager
def _derivable() -> Iterator[None]:
    """Of torch's ways to compute attention and encoder layers, those that can be differentiated
    twice and forward."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@dataclass(frozen=True)
class Term:
    """One batch's share of L as a function of θ: ``term(θ) == term.outer(term.network(θ))``.

    Attributes:
        full: every parameter at the term's own point. names: those that θ consists of.
        samples: N, over all batches. reentrant: see ``reentrant``.
    """

    model: nn.Module
    loss: Loss
    full: Params
    names: tuple[str, ...]
    x: Tensor
    y: Tensor
    samples: int
    reentrant: bool = False

    def __call__(self, theta: Params) -> Tensor:
        return self.outer(self.network(theta))

    def network(self, theta: Params) -> Tensor:
        """Outputs f_θ(x), shape (B, ...)."""
        with untouched(self.model), _derivable():
            return at(self.model, {**self.full, **theta})(self.x)

    def outer(self, output: Tensor) -> Tensor:
        """Σ_i ℓ(output_i, y_i) / N over the samples i of this batch."""
        with untouched(self.model):  # a loss may be a module with state of its own
            return total(self.loss, output, self.y) / self.samples

    @property
    def theta(self) -> Params:
        """The term's own point."""
        return {name: self.full[name] for name in self.names}

    def split(self, samples: int) -> list[Term]:
        """The same share in pieces of at most so many samples."""
        return [self.rows(slice(i, i + samples)) for i in range(0, len(self.y), samples)]

    def rows(self, part: slice) -> Term:
        """The share of some of the samples."""
        return replace(self, x=self.x[part], y=self.y[part])

    def tempered(self) -> Term:
        """With outputs of order one, for trying whether derivatives are right.

        Where a network is certain, what a softmax leaves of p − y is rounding.
        """
        with torch.no_grad():
            largest = float(self.network(self.theta).abs().max())
        if not 1 < largest < float("inf"):
            return self
        return replace(self, loss=lambda output, y: self.loss(output / largest, y))

    def gradient(self, *, graph: bool = False, folding: Folding | None = None) -> list[Tensor]:
        """∇ of the term at its own point, with a graph if asked, by the leaves of ``folding``."""
        lean = Lean(folding=folding) if graph else None
        theta = folding.theta if folding else self._leaves()
        leaves = folding.leaves() if folding else theta
        slopes = self._within(theta, lambda f: self._slopes(f, lambda: leaves, graph), lean)
        return [*_whole(slopes, leaves).values()]

    def value_with_graph(self) -> Tensor:
        """The term's value with its graph, as the gradient begins."""
        with torch.enable_grad():
            return self(self._leaves())

    def slopes(self, folding: Folding) -> Params:
        """The gradient by those of ``folding.leaves`` that the term depends on."""
        lean = Lean(folding=folding)
        return self._within(folding.theta, lambda f: self._slopes(f, folding.leaves, False), lean)

    def hessian(
        self, *, keep: bool = False, recomputes: bool = True, folding: Folding | None = None
    ) -> Product:
        """v ↦ ∇²·v by differentiating ⟨∇, v⟩; the graph of ∇ is kept for many v if asked.

        ``recomputes=False`` saves time where ``Term.recomputes`` has said so. With ``folding``,
        v and the product are in its coordinates, and what is zero may be missing.
        """
        lean = Lean(unread=True, folding=folding)
        theta = folding.theta if folding else self._leaves()
        leaves = folding.leaves if folding else lambda: theta

        def slopes(forward: Forward) -> Edges:
            found = self._slopes(forward, leaves, True)
            # Those that the loss is linear in have no graph. Of a custom function's output the edge
            # alone would not keep the graph (torch 2.6); a view's is torch's own, and does.
            return {
                name: get_gradient_edge(g.view_as(g))
                for name, g in found.items()
                if g.requires_grad
            }

        def again(slopes: Edges, v: Params) -> Params:
            found = _again(slopes, leaves(), v, keep)
            return found if folding else _whole(found, theta)

        if keep:
            kept = self._within(theta, slopes, lean)
            if not recomputes:
                return lambda v: again(kept, v)
            return lambda v: self._within(theta, lambda _: again(kept, v), lean)

        def product(v: Params) -> Params:
            return self._within(theta, lambda f: again(slopes(f), v), lean)

        return product

    def recomputes(self) -> bool:
        """Whether the network's backward runs parts of its forward again, as checkpointing does.

        Then the parameters must be exchanged during backward too. Found by trying, elsewhere than
        at the module's own parameters.
        """
        moved = replace(self, full={**self.full, **{n: t + 0.01 for n, t in self.theta.items()}})
        leaves = moved._leaves()
        with torch.enable_grad():
            value = moved(leaves)
        if not value.requires_grad:
            return False
        with untouched(self.model):
            found = torch.autograd.grad(value, [*leaves.values()], materialize_grads=True)
        return not all(map(torch.equal, found, moved.gradient()))

    def _leaves(self) -> Params:
        return {name: t.detach().requires_grad_() for name, t in self.theta.items()}

    def _within(self, leaves: Params, body: Callable[[Forward], T], lean: Lean | None) -> T:
        """``body`` while θ is exchanged in the model: activation checkpoints, which run the
        model again during backward, then find it as it was."""
        with untouched(self.model), _derivable(), lean or contextlib.nullcontext():
            return run(self.model, {**self.full, **leaves}, body)

    def _slopes(self, forward: Forward, leaves: Callable[[], Params], graph: bool) -> Params:
        """The gradient by those of ``leaves()``, as they are after the pass, that it reaches."""
        if self.reentrant:
            raise UsageError(
                "the model checkpoints activations with use_reentrant=True, whose backward does "
                "not reach the parameters given to it: write "
                "torch.utils.checkpoint.checkpoint(..., use_reentrant=False)."
            )
        with torch.enable_grad():
            value = self.outer(forward(self.x))
        if not value.requires_grad:  # none of θ takes part in this loss
            return {}
        return _reached(
            [get_gradient_edge(value)], leaves(), [torch.ones_like(value)], create_graph=graph
        )


def _again(slopes: Edges, leaves: Params, v: Params, keep: bool) -> Params:
    """⟨slopes, v⟩ differentiated by those of the leaves that it depends on."""
    if not slopes:  # the loss is linear in θ
        return {}
    vectors = [v[name] for name in slopes]
    return _reached([*slopes.values()], leaves, vectors, retain_graph=keep)


def _reached(
    outputs: Sequence[GradientEdge], leaves: Params, vectors: Sequence[Tensor], **how: bool
) -> Params:
    """⟨outputs, vectors⟩ differentiated by those of the leaves that it depends on.

    Given tensors, ``torch.autograd.grad`` leaves the ``Lean`` that this is within, and activation
    checkpoints would compute with other layers than the first time; given edges, it doesn't.
    """
    found = torch.autograd.grad(
        outputs,
        [get_gradient_edge(t) for t in leaves.values()],
        vectors,
        allow_unused=True,
        **how,
    )
    return {name: t for name, t in zip(leaves, found, strict=True) if t is not None}


def _whole(found: Params, leaves: Params) -> Params:
    """With zeros for what is missing."""
    return {
        name: found[name] if name in found else torch.zeros_like(t) for name, t in leaves.items()
    }


def reentrant(
    model: nn.Module, full: Mapping[str, Tensor], params: Params, x: Tensor | Bundle
) -> bool:
    """Whether the network checkpoints activations reentrantly, which cuts the graph of θ.

    Such a function is in the graph only if its input is. Call it ``untouched``. ``full`` lacks
    ``params`` if it was asked for inside of ``Objective.call``.
    """
    own = {name: full.get(name, p).detach().requires_grad_() for name, p in params.items()}
    leaves = {**full, **own}
    if not isinstance(x, Bundle) and x.is_floating_point():
        x = x.detach().requires_grad_()
    with torch.enable_grad():
        output = at(model, leaves)(x)  # type: ignore[arg-type]
    return any(node.name() == "CheckpointFunctionBackward" for node in nodes(output))


def nodes(value: Tensor) -> Iterator[Any]:
    """The nodes of the graph behind a value."""
    seen: set[Any] = set()
    waiting = [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]
