"""What a run's files hold: numbers to compare, and whether every file is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landscape.checkpoints import read_payload
from landscape.results import load_all

# What differs from run to run although the work is the same: times, digests over them, and places.
_NOT_NUMBERS = {"seconds", "wall_time", "created", "versions", "seal", "files", "digest", "cache"}


# Of pictures.
ENDS = {".png": b"IEND\xaeB`\x82", ".pdf": b"%%EOF\n"}


def listing(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def temporaries(folder: Path) -> set[str]:
    """Files written aside, and reservations."""
    return {n for n in listing(folder) if Path(n).name.startswith(".")}


def numbers(folder: Path, without: Iterable[str] = (), *, pictures: bool) -> dict[str, str]:
    """Digest of every number, by file and name; PDFs and words are left out."""
    found: dict[str, str] = {}
    for name in sorted(listing(folder) - {*without}):
        path = folder / name
        if path.name.startswith("."):
            continue
        if path.suffix == ".h5":
            for group, result in load_all(path).items():
                for field in result.fields():
                    _add(found, f"{name}:{group}.{field.name}", getattr(result, field.name))
        elif path.suffix == ".pt":
            _add(found, f"{name}:", read_payload(path))
        elif path.suffix == ".json":
            _add(found, f"{name}:", json.loads(path.read_text()))
        elif path.suffix == ".csv":
            _add(found, f"{name}:", path.read_text())
        elif path.suffix == ".png" and pictures:
            found[f"{name}:"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def not_finite(folder: Path) -> dict[str, int]:
    """How many numbers of every field of every result are NaN or infinite."""
    found = {}
    for path in folder.rglob("*.h5"):
        for group, result in load_all(path).items():
            for field in result.fields():
                value = getattr(result, field.name)
                if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                    name = f"{path.relative_to(folder)}:{group}.{field.name}"
                    found[name] = int((~np.isfinite(value)).sum())
    return found


def _add(found: dict[str, str], name: str, value: Any) -> None:
    if name.rpartition(".")[2] in _NOT_NUMBERS:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            _add(found, f"{name}.{key}", item)
    elif isinstance(value, list | tuple) and value and not isinstance(value[0], int | float | str):
        for i, item in enumerate(value):
            _add(found, f"{name}[{i}]", item)
    else:
        if torch.is_tensor(value):
            value = value.detach().cpu().numpy()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fciub":
            content = f"{value.dtype} {value.shape} ".encode() + value.tobytes()
        else:
            content = repr(value.tolist() if isinstance(value, np.ndarray) else value).encode()
        found[name] = hashlib.sha256(content).hexdigest()


def broken(folder: Path) -> list[str]:
    """Files under their final names that are not whole."""
    found = []
    for name in sorted(listing(folder)):
        path = folder / name
        if path.name.startswith("."):
            continue
        try:
            if not _whole(path):
                found.append(name)
        except Exception as error:  # whatever its reader says, the file is no good
            found.append(f"{name} ({error})")
    return found


def _whole(path: Path) -> bool:
    content = path.read_bytes()
    if path.suffix == ".h5":
        return bool(load_all(path))
    if path.suffix == ".pt":
        return bool(read_payload(path))
    if path.suffix == ".json":
        return isinstance(json.loads(content), dict)
    return content.endswith(ENDS.get(path.suffix, b""))
