"""Measure, print, and rewrite docs/benchmarks.md: ``python -m benchmarks [NAME …] [--dry]``."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from pathlib import Path

import torch

from landscape._version import __version__

# In the order of the page.
BENCHMARKS = ["surface_point", "input_hessian", "top20"]
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main(names: list[str]) -> None:
    dry = "--dry" in names
    chosen = [n for n in names if not n.startswith("--")] or BENCHMARKS
    sections = []
    for name in chosen:
        module = importlib.import_module(f"benchmarks.{name}")
        section = table(module.TITLE, module.COLUMNS, module.rows(), module.REMARK)
        print(section, flush=True)
        sections.append(section)
    if not dry and chosen == BENCHMARKS:
        PAGE.write_text(head() + "\n".join(sections))


def head() -> str:
    where = "CPU"
    if torch.cuda.is_available():
        where = torch.cuda.get_device_name()
    return (
        "# Benchmarks\n\n"
        "Written by `make bench`. Read the ratios, which are taken turn by turn within one run; "
        "seconds are of this machine only.\n\n"
        f"landscape {__version__}, torch {torch.__version__}, {where}, {os.cpu_count()} cores "
        f"({platform.machine()}), {torch.get_num_threads()} threads.\n\n"
    )


def table(title: str, columns: list[str], rows: list[list[str]], remark: str) -> str:
    lines = [f"## {title}", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", remark, ""])


main(sys.argv[1:])
