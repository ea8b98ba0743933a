"""The table of faults: each gives the trials of one command."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from faults import damage, disks, nan
from faults.campaign import Bench, Trial
from faults.child import Child, start
from faults.layer import Act, Layer, broken_at, full_from, kill_at, read_only_from


@dataclass(frozen=True)
class Kind:
    """A fault; ``trials(bench, count)`` gives at most so many, the same for the same seed.

    ``full`` and ``short``: how many in the whole campaign and in the short one.
    """

    name: str
    trials: Callable[[Bench, int], Iterator[Trial]]
    full: int
    short: int
    whole: bool = False  # slow commands have it as often as others


def _moments(bench: Bench, count: int, name: str, seconds: float | None = None) -> list[float]:
    """Times after the start of a run, uniform over its duration."""
    rng = bench.random(name)
    return [rng.uniform(0, seconds or bench.seconds) for _ in range(count)]


def _signal(number: int, *, group: bool = False) -> Callable[[Bench, int], Iterator[Trial]]:
    name = signal.Signals(number).name

    def trials(bench: Bench, count: int) -> Iterator[Trial]:
        for moment in _moments(bench, count, f"{name} {group}"):

            def during(child: Child, moment: float = moment) -> None:
                child.sleep(moment)
                child.send(number, group=group)

            yield Trial(f"{name} after {moment:.3f} s", during=during)

    return trials


def _fresh(number: int) -> Callable[[Bench, int], Iterator[Trial]]:
    """Signals to processes that were started as a user's, from their imports on."""
    name = signal.Signals(number).name

    def trials(bench: Bench, count: int) -> Iterator[Trial]:
        for moment in _moments(bench, count, f"fresh {name}", bench.seconds + 2.5):

            def during(child: Child, moment: float = moment) -> None:
                child.sleep(moment)
                child.send(number)

            yield Trial(f"{name} after {moment:.3f} s, fresh", during=during, real=True)

    return trials


def _operations(
    act: Callable[[int], Act], only: tuple[str, ...] = ()
) -> Callable[[Bench, int], Iterator[Trial]]:
    """A fault at every operation on files, or at ``count`` of them."""

    def trials(bench: Bench, count: int) -> Iterator[Trial]:
        numbers = [i + 1 for i, (n, _) in enumerate(bench.operations) if not only or n in only]
        if count < len(numbers):
            numbers = sorted(bench.random("operations").sample(numbers, count))
        for number in numbers:
            name, path = bench.operations[number - 1]
            what = f"at operation {number}, {name} {Path(path).name}"
            folder = bench.trial_folder
            yield Trial(what, steps=[lambda n=number, f=folder: Layer(f, act(n))()])

    return trials


# Where a read-only file system is noticed.
_FIRST = ("open", "mkdir", "replace", "link")


def _small_disk(bench: Bench, count: int) -> Iterator[Trial]:
    """A tmpfs that is full after so many bytes, and larger for the next run."""
    if not disks.can_mount(bench.scratch):
        return
    sizes = [
        sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        for folder in (bench.folder("trial"), bench.reference)
    ]
    for i in range(count):
        size = int(sizes[0] + 8192 + (sizes[1] - sizes[0]) * (i + 0.5) / count)
        yield Trial(
            f"disk of {size} bytes",
            before=lambda folder, size=size: disks.mount(folder, size),
            after=disks.enlarge,
        )


def _terminal(*, ignored: bool) -> Callable[[Bench, int], Iterator[Trial]]:
    """The terminal of a run closes: SIGHUP, and streams that nobody reads."""

    def trials(bench: Bench, count: int) -> Iterator[Trial]:
        for moment in _moments(bench, count, f"terminal {ignored}"):
            yield Trial(
                f"terminal closes after {moment:.3f} s" + ", SIGHUP ignored" * ignored,
                launch=lambda b, f, moment=moment: _on_terminal(b, f, moment, ignored),
            )

    return trials


def _on_terminal(bench: Bench, folder: Path, moment: float, ignored: bool) -> Child:
    import pty

    master, slave = pty.openpty()
    ignore = [lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)] if ignored else []
    child = start(
        bench.command.arguments,
        folder,
        bench.streams,
        [*bench.usual(folder), *ignore],
        terminal=slave,
    )
    os.close(slave)
    os.set_blocking(master, False)
    while child.sleep(min(moment, _elapsed(child) + 0.02)) and _elapsed(child) < moment:
        _drain(master)
    os.close(master)
    return child


