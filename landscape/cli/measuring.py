"""What ``report`` and ``compare`` share: from checkpoints to a measured report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from landscape.cli import options

# Under which attack, if a radius is known and no attack is named.
_ATTACK = "pgd-20"

# Of the held-out data for the accuracy that is said first.
_FIRST_LOOK = 1000


def measuring(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of both commands."""
    for decorator in reversed(
        [
            options.target(split="train", several=True),
            click.option(
                "--accuracy-split",
                default="test",
                show_default=True,
                help="Where accuracy is measured; --split is where the landscape is.",
            ),
            click.option(
                "--budget",
                type=options.SECONDS,
                default="10m",
                show_default=True,
                help="Time for all networks together: 90s, 10m, 1h30m.",
            ),
            click.option(
                "--sections",
                metavar="NAME,NAME,...",
                help="Only these sections; --dry-run lists them.",
            ),
            options.attack_options(),
            options.memory,
            options.seed,
            click.option(
                "--resume/--no-resume",
                default=True,
                show_default=True,
                help="Go on from an interrupted run of the same settings.",
            ),
            options.output,
        ]
    ):
        command = decorator(command)
    return command


@dataclass
class Gathered:
    """The arguments of ``landscape.report``."""

    networks: dict[str, Any]
    options: dict[str, Any]


def gather(say: Any, paths: Sequence[str], given: dict[str, Any]) -> Gathered:
    """Every checkpoint as an objective, its clean accuracy said first."""
    from landscape.cli import several
    from landscape.cli.output import Say
    from landscape.cli.setup import Target
    from landscape.errors import UsageError
    from landscape.reporting.subjects import Subject

    networks, held_out, attacks, about = {}, {}, {}, {}
    for label, path in several.distinct(paths).items():
        name = label.encode("utf-8", "replace").decode()  # names of files may be any bytes
        target = Target(say, path, **given)
        try:
            other = Target(
                Say(quiet=True),
                path,
                **{**given, "split": given["accuracy_split"], "subset": None},
            )
        except UsageError as error:
            raise UsageError(f"{error} (--accuracy-split {given['accuracy_split']})") from error
        other.model = target.model  # one copy in memory
        networks[name], held_out[name] = target.objective(), other.objective()
        attacks[name] = _attack(target, given)
        method = target.checkpoint.method.get("name", "unknown training")
        about[name] = f"{target.spec.name}, {method}, {target.data_name}"
        other.say = say
        first = Subject(name, networks[name], held_out[name])
        other.introduce(first.on(_FIRST_LOOK, held_out=True, seed=given["seed"]))
    if not any(attacks.values()):
        say.remark("no radius is known, so nothing is attacked: add --eps, for example 8/255.")
    sections = given["sections"]
    return Gathered(
        networks,
        {
            "budget": given["budget"],
            "attack": attacks,
            "held_out": held_out,
            "about": about,
            "memory": given["memory"],
            "seed": given["seed"],
            "sections": [s.strip() for s in sections.split(",")] if sections else None,
        },
    )


def _attack(target: Any, given: dict[str, Any]) -> Any:
    """The attack named, or PGD-20 where there is a radius to attack within."""
    if given["attack"] is None and target.ball() is None:
        return target.attack(None)  # which refuses --steps and the like without an attack
    return target.attack(given["attack"] or _ATTACK)


def dry_run(say: Any, gathered: Gathered, files: Sequence[Path]) -> int:
    """The plan with its estimated times."""
    from landscape.cli.output import gib
    from landscape.reporting.planning import duration
    from landscape.reporting.running import planned

    choices, settings, memory = planned(gathered.networks, **gathered.options)
    rows = []
    for choice in choices:
        chosen = settings.get(choice.section, {})
        said = ", ".join(
            f"{k.replace('_', ' ')} {'all' if v is None else v}" for k, v in chosen.items()
        )
        took = duration(choice.seconds) if chosen else "–"
        rows.append([choice.section, took, said or choice.reason])
    total = sum(choice.seconds for choice in choices)
    budget = gathered.options["budget"]
    say.json(
        {
            "sections": [
                {
                    "section": c.section,
                    "seconds": c.seconds,
                    "settings": settings.get(c.section),
                    "reason": c.reason,
                }
                for c in choices
            ],
            "seconds": total,
            "budget": budget,
            "memory": memory,
        }
    )
    title = f"about {duration(total)} of {duration(budget)}, about {gib(memory)} of memory"
    say.table(title, ["section", "time", "settings"], rows)
    say.remark(f"would write {', '.join(map(str, files))}")
    return 0


def measure(say: Any, gathered: Gathered, path: Path, resume: bool) -> tuple[Any, Any]:
    """The report, and the partial file to discard once it is saved."""
    from landscape.cli.resume import Partial
    from landscape.operators import memory_needed
    from landscape.reporting import Report, report
    from landscape.reporting.estimating import VECTORS

    memory = gathered.options["memory"]
    networks = gathered.networks.values()
    say.memory(max(memory_needed(o, vectors=VECTORS, memory=memory) for o in networks))
    partial = Partial(path, resume=resume, say=say, read=Report.load)
    with say.progress("section") as bar:
        found = report(
            gathered.networks,
            **gathered.options,
            resume=partial.load(),
            save=partial.keep,
            says=say.remark,
            progress=lambda done, total, _: bar(done, total),
        )
    return found, partial


def conclude(say: Any, found: Any) -> int:
    """Warnings, and the exit code: 1 if a section failed, 3 if something is not to be trusted."""
    from landscape.reporting import words

    rows = words.left_out(found)
    if rows:
        say.table("left out", ["section", "network", "", "why"], rows)
    doubts = found.doubts()
    for text in doubts:
        say.warn(f"{text}.")
    failed = found.left_out("failed")
    for network, key, why in failed:
        say.warn(f"{network}, {key} failed: {why}")
    return 1 if failed else 3 if doubts else 0
