"""kanai2021 Tables 1–3: robust accuracies by SGD and by EntropySGD of first and second order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import OPEN, Claim, Verdict
from landscape.papers.drawing import typeset
from landscape.papers.figures import Figure, Found
from landscape.papers.kanai2021.checks import close
from landscape.papers.kanai2021.setting import ANALOGUE, AT, MAIN, TRADES, settings, trained
from landscape.papers.kinds import Sheet, sheet
from landscape.papers.measures import accuracy
from landscape.papers.scale import Scale
from landscape.running.trained import Trained
from landscape.running.work import Work, measure


def _plan(scale: Scale, names: Sequence[str], *, trades: bool = False) -> Mapping[str, Work]:
    n = scale.pick(digits=100, mnist=1000, paper=None, smoke=10)
    found: dict[str, Work] = {}
    for row, setting in settings(scale, trades=trades).items():
        for name in names:
            for seed in scale.seeds(3):
                run = trained(scale, name, seed, setting)
                # PGD-20 on the test set is part of every training's record.
                found[f"{row}/{name}/seed{seed}"] = (
                    measure(accuracy, run, attacks=(), autoattack=not scale.smoke, n=n)
                    if setting.attack == "autoattack"
                    else run
                )
    return found


def _robust(content: Any) -> float:
    """Robust accuracy in %: of an evaluation under its last attack, of a training under PGD-20."""
    if isinstance(content, Trained):
        return 100 * content.metrics()["test_robust_accuracy"]
    return 100 * float(content.accuracy[-1])


def _rows(found: Found) -> list[str]:
    return list(dict.fromkeys(key.partition("/")[0] for key in found))


def _values(found: Found, row: str, name: str) -> list[float]:
    return [_robust(content) for content in found.under(f"{row}/{name}").values()]


def _table(names: Sequence[str]) -> Callable[[Found], Sheet]:
    def table(found: Found) -> Sheet:
        cells = {row: [_cell(_values(found, row, name)) for name in names] for row in _rows(found)}
        count = len(_values(found, _rows(found)[0], names[0]))
        return sheet(cells, names, "%", f"standard deviation over {count} seeds")

    return table


def _cell(values: Sequence[float]) -> Any:
    if len(values) == 1:
        return values[0]
    return float(np.mean(values)), float(np.std(values, ddof=1))


def _beats(*pairs: tuple[str, str], apart: str = "none") -> Callable[[Found], Verdict]:
    """In every row but that of a data set, the first of each pair has the higher accuracy."""

    def check(found: Found) -> Verdict:
        return claims.all_of(
            [
                claims.greater(
                    _values(found, row, one),
                    _values(found, row, other),
                    f"{row}, robust accuracy (%)",
                    names=(one, other),
                )
                for row in _rows(found)
                if apart not in row
                for one, other in pairs
            ]
        )

    return check


def _alike(*pairs: tuple[str, str], by: float, only: str = "") -> Callable[[Found], Verdict]:
    """In every row, or that of one data set, each pair differs by at most ``by`` points."""

    def check(found: Found) -> Verdict:
        verdicts = [
            close(
                _values(found, row, one),
                _values(found, row, other),
                f"{row}, robust accuracy (%)",
                by,
                (one, other),
            )
            for row in _rows(found)
            if only in row
            for one, other in pairs
        ]
        if not verdicts:
            return Verdict(OPEN, f"{only} only at paper scale", samples=0)
        return claims.all_of(verdicts)

    return check


def _figure(name: str, title: str, columns: Sequence[str], *claims_: Claim, **more: Any) -> Figure:
    trades = more.pop("trades", False)
    table = _table(columns)
    return Figure(
        name,
        title,
        plan=lambda scale: _plan(scale, columns, trades=trades),
        draw=lambda found: typeset(table(found)),
        claims=claims_,
        table=table,
        **more,
    )


_ONE_DATA_SET = (
    f"{ANALOGUE} Digits in place of CIFAR-10, CIFAR-100 and SVHN; AutoAttack on 100 test samples, "
    "PGD-20 on 300."
)
TABLE1 = _figure(
    "kanai2021/table1",
    "Robust accuracies of AT and AWP with SGD and with EntropySGD",
    MAIN,
    Claim("AT with EntropySGD outperforms AT.", "§5.3, Table 1", _beats(("AT+EnSGD", "AT"))),
    Claim(
        "AWP with EntropySGD outperforms AWP, but on CIFAR-100.",
        "§5.3, Table 1",
        _beats(("AWP+EnSGD", "AWP"), apart="CIFAR100"),
    ),
    Claim(
        "There the difference is small (within 0.1 points; .05 in print).",
        "§5.3, Table 1",
        _alike(("AWP+EnSGD", "AWP"), by=0.1, only="CIFAR100"),
    ),
    Claim(
        "AT with EntropySGD is about as robust as AWP under AutoAttack (within 1 point).",
        "§5.3, Table 1",
        _alike(("AT+EnSGD", "AWP"), by=1.0, only="(AA"),
    ),
    analogue=_ONE_DATA_SET,
    needs="GPUs: 48 trainings of 200 epochs, 12 of them of WRN-34-10; AutoAttack.",
)
TABLE2 = _figure(
    "kanai2021/table2",
    "Robust accuracies of TRADES with SGD and with EntropySGD",
    list(TRADES),
    Claim("TRADES with EntropySGD outperforms TRADES.", "App. F.2", _beats(("+EnSGD", "TRADES"))),
    Claim("With AWP, EntropySGD outperforms SGD.", "App. F.2", _beats(("+AWP+EnSGD", "+AWP"))),
    Claim(
        "EntropySGD until epoch 150, then SGD (tuned), is the most robust of all.",
        "App. F.2",
        _beats(*(("+AWP+EnSGD (tuned)", name) for name in list(TRADES)[:-1])),
    ),
    trades=True,
    analogue=f"{ANALOGUE} AutoAttack on 100 test samples.",
    needs="GPUs: 15 trainings of WRN-34-10, 200 epochs each; AutoAttack.",
)
TABLE3 = _figure(
    "kanai2021/table3",
    "Robust accuracies with SGD and with EntropySGD of first and second order",
    list(AT),
    Claim(
        "EntropySGD of second order performs almost as that of first order (within 1 point).",
        "App. F.3, Table 3",
        _alike(("AT+2ndEnSGD", "AT+EnSGD"), ("AWP+2ndEnSGD", "AWP+EnSGD"), by=1.0),
    ),
    analogue=_ONE_DATA_SET,
    needs="GPUs: 72 trainings of 200 epochs, 18 of them of WRN-34-10; AutoAttack.",
)
