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
@click.option("--markdown", is_flag=True, help="The list as in docs/training.md, with options.")
@options.verbosity
def methods(name: str | None, markdown: bool, **given: Any) -> None:
    """List the training methods, or explain one: pgd, trades+awp."""
    from landscape.cli.output import Say
    from landscape.training.method_table import ADDITIONS, METHODS

    if markdown:
        if name is not None:
            raise click.UsageError("--markdown lists all methods: leave the name out.")
        print(methods_as_markdown())
        return
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


def methods_as_markdown() -> str:
    """Two tables, of the methods and of the additions, with their parts and options."""
    from landscape.training.method_table import ADDITIONS, METHODS

    columns = ["what it does", "options", "reference", "passes per update"]
    found = [
        _markdown(
            ["method", *columns],
            [
                [f"`{key}`", e.description, _said(e), e.reference, e.cost]
                for key, e in METHODS.items()
            ],
        ),
        _markdown(
            ["addition", "decides", *columns],
            [
                [f"`{key}`", _FIELDS[e.field], e.description, _said(e), e.reference, e.cost]
                for key, e in ADDITIONS.items()
            ],
        ),
    ]
    return "\n\n".join(found)


# Fields of a Method, as the table of additions names them.
_FIELDS = {
    "budget": "ε over time",
    "weights": "where the gradient is taken",
    "descent": "the update",
    "averaging": "what is kept",
    "regularisers": "a term of the loss",
    "outer_loss": "the loss",
}


def _said(entry: Any) -> str:
    """The options of a row with their defaults: ``eps, steps=10``."""
    return ", ".join(
        name if value in (..., None, ()) else f"{name}={_shown(value)}"
        for name, value in entry.defaults.items()
    )


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def _markdown(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell or "–" for cell in line) + " |" for line in lines)


def _explain(say: Any, name: str) -> None:
    """The parts of one method, its options and its configuration in every recipe."""
    from landscape.errors import UsageError
    from landscape.training import RECIPES, default_config
    from landscape.training.method_table import ADDITIONS, METHODS
    from landscape.training.methods import split

    base, additions = split(name)
    for part in (base, *additions):
        entry = METHODS[part] if part == base else ADDITIONS[part]
        prefix = "" if part == base else f"{part}."
        said = [f"{prefix}{option}" for option in _said(entry).split(", ") if option]
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
    refused: dict[str, list[str]] = {}
    for recipe, row in RECIPES.items():
        try:
            config = default_config(method_name=name, recipe=recipe)
        except UsageError as error:  # what it needs, the recipe can't give
            refused.setdefault(str(error), []).append(recipe)
            continue
        own = {
            (key if part == base else f"{part}.{key}"): value
            for part in (base, *additions)
            for key, value in row.own(part, (base, *additions)).items()
        }
        found = config.to_dict()
        attack = found["method"]["perturbation"] or {}
        passes = config.plan.method.passes
        rows.append(
            [
                recipe,
                found["model"]["name"],
                f"{attack['eps']:.4g}" if "eps" in attack else "–",
                str(attack.get("steps", "–")),
                str(found["epochs"]),
                f"{found['optimiser']['optimiser']} {found['optimiser']['lr']:g}",
                found["schedule"]["schedule"],
                f"{found['optimiser']['weight_decay']:g}",
                f"{passes.forward:g} + {passes.backward:g}",
                ", ".join(f"{key}={_shown(value)}" for key, value in own.items()),
            ]
        )
    say.table(
        "recipes",
        [
            "recipe",
            "model",
            "eps",
            "steps",
            "epochs",
            "optimiser",
            "schedule",
            "weight decay",
            "passes",
            "of its own",
        ],
        rows,
    )
    for reason, recipes in refused.items():
        say.remark(f"not in {', '.join(recipes)}: {reason}")
