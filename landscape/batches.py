"""Data that can be read again: the same batches at every pass, or a refusal.

Every landscape quantity compares several passes over the data, so a loader that shuffles,
augments or runs dry gives numbers that look right and aren't.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from landscape.errors import DataError
from landscape.params import as_bytes
from landscape.structured import Bundle, pair

# Inputs are a tensor, or a Bundle of several, which behaves like one here.
Batch = tuple[Tensor, Tensor]

_REWRITE = (
    "build it with DataLoader(dataset, batch_size=..., shuffle=False) over a dataset without "
    "random augmentation, or pass a list of batches"
)


class Batches:
    """A verified, re-iterable view of ``(x, y)`` batches, on one device and in one dtype.

    Args:
        data: a pair of tensors ``(x, y)``, a list of batches, a ``Dataset``, a ``DataLoader`` or
            any other re-iterable of batches. The x of a batch may be a dictionary or tuple of
            tensors, and a batch a dictionary with ``labels``.
        device, dtype: where the batches go; only floating tensors change dtype.
        batch_size: for a pair of tensors and a ``Dataset``; ignored otherwise.
        keep_bytes: data up to this size are read from the source once, verified by a second
            reading and then kept in memory; larger data are read and verified at every pass.
    """

    def __init__(
        self,
        data: Any,
        *,
        device: torch.device,
        dtype: torch.dtype,
        batch_size: int = 256,
        keep_bytes: int = 2 << 30,
    ) -> None:
        if batch_size < 1:
            raise DataError(f"batch_size must be at least 1, got {batch_size}.")
        self.device, self.dtype, self.keep_bytes = device, dtype, keep_bytes
        self._source, self._in_memory = _as_iterable(data, batch_size)
        self._kept: list[Batch] | None = None
        self._marks: list[bytes] = []
        self._check_first_batch()
        self._verify()

    @property
    def in_memory(self) -> bool:
        """Whether passes are served from memory rather than from the source."""
        return self._kept is not None

    def __iter__(self) -> Iterator[Batch]:
        if self._kept is not None:
            yield from self._kept
            return
        for (x, y), _ in self._read(check=True):
            yield self._place(x, y)

    def __len__(self) -> int:
        return len(self._marks)

    def _place(self, x: Tensor, y: Tensor) -> Batch:
        if isinstance(x, Bundle):
            x = x.place(self.device, self.dtype)
        else:
            x = x.to(self.device, self.dtype) if x.is_floating_point() else x.to(self.device)
        y = y.to(self.device, self.dtype) if y.is_floating_point() else y.to(self.device)
        return x, y

    def _check_first_batch(self) -> None:
        """Two first batches: an early answer for almost every shuffling or augmenting loader."""
        if self._in_memory:
            return
        first, second = (next((b for b in self._source), None) for _ in range(2))
        if first is None or second is None:
            return
        # Bytes, because NaN differs from itself.
        if any(
            a.shape != b.shape or _bytes(a) != _bytes(b)
            for a, b in zip(pair(first, 0), pair(second, 0), strict=True)
        ):
            raise _changed(0)

    def _verify(self) -> None:
        """First pass: count, digest, keep what fits. A second reading checks what is kept."""
        kept: list[Batch] | None = []
        used = 0
        self.samples = 0
        self.digest = ""
        # Smallest and largest class label, each with the batch it was met in.
        self.labels: tuple[tuple[int, int], tuple[int, int]] | None = None
        for index, ((x, y), digest) in enumerate(self._read(check=False)):
            if not y.is_floating_point():
                seen = ((int(y.min()), index), (int(y.max()), index))
                low, high = self.labels or seen
                self.labels = min(low, seen[0]), max(high, seen[1], key=lambda pair: pair[0])
            self.samples += x.shape[0]
            self.digest = digest
            used += x.numel() * x.element_size() + y.numel() * y.element_size()
            if used > self.keep_bytes and not self._in_memory:
                kept = None
            if kept is not None:
                # Cloned, because a source may fill the same tensors again for its next batch.
                kept.append(self._place(x, y) if self._in_memory else self._place(*_clone(x, y)))
        if self.samples == 0:
            raise DataError("the data are empty: expected at least one batch with one sample.")
        if kept is not None and not self._in_memory:
            for _ in self._read(check=True):
                pass
        self._kept = kept

    def _read(self, *, check: bool) -> Iterator[tuple[Batch, str]]:
        """Batches from the source with a digest of all samples so far, whatever the batching."""
        hx, hy = hashlib.sha256(), hashlib.sha256()
        entries: dict[str, Any] = {}
        marks: list[bytes] = []
        for index, item in enumerate(self._source):
            x, y = pair(item, index)
            if x.shape[0] == 0:
                continue
            hy.update(as_bytes(y))
            if isinstance(x, Bundle):
                mark = x.digests(entries) + hy.digest()
            else:
                hx.update(as_bytes(x))
                mark = hx.digest() + hy.digest()
            if check and (len(marks) >= len(self._marks) or mark != self._marks[len(marks)]):
                raise _changed(index)
            marks.append(mark)
            yield (x, y), hashlib.sha256(mark).hexdigest()
        if check and len(marks) != len(self._marks):
            raise DataError(
                f"the data gave {len(self._marks)} batches in one pass and {len(marks)} in the "
                f"next: {_REWRITE}."
            )
        self._marks = marks


def _as_iterable(data: Any, batch_size: int) -> tuple[Iterable[Any], bool]:
    """The source of batches, and whether its batches are tensors that already sit in memory."""
    if isinstance(data, tuple) and len(data) == 2 and all(torch.is_tensor(t) for t in data):
        x, y = data
        if x.ndim == 0 or y.ndim == 0 or x.shape[0] != y.shape[0]:
            raise DataError(
                f"x has {x.shape[0] if x.ndim else 0} samples and y "
                f"{y.shape[0] if y.ndim else 0}: give one target per sample."
            )
        return list(zip(x.split(batch_size), y.split(batch_size), strict=True)), True
    if isinstance(data, DataLoader):
        return data, False
    if hasattr(data, "batches"):  # landscape.data's own sets
        return data.batches(batch_size), False
    if isinstance(data, Dataset):
        return DataLoader(data, batch_size=batch_size, shuffle=False), False
    if isinstance(data, (list, tuple)):
        return list(data), True
    if isinstance(data, Iterator):
        raise DataError(
            f"the data can be read only once ({type(data).__name__} is an iterator): {_REWRITE}."
        )
    if isinstance(data, Iterable):
        return data, False
    raise DataError(
        f"expected a DataLoader, a list of (x, y) batches or a pair of tensors, "
        f"got {type(data).__name__}."
    )


def _bytes(values: Any) -> Any:
    return values.digests({}) if isinstance(values, Bundle) else as_bytes(values)


def _clone(x: Tensor, y: Tensor) -> Batch:
    return x.clone(), y.clone()


def _changed(index: int) -> DataError:
    return DataError(
        f"batch {index} differed between two passes (the loader shuffles or augments): {_REWRITE}."
    )
