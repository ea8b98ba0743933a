"""``connect``: a curve between two networks, trained and measured."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from landscape import parallel
from landscape import params as P
from landscape.attacks import Attack
from landscape.connectivity.curves import Curve
from landscape.connectivity.fitting import CurvePlan, CurveState, fit_curve, updates_per_epoch
from landscape.connectivity.profiles import Connectivity, Probe, check_points, measure
from landscape.errors import UsageError
from landscape.functional import untouched
from landscape.losses import Loss, resolve
from landscape.objective import check_finite
from landscape.provenance import Record, plain


def connect(
    a: nn.Module,
    b: nn.Module,
    train: Any,
    test: Any = None,
    *,
    plan: CurvePlan | None = None,
    attack: Attack | None = None,
    adversarial: bool | None = None,
    loss: str | Loss = "cross-entropy",
    points: int = 31,
    batch_size: int = 256,
    state: CurveState | None = None,
    save: Callable[[CurveState], None] | None = None,
    measured: Connectivity | None = None,
    save_measured: Callable[[Connectivity], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Curve, Connectivity]:
    """Train a curve of low loss from ``a`` to ``b`` and measure the loss along it.

    min over θ_1 … θ_{n−1} of E_{t ~ U[0,1]} L(B(t)), B(0) = a, B(1) = b (Garipov et al. 2018;
    liu2020 C.2.5). Both networks are left untouched.

    Args:
        a, b: networks of one architecture, any, with other weights. Frozen parameters, and
            buffers other than BatchNorm's running statistics, must be the same in both.
        train: integer classes; trained on without augmentation. test: for the errors.
        plan: order of the curve and how to train it.
        attack, adversarial, loss, points, batch_size: see ``profile``; the training loss that is
            reported is also what is trained on.
        state: to go on from, of the same settings. save: receives the state after every epoch.
        measured, save_measured: ``profile``'s resume and save, once the curve is trained.
        progress: called as (steps done, steps): batches of the training, then measured points.

    Returns the curve, whose ``at(t)`` gives parameters, and the measured losses. Cost: that of
    training one network for ``plan.epochs``, and ``profile``'s. When it lies: a barrier may be
    that of a curve trained too briefly, or too stiff: raise ``epochs`` and ``order``; neurons
    are not permuted to match, so the straight line's barrier is that of the networks as they are.
    """
    plan = plan or CurvePlan()
    check_points(points)
    start = Curve.between(*curve_ends(a, b), plan.order, chain=plan.chain)
    if bool((start.points[0] == start.points[-1]).all()):
        raise UsageError(
            "the two networks have the same weights: there is nothing to connect. Give two that "
            "were trained from other seeds."
        )
    with untouched(a):
        probe = Probe(
            a,
            train,
            test,
            attack=attack,
            adversarial=adversarial,
            loss=loss,
            bn_batch_size=plan.batch_size,
            batch_size=batch_size,
            seed=plan.seed,
        )
        described = probe.describe()
        settings = {
            **plan.to_dict(),
            "ends": [P.digest(start.at(0)), P.digest(start.at(1))],
            **{key: described[key] for key in ("data", "loss", "attack")},
        }
        state = _checked(state, plain(settings)) or CurveState(start, settings=plain(settings))
        record = Record(
            "connect",
            described,
            plan.seed,
            points=points,
            ends=settings["ends"],
            plan=plan.to_dict(),
        )
        updates = 0 if plan.order == 1 else updates_per_epoch(probe.samples, plan)
        steps = plan.epochs * updates
        earlier = state.seconds

        def from_step(first: int) -> Callable[[int, int], None] | None:
            return progress and (lambda done, _: progress(first + done, steps + 2 * points))

        # Updates can't be divided without changing them: one process trains for all.
        fit = functools.partial(
            fit_curve,
            probe.scratch,
            state,
            probe.samples,
            plan,
            attack=probe.train.attack,
            loss=resolve(loss),
            save=save,
            progress=from_step(0),
        )
        state = parallel.group().ask_first(fit)
        result = measure(
            probe,
            state.curve,
            points,
            record,
            earlier=earlier,
            epoch_loss=state.losses,
            resume=measured,
            save=save_measured,
            progress=from_step(steps),
        )
    return state.curve, result


def curve_ends(a: nn.Module, b: nn.Module) -> tuple[P.Params, P.Params]:
    """The trainable parameters of both, once it is sure that all else is the same."""
    check_finite(a)
    check_finite(b)
    ends = P.trainable(a), P.trainable(b)
    if not ends[0]:
        raise UsageError("the networks have no parameters that require gradients.")
    one, other = fixed_part(a), fixed_part(b)
    differing = sorted(
        name
        for name in {*one, *other}
        if name not in one or name not in other or not _equal(one[name], other[name])
    )
    if differing and ends[0].keys() == ends[1].keys():  # else it is another architecture
        raise UsageError(
            f"the networks differ in '{differing[0]}', which no curve trains (it is frozen or "
            "a buffer): connect networks that share it."
        )
    return ends


def fixed_part(model: nn.Module) -> dict[str, Tensor]:
    """Frozen parameters and buffers, without running statistics, by name."""
    statistics = {
        f"{prefix}.{name}" if prefix else name
        for prefix, layer in model.named_modules()
        if isinstance(layer, _NormBase)
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: t.detach() for name, t in named if not t.requires_grad and name not in statistics}


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one == other.to(one)).all())


def _checked(state: CurveState | None, settings: Mapping[str, Any]) -> CurveState | None:
    """The state, if it was made with these settings."""
    if state is None:
        return None
    differing = sorted(
        key for key in {*settings, *state.settings} if settings.get(key) != state.settings.get(key)
    )
    if differing:
        raise UsageError(
            f"the unfinished curve was made with other settings ({', '.join(differing)} differ): "
            "pass --no-resume to start over."
        )
    return state
