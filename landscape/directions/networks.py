"""Directions through other networks: the plane of two or three, the plane of a training."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from landscape import params as P
from landscape.directions.plane import Directions, matrix
from landscape.errors import UsageError
from landscape.params import Params


def between(params: Params, others: Mapping[str, Params]) -> Directions:
    """The line from θ to another network, or the plane through θ and two others.

    d₁ = θ_B − θ, so that x = 1 is B. In a plane d₂ is the part of θ_C − θ that is orthogonal to
    d₁, with the length of d₁: lengths on both axes compare, and C lies where its mark is
    (Garipov et al. 2018).
    """
    if len(others) not in (1, 2):
        raise UsageError(
            f"directions between networks need one other (a line) or two (a plane), got "
            f"{len(others)}."
        )
    rows = matrix(params, others)
    names = list(others)
    vectors = [rows[0]]
    if not float(rows[0].norm()) > 0:
        raise UsageError(f"{names[0]} has the same parameters: there is no line between them.")
    if len(rows) == 2:
        rest = rows[1] - rows[0] * (rows[1] @ rows[0] / (rows[0] @ rows[0]))
        if float(rest.norm()) <= 1e-6 * float(rows[1].norm()):
            raise UsageError("the three networks lie on a line: leave one out.")
        vectors.append(rest * (rows[0].norm() / rest.norm()))
    basis = torch.stack(vectors)
    coordinates = _coordinates(rows, basis)
    coordinates[0] = [1.0, 0.0]  # without the rounding
    return Directions(
        "between",
        _as_params(basis, params),
        marks={name: _pair(at) for name, at in zip(names, coordinates, strict=True)},
    )


def trajectory(params: Params, others: Mapping[str, Params], count: int = 2) -> Directions:
    """The principal directions of a training's networks around θ, its last (Li et al. 2018, §7).

    Unit vectors: the first right singular vectors of the rows θ_i − θ, not centred, so that the
    path ends in the origin. ``explained`` is the share of Σ‖θ_i − θ‖² along each. d₁ points to
    where the training began.
    """
    if len(others) < 2:
        raise UsageError(
            f"the plane of a training needs at least 2 checkpoints besides the last, got "
            f"{len(others)}: train with --keep-every 1."
        )
    rows = matrix(params, others)
    total = float((rows**2).sum())
    if not total > 0:
        raise UsageError("the checkpoints of the training are all the same: nothing moved.")
    # Through the small Gram matrix: there are far fewer checkpoints than parameters.
    values, left = torch.linalg.eigh(rows @ rows.T)
    order = torch.arange(len(values) - 1, len(values) - 1 - count, -1)
    basis = left[:, order].T @ rows
    lengths = basis.norm(dim=1, keepdim=True)
    if not bool((lengths > 1e-6 * total**0.5).all()):
        raise UsageError("the training moved along a line: draw it in one dimension (--grid 51).")
    basis = basis / lengths
    signs = torch.where(basis @ rows[0] < 0, -1.0, 1.0)
    basis = basis * signs[:, None]
    coordinates = _coordinates(rows, basis)
    return Directions(
        "trajectory",
        _as_params(basis, params),
        path=(*(_pair(at) for at in coordinates), (0.0, 0.0)),
        explained=tuple(float(v) / total for v in values[order]),
    )


def _coordinates(rows: torch.Tensor, basis: torch.Tensor) -> list[list[float]]:
    """Of rows along orthogonal basis vectors."""
    found: list[list[float]] = (rows @ basis.T / (basis**2).sum(1)).tolist()
    return found


def _pair(at: list[float]) -> tuple[float, float]:
    return (at[0], at[1] if len(at) > 1 else 0.0)


def _as_params(basis: torch.Tensor, like: Params) -> tuple[Params, ...]:
    dtype = next(iter(like.values())).dtype
    return tuple(P.unflatten(row.to(dtype), like) for row in basis)
