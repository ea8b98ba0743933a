"""Command lines in a forked process that is watched: what it says, runs, writes, and for how long.

The parent imports everything once; each run then costs milliseconds. A worker that hangs, dies or
has grown is replaced by a new fork.
"""

from __future__ import annotations

import faulthandler
import importlib
import multiprocessing
import os
import pkgutil
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import landscape

PACKAGE = str(Path(landscape.__file__).parent)

# A module that a file may name. Importing it is what no file may cause.
CANARY = "canary_module"
_CANARY_CODE = "import os\nos.environ['CANARY_RAN'] = 'imported'\ndef touch(*a, **k): pass\n"

# Of processor time, as other programs may be busy; of waiting, five times as long.
SECONDS = 30.0
_MEMORY = 3 * 2**30  # bytes that a worker may ask for beyond what it has at its start
_GROWTH = 2**30  # bytes of memory that one input may take

# Events of the interpreter (PEP 578) that mean that code is run or another machine is asked.
_RUNS = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "pty.spawn",
    "pickle.find_class",
    "socket.connect",
    "socket.getaddrinfo",
}
# Events that change the file system, with the positions of the paths among their arguments.
_CHANGES = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.link": (0, 1),
    "os.symlink": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "shutil.rmtree": (0,),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Seen:
    """What one command line did."""

    code: int | None = None
    out: str = ""
    err: str = ""
    executed: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    lines: set[tuple[str, int]] = field(default_factory=set)
    seconds: float = 0.0
    grown: int = 0
    hung: bool = False
    died: int | None = None

    def faults(self) -> dict[str, str]:
        """What must not happen, by kind; empty if all is well."""
        found = {}
        if self.hung:
            found["hang"] = f"more than {SECONDS:.0f} s"
        if self.died is not None:
            found["crash"] = f"exit code {self.died}"
        if self.executed:
            found["execution"] = "; ".join(self.executed[:3])
        if self.outside:
            found["outside"] = "; ".join(self.outside[:3])
        if self.grown > _GROWTH:
            found["memory"] = f"{self.grown / 2**30:.1f} GiB"
        if "Traceback (most recent call last)" in self.err + self.out:
            found["traceback"] = self.err[-2000:]
        if self.code is not None and self.code not in (0, 1, 2, 3):
            found["exit code"] = str(self.code)
        errors = [line for line in self.err.splitlines() if line.startswith("landscape: error: ")]
        if self.code in (1, 2):
            said = "landscape: warning: " in self.err  # a figure or section that failed
            if len(errors) != 1 and not (said and not errors):
                found["message"] = f"{len(errors)} lines of error: {self.err[-500:]}"
            elif errors and self.err.splitlines()[-1] != errors[0]:
                found["message"] = f"more after the error: {self.err[-500:]}"
        # The catch-all of the command line: one line too, but it explains nothing.
        if errors and ("(run again with -vv" in errors[0] or "error: out of memory" in errors[0]):
            found["unexplained"] = errors[0]
        if re.search(r"\w+\.py:\d+: \w*Warning: ", self.err):
            found["noise"] = self.err[-500:]
        return found


