"""Orthonormal vectors that a Lanczos method grows: where and how they are kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from landscape import parallel
from landscape.linalg.operator import SymmetricOperator

# Products of numbers that are added up in the operator's precision, before float64.
_PIECE = 1 << 13


class Store:
    """Orthonormal vectors of length n as rows, in blocks that are taken as they are needed.

    The processes of a group keep a slice of every vector each; the vectors that come and go are
    whole, and the same in all of them.

    Args:
        operator: whose size, dtype and device the vectors that come and go have.
        device: where they are kept. From elsewhere than the operator's they are streamed, all of
            them twice for every vector that is made orthogonal to them.
    """

    block_bytes = 1 << 26

    def __init__(self, operator: SymmetricOperator, device: torch.device) -> None:
        self.operator, self.device = operator, device
        self.size = 0
        self._group = parallel.group()
        self._first, self._end = self._group.share(operator.size)
        row = max(1, self._end - self._first) * operator.dtype.itemsize
        self._rows = min(max(16, self.block_bytes // row), 64)
        self._blocks: list[Tensor] = []
        # Numbers of a vector that are worked on at a time: what a cache holds, and elsewhere
        # enough for a launch.
        self._columns = 1 << 18 if operator.device.type == "cpu" else 1 << 20

    def append(self, q: Tensor) -> None:
        row = self.size % self._rows
        if row == 0:
            rows = min(self._rows, self.operator.size - self.size)
            mine = self._end - self._first
            self._blocks.append(torch.empty(rows, mine, device=self.device, dtype=q.dtype))
        self._blocks[-1][row] = q[self._first : self._end]
        self.size += 1

    def dots(self, w: Tensor) -> np.ndarray:
        """Qᵀw (m,) in float64."""
        w = w[self._first : self._end]
        found = [torch.zeros(0, dtype=torch.float64, device=w.device)]
        for block in self._filled():
            total = torch.zeros(len(block), dtype=torch.float64, device=w.device)
            for columns, part in self._parts(block):
                total += _dots(part, w[columns])
            found.append(total)
        return self._group.sum(torch.cat(found)).cpu().numpy()

    def norm(self, w: Tensor) -> float:
        """‖w‖₂, summed in float64."""
        total = torch.zeros(1, dtype=torch.float64, device=w.device)
        w = w[self._first : self._end]
        for columns in self._slices():
            total += torch.linalg.vector_norm(w[columns], dtype=torch.float64) ** 2
        return float(self._group.sum(total).sqrt())

    def subtract(self, w: Tensor, components: np.ndarray) -> Tensor:
        """w − Q times ``components`` (m,), written over w."""
        found = w[self._first : self._end]
        pieces = self.numbers(components).split(self._rows)
        for block, mine in zip(self._filled(), pieces, strict=False):
            for columns, part in self._parts(block):
                found[columns].addmv_(part.T, mine, alpha=-1)
        return self._group.join(found, self.operator.size)

    def remove(self, w: Tensor) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """w minus its components along Q, written over it; those (m,), and what is left of them.

        What is left are rounding errors of the size of w as it was. It is found where the vectors
        are at hand for being subtracted.
        """
        components = self.dots(w)
        mine = w[self._first : self._end]
        pieces = self.numbers(components).split(self._rows)
        blocks = [*self._filled()]
        totals = [torch.zeros(len(b), dtype=torch.float64, device=w.device) for b in blocks]
        for columns in self._slices():
            here = [self._here(block[:, columns]) for block in blocks]
            part = mine[columns]
            for rows, piece in zip(here, pieces, strict=False):
                part.addmv_(rows.T, piece, alpha=-1)
            for rows, total in zip(here, totals, strict=True):
                total += _dots(rows, part)
        w = self._group.join(mine, self.operator.size)
        if not blocks:
            return w, components, components
        return w, components, self._group.sum(torch.cat(totals)).cpu().numpy()

    def polish(self, w: Tensor, left: np.ndarray) -> Tensor:
        """w without what ``remove`` has left, if that is more than w's own rounding errors."""
        most = torch.finfo(self.operator.dtype).eps * self.norm(w)
        return self.subtract(w, left) if np.abs(left).max(initial=0.0) > most else w

    def rotate(self, coordinates: np.ndarray) -> None:
        """Replace Q by Q times ``coordinates`` (m, p), p ≤ m, in place."""
        weights = self.numbers(coordinates.T)
        for columns in self._slices():
            turned = weights @ torch.cat([self._here(b[:, columns]) for b in self._filled()])
            for block, mine in zip(self._blocks, turned.split(self._rows), strict=False):
                block[: len(mine), columns] = mine
        self.size = coordinates.shape[1]
        del self._blocks[-(-self.size // self._rows) :]

    def release(self) -> Tensor:
        """Q as rows (m, n), where the operator is; the store is empty then."""
        blocks = [self._here(block) for block in self._filled()]
        self._blocks, self.size = [], 0
        found = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
        if self._group.size > 1:
            found = torch.stack([self._group.join(row, self.operator.size) for row in found])
        return found

    def numbers(self, values: np.ndarray) -> Tensor:
        """Coefficients as the operator has its numbers."""
        found = torch.as_tensor(np.ascontiguousarray(values))
        return found.to(self.operator.device, self.operator.dtype)

    def _filled(self) -> Iterator[Tensor]:
        for i, block in enumerate(self._blocks):
            yield block[: self.size - i * self._rows]

    def _slices(self) -> Iterator[slice]:
        for start in range(0, self._end - self._first, self._columns):
            yield slice(start, start + self._columns)

    def _parts(self, rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
        for columns in self._slices():
            yield columns, self._here(rows[:, columns])

    def _here(self, rows: Tensor) -> Tensor:
        return rows.to(self.operator.device)


def _dots(rows: Tensor, w: Tensor) -> Tensor:
    """Rows (m, n) times w (n,), in float64.

    Over eleven million numbers in float32 torch's product is off by 10⁻⁵; sums over pieces, added
    in float64, by 10⁻⁸.
    """
    # A batched product is one launch, but takes a CPU three times as long.
    return _one_by_one(rows, w) if w.device.type == "cpu" else _at_once(rows, w)


def _one_by_one(rows: Tensor, w: Tensor) -> Tensor:
    total = torch.zeros(len(rows), dtype=torch.float64, device=w.device)
    for start in range(0, len(w), _PIECE):
        piece = slice(start, start + _PIECE)
        total += rows[:, piece] @ w[piece]
    return total


def _at_once(rows: Tensor, w: Tensor) -> Tensor:
    if len(rows) == 1:  # torch would add up one by one
        return _at_once(rows.repeat(2, 1), w)[:1]
    whole = len(w) // _PIECE * _PIECE
    pieces = rows[:, :whole].unflatten(1, (-1, _PIECE)).transpose(0, 1)
    found = torch.bmm(pieces, w[:whole].view(-1, _PIECE, 1)).sum(0, dtype=torch.float64)[:, 0]
    return found + rows[:, whole:] @ w[whole:]


def own(w: Tensor, q: Tensor) -> Tensor:
    """A product with q in memory of its own, to be worked on in place.

    What an operator returns may be q itself, or one number seen many times.
    """
    if w.is_contiguous() and w.untyped_storage().data_ptr() != q.untyped_storage().data_ptr():
        return w
    return w.clone(memory_format=torch.contiguous_format)
