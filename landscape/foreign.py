"""Weights as other projects save them: out of their containers, under the names of our networks.

``unwrap`` finds the weights in what ``torch.load`` gave; ``renamed`` gives them the names of a
network. Both say what they did, one phrase per step, and neither guesses: a prefix goes only if
more names then fit, and entries are left out only for a stated reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from landscape.errors import CheckpointError, unknown

# Where projects keep the weights, the first that is there; a moving average of the weights only
# if it is asked for or nothing else is there.
CONTAINERS = (
    "state_dict",
    "model",
    "net",
    "model_state_dict",
    "network",
    "state_dict_ema",
    "model_ema",
    "ema",
    "best",
    "last",
)

# robustness saves as module.model. (and again as module.attacker.model.), torch.compile as
# _orig_mod., Lightning as model. or net., DataParallel as module.
PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.", "backbone.", "attacker.")

# Our networks with normalisation inside keep it and the network apart.
_OWN = "network."
_MEAN, _STD = "normalize.mean", "normalize.std"
# Names of the same two numbers per channel in other projects' networks.
_MEANS = ("mu", "mean", "normalizer.new_mean", "normalize.mean", "normalizer.mean")
_STDS = ("sigma", "std", "normalizer.new_std", "normalize.std", "normalizer.std")

# Entries that no forward pass uses: (part of the name, why).
_UNUSED = (
    ("total_ops", "counts of operations"),
    ("total_params", "counts of parameters"),
    ("sub_block1.", "a block that TRADES' network never calls"),
)


@dataclass(frozen=True)
class Unwrapped:
    """Weights found in a file.

    Attributes:
        state_dict: names as in the file. steps: what was done to get at them.
        others: further weights in the file, by the keys that ``key`` of ``unwrap`` takes.
        beside: numbers and texts that lay beside them: epoch, accuracy, ...
    """

    state_dict: dict[str, Tensor]
    steps: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    beside: Mapping[str, Any] = field(default_factory=dict)


def unwrap(content: Any, key: str | None = None) -> Unwrapped:
    """The weights in the content of a file.

    Args:
        content: what ``torch.load`` returned: weights by name, or a dictionary with them in a
            container, perhaps a container in a container; or a whole ``nn.Module``.
        key: of the container, where the file has several (``state_dict_ema``).

    Raises ``CheckpointError`` if there are no weights, ``UsageError`` for a key that is not there.
    """
    steps: list[str] = []
    others: tuple[str, ...] = ()
    beside: dict[str, Any] = {}
    while not _is_weights(content):
        if isinstance(content, torch.nn.Module):
            steps.append(f"weights of a whole {type(content).__name__}")
            content = content.state_dict()
            continue
        if not isinstance(content, Mapping):
            raise CheckpointError(f"it holds {type(content).__name__}")
        held = [name for name, value in content.items() if _may_hold(value)]
        if key is not None and not others:
            if key not in held:
                raise unknown("weights in the file", key, map(str, held))
            chosen = key
        else:
            known = [name for name in CONTAINERS if name in held]
            # A single other container needs no guess.
            possible = known or (held if len(held) == 1 else [])
            chosen = str(possible[0]) if possible else ""
        if not chosen:
            raise CheckpointError(f"it holds keys {_some(content)}")
        others = others or tuple(str(n) for n in held if n != chosen)
        beside |= {str(n): v for n, v in content.items() if _is_plain(v)}
        steps.append(f"taken from '{chosen}'")
        content = content[chosen]
    return Unwrapped(dict(content), tuple(steps), others, beside)


def renamed(
    state: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights under the names of ``target``, a network's ``state_dict``, as far as they go.

    What has no counterpart stays under its own name, so that loading can say so. A prefix, or
    several in a row, is taken off only if more names (with their shapes) then fit.
    """
    found, steps = dict(state), []
    stripped = {prefix: _stripped(found, prefix) for prefix in _prefixes(found)}
    best = max(stripped, key=lambda p: _overlap(stripped[p], target), default=None)
    if best is not None and _overlap(stripped[best], target) > _overlap(found, target):
        found = stripped[best]
        steps.append(f"prefix '{best}' removed")
    found, own = _under_ours(found, target)
    steps += own
    for part, why in _UNUSED:
        extra = [name for name in found if part in name and name not in target]
        if extra:
            found = {name: t for name, t in found.items() if name not in extra}
            steps.append(f"{len(extra)} entries '{part.rstrip('.')}' left out: {why}")
    copies = [name for name in found if name not in target and _is_copy(name, found, target)]
    if copies:
        found = {name: t for name, t in found.items() if name not in copies}
        steps.append(f"{len(copies)} entries left out that repeat others ({_some(copies, 1)})")
    # Files of torch before 0.4 lack these counters, which only a moving mean without momentum uses.
    absent = [n for n in target if n.endswith("num_batches_tracked") and n not in found]
    if absent and len(absent) < len(target) - len(found) + len(absent) + 1:
        found |= {name: target[name].clone() for name in absent}
        steps.append(f"{len(absent)} counters of BatchNorm, which the file lacks, set to 0")
    return found, tuple(steps)


