"""Which examples belong to which split or subset: class by class, fixed by a seed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.random import PCG64

from landscape.errors import UsageError


def order(n: int, seed: int) -> np.ndarray:
    """A permutation of 0..n-1.

    numpy promises the raw bits of PCG64 for ever, but not how ``Generator.permutation`` uses
    them: so the raw bits are sorted here, and splits stay as they are under any version.
    """
    return np.argsort(PCG64(seed).random_raw(n), kind="stable")


def proportional(counts: np.ndarray, size: int) -> np.ndarray:
    """``size`` divided among classes in the ratio of ``counts``: largest remainders, then index."""
    quotas, remainders = np.divmod(counts.astype(np.int64) * size, int(counts.sum()))
    leftover = size - int(quotas.sum())
    quotas[np.argsort(-remainders, kind="stable")[:leftover]] += 1
    return quotas


def balanced(counts: np.ndarray, size: int) -> np.ndarray:
    """``size`` divided among classes as evenly as ``counts`` allow; ties to the lower index."""
    quotas = np.zeros_like(counts)
    while (left := size - int(quotas.sum())) > 0:
        open_classes = np.flatnonzero(quotas < counts)
        share = left // len(open_classes)
        if share == 0:
            quotas[open_classes[:left]] += 1
        else:
            quotas[open_classes] = np.minimum(quotas[open_classes] + share, counts[open_classes])
    return quotas


def carve(labels: np.ndarray, sizes: Mapping[str, int | None], seed: int) -> dict[str, np.ndarray]:
    """Cut one file into class-stratified splits; together they hold each example exactly once.

    ``sizes`` gives the examples of each split; at most one is None and takes what remains.
    Returns sorted positions, so that every split keeps the order of the file.
    """
    wanted = sum(size for size in sizes.values() if size is not None)
    if None in sizes.values():
        if wanted >= len(labels):
            raise ValueError(f"{len(labels)} images are too few to set {wanted} apart")
    elif wanted != len(labels):
        raise ValueError(f"{len(labels)} images instead of {wanted}")
    rest = order(len(labels), seed)
    parts: dict[str, np.ndarray] = {}
    for name, size in sizes.items():
        if size is not None:
            counts = np.bincount(labels[rest], minlength=int(labels.max()) + 1)
            chosen = _first_of_each(labels[rest], proportional(counts, size))
            parts[name], rest = np.sort(rest[chosen]), rest[~chosen]
    return parts | {name: np.sort(rest) for name, size in sizes.items() if size is None}


def subset(labels: np.ndarray, n_examples: int, seed: int) -> np.ndarray:
    """Sorted positions of ``n_examples``, as many of each class as possible.

    With one seed, a smaller subset lies inside a larger one.
    """
    if isinstance(n_examples, bool) or not isinstance(n_examples, int | np.integer):
        raise UsageError(f"n_examples must be a whole number, not {n_examples!r}.")
    if not 1 <= n_examples <= len(labels):
        raise UsageError(
            f"n_examples must lie between 1 and the {len(labels)} available, not {n_examples}."
        )
    shuffled = order(len(labels), seed)
    quotas = balanced(np.bincount(labels), int(n_examples))
    return np.sort(shuffled[_first_of_each(labels[shuffled], quotas)])


def extremes(labels: np.ndarray, scores: np.ndarray, size: int) -> np.ndarray:
    """Sorted positions of ``size`` with the highest scores, equally many of every class.

    The remainder of an uneven division goes to the lower classes, ties to the lower position.
    """
    counts = np.bincount(labels)
    quotas = balanced(np.full_like(counts, size), size)
    if size < 1 or (counts < quotas).any():
        least = int(counts.argmin())
        raise UsageError(
            f"a class-balanced subset of {size}: sizes lie in 1..{counts[least] * len(counts)}, as "
            f"class {least} has {counts[least]} of the {len(labels)} examples."
        )
    ordered = np.argsort(-scores, kind="stable")
    return np.sort(ordered[_first_of_each(labels[ordered], quotas)])


def _first_of_each(labels: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """Mask of the first ``quotas[c]`` entries of every class c."""
    chosen = np.zeros(len(labels), dtype=bool)
    for label, quota in enumerate(quotas):
        chosen[np.flatnonzero(labels == label)[:quota]] = True
    return chosen
