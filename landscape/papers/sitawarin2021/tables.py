"""sitawarin2021 Tables 1 to 3: clean accuracy, AutoAttack accuracy and their sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from landscape.papers.drawing import over_seeds
from landscape.papers.figures import Found
from landscape.papers.kinds import Sheet, sheet
from landscape.papers.measures import accuracy
from landscape.papers.scale import Scale
from landscape.papers.sitawarin2021.setting import Setting, seeds
from landscape.running.work import Work, measure

Settings = Callable[[Scale], Sequence[Setting]]


def plan(settings: Settings, defences: Sequence[str]) -> Callable[[Scale], Mapping[str, Work]]:
    """Accuracies of every defence in every setting, ``SETTING/DEFENCE/seedK``."""

    def made(scale: Scale) -> Mapping[str, Work]:
        return {
            f"{setting.key}/{defence}/seed{seed}": measure(
                accuracy,
                setting.run(scale, defence, seed),
                attacks=("pgd-20",),
                # AutoAttack takes seconds however few the images are.
                autoattack=not scale.smoke,
                n=scale.pick(digits=150, mnist=1000, paper=None, smoke=10),
            )
            for setting in settings(scale)
            for defence in defences
            for seed in setting.seeds(scale, defence)
        }

    return made


def by_seed(found: Found, setting: str, defence: str, what: str) -> dict[str, float]:
    """One number per seed: ``clean``, ``adv`` (AutoAttack), ``sum`` or ``pgd-20``, in percent."""
    several = {}
    for seed, result in found.under(f"{setting}/{defence}").items():
        by = dict(zip(map(str, result.attack), 100 * np.asarray(result.accuracy), strict=True))
        clean, adv = float(by["clean"]), float(by.get("autoattack", by["pgd-20"]))
        numbers = {"clean": clean, "adv": adv, "sum": clean + adv, "pgd-20": float(by["pgd-20"])}
        several[seed] = numbers[what]
    return several


def table_of(settings: Settings, defences: Sequence[str]) -> Callable[[Found], Sheet]:
    """Mean over seeds ± standard deviation."""

    def made(found: Found) -> Sheet:
        chosen = settings(found.scale)
        rows = {}
        for defence in defences:
            cells: list[Any] = []
            for setting in chosen:
                for what in ("clean", "adv", "sum"):
                    mean, spread = over_seeds(
                        list(by_seed(found, setting.key, defence, what).values())
                    )
                    cells.append((float(mean), float(spread)))
            rows[defence] = cells
        columns = [f"{s.label}: {what}" for s in chosen for what in ("clean", "adv", "sum")]
        count = len(seeds(found.scale))
        what = f"standard deviation over {count} seeds" if count > 1 else ""
        if what and any(setting.once for setting in chosen):
            what += "; without: one training"
        return sheet(rows, columns, "%", what)

    return made
