"""The few numbers that a section of a report stands for, each with what is known of its error."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.diagnostics.evaluation import wilson
from landscape.results import Estimate, Result

# What is known of a number's error.
MEAN = "standard error"
SHARE = "95 % interval"  # Wilson's, of a share of the samples
BOUND = "bound"  # the true value, on these samples, is no further away
EXACT = "exact"  # on these samples, up to rounding


@dataclass(frozen=True)
class Headline:
    """One number of one network.

    Attributes:
        section, name: what it is. value: itself, in ``units``.
        kind: ``MEAN``, ``SHARE``, ``BOUND`` or ``EXACT``. error: standard error or bound.
        n: of how many samples or probes. draws: their values, in order, where they are at hand.
        over: what varies, ``samples`` or ``probes``; nothing varies of a bound.
        data: which samples. probes: which random vectors.
        conditions: how it was measured.
    """

    section: str
    name: str
    value: float
    kind: str
    error: float
    units: str = ""
    n: int = 0
    draws: np.ndarray | None = None
    over: str = ""
    data: str = ""
    probes: str = ""
    conditions: str = ""

    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of a share."""
        if self.kind != SHARE:
            return None
        return wilson(round(self.value * self.n), self.n)

    def __str__(self) -> str:
        interval = self.interval()
        if interval is not None:
            low, high = interval
            return f"{100 * self.value:.2f} [{100 * low:.2f}, {100 * high:.2f}] %"
        if self.kind == MEAN:
            return str(Estimate(self.value, self.error, self.n)).split(" (n")[0]
        if self.kind == BOUND:
            return f"{self.value:.6g} (±{self.error:.1g})"
        return f"{self.value:.6g}"


class Maker:
    """Makes the headlines of one result, which all share section, samples and conditions."""

    def __init__(self, section: str, result: Result) -> None:
        record = result.provenance
        self._common = {
            "section": section,
            "data": record.objective["data"]["digest"],
            # Networks of one size meet the same random vectors under one seed.
            "probes": f"seed {record.seed}, {record.objective['model']['theta']} parameters",
            "conditions": conditions(result),
        }
        self._samples = int(record.objective["data"]["samples"])

    def mean(self, name: str, draws: Any, units: str = "", *, over: str = "samples") -> Headline:
        """The mean of independent draws, those that are not finite left out."""
        values = np.asarray(draws, dtype=np.float64)
        there = values[np.isfinite(values)]
        found = Estimate.of(there) if len(there) else Estimate(math.nan, math.inf, 0)
        return dataclasses.replace(self.estimate(name, found, units, over=over), draws=values)

    def estimate(
        self, name: str, found: Estimate, units: str = "", *, over: str = "probes"
    ) -> Headline:
        """An estimate whose draws are not at hand."""
        error, n = found.standard_error, found.samples
        return Headline(
            name=name,
            value=found.value,
            kind=MEAN,
            error=error,
            units=units,
            n=n,
            over=over,
            **self._common,
        )

    def share(self, name: str, hits: Any) -> Headline:
        """The share of the samples that are true."""
        mean = self.mean(name, hits)
        return dataclasses.replace(mean, kind=SHARE, units="fraction")

    def bound(self, name: str, value: float, error: float, units: str = "") -> Headline:
        """A number that is off by at most ``error`` on these samples."""
        return Headline(
            name=name,
            value=float(value),
            kind=BOUND if error else EXACT,
            error=float(error),
            units=units,
            n=self._samples,
            **self._common,
        )

    def exact(self, name: str, value: float, units: str = "") -> Headline:
        """A number without an error on these samples, but for rounding."""
        return self.bound(name, value, 0.0, units)


# Settings that follow from the network or the machine and change no number's meaning.
_INCIDENTAL = {"product", "kept_samples", "memory", "direction_digests", "warm_start", "table"}


def conditions(result: Result) -> str:
    """How a result was measured, whatever the network and the data, as text to compare."""
    record = result.provenance
    settings = {k: v for k, v in record.settings.items() if k not in _INCIDENTAL}
    of = {k: record.objective[k] for k in ("loss", "attack", "perturbation")}
    return json.dumps({"settings": settings, **of}, sort_keys=True)


def differing(a: str, b: str) -> list[str]:
    """The names of what differs between two conditions."""
    first, second = (_flat(json.loads(text)) for text in (a, b))
    return sorted(k for k in {*first, *second} if first.get(k) != second.get(k))


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {**tree["settings"], **{k: v for k, v in tree.items() if k != "settings"}}
