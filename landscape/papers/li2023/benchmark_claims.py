"""What li2023 claims about its Table 1 (§5.2, §5.3), and the table as a figure."""

from __future__ import annotations

from collections.abc import Sequence

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.figures import Figure, Found
from landscape.papers.li2023.benchmark import (
    ADDITIONS,
    BASES,
    label,
    mean,
    numbers,
    picture,
    plan,
    row_names,
    table_of,
)
from landscape.papers.li2023.overfitting import ANALOGUE

FIRST_ORDER = ("igr", "cure", "gradalign")
SMOOTHERS = (*FIRST_ORDER, "logitalign", "consistency", "advlc")
Rows = dict[str, dict[str, list[float]]]


def rows_of(found: Found) -> Rows:
    """Every row's columns, one value per seed."""
    return {method: numbers(found, method) for method in row_names(found)}


def among(rows: Rows, base: str, additions: Sequence[str]) -> list[str]:
    """The rows of a base with these additions, as many as there are."""
    return [f"{base}+{a}" for a in additions if f"{base}+{a}" in rows]


def runner_up(rows: Rows, of: Sequence[str], column: str) -> str:
    return max(of, key=lambda method: mean(rows[method][column]))


def above(rows: Rows, one: str, other: str, column: str, by: float = 0.0) -> Verdict:
    """``one`` exceeds ``other`` in a column by more than ``by``, paired by seed."""
    return claims.greater(
        rows[one][column], rows[other][column], column, names=(label(one), label(other)), by=by
    )


def _missing() -> Verdict:
    return Verdict(claims.OPEN, "its rows are not made at this scale")


def _best_of_all(found: Found) -> Verdict:
    rows, verdicts = rows_of(found), []
    for base in BASES:
        others = [m for m in rows if m.startswith(base) and m != f"{base}+advlc+swa"]
        if f"{base}+advlc+swa" not in rows:
            return _missing()
        for column in ("rob. best", "rob. end"):
            other = runner_up(rows, others, column)
            verdicts.append(above(rows, f"{base}+advlc+swa", other, column))
    return claims.all_of(verdicts)


def _best_without_averaging(found: Found) -> Verdict:
    rows, verdicts = rows_of(found), []
    for base in BASES:
        others = [base, *among(rows, base, [a for a in ADDITIONS if a != "advlc"])]
        others = [m for m in others if not m.endswith("swa")]
        for column in ("rob. best", "rob. end"):
            other = runner_up(rows, others, column)
            verdicts.append(above(rows, f"{base}+advlc", other, column))
    return claims.all_of(verdicts)


def _averaging_helps(found: Found) -> Verdict:
    rows = rows_of(found)
    if f"{next(iter(BASES))}+advlc+swa" not in rows:
        return _missing()
    return claims.all_of(
        [
            above(rows, f"{base}+advlc+swa", f"{base}+advlc", column)
            for base in BASES
            for column in ("rob. best", "rob. end")
        ]
    )


def _beats_multi_step(found: Found) -> Verdict:
    """Only AdvLC: no other addition to FGSM-N does (SWA's rows aside)."""
    rows, column = rows_of(found), "rob. best"
    others = [a for a in ADDITIONS if "advlc" not in a and "swa" not in a]
    return claims.all_of(
        [
            above(rows, "fgsm-n+advlc", "pgd", column),
            *(above(rows, "pgd", m, column) for m in among(rows, "fgsm-n", others)),
        ]
    )


def _beats_regularised(found: Found) -> Verdict:
    rows, column = rows_of(found), "rob. best"
    others = among(rows, "pgd", (*FIRST_ORDER, "logitalign"))
    if not others:
        return _missing()
    return above(rows, "fgsm-n+advlc", runner_up(rows, others, column), column)


