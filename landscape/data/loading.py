"""``load``: from a name and a split to an ``ImageData``. Every error gets its context here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landscape.data.factory import from_factory
from landscape.data.images import ArrayImages, ImageData
from landscape.data.places import check_options, data_folder
from landscape.data.source import Damaged, Missing, Source
from landscape.data.splits import carve, subset
from landscape.data.table import DatasetEntry, entry_of
from landscape.errors import DataError, UsageError


def load(
    name: str,
    split: str = "test",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    n_examples: int | None = None,
    seed: int = 0,
    **options: Any,
) -> ImageData:
    """One split of a data set, read from disk; nothing is downloaded.

    ``n_examples`` takes that many, as evenly over the classes as possible, chosen by ``seed``
    and kept in file order. The splits themselves don't depend on ``seed``. ``options`` are the
    data set's own (``corruption`` and ``severity``, ``size``, ``image_size``); the table
    ``DATASETS`` lists them.

    ``name`` may also be ``package.module:factory``. What the factory returns is returned as it
    is (so not necessarily an ``ImageData``): a re-iterable of (x, y) batches.

    >>> load("digits", "test", n_examples=100).in_shape
    (1, 8, 8)
    """
    if ":" in name:
        given = {"data_dir": data_dir, "n_examples": n_examples, **options}
        return from_factory(name, given, {"split": split, "seed": seed})
    entry = entry_of(name)
    if split not in entry.splits:
        raise UsageError(f"{name} has no split '{split}'. Splits: {', '.join(entry.splits)}.")
    check_options(name, "data", options, entry.options)
    root = data_folder(data_dir)
    file = entry.splits[split].file
    try:
        source = entry.loader(root, file, **options)
    except (Missing, Damaged) as error:
        fetching = {key: value for key, value in options.items() if key == "size"}
        if split == "extra":
            fetching["extra"] = True
        raise DataError(_unusable(entry, root, error, fetching)) from error
    _check(source, entry, root / file if entry.remote is None else root)
    rows = _rows(source, entry, split)
    if n_examples is not None:
        rows = rows[subset(source.labels.numpy()[rows], n_examples, seed)]
    # A whole file is taken as it is: SVHN's extra split would otherwise be copied, all 1.6 GB.
    images = source.images if len(rows) == len(source.labels) else source.images.take(rows)
    labels = source.labels[torch.from_numpy(rows)]
    indices = torch.from_numpy(rows) + source.first
    return ImageData(name, split, images, labels, indices, source.classes)


def _rows(source: Source, entry: DatasetEntry, split: str) -> np.ndarray:
    """Sorted positions of the split in its file."""
    file = entry.splits[split].file
    sizes = {name: part.size for name, part in entry.splits.items() if part.file == file}
    if sizes == {split: None}:
        return np.arange(len(source.labels))
    try:
        return carve(source.labels.numpy(), sizes, entry.split_seed)[split]
    except ValueError as error:
        raise DataError(
            f"{entry.name}: can't cut '{file}' into {', '.join(sizes)}: {error}."
        ) from error


def _check(source: Source, entry: DatasetEntry, where: Path) -> None:
    """Refuse what can't be right: no images, labels or pixels out of range, wrong shapes."""
    labels, images = source.labels, source.images
    if len(labels) == 0:
        raise DataError(f"{entry.name} in {where} holds no images.")
    if len(images) != len(labels):
        raise DataError(
            f"{entry.name} in {where} has {len(images)} images but {len(labels)} labels."
        )
    if entry.num_classes is not None and len(source.classes) != entry.num_classes:
        raise DataError(
            f"{entry.name} in {where} names {len(source.classes)} classes "
            f"instead of {entry.num_classes}."
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(source.classes):
        raise DataError(
            f"{entry.name} in {where} has labels from {low} to {high}: "
            f"expected 0 to {len(source.classes) - 1}."
        )
    if not isinstance(images, ArrayImages):
        return
    if entry.in_shape is not None and images.shape != entry.in_shape:
        raise DataError(
            f"{entry.name} in {where} has images of shape {images.shape} instead of "
            f"{entry.in_shape}."
        )
    values = images.values
    # uint8 is in range by its type; NaN fails the comparison.
    if values.dtype != torch.uint8 and not bool(((values >= 0) & (values <= 1)).all()):
        raise DataError(f"{entry.name} in {where} has pixels outside [0, 1].")


def _unusable(
    entry: DatasetEntry, root: Path, error: Missing | Damaged, fetching: dict[str, Any]
) -> str:
    """What was looked for, where, and the next command. ``fetching``: options for the download."""
    path = root / error.looked_for if isinstance(error, Missing) else error.path
    top = root / path.relative_to(root).parts[0]  # what the download would make anew
    if isinstance(error, Damaged):
        text = f"{entry.name}: {path} is damaged ({error.reason})."
    else:
        state = "is incomplete" if top.exists() else "not found"
        text = f"{entry.name} {state}: looked for {error.looked_for} in {root}."
    if entry.remote is None:
        return f"{text} Pass --data-dir."
    if fetching:
        arguments = ", ".join(f"{key}={value!r}" for key, value in fetching.items())
        command = f"landscape.data.download('{entry.name}', {arguments})"
    else:
        command = f"landscape data {entry.name}"
    if top.exists():  # a download leaves what is there alone
        return f"{text} Move {top} away and run `{command}` to download it again."
    size = "" if fetching else f" ({entry.download_size})"
    return f"{text} Run `{command}` to download it{size}, or pass --data-dir."
