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
