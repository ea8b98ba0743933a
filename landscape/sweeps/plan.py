"""From a specification to the work that it comes to, cell by cell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landscape import checkpoints
from landscape.attacks import Ball
from landscape.checkpoints import Checkpoint
from landscape.data import entry_of
from landscape.errors import UsageError, unknown
from landscape.running.work import Given, Measure, Run, Work
from landscape.sweeps import measuring
from landscape.sweeps.measurement import Measurement
from landscape.sweeps.specification import Specification, Value
from landscape.sweeps.values import flat, nested, written
from landscape.training import TrainConfig, default_config
from landscape.training.config import identity
from landscape.training.recipes import options_of

# Of a training, beside the options of ``default_config``.
_NAMED = ("method", "data", "model", "recipe")

# Axes of a grid over checkpoints: what a measurement may have instead of its own.
_OF_MEASUREMENTS = ("eps", "norm", "seed", "split", "n_examples", "attack")


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    Attributes:
        name: of its folder. values: by axis. run: its training, None for a checkpoint.
        works: its measurements by name.
    """

    name: str
    values: Mapping[str, Value]
    run: Run | None
    works: Mapping[str, Work]


@dataclass(frozen=True)
class Plan:
    """All cells, the measurements that each has, and remarks on what was asked for."""

    axes: Sequence[str]
    cells: Sequence[Cell]
    measurements: Sequence[Measurement]
    remarks: Sequence[str]
    specification: Specification

    @property
    def works(self) -> dict[str, Work]:
        """All that is asked for, by cell and measurement."""
        found: dict[str, Work] = {}
        for cell in self.cells:
            if cell.run is not None:
                found[f"{cell.name}/training"] = cell.run
            found |= {f"{cell.name}/{name}": work for name, work in cell.works.items()}
        return found


def planned(specification: Specification, *, data_dir: str | None = None) -> Plan:
    """Resolve every cell; raises ``UsageError`` for the first option that can't be."""
    where = specification.source
    measurements = _measurements(specification)
    if specification.checkpoints:
        axes, cells = _of_checkpoints(specification, measurements, data_dir)
        return Plan(axes, cells, measurements, [], specification)
    unused: dict[tuple[str, str], None] = {}
    drafts = [
        (cell, *_run(specification, cell, data_dir, unused)) for cell in specification.cells()
    ]
    if not drafts:
        raise UsageError(f"{where}: no cell is left.")
    _check_used(specification, drafts, unused)
    cells = []
    names = _names([values for values, *_ in drafts])
    for name, (values, run, config) in zip(names, drafts, strict=True):
        ball = _ball(specification, values, config)
        for m in measurements:
            _check_split(config.data, m, where)
        works = {
            m.name: Measure(measuring.of_run, (run,), m.settings(ball, where), m.name)
            for m in measurements
        }
        cells.append(Cell(name, values, run, works))
    return Plan(specification.axes, cells, measurements, _remarks(cells, unused), specification)


# -- trainings ------------------------------------------------------------------------------------


def _run(
    specification: Specification,
    values: Mapping[str, Value],
    data_dir: str | None,
    unused: dict[tuple[str, str], None],
) -> tuple[Run, TrainConfig]:
    """The training of a cell, without the options that its method has no use for."""
    where = specification.source
    options = flat(specification.train) | {name: v.value for name, v in values.items()}
    names = {name: options.pop(name, None) for name in _NAMED}
    for name, value in names.items():
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{where}: {name} must be text in quotes, got {written(value)}.")
    method = names["method"] or "standard"
    try:
        known = options_of(method)
        for name in [*options]:
            if name.partition(".")[0] not in known:
                unused[method, name] = None
                del options[name]
        found = _dropping_radius(names, method, nested(options), unused)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    except (TypeError, ValueError) as error:  # a list for a number, for example
        raise UsageError(f"{where}: {_culprit(names, method, options)}.") from error
    options, config = found
    given = {name: names[name] for name in ("data", "model") if names[name] is not None}
    return Run(method, names["recipe"], {**given, **options}, data_dir=data_dir), config


