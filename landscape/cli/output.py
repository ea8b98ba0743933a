"""What a command says: results on stdout, progress and remarks on stderr, files last."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from landscape.errors import DataError, LandscapeError
from landscape.files import check_writable, reserved, write_atomic
from landscape.plotting.style import picture_paths, rendered
from landscape.results import Result, jsonable, save_all


class ProgressBar(Protocol):
    def __call__(self, done: int, total: int) -> None: ...


class Say:
    """The voice of one command."""

    def __init__(self, *, quiet: bool = False, as_json: bool = False, **_: Any) -> None:
        self.quiet, self.as_json = quiet, as_json

    def remark(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        print(f"landscape: warning: {text}", file=sys.stderr, flush=True)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table on stdout, unless JSON was asked for. Columns of numbers are right-aligned."""
        if self.as_json:
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for i, column in enumerate(columns):
            numeric = all(row[i][:1] in tuple("0123456789-–") for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        # Piped output is as wide as it needs to be.
        width = None if sys.stdout.isatty() else 400
        console = Console(width=width, highlight=False, markup=False, emoji=False)
        if title:
            console.print(title, soft_wrap=True)
        console.print(table)

    def memory(self, needed: int, device: Any = None) -> None:
        """What a measurement will keep, before it does; a warning if that is more than there is."""
        free = _free(device)
        self.remark(f"takes up to about {gib(needed)} of memory")
        if needed > free:
            self.warn(
                f"that is more than the {gib(free)} that are free: use a smaller --batch-size, "
                "--n-examples or --memory."
            )

    def json(self, content: Any) -> None:
        if self.as_json:
            print(json.dumps(jsonable(content), allow_nan=False))

    def files(self, paths: Sequence[Path]) -> None:
        """The output paths, printed last."""
        for path in paths:
            print(f"wrote {path}", file=sys.stderr if self.as_json else sys.stdout)

    @contextmanager
    def progress(self, what: str) -> Iterator[ProgressBar]:
        """A bar on stderr with time left; one plain line when stderr is not a terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield lambda done, total: None
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        ) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def training(self) -> Iterator[Callable[[int, int, int, int, dict[str, float]], None]]:
        """A bar over all batches; without a terminal, a line on stderr after every epoch."""
        with self.progress("training") as bar:

            def report(
                epoch: int, epochs: int, batch: int, batches: int, metrics: dict[str, float]
            ) -> None:
                bar((epoch - 1) * batches + batch, epochs * batches)
                if "seconds" in metrics and not sys.stderr.isatty():
                    robust = metrics["val_robust_accuracy"]
                    self.remark(
                        f"epoch {epoch}/{epochs}: loss {metrics['train_loss']:.4f}, "
                        f"validation accuracy {100 * metrics['val_accuracy']:.1f} %"
                        + (f", robust {100 * robust:.1f} %" if robust == robust else "")
                    )

            yield report

    @contextmanager
    def works(self, what: str) -> Iterator[Callable[[int, int, str], None]]:
        """A bar over works, and a line on stderr for each; repeated work costs no line."""
        with self.progress(what) as bar:

            def report(done: int, total: int, said: str) -> None:
                bar(done, total)
                self.remark(f"[{done}/{total}] {said}")

            yield report

    def estimate(self, step: Callable[[], object], count: int, what: str, files: Outputs) -> int:
        """For --dry-run: time one step and say what the whole would cost and write."""
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
        print(f"up to {count} {what} of about {seconds:.2g} s: {_duration(count * seconds)}")
        print(f"would write {', '.join(map(str, files.paths))}")
        return 0


@contextmanager
def of_files(names: Sequence[str]) -> Iterator[None]:
    """For what is made of results that were read: numbers that make no sense are the files' fault,
    since what landscape writes can be drawn, exported and compared."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        if isinstance(e, LandscapeError):
            raise
        reason = (str(e).splitlines() or [type(e).__name__])[0].rstrip(".")
        raise DataError(
            f"{', '.join(names)} can't be used: damaged, or not as landscape writes it ({reason})."
        ) from e


def claim(path: Path, given: Mapping[str, Any]) -> bool:
    """Let no other command write ``path`` until this one ends; whether to replace what is there.

    It is to be replaced with ``--overwrite``, and beside a partial result to go on from: then it
    was left by the interrupted run before that had written everything, or is of before that run,
    which was to replace it. Raises ``OutputError`` if another process writes there.
    """
    import click

    check_writable(path, overwrite=True)
    context = click.get_current_context(silent=True)
    if context is not None:
        context.with_resource(reserved(path))
    unfinished = any(path.with_suffix(f".partial{s}").exists() for s in (".h5", ".pt"))
    return bool(given["overwrite"] or (given.get("resume") and unfinished))


class Outputs:
    """The files of one command: an HDF5 result and its pictures, checked before long work.

    Without ``--out`` they are named by checkpoint and diagnostic, in the current folder.
    """

    def __init__(self, checkpoint: str, what: str, given: Mapping[str, Any]) -> None:
        path = Path(given["out"] or f"{Path(checkpoint).stem}-{what}.h5")
        self.path = path if path.suffix else path.with_suffix(".h5")
        self.stem = self.path.with_suffix("")
        self.overwrite = claim(self.path, given)
        self.paths = [self.path, *picture_paths(self.stem)]
        for path in self.paths:
            check_writable(path, overwrite=self.overwrite)

    def save(self, result: Result | Mapping[str, Result], figure: Any) -> list[Path]:
        """Write the result, or several as groups by name, and the picture."""
        results = {"/": result} if isinstance(result, Result) else result
        pictures = rendered(figure)  # first, as it takes long: an interruption leaves all or none
        written = [save_all(self.path, results, overwrite=self.overwrite)]
        for path, content in zip(picture_paths(self.stem), pictures, strict=True):
            written.append(write_atomic(path, content, overwrite=self.overwrite))
        return written


def gib(size: float) -> str:
    return f"{size / 2**30:.2g} GiB" if size >= 2**29 else f"{size / 2**20:.0f} MiB"


def _free(device: Any) -> float:
    """Bytes of memory that nothing uses, of an accelerator or the machine; infinite if unknown."""
    import torch

    if device is not None and device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    kib = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines)}
    return 1024.0 * int(kib["MemAvailable"]) if "MemAvailable" in kib else math.inf


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def number(value: float) -> str:
    """Six significant digits, which float32 carries."""
    return f"{value:.6g}"


def percent(value: float, low: float, high: float) -> str:
    return f"{100 * value:.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def describe_loss(objective: Mapping[str, Any]) -> str:
    """'clean loss', or the attack and how its perturbation was treated, from a provenance."""
    attack = objective["attack"]
    if attack is None:
        return "clean loss"
    held = "held fixed" if objective["perturbation"] == "fixed" else "found again at every point"
    return (
        f"adversarial loss ({attack['norm']}, ε = {attack['eps']:.4g}, {attack['steps']} steps, "
        f"perturbation {held})"
    )
