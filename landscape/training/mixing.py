"""Additional training data: half of every batch from either set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.data import entry_of, load
from landscape.errors import DataError, UsageError
from landscape.models import ModelSpec
from landscape.random import Streams
from landscape.training.samples import Samples


@dataclass(frozen=True)
class Extra:
    """Which additional data: a row of ``landscape.data.DATASETS`` or ``package.module:factory``.

    Attributes:
        split: of it. n_examples: how many, as evenly over the classes as possible; ``None`` for
            all. options: of ``landscape.data.load``.
    """

    data: str
    split: str = "train"
    n_examples: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n_examples is not None and self.n_examples < 1:
            raise UsageError(f"the extra examples must be at least 1, got {self.n_examples}.")
        if ":" not in self.data:
            splits = entry_of(self.data).splits
            if self.split not in splits:
                raise UsageError(
                    f"{self.data} has no split '{self.split}' for the extra data. "
                    f"Splits: {', '.join(splits)}."
                )

    def check(self, model: ModelSpec, data: str) -> None:
        """Refuse data that don't go with the network, or that ``data`` is measured on."""
        if self.data == data and self.split in ("val", "test"):
            raise UsageError(
                f"the extra data can't be the split '{self.split}' of {data}, which the training "
                "is measured on."
            )
        if ":" in self.data:
            return
        entry = entry_of(self.data)
        if entry.num_classes not in (None, model.num_classes):
            raise UsageError(
                f"the extra data {self.data} have {entry.num_classes} classes, the model has "
                f"{model.num_classes}."
            )
        if entry.in_shape not in (None, tuple(model.in_shape)):
            raise UsageError(
                f"the extra data {self.data} have inputs of shape {entry.in_shape}, the model "
                f"takes {tuple(model.in_shape)}."
            )

    def load(self, data_dir: str | Path | None) -> Any:
        """The data themselves."""
        return load(
            self.data, self.split, data_dir=data_dir, n_examples=self.n_examples, **self.options
        )

    def describe(self) -> dict[str, Any]:
        """Every setting, JSON-able."""
        return dataclasses.asdict(self)


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