def _dropping_radius(
    names: Mapping[str, Any],
    method: str,
    options: dict[str, Any],
    unused: dict[tuple[str, str], None],
) -> tuple[dict[str, Any], TrainConfig]:
    """Leave out the ball where the training itself has none: it decides the attacks alone that
    the network is judged by, which are those of the measurements."""
    if not isinstance(options.get("eps", 0.0), int | float):
        raise UsageError(f"eps must be a number or a fraction, got {written(options['eps'])}.")
    config = _config(names, method, options)
    ball = {name for name in ("eps", "norm") if name in options}
    if not ball:
        return options, config
    rest = {name: value for name, value in options.items() if name not in ball}
    without = _config(names, method, rest)
    if _trained(config) != _trained(without):
        return options, config
    unused.update({(method, name): None for name in sorted(ball)})
    return rest, without


def _config(names: Mapping[str, Any], method: str, options: Mapping[str, Any]) -> TrainConfig:
    return default_config(names["data"], names["model"], method, recipe=names["recipe"], **options)


def _culprit(names: Mapping[str, Any], method: str, options: Mapping[str, Any]) -> str:
    """Which option has a value that nothing can be made of."""
    for left in options:
        try:
            _config(names, method, nested({k: v for k, v in options.items() if k != left}))
        except Exception:  # some other option, too, or this one is needed
            continue
        return f"{left} can't be {written(options[left])}"
    return f"{method} can't be trained with {', '.join(options)} as they are"


def _trained(config: TrainConfig) -> dict[str, Any]:
    """All of a configuration but what the finished network is judged by."""
    return {k: v for k, v in identity(config.to_dict()).items() if k != "evaluation"}


def _check_used(
    specification: Specification,
    drafts: Sequence[tuple[Mapping[str, Value], Run, TrainConfig]],
    unused: Mapping[tuple[str, str], None],
) -> None:
    """An option that no method of the sweep knows is a slip of the hand."""
    methods = {run.method for _, run, _ in drafts}
    for name in [*flat(specification.train), *specification.axes]:
        if name in ("eps", "norm"):
            continue
        if all((method, name) in unused for method in methods):
            known = set[str]().union(*(options_of(method) for method in methods)) | {*_NAMED}
            raise unknown(f"option of training in {specification.source}:", name, known)


def _check_split(data: str, measurement: Measurement, where: str) -> None:
    if measurement.split is not None and ":" not in data:
        splits = entry_of(data).splits
        if measurement.split not in splits:
            raise unknown(f"split of {data} in {where}:", measurement.split, splits)


def _ball(specification: Specification, values: Mapping[str, Value], config: TrainConfig) -> Ball:
    """Of the cell, whether its training has one or not."""
    assert config.evaluation is not None
    own = {name: v.value for name, v in values.items()}
    asked = {**specification.train, **own}
    ball = config.evaluation.ball
    return Ball(asked.get("norm", ball.norm), asked.get("eps", ball.radius))


def _remarks(cells: Sequence[Cell], unused: Mapping[tuple[str, str], None]) -> list[str]:
    said = [
        f"{method} is trained without {name}, which it has no use for" for method, name in unused
    ]
    runs = {cell.run.digest for cell in cells if cell.run is not None}
    if len(runs) < len(cells):
        said.append(
            f"{len(cells)} cells are {len(runs)} trainings: cells that come to the same "
            "configuration share one"
        )
    return said


# -- checkpoints ----------------------------------------------------------------------------------


