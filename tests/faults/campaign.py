"""One trial: a fault, the same command again, and what must hold then."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from faults.child import Child, Step, fresh, start
from faults.commands import Command
from faults.disks import unmount
from faults.layer import Layer, kill_at, record
from faults.numbers import ENDS, broken, listing, not_finite, numbers, temporaries


@dataclass(frozen=True)
class Trial:
    """One fault to inject.

    Attributes:
        what: in words, enough to do it again.
        before: changes files of the folder. steps: called inside the run.
        during: signals and the like, while it runs.
        base: begin with a copy of this folder, not with nothing. No fault hits the first run.
        damaging: work that is kept may be lost, because the fault destroys its files.
        real: in a fresh process.
        launch: starts the run in another way. together: a second one starts so much later.
        after: changes files between the run and the next.
        restore: after a refusal, puts right what ``before`` did.
        may_show_nan: the run may end with a NaN in its result, if it says so.
    """

    what: str
    before: Callable[[Path], None] | None = None
    steps: Sequence[Step] = ()
    during: Callable[[Child], None] | None = None
    base: Path | None = None
    damaging: bool = False
    real: bool = False
    launch: Callable[..., Child] | None = None
    together: float | None = None
    after: Callable[[Path], None] | None = None
    restore: Callable[[Path], None] | None = None
    may_show_nan: bool = False


@dataclass
class Outcome:
    """What came of a trial; ``problems`` is empty where all that must hold did."""

    what: str
    injected: bool = True
    equal: bool = False
    refused: bool = False
    lost: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)  # code and last words of every run

    @property
    def survived(self) -> bool:
        return self.equal and not (self.lost or self.partial or self.problems)


class Bench:
    """A command with its undisturbed run, against which trials are compared."""

    def __init__(self, command: Command, scratch: Path, seed: int) -> None:
        self.command, self.scratch, self.seed = command, scratch, seed
        self.streams = scratch / "streams"
        self.streams.mkdir(parents=True, exist_ok=True)
        self.reference = self.folder("reference")
        self.seconds = self._undisturbed(self.reference)
        self.numbers, self.listing = self._numbers(self.reference), listing(self.reference)
        self.not_finite = not_finite(self.reference)
        self.total = self.counted(self.reference)

    @property
    def trial_folder(self) -> Path:
        return self.scratch / self.command.name / "trial"

    def random(self, *what: object) -> random.Random:
        """Random numbers that depend on the seed, the command and ``what`` alone."""
        return random.Random(repr((self.seed, self.command.name, *what)))

    def folder(self, name: str) -> Path:
        """A new folder with the command's inputs."""
        folder = self.scratch / self.command.name / name
        unmount(folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.command.prepare(folder)
        return folder

    def run(
        self, folder: Path, *more: str, steps: Iterable[Step] = (), real: bool = False
    ) -> Child:
        arguments = [*self.command.arguments, *more]
        if real:
            return fresh(arguments, folder, self.streams)
        return start(arguments, folder, self.streams, [*self.usual(folder), *steps])

    def usual(self, folder: Path) -> list[Step]:
        """What is done in every forked run: work is counted, and nothing drawn."""
        return [*self._counting(folder), *([] if self.command.draws else [_leave_out_drawing])]

    def _undisturbed(self, folder: Path) -> float:
        """Seconds of the second of two runs: the first has caches of libraries to fill."""
        for attempt in range(2):
            if attempt:
                folder = self.folder("reference")
                self._forget(folder)
            child = self.run(folder)
            code = child.wait()
            if code not in self.command.codes:
                raise RuntimeError(f"{self.command.name} fails undisturbed: {code}\n{child.said}")
            seconds = time.monotonic() - child.started
        return seconds

    # -- counting work ------------------------------------------------------------------------

    def _tally(self, folder: Path, name: str) -> Path:
        return folder.parent / f"{folder.name}.{name}.tally"

    def _forget(self, folder: Path) -> None:
        for name in self.command.units:
            self._tally(folder, name).unlink(missing_ok=True)

    def counted(self, folder: Path) -> dict[str, int]:
        """How much of each unit was done in the folder since it was last forgotten."""
        tallies = {name: self._tally(folder, name) for name in self.command.units}
        return {n: path.stat().st_size if path.exists() else 0 for n, path in tallies.items()}

    def _counting(self, folder: Path) -> list[Step]:
        return [
            lambda name=name, unit=unit: _count(unit.function, self._tally(folder, name))
            for name, unit in self.command.units.items()
        ]

    @cached_property
    def operations(self) -> list[tuple[str, str]]:
        """Every change of files that the undisturbed run makes, in order: (name, path)."""
        folder, log = self.folder("operations"), self.scratch / f"{self.command.name}.operations"
        log.unlink(missing_ok=True)
        code = self.run(folder, steps=[lambda: Layer(folder, record(log))()]).wait()
        assert code in self.command.codes, code
        lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
        return [(name, path) for name, path in lines]

    @cached_property
    def says_again(self) -> str:
        """What the command says when it is run again where it has finished."""
        folder = self.folder("again")
        shutil.copytree(self.reference, folder, dirs_exist_ok=True)
        child = self.run(folder)
        child.wait()
        return child.stdout.read_text(errors="replace")

    @cached_property
    def half(self) -> Path:
        """What a run leaves that is killed when about half of its files are written."""
        for share in (0.5, 0.6, 0.4, 0.7, 0.3):
            folder = self.folder("half")
            n = int(share * len(self.operations))
            self.run(folder, steps=[lambda: Layer(folder, kill_at(n))()]).wait()  # noqa: B023
            if any(unit.saved(folder) for unit in self.command.units.values()):
                break
        return folder

    # -- trials -------------------------------------------------------------------------------

    def trial(self, trial: Trial) -> Outcome:
        outcome = Outcome(trial.what)
        folder = self.folder(self.trial_folder.name)
        if trial.base is not None:
            shutil.copytree(trial.base, folder, dirs_exist_ok=True)
        self._forget(folder)
        if trial.before is not None:
            trial.before(folder)
        tampered = _contents(folder) if trial.damaging else {}
        ended = trial.base is None and self._disturbed(trial, folder, outcome)
        if not trial.damaging:
            outcome.partial += broken(folder)
        if not ended:
            units = {} if trial.damaging else self.command.units
            kept = {name: unit.saved(folder) for name, unit in units.items()}
            if not trial.damaging:
                self._check_kept(folder, kept, outcome)
            if trial.after is not None:
                trial.after(folder)
            self._forget(folder)
            self._rerun(trial, folder, outcome)
            if not trial.damaging:
                self._check_not_repeated(folder, kept, outcome)
        self._compare(folder, outcome, tampered)
        return outcome

    def _disturbed(self, trial: Trial, folder: Path, outcome: Outcome) -> bool:
        """The run with the fault; whether it ended as an undisturbed one."""
        if trial.launch is not None:
            child = trial.launch(self, folder)
        else:
            child = self.run(folder, steps=trial.steps, real=trial.real)
        second = None
        if trial.together is not None:
            child.sleep(trial.together)
            second = self.run(folder)
        if trial.during is not None:
            trial.during(child)
        code = child.wait()
        outcome.injected = trial.during is None or code not in self.command.codes
        codes = [code]
        if second is not None:
            codes.append(second.wait())
            self._check_said(second, codes[1], outcome)
        self._check_said(child, code, outcome)
        if not any(c in self.command.codes for c in codes):
            return False
        if trial.may_show_nan and not_finite(folder) != self.not_finite:
            outcome.refused = True
            if not any(word in child.said.lower() for word in ("nan", "not finite", "diverged")):
                outcome.problems.append("NaN in a result, and nothing said")
            return False
        return True

    def _check_said(self, child: Child, code: int | None, outcome: Outcome) -> None:
        """Exit code and words of a run that met a fault."""
        said = child.said
        outcome.ends.append(f"{code}: {(said.split(chr(10))[-2:] or [''])[0][-200:]}")
        if code is None:
            outcome.problems.append(f"hangs: {said[-300:]}")
        elif code in self.command.codes or code == -signal.SIGKILL:
            pass
        elif code < 0:
            # Before the command line has begun there is nobody to catch a signal.
            if any(self.counted(self.trial_folder).values()):
                outcome.problems.append(f"died of signal {-code}")
        elif code > 128:
            # Of a terminal that is gone nothing can be read.
            if said and "finished work is kept. Go on with: landscape" not in said:
                outcome.problems.append(f"code {code} without a word: {said[-300:]}")
        else:
            lines = [line for line in said.splitlines() if "landscape: error:" in line]
            if code not in (1, 2) or (len(lines) != 1 and "warning" not in said):
                outcome.problems.append(f"code {code}, {len(lines)} lines of error: {said[-500:]}")
            outcome.refused = True
        if "run again with -vv" in said:  # the words for what nobody has thought of
            outcome.problems.append(f"not explained: {said[-300:]}")
        if child.outlived():
            outcome.problems.append("its processes outlive it")
        if "Traceback" in said:
            outcome.problems.append(f"traceback: {said[-1500:]}")

    def _check_kept(self, folder: Path, kept: dict[str, int], outcome: Outcome) -> None:
        """What was done before the fault is in the files."""
        if self._finished(folder):
            return
        for name, done in self.counted(folder).items():
            slack = self.command.units[name].slack
            if kept[name] < done - slack:
                outcome.lost.append(f"{done} {name} done, {kept[name]} kept")

    def _finished(self, folder: Path) -> bool:
        """Whether every output is there, after which nothing unfinished is kept."""
        return self.listing <= listing(folder)

    def _check_not_repeated(self, folder: Path, kept: dict[str, int], outcome: Outcome) -> None:
        for name, done in self.counted(folder).items():
            if kept[name] + done > self.total[name]:
                outcome.lost.append(
                    f"{kept[name]} {name} kept, {done} done again of {self.total[name]}"
                )

    def _rerun(self, trial: Trial, folder: Path, outcome: Outcome) -> None:
        """The same command again, and then what it advises."""
        more: list[str] = []
        for attempt in range(4):
            child = self.run(folder, *more, real=trial.real)
            code = child.wait()
            if code in self.command.codes:
                outcome.ends.append(f"{code}")
                again = child.stdout.read_text(errors="replace")
                if trial.base == self.reference and not more and again != self.says_again:
                    outcome.problems.append(f"says something else: {again[-500:]}")
                return
            self._check_said(child, code, outcome)
            said = child.said
            if trial.restore is not None and attempt == 0 and "--overwrite" not in said:
                trial.restore(folder)
            elif "--overwrite" in said and "--overwrite" not in more:
                more.append("--overwrite")
            elif "--no-resume" in said and "--no-resume" not in more:
                more.append("--no-resume")
            elif "--retry-failed" in said and "--retry-failed" not in more:
                more.append("--retry-failed")
            elif trial.restore is not None and attempt < 3:
                trial.restore(folder)
            else:
                break
        outcome.problems.append(f"can't go on: code {code}: {child.said[-500:]}")

    def _numbers(self, folder: Path, without: Iterable[str] = ()) -> dict[str, str]:
        return numbers(folder, without, pictures=self.command.draws)

    def _compare(self, folder: Path, outcome: Outcome, tampered: dict[str, bytes]) -> None:
        """``tampered``: files as a fault left them. Those that no run has read or replaced since
        may still be so, if it shows: they are broken, or say themselves what they are."""
        left = _contents(folder)
        own = _contents(self.reference), _contents(self.half) if tampered else {}
        still = {
            name
            for name, content in tampered.items()
            if left.get(name) == content and all(files.get(name) != content for files in own)
        }
        bad = {text.split(" ")[0] for text in broken(folder)}
        outcome.partial += sorted(bad - still)
        outcome.refused |= bool(bad & still)
        if outcome.partial:
            return
        found = self._numbers(folder, bad)
        differing = sorted(
            name
            for name in {*found, *self.numbers}
            if found.get(name) != self.numbers.get(name) and name.partition(":")[0] not in still
        )
        outcome.equal = not differing
        if differing:
            outcome.problems.append(f"other numbers: {', '.join(differing[:5])}")
        stray = temporaries(folder) - self.listing
        if stray:
            outcome.problems.append(f"left over: {', '.join(sorted(stray))}")
        elif listing(folder) != self.listing:
            differ = sorted(listing(folder) ^ self.listing)
            outcome.problems.append(f"other files: {', '.join(differ)}")


def _leave_out_drawing() -> None:
    """Pictures are files of a few bytes."""
    from matplotlib.figure import Figure

    def savefig(figure, stream, *, format, **_):
        stream.write(ENDS[f".{format}"])

    Figure.savefig = savefig


def _contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in listing(folder)}


def scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="faults-"))


def _count(function: str, tally: Path) -> None:
    """Append a byte to ``tally`` whenever a call of ``module:name.name`` has returned."""
    module, _, path = function.partition(":")
    owner = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    real = getattr(owner, name)
    descriptor = os.open(tally, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    write = os.write

    def counted(*args, **kwargs):
        result = real(*args, **kwargs)
        write(descriptor, b".")
        return result

    setattr(owner, name, counted)
