"""The table of data sets. A new one is a row here and a loader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from landscape.data import cifar10c, digits, fetch, folders, torchvision_sets
from landscape.data.fetch import Remote
from landscape.data.source import Source
from landscape.errors import unknown

Triple = tuple[float, ...]


@dataclass(frozen=True)
class Part:
    """Where a split comes from: ``size`` examples of ``file``, or all that other splits leave."""

    file: str
    size: int | None = None


@dataclass(frozen=True)
class DatasetEntry:
    """One data set.

    ``loader(root, file, **options)`` reads one underlying file; ``splits`` says how files become
    splits, always by seed ``split_seed``: a subset's seed never moves an example from ``train``
    to ``val``. ``mean`` and ``std`` per channel, in [0, 1] units, are what networks are trained
    with in the papers; None means that they see the [0, 1] images themselves.
    """

    name: str
    in_shape: tuple[int, int, int] | None  # (C, H, W); None depends on the files
    num_classes: int | None
    description: str
    citation: str
    loader: Callable[..., Source]
    splits: Mapping[str, Part]
    remote: Remote | None = None  # None: nothing to download
    classes: tuple[str, ...] | None = None  # None: read from the files
    mean: Triple | None = None
    std: Triple | None = None
    augmentation: str = "none"
    options: tuple[str, ...] = field(default=())
    split_seed: int = 0

    @property
    def download_size(self) -> str:
        return self.remote.size if self.remote else "built in"


def entry_of(name: str) -> DatasetEntry:
    """The row of ``name``, or the error for an unknown one."""
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    return DATASETS[name]


_DIGIT = tuple("0123456789")
_CLOTHING = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_CARVED = {"train": Part("train"), "val": Part("train", 5000), "test": Part("test")}
_DIGITS_SPLITS = {"train": Part("all"), "val": Part("all", 300), "test": Part("all", 300)}
_FOLDER_SPLITS = {"train": Part("train"), "val": Part("val"), "test": Part("test")}
_CIFAR10_MEAN, _CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
_KRIZHEVSKY = "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"

_ROWS = (
    DatasetEntry(
        "digits",
        (1, 8, 8),
        10,
        "handwritten digits, 8×8 grey, offline (train 1197, val 300, test 300)",
        "Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        digits.load_digits,
        _DIGITS_SPLITS,
        classes=_DIGIT,
    ),
    DatasetEntry(
        "digits32",
        (3, 32, 32),
        10,
        "digits enlarged to 3×32×32, for CIFAR architectures offline (1197, 300, 300)",
        "Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        digits.load_digits32,
        _DIGITS_SPLITS,
        classes=_DIGIT,
    ),
    DatasetEntry(
        "mnist",
        (1, 28, 28),
        10,
        "handwritten digits, 28×28 grey (train 55000, val 5000, test 10000)",
        "LeCun et al., Gradient-based learning applied to document recognition, 1998",
        torchvision_sets.load_mnist,
        _CARVED,
        fetch.MNIST,
        classes=_DIGIT,
    ),
    DatasetEntry(
        "fashion-mnist",
        (1, 28, 28),
        10,
        "articles of clothing, 28×28 grey (train 55000, val 5000, test 10000)",
        "Xiao, Rasul & Vollgraf, Fashion-MNIST, arXiv 1708.07747, 2017",
        torchvision_sets.load_fashion_mnist,
        _CARVED,
        fetch.FASHION_MNIST,
        classes=_CLOTHING,
    ),
    DatasetEntry(
        "cifar10",
        (3, 32, 32),
        10,
        "objects and animals, 32×32 colour (train 45000, val 5000, test 10000)",
        _KRIZHEVSKY,
        torchvision_sets.load_cifar10,
        _CARVED,
        fetch.CIFAR10,
        classes=cifar10c.CLASSES,
        mean=_CIFAR10_MEAN,
        std=_CIFAR10_STD,
        augmentation="crop-flip",
    ),
    DatasetEntry(
        "cifar100",
        (3, 32, 32),
        100,
        "100 fine classes, 32×32 colour (train 45000, val 5000, test 10000)",
        _KRIZHEVSKY,
        torchvision_sets.load_cifar100,
        _CARVED,
        fetch.CIFAR100,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        augmentation="crop-flip",
    ),
    DatasetEntry(
        "svhn",
        (3, 32, 32),
        10,
        "house numbers, 32×32 colour (train 68257, val 5000, test 26032, extra 531131)",
        "Netzer et al., Reading Digits in Natural Images, NIPS workshop, 2011",
        torchvision_sets.load_svhn,
        {**_CARVED, "extra": Part("extra")},
        fetch.SVHN,
        classes=_DIGIT,
    ),
    DatasetEntry(
        "imagenette",
        (3, 224, 224),
        10,
        "ten ImageNet classes, read as 224×224 colour (train 8469, val 1000, test 3925)",
        "Howard, Imagenette, github.com/fastai/imagenette, 2019",
        folders.load_imagenette,
        # The published val folder is the test set here, so that no choice is made on it.
        {"train": Part("train"), "val": Part("train", 1000), "test": Part("val")},
        fetch.IMAGENETTE,
        classes=tuple(folders.IMAGENETTE.values()),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        augmentation="crop-flip",
        options=("size", "image_size"),
    ),
    DatasetEntry(
        "tinyimagenet",
        (3, 64, 64),
        200,
        "200 ImageNet classes, 64×64 colour (train 95000, val 5000, test 10000)",
        "Le & Yang, Tiny ImageNet Visual Recognition Challenge, CS 231N, 2015",
        folders.load_tinyimagenet,
        # The published test images have no labels: its val folder is the test set.
        {"train": Part("train"), "val": Part("train", 5000), "test": Part("val")},
        fetch.TINYIMAGENET,
        mean=(0.4802, 0.4481, 0.3975),
        std=(0.2770, 0.2691, 0.2821),
        augmentation="crop-flip",
    ),
    DatasetEntry(
        "cifar10-c",
        (3, 32, 32),
        10,
        "CIFAR-10's test set, 19 corruptions × 5 severities (test 10000 each)",
        "Hendrycks & Dietterich, Benchmarking Neural Network Robustness, ICLR 2019",
        cifar10c.load_cifar10c,
        {"test": Part("test")},
        fetch.CIFAR10_C,
        classes=cifar10c.CLASSES,
        mean=_CIFAR10_MEAN,
        std=_CIFAR10_STD,
        options=("corruption", "severity"),
    ),
    DatasetEntry(
        "folder",
        None,
        None,
        "your own images: DATA_DIR/<split>/<class>/*, read as 224×224 colour",
        "the images' owner",
        folders.load_folder,
        _FOLDER_SPLITS,
        options=("image_size",),
    ),
)

DATASETS: dict[str, DatasetEntry] = {row.name: row for row in _ROWS}
