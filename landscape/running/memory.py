"""What to do when memory ran out: the batch size that fits."""

from __future__ import annotations

import dataclasses
from typing import Any

from landscape.running.cache import Cache
from landscape.running.work import Run, Work


class _EnoughError(Exception):
    """Two updates went through."""


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the machine or of the device."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def advice(work: Work, cache: Cache) -> str:
    """One line with a batch size that fits: half of what was too much, halved until two updates
    of the training go through."""
    run = work if isinstance(work, Run) else next(iter(work.needs), None)
    if run is None:
        return "out of memory: fewer --jobs may help."
    size = run.config(cache.place).plan.batch_size
    fits = max(1, size // 2)
    if isinstance(work, Run):
        while fits > 1 and not _goes_through(run, fits):
            fits //= 2
    return f"out of memory with batches of {size}: --batch-size {fits} fits."


def _goes_through(run: Run, batch_size: int) -> bool:
    from landscape.data import augmentation, load
    from landscape.training import fit

    config = run.config()
    data = load(config.data, "train", data_dir=run.data_dir, **config.data_options)

    def stop(epoch: int, epochs: int, batch: int, batches: int, metrics: Any) -> None:
        if batch == min(2, batches):
            raise _EnoughError

    try:
        fit(
            config.model.build(seed=0).to(config.resolved_device()),
            data,
            dataclasses.replace(config.plan, batch_size=batch_size),
            augment=augmentation(config.augmentation),
            progress=stop,
        )
    except _EnoughError:
        return True
    except Exception as error:
        if ran_out(error):
            return False
        raise
    return True
