"""SIGTERM and SIGHUP end a command as Ctrl-C does: what is finished is saved."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

# A scheduler that preempts a job, or shuts the machine down; a terminal that closes.
_NAMES = ("SIGTERM", "SIGHUP")

# Seconds until an interruption is raised again that was lost where Python drops exceptions.
_AGAIN = 0.01


class Stopped(KeyboardInterrupt):
    """The process was asked to end by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def catch() -> None:
    """Raise ``Stopped`` in the main thread at these signals, unless they are ignored (nohup)."""
    for name in _NAMES:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _stop)
    if hasattr(signal, "setitimer"):
        sys.unraisablehook = _dropped


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def _dropped(what: Any) -> None:
    """Raise an interruption again that met a destructor or the like, which can't raise."""
    lost = what.exc_value
    if not isinstance(lost, KeyboardInterrupt):
        sys.__unraisablehook__(what)
        return
    number = of(lost)
    signal.signal(signal.SIGALRM, lambda *_: _stop(number, None))
    signal.setitimer(signal.ITIMER_REAL, _AGAIN)


def of(stop: BaseException) -> int:
    """The signal behind an interruption, which click may have wrapped."""
    cause: BaseException | None = stop
    while cause is not None:
        if isinstance(cause, Stopped):
            return cause.number
        cause = cause.__cause__
    return signal.SIGINT
