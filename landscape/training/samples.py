"""Training data by row, shuffled anew every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from landscape.batches import Batches
from landscape.errors import DataError
from landscape.random import Streams

Augment = Callable[[Tensor, Generator], Tensor]


@dataclass(frozen=True)
class View:
    """How a batch came to be augmented, for parts that need it once more.

    Attributes:
        raw: the samples as they are in the data, (B, ...).
    """

    raw: Tensor
    augment: Augment | None
    state: Tensor

    def same(self, z: Tensor) -> Tensor:
        """Anything of the shape of ``raw`` through the very same crops and flips."""
        if self.augment is None:
            return z
        generator = torch.Generator()
        generator.set_state(self.state)
        return self.augment(z, generator)

    def another(self, generator: Generator) -> Tensor:
        """The samples augmented independently."""
        return self.raw if self.augment is None else self.augment(self.raw, generator)


class Samples:
    """The training samples on one device, in the dtype of the network.

    Args:
        data: a pair of tensors, a ``landscape.data.ImageData``, or anything whose batches fit
            into memory and don't change from pass to pass (``landscape.batches.Batches``).
        keep_bytes: image sets that are larger are read batch by batch.
    """

    def __init__(
        self, data: Any, device: torch.device, dtype: torch.dtype, *, keep_bytes: int = 4 << 30
    ) -> None:
        self.device, self.dtype = device, dtype
        self._images: Any = None
        if hasattr(data, "images") and hasattr(data, "labels"):
            pixels = len(data) * torch.Size(data.in_shape).numel()
            if pixels * 4 > keep_bytes:
                self._images, self.labels = data.images, data.labels
            else:
                self._x, self.labels = data.tensors()
        else:
            kept = list(Batches(data, device=device, dtype=dtype))
            self._x, self.labels = (torch.cat(column) for column in zip(*kept, strict=True))
        if self.labels.is_floating_point() or self.labels.ndim != 1:
            raise DataError(
                "training needs integer class labels of shape (N,), got "
                f"{tuple(self.labels.shape)} {str(self.labels.dtype).removeprefix('torch.')}."
            )
        self.labels = self.labels.to(device)
        if self._images is None:
            self._x = self._x.to(device, dtype)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The samples at ``rows``, an int64 vector on the CPU, in that order."""
        if self._images is None:
            there = rows.to(self.device)
            return self._x[there], self.labels[there]
        x = self._images.take(rows.numpy()).read(slice(None))
        x = x.to(self.device)
        x = x.to(self.dtype).div_(255) if x.dtype == torch.uint8 else x.to(self.dtype)
        return x, self.labels[rows.to(self.device)]

    def shuffled(
        self, batch_size: int, streams: Streams, augment: Augment | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, View]]:
        """One epoch: (rows, x, y, view) batches in an order, and augmented as, ``streams`` says."""
        generator = streams.generator("augmentation")
        for rows in self.order(batch_size, streams):
            raw, y = self.take(rows)
            view = View(raw, augment, generator.get_state())
            yield rows, raw if augment is None else augment(raw, generator), y, view

    def order(self, batch_size: int, streams: Streams) -> Iterator[Tensor]:
        """The rows of every batch of an epoch."""
        yield from torch.randperm(len(self), generator=streams.generator("shuffle")).split(
            batch_size
        )

    def batches(self, batch_size: int) -> int:
        """How many of them there are."""
        return -(-len(self) // batch_size)
