"""The command line: parse, call the API, print, save. Nothing heavy is imported here."""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import errno
import importlib
import os
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import click

from landscape import parallel
from landscape._version import __version__
from landscape.cli import processes, signals
from landscape.cli.streams import keep_talking
from landscape.errors import LandscapeError, ProcessError
from landscape.files import explained

# Every verb and the module that holds it, in the order of ``--help``.
COMMANDS = {
    "demo": "landscape.cli.demo",
    "train": "landscape.cli.train",
    "evaluate": "landscape.cli.evaluate",
    "report": "landscape.cli.report",
    "compare": "landscape.cli.compare",
    "spectrum": "landscape.cli.spectrum",
    "density": "landscape.cli.density",
    "trace": "landscape.cli.trace",
    "samples": "landscape.cli.samples",
    "difficulty": "landscape.cli.difficulty",
    "surface": "landscape.cli.surface",
    "connect": "landscape.cli.connect",
    "cosine": "landscape.cli.cosine",
    "smoothness": "landscape.cli.smoothness",
    "inputs": "landscape.cli.inputs",
    "effectiveness": "landscape.cli.effectiveness",
    "examples": "landscape.cli.examples",
    "lipschitz": "landscape.cli.lipschitz",
    "neurons": "landscape.cli.neurons",
    "figure": "landscape.cli.figure",
    "sweep": "landscape.cli.sweep",
    "inspect": "landscape.cli.inspect",
    "plot": "landscape.cli.plot",
    "export": "landscape.cli.export",
    "models": "landscape.cli.catalogue",
    "methods": "landscape.cli.catalogue",
    "attacks": "landscape.cli.catalogue",
    "data": "landscape.cli.data",
    "doctor": "landscape.cli.doctor",
}


class Lazy(click.Group):
    """A group whose commands are imported when they are needed; their modules import only click."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[name]), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"no command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="landscape")
def cli() -> None:
    """Loss landscapes of neural networks: measured, with their uncertainties, and drawn.

    Start with `landscape demo`. Every command takes --help.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 usage, 3 not converged, and 128 + the
    signal that stopped it: 130 Ctrl-C, 143 SIGTERM, 129 a closed terminal."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Waiting OpenMP threads spin for microseconds and then sleep: on a busy machine, spinning as
    # long as is the default makes small networks a hundred times slower, and not spinning at all
    # costs a third on an idle one. Read when torch is imported, which is later.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.environ["OMP_WAIT_POLICY"] == "PASSIVE":
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    _keep_freed_memory()
    # A module of the user's own (--model package.module:factory) is found as Python would.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    keep_talking()
    signals.catch()
    sys.exit(run(arguments))


def _keep_freed_memory() -> None:
    """Have the C library give memory that was freed to the next tensor, not to the system.

    A tensor of megabytes would otherwise be new pages each time, which cost more than many an
    operation on it: products and attacks of a ResNet-18 take up to a tenth longer.
    """
    most_mapped, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        adjust = ctypes.CDLL(None).mallopt
        adjust(most_mapped, 0)
        adjust(trim_threshold, -1)


def run(arguments: list[str]) -> int:
    """The exit code of a command line; every failure is one line on stderr."""
    loud = "-vv" in arguments
    if not loud:  # torch's notes on its own insides are not for users of this command
        warnings.filterwarnings("ignore", module=r"torch\b")
        warnings.showwarning = _remark  # type: ignore[assignment]
    try:
        processes.join(arguments)
        code = cli.main(arguments, prog_name="landscape", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return _fail(_sentence(error), error.exit_code, loud)
    except (KeyboardInterrupt, click.Abort) as stop:
        if parallel.group().size > 1:  # torchrun ends all when one has failed
            return _fail(processes.interrupted(), 130, loud)
        again = shlex.join(["landscape", *arguments])
        number = signals.of(stop)
        name = signal.Signals(number).name
        why = "interrupted" if number == signal.SIGINT else f"stopped by {name}"
        print(f"\n{why}; finished work is kept. Go on with: {again}", file=sys.stderr)
        return 128 + number
    except ProcessError as error:
        return _fail(f"{error} {processes.GO_ON}", error.exit_code, loud)
    except LandscapeError as error:
        return _fail(str(error), error.exit_code, loud)
    except MemoryError:
        return _fail("out of memory: use a smaller --batch-size or --n-examples.", 1, loud)
    except Exception as error:
        if isinstance(error, OSError) and error.filename:
            if error.errno in _DISK:  # while a folder is made, say; files explain themselves
                return _fail(str(explained(error.filename, error)), 1, loud)
            return _fail(f"can't use {error.filename}: {error.strerror}.", 1, loud)
        name, text = type(error).__name__, (str(error).splitlines() or [""])[0]
        if name == "OutOfMemoryError":
            return _fail("out of device memory: use a smaller --batch-size.", 1, loud)
        return _fail(f"{name}: {text} (run again with -vv for the traceback)", 1, loud)


def _remark(message: Warning | str, *_: Any) -> None:
    print("landscape: warning: " + " ".join(str(message).split()), file=sys.stderr)


# What nothing but writing meets.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _sentence(error: click.ClickException) -> str:
    text = error.format_message()
    ctx = getattr(error, "ctx", None)
    if isinstance(error, click.UsageError) and ctx is not None:
        text = f"{text.rstrip('.')}. See '{ctx.command_path} --help'."
    return text


def _fail(message: str, code: int, loud: bool) -> int:
    if loud:
        traceback.print_exc()
    parallel.group().fail(message)
    print("landscape: error: " + " ".join(message.split()), file=sys.stderr)
    return code
