"""Sets kept as image files: Imagenette, TinyImageNet and a user's own folders."""

from __future__ import annotations

from pathlib import Path

import torch

from landscape.data.images import FileImages
from landscape.data.source import Damaged, Missing, Source
from landscape.errors import DataError, UsageError, unknown

IMAGENETTE_FOLDERS = {
    "full": "imagenette2",
    "320px": "imagenette2-320",
    "160px": "imagenette2-160",
}
IMAGENETTE = {  # WordNet id: class
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}
TINY = "tiny-imagenet-200"


def load_imagenette(root: Path, part: str, *, size: str = "320px", image_size: int = 224) -> Source:
    """Imagenette as published in one of three sizes; read as [3, image_size, image_size]."""
    if size not in IMAGENETTE_FOLDERS:
        raise unknown("size of imagenette", size, IMAGENETTE_FOLDERS)
    folder = root / IMAGENETTE_FOLDERS[size] / part
    if not folder.is_dir():
        raise Missing(f"{IMAGENETTE_FOLDERS[size]}/{part}")
    classes = tuple(IMAGENETTE.values())
    return _source(_by_class(folder, list(IMAGENETTE)), classes, image_size)


def load_tinyimagenet(root: Path, part: str) -> Source:
    """TinyImageNet, [3, 64, 64]. Labels follow the sorted WordNet ids, as image folders do."""
    folder = root / TINY
    wnids = sorted(_lines(root, f"{TINY}/wnids.txt"))
    if part == "train":
        if not (folder / "train").is_dir():
            raise Missing(f"{TINY}/train")
        samples = _by_class(folder / "train", wnids)
    else:
        samples = _annotated(root, {wnid: label for label, wnid in enumerate(wnids)})
    names = {}
    if (folder / "words.txt").is_file():
        pairs = (line.partition("\t") for line in _lines(root, f"{TINY}/words.txt"))
        names = {wnid: words.split(",")[0] for wnid, _, words in pairs}
    classes = tuple(names.get(wnid) or wnid for wnid in wnids)
    return _source(samples, classes, 64, resize=64)


def _annotated(root: Path, label_of: dict[str, int]) -> list[tuple[Path, int]]:
    """(file, label) of each line of val_annotations.txt: name, WordNet id, box (unused)."""
    name = f"{TINY}/val/val_annotations.txt"
    samples = []
    for line in _lines(root, name):
        file, _, rest = line.partition("\t")
        wnid = rest.split("\t")[0]
        path = root / TINY / "val" / "images" / file
        if wnid not in label_of:
            raise Damaged(root / name, f"class '{wnid}' of {file} is not in wnids.txt")
        if not path.is_file():
            raise Missing(str(path.relative_to(root)))
        samples.append((path, label_of[wnid]))
    return samples


def load_folder(root: Path, part: str, *, image_size: int = 224) -> Source:
    """A user's images, ``root/<split>/<class>/*``, read as [3, image_size, image_size].

    The classes are the sorted folders of ``train`` where there is one, so that a label means
    the same in every split even if some split lacks a class.
    """
    if not root.is_dir():
        raise DataError(f"no folder {root}: pass data_dir (--data-dir) with <split>/<class>/*.")
    if not (root / part).is_dir():
        there = ", ".join(_subfolders(root)) or "no folder at all"
        raise UsageError(f"{root} has no split '{part}'. Splits there: {there}.")
    reference = root / "train" if (root / "train").is_dir() else root / part
    classes = _subfolders(reference)
    if strangers := sorted(set(_subfolders(root / part)) - set(classes)):
        raise DataError(
            f"{root / part} has classes that {reference} lacks: {', '.join(strangers)}."
        )
    if not classes:
        raise DataError(f"{reference} has no class folders: expected {reference}/<class>/*.")
    return _source(_by_class(root / part, classes), tuple(classes), image_size)


def _by_class(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """(file, label) for the images below ``folder/<class>``, sorted by class and name."""
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    labels = {name: label for label, name in enumerate(classes)}
    samples = make_dataset(folder, labels, extensions=IMG_EXTENSIONS, allow_empty=True)
    return [(Path(path), label) for path, label in samples]


def _source(
    samples: list[tuple[Path, int]], classes: tuple[str, ...], size: int, resize: int | None = None
) -> Source:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UsageError(f"image_size must be a whole number of pixels, not {size!r}.")
    # 256 before a crop of 224 is ImageNet's convention; other sizes keep that ratio.
    resize = resize if resize is not None else round(size * 256 / 224)
    labels = torch.tensor([label for _, label in samples], dtype=torch.int64)
    return Source(FileImages([path for path, _ in samples], size, resize), labels, classes)


def _subfolders(folder: Path) -> list[str]:
    """Sorted names; hidden folders (.git, .ipynb_checkpoints) are never classes or splits."""
    names = (entry.name for entry in folder.iterdir() if entry.is_dir())
    return sorted(name for name in names if not name.startswith("."))


def _lines(root: Path, name: str) -> list[str]:
    path = root / name
    if not path.is_file():
        raise Missing(name)
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise Damaged(path, "it is not a text file") from error
