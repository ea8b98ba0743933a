"""What linear algebra here needs of a matrix: its size and its products."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class SymmetricOperator(Protocol):
    """A symmetric n × n matrix known by its products ``A @ v``, v of shape (n,) or (n, j)."""

    @property
    def size(self) -> int: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def __matmul__(self, vector: Tensor) -> Tensor: ...


class Dense:
    """A symmetric matrix held in memory, as an operator.

    >>> (Dense(torch.eye(2)) @ torch.ones(2)).tolist()
    [1.0, 1.0]
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.size, self.dtype, self.device = len(matrix), matrix.dtype, matrix.device

    def __matmul__(self, vector: Tensor) -> Tensor:
        return self.matrix @ vector
