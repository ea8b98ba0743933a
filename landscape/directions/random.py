"""Random directions, filter-normalised by default (Li et al. 2018)."""

from __future__ import annotations

from landscape import params as P
from landscape.params import Params
from landscape.random import Streams


def random(
    params: Params,
    count: int,
    *,
    normalisation: str = "filter",
    one_d: str = "ignore",
    streams: Streams,
) -> list[Params]:
    """``count`` independent N(0, I) directions, normalised by ``params.normalise``.

    With filter normalisation a unit step along a direction moves every filter by its own norm,
    which makes surfaces of differently scaled networks comparable. Direction i of a seed does not
    depend on ``count``.
    """
    return [
        P.normalise(
            P.random_like(params, streams.child("direction", i)), params, normalisation, one_d
        )
        for i in range(count)
    ]
