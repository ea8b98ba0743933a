"""Whether the data of a plan are there, before any training."""

from __future__ import annotations

from collections.abc import Mapping

from landscape.data import load
from landscape.errors import DataError
from landscape.running.work import Run, Work


def check_data(works: Mapping[str, Work]) -> None:
    """Raise ``DataError`` if a training's data set can't be loaded."""
    seen = set()
    for work in works.values():
        if not isinstance(work, Run):
            continue
        config = work.config()
        key = (config.data, work.data_dir, str(config.data_options))
        if key in seen:
            continue
        seen.add(key)
        try:
            load(config.data, "train", data_dir=work.data_dir, **config.data_options)
        except DataError as error:
            raise DataError(f"{work.title} needs data that are not there: {error}") from error
