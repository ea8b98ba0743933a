"""What a file may announce: no more than it holds, and nothing outside of it.

A file of a kilobyte can describe a tensor of 10¹² numbers, a list that unfolds to 10⁹ entries or
an array that lies in another file. Each check raises ``Excess`` with the reason in words; readers
make it an error that names the file.
"""

from __future__ import annotations

import contextlib
import mmap
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

if TYPE_CHECKING:
    from torch import Tensor

# Entries of lists and dictionaries, as they would be written out, and how deep they nest.
_ENTRIES, _DEPTH = 10**7, 100

# Deflate, the compression of zip and HDF5 files, reaches 1032.
_COMPRESSION = 1032


class Excess(ValueError):
    """The file announces more than it holds, or what lies elsewhere."""


def check_archive(path: Path) -> None:
    """Of a zip file: torch stores its entries as they are, so compressed ones that unpack to many
    times the file are not torch's."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > 100 * path.stat().st_size:
        raise Excess(f"it unpacks to {unpacked:,} bytes")


def check_content(content: Any) -> None:
    """Of what was unpickled: every tensor dense and held whole, and no list that unfolds without
    end because it holds another one many times, or itself."""
    entries = _count(content, 0, {})
    if entries > _ENTRIES:
        raise Excess(f"it unfolds to {entries:.0e} entries")


def _count(value: Any, depth: int, seen: dict[int, int]) -> int:
    """Entries in all, every object counted where it appears but looked at once."""
    if hasattr(value, "untyped_storage"):  # a tensor
        _check_tensor(value)
        return 1
    if isinstance(value, Mapping):
        children = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        children = list(value)
    else:
        return 1
    if id(value) not in seen:
        if depth > _DEPTH:
            raise Excess(f"its content is nested more than {_DEPTH} deep")
        seen[id(value)] = -1  # being counted
        seen[id(value)] = 1 + sum(_count(child, depth + 1, seen) for child in children)
    if seen[id(value)] < 0:
        raise Excess("it holds a list in itself")
    return seen[id(value)]


def _check_tensor(tensor: Tensor) -> None:
    import torch  # results that no network is needed for are read without it

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise Excess(f"it holds a tensor that is not dense ({tensor.layout}, {tensor.device})")
    announced = tensor.numel() * tensor.element_size()
    held = tensor.untyped_storage().nbytes()
    if announced > held:
        raise Excess(f"a tensor of shape {tuple(tensor.shape)} has {held:,} bytes in the file")


@contextlib.contextmanager
def hdf5(path: str | Path) -> Iterator[h5py.File]:
    """An HDF5 file to read; one on which the HDF5 library would go round for ever is refused."""
    _check_heaps(Path(path))
    with h5py.File(path, "r") as file:
        yield file


def _check_heaps(path: Path) -> None:
    """Of the collections that hold texts: the library follows the sizes of their objects without
    asking whether they lead on. The object 0 is the free space, whose size counts its header."""
    if path.stat().st_size == 0:
        return
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = -1
        while (start := data.find(b"GCOL\x01\0\0\0", start + 1)) >= 0:
            end = start + int.from_bytes(data[start + 8 : start + 16], "little")
            at = start + 16
            while at + 16 <= end:
                index = int.from_bytes(data[at : at + 2], "little")
                size = int.from_bytes(data[at + 8 : at + 16], "little")
                step = 16 + (size + 7) // 8 * 8 if index else size
                if not 0 < step <= end - at:
                    raise Excess("its texts are damaged")
                at += step


def member(group: h5py.Group, name: str) -> h5py.Dataset:
    """The array of a name, if it lies in the file itself and its numbers do."""
    found = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset):
        raise Excess(f"'{name}' is no array of the file itself")
    if found.is_virtual or found.id.get_create_plist().get_external_count():
        raise Excess(f"'{name}' lies in another file")
    held = found.id.get_storage_size()
    if found.nbytes > _COMPRESSION * held + 4096:
        raise Excess(f"'{name}' announces {found.nbytes:,} bytes and holds {held:,}")
    return found
