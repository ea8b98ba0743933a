"""Train the bundled checkpoints and write their manifest: ``make checkpoints``.

    python checkpoints/make.py [--jobs N] [--again] [--table] [--seeds] [NAME ...]

One digits network per method and one per addition to PGD training, two of standard and of PGD
training. Every row is an ordinary ``landscape train`` of the digits recipe; its command is in the
manifest. Networks that are there, of the same configuration, are kept. ``--seeds`` trains with two
more seeds, whose accuracies alone are kept, in ``seeds.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MANIFEST = HERE / "manifest.json"
SCRATCH = HERE.parent / "out" / "zoo"  # run folders, from which an interrupted rebuild goes on
SEEDS = HERE / "seeds.json"
DOCS = HERE.parent / "docs" / "training.md"
MARKS = ("<!-- zoo -->", "<!-- end of zoo -->")
SIZE = 200_000  # bytes at most
TEACHERS = 4  # the first of them, from which others start or learn


def runs() -> dict[str, tuple[str, int]]:
    """Name to method and seed; those that others start or learn from come first."""
    from landscape.training import ADDITIONS, METHODS

    teachers = [("standard", 0), ("pgd", 0), ("standard", 1), ("pgd", 1)]
    others = [name for name in METHODS if name not in ("standard", "pgd")]
    others += [f"pgd+{name}" for name in ADDITIONS]
    found = [*teachers, *((name, 0) for name in others)]
    return {f"digits-{name}-seed{seed}": (name, seed) for name, seed in found}


def configuration(method: str, seed: int) -> Any:
    from landscape.training import default_config

    return default_config("digits", None, method, seed=seed, device="cpu")


def digest(method: str, seed: int) -> str:
    return str(configuration(method, seed).digest)


def threads(name: str) -> int:
    """Sums are rounded otherwise with another number of threads: a rebuild keeps to it."""
    return 2 if name in list(runs())[:TEACHERS] else 1


def trained(name: str, method: str, seed: int, scratch: Path = SCRATCH) -> tuple[Any, float]:
    """The checkpoint and what its training took in CPU seconds; a finished one is not repeated."""
    import torch

    from landscape.errors import UsageError
    from landscape.training import train

    torch.set_num_threads(threads(name))
    config = configuration(method, seed)
    took = scratch / name / "cpu-seconds.txt"
    earlier = float(took.read_text()) if took.exists() else 0.0
    start = time.process_time()
    try:
        checkpoint = train(config, scratch / name)
    except UsageError:  # another configuration lies there
        earlier, start = 0.0, time.process_time()
        checkpoint = train(config, scratch / name, overwrite=True)
    seconds = earlier or time.process_time() - start
    took.write_text(str(seconds))
    return checkpoint, seconds


def make(name: str, method: str, seed: int, scratch: Path = SCRATCH) -> dict[str, Any]:
    """Train, measure and save one; returns its row of the manifest."""
    import landscape as ls
    from landscape.attacks.autoattack import AutoAttack
    from landscape.data import load
    from landscape.models import ModelSpec

    checkpoint, seconds = trained(name, method, seed, scratch)
    config = configuration(method, seed)
    attack = AutoAttack(config.evaluation.ball)
    model = checkpoint.into(ModelSpec.from_dict(checkpoint.model or {}).build())
    objective = ls.Objective(model, load("digits", "test"), seed=seed)
    broken = ls.evaluate(objective, {"autoattack": attack})
    path = checkpoint.save(HERE / f"{name}.pt", overwrite=True)
    assert path.stat().st_size < SIZE, f"{path} is {path.stat().st_size} bytes"
    return {
        "command": f"landscape train {method} --data digits --seed {seed}",
        "method": method,
        "seed": seed,
        "epoch": checkpoint.epoch,
        "passes": list(config.plan.method.passes),
        "threads": threads(name),
        "cpu_seconds": round(seconds, 1),
        "metrics": {**checkpoint.metrics, "test_autoattack_accuracy": float(broken.accuracy[1])},
        "autoattack": attack.describe(),
        "digest": checkpoint.digest,
        "configuration": checkpoint.method["config"],
    }


def current(name: str, method: str, seed: int, rows: dict[str, Any]) -> bool:
    """Whether file and row are there, and of today's configuration."""
    from landscape import checkpoints
    from landscape.training.config import differences

    path = HERE / f"{name}.pt"
    if "autoattack" not in rows.get(name, {}) or not path.exists():
        return False
    if checkpoints.load(path).digest != rows[name]["digest"]:
        return False
    return not differences(rows[name]["configuration"], configuration(method, seed).to_dict())


