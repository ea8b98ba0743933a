"""Data sets: every loader on small files in the set's own format, splits, errors, augmentation."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import shutil
import subprocess
import sys
import types
import urllib.error
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets as tv
from torchvision.datasets import utils as tv_utils

from landscape import data
from landscape.data import fetch, images, splits
from landscape.data.augment import CropFlip, Sat
from landscape.data.table import Part
from landscape.errors import DataError, UsageError

RNG = np.random.default_rng(0)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def pixels(n: int, *shape: int) -> np.ndarray:
    return RNG.integers(0, 256, (n, *shape), dtype=np.uint8)


@pytest.fixture
def small_val(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation sets of 10, as the files of these tests hold 40 images."""
    for name, entry in data.DATASETS.items():
        parts = {
            split: replace(part, size=10) if split == "val" and part.size else part
            for split, part in entry.splits.items()
        }
        if not name.startswith("digits"):
            monkeypatch.setitem(data.DATASETS, name, replace(entry, splits=parts))


# -- digits, splits, subsets ----------------------------------------------------------------------


def test_digits_splits_are_disjoint_exhaustive_stratified_and_pinned() -> None:
    parts = [data.load("digits", split) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [1197, 300, 300]
    indices = torch.cat([part.indices for part in parts])
    assert sorted(indices.tolist()) == list(range(1797))
    assert all((part.indices.diff() > 0).all() for part in parts)
    for part in parts:
        share = part.labels.bincount() / len(part)
        whole = torch.cat([p.labels for p in parts]).bincount() / 1797
        assert (share - whole).abs().max() < 1 / len(part)
    digest = hashlib.sha256(indices.numpy().astype("<i8").tobytes()).hexdigest()
    assert digest == "b6fd9c28859a918953ae4c182a4287d8de2732fb19e1444d643b7d78cd6f8331"


def test_digits_values_are_the_files_own() -> None:
    from sklearn.datasets import load_digits

    part = data.load("digits", "val")
    x, y = part.tensors()
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    raw = load_digits()
    np.testing.assert_array_equal(x[:, 0].numpy() * 16, raw.images[part.indices])
    np.testing.assert_array_equal(y.numpy(), raw.target[part.indices])
    assert (part.in_shape, part.num_classes, part.classes[3]) == ((1, 8, 8), 10, "3")
    first, label = part[0]
    assert torch.equal(first, x[0])
    assert torch.equal(part[-1][0], x[-1])
    assert label.item() == y[0]
    with pytest.raises(IndexError, match="has 300 examples, not 300"):
        part[300]


def test_digits32_is_digits_enlarged() -> None:
    small, large = data.load("digits"), data.load("digits32")
    assert torch.equal(small.indices, large.indices)
    x, _ = large.tensors()
    assert x.shape == (300, 3, 32, 32)
    assert torch.equal(x[:, 0], x[:, 2])
    # The mean over each 4×4 block stays near the pixel it came from.
    blocks = torch.nn.functional.avg_pool2d(x[:, :1], 4)
    assert (blocks - small.tensors()[0]).abs().mean() < 0.1


def test_batches_can_be_repeated_and_survive_in_place_changes() -> None:
    part = data.load("digits", "val")
    batches = part.batches(128)
    assert [len(y) for _, y in batches] == [128, 128, 44]
    assert len(batches) == 3
    for x, y in batches:
        x.zero_()
        y.zero_()
    torch.testing.assert_close(torch.cat([x for x, _ in batches]), part.tensors()[0])
    assert torch.cat([y for _, y in batches]).equal(part.labels)
    assert part.labels.any()
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(UsageError, match="batch_size must be a whole number of at least 1"):
            part.batches(wrong)  # type: ignore[arg-type]


def test_tensors_refuses_what_may_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MEMORY_LIMIT", 300 * 64 * 4 - 1)
    with pytest.raises(DataError, match=r"digits/test would take 0.0 GiB as one tensor"):
        data.load("digits").tensors()
    assert len(data.load("digits", n_examples=299).tensors()[1]) == 299


def test_a_dataloader_accepts_it() -> None:
    x, y = next(iter(torch.utils.data.DataLoader(data.load("digits"), batch_size=7)))
    assert x.shape == (7, 1, 8, 8)
    assert y.dtype == torch.int64


def test_subsets_are_balanced_ordered_nested_and_seeded() -> None:
    whole = data.load("digits", "train")
    few = data.load("digits", "train", n_examples=57)
    more = data.load("digits", "train", n_examples=200)
    assert set(few.labels.bincount().tolist()) == {5, 6}
    assert (more.labels.bincount() == 20).all()
    assert set(few.indices.tolist()) < set(more.indices.tolist()) < set(whole.indices.tolist())
    assert (few.indices.diff() > 0).all()
    assert data.load("digits", "train", n_examples=57).indices.equal(few.indices)
    other = data.load("digits", "train", n_examples=57, seed=1)
    assert not other.indices.equal(few.indices)
    # The seed of a subset doesn't move examples between splits.
    assert data.load("digits", "train", seed=1).indices.equal(whole.indices)
    assert len(data.load("digits", n_examples=300)) == 300


@pytest.mark.parametrize("n", [0, -3, 301])
def test_impossible_subsets_are_refused(n: int) -> None:
    with pytest.raises(UsageError, match=f"between 1 and the 300 available, not {n}"):
        data.load("digits", n_examples=n)


@pytest.mark.parametrize("n", [2.5, True, "9"])
def test_subset_sizes_are_whole_numbers(n: object) -> None:
    with pytest.raises(UsageError, match="n_examples must be a whole number"):
        data.load("digits", n_examples=n)  # type: ignore[arg-type]


def test_unbalanced_classes_fill_up() -> None:
    labels = np.array([0] * 2 + [1] * 50 + [2] * 8)
    chosen = labels[splits.subset(labels, 20, 0)]
    np.testing.assert_array_equal(np.bincount(chosen), [2, 10, 8])
    assert len(splits.subset(labels, 60, 0)) == 60
    np.testing.assert_array_equal(splits.proportional(np.array([5, 5, 5]), 4), [2, 1, 1])


# -- loaders on files of their own formats --------------------------------------------------------


def idx(path: Path, array: np.ndarray, *, packed: bool = False) -> Path:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    content = header + array.tobytes()
    path = path.with_name(f"{path.name}.gz") if packed else path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


@pytest.mark.usefixtures("small_val")
@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist(
    name: str, kind: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, sums = tmp_path / kind / "raw", []
    images, labels = pixels(40, 28, 28), np.arange(40, dtype=np.uint8) % 10
    for stem in ("train", "t10k"):
        for what, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = idx(raw / f"{stem}-{what}-ubyte", array, packed=packed)
            sums.append((path.name, md5(path)))
    if packed:
        published = data.load  # the real sums refuse these files
        with pytest.raises(DataError, match="its MD5 sum is not the published one"):
            published(name, data_dir=tmp_path)
        monkeypatch.setattr(getattr(tv, kind), "resources", sums)
    train, val = (data.load(name, split, data_dir=tmp_path) for split in ("train", "val"))
    assert sorted([*train.indices.tolist(), *val.indices.tolist()]) == list(range(40))
    assert (val.labels.bincount() == 1).all()
    x, y = data.load(name, data_dir=tmp_path).tensors()
    np.testing.assert_array_equal((x[:, 0] * 255).round().numpy(), images)
    np.testing.assert_array_equal(y.numpy(), labels)
    assert train.classes == data.DATASETS[name].classes


def test_a_truncated_mnist_file(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    idx(raw / "t10k-labels-idx1-ubyte", np.zeros(40, np.uint8))
    path = idx(raw / "t10k-images-idx3-ubyte", pixels(40, 28, 28))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte is damaged .* away and run"):
        data.load("mnist", data_dir=tmp_path)
    idx(path, pixels(39, 28, 28))
    with pytest.raises(DataError, match="has 39 images but 40 labels"):
        data.load("mnist", data_dir=tmp_path)
    idx(path, pixels(40, 27, 28))
    with pytest.raises(DataError, match=r"shape \(1, 27, 28\) instead of \(1, 28, 28\)"):
        data.load("mnist", data_dir=tmp_path)
    idx(path, pixels(40, 28, 28))
    idx(raw / "t10k-labels-idx1-ubyte", np.full(40, 10, np.uint8))
    with pytest.raises(DataError, match="labels from 10 to 10: expected 0 to 9"):
        data.load("mnist", data_dir=tmp_path)
    idx(path, pixels(0, 28, 28))
    idx(raw / "t10k-labels-idx1-ubyte", np.zeros(0, np.uint8))
    with pytest.raises(DataError, match="mnist"):
        data.load("mnist", data_dir=tmp_path)


def write_cifar(root: Path, name: str, patch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """All files of the set, 40 training and 40 test images; torchvision's sums become theirs."""
    reader, key, classes = {
        "cifar10": (tv.CIFAR10, "labels", 10),
        "cifar100": (tv.CIFAR100, "fine_labels", 100),
    }[name]
    folder = root / reader.base_folder
    folder.mkdir(parents=True)
    images, labels = pixels(40, 3, 32, 32), np.arange(40) % classes
    for table in ("train_list", "test_list"):
        files = [file for file, _ in getattr(reader, table)]
        each, sums = 40 // len(files), []
        for i, file in enumerate(files):
            rows = slice(i * each, (i + 1) * each)
            content = {"data": images[rows].reshape(each, -1), key: labels[rows].tolist()}
            (folder / file).write_bytes(pickle.dumps(content))
            sums.append([file, md5(folder / file)])
        patch.setattr(reader, table, sums)
    meta = folder / reader.meta["filename"]
    meta.write_bytes(pickle.dumps({reader.meta["key"]: [f"class {i}" for i in range(classes)]}))
    patch.setattr(reader, "meta", {**reader.meta, "md5": md5(meta)})
    return images, labels


@pytest.mark.usefixtures("small_val")
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = write_cifar(tmp_path, name, monkeypatch)
    test = data.load(name, data_dir=tmp_path)
    x, y = test.tensors()
    torch.testing.assert_close(x, torch.from_numpy(images) / 255)
    np.testing.assert_array_equal(y.numpy(), labels)
    assert test.classes[:2] == ("class 0", "class 1")
    train, val = (data.load(name, split, data_dir=tmp_path) for split in ("train", "val"))
    np.testing.assert_array_equal(train.labels.numpy(), labels[train.indices])
    torch.testing.assert_close(val.tensors()[0], torch.from_numpy(images[val.indices]) / 255)
    assert sorted([*train.indices.tolist(), *val.indices.tolist()]) == list(range(40))


def test_damaged_and_incomplete_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, "cifar10", monkeypatch)
    folder = tmp_path / "cifar-10-batches-py"
    with pytest.raises(DataError, match="can't cut 'train' into train, val: 40 images are too few"):
        data.load("cifar10", "train", data_dir=tmp_path)
    whole = (folder / "data_batch_3").read_bytes()
    (folder / "data_batch_3").write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"data_batch_3 is damaged \(its MD5 sum is not"):
        data.load("cifar10", data_dir=tmp_path)
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"is incomplete: looked for cifar-10-batches-py/data_b"):
        data.load("cifar10", data_dir=tmp_path)


def test_the_published_sums_guard_the_pickles(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        write_cifar(tmp_path, "cifar10", patch)
    with pytest.raises(DataError, match="MD5 sum is not the published one"):
        data.load("cifar10", data_dir=tmp_path)


@pytest.mark.usefixtures("small_val")
def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    images, labels = pixels(40, 3, 32, 32), np.arange(40) % 10 + 1
    sums = {}
    for part in ("train", "test", "extra"):
        path = tmp_path / f"{part}_32x32.mat"
        savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": labels[:, None]})
        sums[part] = ["", path.name, md5(path)]
    with pytest.raises(DataError, match=r"test_32x32.mat is damaged"):
        data.load("svhn", data_dir=tmp_path)
    monkeypatch.setattr(tv.SVHN, "split_list", sums)
    for split, n in (("train", 30), ("val", 10), ("test", 40), ("extra", 40)):
        part = data.load("svhn", split, data_dir=tmp_path)
        assert len(part) == n
        torch.testing.assert_close(part.tensors()[0], torch.from_numpy(images[part.indices]) / 255)
        np.testing.assert_array_equal(part.labels.numpy(), labels[part.indices] % 10)
    path = tmp_path / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:2000])
    sums["test"][2] = md5(path)  # past the sum, it is the parser that must object
    with pytest.raises(DataError, match=r"test_32x32.mat is damaged .*Move .*mat away and run"):
        data.load("svhn", data_dir=tmp_path)
    (tmp_path / "extra_32x32.mat").unlink()
    with pytest.raises(DataError, match=r"download\('svhn', extra=True\)` to download it, or"):
        data.load("svhn", "extra", data_dir=tmp_path)


