"""``report``: measure every section that fits into a time budget, network by network."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from landscape.attacks import Attack
from landscape.errors import UsageError, unknown
from landscape.objective import Objective
from landscape.operators import MEMORY
from landscape.provenance import Record
from landscape.reporting.document import (
    DONE,
    FAILED,
    SKIPPED,
    WAITING,
    Report,
    Summary,
    columns,
    compared,
)
from landscape.reporting.estimating import estimate
from landscape.reporting.planning import Choice, duration, fitting
from landscape.reporting.sections import SECTIONS, Section, headlines
from landscape.reporting.subjects import Subject, subjects
from landscape.results import Result

Says = Callable[[str], None]


def report(
    networks: Mapping[str, Objective] | Objective,
    *,
    budget: float = 600.0,
    attack: Attack | Mapping[str, Attack | None] | None = None,
    held_out: Mapping[str, Objective] | None = None,
    sections: Sequence[str] | None = None,
    about: Mapping[str, str] | None = None,
    memory: int = MEMORY,
    seed: int = 0,
    resume: Report | None = None,
    save: Callable[[Report], None] | None = None,
    says: Says = lambda text: None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Every diagnostic that applies to the networks and fits into ``budget`` seconds.

    Args:
        networks: objectives by name, on the same data; or one. Their clean loss is studied, and
            under ``attack`` (by default the objective's own, if any) the adversarial one.
        budget: seconds. Sections are fitted into it by estimates (``planning.plan``), and one that
            no longer fits when its turn comes is made cheaper or left out; none is cut short.
            Numbers depend on the machine's speed only through the settings chosen, which are in
            the summary.
        held_out: data for accuracy, as objectives of the same networks; by default the same data.
        sections: some of ``SECTIONS``. about: a line about every network.
        memory: bytes that Hessians may keep. seed: of all draws.
        resume: an unfinished report of the same request; what it has is not done again.
        save: called with the report after every section of every network.
        says: told what begins. progress: called as (done, total, section) within one.

    A section that fails leaves the others alone; the summary has the reason.
    """
    if isinstance(networks, Objective):
        networks = {"model": networks}
    about_all = subjects(networks, held_out=held_out, attack=attack, about=about)
    chosen = _chosen(sections)
    check_budget(budget)
    record = Record(
        "report",
        {s.name: s.objective.describe() for s in about_all},
        seed,
        budget=budget,
        memory=memory,
        sections=list(chosen),
        attack=about_all[0].attack.describe() if about_all[0].attack else None,
        held_out={s.name: s.held_out.batches.digest for s in about_all},
        about={s.name: s.about for s in about_all},
    )
    if resume is not None:
        record.check_same(resume.summary.provenance)
        run = _Run(about_all, record, budget, seed, memory, earlier=resume)
    else:
        run = _Run(about_all, record, budget, seed, memory)
        run.start(chosen)
        taken = [c for c in run.choices if c.level is not None]
        says(
            f"{len(taken)} of {len(run.choices)} sections fit, in about "
            f"{duration(sum(c.seconds for c in taken))} of {duration(budget)}"
        )
    for key in run.waiting():
        run.section(key, save, says, progress)
    return run.finish()


def planned(
    networks: Mapping[str, Objective], *, budget: float, **options: Any
) -> tuple[list[Choice], dict[str, dict[str, Any]], int]:
    """What ``report`` would do: choices, the settings of those taken, and bytes needed."""
    options.pop("says", None)
    seed, memory = options.pop("seed", 0), options.pop("memory", MEMORY)
    chosen = _chosen(options.pop("sections", None))
    check_budget(budget)
    made = subjects(
        networks,
        held_out=options.get("held_out"),
        attack=options.get("attack"),
        about=options.get("about"),
    )
    run = _Run(made, Record("report", {}, seed), budget, seed, memory)
    run.start(chosen)
    settings = {key: s for key, s in run.settings.items() if s is not None}
    return run.choices, settings, run.memory_needed


def check_budget(seconds: float) -> None:
    if not (seconds > 0 and math.isfinite(seconds)):
        raise UsageError(f"the budget must be positive, got {seconds:g} s: write 10m, for example.")


def _chosen(sections: Sequence[str] | None) -> dict[str, Section]:
    for key in sections or ():
        if key not in SECTIONS:
            raise unknown("section", key, SECTIONS)
    return {key: s for key, s in SECTIONS.items() if sections is None or key in sections}


