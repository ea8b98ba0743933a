"""li2023 Table 1: regularisers on single-step and multi-step adversarial training (§5.2, §5.3).

Networks, rows and numbers; what is claimed about them is in ``benchmark_claims``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from landscape.diagnostics import Inputs, inputs
from landscape.papers.drawing import over_seeds, typeset
from landscape.papers.figures import Found
from landscape.papers.kinds import Curves, Sheet, curves, sheet
from landscape.papers.li2023.along import input_gradient
from landscape.papers.li2023.costs import update_cost
from landscape.papers.li2023.setting import PREACT, trained
from landscape.papers.measures import accuracy
from landscape.papers.scale import Scale
from landscape.running.trained import Trained
from landscape.running.work import Run, Work, measure

BASES = {"fgsm-n": "FGSM-N", "pgd": "PGD-10"}
ADDITIONS = {
    "igr": "IGR",
    "cure": "CURE",
    "gradalign": "GradAlign",
    "logitalign": "LogitAlign",
    "consistency": "Consistency",
    "kdsa": "KDSA",
    "kdsa+swa": "KDSA + SWA",
    "advlc": "AdvLC",
    "advlc+swa": "AdvLC + SWA",
}
ENDS = {"best": "best", "end": "final"}
COLUMNS = ("acc. best", "acc. end", "rob. best", "rob. end", "rob. diff.", "IG", "HS", "cost")
UNITS = ("%", "%", "%", "%", "%", "1/input", "1/input²", "MFLOP")


def methods(bases: Sequence[str], additions: Sequence[str]) -> list[str]:
    """All rows: every base alone and with every addition."""
    return [base if not a else f"{base}+{a}" for base in bases for a in ("", *additions)]


def label(method: str) -> str:
    """What the table calls a method."""
    base, _, addition = method.partition("+")
    if not addition:
        return {"standard": "Standard"}.get(base, BASES.get(base, base))
    return f"{BASES[base]} + {ADDITIONS.get(addition, addition)}"


# -- numbers of a run -----------------------------------------------------------------------------


def slopes(run: Trained, *, n: int | None = None, released: bool = False) -> Curves:
    """IG over the whole test set and HS over ``n`` of it, at the end of training.

    ``released``: HS also as the authors' code has it, pooled over batches of 100, for comparison
    with the numbers in print: about a hundredth of the definition's.
    """
    objective = run.objective("final", split="test", n=n)
    x, _ = next(iter(objective.batches))
    found: Inputs = inputs(objective, top=min(20, x[0].numel()), li2023_compatible=released)
    rows = {"IG": input_gradient(run.objective("final", split="test")), "HS": found.mean_hs.value}
    if found.hs_li2023 is not None:
        rows["HS as released"] = found.hs_li2023.value
    return curves([run.config.plan.epochs], {name: [v] for name, v in rows.items()})


def works_of(scale: Scale, name: str, run: Run, robust: Sequence[str] = ()) -> dict[str, Work]:
    """What a row of a table needs from one run.

    On digits and MNIST robust accuracy is the run's own, under PGD-20. At paper scale it is
    AutoAttack's, or that of ``robust``.
    """
    n = scale.pick(digits=None, mnist=2000, paper=2000)
    works: dict[str, Work] = {
        f"runs/{name}": run,
        f"slopes/{name}": measure(slopes, run, n=n, released=scale.name in ("digits", "paper")),
        f"cost/{name}": measure(update_cost, run),
    }
    if scale.name == "paper":
        for end, which in ENDS.items():
            works[f"{end}/{name}"] = measure(
                accuracy, run, attacks=tuple(robust), autoattack=not robust, which=which
            )
    return works


def numbers(found: Found, method: str) -> dict[str, list[float]]:
    """The columns of a row, one value per seed; accuracies in per cent."""
    rows: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for name, run in found.under(f"runs/{method}").items():
        for end, which in ENDS.items():
            key = f"{end}/{method}/{name}"
            if key in found:
                tested = found[key]
                clean, robust = float(tested.accuracy[0]), float(tested.worst)
            else:
                metrics = run.metrics(which)
                clean, robust = metrics["test_accuracy"], metrics["test_robust_accuracy"]
            rows[f"acc. {end}"].append(100 * clean)
            rows[f"rob. {end}"].append(100 * robust)
        rows["rob. diff."].append(rows["rob. best"][-1] - rows["rob. end"][-1])
        for quantity in ("IG", "HS"):
            rows[quantity].append(float(found[f"slopes/{method}/{name}"].of(quantity)[0]))
        rows["cost"].append(float(found[f"cost/{method}/{name}"].value[0, 0]))
    return rows


def row_names(found: Found) -> list[str]:
    """Methods of a table, in the order of its plan."""
    names = [key.split("/")[1] for key in found if key.startswith("runs/")]
    return list(dict.fromkeys(names))


def table_of(found: Found, labels: Any = label, columns: Sequence[str] = COLUMNS) -> Sheet:
    """Means and standard deviations over seeds; AutoAttack's where it was run besides PGD-20."""
    rows, strong = {}, found.under("autoattack")
    for method in row_names(found):
        cells: list[Any] = []
        values = numbers(found, method)
        for column in columns:
            mean, spread = over_seeds(values[column])
            cells.append(float(mean) if column == "cost" else (float(mean), float(spread)))
        if strong:
            right = strong[method].outcome("autoattack") if method in strong else None
            cells.append(None if right is None else 100 * float(right.mean()))
        rows[labels(method)] = cells
    units = [UNITS[COLUMNS.index(column)] for column in columns]
    if strong:
        columns, units = [*columns, "AA end"], [*units, "%"]
    return sheet(rows, columns, units, "standard deviation over seeds")


def picture(content: Sheet) -> Any:
    """The table as a picture: rows of a base under it, and no more digits than there is room for.

    Percentages to one decimal, IG and HS to two; the file has all of them.
    """
    decimals = np.array([1 if units == "%" else 2 for units in content.units])
    value, error = (
        np.array([[round(v, d) + 0.0 for v, d in zip(row, decimals, strict=True)] for row in rows])
        for rows in (content.value.tolist(), content.error.tolist())
    )
    names = [str(n) for n in content.row]
    short = [f"+ {n.partition(' + ')[2]}" if " + " in n.lstrip("+ ") else n for n in names]
    return typeset(dataclasses.replace(content, row=np.array(short), value=value, error=error))


# -- the plan -------------------------------------------------------------------------------------


def plan(scale: Scale) -> Mapping[str, Work]:
    additions = scale.pick(digits=tuple(ADDITIONS), paper=tuple(ADDITIONS), smoke=("advlc",))
    works: dict[str, Work] = {}
    for method in ("standard", *methods(tuple(BASES), additions)):
        for seed in scale.seeds(3):
            works |= works_of(scale, f"{method}/seed{seed}", trained(scale, method, seed, PREACT))
    if scale.name == "digits":
        # How far PGD-20 flatters: the whole of AutoAttack where it matters most.
        for base in BASES:
            for method in (base, f"{base}+advlc"):
                works[f"autoattack/{method}"] = measure(
                    accuracy,
                    trained(scale, method, scale.seeds(3)[0], PREACT),
                    attacks=("pgd-20",),
                    autoattack=True,
                    which="final",
                    n=100,
                )
    return works


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
