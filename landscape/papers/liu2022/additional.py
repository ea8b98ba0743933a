"""Additional training data of liu2022 §6.2, as factories of data by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from landscape import data as datasets
from landscape.data.images import ArrayImages, ImageData
from landscape.data.splits import subset
from landscape.errors import DataError

# Digits that the networks to be fine-tuned were trained on: the rest is additional.
FIRST = 800
FILE = "ti_500K_pseudo_labeled.npz"


def held_back(split: str = "train", seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The training digits that ``n_examples=800`` leaves out, as one batch."""
    whole = datasets.load("digits", split)
    kept = subset(whole.labels.numpy(), FIRST, seed)
    rest = np.setdiff1d(np.arange(len(whole)), kept)
    return [whole.take(rest).tensors()]


def tiny_images(split: str = "train", data_dir: str | None = None) -> Any:
    """500,000 images of 80 Million Tiny Images with the pseudo-labels of Carmon et al. 2019.

    From ``ti_500K_pseudo_labeled.npz`` in the folder of the data: arrays ``data`` uint8
    (500000, 32, 32, 3) and ``extrapolated_targets``. The authors publish a pickle of these, which
    isn't read here, as pickles may hold code.
    """
    path = Path(data_dir or "data") / FILE
    if not path.is_file():
        raise DataError(f"additional images not found: looked for {path}.")
    with np.load(path, allow_pickle=False) as file:
        images, labels = file["data"], file["extrapolated_targets"]
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    targets = torch.from_numpy(labels.astype(np.int64))
    classes = datasets.load("cifar10", "test", data_dir=data_dir).classes
    rows = torch.arange(len(targets))
    return ImageData("tiny-images", split, ArrayImages(pixels), targets, rows, classes)
