"""Files that were cut, changed or exchanged while nobody looked."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from faults.campaign import Bench, Trial
from faults.numbers import listing
from landscape import checkpoints

# Read by the next run. (Pictures and tables are for people.)
_READ = (".h5", ".pt", ".json")


def _bases(bench: Bench) -> list[tuple[Path, str]]:
    """Folders to begin with and the files in them: of an interrupted run, and of a finished one
    where the same command reads it again."""
    bases = [bench.half, *([bench.reference] if bench.command.rereads else [])]
    return [
        (base, name)
        for base in bases
        for name in sorted(listing(base))
        if name.endswith(_READ) and not Path(name).name.startswith(".")
    ]


def _change(
    name: str, change: Callable[[bytes, Random], bytes]
) -> Callable[[Bench, int], Iterator[Trial]]:
    def trials(bench: Bench, count: int) -> Iterator[Trial]:
        bases = _bases(bench)
        if not bases:
            return
        first = bench.random(name, "first").randrange(len(bases))
        for i in range(count):
            base, file = bases[(first + i) % len(bases)]
            rng = bench.random(name, i)

            def before(folder: Path, file: str = file, rng: Random = rng) -> None:
                path = folder / file
                path.write_bytes(change(path.read_bytes(), rng))

            def restore(folder: Path, base: Path = base, file: str = file) -> None:
                shutil.copy(base / file, folder / file)

            yield Trial(
                f"{name}: {file} of {base.name}, {i}",
                before=before,
                restore=restore,
                base=base,
                damaging=True,
            )

    return trials


def _cut(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _flip(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def exchanged(bench: Bench, count: int) -> Iterator[Trial]:
    """Every file in the place of every other of its kind, and inputs of other networks."""
    bases = _bases(bench)
    pairs = [
        (base, a, b)
        for base, a in bases
        for other, b in bases
        if base == other and a < b and Path(a).suffix == Path(b).suffix
    ]
    for base, a, b in pairs[:count]:

        def before(folder: Path, a: str = a, b: str = b) -> None:
            one, other = (folder / a).read_bytes(), (folder / b).read_bytes()
            (folder / a).write_bytes(other)
            (folder / b).write_bytes(one)

        def restore(folder: Path, base: Path = base, a: str = a, b: str = b) -> None:
            for name in (a, b):
                shutil.copy(base / name, folder / name)

        yield Trial(
            f"exchanged: {a} and {b} of {base.name}",
            before=before,
            restore=restore,
            base=base,
            damaging=True,
        )
    source = checkpoints.bundled()[bench.command.other]
    for name in bench.command.inputs[:count]:

        def before(folder: Path, name: str = name) -> None:
            shutil.copy(source, folder / f"{name}.pt")

        def restore(folder: Path, name: str = name) -> None:
            shutil.copy(checkpoints.bundled()[name], folder / f"{name}.pt")

        yield Trial(
            f"exchanged: {name}.pt is {source.name} when the run goes on",
            before=before,
            restore=restore,
            base=bench.half,
            damaging=True,
        )


truncated = _change("truncated", _cut)
flipped = _change("flipped bit", _flip)
