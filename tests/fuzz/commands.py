"""Command lines of the commands' own parameters, with values that fit and values that don't."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from hypothesis import HealthCheck, Phase, given, seed, settings, target
from hypothesis import strategies as st

from fuzz.campaign import Tally
from fuzz.running import Watched
from landscape.cli import COMMANDS, cli

# Cheap requests, to which options are added; what is drawn takes the place of what is here.
_MEASURE: Mapping[str, str] = {"--n-examples": "10", "--out": "o"}
_BASE: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(COMMANDS, _MEASURE),
    "density": {**_MEASURE, "--probes": "2", "--steps": "5"},
    "trace": {**_MEASURE, "--samples": "3"},
    "surface": {**_MEASURE, "--grid": "3"},
    "connect": {**_MEASURE, "--epochs": "1", "--points": "3", "--n-train": "20"},
    "cosine": {**_MEASURE, "--points": "3"},
    "smoothness": {**_MEASURE, "--points": "3"},
    "inputs": {**_MEASURE, "--ascent-steps": "2", "--draws": "2"},
    "lipschitz": {**_MEASURE, "--samples": "3", "--pairs": "3"},
    "evaluate": {**_MEASURE, "--attack": "fgsm"},
    "report": {**_MEASURE, "--sections": "accuracy", "--budget": "5s"},
    "compare": {**_MEASURE, "--sections": "accuracy", "--budget": "5s"},
    "train": {"--data": "digits", "--model": "logistic", "--n-examples": "20", "--epochs": "1"}
    | {"--out": "new"},
    "figure": {"--scale": "smoke", "--jobs": "1"},
    "plot": {"--out": "o"},
    "export": {"--to": "vts"},
    **{name: {} for name in ("demo", "inspect", "models", "methods", "attacks", "data", "doctor")},
}
# What costs much by being asked for much: small numbers alone, and numbers that are refused.
_FREE = {"seed", "batch_size", "n_examples", "top", "tol", "show", "n"}
_NOT_DRAWN = {"jobs", "out", "cache", "trust_checkpoint", "help", "verbose", "save_directions"}

_NONSENSE = ("", "x", "-1", "--", "nan", "1e400", "no_module:f", "a=b", "\udcff", "🙂", "x" * 300)
_NONSENSE += ("digits", "../x", "1,2", "1:2", "0", "%s", "{}", "$(touch canary)", "`id`", "a\nb")
_PATHS = ("tiny.pt", "second.pt", "bare.pth", "missing.pt", ".", "run", "surface.h5", "report.h5")
_PATHS += ("/dev/null", "tiny.safetensors", "goldstein.h5", "x" * 300, "run/best.pt")
_WORDS: Mapping[str, tuple[str, ...]] = {
    "attack": ("fgsm", "pgd-2", "pgd-1x2", "clean", "fgsm,pgd-2", "pgd-0", "cw-2"),
    "reference": ("fgsm", "pgd-2"),
    "track_attack": ("fgsm",),
    "model": ("logistic", "lenet-1", "mlp-4", "wrn-11-1", "torchvision:x", "logistic-3"),
    "data": ("digits", "digits32", "mnist", "folder", "cifar10-c"),
    "extra": ("digits", "digits32"),
    "loss_function": ("mse", "cross-entropy"),
    "params": ("*weight", "nothing", "*", "[", "linear.bias,linear.weight"),
    "split": ("train", "val", "test"),
    "extra_split": ("train", "val"),
    "accuracy_split": ("train", "val", "test"),
    "data_options": ("corruption=fog", "severity=9", "=", "a=1"),
    "subset": ("random:5", "easiest:5@run", "hardest:5@tiny.pt", "random:0", "random:5@3"),
    "normalize": ("0.5:0.5", "0:0", ".1,.2:.3", "nan:1"),
    "device": ("cpu", "cuda:7", "meta", "auto"),
    "method": ("standard", "pgd", "trades+awp", "fgsm+swa", "pgd+pgd", "iaat"),
    "recipe": ("digits", "liu2020/cifar10-vgg", "li2023/x"),
    "schedule": ("constant", "cosine", "step", "cyclic"),
    "augmentation": ("none", "crop-flip", "shift", "sat"),
    "settings": ("steps=2", "awp.gamma=0.1", "steps=x", "pas.schedule=y", ".=1", "eps=nan"),
    "initial": _PATHS,
    "track": ("batches", "evaluate", "batches,gradient", "evaluate,evaluate"),
    "sections": ("accuracy", "accuracy,spectrum", "trace,trace"),
    "directions": ("random", "between", "gradient", "plane.pt", "sgd", "adversarial", "tiny.pt"),
    "activation": ("softplus", "softplus:10", "relu:2", "tanh"),
    "by": ("samples.h5", "run", "tiny.pt"),
    "key": ("state_dict", "ema"),
    "names": ("kanai2021/fig1", "kanai2021/fig99", "all/all", "KANAI2021"),
    "scale": ("smoke", "digit"),
    "slurm": ("partition", "cluster=nowhere", "timeout_min=x", "timeout_min=1"),
    "name": ("standard", "mnist", "trades", "digits"),
    "compare": ("second.pt", "tiny.pt"),
    "others": ("second.pt", "bare.pth"),
}
_NUMBERS = ("0.1", "8/255", "0", "-0.5", "1/0", "nan", "inf", "-inf", "1e308", "1e-300", "1e400")
_BY_TYPE: Mapping[str, tuple[str, ...]] = {
    "number": _NUMBERS,
    "number,number": ("0.1", "0,0.1", "0.1,8/255", "nan,1", ",", "1,,2"),
    "low:high": ("-1:1", "1:-1", "0:0", "nan:1", "0.5", "1:2:3", "inf", "1e308"),
    "nx[xny]": ("3", "2x2", "1x1", "0", "0x3", "3x", "x3", "1", "999999999x999999999"),
    "bytes": ("1", "1MiB", "4GiB", "0", "1XB", "-1", "99999999TiB", "1e3"),
    "time": ("1s", "0s", "1m1s", "s", "-1s", "1h1h"),
    "epoch,epoch": ("1", "1,2", "2,1", "x", "nan", "-1"),
    "seed,seed": ("0", "0,1", "1,1", "x"),
    "float": _NUMBERS,
}


def _values(parameter: click.Parameter) -> st.SearchStrategy[str]:
    """Values of a parameter: of its kind more often than nonsense."""
    kind = parameter.type
    name = str(parameter.name)
    fitting: tuple[str, ...]
    if isinstance(kind, click.Choice):
        fitting = tuple(map(str, kind.choices))
    elif isinstance(kind, click.types.IntParamType):
        low = getattr(kind, "min", None)
        least = 0 if low is None else int(low)
        fitting = (str(least), str(least + 1), str(least - 1), "3", "2.0", "1_0", "٣")
        if name in _FREE:
            fitting += ("99999999999999999999999999", "-7", "4294967296")
    elif isinstance(kind, click.Path):
        fitting = _PATHS
    else:
        fitting = _WORDS.get(name) or _BY_TYPE.get(kind.name, _NONSENSE)
    return st.one_of(st.sampled_from(fitting), st.sampled_from(fitting), st.sampled_from(_NONSENSE))


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with its cheap request, arguments, and up to four options drawn for it."""
    name = draw(st.sampled_from(list(COMMANDS)))
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    arguments, chosen = [], dict(_BASE[name])
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            least = 1 if parameter.required else 0
            most = 3 if parameter.nargs == -1 else 1
            usual = st.sampled_from(_usual(str(parameter.name), name))
            values = st.lists(st.one_of(usual, usual, _values(parameter)), max_size=most)
            arguments += draw(values.filter(lambda v, n=least: len(v) >= n))
    drawable = [
        p for p in command.params if isinstance(p, click.Option) and p.name not in _NOT_DRAWN
    ]
    extra: list[str] = []
    if drawable:
        for option in draw(st.lists(st.sampled_from(drawable), max_size=4, unique=True)):
            flag = draw(st.sampled_from([*option.opts, *option.secondary_opts]))
            chosen.pop(option.opts[0], None)
            extra += [flag] if option.is_flag or option.count else [flag, draw(_values(option))]
    extra += draw(
        st.lists(st.sampled_from(("-q", "--json", "--dry-run", "--no", "-x")), max_size=1)
    )
    if name == "demo":  # a whole demonstration is no small thing
        extra.append(draw(st.sampled_from(("--help", "--nothing", "x"))))
    line = [*arguments, *(word for pair in chosen.items() for word in pair), *extra]
    return [name, *line]


