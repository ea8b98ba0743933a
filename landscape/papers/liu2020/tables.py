"""liu2020 Table 1 (schedulers of the budget) and Table 2 (architectures)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from landscape.models import ModelSpec
from landscape.papers import claims
from landscape.papers.claims import OPEN, Claim, Verdict
from landscape.papers.drawing import typeset
from landscape.papers.figures import Figure, Found
from landscape.papers.kinds import Sheet, sheet
from landscape.papers.liu2020.schedulers import BUDGETS, errors, seeds
from landscape.papers.liu2020.setting import (
    DIGITS,
    LENET,
    RESNET,
    SEEDS,
    VGG,
    Family,
    like,
    target,
)
from landscape.papers.scale import Scale
from landscape.running.work import Work, measure

# -- Table 1 --------------------------------------------------------------------------------------

COLUMNS = ("clean error", "robust error", "clean error, periods", "robust error, periods")


def _families(scale: Scale) -> dict[Family, tuple[bool, ...]]:
    """Those of the table, and whether with periods; VGG needs 32×32 pixels."""
    if scale.name == "mnist":
        return {LENET: (False,)}
    if scale.name == "paper":
        return {LENET: (False,), VGG: (False, True), RESNET: (False, True)}
    return {LENET: (False,), RESNET: (False, True)}


def _plan1(scale: Scale) -> Mapping[str, Work]:
    return {
        f"{family.key}/{budget}/{'periods' if resets else 'whole'}/seed{seed}": errors(
            scale, family, target(scale, family), seed, budget=budget, resets=resets
        )
        for family, kinds in _families(scale).items()
        for resets in kinds
        for budget in (("constant", "cosine") if scale.smoke else BUDGETS)
        for seed in (seeds(scale) if family is LENET else scale.seeds(SEEDS))
    }


def _of(found: Found, group: str, row: str) -> np.ndarray:
    """``clean`` or ``robust`` error in %, one per seed."""
    return np.array([s.at(row, "error") for s in found.under(group).values()])


def _groups(found: Found) -> list[tuple[str, str, str]]:
    """Family, scheduler and kind, in the plan's order."""
    names = dict.fromkeys(name.rpartition("/")[0] for name in found)
    return [(a, b, c) for a, b, c in (name.split("/") for name in names)]


def _table1(found: Found) -> Sheet:
    families = {family.key: family for family in _families(found.scale)}
    rows: dict[str, list[Any]] = {}
    for key, budget, kind in _groups(found):
        name = f"{like(found.scale, families[key])}, {budget}"
        row = rows.setdefault(name, [None] * 4)
        for i, what in enumerate(("clean", "robust")):
            values = _of(found, f"{key}/{budget}/{kind}", what)
            spread = values.std(ddof=1) if len(values) > 1 else np.nan
            row[i + (2 if kind == "periods" else 0)] = (values.mean(), spread)
    count = len(found.under("/".join(_groups(found)[0])))
    return sheet(rows, COLUMNS, "%", f"standard deviation over {count} seeds or more")


def _better(found: Found, row: str) -> Verdict:
    """Both schedulers below the constant budget, in every group."""
    verdicts = []
    for key, budget, kind in _groups(found):
        if budget != "constant":
            verdicts.append(
                claims.greater(
                    _of(found, f"{key}/constant/{kind}", row),
                    _of(found, f"{key}/{budget}/{kind}", row),
                    f"{row} error (%), {key}, {kind}",
                    names=("constant", budget),
                )
            )
    return claims.all_of(verdicts)


def better_clean(found: Found) -> Verdict:
    return _better(found, "clean")


def better_robust(found: Found) -> Verdict:
    return _better(found, "robust")


def better_lenet(found: Found) -> Verdict:
    part = {name: v for name, v in found.items() if name.startswith("lenet/")}
    return _better(Found(found.scale, part), "robust")


def ensembles_help(found: Found) -> Verdict:
    """Every scheduler, the constant one included: Table 1 shows it for all."""
    verdicts = [
        claims.greater(
            _of(found, f"{key}/{budget}/whole", "robust"),
            _of(found, f"{key}/{budget}/periods", "robust"),
            f"robust error (%), {key}, {budget}",
            names=("one network", "ensemble of periods"),
        )
        for key, budget, kind in _groups(found)
        if kind == "periods"
    ]
    return claims.all_of(verdicts) if verdicts else Verdict(OPEN, "no periods at this scale")


def resnet_better(found: Found) -> Verdict:
    keys = {key for key, *_ in _groups(found)}
    if not {"vgg", "resnet"} <= keys:
        return Verdict(OPEN, "VGG needs images of 32×32 pixels: measured at paper scale only")
    return claims.all_of(
        [
            claims.greater(
                _of(found, f"vgg/{budget}/{kind}", "robust"),
                _of(found, f"resnet/{budget}/{kind}", "robust"),
                f"robust error (%), {budget}, {kind}",
                names=("VGG", "ResNet-18"),
            )
            for key, budget, kind in _groups(found)
            if key == "vgg"
        ]
    )


TABLE1 = Figure(
    "liu2020/table1",
    "Test errors for several schedulers of the budget, with and without periods",
    plan=_plan1,
    table=_table1,
    draw=lambda found: typeset(_table1(found), digits=4),
    claims=(
        Claim(
            "The cosine and the linear scheduler have a lower clean error than a constant budget "
            "in all cases.",
            "§5, Table 1",
            better_clean,
        ),
        Claim("They have a lower robust error in all cases.", "§5, Table 1", better_robust),
        Claim(
            "On MNIST the warm-up of the budget lowers the robust error.",
            "§5, Table 1",
            better_lenet,
        ),
        Claim(
            "On CIFAR-10 the ensemble of a periodic training has a lower robust error than the "
            "network of one without periods.",
            "§5, Table 1",
            ensembles_help,
        ),
        Claim(
            "ResNet-18 has a lower robust error than VGG on CIFAR-10.",
            "§6, Table 1",
            resnet_better,
        ),
    ),
    analogue=f"{DIGITS}: the rows of MNIST with Adam, those of CIFAR-10 with SGD, target 0.2 for "
    "both; no VGG. Robust errors are under PGD-20; at paper scale under PGD-100, APGD and Square "
    "together.",
)

