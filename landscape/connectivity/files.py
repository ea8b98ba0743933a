"""A curve in a file that can't run code, with all that is needed to use it or go on with it."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape import params as P
from landscape.checkpoints import Checkpoint, read_payload, write_payload
from landscape.connectivity.batchnorm import reestimate
from landscape.connectivity.curves import Curve
from landscape.connectivity.fitting import CurveState
from landscape.errors import CheckpointError
from landscape.functional import untouched
from landscape.provenance import plain, versions
from landscape.training.samples import Samples

FORMAT, VERSION = "landscape-curve", 1


@dataclass(frozen=True, eq=False)
class CurveCheckpoint:
    """A curve and its context.

    Attributes:
        state: the curve, and what its training goes on from.
        base: ``state_dict`` of the first end, for what the curve leaves alone.
        model: specification that ``landscape.models.ModelSpec.from_dict`` builds, or ``None``.
        data: ``{"name": ..., "options": {...}}`` of the training data, or ``None``.
        method: of the two ends' training, as a ``Checkpoint`` has it, of the first.
    """

    state: CurveState
    base: dict[str, Tensor]
    model: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    method: dict[str, Any] | None = None

    @property
    def curve(self) -> Curve:
        return self.state.curve

    def first(self) -> Checkpoint:
        """The end at t = 0 as it was given, BatchNorm's statistics included."""
        return Checkpoint(self.base, self.model, self.data, self.method or {})

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the file, whole or not at all."""
        content = self._content()
        sealed = {**content, "versions": versions(), "seal": _seal(content)}
        return write_payload(path, sealed, overwrite=overwrite)

    def _content(self) -> dict[str, Any]:
        state = self.state
        return {
            "format": FORMAT,
            "version": VERSION,
            "points": state.curve.points.detach().cpu().clone(),
            "shapes": {name: list(shape) for name, shape in state.curve.shapes.items()},
            "chain": state.curve.chain,
            "optimiser": state.optimiser,
            "epoch": state.epoch,
            "losses": list(state.losses),
            "seconds": state.seconds,
            "settings": plain(state.settings),
            "base": {name: t.detach().cpu().clone() for name, t in self.base.items()},
            **{name: plain(getattr(self, name)) for name in ("model", "data", "method")},
        }


def load_curve(path: str | Path) -> CurveCheckpoint:
    """Read a file that ``CurveCheckpoint.save`` wrote; nothing in it is executed."""
    path = Path(path)
    content = read_payload(path)
    if not is_curve(content):
        raise CheckpointError(
            f"{path} holds no curve: expected a file that `landscape connect A.pt B.pt` wrote."
        )
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has curve version {content.get('version')}, this landscape reads {VERSION}: "
            "upgrade landscape."
        )
    try:
        intact = content.pop("seal") == _seal({k: v for k, v in content.items() if k != "versions"})
        state = CurveState(
            Curve(content["points"], content["shapes"], content["chain"]),
            content["optimiser"],
            content["epoch"],
            tuple(content["losses"]),
            content["seconds"],
            content["settings"],
        )
        found = CurveCheckpoint(
            state, content["base"], content["model"], content["data"], content["method"]
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): copy it again.") from error
    if not intact:
        raise CheckpointError(
            f"{path} is damaged (its content does not match its digest): copy it again."
        )
    return found


def is_curve(content: Any) -> bool:
    """Whether a payload is a curve's."""
    return isinstance(content, dict) and content.get("format") == FORMAT


def extract(
    saved: CurveCheckpoint, model: nn.Module, t: float, train: Any, batch_size: int
) -> Checkpoint:
    """The network at B(t) as a checkpoint, BatchNorm's statistics re-estimated on ``train``.

    ``model``: the first end, which is left untouched. ``batch_size``: of the re-estimation.
    """
    with untouched(model), torch.no_grad():
        scratch = copy.deepcopy(model)
        named = dict(scratch.named_parameters())
        for name, value in saved.curve.at(t).items():
            named[name].copy_(value)
        first = next(iter(named.values()))
        reestimate(scratch, {}, Samples(train, first.device, first.dtype), batch_size)
    method = saved.method or {}
    return Checkpoint(
        state_dict={n: p.detach().cpu().clone() for n, p in scratch.state_dict().items()},
        model=saved.model,
        data=saved.data,
        method={
            **method,
            "name": f"{method.get('name', 'unknown training')}, {saved.curve.kind} at t = {t:g}",
            "curve": P.digest({"points": saved.curve.points}),
            "t": t,
        },
        seed=saved.state.settings.get("seed"),
    )


def _seal(content: dict[str, Any]) -> str:
    """SHA-256 of everything: tells a damaged file."""
    hasher = hashlib.sha256()

    def told(value: Any) -> Any:
        if torch.is_tensor(value):
            return P.digest({"": value})
        if isinstance(value, dict):
            return {str(key): told(item) for key, item in value.items()}
        return [told(item) for item in value] if isinstance(value, list | tuple) else value

    hasher.update(json.dumps(told(content), sort_keys=True).encode())
    return hasher.hexdigest()
