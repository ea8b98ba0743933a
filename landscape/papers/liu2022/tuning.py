"""liu2022 Tables 2 and 7: adversarial fine-tuning with additional data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from landscape.papers import claims
from landscape.papers.claims import Claim, Verdict
from landscape.papers.drawing import typeset
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Sheet, sheet
from landscape.papers.liu2022.additional import FILE, FIRST
from landscape.papers.liu2022.fast import robust, strongest
from landscape.papers.liu2022.setting import RN18, SVHN, WRN34, common, full
from landscape.papers.measures import accuracy
from landscape.papers.scale import Scale
from landscape.running.work import From, Run, Work, measure
from landscape.training.mixing import Extra

# Reweighting and λ of the KL term.
METHODS: dict[str, tuple[bool, float]] = {
    "vanilla AT": (False, 0.0),
    "RW": (True, 0.0),
    "KL": (False, 6.0),
    "RW + KL": (True, 6.0),
}
OURS = "RW + KL"
_HERE = "landscape.papers.liu2022.additional"


def _sets(scale: Scale) -> dict[str, tuple[Mapping[str, str], Extra]]:
    """Recipe and additional data, by the data set's name."""
    if scale.name == "paper":
        return {
            "CIFAR-10": (WRN34, Extra(f"{_HERE}:tiny_images")),
            "SVHN": (SVHN, Extra("svhn", "extra")),
        }
    # MNIST has no additional data either: half of it is held back, as the digits' rest.
    name = "mnist" if scale.name == "mnist" else "digits"
    extra = Extra("mnist", "train") if name == "mnist" else Extra(f"{_HERE}:held_back")
    return {name: (RN18, extra)}


def durations(scale: Scale) -> tuple[int, int]:
    """Passes over the additional data: 1 and 5 in the paper."""
    return scale.pick(digits=(2, 10), mnist=(1, 5), paper=(1, 5))


def _part(scale: Scale) -> int | None:
    return scale.pick(digits=FIRST, mnist=FIRST, paper=None)


def pretrained(scale: Scale, recipe: Mapping[str, str], seed: int) -> Run:
    """What is fine-tuned."""
    keep = 5 if scale.name == "paper" else None  # there the run of Table 4
    return full(scale, "pgd", seed, recipe=recipe, keep=keep, n_examples=_part(scale))


def tuned(
    scale: Scale, recipe: Mapping[str, str], extra: Extra, seed: int, epochs: int, method: str
) -> Run:
    """Fine-tuning at one low learning rate, half of each batch from the additional data."""
    reweight, weight = METHODS[method]
    options = {
        "schedule": "constant",
        "lr": scale.pick(digits=0.005, mnist=1e-3, paper=1e-3),
        "reweight": reweight,
        "beta": weight,
        "initial": From(pretrained(scale, recipe, seed), "{folder}/best.pt"),
        "extra": extra,
        "n_examples": _part(scale),
    }
    chosen = common(scale, "fine-tune", epochs, recipe, options)
    return scale.run("fine-tune", recipe=recipe, seed=seed, **chosen)


def _plan(scale: Scale, methods: tuple[str, ...]) -> Mapping[str, Work]:
    plan: dict[str, Work] = {}
    for data, (recipe, extra) in _sets(scale).items():
        for seed in scale.seeds(3):
            before = pretrained(scale, recipe, seed)
            settings = robust(scale)
            plan[f"{data}/none/seed{seed}"] = measure(
                accuracy, before, **{**settings, "which": "best"}
            )
            for epochs in durations(scale):
                for method in methods:
                    run = tuned(scale, recipe, extra, seed, epochs, method)
                    name = f"{data}/{epochs} {method}/seed{seed}"
                    plan[name] = measure(accuracy, run, **settings)
    return plan


def _values(found: Found, data: str, row: str) -> list[float]:
    return [strongest(e) for e in found.under(f"{data}/{row}").values()]


def _data(found: Found) -> list[str]:
    return list(dict.fromkeys(name.partition("/")[0] for name in found))


def _sheet(found: Found) -> Sheet:
    names = list(dict.fromkeys(name.split("/")[1] for name in found))
    rows: dict[str, list[Any]] = {}
    for name in names:
        epochs, _, method = name.partition(" ")
        words = f"{epochs} epochs, {method}" if method else "no fine-tuning"
        cells: list[Any] = []
        for data in _data(found):
            v = _values(found, data, name)
            cells.append((float(np.mean(v)), float(np.std(v, ddof=1))) if len(v) > 1 else v[0])
        rows[words] = cells
    return sheet(rows, _data(found), "%", what="standard deviation over seeds")


def _over(found: Found, better: str, worse: str) -> Verdict:
    """For every data set and duration; ``worse`` may be ``none``, before fine-tuning."""
    verdicts = []
    for data in _data(found):
        for epochs in durations(found.scale):
            other = worse if worse == "none" else f"{epochs} {worse}"
            verdicts.append(
                claims.greater(
                    _values(found, data, f"{epochs} {better}"),
                    _values(found, data, other),
                    f"robust accuracy (%), {epochs} epochs, {data}",
                    names=(better, worse),
                )
            )
    return claims.all_of(verdicts)


def _claim(text: str, where: str, better: str, worse: str) -> Claim:
    return Claim(text, where, lambda found: _over(found, better, worse))


_ANALOGUE = (
    "LeNet on 800 of the training digits; the other 397 are the additional data, gone through 2 "
    "and 10 times at a learning rate of .005, in place of 500,000 tiny images (1 and 5 times, "
    ".001). Targeted APGD of ten steps in place of AutoAttack."
)
_NEEDS = (
    f"CIFAR-10 and {FILE} (arrays data and extrapolated_targets of the pickle of Carmon et al. "
    "2019) beside it; SVHN with its extra split."
)
TABLE2 = Figure(
    "liu2022/table2",
    "Robust accuracy of networks fine-tuned with additional data",
    plan=lambda scale: _plan(scale, ("vanilla AT", OURS)),
    draw=lambda found: typeset(_sheet(found)),
    table=_sheet,
    claims=(
        _claim(
            "Weights and the KL term fine-tune better than vanilla training, in all settings.",
            "§6.2, Table 2",
            OURS,
            "vanilla AT",
        ),
        _claim("Fine-tuning with additional data helps.", "§6.2, Table 2", "vanilla AT", "none"),
    ),
    analogue=_ANALOGUE,
    needs=_NEEDS,
)
TABLE7 = Figure(
    "liu2022/table7",
    "Robust accuracy of fine-tuning with and without weights and KL term",
    plan=lambda scale: _plan(scale, tuple(METHODS)),
    draw=lambda found: typeset(_sheet(found)),
    table=_sheet,
    claims=(
        _claim("Weights alone help.", "App. D.7, Table 7", "RW", "vanilla AT"),
        _claim("The KL term alone helps.", "App. D.7, Table 7", "KL", "vanilla AT"),
        _claim("Both together are better than the KL term alone.", "Table 7", OURS, "KL"),
    ),
    analogue=_ANALOGUE,
    needs=_NEEDS,
)
