"""What every level of every section would take on these networks and this machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from landscape.attacks import Attack
from landscape.operators import MEMORY, memory_needed
from landscape.reporting.costs import Pace, measure_pace
from landscape.reporting.planning import Choice, plan
from landscape.reporting.sections import Section
from landscape.reporting.subjects import Subject, shortened

# Of the size of θ, that the largest of a report's sections keeps.
VECTORS = 50


@dataclass(frozen=True)
class Estimates:
    """Seconds of every level for all networks together, and why a section is ruled out, if so.

    ``memory``: bytes that the largest network needs. ``forward``, ``product``: seconds per sample
    of a forward pass and a Hessian-vector product of every network, NaN if there is none.
    """

    seconds: dict[str, list[float]]
    ruled_out: dict[str, str]
    memory: int
    forward: np.ndarray
    product: np.ndarray

    def choices(self, budget: float) -> list[Choice]:
        """The plan for a budget in seconds, with what is ruled out in its place."""
        possible = {key: s for key, s in self.seconds.items() if not self.ruled_out[key]}
        taken = {choice.section: choice for choice in plan(possible, budget)}
        return [
            taken.get(key, Choice(key, None, reason=why)) for key, why in self.ruled_out.items()
        ]


def estimate(
    subjects: Sequence[Subject], sections: Mapping[str, Section], *, memory: int = MEMORY
) -> Estimates:
    """Time a pass of every network, and count the passes of every section."""
    paces = [measure_pace(s.objective, s.attack, memory=memory) for s in subjects]
    seconds, ruled_out = {}, {}
    for key, section in sections.items():
        found = [costs(section, s, pace, s.attack) for s, pace in zip(subjects, paces, strict=True)]
        ruled_out[key] = next((f[1] for f in found if f[1]), "")
        # Of a section that one network rules out there is nothing to add up.
        lists = [f[0] for f in found] if not ruled_out[key] else [[math.inf]]
        seconds[key] = [sum(level) for level in zip(*lists, strict=True)]
    return Estimates(
        seconds,
        ruled_out,
        max(memory_needed(s.objective, vectors=VECTORS, memory=memory) for s in subjects),
        np.array([p.forward.seconds(p.batch, p.batch) / p.batch for p in paces]),
        np.array(
            [
                p.product.seconds(p.batch, p.batch) / p.batch if p.product else math.nan
                for p in paces
            ]
        ),
    )


def costs(
    section: Section, subject: Subject, pace: Pace, attack: Attack | None
) -> tuple[list[float], str]:
    """Estimated seconds of every level for one network, and why none of them will do, if so."""
    if section.attacked and attack is None:
        return [math.inf], "needs an attack with a radius: add --attack and --eps"
    if refusal := section.refuses(pace):
        return [math.inf], refusal
    found = []
    data = subject.held_out if section.held_out else subject.objective
    for settings in section.levels:
        steps = 0
        if attack is not None:
            short = shortened(attack, settings.get("attack_steps"))
            steps = short.steps * short.restarts * max(1, len(short.targets))
        examples = min(settings.get("examples") or math.inf, data.batches.samples)
        found.append(pace.seconds(section.work(settings, pace, steps), int(examples)))
    if pace.why and math.isinf(min(found)):
        return found, pace.why
    return found, ""