# -- Table 2 --------------------------------------------------------------------------------------

# Architecture, image and width factor; the last is what stands for all of them on digits.
NETWORKS: dict[str, tuple[str, tuple[int, int, int]]] = {
    "MNIST, LeNet-16": ("lenet-16", (1, 28, 28)),
    "CIFAR-10, VGG-8": ("vgg-8", (3, 32, 32)),
    "CIFAR-10, ResNet18-8": ("resnet18-8", (3, 32, 32)),
    "CIFAR-10, ResNet18-16": ("resnet18-16", (3, 32, 32)),
    "digits, LeNet-4": ("lenet-4", (1, 8, 8)),
}


def architectures() -> Sheet:
    """Layers and sizes of the networks, counted in the networks themselves."""
    rows = {name: _counts(*network) for name, network in NETWORKS.items()}
    columns = (
        "parameters",
        "convolutions",
        "linear layers",
        "max-poolings",
        "first channels",
        "last channels",
        "inputs of the first linear",
        "inputs of the last linear",
    )
    return sheet(rows, columns)


def _counts(name: str, shape: tuple[int, int, int]) -> list[float]:
    model = ModelSpec(name, shape, 10).build(seed=0)
    # Convolutions of shortcuts are 1×1; He et al. don't count them either.
    convolutions = [
        m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)
    ]
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    # LeNet pools in its forward pass: its two halve the sides, as do those of VGG.
    poolings = sum(isinstance(m, nn.MaxPool2d) for m in model.modules())
    if name.startswith("lenet"):
        last = convolutions[-1].out_channels
        poolings = round(np.log2(shape[1] / np.sqrt(linear[0].in_features / last)))
    return [
        sum(p.numel() for p in model.parameters()),
        len(convolutions),
        len(linear),
        poolings,
        convolutions[0].out_channels,
        convolutions[-1].out_channels,
        linear[0].in_features,
        linear[-1].in_features,
    ]


def _row(found: Found, name: str) -> dict[str, float]:
    content = found["networks"]
    return {str(column): content.at(name, str(column)) for column in content.column}


def _matches(found: Found, name: str, stated: Mapping[str, float]) -> Verdict:
    row = _row(found, name)
    numbers = ", ".join(f"{row[column]:g} {column}" for column in stated)
    return claims.exactly(all(row[c] == v for c, v in stated.items()), f"{name}: {numbers}")


def lenet(found: Found) -> Verdict:
    w = 16
    return _matches(
        found,
        "MNIST, LeNet-16",
        {
            "convolutions": 2,
            "first channels": 2 * w,
            "last channels": 4 * w,
            "max-poolings": 2,
            "linear layers": 2,
            "inputs of the first linear": 196 * w,
            "inputs of the last linear": 64 * w,
        },
    )


def vgg(found: Found) -> Verdict:
    w = 8
    return _matches(
        found,
        "CIFAR-10, VGG-8",
        {
            "convolutions": 2 + 2 + 3 + 3 + 3,
            "first channels": 4 * w,
            "last channels": 32 * w,
            "max-poolings": 5,
            "linear layers": 1,
            "inputs of the last linear": 32 * w,
        },
    )


def resnet(found: Found) -> Verdict:
    """He et al.: 17 convolutions and a linear layer, 64 to 512 channels at w = 16."""
    stated = {"convolutions": 17, "first channels": 64, "last channels": 512, "linear layers": 1}
    return _matches(found, "CIFAR-10, ResNet18-16", stated)


def resnet_smaller(found: Found) -> Verdict:
    a, b = (_row(found, f"CIFAR-10, {name}")["parameters"] for name in ("VGG-8", "ResNet18-8"))
    return claims.exactly(b < a, f"VGG-8 {a:.0f}, ResNet18-8 {b:.0f} parameters", a - b)


TABLE2 = Figure(
    "liu2020/table2",
    "The network architectures and their sizes",
    plan=lambda scale: {"networks": measure(architectures)},
    table=lambda found: found["networks"],
    draw=lambda found: typeset(_wrapped(found["networks"]), digits=9),
    claims=(
        Claim(
            "LeNet: convolutions of 2w and 4w channels, linear layers of 196w and 64w inputs.",
            "App. C.1, Table 2",
            lenet,
        ),
        Claim(
            "VGG: 13 convolutions of 4w to 32w channels in five groups with max-pooling, one "
            "linear layer of 32w inputs.",
            "App. C.1, Table 2",
            vgg,
        ),
        Claim("ResNet-18 of He et al. is that of width 16.", "App. C.1, Table 2", resnet),
        Claim("ResNet-18 has fewer parameters than VGG.", "§6", resnet_smaller),
    ),
)


def _wrapped(content: Sheet) -> Sheet:
    """The same with short heads, for print."""
    heads = [
        "parameters",
        "conv.",
        "linear",
        "pools",
        "first\nchannels",
        "last\nchannels",
        "inputs,\nfirst FC",
        "inputs,\nlast FC",
    ]
    return sheet({str(n): list(v) for n, v in zip(content.row, content.value, strict=True)}, heads)