def _of_checkpoints(
    specification: Specification, measurements: Sequence[Measurement], data_dir: str | None
) -> tuple[list[str], list[Cell]]:
    where = specification.source
    for name in specification.axes:
        if name not in _OF_MEASUREMENTS:
            raise unknown(f"axis of checkpoints in {where}:", name, _OF_MEASUREMENTS)
    drafts: list[tuple[dict[str, Value], Given, Ball | None]] = []
    for m, table in zip(measurements, specification.measure, strict=True):
        if "checkpoint" in table:
            raise UsageError(f"{where}: {m.name} has the checkpoints of the list, no other.")
    files: dict[str, Given] = {}
    for path, label in _labels(specification.checkpoints).items():
        found = checkpoints.find(path).absolute()
        files[label] = Given(str(found), measuring.digest(found), data_dir)
    read = {label: measuring.read(given) for label, given in files.items()}
    seeds = "seed" not in specification.axes and _are_seeds([*read.values()])
    for label, given in files.items():
        checkpoint = read[label]
        about = {"checkpoint": Value(label, label)}
        if seeds:
            method = checkpoint.method["name"]
            about["method"] = Value(method, method)
            about["seed"] = Value(checkpoint.seed, written(checkpoint.seed))
        for m in measurements:
            _check_split((checkpoint.data or {})["name"], m, where)
        trained = (checkpoint.method.get("config") or {}).get("evaluation") or {}
        ball = Ball(trained["norm"], trained["eps"]) if "eps" in trained else None
        drafts += [({**about, **cell}, given, ball) for cell in specification.cells()]
    cells = []
    names = _names([values for values, *_ in drafts])
    for name, (values, given, ball) in zip(names, drafts, strict=True):
        own = {a: values[a].value for a in specification.axes if a in values}
        works = {}
        for table in specification.measure:
            m = Measurement.of({**own, **table}, where)
            settings = {"given": given, **m.settings(ball, where)}
            called = f"{m.name}: {values['checkpoint'].text}"
            works[m.name] = Measure(measuring.of_file, (), settings, called)
        cells.append(Cell(name, values, None, works))
    axes = list(dict.fromkeys(axis for values, *_ in drafts for axis in values))
    return axes, cells


def _are_seeds(found: Sequence[Checkpoint]) -> bool:
    """Whether checkpoints of one method differ in their seed alone, each seed once: only then may
    their numbers be averaged."""
    configs: dict[str, str] = {}
    seen = set()
    for checkpoint in found:
        method, config = checkpoint.method.get("name"), checkpoint.method.get("config")
        if method is None or config is None or checkpoint.seed is None:
            return False
        rest = {k: v for k, v in identity(config).items() if k != "seed"}
        text = json.dumps(rest, sort_keys=True)
        if configs.setdefault(method, text) != text or (method, checkpoint.seed) in seen:
            return False
        seen.add((method, checkpoint.seed))
    return True


def _labels(paths: Sequence[str]) -> dict[str, str]:
    """Short names of checkpoints that tell them apart."""
    for short in (lambda p: p.stem, lambda p: f"{p.parent.name}-{p.stem}", str):
        names = [short(Path(path)) for path in paths]
        if len({*names}) == len(names):
            return dict(zip(paths, names, strict=True))
    raise UsageError("a checkpoint is given twice: name every file once.")


# -- names ----------------------------------------------------------------------------------------


def _measurements(specification: Specification) -> list[Measurement]:
    found = []
    several = len(specification.measure) > 1
    for i, table in enumerate(specification.measure, 1):
        number = f" {i}" if several else ""
        found.append(Measurement.of(table, f"[[measure]]{number} of {specification.source}"))
    names = [m.name for m in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"{specification.source}: two measurements are called '{name}': give one of them "
                'another name = "...".'
            )
        if not re.fullmatch(r"[\w.+-]+", name) or name == "training":
            raise UsageError(
                f"{specification.source}: '{name}' can't name a measurement: use letters, digits, "
                "- and _."
            )
    return found


def _names(cells: Sequence[Mapping[str, Value]]) -> Iterator[str]:
    """Names of the cells' folders: ``method=pgd,eps=2-255,seed=0``."""
    seen: set[str] = set()
    for values in cells:
        said = ",".join(f"{axis}={value.text}" for axis, value in values.items()) or "only"
        name = plain = re.sub(r"[^\w.+=,-]+", "-", said)[:120]
        count = 1
        while name in seen:
            count += 1
            name = f"{plain},{count}"
        seen.add(name)
        yield name
