"""Timing two or more ways of doing the same thing, turn by turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def interleaved(
    ways: Mapping[str, Callable[[], object]], repeats: int = 7, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each way at each repeat; the ways take turns, so that drift hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warmup + repeats):
        for name, way in ways.items():
            _settle()
            start = time.perf_counter()
            way()
            _settle()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, to: str) -> float:
    """Median over the turns of seconds[name] / seconds[to]."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[to], strict=True))


def median(seconds: list[float]) -> float:
    return statistics.median(seconds)


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
