"""Options that several commands share, and the notations they accept."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

import click

Command = Callable[..., Any]


class Number(click.ParamType):
    """A number, or a fraction such as 8/255."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        try:
            if "/" in value:
                above, below = value.split("/")
                return float(above) / float(below)
            return float(value)
        except (ValueError, ZeroDivisionError):
            self.fail(f"'{value}' is not a number or a fraction such as 8/255.", param, ctx)


class Numbers(Number):
    """Numbers or fractions, separated by commas."""

    name = "number,number"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, tuple):
            return value
        return tuple(Number.convert(self, part, param, ctx) for part in value.split(","))


class Range(click.ParamType):
    """LOW:HIGH, or R for -R:R."""

    name = "low:high"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        try:
            parts = [float(part) for part in value.split(":")]
        except ValueError:
            parts = []
        if len(parts) == 1:
            return (-parts[0], parts[0])
        if len(parts) != 2:
            self.fail(f"'{value}' is not a range: write low:high, for example -1:1.", param, ctx)
        return (parts[0], parts[1])


class Grid(click.ParamType):
    """NX for a line, NXxNY for a plane."""

    name = "nx[xny]"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"\d+(x\d+)?", value):
            self.fail(f"'{value}' is not a grid: write 41x21, or 51 for a line.", param, ctx)
        return tuple(int(n) for n in value.split("x"))


class Bytes(click.ParamType):
    """Bytes as a whole number, or with a unit: 500MiB, 4GiB, 2.5GB."""

    name = "bytes"
    units: ClassVar[dict[str, int]] = {
        **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)},
        **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", 1)},
        "B": 1,
        "": 1,
    }

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *([A-Za-z]*)", value.strip())
        units = {unit.lower(): size for unit, size in self.units.items()}
        size = found and int(float(found[1]) * units.get(found[2].lower(), 0))
        if not size:
            self.fail(f"'{value}' is not a size: write bytes, or 500MiB or 4GiB.", param, ctx)
        return size


class Seconds(click.ParamType):
    """A time with its units: 90s, 10m, 1h30m."""

    name = "time"
    units: ClassVar[dict[str, float]] = {"h": 3600.0, "m": 60.0, "s": 1.0}

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", value)
        seconds = sum(float(number) * self.units[unit] for number, unit in parts)
        if "".join(number + unit for number, unit in parts) != value or not seconds:
            self.fail(f"'{value}' is not a time: write 90s, 10m or 1h30m.", param, ctx)
        return seconds


NUMBER, NUMBERS, RANGE, GRID, BYTES = Number(), Numbers(), Range(), Grid(), Bytes()
SECONDS = Seconds()


def target(
    split: str, several: bool = False, function: bool = True
) -> Callable[[Command], Command]:
    """The checkpoint, or several to compare, and how to build model and data around it.

    ``function``: also which function of which parameters is studied, --loss and --params.
    """
    studied = (
        click.option(
            "--loss",
            "loss_function",
            default="cross-entropy",
            show_default=True,
            help="cross-entropy, mse, or package.module:function, one value per sample.",
        ),
        click.option(
            "--params",
            metavar="PATTERN,...",
            help="Only the parameters of these names: 'layer4.*'.",
        ),
    )
    argument = (
        click.argument("checkpoints", nargs=-1, required=True, type=click.Path())
        if several
        else click.argument("checkpoint", type=click.Path())
    )
    return _all(
        argument,
        click.option("--model", help="Architecture, if the file does not say: see `models`."),
        click.option("--data", help="Data set, if not the training's: see `data`."),
        *(studied if function else ()),
        click.option(
            "--data-option",
            "data_options",
            multiple=True,
            metavar="KEY=VALUE",
            help="Option of the data set, for example corruption=fog.",
        ),
        click.option("--data-dir", type=click.Path(), help="Where data sets lie."),
        click.option("--split", default=split, show_default=True, help="train, val or test."),
        click.option("--n-examples", type=int, help="Use a balanced subset of so many examples."),
        subset,
        click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True),
        click.option(
            "--normalize",
            metavar="MEAN:STD",
            help="For files of bare weights: per-channel mean and std, e.g. .49,.48,.45:.2,.2,.2.",
        ),
        click.option(
            "--key",
            help="Which weights of a file with several: state_dict_ema (`inspect` lists them).",
        ),
        click.option(
            "--trust-checkpoint",
            is_flag=True,
            help="Load files that hold Python objects, which can run code.",
        ),
        click.option(
            "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1"
        ),
        click.option(
            "--dtype",
            type=click.Choice(["float32", "float64"]),
            default="float32",
            show_default=True,
        ),
    )


def attack_options(multiple: bool = False) -> Callable[[Command], Command]:
    """The attack: name, ball and steps."""
    said = (
        "Attacks, separated by commas: fgsm, pgd-20, pgd-50x5."
        if multiple
        else "Measure the adversarial loss under this attack: fgsm, pgd-10."
    )
    return _all(
        click.option(
            "--attack", default="pgd-20" if multiple else None, help=said, show_default=multiple
        ),
        click.option("--norm", type=click.Choice(["linf", "l2"]), help="Default: the training's."),
        click.option("--eps", type=NUMBER, help="Radius in [0, 1] units. Default: the training's."),
        click.option("--alpha", type=NUMBER, help="Step size. Default: eps/4, fgsm eps."),
        click.option("--steps", type=click.IntRange(0), help="Number of steps."),
        click.option("--restarts", type=click.IntRange(1), help="Random restarts, the worst kept."),
    )


def seed(command: Command) -> Command:
    return click.option("--seed", type=int, default=0, show_default=True)(command)


def subset(command: Command) -> Command:
    """The easiest, hardest or random samples of every class."""
    return click.option(
        "--subset",
        metavar="KIND:N[@RUN]",
        help="easiest:N@RUN or hardest:N@RUN by the sample losses of RUN; random:N[@SEED].",
    )(command)


def memory(command: Command) -> Command:
    """Bytes that the graphs kept for products may take."""
    return click.option(
        "--memory",
        type=BYTES,
        default="4GiB",  # operators.MEMORY, which would take torch to import
        show_default=True,
        help="What may be kept between products: 500MiB, 4GiB. Less is slower.",
    )(command)


def output(command: Command) -> Command:
    """Where results go and how much is said."""
    return _all(
        click.option("--out", type=click.Path(), help="HDF5 file; pictures lie beside it."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
        click.option("--overwrite", is_flag=True, help="Replace existing files."),
        click.option("--dry-run", is_flag=True, help="Check all, time one step, write nothing."),
        verbosity,
    )(command)


def verbosity(command: Command) -> Command:
    return _all(
        click.option("--quiet", "-q", is_flag=True, help="No progress, no remarks."),
        click.option("-v", "verbose", count=True, help="-vv shows tracebacks."),
    )(command)


def _all(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def apply(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply
