"""The errors a user can meet, each with the exit code the command line gives it.

Inner code raises them with what was expected, what arrived and what to do; the command
line prints one line and hides the traceback unless ``-vv`` is given.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LandscapeError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class UsageError(LandscapeError, ValueError):
    """The request itself is wrong: an unknown name, a value out of range."""

    exit_code = 2


class DataError(LandscapeError, ValueError):
    """The data can't be used: missing, empty, one-shot, shuffled, labels out of range."""


class CheckpointError(LandscapeError, ValueError):
    """The checkpoint can't be read, or doesn't belong to this network."""


class NumericalError(LandscapeError, ArithmeticError):
    """A loss, gradient or Hessian is not finite where a finite one is needed."""


class OutputError(LandscapeError, OSError):
    """A result can't be written: it exists, the folder is read-only, the disk is full."""


class ProcessError(LandscapeError, RuntimeError):
    """Another process of the same measurement has ended."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that isn't in a table, with the nearest name that is.

    >>> str(unknown("attack", "pdg", ["fgsm", "pgd"]))
    "unknown attack 'pdg': did you mean 'pgd'? Known: fgsm, pgd."
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f": did you mean '{near[0]}'?" if near else "."
    return UsageError(f"unknown {kind} '{name}'{hint} Known: {', '.join(names)}.")
