"""Sets that fit in memory and that torchvision reads: MNIST, FashionMNIST, CIFAR, SVHN.

CIFAR and SVHN files are parsed only after torchvision has compared their MD5 sums with its
tables (CIFAR files are pickles, so that this is also what makes them safe to open). MNIST's
compressed files are compared too; for the unpacked ones torchvision keeps no sums, and their
headers are checked against their lengths instead.
"""

from __future__ import annotations

import gzip
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.data.images import ArrayImages
from landscape.data.source import Damaged, Missing, Source, parsing


def _torchvision(name: str) -> Any:
    import torchvision.datasets

    return getattr(torchvision.datasets, name)


def _load_idx(root: Path, part: str, *, kind: str) -> Source:
    """uint8 [N, 1, 28, 28] from the idx files of MNIST or FashionMNIST, unpacked or .gz."""
    from torchvision.datasets.mnist import read_image_file, read_label_file

    reader = _torchvision(kind)
    stem = {"train": "train", "test": "t10k"}[part]
    images = _idx(root, reader, f"{stem}-images-idx3-ubyte", read_image_file)
    labels = _idx(root, reader, f"{stem}-labels-idx1-ubyte", read_label_file)
    return Source(ArrayImages(images.unsqueeze(1)), labels, _bare(reader.classes))


def _idx(root: Path, reader: Any, name: str, parse: Any) -> Tensor:
    path = root / reader.__name__ / "raw" / name
    if path.is_file():
        with parsing(path):
            plain: Tensor = parse(path)
            return plain
    packed = path.with_name(f"{name}.gz")
    if not packed.is_file():
        raise Missing(str(path.relative_to(root)))
    _verify(packed, dict(reader.resources)[packed.name])
    # torchvision's parser wants a file, and the data folder may be read-only.
    with parsing(packed), tempfile.TemporaryDirectory() as aside:
        plain_path = Path(aside) / name
        plain_path.write_bytes(gzip.decompress(packed.read_bytes()))
        unpacked: Tensor = parse(plain_path)
        return unpacked


def _bare(classes: list[str]) -> tuple[str, ...]:
    """torchvision writes MNIST's classes as "0 - zero"."""
    return tuple(name.split(" - ")[0] for name in classes)


def _load_cifar(root: Path, part: str, *, kind: str) -> Source:
    """uint8 [N, 3, 32, 32] from the pickled batches of CIFAR-10 or CIFAR-100."""
    reader = _torchvision(kind)
    folder = root / reader.base_folder
    if not folder.is_dir():
        raise Missing(reader.base_folder)
    sums = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
    for name, _ in sums:
        if not (folder / name).is_file():
            raise Missing(f"{reader.base_folder}/{name}")
    try:
        with parsing(folder):
            data = reader(str(root), train=part == "train", download=False)
    except Damaged:
        for name, md5 in sums:  # torchvision doesn't say which of the files it was
            _verify(folder / name, md5)
        raise
    images = torch.from_numpy(np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)))
    return Source(ArrayImages(images), torch.tensor(data.targets), tuple(data.classes))


def load_svhn(root: Path, part: str) -> Source:
    """uint8 [N, 3, 32, 32] from the cropped digits (format 2); torchvision maps label 10 to 0."""
    reader = _torchvision("SVHN")
    path = root / reader.split_list[part][1]
    if not path.is_file():
        raise Missing(path.name)
    _verify(path, reader.split_list[part][2])
    with parsing(path):
        data = reader(str(root), split=part, download=False)
    images = torch.from_numpy(np.ascontiguousarray(data.data))
    labels = torch.from_numpy(np.atleast_1d(data.labels))
    return Source(ArrayImages(images), labels, tuple("0123456789"))


def _verify(path: Path, md5: str) -> None:
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(path, md5):
        raise Damaged(path, "its MD5 sum is not the published one")


load_mnist = partial(_load_idx, kind="MNIST")
load_fashion_mnist = partial(_load_idx, kind="FashionMNIST")
load_cifar10 = partial(_load_cifar, kind="CIFAR10")
load_cifar100 = partial(_load_cifar, kind="CIFAR100")
