"""Kinds of directions to draw a surface along; ``DIRECTIONS`` names them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from landscape import params as P
from landscape.directions import derivatives, networks
from landscape.directions.plane import Directions, orthogonalised
from landscape.directions.random import random
from landscape.errors import UsageError, unknown
from landscape.objective import Objective
from landscape.params import Params
from landscape.random import Streams

__all__ = ["DIRECTIONS", "Directions", "Kind", "make", "orthogonalised", "random"]


@dataclass(frozen=True)
class Kind:
    """What a kind of directions is, and whether it needs other networks."""

    summary: str
    others: str = ""


DIRECTIONS: dict[str, Kind] = {
    "random": Kind("random, normalised to the weights (Li et al. 2018)"),
    "eigen": Kind("top eigenvectors of the Hessian, unit length"),
    "gradient": Kind("the gradient, unit length; then a random one, orthogonal and as long"),
    "adversarial": Kind("AWP's ascent direction; then a random one, orthogonal and as long"),
    "between": Kind("to one or two other networks", others="one or two checkpoints (--to)"),
    "trajectory": Kind(
        "principal directions of a training", others="the checkpoints of a run (its folder)"
    ),
}


def make(
    kind: str,
    objective: Objective,
    count: int,
    *,
    normalisation: str = "filter",
    one_d: str = "ignore",
    orthogonal: bool = False,
    others: Mapping[str, Params] | None = None,
    theta: Params | None = None,
    streams: Streams,
) -> Directions:
    """``count`` directions of a kind around the objective's own parameters.

    Args:
        normalisation, one_d: of random directions, see ``params.normalise``.
        orthogonal: make a second random direction orthogonal to the first, its length kept.
        others: for ``between`` and ``trajectory``, the parameters of other networks by name.
        theta: the objective's parameters, in the memory where random directions are wanted.
    """
    if kind not in DIRECTIONS:
        raise unknown("kind of directions", kind, DIRECTIONS)
    if DIRECTIONS[kind].others and not others:
        raise UsageError(f"directions '{kind}' need {DIRECTIONS[kind].others}.")
    theta = objective.params if theta is None else theta

    def drawn(n: int) -> list[Params]:
        return random(theta, n, normalisation=normalisation, one_d=one_d, streams=streams)

    if kind == "between":
        found = networks.between(theta, others or {})
        if len(found.vectors) != count:
            raise UsageError(
                f"{len(found.vectors)} other network(s) span {len(found.vectors)} dimension(s), "
                f"the grid has {count}: --grid 51 draws a line, --grid 41x21 a plane."
            )
        return found
    if kind == "trajectory":
        return networks.trajectory(theta, others or {}, count)
    if kind == "eigen":
        return Directions(kind, tuple(derivatives.eigen(objective, count, streams=streams)))
    made = {"normalisation": normalisation, "one_d": one_d, "orthogonal": orthogonal}
    if kind == "random":
        vectors = drawn(count)
        vectors = orthogonalised(vectors) if orthogonal else vectors
        return Directions(kind, tuple(vectors), made=made)
    first = getattr(derivatives, kind)(objective)
    if not P.norm(first) > 0:
        raise UsageError(f"the gradient is zero: there is no {kind} direction.")
    second = [P.scale(P.norm(first) / P.norm(d), d) for d in drawn(count - 1)]
    made["orthogonal"] = True
    return Directions(kind, tuple(orthogonalised([first, *second])), made=made)
