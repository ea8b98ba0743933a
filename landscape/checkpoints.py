"""Checkpoints: weights with what is needed to use them, in a file that can't run code."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape import foreign, limits
from landscape import params as P
from landscape.errors import CheckpointError, UsageError
from landscape.files import write_atomic
from landscape.provenance import plain, versions

FORMAT = "landscape-checkpoint"
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Weights and their context. Everything but the weights is plain data.

    Attributes:
        state_dict: names to tensors, on the CPU.
        model: specification that ``landscape.models.ModelSpec.from_dict`` builds, or ``None``
            for a file of bare weights.
        data: ``{"name": ..., "options": {...}}`` of the training data, or ``None``.
        method: name and resolved configuration of the training.
        history: per-epoch columns. metrics: of the saved weights. epoch: that they are from.
        seed: of the training.
    """

    state_dict: dict[str, Tensor]
    model: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    method: dict[str, Any] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    epoch: int | None = None
    seed: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return P.digest(self.state_dict)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the native format, whole or not at all."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "versions": versions(),
            **self._context(),
            "state_dict": {n: t.detach().cpu().clone() for n, t in self.state_dict.items()},
            "seal": self._seal(),
        }
        return write_payload(path, content, overwrite=overwrite)

    def _context(self) -> dict[str, Any]:
        """Everything but the weights, as plain data."""
        names = [f.name for f in dataclasses.fields(self) if f.name != "state_dict"]
        return {name: plain(getattr(self, name)) for name in names}

    def _seal(self) -> str:
        """SHA-256 of weights and context: tells a damaged file."""
        text = json.dumps([self.digest, self._context()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def into(self, model: nn.Module) -> nn.Module:
        """Load the weights into ``model``; nothing is changed if they don't fit.

        Weights of another project (no ``model``) go by the model's names first, see ``fitted``.
        """
        theirs = model.state_dict()
        mine = self.fitted(model)[0] if self.model is None else self.state_dict
        problems = []
        missing = [name for name in theirs if name not in mine]
        extra = [name for name in mine if name not in theirs]
        shapes = [n for n in mine if n in theirs and mine[n].shape != theirs[n].shape]
        if missing:
            problems.append(f"{len(missing)} missing ({_some(missing)})")
        if extra:
            problems.append(f"{len(extra)} unexpected ({_some(extra)})")
        if shapes:
            n = shapes[0]
            problems.append(
                f"{len(shapes)} of another shape ({n}: {tuple(mine[n].shape)} in the file, "
                f"{tuple(theirs[n].shape)} in the model)"
            )
        if problems:
            raise CheckpointError(
                f"the weights don't fit {type(model).__name__}: {'; '.join(problems)}. "
                "Is this the architecture they were trained with?"
            )
        model.load_state_dict(mine)
        return model

    def fitted(self, model: nn.Module) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """The weights under the names of ``model``, and what that took (``foreign.renamed``)."""
        return foreign.renamed(self.state_dict, model.state_dict())


def load(path: str | Path, *, trust: bool = False, key: str | None = None) -> Checkpoint:
    """Read a native checkpoint, or the weights in a file of another project (``foreign.unwrap``);
    one that comes with the package goes by its name, ``digits-pgd-seed0``.

    Nothing in the file is executed unless ``trust`` is given. ``key`` chooses among several sets
    of weights in a file, such as ``state_dict_ema``. Raises ``CheckpointError`` with one line of
    explanation for missing, truncated, non-checkpoint, code-carrying and damaged files, and for
    weights that hold NaN.
    """
    return load_with_steps(path, trust=trust, key=key)[0]


def load_with_steps(
    path: str | Path, *, trust: bool = False, key: str | None = None
) -> tuple[Checkpoint, foreign.Unwrapped | None]:
    """``load``, and for a file of another project how the weights were found in it."""
    path = find(path)
    content = read_payload(path, trust=trust)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        if key is not None:
            raise UsageError(f"{path} is a checkpoint of landscape, with one set of weights.")
        return _native(path, content), None
    try:
        found = foreign.unwrap(content, key)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} is no checkpoint that landscape knows ({error}): expected one made by "
            "`landscape train`, or weights by name (a state_dict)."
        ) from error
    checkpoint = Checkpoint(state_dict=found.state_dict)
    _check_finite(path, checkpoint)
    return checkpoint, found


