"""What is fetched from where. Nothing runs unless ``landscape.data.download`` is called."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from landscape.data.cifar10c import FOLDER as CIFAR10_C_FOLDER
from landscape.data.folders import IMAGENETTE_FOLDERS, TINY
from landscape.errors import unknown


@dataclass(frozen=True)
class Remote:
    """A published data set.

    ``look_for``: paths below the data folder, any of which shows that it is there.
    Where ``fetch(root, **options)`` fails, ``files`` from ``url`` can be put into ``place`` by
    hand; fetching then checks and unpacks them.
    """

    size: str
    look_for: tuple[str, ...]
    files: str
    url: str
    fetch: Callable[..., None]
    place: str = ""
    options: tuple[str, ...] = ()


def _torchvision(root: Path, *, kind: str) -> None:
    """torchvision compares MD5 sums, skips what is there, and unpacks."""
    import torchvision.datasets

    getattr(torchvision.datasets, kind)(str(root), download=True)


def _svhn(root: Path, *, extra: bool = False) -> None:
    from torchvision.datasets import SVHN as Reader
    from torchvision.datasets.utils import download_url

    for part in ("train", "test", "extra") if extra else ("train", "test"):
        url, name, md5 = Reader.split_list[part]
        download_url(url, root, name, md5)


def _archive(root: Path, *, url: str, md5: str, folder: str) -> None:
    """Fetch and unpack ``url``, which holds ``folder``; an archive put there by hand is used."""
    from torchvision.datasets.utils import download_url, extract_archive

    if (root / folder).is_dir():
        return
    name = url.rsplit("/", 1)[-1]
    download_url(url, root, name, md5)
    # Unpacked aside and renamed, so that an interrupted run never looks complete.
    with tempfile.TemporaryDirectory(dir=root, prefix=".unpacking-") as aside:
        extract_archive(str(root / name), aside)
        os.replace(Path(aside) / folder, root / folder)


_IMAGENETTE_URL = "https://s3.amazonaws.com/fast-ai-imageclas"
_IMAGENETTE_MD5 = {
    "full": "fe2fc210e6bb7c5664d602c3cd71e612",
    "320px": "3df6f0d01a2c9592104656642f5e78a3",
    "160px": "e793b78cc4c9e9a4ccc0c1155377a412",
}


def _imagenette(root: Path, *, size: str = "320px") -> None:
    if size not in IMAGENETTE_FOLDERS:
        raise unknown("size of imagenette", size, IMAGENETTE_FOLDERS)
    folder = IMAGENETTE_FOLDERS[size]
    _archive(root, url=f"{_IMAGENETTE_URL}/{folder}.tgz", md5=_IMAGENETTE_MD5[size], folder=folder)


def _unpacked(size: str, url: str, md5: str, folder: str) -> Remote:
    fetch = partial(_archive, url=url, md5=md5, folder=folder)
    return Remote(size, (folder,), url.rsplit("/", 1)[-1], url, fetch)


def _idx(size: str, kind: str, url: str) -> Remote:
    files = "{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz"
    place = f"{kind}/raw"
    return Remote(size, (place,), files, url, partial(_torchvision, kind=kind), place)


def _cifar(size: str, kind: str, archive: str, folder: str) -> Remote:
    url = f"https://www.cs.toronto.edu/~kriz/{archive}"
    return Remote(size, (folder,), archive, url, partial(_torchvision, kind=kind))


MNIST = _idx("12 MB", "MNIST", "https://ossci-datasets.s3.amazonaws.com/mnist/")
FASHION_MNIST = _idx(
    "31 MB", "FashionMNIST", "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
)
CIFAR10 = _cifar("170 MB", "CIFAR10", "cifar-10-python.tar.gz", "cifar-10-batches-py")
CIFAR100 = _cifar("169 MB", "CIFAR100", "cifar-100-python.tar.gz", "cifar-100-python")
SVHN = Remote(
    "246 MB",
    ("train_32x32.mat", "test_32x32.mat"),
    "train_32x32.mat and test_32x32.mat (extra_32x32.mat for the split extra, 1.3 GB)",
    "http://ufldl.stanford.edu/housenumbers/",
    _svhn,
    options=("extra",),
)
IMAGENETTE = Remote(
    "342 MB",
    tuple(IMAGENETTE_FOLDERS[size] for size in ("320px", "160px", "full")),
    "imagenette2-320.tgz (imagenette2.tgz or imagenette2-160.tgz for the other sizes)",
    f"{_IMAGENETTE_URL}/imagenette2-320.tgz",
    _imagenette,
    options=("size",),
)
TINYIMAGENET = _unpacked(
    "248 MB",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    "90528d7ca1a48142e341f4ef8d21d0de",
    TINY,
)
CIFAR10_C = _unpacked(
    "2.9 GB",
    "https://zenodo.org/record/2535967/files/CIFAR-10-C.tar",
    "56bf5dcef84df0e2308c6dcbcbbd8499",
    CIFAR10_C_FOLDER,
)
