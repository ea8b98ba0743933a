"""Directions with what is known of them: where other networks lie, and the path of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any

import torch

from landscape import params as P
from landscape.checkpoints import read_payload, write_payload
from landscape.errors import CheckpointError, UsageError
from landscape.params import Params

FORMAT, VERSION = "landscape-directions", 1


@dataclass(frozen=True)
class Directions:
    """One or two directions d₁, d₂ in θ, a step of 1 along each being the vector itself.

    Attributes:
        kind: a row of ``DIRECTIONS``, or ``given``.
        vectors: the directions.
        marks: coordinates (x, y) of other networks, by name.
        path: coordinates (steps, 2) of a training, projected onto the plane.
        explained: share of the path's variance along each direction.
        made: how random ones were drawn: normalisation, one_d, orthogonal.
    """

    kind: str
    vectors: tuple[Params, ...]
    marks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    path: tuple[tuple[float, float], ...] = ()
    explained: tuple[float, ...] = ()
    made: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a file of tensors and numbers, to draw another network along the same."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "vectors": [{name: t.cpu() for name, t in v.items()} for v in self.vectors],
            "marks": {name: list(at) for name, at in self.marks.items()},
            "path": [list(at) for at in self.path],
            "explained": list(self.explained),
            "made": dict(self.made),
        }
        return write_payload(path, content, overwrite=overwrite)

    @staticmethod
    def load(path: str | Path) -> Directions:
        """Read what ``save`` wrote."""
        content = read_payload(path)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise CheckpointError(f"{path} holds no directions: make it with --save-directions.")
        if content.get("version") != VERSION:
            raise CheckpointError(
                f"{path} has version {content.get('version')} of the directions' format, this "
                f"landscape reads {VERSION}: upgrade landscape."
            )
        try:
            return Directions(
                kind=_text(content["kind"]),
                vectors=tuple(map(_vector, content["vectors"])),
                marks={_text(name): _place(at) for name, at in content["marks"].items()},
                path=tuple(map(_place, content["path"])),
                explained=tuple(map(float, content["explained"])),
                made={_text(name): _text(how) for name, how in content["made"].items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} is damaged ({type(error).__name__}: {error}): save the directions again."
            ) from error

    def like(self, params: Params) -> Directions:
        """The same, as tensors like θ's; refused if they are of another network."""
        for vector in self.vectors:
            odd = sorted(set(vector) ^ set(params)) or sorted(
                name for name in vector if vector[name].shape != params[name].shape
            )
            if odd:
                raise UsageError(
                    f"the directions are of another architecture ({', '.join(odd[:3])} differ)."
                )
        vectors = tuple({n: v[n].to(params[n]) for n in params} for v in self.vectors)
        return replace(self, vectors=vectors)


def _text(value: Any) -> Any:
    """A name or a flag, as it is; nothing else."""
    if not isinstance(value, str | bool | NoneType):
        raise TypeError(f"{type(value).__name__} in the place of a name")
    return value


def _place(at: Any) -> tuple[float, float]:
    x, y = at
    return float(x), float(y)


def _vector(found: Any) -> Params:
    for name, tensor in found.items():
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            raise TypeError(f"'{name}' holds no real numbers")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"'{name}' is not finite")
    return dict(found)


def orthogonalised(vectors: Sequence[Params]) -> list[Params]:
    """Every later vector without its components along the earlier ones, its length kept."""
    found: list[Params] = []
    for vector in vectors:
        length, rest = P.norm(vector), vector
        for _ in range(2):  # twice is enough
            for earlier in found:
                rest = P.axpy(-P.dot(rest, earlier) / P.dot(earlier, earlier), earlier, rest)
        if P.norm(rest) <= 1e-6 * length:
            raise UsageError("the directions are parallel: there is no plane through them.")
        found.append(P.scale(length / P.norm(rest), rest))
    return found


def check_alike(params: Params, others: Mapping[str, Params]) -> None:
    """Refuse networks whose parameters don't match θ."""
    for name, other in others.items():
        for key, p in params.items():
            if key not in other or other[key].shape != p.shape:
                raise UsageError(
                    f"{name} is of another architecture: its '{key}' is missing or of another "
                    "shape."
                )


def unit(vector: Params) -> Params:
    """vector / ‖vector‖₂; zero stays zero."""
    length = P.norm(vector)
    return P.scale(1 / length, vector) if length > 0 else vector


def matrix(params: Params, others: Mapping[str, Params]) -> torch.Tensor:
    """θ_i − θ as rows (i, n), float64."""
    check_alike(params, others)
    own = P.flatten(params).double()
    return torch.stack(
        [
            P.flatten({k: o[k].to(params[k].device) for k in params}).double() - own
            for o in others.values()
        ]
    )
