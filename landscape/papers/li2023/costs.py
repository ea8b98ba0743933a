"""What an update of a training costs, counted instead of timed, so that it is the same twice."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from landscape.papers.kinds import Sheet, sheet
from landscape.random import Streams, seeded
from landscape.running.trained import Trained
from landscape.training.batch import Batch
from landscape.training.loop import update
from landscape.training.samples import Samples


class Counter(TorchDispatchMode):
    """Counts as torch's own counter does, which can't look into autograd.grad of leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.operations += formula(*args, **(kwargs or {}), out_val=out)
        return out


def update_cost(run: Trained) -> Sheet:
    """Floating-point operations of convolutions and matrix products in one update.

    Of a whole batch, attack, regularisers, teachers and both directions of differentiation
    included, at the network before training; what the paper gives is time on a V100.
    """
    config, device = run.config, run.config.resolved_device()
    plan, views = config.plan, config.plan.method.views
    model = config.model.build(seed=0).to(device).train()
    samples = Samples(run.data("train"), device, torch.float32)
    rows = torch.arange(min(plan.batch_size, len(samples)))
    x, y = samples.take(rows)
    optimiser = plan.optimiser.build(list(model.parameters()))
    with seeded(0, device), Counter() as counted:
        batch = Batch(
            model,
            x.repeat(views, 1, 1, 1),
            y.repeat(views),
            plan.method.perturbation,
            Streams(0, "train", 0),
            rows.repeat(views),
            plan.epochs - 0.5,  # a weight that rises along the training has risen
            {},
            epochs=plan.epochs,
            population=len(samples),
        )
        update(batch, plan, optimiser)
    cost = counted.operations / 1e6
    return sheet({plan.method.name: [cost]}, ["cost"], "MFLOP / update")
