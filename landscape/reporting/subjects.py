"""What a report is about: networks, each with the data that its sections are measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from landscape.attacks import Attack
from landscape.errors import UsageError
from landscape.objective import Objective
from landscape.random import Streams

# Below so many steps the table's step sizes are others: cheaper levels keep at least as many.
LEAST_STEPS = 10


@dataclass
class Subject:
    """One network.

    Attributes:
        objective: the clean loss whose landscape is studied.
        held_out: where accuracy is measured; the same data if there are no others.
        attack: of the adversarial sections; without one they are left out.
        about: what is said of it: method of training, file.
    """

    name: str
    objective: Objective
    held_out: Objective
    attack: Attack | None = None
    about: str = ""
    _parts: dict[tuple[bool, int], Objective] = field(default_factory=dict)

    def on(self, samples: int | None, *, held_out: bool = False, seed: int = 0) -> Objective:
        """The clean objective on at most so many samples, drawn once and for every network alike.

        The draw depends on the seed and the size of the data alone.
        """
        whole = self.held_out if held_out else self.objective
        total = whole.batches.samples
        if samples is None or samples >= total:
            return whole
        key = (held_out, samples)
        if key not in self._parts:
            order = Streams(seed, "report").uniform("samples", (total,)).argsort()
            self._parts[key] = whole.with_samples(order[:samples].tolist())
        return self._parts[key]


def shortened(attack: Attack, steps: int | None) -> Attack:
    """The attack with at most so many steps, and one start where steps are to be saved."""
    if steps is None or attack.steps <= steps:
        return attack
    return replace(attack, steps=max(steps, min(LEAST_STEPS, attack.steps)), restarts=1)


def described(attack: Attack) -> str:
    """``PGD-20, linf, ε = 0.1`` in words that need no table of attacks."""
    starts = f", {attack.restarts} starts" if attack.restarts > 1 else ""
    plural = "s" if attack.steps != 1 else ""
    ball = f"{attack.ball.norm}, ε = {attack.ball.radius:.4g}"
    return f"{attack.steps} step{plural}{starts}, {ball}"


def subjects(
    networks: Mapping[str, Any],
    *,
    held_out: Mapping[str, Objective] | None,
    attack: Attack | Mapping[str, Attack | None] | None,
    about: Mapping[str, str] | None,
) -> list[Subject]:
    """Check that the networks can stand side by side: same data, same attack."""
    if not networks:
        raise UsageError("a report needs at least one network.")
    made = []
    for name, objective in networks.items():
        if not isinstance(objective, Objective):
            raise UsageError(f"'{name}' must be an Objective, got {type(objective).__name__}.")
        if not name or name.strip(".") == "" or "/" in name:
            raise UsageError(f"'{name}' can't name a network in a file: leave out slashes.")
        against = attack.get(name) if isinstance(attack, Mapping) else attack
        made.append(
            Subject(
                name=name,
                objective=objective.with_attack(None),
                held_out=(held_out or {}).get(name, objective).with_attack(None),
                # With a mapping the objective's own attack is not asked for.
                attack=against if attack is not None else objective.attack,
                about=(about or {}).get(name, ""),
            )
        )
    first = made[0]
    for other in made[1:]:
        for part in ("objective", "held_out"):
            ours, theirs = (getattr(s, part).batches.digest for s in (first, other))
            if ours != theirs:
                raise UsageError(
                    f"{other.name} and {first.name} have different data: report them one by one "
                    "and compare the reports, or add --data."
                )
        if other.attack != first.attack:
            said = [described(s.attack) if s.attack else "no radius" for s in (other, first)]
            raise UsageError(
                f"{other.name} would be attacked by {said[0]}, {first.name} by {said[1]}: add "
                "--eps and --norm to attack them in one ball."
            )
    return made