def _usual(parameter: str, command: str) -> tuple[str, ...]:
    if parameter in ("checkpoint", "checkpoints"):
        return ("tiny.pt", "second.pt")
    if parameter in ("file", "files"):
        return ("surface.h5", "report.h5", "spectrum.h5")
    return {"names": ("kanai2021/fig1",), "method": ("standard", "pgd")}.get(
        parameter, ("standard",) if command == "methods" else ("mnist",)
    )


def fuzz_commands(prepared: Path, count: int, start: int) -> Tally:
    """Run ``count`` command lines, hypothesis steering to those that run the most lines."""
    tally, reached = Tally("command lines"), set()

    with Watched(prepared) as watched:

        @seed(start)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate, Phase.target, Phase.shrink),
        )
        @given(command_lines())
        def runs(line: list[str]) -> None:
            seen = watched.run(line, {})
            found = tally.add(seen)
            tally.kept += not seen.lines <= reached
            reached.update(seen.lines)
            target(float(len(seen.lines)))
            assert not found, f"{line}: {found}"

        _collected(runs, tally)
    tally.lines = len(reached)
    return tally


def _collected(runs: Callable[[], Any], tally: Tally) -> None:
    """The smallest failing command line goes into the tally."""
    try:
        runs()
    except AssertionError as error:
        tally.failing.append(([str(error)[:2000]], "", b"", {"command line": str(error)[:2000]}))