def again(name: str, method: str, seed: int) -> dict[str, Any]:
    """Accuracies of another seed, and the configuration they belong to."""
    checkpoint, _ = trained(name, method, seed)
    return {"digest": digest(method, seed), "metrics": checkpoint.metrics}


def others() -> dict[str, tuple[str, int]]:
    """The trainings of ``--seeds``: name to method and seed."""
    made = runs()
    found = {
        f"digits-{method}-seed{seed}": (method, seed)
        for seed in (1, 2)
        for method, _ in dict.fromkeys(made.values())
    }
    return {name: run for name, run in found.items() if name not in made}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, found: dict[str, Any], order: list[str]) -> None:
    """Rows into a file, beside those that are there by now."""
    from landscape.files import write_atomic

    rows = {**read(path), **found}
    content = {name: rows[name] for name in order if name in rows}
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode(), overwrite=True)


def table(rows: dict[str, Any], seeds: dict[str, Any]) -> str:
    """The manifest as a table for the documentation, with the accuracies of other seeds."""
    columns = ["checkpoint", "clean %", "PGD-20 %", "AutoAttack %"]
    columns += ["PGD-20 %, seeds 1, 2", "mean ± deviation", "epoch", "passes", "CPU s"]
    every = {**seeds, **rows}
    lines = [columns, ["---", *["--:"] * (len(columns) - 1)]]
    for name, row in rows.items():
        kinds = ("accuracy", "robust_accuracy", "autoattack_accuracy")
        numbers = [f"{100 * row['metrics'][f'test_{kind}']:.1f}" for kind in kinds]
        epochs = f"{row['epoch']}/{row['configuration']['epochs']}"
        passes = " + ".join(map(str, row["passes"]))
        shown = average = "–"
        if row["seed"] == 0:
            found = [100 * value for value in robust(row["method"], every)]
            shown = ", ".join(f"{value:.1f}" for value in found[1:]) or "–"
            if len(found) > 1:
                average = f"{statistics.mean(found):.1f} ± {statistics.stdev(found):.1f}"
        seconds = f"{row['cpu_seconds']:.0f}"
        lines.append([f"`{name}`", *numbers, shown, average, epochs, passes, seconds])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def robust(method: str, rows: dict[str, Any]) -> list[float]:
    """PGD-20 accuracies of a method's seeds, in their order."""
    names = [f"digits-{method}-seed{seed}" for seed in (0, 1, 2)]
    return [rows[n]["metrics"]["test_robust_accuracy"] for n in names if n in rows]


def document() -> None:
    """Put the table into the documentation, between its marks."""
    from landscape.files import write_atomic

    text = DOCS.read_text()
    start, end = (text.index(mark) for mark in MARKS)
    text = f"{text[:start]}{MARKS[0]}\n{table(read(MANIFEST), read(SEEDS))}\n{text[end:]}"
    write_atomic(DOCS, text.encode(), overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="checkpoints to make; by default all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--again", action="store_true", help="also those that are there")
    parser.add_argument(
        "--table", action="store_true", help="write the documentation's table alone"
    )
    parser.add_argument("--seeds", action="store_true", help="train with two more seeds")
    given = parser.parse_args()
    if given.table:
        document()
        return
    known = others() if given.seeds else runs()
    for name in given.names:
        if name not in known:
            parser.error(f"no checkpoint '{name}': expected one of {', '.join(known)}")
    wanted = given.names or list(known)
    if given.seeds:
        rows = read(SEEDS)
        done = {n for n in rows if n in known and rows[n]["digest"] == digest(*known[n])}
        run(again, known, [n for n in wanted if n not in done or given.again], SEEDS, given.jobs)
        return
    rows, order = read(MANIFEST), list(known)
    for gone in set(rows) - set(order):
        (HERE / f"{gone}.pt").unlink(missing_ok=True)
    # Other networks learn from the first ones.
    for group in (order[:TEACHERS], order[TEACHERS:]):
        todo = [n for n in group if n in wanted]
        todo = [n for n in todo if given.again or not current(n, *known[n], rows)]
        run(make, known, todo, MANIFEST, given.jobs)


def run(work: Any, known: dict[str, tuple[str, int]], todo: list[str], to: Path, jobs: int) -> None:
    """Do ``work`` for the names ``todo``, and write what it returns as it comes."""
    with ProcessPoolExecutor(jobs) as pool:
        futures = {pool.submit(work, name, *known[name]): name for name in todo}
        for future in as_completed(futures):
            name, found = futures[future], future.result()
            write(to, {name: found}, list(known))
            document()
            print(name, found["metrics"], flush=True)


if __name__ == "__main__":
    main()
