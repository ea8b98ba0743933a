"""Mutations of files: of their bytes, and of what their format says (a step a mutation)."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from fuzz.running import CANARY

TEXTS = (
    "",
    "x",
    "x" * 3000,
    "\x00",
    "../../escaped",
    "/escaped",
    f"{CANARY}:touch",
    f"ensemble:{CANARY}:touch",
    "os:system",
    "torchvision:resnet18",
    "lenet-99999",
    "wrn-99994-1",
    "resnet18-" + "9" * 5000,
    "<script>alert(1)</script>",
    "$\\frac{",
    "two\nlines\x1b[31m",
    "\u2028\ud800".encode("utf-8", "replace").decode(),
    "digits",
    "nan",
    "8/255",
)
NUMBERS = (0, -1, 1, 2, 7, 10**12, 2**63, -(2**63), 10**30, 0.5, 1e308, float("nan"), float("inf"))


class Touches:
    """Unpickles by a call that leaves a file behind."""

    def __reduce__(self) -> Any:
        return (open, ("canary", "w"))


# -- bytes ----------------------------------------------------------------------------------------


def of_bytes(content: bytes, draw: random.Random) -> bytes:
    """One of: bits flipped, a stretch overwritten, cut out, repeated, zeroed; the end cut off."""
    data = bytearray(content)
    if not data:
        return draw.randbytes(20)
    # Headers are at the start and, in zip files, at the end; most of the rest is numbers.
    near = draw.choice([len(data), 200, 2000])
    at = draw.randrange(min(near, len(data)))
    if draw.random() < 0.3:
        at = len(data) - 1 - at
    length = draw.choice([1, 4, 8, 40, 400])
    match draw.randrange(7):
        case 0:
            data[at] ^= 1 << draw.randrange(8)
        case 1:
            data[at : at + length] = draw.randbytes(length)
        case 2:
            del data[at : at + length]
        case 3:
            data[at:at] = data[at : at + length]
        case 4:
            data[at : at + length] = bytes(min(length, len(data) - at))
        case 5:
            del data[at:]
        case _:
            big = draw.choice([10**12, 2**63 - 1, 2**32, 0xFFFFFFFF])
            data[at : at + 8] = struct.pack("<Q", big)
    return bytes(data)


# -- trees of lists and dictionaries --------------------------------------------------------------


def _laughing() -> Any:
    """A small object that would be written out as 2⁴⁰ entries."""
    found: Any = ["ha"]
    for _ in range(40):
        found = [found, found]
    return found


def _nasty(draw: random.Random, old: Any) -> Any:
    """Something in the place of ``old``: of its type, or of another."""
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    if isinstance(old, str) and draw.random() < 0.7:
        return draw.choice(TEXTS)
    if isinstance(old, int | float) and draw.random() < 0.7:
        return draw.choice(NUMBERS)
    return draw.choice(
        [
            *(None, True, [], {}, [[]], {"a": 1}, deep, [old, old], {"": old}),
            *(draw.choice(TEXTS), draw.choice(NUMBERS)),
        ]
    )


def of_tree(tree: Any, draw: random.Random, nasty: Callable[[random.Random, Any], Any]) -> Any:
    """The tree with one node replaced, left out, renamed or moved."""
    if not isinstance(tree, dict | list) or not tree or draw.random() < 0.05:
        return nasty(draw, tree)
    if isinstance(tree, list):
        copied: Any = list(tree)
        key: Any = draw.randrange(len(copied))
    else:
        copied = dict(tree)
        key = draw.choice(list(copied))
    if draw.random() < 0.7 or not isinstance(tree, dict):
        copied[key] = of_tree(copied[key], draw, nasty)
    elif draw.random() < 0.4:
        del copied[key]
    elif draw.random() < 0.5:
        copied[draw.choice([*TEXTS, 3, None, *tree])] = copied.pop(key)
    else:
        copied[draw.choice(list(copied))] = copied[key]
    return copied


# -- formats --------------------------------------------------------------------------------------


def _nasty_tensor(draw: random.Random, old: Any) -> Any:
    if not torch.is_tensor(old):
        return _laughing() if draw.random() < 0.05 else _nasty(draw, old)
    if old.numel() > 10**6:  # a mutant that announces much
        return torch.zeros(1)
    one, point = torch.zeros(1), torch.tensor([[0], [1]])
    holes = torch.sparse_coo_tensor(point, [1.0], (10**6, 10**6), check_invariants=True)
    return draw.choice(
        [
            old[..., :0] if old.ndim else old,
            old.reshape(1, -1) if old.layout == torch.strided else old,
            old.to(torch.float64) if not old.is_complex() else old,
            old.to(torch.complex64),
            old.bool(),
            one.expand(10**6, 10**6),
            one.expand(*old.shape) if old.ndim else old,
            torch.full_like(old, 3) if not old.is_floating_point() else old * float("nan"),
            old * float("inf") if old.is_floating_point() else old,
            holes,
            torch.empty(10**7, 10**5, device="meta"),
            torch.tensor(3.0),
            Touches(),
            "weights",
            None,
            {"a": old},
        ]
    )


def of_torch(content: bytes, draw: random.Random) -> bytes:
    """One node of what ``torch.save`` wrote; a native checkpoint is sealed again."""
    try:
        tree = torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # already no such file
        return of_bytes(content, draw)
    chosen = draw.random()
    if chosen < 0.05:
        return pickle.dumps(draw.choice([Touches(), {"state_dict": Touches()}, [tree, Touches()]]))
    buffer = io.BytesIO()
    try:
        tree = of_tree(tree, draw, _nasty_tensor)
        torch.save(_sealed(tree), buffer, _use_new_zipfile_serialization=chosen < 0.9)
    except Exception:  # what can't be written is no input
        return of_bytes(content, draw)
    return buffer.getvalue()


def _sealed(tree: Any) -> Any:
    """With the digest that belongs to it, as whoever makes such a file would."""
    from landscape.checkpoints import FORMAT, Checkpoint
    from landscape.limits import check_content

    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        return tree
    known = {name: tree[name] for name in Checkpoint.__dataclass_fields__ if name in tree}
    try:
        check_content(known)  # else the digest would take for ever
        return {**tree, "seal": Checkpoint(**known)._seal()}
    except Exception:  # not even that
        return tree


def of_json(content: bytes, draw: random.Random) -> bytes:
    """One node of a JSON file, or a file that no writer makes."""
    if draw.random() < 0.1:
        return draw.choice([b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"NaN", b"1e999", b""])
    try:
        tree = json.loads(content)
        return json.dumps(of_tree(tree, draw, _nasty_json)).encode(errors="replace")
    except (ValueError, RecursionError, TypeError):
        return of_bytes(content, draw)


def _nasty_json(draw: random.Random, old: Any) -> Any:
    found = _nasty(draw, old)
    return found if len(repr(found)[:2000]) < 1000 else 10**12


def of_hdf5(content: bytes, draw: random.Random) -> bytes:
    """One array, attribute, group or link of an HDF5 file."""
    buffer = io.BytesIO(content)
    try:
        with h5py.File(buffer, "r+") as file:
            items: list[Any] = [file]
            file.visititems(lambda _, item: items.append(item))
            _of_item(draw.choice(items), draw)
    except Exception:  # damaged before, or refused by h5py itself
        return of_bytes(content, draw)
    return buffer.getvalue()


def _of_item(item: Any, draw: random.Random) -> None:
    if isinstance(item, h5py.Dataset):
        _of_array(item.parent, item.name.split("/")[-1], draw)
    elif draw.random() < 0.5 and len(item.attrs):
        _of_attribute(item.attrs, draw)
    else:
        _of_group(item, draw)


def _of_attribute(attributes: Any, draw: random.Random) -> None:
    key = draw.choice(list(attributes))
    value = attributes[key]
    if key == "provenance" and isinstance(value, str) and draw.random() < 0.8:
        attributes[key] = of_json(value.encode(), draw).decode(errors="replace")
    elif key == "kind" and draw.random() < 0.6:
        from landscape.results import _HOMES

        attributes[key] = draw.choice(list(_HOMES))
    elif draw.random() < 0.2:
        del attributes[key]
    else:
        attributes[key] = draw.choice(
            [t.replace("\x00", "0") for t in TEXTS[:8]] + [0, -1, 10**12, 2.5, np.zeros(3)]
        )


def _of_group(group: Any, draw: random.Random) -> None:
    names = [name for name in group if isinstance(group[name], h5py.Group)]
    if names and draw.random() < 0.7:
        name = draw.choice(names)
        new = draw.choice([t for t in TEXTS if t and "\x00" not in t and "/" not in t])
        group.move(name, draw.choice([new, "..", "a/../../b"]))
    else:
        group.attrs["kind"] = draw.choice(["spectrum", "surface", "os:system", "report"])


def _of_array(group: Any, name: str, draw: random.Random) -> None:
    old = group[name]
    shape, kind = old.shape, old.dtype
    values = old[()]
    match draw.randrange(12):
        case 0:
            del group[name]
        case 1:  # announces much, holds nothing
            del group[name]
            group.create_dataset(name, (10**6,) * max(1, len(shape)), "f8", chunks=True)
        case 2:
            del group[name]
            group[name] = h5py.SoftLink(draw.choice(["/nothing", "/", f"/{name}"]))
        case 3:
            del group[name]
            group[name] = h5py.ExternalLink("other.h5", "/")
        case 4:
            del group[name]
            group.create_dataset(name, (8,), "u1", external=[("/etc/hostname", 0, 8)])
        case 5:
            del group[name]
            group.create_dataset(name, data=draw.choice(["text", 3.5, -1, np.zeros((2, 0, 3))]))
        case 6:
            del group[name]
            texts = [t.replace("\x00", "0") for t in TEXTS]
            data = np.array([draw.choice(texts) for _ in range(int(np.prod(shape)))], dtype=object)
            group.create_dataset(name, data=data.reshape(shape), dtype=h5py.string_dtype())
        case 7:
            del group[name]
            group.create_dataset(name, data=np.asarray(values).reshape(-1)[:1])
        case 8:
            del group[name]
            group.create_group(name)
        case _ if kind.kind in "fiu" and np.size(values):
            new = np.array(values, dtype=kind)
            fill = draw.choice([n for n in NUMBERS if abs(n) < 100 or kind.kind == "f"])
            with np.errstate(all="ignore"):
                where = draw.randrange(new.size) if draw.random() < 0.5 else slice(None)
                new.reshape(-1)[where] = np.asarray(fill).astype(kind) if new.ndim else 0
            old[()] = new
        case _:
            del group[name]
            group.create_dataset(name, data=np.repeat(np.atleast_1d(values), 2, axis=0))


def of_toml(content: bytes, draw: random.Random) -> bytes:
    """One line of a TOML file: its value or its key another one, left out, repeated or moved."""
    lines = content.decode(errors="replace").splitlines() or [""]
    at = draw.randrange(len(lines))
    key, sign, _ = lines[at].partition("=")
    texts = [json.dumps(text) for text in TEXTS]
    values = [*texts, "[]", "{}", "[[]]", "nan", "-inf", "1e400", "1979-05-27", "true", "0", "-1"]
    values += [str(10**30), "[" * 2000 + "]" * 2000, "[1, 'x']", "{a.b = 1}", '"""']
    match draw.randrange(5):
        case 0 | 1 if sign:
            lines[at] = f"{key}= {draw.choice(values)}"
        case 2:
            lines[at] = f"{draw.choice(['model', 'seed', 'eps', 'a.b', '[grid', '[[train]]'])} = 1"
        case 3:
            del lines[at]
        case _:
            lines.insert(draw.randrange(len(lines)), lines[at])
    return "\n".join(lines).encode(errors="replace")


FORMATS: Mapping[str, Callable[[bytes, random.Random], bytes]] = {
    ".pt": of_torch,
    ".pth": of_torch,
    ".h5": of_hdf5,
    ".json": of_json,
    ".toml": of_toml,
}


def mutant(name: str, content: bytes, draw: random.Random) -> bytes:
    """One to three mutations, two thirds of them by the file's format."""
    for _ in range(draw.choice([1, 1, 2, 3])):
        own = FORMATS.get(Path(name).suffix)
        by_format = own is not None and draw.random() < 0.67
        content = own(content, draw) if own and by_format else of_bytes(content, draw)
    return content