def _keeps_accuracy(found: Found) -> Verdict:
    rows, column, verdicts = rows_of(found), "acc. end", []
    for base in BASES:
        others = among(rows, base, [a for a in SMOOTHERS if a != "advlc"])
        if not others:
            return _missing()
        average = [mean(v) for v in zip(*(rows[m][column] for m in others), strict=True)]
        verdicts.append(
            claims.greater(
                rows[f"{base}+advlc"][column],
                average,
                f"{column} (%)",
                names=(label(f"{base}+advlc"), "mean of other smoothers"),
                by=-2.0,
            )
        )
    return claims.all_of(verdicts)


def _pairs(found: Found, pairs: Sequence[tuple[str, str]], columns: Sequence[str]) -> Verdict:
    """The first addition of each pair exceeds the second, for every base and column."""
    rows = rows_of(found)
    named = [tuple(f"{base}+{a}".rstrip("+") for a in pair) for base in BASES for pair in pairs]
    if any(name not in rows for pair in named for name in pair):
        return _missing()
    return claims.all_of([above(rows, a, b, column) for a, b in named for column in columns])


def _smoother(found: Found) -> Verdict:
    """The mean over the regularised rows is below the base: IG, HS and the loss of robustness."""
    rows, verdicts = rows_of(found), []
    for base in BASES:
        others = [m for m in among(rows, base, tuple(ADDITIONS)) if m != "fgsm-n+igr"]
        for column in ("IG", "HS", "rob. diff."):
            average = [mean(v) for v in zip(*(rows[m][column] for m in others), strict=True)]
            verdicts.append(
                claims.greater(
                    rows[base][column],
                    average,
                    column,
                    names=(label(base), f"mean of {len(others)} regularised"),
                )
            )
    return claims.all_of(verdicts)


def _first_order_fails(found: Found) -> Verdict:
    rows = rows_of(found)
    others = among(rows, "pgd", FIRST_ORDER)
    if not others:
        return _missing()
    return claims.all_of([above(rows, "pgd", m, "rob. best") for m in others])


def _sacrifices(found: Found) -> Verdict:
    rows = rows_of(found)
    return claims.all_of(
        [
            above(rows, base, m, column)
            for base in BASES
            for m in among(rows, base, SMOOTHERS)
            for column in ("acc. best", "acc. end")
        ]
    )


# -- cost: counted operations, the same for every seed --------------------------------------------


def _cost(rows: Rows, method: str) -> float:
    return rows[method]["cost"][0]


def _cheapest(found: Found) -> Verdict:
    rows, worst, shown = rows_of(found), float("inf"), []
    for base in BASES:
        own = _cost(rows, f"{base}+advlc")
        others = among(rows, base, [a for a in ADDITIONS if "advlc" not in a])
        if not others:
            return _missing()
        least = min(others, key=lambda m: _cost(rows, m))
        worst = min(worst, _cost(rows, least) / own)
        shown.append(f"{label(f'{base}+advlc')} {own:.3g}, {label(least)} {_cost(rows, least):.3g}")
    return claims.exactly(worst > 1, f"MFLOP per update, next cheapest: {'; '.join(shown)}", worst)


def _ratios(found: Found, base: str, others: Sequence[str], least: float) -> Verdict:
    """Each costs at least ``least`` times as much as AdvLC on the same base."""
    rows = rows_of(found)
    if not among(rows, base, others):
        return _missing()
    own = _cost(rows, f"{base}+advlc")
    ratios = {m: _cost(rows, m) / own for m in among(rows, base, others)}
    shown = ", ".join(f"{label(m)} {r:.2f}" for m, r in ratios.items())
    smallest = min(ratios.values())
    text = f"operations over those of {label(f'{base}+advlc')}: {shown}; asked for {least:g}"
    return claims.exactly(smallest >= least, text, smallest)


def _trivial(found: Found) -> Verdict:
    rows = rows_of(found)
    ratios = {base: _cost(rows, f"{base}+advlc") / _cost(rows, base) for base in BASES}
    shown = ", ".join(f"{label(b)} {r:.2f}" for b, r in ratios.items())
    largest = max(ratios.values())
    text = f"operations with AdvLC over those without: {shown}; up to 1.2 pass"
    return claims.exactly(largest <= 1.2, text, largest)


