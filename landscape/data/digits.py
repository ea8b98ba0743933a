"""scikit-learn's handwritten digits: 1,797 real 8×8 images, on every machine, offline."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from landscape.data.images import ArrayImages
from landscape.data.source import Source

CLASSES = tuple("0123456789")


def load_digits(root: Path, part: str) -> Source:
    """float32 [1797, 1, 8, 8]; the file's grey values 0..16 become [0, 1]."""
    images, labels = _read()
    return Source(ArrayImages(images), labels, CLASSES)


def load_digits32(root: Path, part: str) -> Source:
    """float32 [1797, 3, 32, 32]: ``digits`` enlarged bilinearly, grey repeated in 3 channels."""
    images, labels = _read()
    larger = interpolate(images, size=(32, 32), mode="bilinear", align_corners=False)
    return Source(ArrayImages(larger.clamp_(0, 1).repeat(1, 3, 1, 1)), labels, CLASSES)


def _read() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    images = torch.from_numpy(bunch.images).to(torch.float32).div_(16).unsqueeze(1)
    return images, torch.from_numpy(bunch.target).to(torch.int64)
