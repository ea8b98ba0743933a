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
@click.argument("name", required=False)
@options.verbosity
def methods(name: str | None, **given: Any) -> None:
    """List the training methods, or explain one."""
    from landscape.cli.output import Say
    from landscape.errors import unknown
    from landscape.training import METHODS, RECIPES, default_config

    say = Say(**given)
    if name is None:
        rows = [
            [key, entry.description, entry.reference, entry.cost] for key, entry in METHODS.items()
        ]
        columns = ["name", "trains on", "reference", "forward + backward passes per update"]
        say.table("training methods; K attack steps", columns, rows)
        return
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    entry = METHODS[name]
    say.table(
        f"{name}: {entry.description}",
        ["what", "value"],
        [
            ["reference", entry.reference or "–"],
            ["options", ", ".join(entry.options) or "none"],
            ["passes per update", entry.cost],
        ],
    )
    rows = []
    for data in RECIPES:
        config = default_config(data, method_name=name).to_dict()
        found = config["method"]["perturbation"] or {}
        rows.append(
            [
                data,
                config["model"]["name"],
                f"{found['eps']:.4g}" if "eps" in found else "–",
                str(found.get("steps", "–")),
                str(config["epochs"]),
                f"{config['optimiser']['optimiser']} {config['optimiser']['lr']:g}",
                config["schedule"]["schedule"],
                f"{config['optimiser']['weight_decay']:g}",
            ]
        )
    say.table(
        "recipes",
        ["data", "model", "eps", "steps", "epochs", "optimiser", "schedule", "weight decay"],
        rows,
    )
