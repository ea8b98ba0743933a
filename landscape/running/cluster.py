"""Jobs of a plan on a SLURM cluster, by submitit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from landscape.errors import UsageError

# What of a SLURM request ``--slurm partition=gpu,timeout_min=600`` may name.
SLURM = (
    "partition",
    "timeout_min",
    "cpus_per_task",
    "gpus_per_node",
    "mem_gb",
    "account",
    "qos",
    "constraint",
)


def slurm(text: str, folder: Path) -> Any:
    """submitit's executor for ``KEY=VALUE,...``; ``cluster=local`` runs jobs on this machine.

    Every job is one training with its measurements. Logs lie in ``folder``. Raises ``UsageError``
    for unknown keys, or if submitit is not installed.
    """
    try:
        import submitit
    except ImportError:
        raise UsageError(
            "--slurm needs submitit: pip install 'landscape-diagnostics[slurm]'."
        ) from None
    wanted: dict[str, Any] = {}
    cluster = None
    for pair in filter(None, text.split(",")):
        key, sign, value = pair.partition("=")
        if not sign or key not in (*SLURM, "cluster"):
            raise UsageError(f"--slurm {pair}: write KEY=VALUE with one of {', '.join(SLURM)}.")
        if key == "cluster":
            cluster = value
            continue
        own = key if key in ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb") else None
        wanted[own or f"slurm_{key}"] = int(value) if value.isdigit() else value
    folder.mkdir(parents=True, exist_ok=True)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster or "slurm")
    except RuntimeError as error:
        raise UsageError(f"--slurm: {error}. Is this a machine with SLURM?") from error
    executor.update_parameters(**{"timeout_min": 600, **wanted})
    return executor