class _Run:
    """A report in the making."""

    def __init__(
        self,
        about_all: list[Subject],
        record: Record,
        budget: float,
        seed: int,
        memory: int,
        earlier: Report | None = None,
    ) -> None:
        self.subjects, self.record, self.seed, self.memory = about_all, record, seed, memory
        self.budget, self._began, self._before = budget, time.perf_counter(), 0.0
        self.results: dict[str, dict[str, Result]] = {}
        # Of this run's own plan; an earlier one's is followed as it was left.
        self.levels: dict[str, list[float]] = {}
        self.level: dict[str, int] = {}
        if earlier is None:
            return
        old = earlier.summary
        self._before = old.spent
        self.results = {key: dict(found) for key, found in earlier.results.items()}
        self.keys = [str(key) for key in old.section]
        self.settings = {key: old.settings_of(key) for key in self.keys}
        self.planned = dict(zip(self.keys, map(float, old.planned_seconds), strict=True))
        self.state, self.reason, self.seconds = (
            np.array(part, copy=True, dtype=kind)
            for part, kind in ((old.state, object), (old.reason, object), (old.seconds, float))
        )
        self.memory_needed = int(old.memory)
        self.paces = (old.forward_seconds, old.product_seconds)

    def start(self, chosen: Mapping[str, Section]) -> None:
        """Time a pass, and plan."""
        self.keys = list(chosen)
        estimates = estimate(self.subjects, chosen, memory=self.memory)
        self.levels, self.memory_needed = estimates.seconds, estimates.memory
        self.paces = estimates.forward, estimates.product
        self.choices = estimates.choices(self.budget)
        shape = (len(self.subjects), len(self.keys))
        self.state, self.reason = np.full(shape, WAITING, object), np.full(shape, "", object)
        self.seconds, self.planned, self.settings = np.zeros(shape), {}, {}
        for k, choice in enumerate(self.choices):
            self.planned[choice.section] = choice.seconds
            if choice.level is None:
                self._leave_out(k, choice.reason)
            else:
                self.level[choice.section] = choice.level
                self.settings[choice.section] = dict(SECTIONS[choice.section].levels[choice.level])

    def waiting(self) -> list[str]:
        return [key for k, key in enumerate(self.keys) if (self.state[:, k] == WAITING).any()]

    @property
    def spent(self) -> float:
        return self._before + time.perf_counter() - self._began

    def section(
        self,
        key: str,
        save: Callable[[Report], None] | None,
        says: Says,
        progress: Callable[[int, int, str], None] | None,
    ) -> None:
        """Measure one section for all networks, those that it is waiting for."""
        k = self.keys.index(key)
        begun = bool((self.state[:, k] != WAITING).any())
        if not begun and not self._fit(key, k):
            return
        section, settings = SECTIONS[key], self.settings[key]
        assert settings is not None
        for i, subject in enumerate(self.subjects):
            if self.state[i, k] != WAITING:
                continue
            says(f"[{k + 1}/{len(self.keys)}] {section.title}: {subject.name}")
            start = time.perf_counter()

            def report(done: int, total: int) -> None:
                if progress is not None:
                    progress(done, total, section.title)

            try:
                result = section.run(subject, settings, self.seed, report)
                headlines(key, result)  # or it would break the report as a whole
            except UsageError as error:  # a diagnostic that does not apply to this network
                self.state[i, k], self.reason[i, k] = SKIPPED, _line(error)
            except Exception as error:
                self.state[i, k], self.reason[i, k] = FAILED, _line(error)
            else:
                self.state[i, k] = DONE
                self.results.setdefault(key, {})[subject.name] = result
            self.seconds[i, k] = time.perf_counter() - start
            if save is not None:
                save(self.report())

    def _fit(self, key: str, k: int) -> bool:
        """Whether there is time for the section, at a cheaper level if need be."""
        left = self.budget - self.spent
        if key in self.level:
            level = fitting(self.levels[key], self.level[key], left)
            if level is not None:
                self.settings[key] = dict(SECTIONS[key].levels[level])
                return True
        elif self.planned[key] <= left:  # planned by the run that was interrupted
            return True
        remain = f"{duration(max(0.0, left))} of {duration(self.budget)} remain"
        self._leave_out(k, f"no time left: earlier sections took longer than planned, {remain}")
        return False

    def _leave_out(self, k: int, reason: str) -> None:
        self.state[:, k], self.reason[:, k] = SKIPPED, reason
        self.settings[self.keys[k]] = None

    def report(self) -> Report:
        """What there is so far."""
        first = self.record.finish()
        made = Report(self._summary(first, {}), dict(self.results))
        return dataclasses.replace(made, summary=self._summary(first, made.headlines()))

    def finish(self) -> Report:
        made = self.report()
        return dataclasses.replace(made, comparison=compared(made) if self.results else None)

    def _summary(self, provenance: Any, numbers: Mapping[str, Any]) -> Summary:
        return Summary(
            provenance=provenance,
            network=np.array([s.name for s in self.subjects]),
            about=np.array([s.about for s in self.subjects], dtype=str),
            model_class=np.array([type(s.objective.model).__name__ for s in self.subjects]),
            section=np.array(self.keys),
            settings=np.array(
                [
                    json.dumps(s) if (s := self.settings[key]) is not None else ""
                    for key in self.keys
                ]
            ),
            planned_seconds=np.array([self.planned[key] for key in self.keys]),
            state=self.state.astype(str),
            reason=self.reason.astype(str),
            seconds=self.seconds.copy(),
            budget=float(self.budget),
            spent=self.spent,
            memory=float(self.memory_needed),
            forward_seconds=self.paces[0],
            product_seconds=self.paces[1],
            **columns(numbers),
        )


def _line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    known = type(error).__module__.startswith("landscape")
    return text if known else f"{type(error).__name__}: {text}"
