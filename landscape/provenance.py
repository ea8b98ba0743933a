"""How a result came about: the record that every result carries."""

from __future__ import annotations

import dataclasses
import datetime
import json
import platform
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape import parallel
from landscape._version import __version__
from landscape.errors import UsageError


@dataclass(frozen=True)
class Provenance:
    """How a result came about: enough to make it again.

    Attributes:
        diagnostic: name of the function that made it. settings: its arguments.
        objective: model, data, loss and attack (``Objective.describe``).
        seed: of the diagnostic's own random numbers. versions: of the software.
        created: ISO time. wall_time: seconds. processes: that shared the work.
    """

    diagnostic: str
    settings: dict[str, Any]
    objective: dict[str, Any]
    seed: int | None
    versions: dict[str, str]
    created: str
    wall_time: float
    processes: int = 1

    def __post_init__(self) -> None:
        # Tuples become lists now rather than on the first save, so that load(save(r)) == r.
        for name in ("settings", "objective", "seed", "versions"):
            object.__setattr__(self, name, plain(getattr(self, name)))

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """What a file holds; ``ValueError`` or ``TypeError`` where it is no provenance."""
        content = json.loads(text)
        found = cls(**content)
        for name, kinds in _KINDS.items():
            if not isinstance(content[name], kinds):
                raise TypeError(f"its {name} is {type(content[name]).__name__}")
        if not all(isinstance(version, str) for version in found.versions.values()):
            raise TypeError("its versions are no texts")
        return found

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


_KINDS: dict[str, type | tuple[type, ...]] = {
    "diagnostic": str,
    "settings": dict,
    "objective": dict,
    "seed": (int, type(None)),
    "versions": dict,
    "created": str,
    "wall_time": (int, float),
}


class Record:
    """Collects a provenance: made when a diagnostic starts, finished when it ends."""

    def __init__(
        self, diagnostic: str, objective: dict[str, Any], seed: int | None, **settings: Any
    ) -> None:
        self._start = time.perf_counter()
        self._fields = {
            "diagnostic": diagnostic,
            # Now, so that a setting that can't be stored is refused before the work.
            "settings": plain(settings),
            "objective": plain(objective),
            "seed": plain(seed),
        }

    def check_same(self, other: Provenance) -> None:
        """Refuse to go on from a result that was made with other settings, naming them."""
        mine = self.finish()
        differing = [
            f"{part}.{key}"
            for part in ("settings", "objective")
            for key in sorted({*getattr(mine, part), *getattr(other, part)})
            if getattr(mine, part).get(key) != getattr(other, part).get(key)
        ]
        if mine.seed != other.seed:
            differing.append("seed")
        if differing:
            raise UsageError(
                f"the partial result was made with other settings ({', '.join(differing)} differ): "
                "pass --no-resume to start over."
            )

    def finish(self, *, earlier: float = 0.0) -> Provenance:
        """The provenance; ``earlier`` seconds were spent in interrupted runs."""
        return Provenance(
            **self._fields,
            versions=versions(),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            wall_time=round(time.perf_counter() - self._start + earlier, 3),
            processes=parallel.group().size,
        )


def plain(value: Any) -> Any:
    """As JSON reads it back; numpy's and torch's numbers become Python's."""
    return json.loads(json.dumps(value, default=lambda v: v.tolist()))


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    import torch

    return {
        "landscape": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
