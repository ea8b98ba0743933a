"""Measure, print, and rewrite docs/benchmarks.md: ``python -m benchmarks [NAME …] [--dry]``.

Without names, all but the slow ones are measured; sections that were not are left as they are.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from pathlib import Path

import torch

from landscape._version import __version__

# In the order of the page.
BENCHMARKS = ["surface_point", "attacks", "products", "input_hessian", "trace", "top20"]
SLOW = ["top20_resnet18", "memory", "processes", "durability"]
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main(names: list[str]) -> None:
    dry = "--dry" in names
    chosen = [n for n in names if not n.startswith("--")] or BENCHMARKS
    sections = read()
    for name in chosen:
        module = importlib.import_module(f"benchmarks.{name}")
        section = table(module.TITLE, module.COLUMNS, module.rows(), module.REMARK)
        print(section, flush=True)
        sections[module.TITLE] = section
        if not dry:
            write(sections)


def read() -> dict[str, str]:
    """The sections of the page, by title."""
    parts = PAGE.read_text().split("\n## ")[1:] if PAGE.exists() else []
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}


def write(sections: dict[str, str]) -> None:
    titles = [importlib.import_module(f"benchmarks.{n}").TITLE for n in (*BENCHMARKS, *SLOW)]
    known = [sections[title] for title in titles if title in sections]
    PAGE.write_text(head() + "\n".join(known))


def head() -> str:
    where = "CPU"
    if torch.cuda.is_available():
        where = torch.cuda.get_device_name()
    return (
        "# Benchmarks\n\n"
        "Written by `make bench`. Read the ratios, which are taken turn by turn within one run; "
        "seconds are of this machine only. Sections can be measured alone "
        "(`python -m benchmarks top20`), the slow ones only so.\n\n"
        f"landscape {__version__}, torch {torch.__version__}, {where}, {os.cpu_count()} cores "
        f"({platform.machine()}), {torch.get_num_threads()} threads.\n\n"
    )


def table(title: str, columns: list[str], rows: list[list[str]], remark: str) -> str:
    lines = [f"## {title}", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", remark, ""])


main(sys.argv[1:])
