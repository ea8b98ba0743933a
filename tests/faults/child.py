"""Runs of the command line as processes of their own, which can be killed for real.

Most are forked from this process, which has imported everything once: that takes a hundredth of a
second instead of three. Forking is safe because this process has one thread. Some runs are fresh
processes, as a user's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 120.0  # seconds until a run counts as hanging

Step = Callable[[], None]


@dataclass
class Child:
    """A run, its own process group, with its streams in files."""

    pid: int
    stdout: Path
    stderr: Path
    started: float
    code: int | None = None

    def sleep(self, until: float) -> bool:
        """Wait until so many seconds after the start; false if the run ended before."""
        while (left := self.started + until - time.monotonic()) > 0:
            if self.poll() is not None:
                return False
            time.sleep(min(left, 0.005))
        return self.poll() is None

    def poll(self) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def send(self, number: int, *, group: bool = False) -> None:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, patience: float = PATIENCE) -> int | None:
        """The exit code, negative for a signal; ``None`` for a run that had to be killed."""
        if self.sleep(time.monotonic() - self.started + patience):
            self.send(signal.SIGKILL, group=True)
            os.waitpid(self.pid, 0)
            self.code = None
            return None
        return self.code

    def outlived(self, patience: float = 30.0) -> bool:
        """Whether processes that the run started go on long after its end."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            try:
                os.killpg(self.pid, 0)
            except ProcessLookupError:
                return False
            time.sleep(0.02)
        self.send(signal.SIGKILL, group=True)
        return True

    @property
    def said(self) -> str:
        return self.stdout.read_text(errors="replace") + self.stderr.read_text(errors="replace")


def start(
    arguments: Sequence[str],
    folder: Path,
    streams: Path,
    steps: Sequence[Step] = (),
    *,
    terminal: int | None = None,
    output: int | None = None,
) -> Child:
    """Fork a run of ``landscape ARGUMENTS`` in ``folder``; ``steps`` are called in it before.

    ``terminal``: descriptor of a pseudo-terminal to be the run's own. ``output``: for stdout.
    """
    out, err = _streams(streams)
    started = time.monotonic()
    pid = os.fork()
    if pid:
        return Child(pid, out, err, started)
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        _redirect(out, err, terminal, output)
        for step in steps:
            step()
        from landscape.cli import main

        main(arguments)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def fresh(arguments: Sequence[str], folder: Path, streams: Path) -> Child:
    """A run as the user starts it."""
    out, err = _streams(streams)
    with out.open("w") as stdout, err.open("w") as stderr:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "landscape", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    process.returncode = 0  # waited for by ``Child``
    return Child(process.pid, out, err, started)


_count = 0


def _streams(folder: Path) -> tuple[Path, Path]:
    global _count
    _count += 1
    paths = folder / f"{_count}.out", folder / f"{_count}.err"
    for path in paths:
        path.touch()
    return paths


def _redirect(out: Path, err: Path, terminal: int | None, output: int | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    if terminal is not None:
        import fcntl
        import termios

        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        targets = (terminal, terminal, terminal)
    else:
        stdin = os.open(os.devnull, os.O_RDONLY)
        stdout = os.open(out, flags, 0o644) if output is None else output
        targets = (stdin, stdout, os.open(err, flags, 0o644))
    for number, descriptor in enumerate(targets):
        os.dup2(descriptor, number)
    os.closerange(3, 64)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
