"""Commands under torchrun: the same program in every process, one of which speaks."""

from __future__ import annotations

import os
import sys

from landscape import parallel
from landscape.errors import UsageError

# Those whose work is divided. Others would do the same work in every process.
DIVIDED = (
    "evaluate",
    "spectrum",
    "density",
    "trace",
    "surface",
    "connect",
    "cosine",
    "smoothness",
    "inputs",
    "samples",
)


def join(arguments: list[str]) -> None:
    """Join the other processes, if torchrun has started any; all but the first are silent then."""
    if not parallel.launched():
        return
    group = parallel.start()
    if not group.first and "-vv" not in arguments:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    command = next((word for word in arguments if not word.startswith("-")), None)
    if command is not None and command not in DIVIDED:
        raise UsageError(
            f"'{command}' runs in one process: start it without torchrun. Divided among "
            f"processes are {', '.join(DIVIDED)}."
        )


def interrupted() -> str:
    """Why this process is to end: most often because another one has."""
    return f"{parallel.group().failure() or 'interrupted.'} {GO_ON}"


GO_ON = "Finished work is kept: the same command goes on."