class Watched:
    """Runs command lines in a forked worker, each in a folder of its own.

    ``prepared``: a folder whose content every run finds in its current folder.
    """

    def __init__(self, prepared: Path | None = None) -> None:
        self.prepared = prepared
        self._root = Path(tempfile.mkdtemp(prefix="landscape-fuzz-")).resolve()
        (self._root / f"{CANARY}.py").write_text(_CANARY_CODE)
        self._worker: Any = None
        self._pipe: Any = None

    def __enter__(self) -> Watched:
        _import_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self._root, ignore_errors=True)

    def run(self, arguments: list[str], files: Mapping[str, bytes], *, lines: bool = True) -> Seen:
        """One command line, with these files in its folder. ``lines``: which of the package's ran,
        which takes twice the time where much is drawn."""
        if self._worker is None:
            self._start()
        folder = self._root / "run"
        shutil.rmtree(folder, ignore_errors=True)
        if self.prepared is None:
            folder.mkdir()
        else:
            shutil.copytree(self.prepared, folder)
        (folder / "tmp").mkdir()
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        self._pipe.send((arguments, str(folder), lines))
        start = time.monotonic()
        try:
            if self._answered():
                seen: Seen = self._pipe.recv()
                if seen.grown > _GROWTH or seen.executed:
                    self._stop()  # the next one starts clean
                return seen
        except EOFError:
            self._worker.join(10)
            seen = Seen(died=self._worker.exitcode, seconds=time.monotonic() - start)
            self._stop()
            return seen
        self._stop()
        return Seen(hung=True, seconds=SECONDS)

    def _answered(self) -> bool:
        """Wait for the worker, but not for one that hangs."""
        begun, until = self._processor_time(), time.monotonic() + 5 * SECONDS
        while time.monotonic() < until and self._processor_time() - begun < SECONDS:
            if self._pipe.poll(1.0):
                return True
        return False

    def _processor_time(self) -> float:
        """Seconds that the worker has computed; none if it has ended."""
        try:
            fields = Path(f"/proc/{self._worker.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._worker = context.Process(target=_serve, args=(theirs, self._root), daemon=True)
        self._worker.start()
        theirs.close()

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.join()
            self._pipe.close()
        self._worker = None


def _import_all() -> None:
    """Everything a command may import, so that workers need not."""
    import matplotlib.pyplot as plt
    import plotly.offline  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch
    import torchvision.datasets  # noqa: F401
    from torch.utils.tensorboard import SummaryWriter  # noqa: F401

    torch.set_num_threads(1)
    plt.switch_backend("agg")
    for module in pkgutil.walk_packages(landscape.__path__, "landscape."):
        if module.name != "landscape.__main__":
            importlib.import_module(module.name)


# -- in the worker --------------------------------------------------------------------------------


def _serve(pipe: Any, root: Path) -> None:
    from landscape.cli import run

    faulthandler.disable()  # pytest's, whose file this process shares
    # torch's own, else in a place that all of a user's processes share.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(root / "inductor")
    sys.path.insert(0, str(root))
    capture = [(root / name).open("w+b") for name in ("stdout", "stderr")]
    for stream, fd in zip(capture, (1, 2), strict=True):
        os.dup2(stream.fileno(), fd)
    sys.stdout, sys.stderr = (
        os.fdopen(fd, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
        for fd in (1, 2)
    )
    watch = _Watch(root)
    sys.addaudithook(watch)
    _limit_memory()
    while True:
        try:
            arguments, folder, lines = pipe.recv()
        except EOFError:
            return
        pipe.send(_one(run, arguments, folder, watch, capture, lines))


def _one(
    run: Callable[[list[str]], int],
    arguments: list[str],
    folder: str,
    watch: _Watch,
    capture: list[Any],
    trace: bool,
) -> Seen:
    os.chdir(folder)
    tempfile.tempdir = f"{folder}/tmp"
    os.environ["LANDSCAPE_DATA"] = f"{folder}/data"  # where data sets are put by default
    for fd in (1, 2):
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
    os.environ.pop("CANARY_RAN", None)
    sys.modules.pop(CANARY, None)
    seen, before = Seen(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    watch.seen = seen
    start = time.monotonic()
    if trace:
        sys.settrace(_tracer(seen.lines))
    try:
        seen.code = run(arguments)
    except SystemExit as stop:
        seen.code = stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:  # what would be a traceback on a terminal
        seen.err = f"Traceback (most recent call last): {type(error).__name__}: {error}"
    finally:
        sys.settrace(None)
        watch.seen = None
    seen.seconds = time.monotonic() - start
    seen.grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    sys.stdout.flush()
    sys.stderr.flush()
    if "CANARY_RAN" in os.environ or CANARY in sys.modules:
        seen.executed.append(f"{CANARY} was imported")
    if Path(folder, "canary").exists():
        seen.executed.append("a call from the file was made")
    texts = []
    for stream in capture:
        stream.seek(0)
        texts.append(stream.read(200_000).decode(errors="replace"))
    seen.out, seen.err = texts[0], seen.err + texts[1]
    return seen


class _Watch:
    """The audit hook."""

    def __init__(self, root: Path) -> None:
        self.allowed = (str(root), os.devnull)
        self.seen: Seen | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.seen is None:
            return
        if event in _RUNS:
            if event.startswith("socket"):
                raise OSError("no network while fuzzing")
            self.seen.executed.append(f"{event} {arguments!r}"[:200])
        elif event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING:
                self._check(event, path)
        elif event in _CHANGES:
            for position in _CHANGES[event]:
                self._check(event, arguments[position])

    def _check(self, event: str, path: Any) -> None:
        if self.seen is None or not isinstance(path, str | bytes | os.PathLike):
            return
        absolute = os.path.abspath(os.fsdecode(path))
        # Folders above the run's own are asked for by mkdir(parents=True) alone.
        if not absolute.startswith(self.allowed) and not self.allowed[0].startswith(absolute):
            self.seen.outside.append(f"{event} {absolute}"[:200])


def _tracer(lines: set[tuple[str, int]]) -> Callable[..., Any]:
    """Lines of the package that run, other code left at full speed."""

    def line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            lines.add((frame.f_code.co_filename[len(PACKAGE) :], frame.f_lineno))
        return line

    def call(frame: FrameType, event: str, _: Any) -> Any:
        return line if frame.f_code.co_filename.startswith(PACKAGE) else None

    return call


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
