"""The campaign: files mutated and read by the commands, what reaches new lines mutated further."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.mutating import mutant
from fuzz.running import Seen, Watched
from fuzz.seeds import Seed


@dataclass
class Tally:
    """What became of the inputs of a kind."""

    kind: str
    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    lines: int = 0  # of the package that they reached
    kept: int = 0  # mutants that reached new ones
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    failing: list[tuple[list[str], str, bytes, dict[str, str]]] = field(default_factory=list)

    def add(self, seen: Seen) -> dict[str, str]:
        """Count a run; its faults."""
        self.inputs += 1
        self.seconds += seen.seconds
        found = seen.faults()
        self.faults.update(found.keys())
        if seen.code in (0, 3):
            self.accepted += 1
        elif not found:
            self.refused += 1
        return found


def fuzz(
    kind: str,
    seeds: list[Seed],
    prepared: Path,
    count: int,
    draw: random.Random,
    *,
    seeds_too: bool = True,
) -> Tally:
    """Run ``count`` mutants. A mutant that reaches lines no input has reached joins the seeds.

    ``seeds_too``: run the seeds first, so that only what is new counts, and see that they are good.
    """
    tally, reached = Tally(kind), set()
    corpus = [(seed, (prepared / seed.file).read_bytes()) for seed in seeds]
    with Watched(prepared) as watched:
        for seed in seeds if seeds_too else []:
            good = [watched.run(list(command), {}) for command in seed.commands]
            for command, seen in zip(seed.commands, good, strict=True):
                assert not seen.faults(), (command, seen.faults())
                reached |= seen.lines
            assert any(seen.code in (0, 3) for seen in good), f"{seed.file} is not good"
        while tally.inputs < count:
            # New ones half of the time, since what they opened up is least explored.
            recent = len(corpus) > len(seeds) and draw.random() < 0.5
            seed, content = draw.choice(corpus[len(seeds) :] if recent else corpus[: len(seeds)])
            changed = mutant(seed.file, content, draw)
            command = list(draw.choice(seed.commands))
            seen = watched.run(command, {seed.file: changed}, lines=draw.random() < 0.5)
            found = tally.add(seen)
            if found:
                tally.failing.append((command, seed.file, changed, found))
            if not seen.lines <= reached:
                reached |= seen.lines
                tally.kept += 1
                if len(changed) < 10 * len(content) + 10_000:
                    corpus.append((seed, changed))
    tally.lines = len(reached)
    return tally
