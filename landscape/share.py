"""The samples of the data that one of several processes works on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from landscape.batches import Batch, Batches
from landscape.parallel import Group


class Share:
    """A process's samples, which follow each other in the data; all of them if it is alone.

    Attributes:
        samples: how many they are. start: the place of the first of them in the data.
    """

    def __init__(self, batches: Batches, group: Group) -> None:
        self.group, self._batches = group, batches
        self.start, self._end = group.share(batches.samples)

    @property
    def samples(self) -> int:
        return self._end - self.start

    @property
    def first_batch(self) -> int:
        """The number of the first batch that holds some of them."""
        if self.group.size == 1:
            return 0
        return next(i for i, (_, _, mine) in enumerate(self.divided()) if mine.start < mine.stop)

    def divided(self) -> Iterator[tuple[Any, Tensor, slice]]:
        """All batches of the data, each with the rows that are this process's."""
        start, end = self.start, self._end
        for x, y in self._batches:
            low, high = (min(max(place, 0), len(y)) for place in (start, end))
            yield x, y, slice(low, high)
            start, end = start - len(y), end - len(y)

    def batches(self) -> Iterator[Batch]:
        """The samples, in batches."""
        if self.group.size == 1:
            yield from self._batches
            return
        for x, y, mine in self.divided():
            if mine.start < mine.stop:
                yield x[mine], y[mine]

    def before(self) -> Iterator[Any]:
        """The clean inputs of the samples before its own, whose random numbers are to be passed."""
        for x, _, mine in self.divided():
            if mine.start:
                yield x[: mine.start]

    def join(self, rows: Tensor) -> Tensor:
        """(N, ...) from every process's rows, one for each of its samples."""
        if self.group.size == 1:
            return rows
        return self.group.join(rows.to(self._batches.device), self._batches.samples)

    def sum(self, values: Tensor) -> Tensor:
        """What the processes have found, added up; in place."""
        return self.group.sum(values)