def write_payload(path: str | Path, content: dict[str, Any], *, overwrite: bool = False) -> Path:
    """``torch.save`` through an atomic write."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return write_atomic(path, buffer.getbuffer(), overwrite=overwrite)


def read_payload(path: str | Path, *, trust: bool = False) -> Any:
    """``torch.load`` of tensors and plain data only, with every failure explained in one line."""
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: give a checkpoint file.")
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {error.strerror}.") from error
    if not head:
        raise CheckpointError(f"{path} is empty: copy or download it again.")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{path} is a web page, not a checkpoint (a download that asked for confirmation?): "
            "download it again."
        )
    if path.suffix == ".safetensors":
        return _safetensors(path)
    # torch writes zip files, before 1.6 pickles and before 0.2 tar files.
    if not head.startswith((b"PK", b"\x80")) and not tarfile.is_tarfile(path):
        raise CheckpointError(
            f"{path} is no checkpoint: it is neither a file that torch.save wrote nor .safetensors."
        )
    if head.startswith(b"PK") and not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is truncated: copy or download it again.")
    try:
        if head.startswith(b"PK"):
            limits.check_archive(path)
        with torch.serialization.safe_globals(_harmless()):
            content = torch.load(path, map_location="cpu", weights_only=not trust)
        limits.check_content(content)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "unsupported" not in str(error).lower():
            raise _damaged(path, error) from error
        raise CheckpointError(
            f"{path} holds Python objects besides tensors{_globals(path)}, and loading them can "
            "run code: if you trust where it came from, pass --trust-checkpoint (trust=True)."
        ) from error
    except Exception as error:  # torch raises many types for damaged files
        raise _damaged(path, error) from error
    if isinstance(content, dict) and str(content.get("format", "")).startswith("landscape-"):
        _check_intact(path)
    return content


def _check_intact(path: Path) -> None:
    """Compare a file of ours with its checksums, which torch doesn't. (Files of other projects may
    have been written without.)"""
    try:
        with zipfile.ZipFile(path) as file:
            bad = file.testzip()
    except Exception as error:  # zipfile raises many types, too
        raise _damaged(path, error) from error
    if bad is not None:
        raise CheckpointError(
            f"{path} is damaged ({bad} does not match its checksum): copy it again."
        )


def _harmless() -> list[Any]:
    """Types that checkpoints often hold beside tensors and that run nothing when loaded:
    numpy's scalars, by the names of numpy 1 and 2, and the arguments of a command line."""
    import argparse

    import numpy as np

    scalar = type(np.float64(0)).__reduce__(np.float64(0))[0]
    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    return [
        argparse.Namespace,
        np.dtype,
        *kinds,
        *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    ]


def _safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors
    import safetensors.torch

    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _native(path: Path, content: dict[str, Any]) -> Checkpoint:
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {content.get('version')}, this landscape reads "
            f"{VERSION}: upgrade landscape."
        )
    names = {f.name for f in dataclasses.fields(Checkpoint)}
    try:
        checkpoint = Checkpoint(**{k: v for k, v in content.items() if k in names})
        _check_types(checkpoint)
        seal = checkpoint._seal()
    except (TypeError, ValueError, AttributeError, KeyError, RuntimeError) as error:
        raise _damaged(path, error) from error
    if seal != content.get("seal"):
        raise CheckpointError(
            f"{path} is damaged (its content does not match its digest): copy it again."
        )
    _check_finite(path, checkpoint)
    return checkpoint


_OPTIONAL = (dict, type(None))
_TYPES: dict[str, tuple[type, ...]] = {
    "state_dict": (dict,),
    "model": _OPTIONAL,
    "data": _OPTIONAL,
    "method": (dict,),
    "history": (dict,),
    "metrics": (dict,),
    "epoch": (int, type(None)),
    "seed": (int, type(None)),
}


def _check_types(checkpoint: Checkpoint) -> None:
    """``TypeError`` or ``KeyError`` where the context is not what ``landscape train`` writes: the
    digest says that a file is whole, not who made it."""

    def check(what: str, value: Any, *kinds: type) -> None:
        if not isinstance(value, kinds):
            raise TypeError(f"its {what} is {type(value).__name__}")

    for name, kinds in _TYPES.items():
        check(name, getattr(checkpoint, name), *kinds)
    if not checkpoint.state_dict:
        raise TypeError("it holds no weights")
    for name, tensor in checkpoint.state_dict.items():
        check("name of a weight", name, str)
        check(f"weight '{name}'", tensor, Tensor)
    for name, number in checkpoint.metrics.items():
        check(f"metric '{name}'", number, int, float)
    if checkpoint.data is not None:
        check("data set", checkpoint.data["name"], str)
        check("options of the data", checkpoint.data.get("options", {}), dict)
    check("method's name", checkpoint.method.get("name", ""), str)
    check("method's digest", checkpoint.method.get("digest", ""), str)
    config = checkpoint.method.get("config")
    check("configuration", config, *_OPTIONAL)
    evaluation = (config or {}).get("evaluation")
    check("evaluation", evaluation, *_OPTIONAL)
    check("radius", (evaluation or {}).get("eps", 0.0), int, float)
    check("norm", (evaluation or {}).get("norm", ""), str)


def _check_finite(path: Path, checkpoint: Checkpoint) -> None:
    for name, tensor in checkpoint.state_dict.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            bad = int((~tensor.isfinite()).sum())
            raise CheckpointError(
                f"{path}: '{name}' holds {bad} values that are NaN or infinite: the training "
                "diverged or the file is damaged."
            )


def _globals(path: Path) -> str:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # only an aid to the message
        return ""
    return f" ({_some(sorted(names))})" if names else ""


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:120].rstrip(".")
    return CheckpointError(f"{path} is not a readable checkpoint or is damaged: {reason}.")


def _some(names: Any, most: int = 3) -> str:
    names = list(map(str, names))
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def find(source: str | Path) -> Path:
    """The path of a checkpoint; one that comes with the package goes by its name as well."""
    path = Path(source)
    if path.suffix or path.exists():
        return path
    return bundled().get(str(source), path)


def bundled() -> dict[str, Path]:
    """The small digits checkpoints that come with the package, by name; see their manifest."""
    here = Path(__file__).parent
    for folder in (here / "_checkpoints", here.parent / "checkpoints"):
        if (folder / "manifest.json").exists():
            return {path.stem: path for path in sorted(folder.glob("*.pt"))}
    raise CheckpointError("the bundled checkpoints are missing: install landscape again.")
