"""The trainings of a sweep: what of the options each method is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from landscape.attacks import Ball
from landscape.errors import LandscapeError, UsageError, unknown
from landscape.running.work import Run
from landscape.sweeps.specification import Specification, Value
from landscape.sweeps.values import flat, nested, written
from landscape.training import TrainConfig, default_config
from landscape.training.config import identity
from landscape.training.recipes import options_of

# Of a training, beside the options of ``default_config``.
_NAMED = ("method", "data", "model", "recipe")

# By method and option.
Unused = dict[tuple[str, str], None]


def training(
    specification: Specification,
    values: Mapping[str, Value],
    data_dir: str | None,
    unused: Unused,
) -> tuple[Run, TrainConfig]:
    """The training of a cell, without the options that its method has no use for: ``unused``."""
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
    except LandscapeError:
        raise
    except Exception as error:  # a list for a number, for example
        raise UsageError(f"{where}: {_culprit(names, method, options)}.") from error
    options, config = found
    given = {name: names[name] for name in ("data", "model") if names[name] is not None}
    return Run(method, names["recipe"], {**given, **options}, data_dir=data_dir), config


def _dropping_radius(
    names: Mapping[str, Any],
    method: str,
    options: dict[str, Any],
    unused: Unused,
) -> tuple[dict[str, Any], TrainConfig]:
    """Leave out the ball where the training itself has none: it decides the attacks alone that
    the network is judged by, which are those of the measurements."""
    if not isinstance(options.get("eps", 0.0), int | float):
        raise UsageError(f"eps must be a number or a fraction, got {written(options['eps'])}.")
    config = _config(names, method, options)
    ball = {name for name in ("eps", "norm") if name in options}
    if not ball:
        return options, config
    # Compared with another ball: without one there is the default, which may be this one.
    other = dict(options)
    if "eps" in ball:
        other["eps"] = options["eps"] / 2 or 0.01
    else:
        other["norm"] = "linf" if options["norm"] == "l2" else "l2"
    if _trained(config) != _trained(_config(names, method, other)):
        return options, config
    rest = {name: value for name, value in options.items() if name not in ball}
    without = _config(names, method, rest)
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


def check_used(
    specification: Specification,
    drafts: Sequence[tuple[Mapping[str, Value], Run, TrainConfig]],
    unused: Mapping[tuple[str, str], None],
) -> None:
    """An option that no method of the sweep knows is a slip of the hand."""
    methods = {run.method for _, run, _ in drafts}
    for name in [*flat(specification.train), *specification.axes]:
        if name in ("eps", "norm"):
            continue
        if methods and all((method, name) in unused for method in methods):
            known = set[str]().union(*(options_of(method) for method in methods)) | {*_NAMED}
            raise unknown(f"option of training in {specification.source}:", name, known)


def ball_of(specification: Specification, values: Mapping[str, Value], config: TrainConfig) -> Ball:
    """Of the cell, whether its training has one or not."""
    assert config.evaluation is not None
    own = {name: v.value for name, v in values.items()}
    asked = {**specification.train, **own}
    ball = config.evaluation.ball
    return Ball(asked.get("norm", ball.norm), asked.get("eps", ball.radius))
