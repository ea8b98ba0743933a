"""Whether a loss can be differentiated twice, and is right then."""

from __future__ import annotations

import torch

from landscape import params as P
from landscape.errors import UsageError
from landscape.functional import Term, nodes
from landscape.random import Streams

# Backward of functions that are constant between jumps; autograd takes their derivative as zero.
_STEPS = {f"{name.title()}Backward0": name for name in ("sign", "round", "floor", "ceil", "trunc")}

# What autograd calls the backward of a function that can be differentiated once only.
_CUT = ("torch::autograd::Error", "torch::autograd::NotImplemented")


def check_differentiable(term: Term) -> None:
    """Refuse a loss that θ does not reach, or that can't be differentiated twice, saying why.

    Or one whose second derivatives are not symmetric, ⟨u, ∇²v⟩ ≠ ⟨v, ∇²u⟩: then the backward of an
    operation has a wrong derivative.
    """
    leaves = {name: t.detach().requires_grad_() for name, t in term.theta.items()}
    with torch.enable_grad():
        value = term(leaves)
    if not value.requires_grad:
        raise UsageError(
            "the loss does not depend on θ by differentiable operations: argmax, round, sign and "
            "detach cut the dependence, and parameters that take no part have none."
        )
    reason, lopsided = "its backward has no derivative", False
    try:
        gradient = term.gradient(graph=True)
        steps = sorted({node.name() for node in nodes(value)} & _STEPS.keys())
        if steps and not any(bool(g.any()) for g in gradient):
            raise UsageError(
                f"the gradient is zero everywhere: {', '.join(_STEPS[s] for s in steps)} has no "
                "slope, so nothing passes it. Measure the network without it."
            )
        # autograd leaves out what it has marked so, without a word: the Hessian would lack it.
        cut = any(node.name() in _CUT for g in gradient for node in nodes(g))
        if not cut:
            lopsided = _lopsided(term)
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        if not any(words in reason for words in ("derivative", "differentiate", "differentiable")):
            raise
        cut = True
    if not (cut or lopsided):
        return
    custom = {
        type(node).__name__.removesuffix("Backward")
        for node in nodes(value)
        if isinstance(node, torch.autograd.function.BackwardCFunction)
    }
    named = f" through {', '.join(sorted(custom))}" if custom else ""
    if cut:
        raise UsageError(
            f"the loss can't be differentiated twice{named}: {reason}. Write the operation with "
            "torch's own, or measure what needs no Hessian."
        )
    raise UsageError(
        f"the second derivatives of the loss are not symmetric{named}, so they are wrong: the "
        "backward of an operation has a wrong derivative. Write the operation with others, or "
        "measure what needs no Hessian."
    )


def _lopsided(term: Term) -> bool:
    """Whether the Hessian is not symmetric, by two products with vectors at random."""
    u, v = (P.random_like(term.theta, Streams(seed, "symmetry")) for seed in (0, 1))
    of_u, of_v = map(term.hessian(), (u, v))
    one, other = P.dot(u, of_v), P.dot(v, of_u)
    # What is not symmetric adds its Frobenius norm, and that of the Hessian is ‖∇²u‖.
    eps = torch.finfo(next(iter(u.values())).dtype).eps
    return abs(one - other) > eps**0.5 * (P.norm(of_u) + P.norm(of_v))
