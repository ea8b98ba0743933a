"""``python -m faults``: the campaign, or a part of it."""

from __future__ import annotations

import os

# Before torch: one thread, so that runs can be forked; every row is saved.
os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", LANDSCAPE_SAVE_SECONDS="0")

import argparse
import gc
import importlib
import json
import math
import shutil
import sys
import threading
import time
from pathlib import Path

import torch

from faults import table
from faults.campaign import Bench, Outcome, scratch
from faults.child import start
from faults.commands import COMMANDS
from faults.kinds import KINDS


def main() -> int:
    given = _arguments()
    torch.set_num_threads(1)
    folder = scratch()
    began = time.monotonic()
    found, minutes = _earlier(given.json)
    bad = 0
    try:
        _warm(folder, given.commands)
        for name in given.commands:
            bench = Bench(COMMANDS[name], folder, given.seed)
            print(f"{name}: {bench.seconds:.2f} s undisturbed, {bench.total}", file=sys.stderr)
            for kind in KINDS:
                own = bench.command.short if given.short else ()
                wanted = given.kinds or own or bench.command.faults
                if wanted and not any(part in kind.name for part in wanted):
                    continue
                count = kind.short if given.short else kind.full
                if not (kind.whole or given.short):
                    count = math.ceil(count * bench.command.share)
                count = given.count or count
                if count == 0:
                    continue
                started = time.monotonic()
                outcomes = found[name, kind.name] = []
                for trial in kind.trials(bench, count):
                    outcome = bench.trial(trial)
                    outcomes.append(outcome)
                    if given.loud:
                        print(f"{outcome.what}: {' | '.join(outcome.ends)}", file=sys.stderr)
                    if not outcome.survived:
                        bad += 1
                        _complain(name, kind.name, outcome)
                if given.json:
                    spent = minutes + (time.monotonic() - began) / 60
                    _write(given.json, found, spent)
                took = time.monotonic() - started
                print(f"{name}, {kind.name}: {len(outcomes)} in {took:.0f} s", file=sys.stderr)
            bench.folder("trial")  # unmounts
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    minutes += (time.monotonic() - began) / 60
    print(table.markdown(found))
    if given.page:
        table.write(given.page, found, f"Seed {given.seed}; {minutes:.0f} minutes on one core.")
    print(f"{sum(map(len, found.values()))} faults, {bad} not survived", file=sys.stderr)
    return 1 if bad else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("--kind", dest="kinds", action="append", help="part of a fault's name")
    parser.add_argument("--short", action="store_true", help="a few of every fault")
    parser.add_argument("--loud", action="store_true", help="say how every run ended")
    parser.add_argument("--count", type=int, help="trials of every fault")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, help="put the table into this page")
    parser.add_argument(
        "--json", type=Path, help="every outcome; another part of the campaign adds to it"
    )
    given = parser.parse_args()
    unknown = {*given.commands} - {*COMMANDS}
    if unknown:
        parser.error(f"no command {', '.join(unknown)}: there are {', '.join(COMMANDS)}")
    given.commands = given.commands or list(COMMANDS)
    return given


def _earlier(path: Path | None) -> tuple[dict[tuple[str, str], list[Outcome]], float]:
    """What a part of the campaign has found before, and the minutes that it took."""
    if path is None or not path.exists():
        return {}, 0.0
    content = json.loads(path.read_text())
    found = {(a, b): [Outcome(**o) for o in outcomes] for a, b, outcomes in content["found"]}
    return found, content["minutes"]


def _write(path: Path, found: dict[tuple[str, str], list[Outcome]], minutes: float) -> None:
    rows = [[*key, [vars(o) for o in outcomes]] for key, outcomes in found.items()]
    path.write_text(json.dumps({"minutes": minutes, "found": rows}))


def _complain(command: str, kind: str, outcome: Outcome) -> None:
    print(f"NOT SURVIVED: {command}, {kind}, {outcome.what}", file=sys.stderr)
    for text in (*outcome.lost, *outcome.partial, *outcome.problems):
        print("   ", text.replace("\n", "\n    "), file=sys.stderr)
    sys.stderr.flush()


def _warm(folder: Path, names: list[str]) -> None:
    """Import here what the commands import, so that forked runs needn't."""
    for command in (COMMANDS[name] for name in names):
        place, log = folder / "warm" / command.name, folder / "modules"
        place.mkdir(parents=True)
        command.prepare(place)
        child = start(command.arguments, place, folder, [lambda log=log: _log_modules(log)])
        child.wait()
        for name in log.read_text().split():
            if name not in sys.modules and not name.startswith("__"):
                try:
                    importlib.import_module(name)
                except Exception:  # a part of another module: every run imports it itself
                    continue
    if threading.active_count() > 1:
        raise RuntimeError(f"can't fork with threads: {threading.enumerate()}")
    gc.collect()
    gc.freeze()


def _log_modules(log: Path) -> None:
    """At this process's end."""
    leave = os._exit

    def exit(code: int) -> None:
        log.write_text("\n".join([*sys.modules]))
        leave(code)

    os._exit = exit


if __name__ == "__main__":  # and not in processes that a run spawns
    sys.exit(main())
