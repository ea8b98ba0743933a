"""``Report``: the results of all sections for all networks, and the record of what was left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from landscape.errors import DataError
from landscape.reporting.comparing import Comparison, compare_numbers
from landscape.reporting.headlines import Headline
from landscape.reporting.sections import SECTIONS, headlines
from landscape.results import Result, array, load_all, save_all, scalar

# What became of a section for a network.
DONE, SKIPPED, FAILED, WAITING = "done", "skipped", "failed", "waiting"


@dataclass(frozen=True, eq=False)
class Summary(Result):
    """What a report holds: the plan, what became of every section, and its headline numbers.

    ``settings`` are JSON, empty where a section was left out before it began; ``reason`` says why,
    or how it failed. ``number_error`` is a standard error or a bound, as ``number_kind`` says.
    """

    kind: ClassVar[str] = "report"

    network: np.ndarray = array("network")
    about: np.ndarray = array("network")
    model_class: np.ndarray = array("network")
    section: np.ndarray = array("section")
    settings: np.ndarray = array("section")
    planned_seconds: np.ndarray = array("section", units="s", label="planned, all networks")
    state: np.ndarray = array("network", "section")
    reason: np.ndarray = array("network", "section")
    seconds: np.ndarray = array("network", "section", units="s", label="time spent")
    budget: float = scalar(units="s", label="time budget")
    spent: float = scalar(units="s", label="time spent in all")
    memory: float = scalar(units="bytes", label="memory needed, roughly")
    forward_seconds: np.ndarray = array("network", units="s", label="forward pass per sample")
    product_seconds: np.ndarray = array("network", units="s", label="Hessian product per sample")
    number_network: np.ndarray = array("number")
    number_section: np.ndarray = array("number")
    number_name: np.ndarray = array("number")
    number_value: np.ndarray = array("number")
    number_error: np.ndarray = array("number")
    number_kind: np.ndarray = array("number")
    number_units: np.ndarray = array("number")
    number_samples: np.ndarray = array("number")

    def settings_of(self, section: str) -> dict[str, Any] | None:
        """The settings that a section was planned with, or None if it was left out."""
        text = str(self.settings[list(self.section).index(section)])
        return json.loads(text) if text else None


@dataclass(frozen=True)
class Report:
    """Results by section and network, with their summary and, of several networks, a comparison."""

    summary: Summary
    results: Mapping[str, Mapping[str, Result]]
    comparison: Comparison | None = None

    @property
    def networks(self) -> list[str]:
        return [str(name) for name in self.summary.network]

    def headlines(self) -> dict[str, list[Headline]]:
        """The numbers of every network, sections in the order of their value."""
        return {
            network: [
                number
                for key, found in self.results.items()
                if network in found
                for number in headlines(key, found[network])
            ]
            for network in self.networks
        }

    def left_out(self, state: str) -> list[tuple[str, str, str]]:
        """(network, section, reason) of what was ``skipped`` or ``failed``."""
        rows, columns = np.nonzero(self.summary.state == state)
        return [
            (self.networks[i], str(self.summary.section[k]), str(self.summary.reason[i, k]))
            for i, k in zip(rows, columns, strict=True)
        ]

    def doubts(self) -> list[str]:
        """A sentence for every result that is not to be trusted as it stands."""
        said = []
        for key, found in self.results.items():
            for network, result in found.items():
                said += [f"{network}, {text}" for text in _doubts(key, result)]
        return said

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """One HDF5 file: the summary at its root, ``section/network`` for the results."""
        groups: dict[str, Result] = {"/": self.summary}
        for key, found in self.results.items():
            groups |= {f"{key}/{network}": result for network, result in found.items()}
        if self.comparison is not None:
            groups["comparison"] = self.comparison
        return save_all(path, groups, overwrite=overwrite)

    def html(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """One page that needs no network to be opened."""
        from landscape.reporting.page import save_page

        return save_page(self, path, overwrite=overwrite)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the summary, the doubts, and the comparison."""
        content = self.summary.to_dict()
        content["doubts"] = self.doubts()
        if self.comparison is not None:
            content["comparison"] = self.comparison.to_dict()
        return content

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """A report's file, finished or not."""
        found = load_all(path)
        summary = found.get("/")
        if not isinstance(summary, Summary):
            raise DataError(
                f"{path} is no report: write one with `landscape report CKPT --out FILE.h5`."
            )
        results: dict[str, dict[str, Result]] = {}
        for key in SECTIONS:
            here = {
                name.split("/", 1)[1]: result
                for name, result in found.items()
                if name.startswith(f"{key}/")
            }
            # In the order of the networks, whatever the file's.
            if here:
                results[key] = {str(n): here[str(n)] for n in summary.network if str(n) in here}
        comparison = found.get("comparison")
        return cls(summary, results, comparison if isinstance(comparison, Comparison) else None)


def compared(report: Report) -> Comparison | None:
    """Differences from the first network, if there are others."""
    if len(report.networks) < 2:
        return None
    return compare_numbers(report.headlines())


def columns(numbers: Mapping[str, list[Headline]]) -> dict[str, np.ndarray]:
    """The fields of a summary that hold the headline numbers."""
    rows = [(network, h) for network, found in numbers.items() for h in found]
    return {
        "number_network": np.array([network for network, _ in rows], dtype=str),
        "number_section": np.array([h.section for _, h in rows], dtype=str),
        "number_name": np.array([h.name for _, h in rows], dtype=str),
        "number_value": np.array([h.value for _, h in rows], dtype=float),
        "number_error": np.array([h.error for _, h in rows], dtype=float),
        "number_kind": np.array([h.kind for _, h in rows], dtype=str),
        "number_units": np.array([h.units for _, h in rows], dtype=str),
        "number_samples": np.array([h.n for _, h in rows], dtype=np.int64),
    }


def _doubts(key: str, result: Any) -> list[str]:
    title = SECTIONS[key].title.lower()
    said = []
    if getattr(result, "near_chance", False):
        said.append(
            "clean accuracy is near chance: weights, normalisation or data probably don't match"
        )
    if not getattr(result, "trustworthy", True):
        said.append(f"{title}: not everything has converged")
    if not getattr(result, "consistent", True):
        said.append(f"{title}: the grid's centre is not the model's loss")
    if hasattr(result, "warnings"):
        said += [f"gradients look masked, {text}" for text in result.warnings()]
    loss = getattr(result, "loss", None)
    if key.startswith("surface") and loss is not None and not np.isfinite(loss).all():
        share = 1 - float(np.isfinite(loss).mean())
        said.append(f"{title}: the loss is not finite at {100 * share:.0f} % of the points")
    return said
