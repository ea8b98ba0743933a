"""Kinds of directions to draw a surface along; ``DIRECTIONS`` names them all."""

from __future__ import annotations

from collections.abc import Callable

from landscape.directions.random import random
from landscape.params import Params

__all__ = ["DIRECTIONS", "random"]

DIRECTIONS: dict[str, Callable[..., list[Params]]] = {"random": random}
