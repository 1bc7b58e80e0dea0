"""The sweep on a cluster: python -m models.train.sweep --recipe gpu --cluster LOGS

An array of Slurm jobs where there is Slurm, processes on this machine otherwise; all of it is submitit's.
Checkpoints, `$ATTNSCOPE_HOME` and the logs must lie on disks that the cluster shares.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import submitit
import torch

from .recipe import ON_GPU
from .run import StoppedError, TrainingError, reason_in, train_one


@dataclass(frozen=True)
class Training(submitit.helpers.Checkpointable):
    """`train_one` as a job. One that Slurm interrupts is queued again, and goes on where its run stopped."""

    recipe: str
    seed: int
    folder: Path
    replace: bool = False

    def __call__(self, name: str) -> dict:
        if self.recipe in ON_GPU and not torch.cuda.is_available():
            raise TrainingError("No GPU is seen here: is there one, and does its driver know CUDA 13?")
        torch.set_num_threads(1)
        folder, replace = self.folder, self.replace
        try:
            return train_one(name, self.seed, self.recipe, folder=folder, progress=False, replace=replace)
        except StoppedError as error:
            sys.exit(str(error))  # no result, not even a failure: Slurm queues it again


def run_jobs(job: Training, names: list[str], logs: Path, at_once: int, gpus: int = 0) -> dict[str, str]:
    """Runs a job for each entry, and waits for all.

    Args:
        logs: folder for the jobs' output.
        at_once: jobs at a time.
        gpus: that each job needs.

    Returns:
        for each entry that failed, the line of its output that says why.
    """
    executor = submitit.AutoExecutor(logs)
    executor.update_parameters(
        name="attnscope",
        timeout_min=12 * 60,
        cpus_per_task=2,
        mem_gb=16,
        gpus_per_node=gpus,
        slurm_array_parallelism=at_once,
    )
    # Slurm holds back what is too much by itself; on this machine all would start at once
    size = len(names) if executor.cluster == "slurm" else at_once
    failed = {}
    for begin in range(0, len(names), size or 1):
        part = names[begin : begin + size]
        for name, running in zip(part, executor.map_array(job, part)):
            error = running.exception()  # waits
            if error is not None:
                failed[name] = reason_in((running.stderr() or str(error)).strip().splitlines())
            print(f"{name}: {'FAILED: ' + failed[name] if error else 'finished'}", flush=True)
    return failed
