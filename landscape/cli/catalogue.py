"""The commands that print a table of the package."""

from __future__ import annotations

from typing import Any

import click

from landscape.cli import options


@click.command()
@options.verbosity
def models(**given: Any) -> None:
    """List the architectures that --model accepts."""
    from landscape.cli.output import Say
    from landscape.models import MODELS

    rows = [[name, entry.description, entry.paper] for name, entry in MODELS.items()]
    rows.append(["torchvision:NAME", "any classification network of torchvision", ""])
    rows.append(["package.module:factory", "your own", ""])
    Say(**given).table(
        "architectures; numbers go into the name: lenet-4, resnet18-8, wrn-34-10",
        ["name", "description", "paper"],
        rows,
    )


@click.command()
@options.verbosity
def attacks(**given: Any) -> None:
    """List the attacks that --attack accepts."""
    from landscape.attacks import ATTACKS
    from landscape.attacks.autoattack import PACKAGE, VERSIONS
    from landscape.cli.output import Say

    rows = [[name, entry.description] for name, entry in ATTACKS.items()]
    rows += [
        [name, f"AutoAttack {version}, by its authors' package {PACKAGE}: in `evaluate`"]
        for name, version in VERSIONS.items()
    ]
    Say(**given).table(
        "attacks in L∞ (--norm linf) and L2 (--norm l2); steps and restarts go into the name: "
        "pgd-50x5",
        ["name", "what it does"],
        rows,
    )


@click.command()
@click.argument("name", required=False)
@options.verbosity
def methods(name: str | None, **given: Any) -> None:
    """List the training methods, or explain one: pgd, trades+awp."""
    from landscape.cli.output import Say
    from landscape.training.methods import ADDITIONS, METHODS

    say = Say(**given)
    if name is None:
        columns = ["name", "what it does", "reference", "forward + backward passes per update"]
        for title, table in (
            ("training methods; K attack steps", METHODS),
            ("\nadditions to any of them: pgd+awp, trades+awp+swa", ADDITIONS),
        ):
            rows = [
                [key, entry.description, entry.reference, entry.cost]
                for key, entry in table.items()
            ]
            say.table(title, columns, rows)
        return
    _explain(say, name)


def _explain(say: Any, name: str) -> None:
    """The parts of one method, its options and its configuration for every data set."""
    from landscape.errors import UsageError
    from landscape.training import RECIPES, default_config
    from landscape.training.methods import ADDITIONS, METHODS, split

    base, additions = split(name)
    for part in (base, *additions):
        entry = METHODS[part] if part == base else ADDITIONS[part]
        prefix = "" if part == base else f"{part}."
        said = [
            f"{prefix}{option}" + ("" if value in (..., None) else f"={value}")
            for option, value in entry.defaults.items()
        ]
        say.table(
            f"{part}: {entry.description}",
            ["what", "value"],
            [
                ["reference", entry.reference or "–"],
                ["options (--set)", ", ".join(said) or "none"],
                ["passes per update", entry.cost],
            ],
        )
    rows = []
    for data in RECIPES:
        try:
            config = default_config(data, method_name=name)
        except UsageError as error:  # what it needs, no recipe can give
            say.remark(f"{data}: {error}")
            continue
        found = config.to_dict()
        attack = found["method"]["perturbation"] or {}
        passes = config.plan.method.passes
        rows.append(
            [
                data,
                found["model"]["name"],
                f"{attack['eps']:.4g}" if "eps" in attack else "–",
                str(attack.get("steps", "–")),
                str(found["epochs"]),
                f"{found['optimiser']['optimiser']} {found['optimiser']['lr']:g}",
                found["schedule"]["schedule"],
                f"{found['optimiser']['weight_decay']:g}",
                f"{passes.forward:g} + {passes.backward:g}",
            ]
        )
    say.table(
        "recipes",
        [
            "data",
            "model",
            "eps",
            "steps",
            "epochs",
            "optimiser",
            "schedule",
            "weight decay",
            "passes",
        ],
        rows,
    )
