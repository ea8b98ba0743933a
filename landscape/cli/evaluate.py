from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from landscape.cli import options

# What the checks for masking examine: a converged attack that is cheap, whatever was asked for.
_EXAMINED = "pgd-20"


@click.command()
@options.target(split="test", several=True)
@click.option(
    "--compare",
    multiple=True,
    type=click.Path(),
    help="Another checkpoint, as if it were named with the first.",
)
@options.attack_options(multiple=True)
@click.option(
    "--masking/--no-masking",
    default=True,
    show_default=True,
    help="Check whether gradients are masked, so that attacks fail for that reason.",
)
@click.option(
    "--masking-examples",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Samples for those checks: the first of the data, classes in turn.",
)
@options.seed
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Go on from an interrupted run of the same settings.",
)
@options.output
def evaluate(checkpoints: tuple[str, ...], compare: tuple[str, ...], **given: Any) -> int:
    """Accuracy and loss, clean and under attack, with 95 % intervals.

    Besides the attacks of `landscape attacks` there are autoattack and autoattack-plus, by their
    authors' own code. Several checkpoints go side by side, with paired differences from the first.
    Finished attacks are saved as they come. Exit code 3 if gradients look masked: then robust
    accuracy is not to be trusted.
    """
    from landscape.cli import evaluation_tables as tables
    from landscape.cli import several
    from landscape.cli.output import Say
    from landscape.cli.setup import Target
    from landscape.diagnostics import differences
    from landscape.diagnostics.evaluation import passes
    from landscape.errors import UsageError

    say = Say(**given)
    paths = (*checkpoints, *compare)
    files = several.outputs(paths, "evaluation", given)
    targets = {name: Target(say, path, **given) for name, path in several.distinct(paths).items()}
    names = [name.strip() for name in given["attack"].split(",") if name.strip()]
    if not names:
        raise UsageError("--attack names no attack: write --attack clean for none.")
    attacks = {
        of: {name: _attack(target, name, given) for name in names if name != "clean"}
        for of, target in targets.items()
    }
    objectives = {name: target.objective() for name, target in targets.items()}
    _check_comparable(objectives, attacks)
    ball = next(iter(targets.values())).ball()
    examine = bool(given["masking"] and any(attacks.values()) and ball and ball.radius)
    if given["dry_run"]:
        first, objective = next(iter(objectives.items()))
        count = 1 + sum(passes(a, objective) for a in attacks[first].values())
        if examine:
            say.remark(f"besides, checks for masking on {given['masking_examples']} examples")
        return say.estimate(objective.value, len(targets) * count, "passes over the data", files)
    found, masks, seconds, partials = {}, {}, {}, []
    with _said(say):
        for name, objective in objectives.items():
            partial = several.partial(files, name, len(targets), given["resume"], say)
            partials.append(partial)
            found[name], seconds[name] = _measure(say, objective, attacks[name], partial)
            if examine:
                masks[name] = _examine(say, objective, ball, found[name], given["masking_examples"])
    diffs = differences(found) if len(found) > 1 else None
    written = _save(say, files, found, masks, diffs)
    for partial in partials:
        partial.discard()
    target = next(iter(targets.values()))
    title = f"{' and '.join(target.path.name for target in targets.values())} on "
    title += f"{target.data_name}/{target.split}, {objective.batches.samples} examples"
    tables.accuracies(say, title, attacks[name], found, seconds)
    if diffs is not None:
        tables.differences(say, diffs)
    if masks:
        tables.checks(say, masks, _EXAMINED)
    for name, result in found.items():
        if result.near_chance:
            say.warn(
                f"{name}: clean accuracy is near chance: weights, normalisation or data wrong?"
            )
    for name, mask in masks.items():
        for text in mask.warnings():
            say.warn(f"{name}, {text}.")
    say.files(written)
    if any(mask.suspicious for mask in masks.values()):
        say.warn("gradients look masked: don't trust the accuracy under gradient attacks.")
        return 3
    return 0


