"""How large a figure is made: on digits in minutes, on MNIST, or as in the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from landscape.errors import UsageError, unknown
from landscape.running.work import Run

if TYPE_CHECKING:
    from landscape.tracking import Tracking

T = TypeVar("T")

# Name to what it is. "smoke" is for tests: every path is run, no number means anything.
SCALES = {
    "digits": "8×8 images, offline, minutes on two cores",
    "mnist": "MNIST with the papers' MNIST settings",
    "paper": "the paper's own data, architectures, epochs and seeds",
    "smoke": "seconds, to see that everything runs; the numbers mean nothing",
}
_SMOKE = {"epochs": 2, "n_examples": 60, "batch_size": 30}


@dataclass(frozen=True)
class Scale:
    """One scale with what the user may change about it.

    Attributes:
        name: in ``SCALES``. chosen_seeds: instead of the figure's own.
        batch_size, device: instead of the recipe's. data_dir: where data sets lie.
    """

    name: str = "digits"
    chosen_seeds: tuple[int, ...] | None = None
    batch_size: int | None = None
    device: str | None = None
    data_dir: str | None = None

    def __post_init__(self) -> None:
        if self.name not in SCALES:
            raise unknown("scale", self.name, SCALES)
        if self.chosen_seeds is not None and not self.chosen_seeds:
            raise UsageError("give at least one seed.")

    @property
    def smoke(self) -> bool:
        return self.name == "smoke"

    @property
    def threads(self) -> int | None:
        """Threads per process: one where networks are small, so that results don't depend on it."""
        return 1 if self.name in ("digits", "smoke") else None

    def seeds(self, count: int = 3) -> tuple[int, ...]:
        """The first ``count`` seeds, unless the user chose others; one for smoke."""
        if self.chosen_seeds is not None:
            return self.chosen_seeds
        return tuple(range(1 if self.smoke else count))

    def pick(self, *, digits: T, mnist: T | None = None, paper: T, smoke: T | None = None) -> T:
        """The value for this scale; ``mnist`` and ``smoke`` are as ``digits`` unless given."""
        if self.name == "paper":
            return paper
        other = {"mnist": mnist, "smoke": smoke}.get(self.name)
        return digits if other is None else other

    def run(
        self,
        method: str,
        *,
        recipe: str | Mapping[str, str] = "digits",
        seed: int = 0,
        keep_every: int | None = None,
        track: Tracking | None = None,
        **options: Any,
    ) -> Run:
        """A run at this scale.

        ``recipe``: of every scale, as a mapping (``digits``, ``mnist``, ``paper``), or of all.
        ``options``: of ``default_config``. None keeps the recipe's value. At smoke, epochs and
        samples are few whatever is asked for.
        """
        if isinstance(recipe, Mapping):
            recipe = recipe["digits" if self.smoke else self.name]
        chosen = {"seed": seed, **options}
        if self.batch_size is not None:
            chosen["batch_size"] = self.batch_size
        if self.device is not None:
            chosen["device"] = self.device
        if self.smoke:
            steps = chosen.get("steps")
            chosen |= _SMOKE | ({"steps": min(steps, 2)} if steps else {})
        return Run(method, recipe, chosen, keep_every, track, self.data_dir)
