"""Imports run downward only, also those inside functions."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "landscape"

# From the bottom up. A module imports from lower rows and from its own package.
LAYERS = [
    ["_version", "errors"],
    ["parallel"],
    ["random", "files"],
    ["params", "losses", "provenance", "limits", "memory"],
    ["folding", "results", "structured", "foreign"],
    ["double_backward"],
    ["batches", "functional", "checkpoints"],
    ["linalg", "attacks", "plotting", "share", "differentiability"],
    ["perturbed"],
    ["objective"],
    ["operators"],
    ["directions"],
    ["diagnostics"],
    ["models", "data", "tracking"],
    ["training"],
    ["connectivity", "exchange", "callbacks", "reporting"],
    ["running"],
    ["papers", "sweeps"],
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, row in enumerate(LAYERS) for name in row}
MODULES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def imported(tree: ast.AST) -> set[str]:
    """The parts of landscape that a module imports, by their first name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layers"
            base = node.module or ""
            names = [f"{base}.{a.name}" for a in node.names] if base == "landscape" else [base]
        else:
            continue
        found |= {n.split(".")[1] for n in names if n.startswith("landscape.")}
    return found


def upward(part: str, tree: ast.AST) -> set[str]:
    """The imports of a module that don't run downward."""
    return {other for other in imported(tree) if other != part and RANK[other] >= RANK[part]}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downward(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert part in RANK, f"give '{part}' a row in LAYERS"
    assert not upward(part, ast.parse(path.read_text()))


def test_an_upward_import_is_caught() -> None:
    inside_a_function = ast.parse("def f():\n    from landscape.diagnostics import spectrum")
    assert upward("objective", inside_a_function) == {"diagnostics"}
    assert upward("cli", inside_a_function) == set()
    assert upward("params", ast.parse("from landscape import results")) == {"results"}