def test_cifar10c(tmp_path: Path) -> None:
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    images, labels = pixels(100, 32, 32, 3), np.tile(np.arange(20) % 10, 5)
    np.save(folder / "fog.npy", images)
    np.save(folder / "labels.npy", labels)
    for severity in range(1, 6):
        part = data.load("cifar10-c", data_dir=tmp_path, corruption="fog", severity=severity)
        rows = slice(20 * (severity - 1), 20 * severity)
        expected = torch.from_numpy(images[rows]).permute(0, 3, 1, 2) / 255
        torch.testing.assert_close(part.tensors()[0], expected)
        assert part.indices.tolist() == list(range(100))[rows]
    few = data.load("cifar10-c", data_dir=tmp_path, corruption="fog", severity=2, n_examples=5)
    assert set(few.indices.tolist()) < set(range(20, 40))
    with pytest.raises(UsageError, match=r"needs corruption .* and severity \(1 to 5\)"):
        data.load("cifar10-c", data_dir=tmp_path)
    with pytest.raises(UsageError, match="unknown corruption 'fogg': did you mean 'fog'"):
        data.load("cifar10-c", data_dir=tmp_path, corruption="fogg", severity=1)
    with pytest.raises(UsageError, match="severity must be a whole number from 1 to 5, not 6"):
        data.load("cifar10-c", data_dir=tmp_path, corruption="fog", severity=6)
    with pytest.raises(UsageError, match=r"cifar10-c has no split 'train'\. Splits: test"):
        data.load("cifar10-c", "train", data_dir=tmp_path)
    np.save(folder / "fog.npy", images[:-1])
    with pytest.raises(DataError, match="99 images and 100 labels are not 5 equal severities"):
        data.load("cifar10-c", data_dir=tmp_path, corruption="fog", severity=1)
    (folder / "fog.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(DataError, match=r"fog.npy is damaged"):
        data.load("cifar10-c", data_dir=tmp_path, corruption="fog", severity=1)


def jpeg(path: Path, shade: int, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, shade if mode == "L" else (shade, 0, 255 - shade)).save(path, "JPEG")


@pytest.mark.usefixtures("small_val")
def test_tinyimagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        data.DATASETS, "tinyimagenet", replace(data.DATASETS["tinyimagenet"], num_classes=3)
    )
    root = tmp_path / "tiny-imagenet-200"
    for label, wnid in enumerate(["n01", "n02", "n03"]):
        for i in range(8):
            jpeg(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", 100 * label)
    (root / "wnids.txt").write_text("n03\nn01\nn02\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius\nn03\tbullfrog\nn99\tother\n")
    lines = []
    for i, label in enumerate([2, 0, 1, 1]):
        jpeg(root / "val" / "images" / f"val_{i}.JPEG", 80 * label, mode="L")
        lines.append(f"val_{i}.JPEG\tn0{label + 1}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))

    test = data.load("tinyimagenet", data_dir=tmp_path)
    x, y = test.tensors()
    assert y.tolist() == [2, 0, 1, 1]
    assert x.shape == (4, 3, 64, 64)  # grey files too
    torch.testing.assert_close(x[:, :, 5, 5], (y * 80 / 255)[:, None].expand(4, 3))
    assert test.classes == ("goldfish", "n02", "bullfrog")
    train, val = (data.load("tinyimagenet", s, data_dir=tmp_path) for s in ("train", "val"))
    assert sorted([*train.indices.tolist(), *val.indices.tolist()]) == list(range(24))
    assert sorted(val.labels.bincount().tolist()) == [3, 3, 4]
    memory = train.in_memory()
    for (x, y), (x2, y2) in zip(train.batches(5), memory.batches(5), strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)

    (root / "val" / "images" / "val_2.JPEG").unlink()
    with pytest.raises(DataError, match=r"incomplete: looked for .*val_2.JPEG .*Move .*200 away"):
        data.load("tinyimagenet", data_dir=tmp_path)
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn77\t0\t0\t1\t1\n")
    with pytest.raises(DataError, match=r"class 'n77' of val_0.JPEG is not in wnids.txt"):
        data.load("tinyimagenet", data_dir=tmp_path)


@pytest.mark.usefixtures("small_val")
def test_imagenette(tmp_path: Path) -> None:
    wnids = ["n01440764", "n02102040", "n02979186", "n03000684", "n03028079"]
    wnids += ["n03394916", "n03417042", "n03425413", "n03445777", "n03888257"]
    for label, wnid in enumerate(wnids):
        for i in range(2):
            jpeg(tmp_path / "imagenette2-320" / "train" / wnid / f"{i}.JPEG", 20 * label)
        jpeg(tmp_path / "imagenette2-320" / "val" / wnid / "0.JPEG", 20 * label, size=(90, 60))
    train, val = (
        data.load("imagenette", s, data_dir=tmp_path, image_size=28) for s in ("train", "val")
    )
    assert (val.labels.bincount() == 1).all()
    assert sorted([*train.indices.tolist(), *val.indices.tolist()]) == list(range(20))
    test = data.load("imagenette", data_dir=tmp_path)
    assert test.in_shape == data.DATASETS["imagenette"].in_shape == test[0][0].shape
    assert test.classes[:2] == ("tench", "English springer")
    assert abs(test[7][0][0].mean() * 255 - 140) < 2
    with pytest.raises(DataError, match=r"looked for imagenette2-160/val .*size='160px'\)`"):
        data.load("imagenette", data_dir=tmp_path, size="160px")
    with pytest.raises(UsageError, match="unknown size of imagenette '9px'"):
        data.load("imagenette", data_dir=tmp_path, size="9px")


def test_folder(tmp_path: Path) -> None:
    for i in range(3):
        jpeg(tmp_path / "train" / "ant" / f"{i}.jpg", 10, size=(50, 40))
        jpeg(tmp_path / "train" / "bee" / f"{i}.jpg", 200, size=(40, 50))
    jpeg(tmp_path / "test" / "bee" / "0.jpg", 200)
    (tmp_path / "train" / ".cache").mkdir()
    train = data.load("folder", "train", data_dir=tmp_path, image_size=16)
    assert (train.classes, train.in_shape) == (("ant", "bee"), (3, 16, 16))
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    # A split without ants keeps the labels of the training set.
    assert data.load("folder", data_dir=tmp_path).labels.tolist() == [1]
    with pytest.raises(UsageError, match=r"has no split 'val'. Splits there: test, train"):
        data.load("folder", "val", data_dir=tmp_path)
    with pytest.raises(DataError, match=r"no folder .*nowhere: pass data_dir"):
        data.load("folder", data_dir=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="image_size must be a whole number of pixels, not 0"):
        data.load("folder", data_dir=tmp_path, image_size=0)
    broken = tmp_path / "train" / "bee" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"bee/1.jpg can't be read as an image"):
        list(data.load("folder", "train", data_dir=tmp_path).batches(4))
    jpeg(tmp_path / "test" / "wasp" / "0.jpg", 0)
    with pytest.raises(DataError, match=r"has classes that .*train lacks: wasp"):
        data.load("folder", data_dir=tmp_path)
    shutil.rmtree(tmp_path / "train")
    shutil.rmtree(tmp_path / "test")
    (tmp_path / "test" / "ant").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no images"):
        data.load("folder", data_dir=tmp_path)


# -- names, places, downloads ---------------------------------------------------------------------


def test_missing_data_says_what_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        data.load("cifar10", data_dir=tmp_path)
    assert str(error.value) == (
        f"cifar10 not found: looked for cifar-10-batches-py in {tmp_path}. "
        f"Run `landscape data cifar10` to download it (170 MB), or pass --data-dir."
    )
    downloadable = [name for name, entry in data.DATASETS.items() if entry.remote]
    assert len(downloadable) == 8
    for name in downloadable:
        options = {"corruption": "fog", "severity": 1} if name == "cifar10-c" else {}
        with pytest.raises(DataError, match=f"^{name} not found: .*`landscape data {name}`"):
            data.load(name, data_dir=tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_unknown_names_splits_and_options() -> None:
    with pytest.raises(UsageError, match="unknown data set 'cifar': did you mean 'cifar10'"):
        data.load("cifar")
    with pytest.raises(UsageError, match=r"digits has no split 'dev'. Splits: train, val, test"):
        data.load("digits", "dev")
    with pytest.raises(UsageError, match="option 'size' for digits, which takes none"):
        data.load("digits", size="full")
    with pytest.raises(UsageError, match="unknown augmentation 'crop'"):
        data.augmentation("crop")


def test_the_table_is_consistent() -> None:
    for name, entry in data.DATASETS.items():
        assert entry.name == name
        assert entry.augmentation in data.AUGMENTATIONS
        assert (entry.mean is None) == (entry.std is None)
        if entry.in_shape and entry.mean:
            assert len(entry.mean) == entry.in_shape[0]
        if entry.classes:
            assert len(entry.classes) == entry.num_classes
        assert all(isinstance(part, Part) for part in entry.splits.values())


def test_pixels_out_of_range_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = data.DATASETS["digits"]
    for value in (1.5, -0.1, float("nan")):

        def loader(root: Path, part: str, value: float = value) -> object:
            source = entry.loader(root, part)
            source.images.values[3, 0, 0, 0] = value  # type: ignore[attr-defined]
            return source

        monkeypatch.setitem(data.DATASETS, "digits", replace(entry, loader=loader))
        with pytest.raises(DataError, match=r"digits in .* has pixels outside \[0, 1\]"):
            data.load("digits")


def test_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LANDSCAPE_DATA", raising=False)
    assert data.data_folder() == tmp_path / "cache" / "landscape" / "data"
    monkeypatch.setenv("LANDSCAPE_DATA", str(tmp_path / "mine"))
    assert data.data_folder() == tmp_path / "mine"
    assert data.data_folder(tmp_path) == tmp_path
    monkeypatch.delenv("LANDSCAPE_DATA")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data.data_folder().parts[-2:] == ("landscape", "data")


def test_status(tmp_path: Path) -> None:
    (tmp_path / "CIFAR-10-C").mkdir()
    (tmp_path / "imagenette2-160").mkdir()
    lines = {line.name: line for line in data.status(tmp_path)}
    assert set(lines) == set(data.DATASETS) - {"folder"}
    present = {name for name, line in lines.items() if line.present}
    assert present == {"digits", "digits32", "cifar10-c", "imagenette"}
    assert lines["cifar10-c"] == ("cifar10-c", True, tmp_path / "CIFAR-10-C", "2.9 GB")
    assert lines["imagenette"].path == tmp_path / "imagenette2-160"
    assert lines["digits"].path is None


def test_a_failed_download_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(tv_utils, "_get_redirect_url", offline)
    monkeypatch.setattr(tv_utils, "_urlretrieve", offline)
    for name, entry in data.DATASETS.items():
        if entry.remote is None:
            continue
        with pytest.raises(DataError, match=f"^couldn't download {name} .*no route") as error:
            data.download(name, tmp_path)
        message = str(error.value)
        assert "\n" not in message
        assert f"in {tmp_path / entry.remote.place} by hand" in message
    assert "Put cifar-10-python.tar.gz" in str(_failure("cifar10", tmp_path))
    with pytest.raises(UsageError, match="digits can't be downloaded: it comes with scikit-learn"):
        data.download("digits", tmp_path)
    with pytest.raises(UsageError, match="unknown download option 'extra' for cifar10"):
        data.download("cifar10", tmp_path, extra=True)
    assert capsys.readouterr().out == ""


def _failure(name: str, root: Path) -> DataError:
    with pytest.raises(DataError) as error:
        data.download(name, root)
    return error.value


def test_an_archive_put_there_by_hand_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "tiny-imagenet-200.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("tiny-imagenet-200/wnids.txt", "n01\n")
    entry = data.DATASETS["tinyimagenet"]
    assert entry.remote is not None
    fetching = partial(entry.remote.fetch, md5=md5(archive))
    remote = replace(entry.remote, fetch=fetching)
    monkeypatch.setitem(data.DATASETS, "tinyimagenet", replace(entry, remote=remote))
    assert data.download("tinyimagenet", tmp_path) == tmp_path
    assert (tmp_path / "tiny-imagenet-200" / "wnids.txt").read_text() == "n01\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == [fetch.TINY, archive.name]
    data.download("tinyimagenet", tmp_path)  # there already: nothing to do


def test_importing_is_light() -> None:
    code = "import sys, landscape.data; print({'sklearn', 'torchvision'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


# -- factories ------------------------------------------------------------------------------------

PAIR = (torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    mine = types.ModuleType("my_data")
    monkeypatch.setitem(sys.modules, "my_data", mine)
    return mine


def test_factories_get_what_they_accept(module: types.ModuleType) -> None:
    batches = [PAIR]
    seen: list[dict[str, object]] = []
    module.plain = lambda: batches  # type: ignore[attr-defined]
    module.some = lambda split, n_examples=7: seen.append(locals()) or batches  # type: ignore[attr-defined]
    module.every = lambda **kw: seen.append(kw) or batches  # type: ignore[attr-defined]
    assert data.load("my_data:plain") is batches
    data.load("my_data:some", "val")
    assert seen.pop() | {"seen": 0, "batches": 0} == {
        "split": "val",
        "n_examples": 7,
        "seen": 0,
        "batches": 0,
    }
    data.load("my_data:every", n_examples=3, seed=5, colour="red")
    assert seen.pop() == {"split": "test", "seed": 5, "n_examples": 3, "colour": "red"}
    with pytest.raises(UsageError, match="my_data:plain takes no n_examples: add the parameter"):
        data.load("my_data:plain", n_examples=3)


def test_unusable_factories(module: types.ModuleType) -> None:
    module.needs = lambda root, split: [PAIR]  # type: ignore[attr-defined]
    module.once = lambda: iter([PAIR])  # type: ignore[attr-defined]
    module.generator = lambda: (PAIR for _ in range(2))  # type: ignore[attr-defined]
    module.number = 3  # type: ignore[attr-defined]
    module.returns_number = lambda: 3  # type: ignore[attr-defined]
    for name, error, message in (
        ("needs", UsageError, "my_data:needs needs root: a data factory is called with split"),
        ("once", DataError, "returned a one-shot list_iterator, which is empty on the second"),
        ("generator", DataError, "returned a one-shot generator"),
        ("returns_number", DataError, "returned a int: expected a re-iterable"),
        ("number", UsageError, "is a int, not a function"),
        ("absent", UsageError, "module 'my_data' has no 'absent'"),
    ):
        with pytest.raises(error, match=message):
            data.load(f"my_data:{name}")
    with pytest.raises(UsageError, match=r"no module 'nowhere_at_all' for 'nowhere_at_all.x:f'"):
        data.load("nowhere_at_all.x:f")
    with pytest.raises(UsageError, match=r"':f' is not package.module:factory"):
        data.load(":f")


# -- augmentation ---------------------------------------------------------------------------------


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crop_flip_reference(x: torch.Tensor, record: CropFlip) -> torch.Tensor:
    """Pixel by pixel."""
    n, _, height, width = x.shape
    out = torch.zeros_like(x)
    for b in range(n):
        for i in range(height):
            for j in range(width):
                k = width - 1 - j if record.flip[b] else j
                row = i + int(record.top[b]) - record.padding
                column = k + int(record.left[b]) - record.padding
                if 0 <= row < height and 0 <= column < width:
                    out[b, :, i, j] = x[b, :, row, column]
    return out


def test_crop_flip_against_the_slow_reference() -> None:
    x = torch.rand(6, 2, 7, 5, generator=generator())
    record = CropFlip.draw(6, generator(1))
    assert record.flip.any()
    assert not record.flip.all()
    torch.testing.assert_close(record.apply(x), crop_flip_reference(x, record), rtol=0, atol=0)
    same = data.AUGMENTATIONS["crop-flip"](x, generator(1))
    assert torch.equal(same, record.apply(x))
    record = CropFlip.draw(6, generator(2), padding=1, flips=False)
    shifted = data.AUGMENTATIONS["shift"](x, generator(2))
    torch.testing.assert_close(shifted, crop_flip_reference(x, record), rtol=0, atol=0)


def test_crop_and_write_are_inverse() -> None:
    canvas = torch.rand(8, 3, 13, 12, generator=generator())
    patch = torch.rand(8, 3, 5, 4, generator=generator(1))
    record = CropFlip.draw(8, generator(2))
    before = canvas.clone()
    assert torch.equal(record.write(record.crop(canvas), canvas), canvas)
    written = record.write(patch, canvas)
    assert torch.equal(record.crop(written), patch)
    assert ((written != canvas).sum((1, 2, 3)) <= 3 * 5 * 4).all()
    assert torch.equal(canvas, before)


def test_offsets_and_flips_are_uniform() -> None:
    n = 20_000
    record = CropFlip.draw(n, generator())
    for offsets in (record.top, record.left):
        counts = offsets.bincount(minlength=9)
        assert len(counts) == 9
        assert ((counts - n / 9).abs() < 5 * (n * 8 / 81) ** 0.5).all()
    assert abs(record.flip.sum() - n / 2) < 5 * (n / 4) ** 0.5


def test_sat_against_a_slow_reference() -> None:
    x = torch.rand(5, 3, 8, 6, generator=generator())
    record = Sat.draw(5, generator(3))
    assert ((record.scale >= 0.9) & (record.scale <= 1.1)).all()
    assert ((record.brightness >= 0.9) & (record.brightness <= 1.1)).all()
    moved = crop_flip_reference(x, record.crop_flip)
    expected = torch.zeros_like(x)
    for b in range(5):
        for i in range(8):
            for j in range(6):
                # The pixel's place relative to the centre, divided by the scale.
                row = (i + 0.5 - 4) / float(record.scale[b]) + 4 - 0.5
                column = (j + 0.5 - 3) / float(record.scale[b]) + 3 - 0.5
                top, left = int(np.floor(row)), int(np.floor(column))
                for r, c in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                    if 0 <= r < 8 and 0 <= c < 6:
                        weight = (1 - abs(row - r)) * (1 - abs(column - c))
                        expected[b, :, i, j] += weight * moved[b, :, r, c]
        expected[b] = (expected[b] * record.brightness[b]).clamp(0, 1)
    torch.testing.assert_close(record.apply(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(data.AUGMENTATIONS))
def test_every_augmentation(name: str) -> None:
    augment = data.augmentation(name)
    x = torch.rand(16, 3, 32, 32, generator=generator())
    before, state = x.clone(), torch.get_rng_state()
    out = augment(x, generator(1))
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal(augment(x, generator(1)), out)
    assert name == "none" or not torch.equal(augment(x, generator(2)), out)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