def _elapsed(child: Child) -> float:
    return time.monotonic() - child.started


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 65536):
            pass
    except OSError:
        pass


def _reader_gone(bench: Bench, count: int) -> Iterator[Trial]:
    """stdout and stderr are pipes whose reader has ended, as in ``| head -1``."""

    def launch(bench: Bench, folder: Path) -> Child:
        reader, writer = os.pipe()
        os.close(reader)
        child = start(
            bench.command.arguments,
            folder,
            bench.streams,
            [*bench.usual(folder), lambda: os.dup2(1, 2) and None],
            output=writer,
        )
        os.close(writer)
        return child

    for _ in range(count):
        yield Trial("nobody reads", launch=launch)


def _clock(bench: Bench, count: int) -> Iterator[Trial]:
    """Every look at the clock is an hour earlier; then files are dated in the future."""

    def backwards() -> None:
        import datetime
        import time

        from landscape import provenance

        now, real = [time.time()], datetime.datetime

        def earlier() -> float:
            now[0] -= 3600
            return now[0]

        class Earlier(real):
            @classmethod
            def now(cls, tz=None):
                return real.fromtimestamp(earlier(), tz)

        time.time, time.time_ns = earlier, lambda: int(1e9 * earlier())
        provenance.datetime = type("datetime", (), {"datetime": Earlier, "UTC": datetime.UTC})

    def future(folder: Path) -> None:
        for path in folder.rglob("*"):
            os.utime(path, (4e9, 4e9))

    for moment in _moments(bench, count, "clock"):

        def during(child: Child, moment: float = moment) -> None:
            child.sleep(moment)
            child.send(signal.SIGKILL)

        what = f"clock backwards, kill -9 after {moment:.3f} s"
        yield Trial(what, steps=[backwards], during=during, after=future)
    yield Trial("clock backwards", steps=[backwards])


def _together(bench: Bench, count: int) -> Iterator[Trial]:
    """A second process with the same output, some time after the first; every other time the
    first is killed."""
    for i, delay in enumerate(_moments(bench, count, "together")):
        rng = bench.random("kill", i)
        moment = delay + rng.uniform(0, bench.seconds)

        def during(child: Child, moment: float = moment) -> None:
            child.sleep(moment)
            child.send(signal.SIGKILL)

        what = f"a second process after {delay:.3f} s"
        if i % 2:
            yield Trial(
                f"{what}, the first killed after {moment:.3f} s", together=delay, during=during
            )
        else:
            yield Trial(what, together=delay)


KINDS = (
    Kind("kill -9 at a random moment", _signal(signal.SIGKILL), 100, 2, whole=True),
    Kind("kill -9 of a fresh process", _fresh(signal.SIGKILL), 3, 0),
    Kind("SIGTERM to a fresh process", _fresh(signal.SIGTERM), 3, 0),
    Kind("kill -9 at an operation on files", _operations(kill_at), 120, 3),
    Kind("disk full from a write on", _operations(full_from, ("write", "fsync")), 60, 2),
    Kind("read-only from an operation on", _operations(read_only_from, _FIRST), 60, 2),
    # A temporary file that can't be removed stays until the next write.
    Kind("input/output error", _operations(broken_at, (*_FIRST, "write", "fsync", "chmod")), 30, 2),
    Kind("small tmpfs", _small_disk, 5, 0),
    Kind("SIGINT", _signal(signal.SIGINT), 8, 1),
    Kind("SIGTERM", _signal(signal.SIGTERM), 8, 1),
    Kind("SIGTERM to the process group", _signal(signal.SIGTERM, group=True), 4, 0),
    Kind("SIGHUP", _signal(signal.SIGHUP), 4, 0),
    Kind("terminal closes", _terminal(ignored=False), 5, 1),
    Kind("terminal closes, SIGHUP ignored", _terminal(ignored=True), 3, 0),
    Kind("nobody reads the output", _reader_gone, 1, 1),
    Kind("clock backwards", _clock, 3, 0),
    Kind("two processes, one output", _together, 8, 1),
    Kind("truncated file", damage.truncated, 16, 2),
    Kind("flipped bit", damage.flipped, 32, 3),
    Kind("exchanged files", damage.exchanged, 20, 1),
    Kind("NaN or infinity in the data", nan.in_data, 6, 1),
    Kind("NaN or infinity in the loss", nan.in_loss, 6, 1),
    Kind("NaN or infinity in the weights", nan.in_weights, 3, 1),
)