def statistics(state: Mapping[str, Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation per channel that a network's own normalisation has, if any."""
    plain = _bare(state)
    mean = next((plain[name] for name in _MEANS if name in plain), None)
    std = next((plain[name] for name in _STDS if name in plain), None)
    if mean is None or std is None or mean.numel() != std.numel() or mean.numel() > 4:
        return None
    return tuple(mean.flatten().tolist()), tuple(std.flatten().tolist())


def statistics_names(state: Mapping[str, Tensor]) -> list[str]:
    """The entries that ``statistics`` reads, and their repetitions."""
    if statistics(state) is None:
        return []
    return [name for name in state if {*_bare({name: state[name]})} <= {*_MEANS, *_STDS}]


def _is_weights(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) and torch.is_tensor(t) for name, t in content.items())
    )


def _may_hold(value: Any) -> bool:
    """Whether weights may lie in there: an optimiser's state has other keys at its top."""
    if isinstance(value, torch.nn.Module) or _is_weights(value):
        return True
    return isinstance(value, Mapping) and any(_is_weights(value.get(c)) for c in CONTAINERS)


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str) or (
        hasattr(value, "dtype") and (getattr(value, "ndim", 1) == 0)
    )


def _prefixes(state: Mapping[str, Tensor]) -> list[str]:
    """All rows of known prefixes that names begin with, the shortest first."""
    found: dict[str, None] = {}
    for name in state:
        whole, rest = "", name
        while (first := next((p for p in PREFIXES if rest.startswith(p)), None)) is not None:
            whole, rest = whole + first, rest.removeprefix(first)
            found[whole] = None
    return sorted(found, key=len)


def _stripped(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Without the prefix where it is; of two entries that then share a name, the one that had it
    keeps its own."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = name.removeprefix(prefix)
        found[name if short in found or (short != name and short in state) else short] = tensor
    return found


def _overlap(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> int:
    bare = {name.removeprefix(_OWN): t.shape for name, t in target.items()}
    return sum(bare.get(name) == t.shape for name, t in state.items())


def _under_ours(
    state: dict[str, Tensor], target: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The network's part under ``network.`` and the file's own statistics under ``normalize.``,
    where the target has these."""
    if _MEAN not in target:
        return state, []
    found = {
        _OWN + name if name not in target and _OWN + name in target else name: tensor
        for name, tensor in state.items()
    }
    steps = []
    own = statistics(found)
    if own is not None:
        for names, ours, values in ((_MEANS, _MEAN, own[0]), (_STDS, _STD, own[1])):
            for name in names:
                if name != ours:
                    found.pop(name, None)
            if ours not in state:
                found[ours] = target[ours].new_tensor(values).reshape(target[ours].shape)
        steps.append("normalisation of the file kept")
    else:
        found |= {name: target[name].clone() for name in (_MEAN, _STD) if name not in found}
    return found, steps


def _is_copy(name: str, state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> bool:
    """Whether an entry repeats one that is used, under a longer name (robustness' attacker)."""
    parts = name.split(".")
    for k in range(1, len(parts)):
        short = ".".join(parts[k:])
        for candidate in (short, _OWN + short):
            if candidate in target and candidate in state and candidate != name:
                return bool(torch.equal(state[candidate], state[name]))
    # Its statistics, once more.
    last = parts[-1]
    if last in ("mean", "std", "new_mean", "new_std"):
        ours = _MEAN if "mean" in last else _STD
        mine = state.get(ours)
        return (
            mine is not None
            and mine.numel() == state[name].numel()
            and bool(torch.allclose(mine.flatten(), state[name].flatten().to(mine.dtype)))
        )
    return False


def _bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With every known prefix off."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short, before = name, ""
        while short != before:
            before = short
            for prefix in PREFIXES:
                short = short.removeprefix(prefix)
        found.setdefault(short, tensor)
    return found


def _some(names: Any, most: int = 3) -> str:
    names = list(map(str, names))
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def size(state: Mapping[str, Tensor]) -> int:
    """Numbers in all floating-point entries."""
    return sum(math.prod(t.shape) for t in state.values() if t.is_floating_point())