def _attack(target: Any, name: str, given: dict[str, Any]) -> Any:
    """An attack, or AutoAttack, which is no row of the table of attacks."""
    from landscape.attacks import ATTACKS
    from landscape.attacks.autoattack import VERSIONS, AutoAttack
    from landscape.errors import UsageError, unknown

    if name not in VERSIONS:
        if name.startswith("auto"):
            raise unknown("attack", name, [*ATTACKS, *VERSIONS])
        return target.attack(name)
    ball = target.ball()
    if ball is None:
        raise UsageError(
            f"--attack {name} needs a radius, and this checkpoint was not trained with one: "
            "add --eps, for example --eps 8/255."
        )
    # The package's own batches, unless the user has no memory for them.
    return AutoAttack(ball, VERSIONS[name], min(AutoAttack.batch_size, given["batch_size"]))


def _check_comparable(objectives: dict[str, Any], attacks: dict[str, dict[str, Any]]) -> None:
    """Before any work: the same samples, attacked in the same way."""
    from landscape.cli import evaluation_tables as tables
    from landscape.errors import UsageError

    first = next(iter(objectives))
    for name, objective in objectives.items():
        if objective.batches.digest != objectives[first].batches.digest:
            raise UsageError(
                f"{name} and {first} have different data: evaluate them one by one, or add --data."
            )
        for attack, made in attacks[name].items():
            other = attacks[first][attack]
            if made != other:
                raise UsageError(
                    f"{name} was trained for {tables.ball(made)}, {first} for "
                    f"{tables.ball(other)}: add --eps and --norm to attack them in one ball."
                )


@contextmanager
def _said(say: Any) -> Iterator[None]:
    """Python's warnings in this command's own words, each once."""
    import warnings

    seen: set[str] = set()

    def show(message: Any, *_: Any, **__: Any) -> None:
        if str(message) not in seen:
            seen.add(str(message))
            say.warn(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _measure(
    say: Any, objective: Any, attacks: dict[str, Any], partial: Any
) -> tuple[Any, dict[str, float]]:
    """The evaluation, and the seconds that every attack and member of AutoAttack took."""
    from landscape.diagnostics import evaluate as measure

    seconds: dict[str, float] = {}
    earlier = partial.load()
    known = {*earlier.attack, *earlier.stages()} if earlier else set()
    last = time.perf_counter()

    def save(result: Any) -> None:
        nonlocal last
        now = time.perf_counter()
        for name in {*map(str, result.attack), *result.stages()} - known:
            members = [key for key in result.stages() if key.startswith(f"{name}/")]
            if all(key in seconds for key in members):
                seconds[name] = now - last + sum(seconds[key] for key in members)
            known.add(name)
        last = now
        partial.save(result)

    with partial, say.progress("passes over the data") as progress:
        result = measure(objective, attacks, resume=earlier, save=save, progress=progress)
    partial.finished(result)
    return result, seconds


def _examine(say: Any, objective: Any, ball: Any, table: Any, examples: int) -> Any:
    from landscape.attacks import attack
    from landscape.diagnostics import masking

    gradient = attack(_EXAMINED, eps=ball.radius, norm=ball.norm)
    with say.progress("checks for masking") as progress:
        return masking(objective, gradient, table=table, examples=examples, progress=progress)


def _save(
    say: Any, files: Any, found: dict[str, Any], masks: dict[str, Any], diffs: Any
) -> list[Path]:
    """File, picture and JSON; before anything is printed, which a reader that has gone may end."""
    from landscape.plotting import picture

    if len(found) == 1:
        ((name, result),) = found.items()
        groups = {"/": result, **({"masking": masks[name]} if masks else {})}
        figure = picture([result])
        content = result.to_dict()
        if masks:
            content["masking"] = masks[name].to_dict()
    else:
        groups = {**found, **{f"{name}/masking": mask for name, mask in masks.items()}}
        groups["differences"] = diffs
        figure = picture(list(found.values()), list(found))
        content = {name: result.to_dict() for name, result in found.items()}
        for name, mask in masks.items():
            content[name]["masking"] = mask.to_dict()
        content["differences"] = diffs.to_dict()
    written: list[Path] = files.save(groups, figure)
    say.json(content)
    return written
