"""The tables of `landscape evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from landscape.cli.output import Say, percent
from landscape.diagnostics import Differences, Evaluation, Masking
from landscape.diagnostics.evaluation import wilson


def accuracies(
    say: Say,
    title: str,
    attacks: Mapping[str, Any],
    found: Mapping[str, Evaluation],
    seconds: Mapping[str, Mapping[str, float]],
) -> None:
    """One network: accuracy, loss and time per attack. Several: accuracies, then the others."""
    columns = {name: _columns(result, seconds[name]) for name, result in found.items()}
    first = next(iter(found.values()))
    labels = {
        key: f"  after {key.partition('/')[2]}" if "/" in key else key for key in _keys(first)
    }
    balls = [ball(attacks[key]) if attacks.get(key) else "" for key in labels]
    said = ["accuracy % [95 % interval]", "loss ± s.e.", "seconds"]
    if len(found) == 1:
        parts = next(iter(columns.values()))
        rows = zip(labels.values(), balls, *parts, strict=True)
        say.table(title, ["attack", "ball", *said], list(map(list, rows)))
        return
    rows = zip(labels.values(), balls, *(parts[0] for parts in columns.values()), strict=True)
    headers = [f"{name} {said[0]}" for name in found]
    say.table(title, ["attack", "ball", *headers], list(map(list, rows)))
    others = [part for parts in columns.values() for part in parts[1:]]
    headers = [f"{name} {what}" for name in found for what in said[1:]]
    rows = zip(labels.values(), *others, strict=True)
    say.table("", ["attack", *headers], [list(row) for row in rows if any(row[1:])])


def ball(attack: Any) -> str:
    """Norm and the radius that the attack reaches."""
    return f"{attack.ball.norm} {getattr(attack, 'reach', attack.ball.radius):.4g}"


def _keys(result: Evaluation) -> list[str]:
    """The rows: attacks, each with the members of AutoAttack below it, and all together."""
    keys = []
    for attack in map(str, result.attack):
        keys += [attack, *(key for key in result.stages() if key.startswith(f"{attack}/"))]
    return [*keys, "worst of all"] if len(result.attack) > 2 else keys


def _columns(result: Evaluation, seconds: Mapping[str, float]) -> list[list[str]]:
    attacks, stages = list(map(str, result.attack)), result.stages()
    accuracy, loss, time = [], [], []
    for key in _keys(result):
        taken = seconds.get(key)
        time.append("" if taken is None else f"{taken:.2g}" if taken < 10 else f"{taken:.0f}")
        if key not in attacks:
            loss.append("")
            if key in stages:
                right = stages[key]
                accuracy.append(percent(right.mean(), *wilson(int(right.sum()), len(right))))
            else:
                accuracy.append(percent(result.worst, result.worst_low, result.worst_high))
            continue
        i = attacks.index(key)
        accuracy.append(
            percent(result.accuracy[i], result.accuracy_low[i], result.accuracy_high[i])
        )
        none = key + "/" in "".join(stages)  # AutoAttack's points maximise no loss
        mean, error = result.loss[i], result.loss_standard_error[i]
        loss.append("" if none else f"{mean:.4g} ± {error:.2g}")
    return [accuracy, loss, time]


def differences(say: Say, diffs: Differences) -> None:
    """Accuracy minus that of the first network, with intervals and counts."""
    rows = [
        [
            str(network),
            str(attack),
            percent(diffs.difference[i, j], diffs.low[i, j], diffs.high[i, j]),
            f"{diffs.gained[i, j]} / {diffs.lost[i, j]}",
            f"{diffs.p_value[i, j]:.2g}",
        ]
        for i, network in enumerate(diffs.network)
        for j, attack in enumerate(diffs.attack)
    ]
    say.table(
        f"\naccuracy minus that of {diffs.first}, paired on the same {diffs.samples} samples",
        ["network", "attack", "difference % [95 % interval]", "gained / lost", "McNemar p"],
        rows,
    )


def checks(say: Say, masks: Mapping[str, Masking], examined: str) -> None:
    """The checks for masking, network by network."""
    for name, mask in masks.items():
        rows = [
            [
                str(check),
                f"{mask.found[i]} of {mask.among[i]}",
                f"{100 * mask.bound[i]:.1f}" if mask.among[i] else "–",
                f"{100 * mask.tolerance[i]:.0f}",
                str(mask.verdict[i]),
            ]
            for i, check in enumerate(mask.check)
        ]
        of = f"{name}, " if len(masks) > 1 else ""
        say.table(
            f"\nchecks for gradient masking, {of}{mask.samples} examples; {mask.right} are right "
            f"and {mask.withstood} withstand {examined}",
            ["check", "samples", "at least % (99 % confidence)", "tolerated %", "verdict"],
            rows,
        )
