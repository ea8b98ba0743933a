"""Jobs of a plan on a SLURM cluster, by submitit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


# How often a job that reached its time limit is put into the queue again.
REQUEUES = 20


@dataclass(frozen=True)
class Requeued:
    """A function as a job that goes back into the queue when it is preempted or out of time.

    It is then called again with the same arguments: what it had finished is in the cache, and a
    training goes on from its last epoch.
    """

    function: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def checkpoint(self, *args: Any) -> Any:
        """What submitit asks for before it requeues the job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *args)


@dataclass(frozen=True)
class Cluster:
    """submitit's executor, whose jobs are requeued."""

    executor: Any

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.executor.submit(Requeued(function), *args)


def slurm(text: str, folder: Path) -> Cluster:
    """An executor for ``KEY=VALUE,...``; ``cluster=local`` runs jobs on this machine.

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
        executor = submitit.AutoExecutor(
            folder=folder, cluster=cluster or "slurm", slurm_max_num_timeout=REQUEUES
        )
    except (RuntimeError, ValueError) as error:  # no SLURM here, or no such cluster
        raise UsageError(f"--slurm: {error}. Is this a machine with SLURM?") from error
    executor.update_parameters(**{"timeout_min": 600, **wanted})
    return Cluster(executor)
