"""What to record along a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from landscape.attacks import Attack
from landscape.errors import UsageError
from landscape.provenance import plain
from landscape.tracking.diagnostics import Diagnostic, resolve


@dataclass(frozen=True)
class Tracking:
    """Which minibatches, samples and diagnostics; wrong values are refused here.

    Attributes:
        every: record every so-manieth minibatch, beginning with the first.
        windows: pairs (first, end): only minibatches after ``first`` and before ``end`` finished
            epochs; ``((0, 2), (50, 52))`` are the first two epochs and two later ones. ``None``:
            all.
        noise: gradients in a block from which the gradient noise is estimated, at least 3; 0 for
            none.
        samples: whether to keep loss and correctness of every training sample at every epoch:
            8 bytes per sample and epoch.
        memory: name of what the method remembers of every sample, kept at the same epochs as the
            diagnostics: ``iaat.eps`` the radii of ``iaat``, ``self-adaptive`` and
            ``adaptive-targets`` the moving targets of these.
        diagnostics: names in ``TRACKED``, or functions of an Objective by name, which return a
            number, an ``Estimate``, a ``Measured``, or a dictionary of these.
        measure_every: epochs between measurements; the network before training is measured too,
            and the last.
        examples: of the training data, drawn once, which the diagnostics are measured on.
        attack: for the diagnostics, ``None`` for the clean loss. Perturbations are made anew for
            every measurement, from the same random starts, and held during it.
        seed: of the choice of the examples and of the attack's starts.
    """

    every: int = 1
    windows: Sequence[tuple[float, float]] | None = None
    noise: int = 20
    samples: bool = False
    memory: str = ""
    diagnostics: Sequence[str] | Mapping[str, Diagnostic] = ()
    measure_every: int = 1
    examples: int = 512
    attack: Attack | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("every", "measure_every", "examples"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if not isinstance(self.noise, int) or (self.noise != 0 and self.noise < 3):
            raise UsageError(
                f"noise must be 0 or at least 3 gradients per block, got {self.noise!r}."
            )
        for window in self.windows or ():
            if len(window) != 2 or not 0 <= window[0] < window[1]:
                raise UsageError(
                    f"a window is a pair (first, end) of epochs with 0 <= first < end, got "
                    f"{window!r}."
                )
        if self.attack is not None and not isinstance(self.attack, Attack):
            raise UsageError(
                "attack must be an Attack, for example landscape.attack('pgd-10', eps=8/255); "
                f"got {type(self.attack).__name__}."
            )
        resolve(self.diagnostics)

    @property
    def functions(self) -> dict[str, Diagnostic]:
        """The diagnostics as functions, by name."""
        return resolve(self.diagnostics)

    def window(self, epochs: int) -> int | None:
        """Number of the window that the epoch after ``epochs`` finished ones lies in, if any."""
        if self.windows is None:
            return 0
        for number, (first, end) in enumerate(self.windows):
            if first <= epochs < end:
                return number
        return None

    def describe(self) -> dict[str, Any]:
        """Every setting, JSON-able; functions by their names."""
        described: dict[str, Any] = plain(
            {
                "every": self.every,
                "windows": self.windows,
                "noise": self.noise,
                "samples": self.samples,
                "diagnostics": list(self.diagnostics),
                "measure_every": self.measure_every,
                "examples": self.examples,
                "attack": self.attack.describe() if self.attack else None,
                "seed": self.seed,
                # Only if there is one: tracks without have the settings they always had.
                **({"memory": self.memory} if self.memory else {}),
            }
        )
        return described