TABLE1 = Figure(
    "li2023/table1",
    "Accuracy, robustness, slope, curvature and cost of regularised adversarial training",
    plan=plan,
    draw=lambda found: picture(table_of(found)),
    table=table_of,
    claims=(
        Claim(
            "With SWA, AdvLC has the highest best and end robustness of all, on FGSM-N and PGD-10.",
            "§5.2, Table 1",
            _best_of_all,
        ),
        Claim(
            "Without SWA, AdvLC has the highest best and end robustness of what has none (in print "
            "Consistency's end robustness is higher on both, and KDSA's on PGD-10).",
            "§5.2, Table 1",
            _best_without_averaging,
        ),
        Claim("SWA improves AdvLC further.", "§5.2, Table 1", _averaging_helps),
        Claim(
            "Only AdvLC makes FGSM-N more robust than PGD-10 at its best.",
            "§5.2, Table 1",
            _beats_multi_step,
        ),
        Claim(
            "FGSM-N with AdvLC is at its best more robust than PGD-10 with IGR, CURE, GradAlign or "
            "LogitAlign.",
            "§5.2, Table 1",
            _beats_regularised,
        ),
        Claim(
            "AdvLC costs no more accuracy than other smoothers do (2 points allowed).",
            "§5.2, Table 1",
            _keeps_accuracy,
        ),
        Claim(
            "AdvLC is more robust than KDSA, with SWA and without (in print not at the end of "
            "PGD-10 without).",
            "§5.2, Table 1",
            lambda found: _pairs(
                found,
                (("advlc", "kdsa"), ("advlc+swa", "kdsa+swa")),
                ("rob. best", "rob. end"),
            ),
        ),
        Claim(
            "KDSA is more accurate than AdvLC and than training without a regulariser.",
            "§5.2, Table 1",
            lambda found: _pairs(
                found, (("kdsa", "advlc"), ("kdsa", "")), ("acc. best", "acc. end")
            ),
        ),
        Claim(
            "Regularisers (but FGSM-N + IGR) lower IG, HS and the loss of robustness from best to "
            "end; their mean, as checked here.",
            "§5.2, Table 1",
            _smoother,
        ),
        Claim(
            "GradAlign makes training less robust, at best and at the end.",
            "§5.2, Table 1",
            lambda found: _pairs(found, (("", "gradalign"),), ("rob. best", "rob. end")),
        ),
        Claim(
            "IGR, CURE and GradAlign don't improve the best robustness of PGD-10.",
            "§5.2, Table 1",
            _first_order_fails,
        ),
        Claim("All smoothers sacrifice accuracy.", "§5.2, Table 1", _sacrifices),
        Claim("AdvLC is the cheapest of all regularisers.", "§5.3, Table 1", _cheapest),
        Claim(
            "On FGSM-N, CURE and GradAlign cost three times as much as AdvLC (2.5 as checked).",
            "§5.3, Table 1",
            lambda found: _ratios(found, "fgsm-n", ("cure", "gradalign"), 2.5),
        ),
        Claim(
            "On PGD-10, LogitAlign and Consistency cost almost twice as much as AdvLC (1.7 as "
            "checked).",
            "§5.3, Table 1",
            lambda found: _ratios(found, "pgd", ("logitalign", "consistency"), 1.7),
        ),
        Claim("What AdvLC adds to the cost is trivial (a fifth).", "§5.3, Table 1", _trivial),
    ),
    analogue=f"{ANALOGUE} Robust accuracy is under PGD-20 on 300 test images, for four networks of "
    "the first seed also under AutoAttack on 100 (AA). Strengths are the paper's (a tenth of it "
    "for IGR), those of squared gradients in proportion to the ball; that of AdvLC rises along the "
    "run, as on TinyImageNet; Consistency alone is trained on shifted images, since its two views "
    "must differ. The best checkpoint is of the highest PGD-5 accuracy on validation images, which "
    "the paper took from its test set.",
    needs="Robust accuracy at paper scale is AutoAttack's on all 10,000 test images, twice a run. "
    "Cost is counted, in operations of one update; the paper gives seconds on a V100.",
)
