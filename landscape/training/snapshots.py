"""Networks kept at the end of every period of a training, and what they predict together."""

from __future__ import annotations

import math

from torch import Tensor

from landscape.models import ModelSpec
from landscape.training.budget import Budget

_KEY = "snapshot"


def keep(
    budget: Budget | None,
    weights: dict[str, Tensor],
    memory: dict[str, Tensor],
    epoch: int,
    epochs: int,
) -> None:
    """Copy a ``state_dict`` into ``memory`` if a period ends with ``epoch``, counted from 1.

    A period that ends within an epoch ends with it. Without periods nothing is kept.
    """
    if budget is None or not budget.periods:
        return
    ends = [math.ceil(end) for end in (*budget.periods, epochs)]
    if epoch in ends:
        k = ends.index(epoch)
        memory.update({f"{_KEY}.{k}.{n}": t.detach().clone() for n, t in weights.items()})


def members(memory: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The ``state_dict`` of every snapshot, in the order of the periods."""
    found: dict[int, dict[str, Tensor]] = {}
    for name, value in memory.items():
        key, _, rest = name.partition(".")
        if key == _KEY:
            k, _, own = rest.partition(".")
            found.setdefault(int(k), {})[own] = value
    return [found[k] for k in sorted(found)]


def ensemble(
    spec: ModelSpec, states: list[dict[str, Tensor]]
) -> tuple[ModelSpec, dict[str, Tensor]]:
    """The specification and the ``state_dict`` of the ensemble of networks of one ``spec``.

    The normalisation of the inputs, where there is one, is the ensemble's (``models.Ensemble``).
    """
    options = {**spec.options, "members": len(states)}
    whole = ModelSpec(
        f"ensemble:{spec.name}", spec.in_shape, spec.num_classes, spec.normalize, options
    )
    inner = "" if spec.normalize is None else "network."
    found = {}
    for k, state in enumerate(states):
        for name, value in state.items():
            if name.startswith(inner):
                found[f"{inner}members.{k}.{name.removeprefix(inner)}"] = value
            else:
                found[name] = value
    return whole, found
