"""Data sets by name, with fixed splits, and the papers' augmentations."""

from __future__ import annotations

from landscape.data.augment import AUGMENTATIONS, CropFlip, Sat, augmentation
from landscape.data.images import Batches, ImageData
from landscape.data.loading import load
from landscape.data.places import Status, data_folder, download, status
from landscape.data.table import DATASETS, DatasetEntry, entry_of

__all__ = [  # noqa: RUF022  grouped by subject: the map of the package
    # data sets
    "DATASETS",
    "Batches",
    "DatasetEntry",
    "ImageData",
    "entry_of",
    "load",
    # files
    "Status",
    "data_folder",
    "download",
    "status",
    # augmentation
    "AUGMENTATIONS",
    "CropFlip",
    "Sat",
    "augmentation",
]
