"""Additional training data: half of every batch from either set."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from landscape.errors import DataError
from landscape.random import Streams
from landscape.training.samples import Samples


class Mixed(Samples):
    """Samples joined by additional ones, for adversarial fine-tuning (liu2022 §6.2, App. C.2).

    Half of a batch comes from the data themselves, half from the additional ones (with an odd
    batch size one less). An epoch is a pass over the additional data, during which the others
    are gone through as often as it takes, in a new order every time. Additional samples have the
    rows after the others.
    """

    def __init__(self, own: Samples, extra: Samples) -> None:
        self.device, self.dtype = own.device, own.dtype
        self.own, self.extra = own, extra
        shapes = [tuple(part.take(torch.arange(1))[0].shape[1:]) for part in (own, extra)]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"the additional data have inputs of shape {shapes[1]}, the training data of "
                f"{shapes[0]}: they must be alike."
            )
        self.labels = torch.cat([own.labels, extra.labels])

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        first = rows < len(self.own)
        x, y = self.own.take(rows[first])
        other_x, other_y = self.extra.take(rows[~first] - len(self.own))
        order = torch.cat([first.nonzero(), (~first).nonzero()]).squeeze(1).argsort()
        there = order.to(self.device)
        return torch.cat([x, other_x])[there], torch.cat([y, other_y])[there]

    def order(self, batch_size: int, streams: Streams) -> Iterator[Tensor]:
        half = max(1, batch_size // 2)
        extra = torch.randperm(len(self.extra), generator=streams.generator("shuffle extra"))
        own = torch.empty(0, dtype=torch.int64)
        for part in extra.split(half):
            wanted = len(part) + (batch_size - 2 * half if len(part) == half else 0)
            while len(own) < wanted:
                more = torch.randperm(len(self.own), generator=streams.generator("shuffle"))
                own = torch.cat([own, more])
            rows, own = own[:wanted], own[wanted:]
            yield torch.cat([rows, part + len(self.own)])

    def batches(self, batch_size: int) -> int:
        return -(-len(self.extra) // max(1, batch_size // 2))
