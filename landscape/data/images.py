"""Labelled images in a fixed order: ``ImageData`` and the two ways its pixels are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from landscape.errors import DataError, UsageError

MEMORY_LIMIT = 4 * 2**30  # bytes of float32 that ``tensors()`` hands out without objection


class Store(Protocol):
    """Where pixels are: uint8 in 0..255, or float32 in [0, 1]; [N, C, H, W] either way."""

    def __len__(self) -> int: ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        ...

    def read(self, rows: slice) -> Tensor:
        """The images of ``rows`` in the stored type, as a fresh tensor."""
        ...

    def take(self, rows: np.ndarray) -> Store:
        """The store that holds only ``rows``, in that order."""
        ...


@dataclass(frozen=True)
class ArrayImages:
    """Images held in memory: [N, C, H, W], uint8 or float32."""

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.values.shape[1:]
        return channels, height, width

    def read(self, rows: slice) -> Tensor:
        # A copy, so that a caller's in-place operation can't change the data of the next pass.
        return self.values[rows].clone()

    def take(self, rows: np.ndarray) -> ArrayImages:
        return ArrayImages(self.values[torch.from_numpy(rows)])


@dataclass(frozen=True)
class FileImages:
    """Image files, decoded when read: RGB, shorter side to ``resize``, centre crop to ``size``."""

    paths: Sequence[Path]
    size: int
    resize: int

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.size, self.size

    def read(self, rows: slice) -> Tensor:
        paths = self.paths[rows]
        if len(paths) < 2:
            return torch.stack([self._decode(path) for path in paths])
        # Threads, as PIL decodes outside the interpreter lock; ``map`` keeps the order.
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            return torch.stack(list(pool.map(self._decode, paths)))

    def take(self, rows: np.ndarray) -> FileImages:
        return FileImages([self.paths[row] for row in rows], self.size, self.resize)

    def _decode(self, path: Path) -> Tensor:
        from PIL import Image
        from torchvision.transforms import functional

        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except (OSError, SyntaxError, ValueError, EOFError) as error:  # what PIL's readers raise
            raise DataError(
                f"{path} can't be read as an image: {error}. Replace the file."
            ) from error
        image = functional.center_crop(functional.resize(image, [self.resize]), [self.size])
        pixels: Tensor = functional.pil_to_tensor(image)
        return pixels


class ImageData(Dataset[tuple[Tensor, Tensor]]):
    """One split of a data set: images in [0, 1], float32 [C, H, W], and int64 labels.

    Map-style, in a fixed order, without augmentation. ``indices[i]`` is the position of example
    ``i`` in the file it came from (for image folders: in the sorted list of files), so that
    per-example results can be matched between subsets.
    """

    def __init__(
        self,
        name: str,
        split: str,
        images: Store,
        labels: Tensor,
        indices: Tensor,
        classes: tuple[str, ...],
    ) -> None:
        self.name = name
        self.split = split
        self.images = images
        self.labels = labels
        self.indices = indices
        self.classes = classes

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.images.shape

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name}/{self.split} has {len(self)} examples, not {index}.")
        index %= len(self)
        x, y = self._read(slice(index, index + 1))
        return x[0], y[0]

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.in_shape))
        return (
            f"ImageData({self.name}/{self.split}: {len(self)} images {shape}, "
            f"{self.num_classes} classes)"
        )

    def tensors(self) -> tuple[Tensor, Tensor]:
        """All of it: float32 [N, C, H, W] in [0, 1] and int64 [N]."""
        needed = len(self) * int(np.prod(self.in_shape)) * 4
        if needed > MEMORY_LIMIT:
            raise DataError(
                f"{self.name}/{self.split} would take {needed / 2**30:.1f} GiB as one tensor: "
                f"go through .batches(batch_size), or ask for fewer with n_examples."
            )
        return self._read(slice(None))

    def take(self, rows: np.ndarray) -> ImageData:
        """The examples at ``rows``, in that order."""
        where = torch.from_numpy(rows)
        return ImageData(
            self.name,
            self.split,
            self.images.take(rows),
            self.labels[where],
            self.indices[where],
            self.classes,
        )

    def batches(self, batch_size: int) -> Batches:
        """Re-iterable (x, y) batches in the fixed order; the last may be smaller."""
        return Batches(self, batch_size)

    def in_memory(self) -> ImageData:
        """The same data with every image decoded once and kept as uint8 (no change if it is)."""
        if isinstance(self.images, ArrayImages):
            return self
        images = ArrayImages(self.images.read(slice(None)))
        return ImageData(self.name, self.split, images, self.labels, self.indices, self.classes)

    def _read(self, rows: slice) -> tuple[Tensor, Tensor]:
        x = self.images.read(rows)
        if x.dtype == torch.uint8:
            x = x.to(torch.float32).div_(255)
        return x, self.labels[rows].clone()


class Batches:
    """A re-iterable of (x, y) batches over an ``ImageData``: same order, same values, each time."""

    def __init__(self, data: ImageData, batch_size: int) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise UsageError(
                f"batch_size must be a whole number of at least 1, not {batch_size!r}."
            )
        self.data = data
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.data) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.data), self.batch_size):
            yield self.data._read(slice(start, start + self.batch_size))
