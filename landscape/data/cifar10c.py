"""CIFAR-10-C: the CIFAR-10 test set under 19 corruptions at 5 severities.

Each ``<corruption>.npy`` stacks the test set five times, severity 1 first: rows
``(severity - 1) * 10000 + i`` are corruptions of CIFAR-10 test image ``i``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from landscape.data.images import ArrayImages
from landscape.data.source import Damaged, Missing, Source, parsing
from landscape.errors import UsageError, unknown

FOLDER = "CIFAR-10-C"
SEVERITIES = 5
CORRUPTIONS = (
    "brightness",
    "contrast",
    "defocus_blur",
    "elastic_transform",
    "fog",
    "frost",
    "gaussian_blur",
    "gaussian_noise",
    "glass_blur",
    "impulse_noise",
    "jpeg_compression",
    "motion_blur",
    "pixelate",
    "saturate",
    "shot_noise",
    "snow",
    "spatter",
    "speckle_noise",
    "zoom_blur",
)
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def load_cifar10c(
    root: Path, part: str, *, corruption: str | None = None, severity: int | None = None
) -> Source:
    """uint8 [10000, 3, 32, 32]: one corruption at one severity (1 to 5); both must be named."""
    if corruption is None or severity is None:
        raise UsageError(
            f"cifar10-c needs corruption (one of {', '.join(CORRUPTIONS)}) and severity (1 to 5)."
        )
    if corruption not in CORRUPTIONS:
        raise unknown("corruption", corruption, CORRUPTIONS)
    if isinstance(severity, bool) or severity not in range(1, SEVERITIES + 1):
        raise UsageError(f"severity must be a whole number from 1 to 5, not {severity!r}.")
    images = _array(root, f"{FOLDER}/{corruption}.npy")
    labels = _array(root, f"{FOLDER}/labels.npy")
    if len(images) != len(labels) or len(labels) % SEVERITIES:
        raise Damaged(
            root / FOLDER / f"{corruption}.npy",
            f"{len(images)} images and {len(labels)} labels are not 5 equal severities",
        )
    n = len(labels) // SEVERITIES
    rows = slice((severity - 1) * n, severity * n)
    with parsing(root / FOLDER / f"{corruption}.npy"):
        pixels = torch.from_numpy(np.ascontiguousarray(images[rows].transpose(0, 3, 1, 2)))
        targets = torch.from_numpy(np.array(labels[rows]).astype(np.int64))
    return Source(ArrayImages(pixels), targets, CLASSES, first=rows.start)


def _array(root: Path, name: str) -> np.ndarray:
    path = root / name
    if not path.is_file():
        raise Missing(name)
    with parsing(path):
        # Mapped, since only a fifth of the 150 MB is needed; no pickles, whatever the file says.
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
