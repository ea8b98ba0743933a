"""What it costs that nothing finished is lost: time spent on saving, as a share of the run."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.timing import median

TITLE = "Durability"
COLUMNS = ["command", "seconds", "saves", "saving, % of the run"]
REMARK = (
    "Commands with their defaults: a partial result, or a training's state after an epoch, at most "
    "every 2 s. Saving is all that is done for it: serialising, writing, flushing to disk. "
    "Medians of three runs."
)

CHECKPOINT = "checkpoints/digits-pgd-seed0.pt"
COMMANDS = {
    "surface, 21 x 21, PGD-5": [
        *("surface", CHECKPOINT, "--grid", "21x21", "--attack", "pgd-5", "--n-examples", "300"),
    ],
    "cosine": ["cosine", CHECKPOINT, "--n-examples", "300"],
    "train pgd, digits, 30 epochs": ["train", "pgd", "--data", "digits", "--epochs", "30"],
}


def rows() -> list[list[str]]:
    found = []
    for name, command in COMMANDS.items():
        runs = [_run(command) for _ in range(3)]
        share = median([100 * saving / seconds for seconds, saving, _ in runs])
        seconds = median([seconds for seconds, _, _ in runs])
        found.append([name, f"{seconds:.1f}", str(runs[0][2]), f"{share:.2f}"])
    return found


def _run(command: list[str]) -> tuple[float, float, int]:
    """Seconds of the command, of them for saving what is unfinished, and how often."""
    from landscape import cli
    from landscape.cli.resume import Partial
    from landscape.training import runs

    spent: list[float] = []
    states: list[float] = []  # of a training: not every epoch is saved
    with contextlib.ExitStack() as patches, tempfile.TemporaryDirectory() as folder:
        patches.enter_context(_replaced(Partial, "keep", _timed(Partial.keep, spent)))
        patches.enter_context(_replaced(runs, "fit", _saving(runs.fit, spent)))
        patches.enter_context(_replaced(runs, "write_state", _timed(runs.write_state, states)))
        patches.enter_context(contextlib.redirect_stdout(io.StringIO()))
        patches.enter_context(contextlib.redirect_stderr(io.StringIO()))
        start = time.perf_counter()
        code = cli.run([*command, "--out", str(Path(folder) / "out")])
        seconds = time.perf_counter() - start
    assert code in (0, 3), command
    return seconds, sum(spent), len(states) or len(spent)


def _timed(original: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return original(*arguments, **options)
        finally:
            spent.append(time.perf_counter() - start)

    return timed


def _saving(fit: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """A training whose saving is timed."""

    def training(*arguments: Any, save: Callable[..., Any], **options: Any) -> Any:
        return fit(*arguments, save=_timed(save, spent), **options)

    return training


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)
